/* What floods cost, and whom: memory stays within its bounds, and a connection between two honest ends loses no time.
 *
 * The bystander of world.h sends in every millisecond of an attack, and has everything back before the next one. The
 * stack has 12 connections, 160 frames and a backlog of 4: so little that each attack comes to the bounds. */
#include <string.h>

#include "world.h"
#include "base/bytes.h"
#include "stack/arena.h"
#include "stack/lists.h"
#include "stack/local.h"
#include "wire/icmp.h"
#include "wire/udp.h"

enum { TICKS = 300, BURST = 8, SPOKEN = 600, OWN_PORT = 2000, ICMP_CHECKSUM = 2 };

static const uint8_t settings; /* IPv4, everything at its default */
static uint64_t attack_random;

static void open(void)
{
    static const uint8_t seed[] = "attack";
    attack_random = 1;
    world_open(settings, seed, sizeof seed);
}

static uint64_t dropped(enum un_drop why)
{
    return world.it.stack.tcp.drops[why];
}

/* A millisecond of attack. The link is not full: that would be another matter. */
static void tick(void (*attack)(uint32_t number), uint32_t number)
{
    for (uint32_t i = 0; i < BURST; i++)
        attack(number * BURST + i);
    world_speak(SPOKEN);
    world_wait(UN_MS_NS);
    CHECK_EQ(world.heard, world.spoken);
}

static void under_attack(void (*attack)(uint32_t number))
{
    uint32_t spoken = world.spoken;
    for (uint32_t number = 0; number < TICKS; number++)
        tick(attack, number);
    CHECK_EQ(world.heard - spoken, TICKS * SPOKEN);
    CHECK_EQ(world.friend.stack.tcp.counters->timeouts, 0);
}

/* ---- the attacker's own connections ---- */

static struct un_seg own_segment(uint32_t number, uint8_t flags)
{
    return (struct un_seg){.flags = flags,
                           .seq = 1,
                           .source_port = (uint16_t)(OWN_PORT + number),
                           .destination_port = WORLD_PORT,
                           .wnd = 60000};
}

static void send(struct un_seg *seg)
{
    struct un_ip from = world_attacker(false), to = world_own(false);
    world_send_seg(&from, &to, seg, NULL, 0);
}

/* Its initial sequence number is 0; returns what the stack sends next. */
static uint32_t own_connect(uint32_t number)
{
    struct un_seg seg = own_segment(number, UN_TCP_SYN);
    seg.seq = 0;
    send(&seg);
    world_settle();
    seg = own_segment(number, UN_TCP_ACK);
    seg.ack = world.answer.seq + 1;
    send(&seg);
    world_settle();
    return seg.ack;
}

static struct un_tcb *own_tcb(uint32_t number)
{
    struct un_ip from = world_attacker(false), to = world_own(false);
    uint32_t slot = un_flow_find(&world.it.stack, &from, (uint16_t)(OWN_PORT + number), WORLD_PORT,
                                 (uint16_t)un_address_find(&world.it.stack, &to));
    CHECK(slot != UN_NONE);
    return &world.it.stack.tcp.tcbs[slot];
}

enum { OWN = 8 };
static uint32_t own_acks[OWN];

static void own_connect_all(void)
{
    for (uint32_t number = 0; number < OWN; number++) {
        own_acks[number] = own_connect(number);
        CHECK_EQ(un_stack_accept(&world.it.stack, un_stack_handle(&world.it.stack, own_tcb(number)), 0), 0);
    }
}

/* ---- floods of SYNs ---- */

static void send_spoofed_syn(uint32_t number)
{
    struct un_ip from = ip4(10, 0, 0, (uint8_t)(20 + number % 200)), to = world_own(false);
    struct un_seg syn = {.flags = UN_TCP_SYN, .seq = number, .source_port = (uint16_t)(1024 + number % 5000),
                         .destination_port = WORLD_PORT, .wnd = 1000, .options = UN_SEG_MSS, .mss = 1000};
    world_send_seg(&from, &to, &syn, NULL, 0);
}

