/* A script: a byte of settings, then steps, each a byte that says which and the bytes it takes.
 *
 * The attacker sends bytes as they are, or packets whose checksums are right; to connections of his own he speaks as one
 * who knows their sequence numbers, to the bystander as one who does not, and from beyond a router: no ARP in the names
 * of others, no packet with the hop limit of a neighbour. */
#include "frames.h"

#include <string.h>

#include "../tests/stack/world.h"
#include "base/bytes.h"
#include "stack/state.h"
#include "wire/arp.h"
#include "wire/icmp.h"
#include "wire/udp.h"

enum { STEPS_MAX = 80, PIECE_MAX = 160, ICMP_CHECKSUM = 2, TCP_CHECKSUM = 16, UDP_CHECKSUM = 6 };

/* ---- choices ---- */

/* A connection that is not the bystander's; NULL: there is none. */
static struct un_tcb *choose_conn(struct script *script)
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

/* As it is, or one that passes the application's own gates. */
static uint64_t choose_handle(struct script *script)
{
    struct un_tcb *tcb = choose_conn(script);
    return tcb ? un_stack_handle(&world.it.stack, tcb) : 1;
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
    return !un_arp_parse(&arp, bytes + packet.network, length - packet.network) && !un_ip_equal(&arp.sender, &v4);
}

static void send_raw(struct script *script)
{
    static const uint16_t types[] = {UN_ETHER_IPV4, UN_ETHER_IPV6, UN_ETHER_ARP, UN_ETHER_VLAN};
    uint8_t frame[UN_ETH_BYTES + PIECE_MAX];
    uint16_t type = types[script_8(script) % 4];
    uint32_t at = un_eth_emit(frame, world.it.device->capabilities.mac, world_attacker_mac, type);
    uint32_t length = at + choose_bytes(script, frame + at, PIECE_MAX);
    if (!is_spoofed(frame, length))
        world_send(frame, length);
}

