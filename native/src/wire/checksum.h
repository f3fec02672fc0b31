/* The Internet checksum (RFC 1071), incremental updates (RFC 1624).
 *
 * A `sum` is an unfolded one's-complement sum of 16-bit words as they lie in memory; sums of pieces add up, a piece that
 * starts at an odd offset of the whole goes through un_sum_odd. */
#ifndef UN_CHECKSUM_H
#define UN_CHECKSUM_H

#include <stdint.h>
#include <sys/uio.h>

#include "wire/ip.h"

uint64_t un_sum(const void *bytes, uint32_t length); /* vectorised where it pays */
uint64_t un_sum_pieces(const struct iovec *pieces, int count, uint32_t skip, uint32_t length);
uint64_t un_sum_pseudo(const struct un_ip *source, const struct un_ip *destination, uint8_t protocol, uint32_t length);

static inline uint16_t un_sum_fold(uint64_t sum)
{
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

static inline uint64_t un_sum_odd(uint64_t sum)
{
    return __builtin_bswap16(un_sum_fold(sum));
}

/* The value for a checksum field, as it is to lie in memory. */
static inline uint16_t un_checksum(uint64_t sum)
{
    return (uint16_t)~un_sum_fold(sum);
}

#endif
