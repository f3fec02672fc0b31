/* Frames made by a script and what must hold for each: no parser reads anything but the bytes it was given (the first
 * piece ends where readable memory ends, the second is a block of its own), what it reports lies within the packet, the
 * checksum is judged as a naive sum judges it, and what was understood is understood the same after it was emitted.
 *
 * A script is a byte that names the frame to begin with (0: its own bytes), two bytes that say where the first piece
 * ends, one that says what is cut off at the end, and then three bytes for each change: an offset and a value. */
#include "wire.h"

#include <stdlib.h>

#include "../tests/wire/frame.h"
#include "base/bytes.h"
#include "wire/arp.h"
#include "wire/icmp.h"
#include "wire/seg.h"
#include "wire/udp.h"

enum { HEAD_BYTES = 4, CHANGE_BYTES = 3, FIX_IPV4 = 0x80, FRAMES = 12 };

static uint32_t smaller(uint32_t left, uint32_t right)
{
    return left < right ? left : right;
}

static void make_arp(struct frame *frame)
{
    struct un_arp arp = {.operation = UN_ARP_REQUEST, .sender_mac = {2}};
    memcpy(arp.sender.bytes, un_ip_v4_prefix, sizeof un_ip_v4_prefix);
    arp.target = arp.sender;
    un_eth_emit(frame->bytes, arp.sender_mac, arp.sender_mac, UN_ETHER_ARP);
    frame->length = UN_ETH_BYTES + un_arp_emit(&arp, frame->bytes + UN_ETH_BYTES);
}

/* A message with room for a quote or for options behind it. */
static void make_icmp(struct frame *frame, bool is_v6, enum un_icmp_kind kind)
{
    uint64_t random = 1;
    uint8_t message[100] = {0};
    struct un_icmp icmp = {.kind = kind, .has_mac = true, .mtu = 1400, .target = random_ip(&random, false)};
    uint8_t protocol = is_v6 ? UN_PROTOCOL_ICMPV6 : UN_PROTOCOL_ICMP;
    uint32_t length = un_icmp_emit(&icmp, is_v6, message);
    if (kind == UN_ICMP_PACKET_TOO_BIG) {
        struct un_ip_header quoted = random_header(&random, !is_v6, UN_PROTOCOL_TCP, 100);
        length += un_ip_emit(message + length, &quoted) + 8;
    }
    struct un_ip_header header = random_header(&random, !is_v6, protocol, length);
    header.hop_limit = 255;
    frame_of(frame, &header, message);
}

static void make_syn(struct frame *frame)
{
    uint64_t random = 1;
    uint8_t bytes[UN_TCP_HEADER_MAX];
    struct un_seg seg = {.flags = UN_TCP_SYN, .options = 15, .mss = 1460};
    struct un_ip_header header = random_header(&random, true, UN_PROTOCOL_TCP, un_seg_emit(&seg, bytes));
    frame_of(frame, &header, bytes);
}

static void make_sacks(struct frame *frame)
{
    uint64_t random = 1;
    uint8_t bytes[UN_TCP_HEADER_MAX];
    struct un_seg seg = {.flags = UN_TCP_ACK, .options = UN_SEG_TIMESTAMP, .sack_count = 3};
    struct un_ip_header header = random_header(&random, true, UN_PROTOCOL_TCP, un_seg_emit(&seg, bytes));
    frame_of(frame, &header, bytes);
}

static void make_extensions(struct frame *frame)
{
    frame_tcp(frame, false, 20);
    frame_extension(frame, 60, "0001 010c000000000000000000000000");
    frame_extension(frame, 44, "0000 0000 00000001");
    frame_extension(frame, 43, "0000 0000 00000000");
    frame_extension(frame, 0, "0000 050200000100");
}

static void make(struct frame *frame, uint32_t which)
{
    switch (which % FRAMES) {
    case 1:
        return frame_tcp(frame, true, 33);
    case 2:
        return frame_tcp(frame, false, 33);
    case 3:
        return frame_udp(frame, true, 20);
    case 4:
        return frame_udp(frame, false, 20);
    case 5:
        return make_arp(frame);
    case 6:
        return make_icmp(frame, false, UN_ICMP_PACKET_TOO_BIG);
    case 7:
        return make_icmp(frame, true, UN_ICMP_PACKET_TOO_BIG);
    case 8:
        return make_icmp(frame, true, UN_ICMP_NEIGHBOUR_ADVERTISEMENT);
    case 9:
        return make_icmp(frame, true, UN_ICMP_ROUTER_ADVERTISEMENT);
    case 10:
        return make_extensions(frame);
    case 11:
        return make_syn(frame);
    default:
        return make_sacks(frame);
    }
}

