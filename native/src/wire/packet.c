/* Frames in: Ethernet, IPv4, and IPv6 up to its extension headers (extension.c). */
#include "wire/packet.h"

#include <stddef.h>

#include "base/bytes.h"
#include "wire/checksum.h"
#include "wire/extension.h"

enum { OPTION_END = 0, OPTION_NOP = 1, OPTION_LOOSE_ROUTE = 131, OPTION_STRICT_ROUTE = 137 };

#define IP_LENGTH_MAX 65535u
#define FRAGMENT_MORE 0x2000u
#define FRAGMENT_OFFSET 0x1fffu

/* The bytes of a packet while it is parsed: `there` of them at `at`, `total` in all. */
struct view {
    const uint8_t *at;
    uint32_t there;
    uint32_t total;
};

static uint32_t length_of(const struct iovec *pieces, int count)
{
    uint64_t length = 0;
    for (int i = 0; i < count; i++)
        length += pieces[i].iov_len;
    return length < UINT32_MAX ? (uint32_t)length : UINT32_MAX;
}

static enum un_drop parse_ethernet(struct un_packet *packet, const struct view *view)
{
    if (view->there < UN_ETH_BYTES)
        return UN_DROP_short_frame;
    memcpy(packet->destination_mac, view->at, UN_MAC_BYTES);
    memcpy(packet->source_mac, view->at + UN_MAC_BYTES, UN_MAC_BYTES);
    packet->ether_type = un_get16(view->at + 12);
    packet->network = UN_ETH_BYTES;
    if (packet->ether_type != UN_ETHER_VLAN)
        return UN_DROP_NONE;
    if (view->there < UN_ETH_BYTES + UN_VLAN_BYTES)
        return UN_DROP_short_frame;
    packet->ether_type = un_get16(view->at + 16);
    packet->network = UN_ETH_BYTES + UN_VLAN_BYTES;
    return UN_DROP_NONE;
}

/* Options of an IPv4 header: a source route forbids taking the packet (RFC 7126 sections 4.3, 4.4). */
static enum un_drop check_ipv4_options(const uint8_t *at, uint32_t length)
{
    for (uint32_t i = 0; i < length && at[i] != OPTION_END;) {
        if (at[i] == OPTION_NOP) {
            i++;
            continue;
        }
        if (length - i < 2 || at[i + 1] < 2 || at[i + 1] > length - i)
            return UN_DROP_ip_malformed;
        if (at[i] == OPTION_LOOSE_ROUTE || at[i] == OPTION_STRICT_ROUTE)
            return UN_DROP_ip_options;
        i += at[i + 1];
    }
    return UN_DROP_NONE;
}

static bool plain_ipv4_checksum_good(const uint8_t *at)
{
    uint64_t words[2];
    uint32_t destination;
    memcpy(words, at, sizeof words);
    memcpy(&destination, at + 16, sizeof destination);
    return un_sum_is_good(un_sum_word(words[0]) + un_sum_word(words[1]) + destination);
}

/* All that a header without options spares: the length of the header, or why not. */
static enum un_drop check_ipv4_header(const uint8_t *at, uint32_t there, uint32_t *header)
{
    if (at[0] >> 4 != 4 || (at[0] & 15) < 5)
        return UN_DROP_ip_malformed;
    *header = (at[0] & 15) * 4u;
    if (*header > there)
        return UN_DROP_short_frame;
    if (!un_sum_is_good(un_sum(at, *header)))
        return UN_DROP_ip_checksum;
    return check_ipv4_options(at + UN_IPV4_BYTES, *header - UN_IPV4_BYTES);
}

static enum un_drop parse_ipv4_fragment(struct un_packet *packet, const uint8_t *at)
{
    uint16_t word = un_get16(at + 6);
    packet->is_fragment = true;
    packet->more_fragments = word & FRAGMENT_MORE;
    packet->fragment_offset = (uint16_t)((word & FRAGMENT_OFFSET) * 8);
    packet->fragment_id = un_get16(at + 4);
    uint32_t header = (uint32_t)packet->transport - packet->network;
    return un_fragment_check(packet, IP_LENGTH_MAX - header);
}

