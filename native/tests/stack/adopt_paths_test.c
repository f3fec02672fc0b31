/* Adoption (P10), by steps: packets out of order, losses that are found by SACK, RACK, a probe or a timeout, a window
 * that is shut, a path that has become narrow, a cookie, memory that is lent, fragments. See adopt_try.h. */
#include <string.h>

#include "adopt_try.h"
#include "base/bytes.h"
#include "wire/checksum.h"
#include "wire/packet.h"

/* The wheel is late by a tick. */
static void until(uint64_t deadline_ns)
{
    CHECK(deadline_ns > world.now_ns);
    world.now_ns = deadline_ns + 2 * UN_MS_NS;
}

static void nothing_more_is_on_its_way(void)
{
    struct wire *wire = &world.remains->to_peer;
    world_card();
    lose(wire, wire->put - wire->taken);
}

/* ---- the peer's payload ---- */

static void hole_in_front(void)
{
    side_write(&world.peer, IDLE, 2500);
    side_poll(&world.peer);
    lose(&world.remains->to_it, 1);
    world_card();
}

static void hole_is_filled(void)
{
    hole_in_front();
    side_poll(&world.it);
    world_settle(); /* the ACK asks for it; perhaps not before a probe */
    if (tcb(IDLE)->rcv_ooo_bytes == 0)
        return;
    until(world.now_ns + NET_SECOND);
    let_peer_send();
}

static void duplicate(void)
{
    side_write(&world.peer, IDLE, 1000);
    side_poll(&world.peer);
    world_card();
    side_poll(&world.it);
    until(world.now_ns + NET_SECOND / 10);
    side_poll(&world.it);
    nothing_more_is_on_its_way(); /* the ACK */
    until(world.now_ns + NET_SECOND);
    let_peer_send();
    CHECK(world.remains->to_it.put != world.remains->to_it.taken || world.over_card);
}

static void ack_is_due(void)
{
    side_write(&world.peer, IDLE, 100);
    side_poll(&world.peer);
    world_card();
    side_poll(&world.it);
    until(tcb(IDLE)->timers[UN_TIMER_ACK]);
}

/* In one turn, the second of two segments out of order acknowledges what was in flight, and causes an ACK of the first
 * one; where the peer is has been forgotten, so the card gets a question to send. */
static void ack_comes_with_a_hole_and_the_peer_is_forgotten(void)
{
    side_write(&world.it, IDLE, 1000);
    side_poll(&world.it);
    world_card();
    side_write(&world.peer, IDLE, 2000);
    un_stack_poll_output(&world.peer.stack, world.now_ns);
    lose(&world.remains->to_it, 1);
    side_write(&world.peer, IDLE, 500);
    let_peer_send();
    CHECK(tcb(IDLE)->snd_bytes == 1000);
    for (uint32_t i = 0; i < stack()->config->neighbours; i++)
        if (un_ip_equal(&stack()->neighbours[i].ip, &tcb(IDLE)->peer)) {
            stack()->neighbours[i].state = UN_NEIGHBOUR_FREE;
            stack()->neighbours[i].good_until_ns = 0;
        }
}

/* ---- the queue out of order ---- */

/* The peer has sent everything, and nothing of it has come. */
static void all_is_lost(void)
{
    side_write(&world.peer, IDLE, 2500);
    side_poll(&world.peer);
    lose(&world.remains->to_it, world.remains->to_it.put - world.remains->to_it.taken);
}

static void receive(uint32_t offset, uint32_t length)
{
    world_segment(IDLE, offset, length);
    world_card();
    side_poll(&world.it);
}

static void arrive(uint32_t offset, uint32_t length)
{
    world_segment(IDLE, offset, length);
    world_card();
}

static void four_islands(void)
{
    all_is_lost();
    for (uint32_t offset = 100; offset < 1100; offset += 300)
        receive(offset, 100);
}

static void fifth_island(void)
{
    four_islands();
    arrive(250, 50);
}

static void island_grows(void)
{
    four_islands();
    arrive(200, 50);
}

static void bridge_from_the_first(void)
{
    four_islands();
    arrive(0, 450);
}

static void bridge_behind_the_first(void)
{
    four_islands();
    arrive(200, 700);
}

static void overlap_on_both_sides(void)
{
    four_islands();
    arrive(150, 300);
}

static void gap_behind_what_is_not_read(void)
{
    all_is_lost();
    receive(0, 100);
    receive(0, 100);
    receive(100, 100);
    receive(150, 50);
    receive(150, 100);
    arrive(0, 100);
}

