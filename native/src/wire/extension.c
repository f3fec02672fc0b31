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
enum { PAD1 = 0, FRAGMENT_BYTES = 8, ROUTING_TYPE = 2, FRAGMENT_OFFSET = 2, PAYLOAD_LENGTH = 4 };
/* bits of an option's type: unknown ones may be skipped if 0 */
enum { FORBIDS = 0xc0, SILENTLY = 0x40, ALWAYS_TOLD = 0x80 };
enum { ERROR_TYPES = 0x80 }; /* ICMPv6: below this they are errors */

UN_STATIC_ASSERT(UN_ETH_BYTES + UN_VLAN_BYTES + UN_IPV6_BYTES + UN_EXTENSIONS_MAX * 2048 <= UINT16_MAX,
                 "packet->transport holds every offset");

/* The first thing that is wrong counts. `at`: offset from the first byte of the frame. */
static void blame(struct un_packet *packet, enum un_problem problem, uint32_t at)
{
    if (packet->problem != UN_PROBLEM_NONE)
        return;
    packet->problem = (uint8_t)problem;
    packet->pointer = (uint16_t)(at - packet->network);
}

/* The two high bits of an option's type say what a node that does not know it has to do (section 4.2). */
static enum un_drop refuse_option(struct un_packet *packet, uint8_t type, uint32_t at)
{
    if ((type & FORBIDS) != SILENTLY)
        blame(packet, (type & FORBIDS) == ALWAYS_TOLD ? UN_PROBLEM_OPTION_ALWAYS : UN_PROBLEM_OPTION, at);
    return UN_DROP_ip_options;
}

/* Options of a hop-by-hop or destination options header, which begin at offset `from` of the frame. All are skipped,
 * except those that a node may not skip when it does not know them. Jumbograms are of those. */
static enum un_drop check_options(struct un_packet *packet, const uint8_t *at, uint32_t length, uint32_t from)
{
    for (uint32_t i = 0; i < length;) {
        if (at[i] == PAD1) {
            i++;
            continue;
        }
        if (length - i < 2 || at[i + 1] > length - i - 2)
            return UN_DROP_ip_malformed;
        if (at[i] & FORBIDS)
            return refuse_option(packet, at[i], from + i);
        i += 2u + at[i + 1];
    }
    return UN_DROP_NONE;
}

/* Step over a header of `length` bytes. */
static void step(struct un_packet *packet, const uint8_t *at, uint32_t length)
{
    packet->protocol = at[0];
    if (packet->problem == UN_PROBLEM_NONE)
        packet->pointer = (uint16_t)(packet->transport - packet->network);
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
    uint32_t header = packet->transport;
    step(packet, at, FRAGMENT_BYTES);
    if (packet->more_fragments && packet->transport_length % 8 != 0)
        blame(packet, UN_PROBLEM_FIELD, packet->network + PAYLOAD_LENGTH);
    else if (packet->fragment_offset + packet->transport_length > UINT16_MAX)
        blame(packet, UN_PROBLEM_FIELD, header + FRAGMENT_OFFSET);
    return packet->is_fragment ? un_fragment_check(packet, UINT16_MAX) : UN_DROP_NONE;
}

/* What follows of a route that is not for us to continue (section 4.4, RFC 5095). */
static enum un_drop check_route(struct un_packet *packet, const uint8_t *at)
{
    if (at[3] == 0)
        return UN_DROP_NONE;
    blame(packet, UN_PROBLEM_FIELD, packet->transport + ROUTING_TYPE);
    return UN_DROP_ip_options;
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
        drop = check_route(packet, at);
    else
        drop = check_options(packet, at + 2, length - 2, packet->transport + 2u);
    if (!drop || packet->problem)
        step(packet, at, length);
    return drop;
}

static bool is_extension(uint8_t protocol)
{
    return protocol == EXTENSION_HOP_BY_HOP || protocol == EXTENSION_ROUTING || protocol == EXTENSION_FRAGMENT ||
           protocol == EXTENSION_DESTINATION;
}

/* Errors are not answered with errors (RFC 4443 section 2.4 e); of a later fragment nobody can say what it is of. */
static bool is_error(const struct un_packet *packet, const uint8_t *frame, uint32_t there)
{
    return packet->protocol == UN_PROTOCOL_ICMPV6 && packet->fragment_offset == 0 &&
           (packet->transport >= there || frame[packet->transport] < ERROR_TYPES);
}

/* Go on behind a header that the sender will get an error for, to see what is in the packet. */
static enum un_drop walk(struct un_packet *packet, const uint8_t *frame, uint32_t there)
{
    enum un_drop first = UN_DROP_NONE;
    for (uint32_t i = 0; is_extension(packet->protocol); i++) {
        /* fragment of a fragment */
        bool is_nested = packet->has_fragment_header && packet->protocol == EXTENSION_FRAGMENT;
        if (is_nested || i == UN_EXTENSIONS_MAX) {
            packet->problem = UN_PROBLEM_NONE; /* what is in it stays unknown */
            return UN_DROP_ip_options;
        }
        if (i > 0 && packet->protocol == EXTENSION_HOP_BY_HOP) { /* first or nowhere (section 4.1) */
            blame(packet, UN_PROBLEM_HEADER, packet->network + packet->pointer);
            first = first ? first : UN_DROP_ip_options;
        }
        uint16_t before = packet->transport;
        enum un_drop drop = walk_one(packet, frame, there);
        first = first ? first : drop;
        if (packet->transport == before || packet->is_fragment)
            break;
    }
    return !first && packet->protocol == EXTENSION_NONE && !packet->is_fragment ? UN_DROP_ip_protocol : first;
}

enum un_drop un_extensions_walk(struct un_packet *packet, const uint8_t *frame, uint32_t there)
{
    enum un_drop drop = walk(packet, frame, there);
    if (packet->problem && is_error(packet, frame, there))
        packet->problem = UN_PROBLEM_NONE;
    return drop;
}
