/* See attacker.h. He sends bytes as they are, or packets whose checksums are right; to connections of his own he speaks
 * as one who knows their sequence numbers, to the bystander as one who does not, and from beyond a router: no ARP in
 * the names of others, no packet with the hop limit of a neighbour. */
#include "attacker.h"

#include <string.h>

#include "base/bytes.h"
#include "stack/arena.h"
#include "wire/arp.h"
#include "wire/icmp.h"
#include "wire/udp.h"

enum { PIECE_MAX = 160, FRAGMENT_MAX = 3700, LARGE = 160, ICMP_CHECKSUM = 2, TCP_CHECKSUM = 16, UDP_CHECKSUM = 6 };

/* ---- choices ---- */

/* A connection that is not the bystander's; NULL: there is none. */
struct un_tcb *choose_conn(struct script *script)
{
    struct un_stack *stack = &world.it.stack;
    uint32_t count = stack->own->conn_fresh;
    uint32_t first = script_8(script) % (count ? count : 1);
    for (uint32_t i = 0; i < count; i++) {
        struct un_tcb *tcb = &stack->tcp.tcbs[(first + i) % count];
        if (tcb->state != UN_TCP_CLOSED && tcb->local_port != WORLD_ECHO_PORT)
            return tcb;
    }
    return NULL;
}

static uint32_t choose_bytes(struct script *script, uint8_t *bytes, uint32_t most)
{
    uint32_t length = script_8(script);
    length = length < most ? length : most;
    for (uint32_t i = 0; i < length; i++)
        bytes[i] = script_8(script);
    return length;
}

/* Small and large steps, both ways. */
static uint32_t choose_distance(struct script *script)
{
    uint8_t kind = script_8(script);
    uint32_t value = script_8(script);
    value <<= (kind & 3) * 5;
    return kind & 4 ? 0u - value : kind & 8 ? value : 0;
}

struct un_ip attacker_claim(bool is_v6)
{
    return is_v6 ? ip6(77) : ip4(10, 0, 0, 77);
}

/* ---- frames as they are ---- */

/* Somebody on this link could do more harm to others than this world means. */
static bool is_spoofed(const uint8_t *bytes, uint32_t length)
{
    struct iovec piece = {(void *)bytes, length};
    struct un_packet packet;
    struct un_ip v4 = world_attacker(false);
    if (un_packet_parse(&packet, &piece, 1))
        return false;
    if (packet.ether_type != UN_ETHER_ARP)
        return packet.hop_limit == 255 && packet.protocol == UN_PROTOCOL_ICMPV6;
    struct un_arp arp;
    struct un_ip claim = attacker_claim(false);
    return !un_arp_parse(&arp, bytes + packet.network, length - packet.network) && !un_ip_equal(&arp.sender, &v4) &&
           !un_ip_equal(&arp.sender, &claim);
}

void send_raw(struct script *script)
{
    static const uint16_t types[] = {UN_ETHER_IPV4, UN_ETHER_IPV6, UN_ETHER_ARP, UN_ETHER_VLAN};
    uint8_t frame[UN_ETH_BYTES + PIECE_MAX];
    uint16_t type = types[script_8(script) % 4];
    uint32_t at = un_eth_emit(frame, world.it.device->capabilities.mac, world_attacker_mac, type);
    uint32_t length = at + choose_bytes(script, frame + at, PIECE_MAX);
    if (!is_spoofed(frame, length))
        world_send(frame, length);
}

void send_transport(struct script *script)
{
    static const uint8_t protocols[] = {
        UN_PROTOCOL_TCP, UN_PROTOCOL_UDP, UN_PROTOCOL_ICMP, UN_PROTOCOL_ICMPV6, 0, 43, 44, 60};
    static const uint8_t checksums[] = {TCP_CHECKSUM, UDP_CHECKSUM, ICMP_CHECKSUM, ICMP_CHECKSUM, 0, 0, 0, 0};
    uint8_t bytes[PIECE_MAX], how = script_8(script);
    bool is_v6 = how & 8;
    struct un_ip_header ip = {.source = world_attacker(is_v6), .destination = world_own(is_v6), .hop_limit = 64,
                              .protocol = protocols[how & 7], .ecn = how >> 6};
    if (how & 16)
        ip.source = is_v6 ? ip6(2) : ip4(10, 0, 0, 2);
    if (how & 32)
        ip.destination = is_v6 ? (struct un_ip){{0xff, 2, [15] = 1}} : ip4(10, 0, 0, 255);
    uint32_t length = choose_bytes(script, bytes, sizeof bytes);
    world_send_ip(&ip, bytes, length, checksums[how & 7]);
}