/* ---- losses of ours ---- */

static void sacks(void)
{
    side_write(&world.it, IDLE, 2500);
    side_poll(&world.it);
    lose(&world.remains->to_peer, 1);
    let_peer_send();
}

/* The peer has all of it, and says so of a part. */
static void part_is_acknowledged(void)
{
    side_write(&world.it, IDLE, 1000);
    side_poll(&world.it);
    world_card();
    side_poll(&world.peer);
    lose(&world.remains->to_it, world.remains->to_it.put - world.remains->to_it.taken);
    world_ack(IDLE, 500);
    world_card();
}

static void reordering_is_over(void)
{
    sacks();
    side_poll(&world.it);
    nothing_more_is_on_its_way();
    CHECK(tcb(IDLE)->sacked_bytes > 0);
    until(un_tcp_deadline_ns(tcb(IDLE)));
}

/* The ACK of all ends the recovery. */
static void loss_is_repaired(void)
{
    sacks();
    side_poll(&world.it);
    world_card();
    CHECK(tcb(IDLE)->sacked_bytes > 0);
    if (world.remains->to_peer.put == world.remains->to_peer.taken) {
        until(un_tcp_deadline_ns(tcb(IDLE)));
        side_poll(&world.it);
    }
    let_peer_send();
}

static void probe_is_due(void)
{
    side_write(&world.it, IDLE, 1000);
    side_poll(&world.it);
    nothing_more_is_on_its_way();
    until(tcb(IDLE)->timers[UN_TIMER_REORDER]);
}

static void timeout_is_due(void)
{
    probe_is_due();
    side_poll(&world.it);
    CHECK(tcb(IDLE)->flags & UN_TCB_PROBE_OUT);
    nothing_more_is_on_its_way();
    until(tcb(IDLE)->timers[UN_TIMER_RETRANSMIT]);
}

static void timeout_was_needless(void)
{
    side_write(&world.it, IDLE, 2500);
    side_poll(&world.it);
    world_card();
    side_poll(&world.peer); /* its ACKs are on their way … */
    until(tcb(IDLE)->timers[UN_TIMER_RETRANSMIT]);
    un_tcp_set_now(&stack()->tcp, world.now_ns);
    un_stack_busy(stack(), tcb(IDLE)); /* … when the timer fires */
    un_tcp_expire(&stack()->tcp, tcb(IDLE));
    un_stack_idle(stack());
    world_card();
}

/* ---- windows ---- */

static void window_is_shut(void)
{
    world.streams = NEW + 1;
    peer_connect(NEW);
    uint64_t conn = handle_of(&world.peer, NEW);
    CHECK_EQ(un_stack_set_option(&world.peer.stack, conn, UN_OPTION_RECEIVE_BYTES, 600), 0);
    world_settle();
    CHECK_EQ(un_stack_accept(stack(), handle_of(&world.it, NEW), 0), 0);
    side_write(&world.it, NEW, 2500);
    world_settle();
    fetch_events(&world.it);
    until(world.now_ns + NET_SECOND / 10); /* the last ACK of the peer */
    world_settle();
    CHECK(tcb(NEW)->flags & UN_TCB_PERSIST && tcb(NEW)->snd_wnd == 0);
}

static void window_probe_is_due(void)
{
    window_is_shut();
    until(tcb(NEW)->timers[UN_TIMER_RETRANSMIT]);
}

static void window_probe_is_answered(void)
{
    window_probe_is_due();
    side_poll(&world.it);
    let_peer_send();
}

/* The peer has read all but some, and takes the byte of the probe. */
static void window_probe_is_taken(void)
{
    window_probe_is_due();
    side_read(&world.peer, NEW, 600);
    side_poll(&world.peer);
    lose(&world.remains->to_it, world.remains->to_it.put - world.remains->to_it.taken); /* that there is room */
    side_poll(&world.it);
    side_poll(&world.peer);
    until(world.now_ns + NET_SECOND / 10);
    let_peer_send();
}

static void window_opens(void)
{
    window_is_shut();
    side_read(&world.peer, NEW, 600);
    let_peer_send();
}

/* The peer has come to the edge of its window, and somebody holds nearly all frames. */
static void frames_are_short(void)
{
    struct un_pool *pool = &stack()->tcp.pool;
    tcb(UNREAD)->rcv_edge = tcb(UNREAD)->rcv_nxt;
    while (!un_pool_is_nearly_empty(pool))
        CHECK(un_pool_take(pool) != UN_NONE);
}

static void read_some(void)
{
    side_read(&world.it, UNREAD, 1300);
}