static enum un_drop parse_ipv4(struct un_packet *packet, const struct view *view)
{
    const uint8_t *at = view->at + packet->network;
    uint32_t there = view->there - packet->network;
    if (there < UN_IPV4_BYTES)
        return UN_DROP_short_frame;
    uint32_t header = UN_IPV4_BYTES;
    if (__builtin_expect(at[0] != 0x45, 0)) {
        enum un_drop drop = check_ipv4_header(at, there, &header);
        if (drop)
            return drop;
    } else if (!plain_ipv4_checksum_good(at)) {
        return UN_DROP_ip_checksum;
    }
    uint32_t total = un_get16(at + 2);
    if (total < header || total > view->total - packet->network)
        return UN_DROP_ip_malformed;
    packet->ecn = at[1] & 3;
    packet->hop_limit = at[8];
    packet->protocol = at[9];
    packet->source = un_ip_from_v4(at + 12);
    packet->destination = un_ip_from_v4(at + 16);
    packet->transport = (uint16_t)(packet->network + header);
    packet->transport_length = total - header;
    if (packet->protocol == UN_PROTOCOL_ICMPV6)
        return UN_DROP_ip_protocol;
    if (un_get16(at + 6) & (FRAGMENT_MORE | FRAGMENT_OFFSET))
        return parse_ipv4_fragment(packet, at);
    return UN_DROP_NONE;
}

static enum un_drop parse_ipv6(struct un_packet *packet, const struct view *view)
{
    const uint8_t *at = view->at + packet->network;
    if (view->there - packet->network < UN_IPV6_BYTES)
        return UN_DROP_short_frame;
    uint32_t payload = un_get16(at + 4);
    if (at[0] >> 4 != 6 || payload > view->total - packet->network - UN_IPV6_BYTES)
        return UN_DROP_ip_malformed;
    packet->ecn = at[1] >> 4 & 3;
    packet->protocol = at[6];
    packet->hop_limit = at[7];
    packet->source = un_ip_from_v6(at + 8);
    packet->destination = un_ip_from_v6(at + 24);
    packet->transport = (uint16_t)(packet->network + UN_IPV6_BYTES);
    packet->transport_length = payload;
    if (un_ip_is_v4(&packet->source))
        return UN_DROP_ip_source;
    if (un_ip_is_v4(&packet->destination))
        return UN_DROP_ip_destination;
    if (packet->protocol == UN_PROTOCOL_TCP)
        return UN_DROP_NONE;
    enum un_drop drop = un_extensions_walk(packet, view->at, view->there);
    return !drop && packet->protocol == UN_PROTOCOL_ICMP ? UN_DROP_ip_protocol : drop;
}

enum un_drop un_packet_parse(struct un_packet *packet, const struct iovec *pieces, int count)
{
    struct view view = {.at = pieces[0].iov_base, .there = (uint32_t)pieces[0].iov_len};
    view.total = count == 1 ? view.there : length_of(pieces, count);
    enum un_drop drop = parse_ethernet(packet, &view);
    if (drop)
        return drop;
    packet->is_fragment = false;
    packet->more_fragments = false;
    packet->fragment_offset = 0;
    packet->fragment_id = 0;
    switch (packet->ether_type) {
    case UN_ETHER_IPV4:
        return parse_ipv4(packet, &view);
    case UN_ETHER_IPV6:
        return parse_ipv6(packet, &view);
    case UN_ETHER_ARP:
        packet->protocol = 0;
        packet->transport = packet->network;
        packet->transport_length = view.total - packet->network;
        return UN_DROP_NONE;
    default:
        return UN_DROP_ether_type;
    }
}