/* ---- segments ---- */

static void add_options(struct script *script, const struct un_tcb *tcb, struct un_seg *seg)
{
    uint8_t how = script_8(script);
    seg->ecn = how >> 6;
    if (tcb->flags & UN_TCB_TIMESTAMP && !(how & 1)) {
        seg->options |= UN_SEG_TIMESTAMP;
        seg->tsval = tcb->ts_recent + (how & 2 ? choose_distance(script) : 0);
        seg->tsecr = (uint32_t)(world.now_ns / UN_MS_NS) + tcb->ts_offset + (how & 4 ? choose_distance(script) : 0);
    }
    seg->sack_count = how >> 3 & 3;
    for (uint32_t i = 0; i < seg->sack_count; i++) {
        seg->sacks[i].start = tcb->snd_una + choose_distance(script);
        seg->sacks[i].end = seg->sacks[i].start + choose_distance(script);
    }
}

/* From the connection's peer, about where the connection is. */
void send_segment(struct script *script)
{
    const struct un_tcb *tcb = choose_conn(script);
    uint8_t flags = script_8(script), how = script_8(script);
    if (!tcb)
        return;
    struct un_seg seg = {.flags = flags & 0x40 ? flags : (uint8_t)(flags | UN_TCP_ACK),
                         .source_port = tcb->peer_port,
                         .destination_port = tcb->local_port,
                         .wnd = how & 0x80 ? script_16(script) : 2000,
                         .length = how & 0x40 ? script_8(script) * 5u : how & 15};
    seg.seq = tcb->rcv_nxt + choose_distance(script);
    seg.ack = (how & 0x20 ? tcb->snd_una : tcb->snd_nxt) + choose_distance(script);
    if (tcb->state == UN_TCP_SYN_SENT && how & 0x10)
        seg.flags |= UN_TCP_SYN;
    add_options(script, tcb, &seg);
    struct un_ip own = world.it.stack.own->addresses[tcb->local].ip;
    world_send_seg(&tcb->peer, &own, &seg, NULL, 0);
}

void send_next(struct script *script)
{
    const struct un_tcb *tcb = choose_conn(script);
    uint8_t how = script_8(script);
    if (!tcb)
        return;
    struct un_seg seg = {.flags = UN_TCP_ACK, .source_port = tcb->peer_port, .destination_port = tcb->local_port,
                         .seq = tcb->rcv_nxt, .ack = tcb->snd_nxt, .wnd = 4000, .length = how & 2 ? 600 : 0};
    if (how & 1)
        seg.flags |= UN_TCP_FIN;
    if (how & 4) { /* the port is used again */
        seg.flags = UN_TCP_SYN;
        seg.seq += 100000;
        seg.ack = seg.length = 0;
    }
    if (tcb->flags & UN_TCB_TIMESTAMP) {
        seg.options = UN_SEG_TIMESTAMP;
        seg.tsval = tcb->ts_recent + (how >> 3 & 3);
        seg.tsecr = (uint32_t)(world.now_ns / UN_MS_NS) + tcb->ts_offset;
    }
    struct un_ip own = world.it.stack.own->addresses[tcb->local].ip;
    world_send_seg(&tcb->peer, &own, &seg, NULL, 0);
}