static void check_seg(const uint8_t *at, uint32_t there, uint32_t total)
{
    struct un_seg seg, again;
    if (un_seg_parse(&seg, at, there, total))
        return;
    CHECK(seg.header_length >= UN_TCP_HEADER_BYTES && seg.header_length <= there);
    CHECK_EQ(seg.header_length + seg.length, total);
    CHECK(seg.sack_count <= UN_SACK_BLOCKS_MAX);
    uint8_t bytes[UN_TCP_HEADER_MAX];
    uint32_t length = un_seg_emit(&seg, bytes);
    CHECK(length <= sizeof bytes && length == un_seg_header_length(&seg));
    CHECK_EQ(un_seg_parse(&again, bytes, length, length + seg.length), UN_DROP_NONE);
    CHECK(seg.seq == again.seq && seg.ack == again.ack && seg.wnd == again.wnd && seg.urgent == again.urgent);
    CHECK(seg.flags == again.flags && seg.options == again.options && seg.length == again.length);
    CHECK(seg.source_port == again.source_port && seg.destination_port == again.destination_port);
    CHECK(!(seg.options & UN_SEG_TIMESTAMP) || (seg.tsval == again.tsval && seg.tsecr == again.tsecr));
    CHECK(!(seg.options & UN_SEG_MSS) || (seg.mss > 0 && seg.mss == again.mss));
    CHECK(!(seg.options & UN_SEG_WSCALE) || seg.wscale == again.wscale);
    CHECK_EQ(seg.sack_count, again.sack_count);
    CHECK(memcmp(seg.sacks, again.sacks, seg.sack_count * sizeof *seg.sacks) == 0);
}

static void check_udp(const uint8_t *at, uint32_t there, uint32_t total)
{
    struct un_udp udp;
    if (!un_udp_parse(&udp, at, there, total))
        CHECK(udp.length + UN_UDP_BYTES <= total);
}

static void check_icmp(bool is_v6, uint8_t hop_limit, const uint8_t *at, uint32_t there, uint32_t total)
{
    struct un_icmp icmp, again;
    if (un_icmp_parse(&icmp, is_v6, hop_limit, at, there, total) || icmp.kind == UN_ICMP_OTHER ||
        icmp.kind == UN_ICMP_GROUP_QUERY)
        return;
    CHECK(icmp.payload + icmp.payload_length <= total);
    CHECK(!icmp.has_quote || un_ip_is_v4(&icmp.quote.source) == !is_v6);
    CHECK(!un_ip_is_v4(&icmp.target));
    uint8_t bytes[UN_ICMP_EMIT_MAX];
    uint32_t length = un_icmp_emit(&icmp, is_v6, bytes);
    CHECK(length <= sizeof bytes);
    CHECK_EQ(un_icmp_parse(&again, is_v6, hop_limit, bytes, length, length), UN_DROP_NONE);
    CHECK(icmp.kind == again.kind && icmp.type == again.type && icmp.code == again.code);
    CHECK(icmp.id == again.id && icmp.sequence == again.sequence && icmp.mtu == again.mtu);
    CHECK(icmp.pointer == again.pointer && icmp.router_lifetime_s == again.router_lifetime_s);
    CHECK(un_ip_equal(&icmp.target, &again.target));
    CHECK(icmp.has_mac == again.has_mac && memcmp(icmp.mac, again.mac, UN_MAC_BYTES) == 0);
    CHECK(icmp.is_router == again.is_router && icmp.is_solicited == again.is_solicited);
    CHECK_EQ(icmp.overrides, again.overrides);
}

static void check_arp(const uint8_t *at, uint32_t there)
{
    struct un_arp arp, again;
    if (un_arp_parse(&arp, at, there))
        return;
    uint8_t bytes[UN_ARP_BYTES];
    un_arp_emit(&arp, bytes);
    CHECK_EQ(un_arp_parse(&again, bytes, sizeof bytes), UN_DROP_NONE);
    CHECK(arp.operation == again.operation && un_ip_equal(&arp.sender, &again.sender));
    CHECK(memcmp(arp.sender_mac, again.sender_mac, UN_MAC_BYTES) == 0);
}

/* TCP only: it has no case of its own. */
static bool naive_good(const struct un_packet *packet, const uint8_t *bytes)
{
    return naive_transport_checksum(&packet->source, &packet->destination, packet->protocol, bytes + packet->transport,
                                    packet->transport_length) == 0;
}

static void check_checksum(const struct un_packet *packet, const struct iovec *pieces, const struct frame *frame)
{
    bool is_good = un_packet_checksum_good(packet, pieces, 2, UN_CHECKSUM_UNKNOWN);
    CHECK(un_packet_checksum_good(packet, pieces, 2, UN_CHECKSUM_GOOD));
    CHECK(!is_good || un_packet_checksum_good(packet, pieces, 2, UN_CHECKSUM_PARTIAL));
    bool has_header = pieces[0].iov_len - packet->transport >= UN_TCP_HEADER_BYTES;
    if (packet->protocol == UN_PROTOCOL_TCP && has_header && packet->transport_length >= UN_TCP_HEADER_BYTES)
        CHECK_EQ(is_good, naive_good(packet, frame->bytes));
}

