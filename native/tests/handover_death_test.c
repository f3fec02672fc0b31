/* Workers die while a seat changes hands (engine/seats.h), over sockets and over our stack: what they left unread goes
 * to the current port, in its order, and nothing else waits for it. */
#include <errno.h>

#include "engine/conns.h"
#include "engine/engine.h"
#include "engine/receive.h"
#include "engine/seats.h"
#include "hands.h"

/* One of them is gone. */

/* More than its ring holds: some of it stands in the ring, some stays in the transport. */
static void overwhelm(uint32_t rounds_count)
{
    for (uint32_t i = 0; i < rounds_count; i++)
        for (uint32_t peer = 0; peer < peer_count(); peer++)
            say(peer_at(peer), 5 + 3 * peer);
}

static void events_of_a_dead_worker_are_copied_in_their_order(void)
{
    open_seat();
    left->manner = IS_SILENT;
    overwhelm(6);
    CHECK(un_ring_used(&arena.engine->own->ports[left->port].events) == arena.config.event_slots);
    sit(right);
    turns(3);
    die(left);
    turns(3);
    CHECK_EQ(vacancies(left), 1); /* all fit */
    hear_echoes();
    all_are_at(right);
    all_go_on();
    close_seat();
}

/* The left one keeps the first connection, all others have moved to the right. */
static void share_out(void)
{
    left->manner = KEEPS;
    sit(right);
    rounds(20);
    left->manner = RELEASES;
    for (uint32_t i = 1; i < peer_count(); i++)
        CHECK(un_port_command(&left->end, UN_COMMAND_SETTLED, peer_at(i)->conn, 0));
    rounds(20);
    CHECK(is_at(peer_at(0), left));
    CHECK_EQ(arena.engine->own->ports[right->port].connections, peer_count() - 1);
}

static uint32_t unread(const struct hand *hand)
{
    return un_ring_used(&arena.engine->own->ports[hand->port].events);
}

static void fill_both_rings(void)
{
    for (uint32_t i = 0; i < 2 * arena.config.event_slots; i++)
        for (uint32_t peer = 0; peer < 2; peer++)
            say(peer_at(peer), 3);
    CHECK_EQ(unread(left), arena.config.event_slots);
    CHECK_EQ(unread(right), arena.config.event_slots);
}

static void copying_waits_for_space(void)
{
    open_seat();
    share_out();
    fill_both_rings();
    die(left);
    turns(3);
    CHECK_EQ(unread(left), arena.config.event_slots);
    CHECK_EQ(try_to_sit(left, true), -EBUSY);
    serve_some(right, 1);
    turns(1);
    CHECK_EQ(unread(left), arena.config.event_slots - 1);
    CHECK_EQ(vacancies(left), 0);
    hear_echoes();
    all_are_at(right);
    all_go_on();
    CHECK_EQ(vacancies(left), 1);
    CHECK_EQ(try_to_sit(left, true), 0);
    close_seat();
}

static void half_close_first(void)
{
    carrier->half_close(peer_at(0)->fd);
    turns(3);
    CHECK_EQ(unread(left), 1);
}

static void take_all_frames(const struct hand *hand)
{
    struct un_port_end *state = &arena.engine->own->ports[hand->port];
    state->rx_free = state->rx_open = UN_NONE;
    state->rx_free_count = 0;
}

/* Where there is none, an event without bytes does not wait for a frame, nor does a turn that copies it sleep. */
static void copying_waits_for_a_frame_only_if_there_are_bytes(void)
{
    for (int with_bytes = 0; with_bytes < 2; with_bytes++) {
        open_seat();
        share_out();
        if (with_bytes)
            say(peer_at(0), 3);
        else
            half_close_first();
        die(left);
        arena.engine->own->ports[left->port].cursor = UN_NONE; /* the table was looked through */
        take_all_frames(right);
        CHECK_EQ(un_seats_sleep(arena.engine) == UN_ENGINE_AWAKE, !with_bytes);
        turns(1);
        CHECK_EQ(unread(left), with_bytes);
        un_rx_rebuild_free(arena.engine, right->port);
        CHECK_EQ(un_seats_sleep(arena.engine) == UN_ENGINE_AWAKE, with_bytes);
        turns(1);
        CHECK_EQ(unread(left), 0);
        close_seat();
    }
}