void send_syn(struct script *script)
{
    uint8_t options[40], how = script_8(script);
    uint32_t option_bytes = (how >> 4 & 7) * 4;
    struct un_ip from = world_attacker(how & 1), to = how & 128 ? attacker_claim(how & 1) : world_own(how & 1);
    struct un_seg syn = {.flags = UN_TCP_SYN | (how & 2 ? UN_TCP_ECE | UN_TCP_CWR : 0),
                         .seq = script_8(script) * 0x01010101u,
                         .source_port = (uint16_t)(2000 + script_8(script) % 16),
                         .wnd = 8000};
    syn.destination_port = how & 4 ? WORLD_PORT : how & 8 ? WORLD_ECHO_PORT : 9;
    for (uint32_t i = 0; i < option_bytes; i++)
        options[i] = script_8(script);
    if (option_bytes == 0) {
        syn.options = UN_SEG_MSS | UN_SEG_WSCALE | UN_SEG_SACK_PERMITTED | UN_SEG_TIMESTAMP;
        syn.mss = 1000;
        syn.wscale = 2;
        syn.tsval = 1;
    }
    world_send_seg(&from, &to, &syn, options, option_bytes);
}

void attacker_connect(uint16_t port, bool is_v6)
{
    struct un_ip from = world_attacker(is_v6), to = world_own(is_v6);
    struct un_seg seg = {.flags = UN_TCP_SYN,
                         .seq = 1,
                         .source_port = port,
                         .destination_port = WORLD_PORT,
                         .wnd = 8000,
                         .options = UN_SEG_MSS | UN_SEG_WSCALE | UN_SEG_SACK_PERMITTED | UN_SEG_TIMESTAMP,
                         .mss = 1000,
                         .wscale = 2,
                         .tsval = 1};
    world_send_seg(&from, &to, &seg, NULL, 0);
    world_settle();
    seg.flags = UN_TCP_ACK;
    seg.options = world.answer.options & UN_SEG_TIMESTAMP;
    seg.seq = 2;
    seg.ack = world.answer.seq + 1;
    seg.tsecr = world.answer.tsval;
    world_send_seg(&from, &to, &seg, NULL, 0);
    world_settle();
}

/* From many ports at once, the last of which get cookies. */
void send_syns(struct script *script)
{
    uint8_t how = script_8(script);
    struct un_ip from = world_attacker(how & 1), to = world_own(how & 1);
    for (uint16_t i = 0; i < WORLD_BACKLOG + 1; i++) {
        struct un_seg syn = {.flags = UN_TCP_SYN,
                             .seq = 7,
                             .source_port = (uint16_t)(2100 + (how >> 4) + i),
                             .wnd = 8000,
                             .destination_port = WORLD_PORT};
        if (how & 2) {
            syn.options = UN_SEG_MSS | UN_SEG_WSCALE | UN_SEG_SACK_PERMITTED | UN_SEG_TIMESTAMP;
            syn.mss = 1400;
            syn.wscale = 3;
            syn.tsval = 1;
        }
        world_send_seg(&from, &to, &syn, NULL, 0);
    }
}

void send_ack_of_syn(struct script *script)
{
    const struct un_seg *answer = &world.answer;
    uint8_t how = script_8(script);
    if (!(answer->flags & UN_TCP_SYN))
        return;
    struct un_seg ack = {.flags = UN_TCP_ACK, .source_port = answer->destination_port, .wnd = 3000, .length = how & 15,
                         .destination_port = answer->source_port, .seq = answer->ack, .ack = answer->seq + 1};
    if (how & 0x40)
        ack.ack += choose_distance(script);
    if (answer->options & UN_SEG_TIMESTAMP && !(how & 0x10)) {
        ack.options = UN_SEG_TIMESTAMP;
        ack.tsval = answer->tsecr + 1;
        ack.tsecr = answer->tsval + (how & 0x20 ? choose_distance(script) : 0);
    }
    struct un_ip own = world_own(!un_ip_is_v4(&world.answer_to));
    world_send_seg(&world.answer_to, &own, &ack, NULL, 0);
}

/* In the name of the friend's end, by somebody who has to guess. */
void send_spoofed(struct script *script)
{
    struct un_stack_peer local, remote;
    CHECK_EQ(un_stack_names(&world.friend.stack, world.speaker, &local, &remote), 0);
    struct un_seg seg = {.flags = script_8(script), .seq = script_32(script), .ack = script_32(script),
                         .wnd = script_16(script), .length = script_8(script), .source_port = local.port,
                         .destination_port = WORLD_ECHO_PORT};
    if (seg.flags & UN_TCP_URG) {
        seg.options = UN_SEG_TIMESTAMP;
        seg.tsval = script_32(script);
    }
    world_send_seg(&local.ip, &remote.ip, &seg, NULL, 0);
}