/* Through the flood: to the port that is flooded, twice. */
static void client_comes(void)
{
    struct un_stack_peer remote = {world_own(false), WORLD_PORT};
    struct un_stack_event event;
    uint64_t conn;
    CHECK_EQ(un_stack_connect(&world.friend.stack, &remote, NULL, 1, &conn), 0);
    world_settle();
    CHECK_EQ(un_stack_conn_find(&world.friend.stack, conn)->state, UN_TCP_ESTABLISHED);
    CHECK_EQ(write_bytes(&world.friend, conn, "hello", 5), 5);
    world_settle();
    bool came = false;
    while (un_stack_next_event(&world.it.stack, &event)) {
        char bytes[8];
        if (event.events & UN_TCP_EVENT_ACCEPTED && event.listener == 1) {
            came = true;
            CHECK_EQ(un_stack_read(&world.it.stack, event.conn, bytes, sizeof bytes), 5);
            CHECK_EQ(un_stack_abort(&world.it.stack, event.conn), 0);
        }
    }
    CHECK(came);
    world_settle();
    CHECK_EQ(un_stack_close(&world.friend.stack, conn), 0);
}

static void a_flood_of_syns_leaves_room_for_clients(void)
{
    open();
    under_attack(send_spoofed_syn);
    CHECK(world.it.stack.own->listeners[1].half_open <= WORLD_BACKLOG);
    CHECK(world.it.stack.tcp.counters->syn_cookies_sent > TICKS);
    client_comes();
    under_attack(send_spoofed_syn);
    client_comes();
    world_close();
}

/* ---- tiny segments out of order ---- */

static void send_tiny_segment(uint32_t number)
{
    struct un_seg seg = own_segment(number % OWN, UN_TCP_ACK);
    seg.ack = own_acks[number % OWN];
    seg.seq = 3 + 2 * random_below(&attack_random, 6000);
    seg.length = 1;
    send(&seg);
}

static void tiny_segments_out_of_order_hold_few_frames(void)
{
    open();
    own_connect_all();
    under_attack(send_tiny_segment);
    for (uint32_t number = 0; number < OWN; number++)
        CHECK(own_tcb(number)->rcv_ooo_frames <= world.it.stack.config->tcp.ooo_frames_max);
    CHECK(dropped(UN_DROP_tcp_out_of_order) > TICKS);
    world_close();
}

/* ---- who does not read ---- */

/* The attack came as far as it could: others have what is left. */
static void expect_scarcity(void)
{
    const struct un_pool *pool = &world.it.stack.tcp.pool;
    CHECK(pool->own->free_count <= pool->own->count / 4);
    CHECK(!un_pool_is_at_its_end(pool));
}

static void ask_and_never_read(uint32_t number)
{
    static const uint8_t answer[4000];
    struct un_tcb *tcb = own_tcb(number % OWN);
    struct un_seg seg = own_segment(number % OWN, UN_TCP_ACK);
    write_bytes(&world.it, un_stack_handle(&world.it.stack, tcb), answer, sizeof answer);
    seg.ack = tcb->snd_una; /* he is there, and has no room */
    seg.wnd = 0;
    send(&seg);
}

static void peers_that_never_read_leave_frames_for_others(void)
{
    open();
    own_connect_all();
    under_attack(ask_and_never_read);
    expect_scarcity();
    world_close();
}

/* The application waits for something else (room to answer, perhaps), and they go on. */
static void send_what_nobody_reads(uint32_t number)
{
    struct un_tcb *tcb = own_tcb(number % OWN);
    struct un_seg seg = own_segment(number % OWN, UN_TCP_ACK);
    seg.seq = tcb->rcv_nxt;
    seg.ack = tcb->snd_nxt;
    seg.length = number % 3 ? 500 : 1;
    send(&seg);
}

static void input_that_nobody_reads_leaves_frames_for_others(void)
{
    open();
    own_connect_all();
    under_attack(send_what_nobody_reads);
    expect_scarcity();
    world_close();
}

static void both(uint32_t number)
{
    ask_and_never_read(number);
    send_what_nobody_reads(number + 1);
}

static void neither_do_both_together(void)
{
    open();
    own_connect_all();
    under_attack(both);
    expect_scarcity();
    world_close();
}

/* ---- datagrams that nobody reads, or that are never whole ---- */