static void send_transport(struct script *script)
{
    static const uint8_t protocols[] = {UN_PROTOCOL_TCP, UN_PROTOCOL_UDP, UN_PROTOCOL_ICMP, UN_PROTOCOL_ICMPV6, 0, 43, 44, 60};
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
static void send_segment(struct script *script)
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

static void send_syn(struct script *script)
{
    uint8_t options[40], how = script_8(script);
    uint32_t option_bytes = (how >> 4 & 7) * 4;
    struct un_ip from = world_attacker(how & 1), to = world_own(how & 1);
    struct un_seg syn = {.flags = UN_TCP_SYN | (how & 2 ? UN_TCP_ECE | UN_TCP_CWR : 0), .seq = script_8(script) * 0x01010101u,
                         .source_port = (uint16_t)(2000 + script_8(script) % 16), .wnd = 8000};
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

/* In the name of the friend's end, by somebody who has to guess. */
static void send_spoofed(struct script *script)
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

static void send_datagram(struct script *script)
{
    uint8_t bytes[UN_UDP_BYTES + PIECE_MAX], how = script_8(script);
    struct un_ip_header ip = {.source = world_attacker(how & 1), .destination = world_own(how & 1),
                              .protocol = UN_PROTOCOL_UDP, .hop_limit = 64};
    uint32_t length = choose_bytes(script, bytes + UN_UDP_BYTES, PIECE_MAX);
    struct un_udp udp = {.source_port = 5000, .destination_port = how & 2 ? 9 : WORLD_UDP_PORT, .length = length};
    world_send_ip(&ip, bytes, length + un_udp_emit(&udp, bytes), UDP_CHECKSUM);
}

/* An error about a segment of a connection, or of the bystander's with a number that is guessed. */
static void send_error(struct script *script)
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
    struct un_icmp icmp = {.kind = kinds[how & 3], .mtu = script_16(script)};
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

static void send_fragment(struct script *script)
{
    uint8_t frame[UN_ETH_BYTES + UN_IPV6_BYTES + 8 + PIECE_MAX], how = script_8(script);
    bool is_v6 = how & 1;
    uint16_t place = (uint16_t)((script_8(script) & 31) * 8), id = how >> 4;
    static const uint8_t protocols[] = {UN_PROTOCOL_UDP, UN_PROTOCOL_TCP, UN_PROTOCOL_ICMPV6, 44};
    uint8_t protocol = protocols[how >> 2 & 3];
    struct un_ip_header ip = {.source = world_attacker(is_v6), .destination = world_own(is_v6), .hop_limit = 64,
                              .protocol = is_v6 ? 44 : protocol, .identification = id};
    uint32_t header = is_v6 ? 8 : 0, network = UN_ETH_BYTES;
    uint32_t transport = network + (is_v6 ? UN_IPV6_BYTES : UN_IPV4_BYTES) + header;
    uint32_t length = choose_bytes(script, frame + transport, PIECE_MAX);
    length = how & 2 ? length / 8 * 8 : length;
    ip.payload_length = header + length;
    un_eth_emit(frame, world.it.device->capabilities.mac, world_attacker_mac, is_v6 ? UN_ETHER_IPV6 : UN_ETHER_IPV4);
    un_ip_emit(frame + network, &ip);
    bool more = how & 2;
    if (is_v6) {
        memset(frame + transport - 8, 0, 8);
        frame[transport - 8] = protocol;
        un_put16(frame + transport - 6, (uint16_t)(place | more));
        frame[transport - 1] = (uint8_t)id;
    } else {
        un_put16(frame + network + 6, (uint16_t)(place / 8 | (more ? 0x2000 : 0)));
        un_put16(frame + network + 10, 0);
        uint32_t sum = 0;
        for (uint32_t i = 0; i < UN_IPV4_BYTES; i += 2)
            sum += un_get16(frame + network + i);
        un_put16(frame + network + 10, (uint16_t) ~((sum & 0xffff) + (sum >> 16)));
    }
    world_send(frame, transport + length);
}

/* The attacker is a neighbour, about himself and about nobody that anyone talks to. */
static void send_discovery(struct script *script)
{
    static const uint8_t kinds[] = {UN_ICMP_NEIGHBOUR_SOLICITATION, UN_ICMP_NEIGHBOUR_ADVERTISEMENT,
                                    UN_ICMP_ROUTER_SOLICITATION, UN_ICMP_ROUTER_ADVERTISEMENT};
    uint8_t message[UN_ICMP_EMIT_MAX], how = script_8(script);
    struct un_icmp icmp = {.kind = kinds[how & 3], .has_mac = how & 4, .is_solicited = how & 8, .overrides = how & 16,
                           .is_router = how & 32, .target = how & 64 ? world_own(true) : ip6((uint8_t)(9 + script_8(script) % 240)),
                           .router_lifetime_s = script_8(script)};
    memcpy(icmp.mac, world_attacker_mac, UN_MAC_BYTES);
    struct un_ip_header ip = {.source = how & 128 ? (struct un_ip){{0xfe, 0x80, [15] = 9}} : ip6((uint8_t)(9 + script_8(script) % 240)),
                              .destination = world_own(true), .protocol = UN_PROTOCOL_ICMPV6, .hop_limit = 255};
    if (icmp.kind == UN_ICMP_NEIGHBOUR_ADVERTISEMENT && how & 64)
        return; /* our own address: a duplicate, which is no attack on others */
    world_send_ip(&ip, message, un_icmp_emit(&icmp, true, message), ICMP_CHECKSUM);
}

/* ---- the application ---- */

static void act_on_conn(struct script *script)
{
    struct un_stack *stack = &world.it.stack;
    uint64_t conn = choose_handle(script);
    uint8_t bytes[1500] = {0}, how = script_8(script);
    struct un_piece pieces[4];
    struct un_piece piece = {bytes, script_8(script) * 5u, UN_NONE};
    switch (how % 10) {
    case 0:
    case 1:
        un_stack_read(stack, conn, bytes, piece.length);
        break;
    case 2:
        if (un_stack_peek(stack, conn, pieces, 4) > 0)
            un_stack_consume(stack, conn, 1);
        break;
    case 3:
    case 4:
        un_stack_write(stack, conn, &piece, 1);
        break;
    case 5:
        un_stack_shutdown(stack, conn);
        break;
    case 6:
        un_stack_close(stack, conn);
        break;
    case 7:
        un_stack_abort(stack, conn);
        break;
    case 8:
        un_stack_accept(stack, conn, 1);
        break;
    default:
        un_stack_set_option(stack, conn, (enum un_stack_option)(script_8(script) % (UN_OPTION_MSS + 1)), script_16(script));
    }
}

static void act(struct script *script)
{
    struct un_stack *stack = &world.it.stack;
    uint8_t how = script_8(script), bytes[500] = {0};
    uint64_t conn;
    struct un_stack_peer attacker = {world_attacker(how & 1), 3000};
    struct un_stack_peer other = {ip6((uint8_t)(20 + how)), 3000};
    switch (how >> 1 & 7) {
    case 0:
    case 1:
        un_stack_connect(stack, &attacker, NULL, 0, &conn);
        break;
    case 2:
        un_stack_connect(stack, &other, NULL, 0, &conn);
        break;
    case 3:
        un_stack_udp_send(stack, 0, &other, bytes, sizeof bytes);
        break;
    case 4:
        un_stack_udp_receive(stack, 0, &attacker, bytes, 100);
        break;
    case 5:
        un_stack_unlisten(stack, 1);
        un_stack_listen(stack, &(struct un_ip){{0}}, WORLD_PORT, WORLD_BACKLOG, 0);
        break;
    case 6:
        un_stack_pause_listener(stack, 1, how & 1);
        break;
    default:
        host_move(&world.it);
    }
}

static void pass_time(struct script *script)
{
    static const uint64_t durations_ms[] = {0, 1, 40, 200, 1000, 3000, 30000, 130000};
    uint8_t how = script_8(script);
    world.is_quiet = how & 8;
    world_wait(durations_ms[how & 7] * UN_MS_NS + how);
}

static void take_events(struct script *script)
{
    struct un_stack_event event;
    (void)script;
    for (int i = 0; i < 64 && un_stack_next_event(&world.it.stack, &event); i++)
        ;
}

/* ---- play ---- */

void frames_run(const uint8_t *bytes, size_t length)
{
    static void (*const steps[])(struct script *) = {
        send_segment, send_segment, send_segment, send_segment,   act_on_conn, act_on_conn, act_on_conn,    act,
        pass_time,    send_syn,     send_raw,     send_transport, send_error,  send_spoofed, send_datagram, send_fragment,
        send_discovery, take_events,
    };
    struct script script = {bytes, bytes + length};
    if (length == 0 || length > FRAMES_SCRIPT_MAX)
        return;
    world_open(script_8(&script), bytes, length);
    for (int i = 0; i < STEPS_MAX && script_goes_on(&script); i++) {
        uint8_t step = script_8(&script);
        world_speak(40);
        steps[step % (sizeof steps / sizeof steps[0])](&script);
        if (!(step & 0x80))
            world_settle();
    }
    world_expect_heard();
    world_close();
}