/* ---- what else there is ---- */

void send_datagram(struct script *script)
{
    uint8_t bytes[UN_UDP_BYTES + PIECE_MAX], how = script_8(script);
    struct un_ip_header ip = {.source = world_attacker(how & 1), .destination = world_own(how & 1),
                              .protocol = UN_PROTOCOL_UDP, .hop_limit = 64};
    uint32_t length = choose_bytes(script, bytes + UN_UDP_BYTES, PIECE_MAX);
    struct un_udp udp = {.source_port = 5000, .destination_port = how & 2 ? 9 : WORLD_UDP_PORT, .length = length};
    world_send_ip(&ip, bytes, length + un_udp_emit(&udp, bytes), UDP_CHECKSUM);
}

/* An error about a segment of a connection, or of the bystander's with a number that is guessed. */
void send_error(struct script *script)
{
    static const uint8_t kinds[] = {UN_ICMP_UNREACHABLE_HOST, UN_ICMP_UNREACHABLE_PORT, UN_ICMP_PACKET_TOO_BIG,
                                    UN_ICMP_TIME_EXCEEDED};
    uint8_t bytes[UN_ICMP_EMIT_MAX + 100] = {0}, how = script_8(script);
    const struct un_tcb *tcb = choose_conn(script);
    struct un_stack_peer local, remote;
    CHECK_EQ(un_stack_names(&world.friend.stack, world.speaker, &remote, &local), 0);
    uint32_t seq = script_32(script);
    if (tcb && how & 4) {
        remote = (struct un_stack_peer){tcb->peer, tcb->peer_port};
        local = (struct un_stack_peer){world.it.stack.own->addresses[tcb->local].ip, tcb->local_port};
        seq = tcb->snd_una + choose_distance(script);
    }
    bool is_v6 = !un_ip_is_v4(&local.ip);
    struct un_icmp icmp = {.kind = kinds[how & 3], .mtu = how & 8 ? script_16(script) : script_8(script) * 8u};
    struct un_ip_header quoted = {.source = local.ip, .destination = remote.ip, .protocol = UN_PROTOCOL_TCP,
                                  .hop_limit = 60, .payload_length = 1000};
    uint32_t length = un_icmp_emit(&icmp, is_v6, bytes);
    length += un_ip_emit(bytes + length, &quoted);
    un_put16(bytes + length, local.port);
    un_put16(bytes + length + 2, remote.port);
    un_put32(bytes + length + 4, seq);
    struct un_ip_header ip = {.source = world_attacker(is_v6), .destination = local.ip, .hop_limit = 64,
                              .protocol = is_v6 ? UN_PROTOCOL_ICMPV6 : UN_PROTOCOL_ICMP};
    world_send_ip(&ip, bytes, length + 8, ICMP_CHECKSUM);
}

struct fragment {
    bool is_v6;
    bool has_more;
    uint8_t protocol;
    uint8_t id;
    uint16_t place; /* of its first byte in the datagram, a multiple of 8 */
};

static void fix_ipv4_checksum(uint8_t *header)
{
    uint32_t sum = 0;
    un_put16(header + 10, 0);
    for (uint32_t i = 0; i < UN_IPV4_BYTES; i += 2)
        sum += un_get16(header + i);
    un_put16(header + 10, (uint16_t) ~((sum & 0xffff) + (sum >> 16)));
}