static void send_datagram(uint32_t number)
{
    uint8_t bytes[508] = {0};
    struct un_ip_header ip = {.source = world_attacker(number & 1),
                              .destination = world_own(number & 1),
                              .hop_limit = 64,
                              .protocol = UN_PROTOCOL_UDP};
    struct un_udp udp = {.source_port = 9, .destination_port = WORLD_UDP_PORT, .length = 500};
    un_udp_emit(&udp, bytes);
    world_send_ip(&ip, bytes, sizeof bytes, 6);
}

static void datagrams_that_nobody_reads_leave_frames_for_others(void)
{
    open();
    under_attack(send_datagram);
    CHECK(dropped(UN_DROP_udp_full) > 0);
    expect_scarcity();
    world_close();
}

static void send_fragment(uint32_t number)
{
    uint8_t part[408] = {UN_PROTOCOL_UDP};
    struct un_ip_header ip = {
        .source = world_attacker(true), .destination = world_own(true), .hop_limit = 64, .protocol = 44};
    un_put16(part + 2, (uint16_t)((8 + number / 15 * 400) | 1));
    un_put32(part + 4, number % 15);
    world_send_ip(&ip, part, sizeof part, 0);
}

static void fragments_that_are_never_whole_leave_frames_for_others(void)
{
    open();
    under_attack(send_fragment);
    CHECK(dropped(UN_DROP_fragment_budget) > 0);
    expect_scarcity();
    world_close();
}

/* ---- storms ---- */

static struct un_seg guessed_segment(struct un_stack_peer *local, struct un_stack_peer *remote, uint8_t flags)
{
    CHECK_EQ(un_stack_names(&world.friend.stack, world.speaker, local, remote), 0);
    return (struct un_seg){.flags = flags, .seq = (uint32_t)random_next(&attack_random),
                           .ack = (uint32_t)random_next(&attack_random), .wnd = 1000, .source_port = local->port,
                           .destination_port = remote->port};
}

static void send_guess(uint32_t number)
{
    static const uint8_t flags[] = {
        UN_TCP_RST, UN_TCP_SYN, UN_TCP_RST | UN_TCP_ACK, UN_TCP_FIN | UN_TCP_ACK, UN_TCP_ACK, UN_TCP_SYN | UN_TCP_ACK};
    struct un_stack_peer local, remote;
    struct un_seg seg = guessed_segment(&local, &remote, flags[number % sizeof flags]);
    world_send_seg(&local.ip, &remote.ip, &seg, NULL, 0);
}

static void guessed_segments_neither_reset_nor_slow_a_connection(void)
{
    open();
    under_attack(send_guess);
    world_close();
}

static void send_guessed_error(uint32_t number)
{
    static const uint8_t kinds[] = {UN_ICMP_UNREACHABLE_PORT, UN_ICMP_PACKET_TOO_BIG, UN_ICMP_UNREACHABLE_HOST};
    uint8_t message[UN_ICMP_EMIT_MAX + UN_IPV4_BYTES + 8] = {0};
    struct un_stack_peer remote, local;
    struct un_seg seg = guessed_segment(&remote, &local, 0);
    struct un_icmp icmp = {.kind = kinds[number % 3], .mtu = 600};
    struct un_ip_header quoted = {.source = local.ip,
                                  .destination = remote.ip,
                                  .protocol = UN_PROTOCOL_TCP,
                                  .hop_limit = 60,
                                  .payload_length = 1000};
    struct un_ip_header ip = {.source = world_attacker(false), .destination = local.ip, .hop_limit = 64,
                              .protocol = UN_PROTOCOL_ICMP};
    uint32_t length = un_icmp_emit(&icmp, false, message);
    length += un_ip_emit(message + length, &quoted);
    un_put16(message + length, local.port);
    un_put16(message + length + 2, remote.port);
    un_put32(message + length + 4, seg.seq);
    world_send_ip(&ip, message, length + 8, ICMP_CHECKSUM);
}

static void guessed_errors_change_nothing(void)
{
    open();
    under_attack(send_guessed_error);
    CHECK_EQ(world.it.stack.tcp.counters->path_mtu_lowered, 0);
    world_close();
}

