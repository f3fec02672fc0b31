/* Frames in: Ethernet, IPv4, and IPv6 up to its extension headers (extension.c). */
#include "wire/packet.h"

#include "base/bytes.h"
#include "wire/checksum.h"
#include "wire/extension.h"

enum { OPTION_END = 0, OPTION_NOP = 1, OPTION_LOOSE_ROUTE = 131, OPTION_STRICT_ROUTE = 137 };

/* Out of the way of what every packet goes through. */
#define SELDOM __attribute__((noinline, cold))

#define IP_LENGTH_MAX 65535u
#define NEXT_HEADER 6u /* where it stands in an IPv6 header */
#define FRAGMENT_MORE 0x2000u
#define FRAGMENT_OFFSET 0x1fffu

/* A packet while it is parsed, from its IP or ARP header at offset `network`: `there` bytes from `at` on are
 * contiguous, `total` are there in all. */
struct view {
    const uint8_t *at;
    uint32_t there;
    uint32_t total;
    uint32_t network;
};

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

static inline bool plain_ipv4_checksum_good(const uint8_t *at)
{
    uint64_t words[2];
    uint32_t destination;
    memcpy(words, at, sizeof words);
    memcpy(&destination, at + 16, sizeof destination);
    return un_sum_is_good(un_sum_carry(un_sum_carry(words[0], words[1]), destination));
}

/* Fragments of more than a datagram can have would be put together to one with a length that no header can say. */
SELDOM static enum un_drop parse_ipv4_fragment(struct un_packet *packet, const uint8_t *at)
{
    uint16_t word = un_get16(at + 6);
    packet->is_fragment = true;
    packet->more_fragments = word & FRAGMENT_MORE;
    packet->fragment_offset = (uint16_t)((word & FRAGMENT_OFFSET) * 8);
    packet->fragment_id = un_get16(at + 4);
    return un_fragment_check(packet, IP_LENGTH_MAX - (at[0] & 15) * 4u);
}

/* A header of `header` bytes that is known to be good. */
static inline enum un_drop take_ipv4(struct un_packet *packet, struct view view, uint32_t header)
{
    const uint8_t *at = view.at;
    uint32_t length = un_get16(at + 2);
    if (length < header || length > view.total)
        return UN_DROP_ip_malformed;
    packet->ecn = at[1] & 3;
    packet->hop_limit = at[8];
    packet->protocol = at[9];
    packet->source = un_ip_from_v4(at + 12);
    packet->destination = un_ip_from_v4(at + 16);
    packet->transport = (uint16_t)(view.network + header);
    packet->transport_length = length - header;
    if (packet->protocol == UN_PROTOCOL_ICMPV6)
        return UN_DROP_ip_protocol;
    if (un_get16(at + 6) & (FRAGMENT_MORE | FRAGMENT_OFFSET))
        return parse_ipv4_fragment(packet, at);
    return UN_DROP_NONE;
}

SELDOM static enum un_drop parse_ipv4_with_options(struct un_packet *packet, struct view view)
{
    const uint8_t *at = view.at;
    uint32_t header = (at[0] & 15) * 4u;
    if (at[0] >> 4 != 4 || header < UN_IPV4_BYTES)
        return UN_DROP_ip_malformed;
    if (header > view.there)
        return UN_DROP_short_frame;
    if (!un_sum_is_good(un_sum(at, header)))
        return UN_DROP_ip_checksum;
    enum un_drop drop = check_ipv4_options(at + UN_IPV4_BYTES, header - UN_IPV4_BYTES);
    return drop ? drop : take_ipv4(packet, view, header);
}

static inline enum un_drop parse_ipv4(struct un_packet *packet, struct view view)
{
    if (view.there < UN_IPV4_BYTES)
        return UN_DROP_short_frame;
    if (__builtin_expect(view.at[0] != 0x45, 0))
        return parse_ipv4_with_options(packet, view);
    return plain_ipv4_checksum_good(view.at) ? take_ipv4(packet, view, UN_IPV4_BYTES) : UN_DROP_ip_checksum;
}