/* The copying has begun: what is left can only go where the rest is. */
static void the_heir_dies_while_events_are_copied(void)
{
    open_seat();
    share_out();
    fill_both_rings();
    die(left);
    serve_some(right, 3);
    turns(1);
    CHECK_EQ(unread(left), arena.config.event_slots - 3);
    die(right);
    turns(3);
    CHECK_EQ(try_to_sit(left, true), -EBUSY);
    sit(right);
    hear_echoes();
    all_are_at(right);
    all_go_on();
    CHECK_EQ(try_to_sit(left, true), 0);
    close_seat();
}

/* It ends while some of it lies in either ring: its end is told behind all that. */
static void a_connection_ends_while_its_events_are_copied(void)
{
    open_seat();
    share_out();
    fill_both_rings();
    die(left);
    serve_some(right, 3);
    turns(1);
    un_engine_conn_ended(arena.engine, peer_at(0)->conn, UN_REASON_RESET);
    uint32_t heard = right->heard;
    for (uint32_t i = 0; i < 100 && right->closed == 0; i++) {
        arena_turn();
        serve_some(right, 1);
    }
    CHECK_EQ(right->closed, 1);
    CHECK(right->heard >= heard + 2 * arena.config.event_slots - 3);
    rounds(3);
    CHECK_EQ(conn_of(peer_at(0))->state, UN_CONN_FREE);
    CHECK_EQ(vacancies(left), 1);
    close_seat();
}

static uint32_t index_of_data(const struct hand *hand, uint64_t conn)
{
    const struct un_ring *ring = &arena.engine->own->ports[hand->port].events;
    uint32_t index = ring->seen;
    for (;; index++) {
        CHECK(index != ring->own);
        const struct un_event *event = &un_event_ring(arena.setup.public, hand->port)[un_ring_slot(ring, index)];
        if (event->type == UN_EVENT_DATA && event->conn == conn)
            return index;
    }
}

static bool die_of(struct hand *hand, struct peer *peer)
{
    un_store(&un_port_memory(arena.engine, hand->port)->handling, UN_HANDLING(index_of_data(hand, peer->conn)));
    un_port_close(&hand->end);
    hand->sits = false;
    return un_engine_lost_worker(arena.engine, hand->port, UN_LOSS_DIED);
}

static void an_event_that_a_worker_died_of_is_a_suspect_at_its_new_place(void)
{
    open_seat();
    struct peer *peer = peer_at(0);
    for (uint32_t i = 0; i < 3; i++)
        say(peer_at(i), 3);
    sit(right);
    CHECK(!die_of(left, peer));
    turns(3);
    CHECK_EQ(unread(left), 0);
    CHECK(die_of(right, peer));
    CHECK_EQ(un_load(&arena.engine->counters->closed[UN_REASON_POISONED]), 1);
    close_seat();
}

/* Nothing of it is unread, so nothing holds it up. */
static void a_connection_without_events_moves_at_once(void)
{
    open_seat();
    left->manner = IS_SILENT;
    for (uint32_t i = 0; i < 4; i++)
        say(peer_at(0), 3);
    sit(right);
    turns(3); /* the others are asked */
    say(peer_at(1), 3);
    die(left);
    right->manner = IS_SILENT;
    turns(1);
    CHECK(is_at(peer_at(1), right) && is_at(peer_at(2), right));
    turns(1);
    CHECK_EQ(unread(right), 5);
    CHECK_EQ(unread(left), 0);
    hear_echoes();
    all_are_at(right);
    close_seat();
}