/* Resets, echo replies and refusals: for each kind there is a rate. */
static void send_provocation(uint32_t number)
{
    uint8_t message[100] = {0};
    struct un_icmp echo = {.kind = UN_ICMP_ECHO_REQUEST};
    struct un_ip_header ip = {.source = world_attacker(false), .destination = world_own(false), .hop_limit = 64,
                              .protocol = UN_PROTOCOL_ICMP};
    struct un_seg seg = own_segment(number % 100, UN_TCP_ACK);
    seg.destination_port = 9;
    un_icmp_emit(&echo, false, message);
    if (number % 2)
        world_send_ip(&ip, message, sizeof message, ICMP_CHECKSUM);
    else
        send(&seg);
}

static void answers_to_strangers_are_few(void)
{
    open();
    uint64_t resets = world.it.stack.tcp.counters->out_resets;
    under_attack(send_provocation); /* less than a second, and a burst of a second's worth is let through */
    CHECK(world.it.stack.tcp.counters->out_resets - resets <= 2 * world.it.stack.config->resets_per_s);
    CHECK(world.it.stack.counters->echo_replies <= 2 * world.it.stack.config->icmp_per_s);
    CHECK(dropped(UN_DROP_tcp_rst_rate) > TICKS && dropped(UN_DROP_icmp_rate) > TICKS);
    world_close();
}

/* ---- scans ---- */

/* Each is somebody new, and wants an answer: over IPv6 a link has more addresses than any table. */
static void scan(uint32_t number)
{
    struct un_ip from = ip6(0), to = world_own(true);
    uint8_t message[16] = {0};
    struct un_icmp echo = {.kind = UN_ICMP_ECHO_REQUEST};
    un_put32(from.bytes + 12, 0x100 + number);
    un_icmp_emit(&echo, true, message);
    struct un_ip_header ip = {.source = from, .destination = to, .hop_limit = 64, .protocol = UN_PROTOCOL_ICMPV6};
    world_send_ip(&ip, message, sizeof message, ICMP_CHECKSUM);
}

/* The same as neighbours who introduce themselves. */
static void scan_as_neighbours(uint32_t number)
{
    struct un_icmp icmp = {.kind = UN_ICMP_NEIGHBOUR_SOLICITATION, .target = world_own(true), .has_mac = true};
    uint8_t message[UN_ICMP_EMIT_MAX];
    struct un_ip from = ip6(0), to = world_own(true);
    un_put32(from.bytes + 12, 0x100 + number);
    memcpy(icmp.mac, world_attacker_mac, UN_MAC_BYTES);
    struct un_ip_header ip = {.source = from, .destination = to, .hop_limit = 255, .protocol = UN_PROTOCOL_ICMPV6};
    world_send_ip(&ip, message, un_icmp_emit(&icmp, true, message), ICMP_CHECKSUM);
}

/* The bystander is a neighbour like others; a long attack outlives what is known of him. */
static void a_scan(void (*attack)(uint32_t number), uint8_t family)
{
    static const uint8_t seed[] = "scan";
    world_open(family, seed, sizeof seed);
    under_attack(attack);
    for (uint32_t second = 0; second < 60; second++) {
        tick(attack, TICKS + second);
        world_wait(NET_SECOND);
    }
    CHECK_EQ(world.friend.stack.tcp.counters->timeouts, 0);
    world_close();
}

static void scans_push_out_no_neighbour_who_is_in_use(void)
{
    a_scan(scan, 0);
    a_scan(scan, 1);
    a_scan(scan_as_neighbours, 0);
    a_scan(scan_as_neighbours, 1);
}

int main(void)
{
    RUN(a_flood_of_syns_leaves_room_for_clients);
    RUN(tiny_segments_out_of_order_hold_few_frames);
    RUN(peers_that_never_read_leave_frames_for_others);
    RUN(input_that_nobody_reads_leaves_frames_for_others);
    RUN(neither_do_both_together);
    RUN(datagrams_that_nobody_reads_leave_frames_for_others);
    RUN(fragments_that_are_never_whole_leave_frames_for_others);
    RUN(guessed_segments_neither_reset_nor_slow_a_connection);
    RUN(guessed_errors_change_nothing);
    RUN(answers_to_strangers_are_few);
    RUN(scans_push_out_no_neighbour_who_is_in_use);
    return 0;
}