static enum un_drop parse_ipv6(struct un_packet *packet, struct view view)
{
    const uint8_t *at = view.at;
    if (view.there < UN_IPV6_BYTES)
        return UN_DROP_short_frame;
    uint32_t payload = un_get16(at + 4);
    if (at[0] >> 4 != 6 || payload > view.total - UN_IPV6_BYTES)
        return UN_DROP_ip_malformed;
    packet->ecn = at[1] >> 4 & 3;
    packet->protocol = at[NEXT_HEADER];
    packet->pointer = NEXT_HEADER;
    packet->hop_limit = at[7];
    packet->source = un_ip_from_v6(at + 8);
    packet->destination = un_ip_from_v6(at + 24);
    packet->transport = (uint16_t)(view.network + UN_IPV6_BYTES);
    packet->transport_length = payload;
    if (un_ip_is_v4(&packet->source))
        return UN_DROP_ip_source;
    if (un_ip_is_v4(&packet->destination))
        return UN_DROP_ip_destination;
    if (packet->protocol == UN_PROTOCOL_TCP)
        return UN_DROP_NONE;
    enum un_drop drop = un_extensions_walk(packet, at - view.network, view.network + view.there);
    return !drop && packet->protocol == UN_PROTOCOL_ICMP ? UN_DROP_ip_protocol : drop;
}

static enum un_drop parse_arp(struct un_packet *packet, struct view view)
{
    packet->protocol = 0;
    packet->transport = (uint16_t)view.network;
    packet->transport_length = view.total;
    return UN_DROP_NONE;
}

static inline enum un_drop parse_network(struct un_packet *packet, struct view frame, uint32_t network)
{
    struct view view = {frame.at + network, frame.there - network, frame.total - network, network};
    packet->network = (uint16_t)network;
    packet->ether_type = un_get16(view.at - 2);
    if (__builtin_expect(packet->ether_type == UN_ETHER_IPV4, 1))
        return parse_ipv4(packet, view);
    if (packet->ether_type == UN_ETHER_IPV6)
        return parse_ipv6(packet, view);
    return packet->ether_type == UN_ETHER_ARP ? parse_arp(packet, view) : UN_DROP_ether_type;
}

SELDOM static enum un_drop parse_tagged(struct un_packet *packet, struct view frame)
{
    uint32_t network = UN_ETH_BYTES + UN_VLAN_BYTES;
    return frame.there < network ? UN_DROP_short_frame : parse_network(packet, frame, network);
}

static inline enum un_drop parse_ethernet(struct un_packet *packet, struct view frame)
{
    if (frame.there < UN_ETH_BYTES)
        return UN_DROP_short_frame;
    memcpy(packet->destination_mac, frame.at, UN_MAC_BYTES);
    memcpy(packet->source_mac, frame.at + UN_MAC_BYTES, UN_MAC_BYTES);
    packet->problem = UN_PROBLEM_NONE;
    packet->pointer = 0;
    packet->is_fragment = false;
    packet->has_fragment_header = false;
    packet->more_fragments = false;
    packet->fragment_offset = 0;
    packet->fragment_id = 0;
    if (__builtin_expect(un_get16(frame.at + 12) == UN_ETHER_VLAN, 0))
        return parse_tagged(packet, frame);
    return parse_network(packet, frame, UN_ETH_BYTES);
}

SELDOM static enum un_drop parse_pieces(struct un_packet *packet, struct view frame, const struct iovec *pieces,
                                        int count)
{
    for (int i = 1; i < count; i++)
        frame.total += (uint32_t)pieces[i].iov_len;
    return parse_ethernet(packet, frame);
}

enum un_drop un_packet_parse(struct un_packet *packet, const struct iovec *pieces, int count)
{
    uint32_t there = (uint32_t)pieces[0].iov_len;
    struct view frame = {.at = pieces[0].iov_base, .there = there, .total = there};
    return count == 1 ? parse_ethernet(packet, frame) : parse_pieces(packet, frame, pieces, count);
}