static void emit_fragment(const struct fragment *fragment, const uint8_t *bytes, uint32_t length)
{
    uint8_t frame[UN_ETH_BYTES + UN_IPV6_BYTES + 8 + FRAGMENT_MAX];
    bool is_v6 = fragment->is_v6;
    struct un_ip_header ip = {.source = world_attacker(is_v6), .destination = world_own(is_v6), .hop_limit = 64,
                              .protocol = is_v6 ? 44 : fragment->protocol, .identification = fragment->id};
    uint32_t header = is_v6 ? 8 : 0, network = UN_ETH_BYTES;
    uint32_t transport = network + (is_v6 ? UN_IPV6_BYTES : UN_IPV4_BYTES) + header;
    ip.payload_length = header + length;
    un_eth_emit(frame, world.it.device->capabilities.mac, world_attacker_mac, is_v6 ? UN_ETHER_IPV6 : UN_ETHER_IPV4);
    un_ip_emit(frame + network, &ip);
    memcpy(frame + transport, bytes, length);
    if (is_v6) {
        memset(frame + transport - 8, 0, 8);
        frame[transport - 8] = fragment->protocol;
        un_put16(frame + transport - 6, (uint16_t)(fragment->place | fragment->has_more));
        frame[transport - 1] = fragment->id;
    } else {
        un_put16(frame + network + 6, (uint16_t)(fragment->place / 8 | (fragment->has_more ? 0x2000 : 0)));
        fix_ipv4_checksum(frame + network);
    }
    world_send(frame, transport + length);
}

void send_fragment(struct script *script)
{
    static const uint8_t protocols[] = {UN_PROTOCOL_UDP, UN_PROTOCOL_TCP, UN_PROTOCOL_ICMPV6, 44};
    uint8_t bytes[PIECE_MAX], how = script_8(script);
    struct fragment fragment = {
        .is_v6 = how & 1, .has_more = how & 2, .protocol = protocols[how >> 2 & 3], .id = how >> 4};
    fragment.place = (uint16_t)((script_8(script) & 31) * 8);
    uint32_t length = choose_bytes(script, bytes, PIECE_MAX);
    emit_fragment(&fragment, bytes, fragment.has_more ? length / 8 * 8 : length);
}

/* A datagram whose checksum is right, or a SYN, or an echo request, which may be large. */
static uint32_t make_datagram(struct script *script, struct fragment *fragment, uint8_t *bytes)
{
    uint8_t how = script_8(script);
    uint32_t length = (how >> 4) * (how & 8 ? 240u : 8u) + 8, offset = UDP_CHECKSUM;
    *fragment = (struct fragment){.is_v6 = how & 1, .protocol = UN_PROTOCOL_UDP, .id = (uint8_t)(20 + (how >> 6))};
    memset(bytes, 0, length + UN_TCP_HEADER_BYTES);
    if (how & 2) {
        struct un_seg syn = {.flags = UN_TCP_SYN, .source_port = 2300, .destination_port = WORLD_PORT, .wnd = 900};
        length += un_seg_emit(&syn, bytes);
        fragment->protocol = UN_PROTOCOL_TCP;
        offset = TCP_CHECKSUM;
    } else if (how & 4) {
        bytes[0] = how & 1 ? 128 : 8;
        fragment->protocol = how & 1 ? UN_PROTOCOL_ICMPV6 : UN_PROTOCOL_ICMP;
        offset = ICMP_CHECKSUM;
    } else {
        struct un_udp udp = {.source_port = 5000, .destination_port = WORLD_UDP_PORT, .length = length};
        length += un_udp_emit(&udp, bytes);
    }
    struct un_ip_header ip = {.source = world_attacker(how & 1), .destination = world_own(how & 1),
                              .protocol = fragment->protocol};
    world_fill_checksum(&ip, bytes, length, offset);
    return length;
}

/* Parts of one size, in any order; some twice, some overlapping, some not at all. */
void send_in_fragments(struct script *script)
{
    uint8_t bytes[FRAGMENT_MAX];
    struct fragment fragment;
    uint32_t length = make_datagram(script, &fragment, bytes);
    uint8_t how = script_8(script);
    uint32_t step = (8 + (how & 3) * 8u) * (length > LARGE ? 40 : 1), parts = (length + step - 1) / step;
    bool in_order = how & 4;
    for (uint32_t i = 0; i < parts + (how >> 6); i++) {
        uint32_t part = (in_order ? i : script_8(script)) % parts;
        uint32_t from = part * step, end = from + step + (how & 8 ? 8 : 0);
        fragment.place = (uint16_t)from;
        fragment.has_more = end < length;
        emit_fragment(&fragment, bytes + from, (end < length ? end : length) - from);
    }
}

