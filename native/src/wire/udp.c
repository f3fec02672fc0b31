/* See udp.h. */
#include "wire/udp.h"

#include "base/assert.h"
#include "base/bytes.h"

enum un_drop un_udp_parse(struct un_udp *udp, const uint8_t *at, uint32_t length, uint32_t total)
{
    un_assert(length <= total);
    if (length < UN_UDP_BYTES)
        return UN_DROP_udp_malformed;
    uint32_t said = un_get16(at + 4);
    if (said < UN_UDP_BYTES || said > total)
        return UN_DROP_udp_malformed;
    udp->source_port = un_get16(at);
    udp->destination_port = un_get16(at + 2);
    udp->length = said - UN_UDP_BYTES;
    return UN_DROP_NONE;
}

uint32_t un_udp_emit(const struct un_udp *udp, uint8_t *at)
{
    un_assert(udp->length <= UINT16_MAX - UN_UDP_BYTES);
    un_put16(at, udp->source_port);
    un_put16(at + 2, udp->destination_port);
    un_put16(at + 4, (uint16_t)(UN_UDP_BYTES + udp->length));
    un_put16(at + 6, 0); /* checksum */
    return UN_UDP_BYTES;
}