static void a_successor_that_dies_leaves_the_old_worker_working(void)
{
    open_seat();
    left->manner = KEEPS;
    sit(right);
    rounds(20);
    die(right);
    left->manner = RELEASES;
    for (uint32_t i = 0; i < peer_count(); i++)
        CHECK(un_port_command(&left->end, UN_COMMAND_SETTLED, peer_at(i)->conn, 0));
    rounds(20);
    CHECK_EQ(left->asked, peer_count()); /* there is nobody to give them to */
    all_are_at(left);
    all_go_on();
    sit(right); /* a spare takes its port */
    rounds(20);
    all_are_at(right);
    all_go_on();
    close_seat();
}

static void what_moved_waits_for_a_spare_when_the_successor_dies(void)
{
    open_seat();
    sit(right);
    rounds(20);
    die(right);
    for (uint32_t i = 0; i < peer_count(); i++)
        say(peer_at(i), 20);
    rounds(5);
    all_are_at(right);
    sit(right);
    hear_echoes();
    CHECK_EQ(right->resumed, peer_count());
    all_go_on();
    close_seat();
}

static void both_die_and_the_next_worker_may_come_to_either_port(void)
{
    for (uint32_t side = 0; side < UN_PORTS; side++) {
        open_seat();
        left->manner = IS_SILENT;
        sit(right);
        turns(3);
        serve_some(left, 1); /* one question was heard, others are unread */
        CHECK(un_port_command(&left->end, UN_COMMAND_RELEASE, peer_at(0)->conn, 0));
        un_port_commit(&left->end);
        turns(2);
        for (uint32_t i = 0; i < peer_count(); i++)
            say(peer_at(i), 20);
        die(right);
        die(left);
        rounds(5);
        for (uint32_t i = 0; i < peer_count(); i++)
            say(peer_at(i), 20);
        sit(&hands[side]);
        hear_echoes();
        all_are_at(&hands[side]);
        all_go_on();
        CHECK_EQ(arena.engine->own->ports[hands[!side].port].moving, 0);
        close_seat();
    }
}

static void dirty_connections_of_a_dead_leaving_worker_are_reset_and_no_other(void)
{
    open_seat();
    left->manner = KEEPS;
    struct peer *peer = peer_at(0);
    un_port_set_dirty(&left->end, peer->conn, true);
    sit(right);
    rounds(20);
    CHECK(un_port_command(&left->end, UN_COMMAND_SETTLED, peer_at(1)->conn, 0));
    left->manner = RELEASES;
    rounds(5);
    un_port_set_dirty(&left->end, peer_at(1)->conn, true); /* no more its own */
    die(left);
    CHECK_EQ(un_load(&arena.engine->counters->dirty_resets), 1);
    rounds(10);
    CHECK_EQ(right->closed, 1);
    CHECK_EQ(conn_of(peer)->state, UN_CONN_FREE);
    CHECK_EQ(vacancies(left), 1);
    CHECK(is_at(peer_at(1), right) && is_at(peer_at(2), right));
    close_seat();
}

static void over(const struct carrier *which)
{
    carrier = which;
    RUN(events_of_a_dead_worker_are_copied_in_their_order);
    RUN(copying_waits_for_space);
    RUN(copying_waits_for_a_frame_only_if_there_are_bytes);
    RUN(a_connection_without_events_moves_at_once);
    RUN(a_successor_that_dies_leaves_the_old_worker_working);
    RUN(what_moved_waits_for_a_spare_when_the_successor_dies);
    RUN(both_die_and_the_next_worker_may_come_to_either_port);
    RUN(the_heir_dies_while_events_are_copied);
    RUN(a_connection_ends_while_its_events_are_copied);
    RUN(an_event_that_a_worker_died_of_is_a_suspect_at_its_new_place);
    RUN(dirty_connections_of_a_dead_leaving_worker_are_reset_and_no_other);
}

int main(void)
{
    over(&carrier_sockets);
    over(&carrier_stack);
    return 0;
}
