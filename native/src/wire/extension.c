/* IPv6 extension headers, each checked to lie within the packet and within the bytes at hand before it is read. */
#include "wire/extension.h"

#include "base/assert.h"
#include "base/bytes.h"

enum extension {
    EXTENSION_HOP_BY_HOP = 0,
    EXTENSION_ROUTING = 43,
    EXTENSION_FRAGMENT = 44,
    EXTENSION_NONE = 59,
    EXTENSION_DESTINATION = 60,
};
enum { PAD1 = 0, FRAGMENT_BYTES = 8, FORBIDS = 0xc0 }; /* the bits of an option's type: unknown ones may be skipped if 0 */

UN_STATIC_ASSERT(UN_ETH_BYTES + UN_VLAN_BYTES + UN_IPV6_BYTES + UN_EXTENSIONS_MAX * 2048 <= UINT16_MAX,
                 "packet->transport holds every offset");

/* Options of a hop-by-hop or destination options header: all are skipped, unless they say that who does not know them
 * must not (section 4.2). Jumbograms are of those. */
static enum un_drop check_options(const uint8_t *at, uint32_t length)
{
    for (uint32_t i = 0; i < length;) {
        if (at[i] == PAD1) {
            i++;
            continue;
        }
        if (length - i < 2 || at[i + 1] > length - i - 2)
            return UN_DROP_ip_malformed;
        if (at[i] & FORBIDS)
            return UN_DROP_ip_options;
        i += 2u + at[i + 1];
    }
    return UN_DROP_NONE;
}

/* Step over a header of `length` bytes. */
static void step(struct un_packet *packet, const uint8_t *at, uint32_t length)
{
    packet->protocol = at[0];
    packet->transport = (uint16_t)(packet->transport + length);
    packet->transport_length -= length;
}

/* Whether `length` bytes of a header are there to be read. */
static enum un_drop check_length(const struct un_packet *packet, uint32_t there, uint32_t length)
{
    if (length > packet->transport_length)
        return UN_DROP_ip_malformed;
    return packet->transport + length > there ? UN_DROP_short_frame : UN_DROP_NONE;
}

static enum un_drop walk_fragment(struct un_packet *packet, const uint8_t *at)
{
    uint16_t word = un_get16(at + 2);
    packet->has_fragment_header = true;
    packet->more_fragments = word & 1;
    packet->fragment_offset = word & 0xfff8;
    packet->fragment_id = un_get32(at + 4);
    packet->is_fragment = packet->more_fragments || packet->fragment_offset > 0;
    step(packet, at, FRAGMENT_BYTES);
    return packet->is_fragment ? un_fragment_check(packet, UINT16_MAX) : UN_DROP_NONE;
}

static enum un_drop walk_one(struct un_packet *packet, const uint8_t *frame, uint32_t there)
{
    const uint8_t *at = frame + packet->transport;
    enum un_drop drop = check_length(packet, there, 8);
    if (drop)
        return drop;
    if (packet->protocol == EXTENSION_FRAGMENT)
        return walk_fragment(packet, at);
    uint32_t length = 8 + at[1] * 8u;
    drop = check_length(packet, there, length);
    if (drop)
        return drop;
    if (packet->protocol == EXTENSION_ROUTING)
        drop = at[3] > 0 ? UN_DROP_ip_options : UN_DROP_NONE;
    else
        drop = check_options(at + 2, length - 2);
    if (!drop)
        step(packet, at, length);
    return drop;
}

static bool is_extension(uint8_t protocol)
{
    return protocol == EXTENSION_HOP_BY_HOP || protocol == EXTENSION_ROUTING || protocol == EXTENSION_FRAGMENT ||
           protocol == EXTENSION_DESTINATION;
}

enum un_drop un_extensions_walk(struct un_packet *packet, const uint8_t *frame, uint32_t there)
{
    for (uint32_t i = 0; is_extension(packet->protocol); i++) {
        bool is_misplaced = i > 0 && packet->protocol == EXTENSION_HOP_BY_HOP; /* first or nowhere (section 4.1) */
        bool is_nested = packet->has_fragment_header && packet->protocol == EXTENSION_FRAGMENT; /* fragment of a fragment */
        if (is_misplaced || is_nested || i == UN_EXTENSIONS_MAX)
            return UN_DROP_ip_options;
        enum un_drop drop = walk_one(packet, frame, there);
        if (drop || packet->is_fragment)
            return drop;
    }
    return packet->protocol == EXTENSION_NONE ? UN_DROP_ip_protocol : UN_DROP_NONE;
}