/* Without what stood between the headers, it is the same packet. Takes the place of the first piece in memory. */
static void check_ip(const struct un_packet *packet, const struct frame *frame)
{
    struct un_ip_header header = {.source = packet->source,
                                  .destination = packet->destination,
                                  .protocol = packet->protocol,
                                  .hop_limit = packet->hop_limit,
                                  .ecn = packet->ecn,
                                  .payload_length = packet->transport_length};
    struct frame other;
    struct un_packet again;
    frame_of(&other, &header, frame->bytes + packet->transport);
    CHECK_EQ(frame_parse(&other, &again), UN_DROP_NONE);
    CHECK(again.protocol == packet->protocol && again.hop_limit == packet->hop_limit && again.ecn == packet->ecn);
    CHECK(un_ip_equal(&again.source, &packet->source) && un_ip_equal(&again.destination, &packet->destination));
    CHECK_EQ(again.transport_length, packet->transport_length);
}

static void check_fragment(const struct un_packet *packet)
{
    uint32_t header = packet->ether_type == UN_ETHER_IPV4 ? UN_IPV4_BYTES : 0;
    CHECK(packet->fragment_offset + packet->transport_length + header <= UINT16_MAX);
    CHECK_EQ(packet->fragment_offset % 8, 0);
    CHECK(!packet->more_fragments || packet->transport_length % 8 == 0);
}

static void check_transport(const struct un_packet *packet, const struct iovec *pieces)
{
    const uint8_t *at = (const uint8_t *)pieces[0].iov_base + packet->transport;
    uint32_t there = smaller((uint32_t)pieces[0].iov_len - packet->transport, packet->transport_length);
    bool is_v6 = packet->ether_type == UN_ETHER_IPV6;
    if (packet->protocol == UN_PROTOCOL_TCP)
        check_seg(at, there, packet->transport_length);
    else if (packet->protocol == UN_PROTOCOL_UDP)
        check_udp(at, there, packet->transport_length);
    else if (packet->protocol == UN_PROTOCOL_ICMP || packet->protocol == UN_PROTOCOL_ICMPV6)
        check_icmp(is_v6, packet->hop_limit, at, there, packet->transport_length);
}

static void check_frame(const struct frame *frame, const struct iovec *pieces)
{
    struct un_packet packet;
    enum un_drop drop = un_packet_parse(&packet, pieces, 2);
    CHECK(drop < UN_DROP_COUNT);
    if (drop)
        return;
    CHECK(packet.network == UN_ETH_BYTES || packet.network == UN_ETH_BYTES + UN_VLAN_BYTES);
    CHECK(packet.transport >= packet.network && packet.transport <= pieces[0].iov_len);
    CHECK(packet.transport + packet.transport_length <= frame->length);
    if (packet.ether_type == UN_ETHER_ARP) {
        check_arp((const uint8_t *)pieces[0].iov_base + packet.transport,
                  (uint32_t)pieces[0].iov_len - packet.transport);
        return;
    }
    bool is_v4 = packet.ether_type == UN_ETHER_IPV4;
    CHECK(un_ip_is_v4(&packet.source) == is_v4 && un_ip_is_v4(&packet.destination) == is_v4);
    CHECK(packet.protocol != (is_v4 ? UN_PROTOCOL_ICMPV6 : UN_PROTOCOL_ICMP) || packet.is_fragment);
    if (packet.is_fragment) {
        check_fragment(&packet);
        return;
    }
    check_checksum(&packet, pieces, frame);
    check_transport(&packet, pieces);
    check_ip(&packet, frame);
}

void wire_run(const uint8_t *script, size_t length)
{
    struct frame frame = {.length = 0};
    if (length < HEAD_BYTES || length > WIRE_SCRIPT_MAX)
        return;
    uint32_t which = script[0] & ~FIX_IPV4;
    const uint8_t *change = script + HEAD_BYTES, *end = script + length;
    if (which == 0) {
        frame.length = (uint32_t)(end - change);
        memcpy(frame.bytes, change, frame.length);
        change = end;
    } else {
        make(&frame, which);
    }
    for (; end - change >= CHANGE_BYTES; change += CHANGE_BYTES)
        frame.bytes[un_get16(change) % frame.length] = change[2];
    if (script[0] & FIX_IPV4 && frame.length >= UN_ETH_BYTES + 60)
        frame_fix_ipv4(&frame);
    frame.length -= smaller(frame.length, script[3]);
    uint32_t first = smaller(frame.length, un_get16(script + 1));
    uint32_t rest = frame.length - first;
    uint8_t *second = malloc(rest > 0 ? rest : 1);
    CHECK(second);
    memcpy(second, frame.bytes + first, rest);
    struct iovec pieces[2] = {{at_edge(frame.bytes, first), first}, {second, rest}};
    check_frame(&frame, pieces);
    free(second);
}
