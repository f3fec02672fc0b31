/* UDP (RFC 768). */
#ifndef UN_UDP_H
#define UN_UDP_H

#include <stdint.h>

#include "base/drop.h"

#define UN_UDP_BYTES 8u

struct un_udp {
    uint16_t source_port;
    uint16_t destination_port;
    uint32_t length; /* of the payload */
};

enum un_drop un_udp_parse(struct un_udp *udp, const uint8_t *at, uint32_t length, uint32_t total);
uint32_t un_udp_emit(const struct un_udp *udp, uint8_t *at); /* checksum zero; returns 8 */

#endif
