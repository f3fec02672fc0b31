/* The Internet checksum (RFC 1071).
 *
 * A `sum` is an unfolded one's-complement sum of 16-bit words as they lie in memory, which is why no byte is ever
 * swapped (RFC 1071 section 2 (B)). Sums of pieces add up: those that the functions here return are below 2^36, so that
 * millions of them can be added before 64 bits overflow. A piece that starts at an odd offset of the whole goes through
 * un_sum_odd. */
#ifndef UN_CHECKSUM_H
#define UN_CHECKSUM_H

#include <stdint.h>
#include <sys/uio.h>

#include "wire/ip.h"

/* `sum` and that of the bytes, in one. Vectorised where it pays. */
uint64_t un_sum_more(uint64_t sum, const void *bytes, uint32_t length);

static inline uint64_t un_sum(const void *bytes, uint32_t length)
{
    return un_sum_more(0, bytes, length);
}

/* Of `length` bytes of the pieces in a row, of which the first `skip` do not count. */
uint64_t un_sum_pieces(const struct iovec *pieces, int count, uint32_t skip, uint32_t length);

/* One's-complement addition of 64 bits: what is carried out comes in again. */
static inline uint64_t un_sum_carry(uint64_t sum, uint64_t word)
{
    sum += word;
    return sum + (sum < word);
}

/* Eight bytes as they lie in memory. */
static inline uint64_t un_sum_word(uint64_t word)
{
    return (word & 0xffffffff) + (word >> 32);
}

/* The pseudo-header of both families (RFC 9293 section 3.1, RFC 8200 section 8.1). The prefix of a mapped IPv4 address
 * is 0xffff, which is zero in one's complement, so the families need no case; the sum is never 0 as protocol is not. */
static inline uint64_t un_sum_pseudo(const struct un_ip *source, const struct un_ip *destination, uint8_t protocol,
                                     uint32_t length)
{
    struct un_ip_words from = un_ip_words(source), to = un_ip_words(destination);
    uint64_t addresses = un_sum_carry(from.first, from.second);
    addresses = un_sum_carry(un_sum_carry(addresses, to.first), to.second);
    return un_sum_word(addresses) + __builtin_bswap32(length) + ((uint64_t)protocol << 8);
}

/* The same, of addresses as they lie in memory. */
static inline uint64_t un_sum_pseudo_v4(uint32_t source, uint32_t destination, uint8_t protocol, uint32_t length)
{
    return (uint64_t)source + destination + __builtin_bswap32(length) + ((uint64_t)protocol << 8);
}

/* Adding a number to itself with its halves swapped leaves their sum, carry included, in the upper half. */
static inline uint16_t un_sum_fold(uint64_t sum)
{
    sum += sum << 32 | sum >> 32;
    uint32_t half = (uint32_t)(sum >> 32);
    half += half << 16 | half >> 16;
    return (uint16_t)(half >> 16);
}

/* Whether bytes that contain their checksum sum up to what they must, which folds to 0xffff: a multiple of that, but
 * not 0. With all = (2^64 - 1) / 0xffff, the product of k * 0xffff and `all` is -k modulo 2^64, and no other number
 * times `all` comes to one of -1 ... -all. */
static inline bool un_sum_is_good(uint64_t sum)
{
    const uint64_t all = UINT64_C(0x0001000100010001);
    return sum * all >= -all;
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
