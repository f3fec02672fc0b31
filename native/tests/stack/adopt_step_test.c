/* Adoption (P10), by steps: while packets arrive, time passes, the application calls, and while another process adopts.
 * See adopt_try.h. */
#include <errno.h>
#include <string.h>

#include "adopt_try.h"

/* ---- calls ---- */

static void write_idle(void)
{
    side_write(&world.it, IDLE, 1500);
}

/* Behind what is in flight, into the frame that has room. */
static void write_flight(void)
{
    side_write(&world.it, FLIGHT, 500);
}

static void read_unread(void)
{
    side_read(&world.it, UNREAD, 1300);
}

static void consume_unread(void)
{
    un_stack_consume(stack(), handle_of(&world.it, UNREAD), 700);
}

static void shut_idle(void)
{
    un_stack_shutdown(stack(), handle_of(&world.it, IDLE));
}

static void close_idle(void)
{
    un_stack_close(stack(), handle_of(&world.it, IDLE));
}

static void close_unread(void)
{
    un_stack_close(stack(), handle_of(&world.it, UNREAD));
}

static void abort_flight(void)
{
    un_stack_abort(stack(), handle_of(&world.it, FLIGHT));
}

static void accept_ready(void)
{
    un_stack_accept(stack(), handle_of(&world.it, READY), 77);
}

static void connect_new(void)
{
    struct un_stack_peer remote = {ip4(10, 0, 0, 2), SERVER_PORT};
    struct un_stack_peer local = {ip4(10, 0, 0, 1), CLIENT_PORT + NEW};
    uint64_t conn;
    un_stack_connect(stack(), &remote, &local, 0, &conn);
}

static void unlisten(void)
{
    un_stack_unlisten(stack(), 0);
}

static void fetch_news(void)
{
    fetch_events(&world.it);
}

static void udp_receive(void)
{
    struct un_stack_peer from;
    uint8_t bytes[100];
    un_stack_udp_receive(stack(), 0, &from, bytes, sizeof bytes);
}

static void udp_send(void)
{
    struct un_stack_peer to = {ip4(10, 0, 0, 77), UDP_PORT}; /* nobody: it waits for a neighbour */
    un_stack_udp_send(stack(), 0, &to, "to nobody", 9);
}

static void udp_reopen(void)
{
    un_stack_udp_close(stack(), 0);
    un_stack_udp_open(stack(), &(struct un_stack_peer){.port = UDP_PORT}, 0);
}

static void adopt(void)
{
    struct un_stack_place place = world_place();
    un_stack_adopt(stack(), &place);
}

static void set_device(void)
{
    un_stack_set_device(stack(), world.it.device);
}

/* ---- what happened before ---- */

static void peer_sends(void)
{
    side_poll(&world.peer);
    CHECK(world.remains->to_it.put != world.remains->to_it.taken);
    world_card();
}

static void pass_time(uint64_t duration_ns)
{
    world.now_ns += duration_ns;
}

static void data_for_idle(void)
{
    side_write(&world.peer, IDLE, 2000);
    peer_sends();
}

static void fin_for_idle(void)
{
    side_write(&world.peer, IDLE, 2500);
    world_settle();
    side_read(&world.it, IDLE, 2500);
    CHECK_EQ(un_stack_shutdown(&world.peer.stack, handle_of(&world.peer, IDLE)), 0);
    peer_sends();
}

static void reset_for_idle(void)
{
    CHECK_EQ(un_stack_abort(&world.peer.stack, handle_of(&world.peer, IDLE)), 0);
    peer_sends();
}

static void fin_for_fin_wait(void)
{
    side_write(&world.peer, FIN_WAIT, 2500);
    world_settle();
    side_read(&world.it, FIN_WAIT, 2500);
    CHECK_EQ(un_stack_shutdown(&world.peer.stack, handle_of(&world.peer, FIN_WAIT)), 0);
    peer_sends();
}

/* Its first transmission comes again, and again, after the timeout of the side that sent it. */
static void gap_filler(void)
{
    pass_time(NET_SECOND);
    peer_sends();
}

static void ack_of_flight(void)
{
    pass_time(NET_SECOND);
    side_poll(&world.it);
    peer_sends();
}

static void written_idle(void)
{
    side_write(&world.it, IDLE, 2500);
}

static void syn_of_new(void)
{
    peer_connect(NEW);
    peer_sends();
}

/* In the slot of another. */
static void syn_for_a_used_slot(void)
{
    CHECK_EQ(un_stack_abort(stack(), handle_of(&world.it, IDLE)), 0);
    fetch_news();
    world_settle();
    CHECK(stack()->own->conn_free != UN_NONE);
    peer_connect(NEW);
    peer_sends();
}