static void keepalive_is_due(void)
{
    CHECK_EQ(un_stack_set_option(stack(), handle_of(&world.it, IDLE), UN_OPTION_KEEP_IDLE_S, 1), 0);
    CHECK_EQ(un_stack_set_option(stack(), handle_of(&world.it, IDLE), UN_OPTION_KEEPALIVE, 1), 0);
    world_settle();
    until(tcb(IDLE)->timers[UN_TIMER_LIFE]);
}

/* ---- the path ---- */

/* A router says that a segment in flight was too big. */
static void path_is_narrow(void)
{
    const struct un_tcb *flight = tcb(FLIGHT);
    uint8_t packet[100];
    struct un_ip router = ip4(10, 0, 0, 2);
    struct un_ip_header ip = {.source = router, .destination = ip4(10, 0, 0, 1), .protocol = UN_PROTOCOL_ICMP,
                              .hop_limit = 64, .payload_length = 8 + UN_IPV4_BYTES + 8};
    struct un_ip_header quoted = {.source = ip4(10, 0, 0, 1), .destination = flight->peer,
                                  .protocol = UN_PROTOCOL_TCP, .hop_limit = 64, .payload_length = 1000};
    const uint8_t from[] = {2, 0, 0, 0, 0, 2}, to[] = {2, 0, 0, 0, 0, 1};
    uint32_t at = un_eth_emit(packet, to, from, UN_ETHER_IPV4);
    at += un_ip_emit(packet + at, &ip);
    uint8_t *icmp = packet + at, *tcp = icmp + 8 + un_ip_emit(icmp + 8, &quoted);
    memcpy(icmp, (uint8_t[]){3, 4, 0, 0, 0, 0, 600 >> 8, 600 & 0xff}, 8);
    un_put16(tcp, flight->local_port);
    un_put16(tcp + 2, flight->peer_port);
    un_put32(tcp + 4, flight->snd_una);
    uint16_t checksum = un_checksum(un_sum(icmp, ip.payload_length));
    memcpy(icmp + 2, &checksum, sizeof checksum);
    world_inject(packet, at + ip.payload_length);
    world_card();
}

static void segments_become_small(void)
{
    uint16_t before = tcb(FLIGHT)->snd_mss;
    path_is_narrow();
    poll();
    world_card();
    CHECK(tcb(FLIGHT)->snd_mss < before);
    until(un_tcp_deadline_ns(tcb(FLIGHT)));
}

/* ---- a cookie ---- */

static void cookie_comes_back(void)
{
    world.streams = NEW + 1;
    stack()->own->listeners[0].backlog = 2; /* it is full */
    peer_connect(NEW);
    side_poll(&world.peer);
    world_card();
    side_poll(&world.it);
    world_card();
    CHECK_EQ(slot_of(&world.it, NEW), UN_NONE);
    side_write(&world.peer, NEW, 0);
    let_peer_send();
}

/* ---- lent memory ---- */

static void lend(void)
{
    side_lend(&world.it, IDLE, 2000);
}

static void lent_is_acknowledged(void)
{
    lend();
    side_poll(&world.it);
    CHECK(stack()->published->tcp.lent == 1);
    let_peer_send();
}

static void lent_is_lost(void)
{
    lend();
    side_poll(&world.it);
    nothing_more_is_on_its_way();
    until(world.now_ns + NET_SECOND);
}

/* ---- datagrams ---- */

enum { DATAGRAM = 600, PART = 304 }; /* with its header */

/* One half of a datagram. */
static void inject_part(bool is_last)
{
    uint8_t packet[PART + 40], whole[DATAGRAM + 8] = {0};
    const uint8_t from[] = {2, 0, 0, 0, 0, 2}, to[] = {2, 0, 0, 0, 0, 1};
    un_put16(whole, 9);
    un_put16(whole + 2, UDP_PORT);
    un_put16(whole + 4, sizeof whole); /* no checksum */
    memcpy(whole + 8, adopt_datagram, sizeof adopt_datagram);
    struct un_ip_header ip = {.source = ip4(10, 0, 0, 2), .destination = ip4(10, 0, 0, 1), .protocol = UN_PROTOCOL_UDP,
                              .hop_limit = 64, .identification = 5, .payload_length = PART};
    uint32_t network = un_eth_emit(packet, to, from, UN_ETHER_IPV4), at = network;
    at += un_ip_emit(packet + at, &ip);
    un_put16(packet + network + 6, is_last ? PART / 8 : 0x2000);
    un_put16(packet + network + 10, 0);
    uint16_t checksum = un_checksum(un_sum(packet + network, UN_IPV4_BYTES));
    memcpy(packet + network + 10, &checksum, sizeof checksum);
    memcpy(packet + at, whole + (is_last ? PART : 0), PART);
    world_inject(packet, at + PART);
    world_card();
}