/* The attacker is a neighbour, about himself and about nobody that anyone talks to. */
void send_discovery(struct script *script)
{
    static const uint8_t kinds[] = {UN_ICMP_NEIGHBOUR_SOLICITATION, UN_ICMP_NEIGHBOUR_ADVERTISEMENT,
                                    UN_ICMP_ROUTER_SOLICITATION, UN_ICMP_ROUTER_ADVERTISEMENT};
    uint8_t message[UN_ICMP_EMIT_MAX], how = script_8(script);
    struct un_icmp icmp = {.kind = kinds[how & 3],
                           .has_mac = how & 4,
                           .is_solicited = how & 8,
                           .overrides = how & 16,
                           .is_router = how & 32,
                           .target = how & 64 ? world_own(true) : ip6((uint8_t)(9 + script_8(script) % 240)),
                           .router_lifetime_s = script_8(script)};
    memcpy(icmp.mac, world_attacker_mac, UN_MAC_BYTES);
    struct un_ip_header ip = {.source = how & 128 ? (struct un_ip){{0xfe, 0x80, [15] = 9}}
                                                  : ip6((uint8_t)(9 + script_8(script) % 240)),
                              .destination = world_own(true),
                              .protocol = UN_PROTOCOL_ICMPV6,
                              .hop_limit = 255};
    if (icmp.kind == UN_ICMP_NEIGHBOUR_ADVERTISEMENT && how & 64)
        return; /* our own address: a duplicate, which is no attack on others */
    world_send_ip(&ip, message, un_icmp_emit(&icmp, true, message), ICMP_CHECKSUM);
}

/* To all who speak ARP, or to all nodes. */
void send_claim(struct script *script)
{
    uint8_t frame[64] = {0}, message[UN_ICMP_EMIT_MAX], how = script_8(script);
    struct un_arp arp = {.operation = how & 2 ? UN_ARP_REPLY : UN_ARP_REQUEST, .sender = attacker_claim(false),
                         .target = attacker_claim(false)};
    struct un_icmp icmp = {.kind = UN_ICMP_NEIGHBOUR_ADVERTISEMENT, .has_mac = how & 4, .overrides = how & 8,
                           .target = attacker_claim(true)};
    struct un_ip_header ip = {.source = attacker_claim(true), .destination = {{0xff, 2, [15] = 1}}, .hop_limit = 255,
                              .protocol = UN_PROTOCOL_ICMPV6};
    memcpy(arp.sender_mac, world_attacker_mac, UN_MAC_BYTES);
    memcpy(icmp.mac, world_attacker_mac, UN_MAC_BYTES);
    if (how & 1) {
        world_send_ip(&ip, message, un_icmp_emit(&icmp, true, message), ICMP_CHECKSUM);
        return;
    }
    uint32_t at = un_eth_emit(frame, world.it.device->capabilities.mac, world_attacker_mac, UN_ETHER_ARP);
    world_send(frame, at + un_arp_emit(&arp, frame + at));
}

/* RFC 3810 section 5.1, RFC 2710 section 3. */
void send_query(struct script *script)
{
    uint8_t bytes[28] = {130}, how = script_8(script);
    struct un_ip group = {{0xff, 2, [15] = 1}};
    struct un_ip_header ip = {.source = {{0xfe, 0x80, [15] = 9}}, .destination = group, .protocol = UN_PROTOCOL_ICMPV6,
                              .hop_limit = 1};
    un_put16(bytes + 4, script_16(script));
    if (how & 1)
        memcpy(bytes + 8, group.bytes, sizeof group.bytes);
    world_send_ip(&ip, bytes, how & 2 ? 24 : sizeof bytes, ICMP_CHECKSUM);
}

void choose_offloads(struct script *script)
{
    uint8_t how = script_8(script);
    world.rx_flags = how & 3;
    world.rx_segment = how & 4 ? (uint16_t)(100 + (how >> 3) * 8) : 0;
}