/* An old connection in TIME-WAIT gives way to a new one of the same ends. */
static void syn_for_time_wait(void)
{
    CHECK_EQ(un_stack_close(&world.peer.stack, handle_of(&world.peer, TIME_WAIT)), 0);
    pass_time(2 * NET_SECOND);
    peer_connect(TIME_WAIT);
    peer_sends();
}

static void answer_to_syn(void)
{
    pass_time(NET_SECOND);
    side_poll(&world.it);
    peer_sends();
}

/* Connected, accepted, readable, writable, and over. */
static void news_of_all_kinds(void)
{
    side_write(&world.it, BLOCKED, 2500);
    side_write(&world.peer, IDLE, 2000);
    peer_connect(NEW);
    pass_time(NET_SECOND);
    world_settle();
    CHECK_EQ(un_stack_abort(&world.peer.stack, handle_of(&world.peer, HOLES)), 0);
    world_settle();
    CHECK(stack()->own->events.head != UN_NONE);
}

static void datagram(void)
{
    struct un_stack_peer to = {ip4(10, 0, 0, 1), UDP_PORT};
    adopt_datagrams(1, 2);
    CHECK(un_stack_udp_send(&world.peer.stack, 0, &to, adopt_datagram, sizeof adopt_datagram) > 0);
    peer_sends();
}

static void may_lose_the_datagram(void)
{
    adopt_datagrams(0, 1);
}

/* The application that accepted it has not noted it. */
static void accept_again(void)
{
    uint64_t conn = handle_of(&world.it, READY);
    struct un_tcb *tcb = un_stack_conn_find(stack(), conn);
    if (!(tcb->flags & UN_TCB_ACCEPTED))
        return;
    CHECK_EQ(un_stack_unaccept(stack(), conn), 0);
    CHECK_EQ(tcb->user, 0);
    CHECK_EQ(un_stack_unaccept(stack(), conn), -EINVAL);
    CHECK_EQ(un_stack_accept_next(stack(), 0), conn);
}

/* A peer that only waits hears that its connection is over, if it is. */
static void is_told(uint32_t number)
{
    uint32_t slot = slot_of(&world.it, number);
    world_settle();
    if (slot == UN_NONE || stack()->tcp.tcbs[slot].state == UN_TCP_CLOSED)
        CHECK_EQ(world.peer.stack.tcp.tcbs[slot_of(&world.peer, number)].state, UN_TCP_DEAD);
}

static void flight_is_told(void)
{
    is_told(FLIGHT);
}

static void unread_is_told(void)
{
    is_told(UNREAD);
}

static void flight_is_told_afterwards(void)
{
    adopt_afterwards(flight_is_told);
}

static void unread_is_told_afterwards(void)
{
    adopt_afterwards(unread_is_told);
}

static void unaccepted_afterwards(void)
{
    adopt_afterwards(accept_again);
}

static void timeouts(void)
{
    pass_time(3 * NET_SECOND);
}

static void end_of_time_wait(void)
{
    pass_time(61 * NET_SECOND);
}

static void written_and_closed(void)
{
    side_write(&world.it, IDLE, 1000);
    CHECK_EQ(un_stack_close(stack(), handle_of(&world.it, IDLE)), 0);
}

/* It died once already, while it changed this one. */
static void dead_once(void)
{
    struct un_tcb *tcb = &stack()->tcp.tcbs[slot_of(&world.it, FLIGHT)];
    un_stack_busy(stack(), tcb);
    adopt_begun();
    tcb->snd_bytes += 7;
    tcb->sent_tail = 3;
    stack()->endpoints[0].queue.tail = 9;
    stack()->endpoints[0].frames = 7;
}

static void adopted_after(void (*death)(void))
{
    death();
    adopt();
    CHECK_EQ(world.it.stack.own->busy, 0);
}

static void adopted(void)
{
    adopted_after(dead_once);
}

static void dead_within_unlisten(void)
{
    world.it.stack.own->listeners[0].is_open = false;
}

static void adopted_without_listener(void)
{
    adopted_after(dead_within_unlisten);
}

/* ---- tests ---- */