static void first_part(void)
{
    adopt_datagrams(1, 1);
    inject_part(false);
}

static void last_part(void)
{
    adopt_datagrams(1, 2);
    inject_part(false);
    side_poll(&world.it);
    inject_part(true);
}

static void receive_last_part(void)
{
    inject_part(true);
    poll();
}

static void first_part_is_there(void)
{
    adopt_datagrams(2, 2);
    inject_part(false);
    side_poll(&world.it);
    adopt_afterwards(receive_last_part);
}

static void write_idle(void)
{
    side_write(&world.it, IDLE, 1500);
}

static void adopt(void)
{
    struct un_stack_place place = world_place();
    un_stack_adopt(stack(), &place);
}

/* ---- tests ---- */

static void payload_comes(uint64_t seed)
{
    (void)seed;
    adopt_try(hole_in_front, poll, ONE(IDLE), 0);
    adopt_try(hole_is_filled, poll, ANY, 0);
    adopt_try(duplicate, poll, ANY, 0);
    adopt_try(ack_is_due, poll, ANY, 0);
    adopt_try(ack_comes_with_a_hole_and_the_peer_is_forgotten, poll, ANY, 0);
}

static void payload_is_out_of_order(uint64_t seed)
{
    (void)seed;
    adopt_try(fifth_island, poll, ONE(IDLE), 0);
    adopt_try(island_grows, poll, ONE(IDLE), 0);
    adopt_try(bridge_from_the_first, poll, ONE(IDLE), 0);
    adopt_try(bridge_behind_the_first, poll, ONE(IDLE), 0);
    adopt_try(overlap_on_both_sides, poll, ONE(IDLE), 0);
    adopt_try(gap_behind_what_is_not_read, poll, ONE(IDLE), 0);
}

static void payload_is_lost(uint64_t seed)
{
    (void)seed;
    adopt_try(part_is_acknowledged, poll, ONE(IDLE), 0);
    adopt_try(sacks, poll, ONE(IDLE), 0);
    adopt_try(reordering_is_over, poll, ANY, 0);
    adopt_try(loss_is_repaired, poll, ANY, 0);
    adopt_try(probe_is_due, poll, ANY, 0);
    adopt_try(timeout_is_due, poll, ANY, 0);
    adopt_try(timeout_was_needless, poll, ANY, 0);
}

static void windows(uint64_t seed)
{
    (void)seed;
    adopt_try(window_probe_is_due, poll, ANY, 0);
    adopt_try(window_probe_is_answered, poll, ANY, 0);
    adopt_try(window_probe_is_taken, poll, ANY, 0);
    adopt_try(window_opens, poll, ANY, 0);
    adopt_try(frames_are_short, read_some, ONE(UNREAD), 0);
    adopt_try(keepalive_is_due, poll, ANY, 0);
}

static void paths(uint64_t seed)
{
    (void)seed;
    adopt_try(path_is_narrow, poll, ANY, 0);
    adopt_try(segments_become_small, poll, ANY, 0);
    adopt_try(cookie_comes_back, poll, ANY, 0);
}

/* A card takes pieces of a frame's size only. */
static void lent_memory(uint64_t seed)
{
    (void)seed;
    if (world.over_card)
        return;
    adopt_try(NULL, lend, ONE(IDLE), 0);
    adopt_try(lend, poll, ONE(IDLE), 0);
    adopt_try(lent_is_acknowledged, poll, ONE(IDLE), 0);
    adopt_try(lent_is_lost, poll, ANY, 0);
}

static void fragments(uint64_t seed)
{
    (void)seed;
    adopt_try(first_part, poll, 0, 0);
    adopt_try(last_part, poll, 0, 0);
    adopt_try(first_part_is_there, write_idle, ONE(IDLE), 0);
    adopt_try(first_part_is_there, adopt, 0, 0);
}

/* With the argument "card": over a device whose rings outlive the process; with "crowded": few frames are kept. */
int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "";
    world_open(strcmp(how, "card") == 0, strcmp(how, "crowded") == 0);
    TRY(payload_comes);
    TRY(payload_is_out_of_order);
    TRY(payload_is_lost);
    TRY(windows);
    TRY(paths);
    TRY(lent_memory);
    TRY(fragments);
    return 0;
}
