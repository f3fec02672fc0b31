/* UDP (RFC 768). A datagram may be shorter than its packet, never longer. */
#ifndef UN_UDP_H
#define UN_UDP_H

#include <stdint.h>

#include "base/drop.h"
#include "wire/checksum.h"

#define UN_UDP_BYTES 8u

struct un_udp {
    uint16_t source_port;
    uint16_t destination_port;
    uint32_t length; /* of the payload */
};

/* From a datagram of at most `total` bytes, of which the first `length` (<= total) are contiguous at `at`. */
enum un_drop un_udp_parse(struct un_udp *udp, const uint8_t *at, uint32_t length, uint32_t total);
uint32_t un_udp_emit(const struct un_udp *udp, uint8_t *at); /* checksum zero; returns 8 */

/* Zero says that there is no checksum: one that comes out as zero is sent as the other zero. */
static inline uint16_t un_udp_checksum(uint64_t sum)
{
    uint16_t checksum = un_checksum(sum);
    return checksum ? checksum : 0xffff;
}

#endif