static void while_packets_arrive(void)
{
    adopt_try(data_for_idle, poll, ONE(IDLE), 0);
    adopt_try(fin_for_idle, poll, ONE(IDLE), 0);
    adopt_try(reset_for_idle, poll, ONE(IDLE), ONE(IDLE));
    adopt_try(fin_for_fin_wait, poll, ONE(FIN_WAIT), 0);
    adopt_try(gap_filler, poll, ANY, 0);
    adopt_try(ack_of_flight, poll, ANY, 0);
    adopt_try(answer_to_syn, poll, ANY, 0);
    adopt_try(syn_of_new, poll, 0, 0);
    adopt_try(syn_for_a_used_slot, poll, ANY, ONE(IDLE));
    adopt_try(syn_for_time_wait, poll, ANY, ONE(TIME_WAIT));
    adopt_try(datagram, poll, 0, 0);
}

static void while_time_passes(void)
{
    adopt_try(timeouts, poll, ANY, 0);
    adopt_try(end_of_time_wait, poll, ANY, ONE(TIME_WAIT));
    adopt_try(written_idle, poll, ONE(IDLE), 0);
    adopt_try(written_and_closed, poll, ONE(IDLE), ONE(IDLE));
}

static void while_the_application_calls(void)
{
    adopt_try(NULL, write_idle, ONE(IDLE), 0);
    adopt_try(NULL, write_flight, ONE(FLIGHT), 0);
    adopt_try(NULL, read_unread, ONE(UNREAD), 0);
    adopt_try(NULL, consume_unread, ONE(UNREAD), 0);
    adopt_try(NULL, accept_ready, ONE(READY), 0);
    adopt_try(unaccepted_afterwards, accept_ready, ONE(READY), 0);
    adopt_try(NULL, connect_new, 0, 0);
    adopt_try(news_of_all_kinds, fetch_news, 0, ONE(HOLES));
    adopt_try(may_lose_the_datagram, udp_receive, 0, 0);
    adopt_try(NULL, udp_send, 0, 0);
    adopt_try(may_lose_the_datagram, udp_reopen, 0, 0);
}

static void while_the_application_ends_connections(void)
{
    adopt_try(NULL, shut_idle, ONE(IDLE), ONE(IDLE));
    adopt_try(NULL, close_idle, ONE(IDLE), ONE(IDLE));
    adopt_try(unread_is_told_afterwards, close_unread, ONE(UNREAD), ONE(UNREAD));
    adopt_try(flight_is_told_afterwards, abort_flight, ONE(FLIGHT), ONE(FLIGHT));
    adopt_try(NULL, unlisten, ONE(READY) | ONE(SYN_RECEIVED), ONE(READY) | ONE(SYN_RECEIVED));
}

/* The next process may die, too. */
static void while_it_is_adopted(void)
{
    adopt_try(dead_once, adopt, ONE(FLIGHT), 0);
    adopt_try(adopted, set_device, 0, 0);
    adopt_try(adopted_without_listener, set_device, ONE(READY) | ONE(SYN_RECEIVED), ONE(READY) | ONE(SYN_RECEIVED));
}

static void dies(uint64_t seed)
{
    (void)seed; /* which states are judged: keep() */
    while_packets_arrive();
    while_time_passes();
    while_the_application_calls();
    while_the_application_ends_connections();
    while_it_is_adopted();
}

static void a_process_dies_at_any_instruction(void)
{
    for_each_seed(1, dies);
}

/* The arena is begun anew, and the card goes on writing where it may: into no frame that is used for anything else. */
static void a_fresh_arena_leaves_alone_what_rings_hold(void)
{
    struct un_stack_config config = *stack()->config;
    struct un_stack_place place = world_place();
    struct un_ip ip = ip4(10, 0, 0, 1);
    data_for_idle();
    CHECK(world.card.memory->came.put != world.card.memory->came.taken);
    memset(place.arena, 0, place.arena_bytes);
    CHECK_EQ(un_stack_create(stack(), &place, &config), 0);
    CHECK(world_card_frames() > 0);
    CHECK_EQ(un_stack_frames_elsewhere(stack()), world_card_frames());
    un_stack_set_device(stack(), world.it.device);
    CHECK_EQ(un_stack_add_address(stack(), &ip, 24), 0);
    world_settle(); /* what had come is answered with resets */
    CHECK_EQ(world.peer.stack.tcp.tcbs[slot_of(&world.peer, IDLE)].state, UN_TCP_DEAD);
    CHECK_EQ(un_stack_frames_elsewhere(stack()), world_card_frames());
}

/* With the argument "card": over a device whose rings outlive the process; with "crowded": few frames are kept. */
int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "";
    world_open(strcmp(how, "card") == 0, strcmp(how, "crowded") == 0);
    RUN(a_process_dies_at_any_instruction);
    if (world.over_card)
        RUN(a_fresh_arena_leaves_alone_what_rings_hold);
    return 0;
}
