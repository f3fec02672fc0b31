/* What may stand between an IPv6 header and the transport protocol (RFC 8200 section 4); part of packet.h. */
#ifndef UN_EXTENSION_H
#define UN_EXTENSION_H

#include "wire/packet.h"

/* The longest header is 2,048 bytes; with so many of them an offset still fits in 16 bits. No honest sender has more:
 * hop-by-hop, destination options, routing, fragment, destination options. */
#define UN_EXTENSIONS_MAX 8u

/* Move packet->transport, transport_length and protocol behind the extension headers. `there` bytes of the frame are
 * contiguous at `frame`. */
enum un_drop un_extensions_walk(struct un_packet *packet, const uint8_t *frame, uint32_t there);

/* A fragment whose place is parsed: it ends on a multiple of eight bytes unless it is the last one (RFC 791
 * section 2.3, RFC 8200 section 4.5), and within `most` bytes. */
static inline enum un_drop un_fragment_check(const struct un_packet *packet, uint32_t most)
{
    bool is_whole = packet->transport_length % 8 == 0 && packet->transport_length > 0;
    if (packet->more_fragments && !is_whole)
        return UN_DROP_fragment_malformed;
    return packet->fragment_offset + packet->transport_length <= most ? UN_DROP_NONE : UN_DROP_fragment_malformed;
}

#endif
