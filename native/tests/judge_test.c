/* What a worker dies of (engine/judge.h), and what the next one is given first (engine/order.h).
 *
 * Three connections of one worker say something; the worker dies while it handles it. What each of them said is told to
 * its next worker once and in order, whatever the order between connections, and wherever the engine is killed as well
 * while it sorts. */
#include <string.h>

#include "../fuzz/arena.h"
#include "check.h"
#include "engine/judge.h"
#include "engine/order.h"
#include "engine/suspects.h"
#include "step.h"

enum { SPEAKERS = 3, SAID_MAX = 16 };

static struct peer *speakers[SPEAKERS]; /* of the honest seat */
static uint32_t serial;
static bool was_condemned;

/* What stands in the ring, by speaker and number of what it said: A0, A1, B0, … */
struct said {
    uint32_t speaker;
    uint32_t length; /* which tells what it was: the number, plus one */
};
static struct said heard[SAID_MAX];
static uint32_t heard_count;

static struct un_port_end *state(void)
{
    return &arena.engine->own->ports[HONEST_PORT];
}

static const struct un_event *event_at(uint32_t i)
{
    const struct un_ring *ring = &state()->events;
    return &un_event_ring(arena.setup.public, HONEST_PORT)[un_ring_slot(ring, ring->seen + i)];
}

static void open_world(void)
{
    uint32_t count = 0;
    arena_open(&carrier_sockets);
    for (uint32_t i = 0; i < PEERS; i++)
        if (arena.peers[i].seat == HONEST)
            speakers[count++] = &arena.peers[i];
    CHECK_EQ(count, SPEAKERS);
    serial = arena.serial;
}

/* Each letter is a speaker, who says something that is one byte longer each time. */
static void say(const char *script)
{
    uint32_t lengths[SPEAKERS] = {0};
    for (; *script; script++) {
        peer_write(speakers[*script - 'A'], ++lengths[*script - 'A']);
        arena_turn();
    }
}

static uint32_t speaker_of(uint64_t conn)
{
    for (uint32_t i = 0; i < SPEAKERS; i++)
        if (speakers[i]->conn == conn)
            return i;
    check_failed(__FILE__, __LINE__, "an event of a speaker");
}

static void read_ring(void)
{
    const struct un_ring *ring = &state()->events;
    heard_count = 0;
    for (uint32_t i = 0; i < un_ring_used(ring); i++)
        if (event_at(i)->type == UN_EVENT_DATA)
            heard[heard_count++] = (struct said){speaker_of(event_at(i)->conn), event_at(i)->length};
}

static char ring_text[SAID_MAX + 1];

static bool ring_is(const char *wanted)
{
    read_ring();
    for (uint32_t i = 0; i < heard_count; i++)
        ring_text[i] = (char)('A' + heard[i].speaker);
    ring_text[heard_count] = 0;
    return strcmp(ring_text, wanted) == 0;
}

#define EXPECT_RING(wanted)                                                                                            \
    do {                                                                                                               \
        bool right_ = ring_is(wanted);                                                                                 \
        if (!right_)                                                                                                   \
            fprintf(stderr, "%s is not %s\n", ring_text, wanted);                                                     \
        CHECK(right_);                                                                                                 \
    } while (0)

/* Of each speaker all that it said, in order. */
static void check_order_of_each(const uint32_t *said)
{
    uint32_t next[SPEAKERS] = {0};
    read_ring();
    for (uint32_t i = 0; i < heard_count; i++)
        CHECK_EQ(heard[i].length, ++next[heard[i].speaker]);
    CHECK_EQ(memcmp(next, said, sizeof next), 0);
}

static void be_in(uint64_t handling)
{
    un_store(&un_port_memory(arena.engine, HONEST_PORT)->handling, handling);
}

/* While it handles what stands at i of the ring. */
static void die_at(uint32_t i)
{
    be_in(UN_HANDLING(state()->events.seen + i));
    was_condemned = un_engine_lost_worker(arena.engine, HONEST_PORT, UN_LOSS_DIED);
}

static void come_again(void)
{
    un_port_close(&arena.honest);
    un_engine_attach_worker(arena.engine, HONEST_PORT, ++serial, true);
    CHECK_EQ(un_port_attach(&arena.honest, arena.setup.public, arena.setup.ports[HONEST_PORT], HONEST_PORT,
                            arena.worker_wakes[HONEST_PORT].to_engine),
             0);
}

static void die_once_at(uint32_t i)
{
    die_at(i);
    CHECK(!was_condemned);
    come_again();
}

static void consume(uint32_t count)
{
    CHECK(un_port_peek(&arena.honest) >= count);
    for (uint32_t i = 0; i < count; i++)
        if (un_port_event(&arena.honest, i)->type == UN_EVENT_DATA)
            un_port_free_frame(&arena.honest, un_port_event(&arena.honest, i)->frame);
    un_port_release(&arena.honest, count);
    un_port_commit(&arena.honest);
    arena_turn();
}

static const struct un_quarantine *found(void)
{
    return un_quarantine_at(arena.setup.public, HONEST_PORT);
}

static const struct un_conn *conn_of(const struct peer *peer)
{
    return un_conn_at(arena.setup.public, UN_ID_SLOT(peer->conn));
}

static void others_are_served_first(void)
{
    open_world();
    say("ABAC");
    die_once_at(0);
    EXPECT_RING("BCAA");
    check_order_of_each((const uint32_t[]){2, 1, 1});
    arena_close();
}

static void known_connections_are_served_before_new_ones(void)
{
    open_world();
    struct peer newcomers[2]; /* one for each seat */
    peer_connect(&newcomers[0]);
    peer_connect(&newcomers[1]);
    speakers[2] = &newcomers[newcomers[1].seat == HONEST];
    CHECK_EQ(speakers[2]->seat, HONEST);
    say("CAB");
    CHECK_EQ(event_at(0)->type, UN_EVENT_CONNECT);
    die_once_at(3);
    EXPECT_RING("ACB");
    CHECK_EQ(event_at(1)->type, UN_EVENT_CONNECT);
    peer_disconnect(&newcomers[0]);
    peer_disconnect(&newcomers[1]);
    arena_close();
}

static void come_from(struct peer *peer, uint8_t address)
{
    struct un_endpoint *endpoint = &un_conn_at(arena.setup.public, UN_ID_SLOT(peer->conn))->peer;
    *endpoint = (struct un_endpoint){.family = UN_FAMILY_IPV4, .ip = {192, 0, 2, address}};
}

/* And its suspects before the rest of what it sent, else a flood would never come to their second trial. */
static void what_a_poisoner_sends_comes_last(void)
{
    open_world();
    come_from(speakers[0], 1);
    come_from(speakers[1], 2);
    come_from(speakers[2], 1);
    say("CABC");
    die_once_at(1);
    EXPECT_RING("BACC");
    consume(2);
    say("B");
    EXPECT_RING("CCB");
    be_in(0);
    CHECK(!un_engine_lost_worker(arena.engine, HONEST_PORT, UN_LOSS_DIED)); /* of something else */
    EXPECT_RING("BCC");
    arena_close();
}

static void an_event_that_two_workers_die_of_is_condemned(void)
{
    open_world();
    say("BACAB");
    die_once_at(1);
    EXPECT_RING("BCBAA");
    consume(3);
    EXPECT_RING("AA");
    die_at(0);
    CHECK(was_condemned);
    CHECK_EQ(found()->conn, speakers[0]->conn);
    CHECK_EQ(found()->event_type, UN_EVENT_DATA);
    CHECK_EQ(found()->length, 1);
    EXPECT_RING("");
    CHECK_EQ(conn_of(speakers[0])->state, UN_CONN_CLOSED);
    CHECK_EQ(conn_of(speakers[1])->state, UN_CONN_OPEN);
    CHECK_EQ(un_load(&arena.engine->counters->closed[UN_REASON_POISONED]), 1);
    CHECK_EQ(state()->suspects, 0);
    arena_close();
}

/* Each of them has its second trial, and not another one's. */
static void suspects_do_not_wait_for_each_other_for_ever(void)
{
    open_world();
    say("ABC");
    die_once_at(0);
    EXPECT_RING("BCA");
    die_once_at(0);
    EXPECT_RING("CBA");
    consume(1);
    die_at(0);
    CHECK(was_condemned);
    CHECK_EQ(found()->conn, speakers[1]->conn);
    come_again();
    EXPECT_RING("A");
    die_at(2); /* behind what is left of the other one */
    CHECK(was_condemned);
    CHECK_EQ(found()->conn, speakers[0]->conn);
    CHECK_EQ(conn_of(speakers[2])->state, UN_CONN_OPEN);
    arena_close();
}

/* The worker died of something else, after it. */
static void what_was_handled_is_no_suspect_any_more(void)
{
    open_world();
    say("ABC");
    die_once_at(0);
    EXPECT_RING("BCA");
    peer_write(speakers[1], 2);
    arena_turn();
    EXPECT_RING("BCAB");
    die_once_at(3);
    EXPECT_RING("CABB");
    consume(1);
    die_once_at(0);
    CHECK_EQ(conn_of(speakers[0])->state, UN_CONN_OPEN);
    die_at(2);
    CHECK(was_condemned);
    CHECK_EQ(found()->conn, speakers[1]->conn);
    arena_close();
}

static void what_was_consumed_leaves_no_suspicion(void)
{
    open_world();
    say("A");
    uint32_t index = state()->events.seen;
    die_once_at(0);
    consume(1);
    CHECK_EQ(state()->suspects, 0);
    while (state()->events.own != index + state()->events.size) {
        peer_write(speakers[1], 1);
        arena_turn();
        consume(1);
    }
    peer_write(speakers[1], 1); /* into the same slot of the ring */
    arena_turn();
    die_once_at(0);
    CHECK_EQ(conn_of(speakers[1])->state, UN_CONN_OPEN);
    arena_close();
}

static void an_event_that_a_worker_hung_in_is_condemned_at_once(void)
{
    open_world();
    say("AB");
    be_in(UN_HANDLING(state()->events.seen + 1));
    CHECK(un_engine_lost_worker(arena.engine, HONEST_PORT, UN_LOSS_HUNG));
    CHECK_EQ(found()->conn, speakers[1]->conn);
    CHECK_EQ(found()->event_type, UN_EVENT_DATA);
    CHECK_EQ(found()->peer.family, UN_FAMILY_UNIX);
    EXPECT_RING("A");
    arena_close();
}

static void nothing_is_condemned_where_no_event_hung(void)
{
    open_world();
    say("AB");
    be_in(0);
    CHECK(!un_engine_lost_worker(arena.engine, HONEST_PORT, UN_LOSS_HUNG));
    EXPECT_RING("AB");
    arena_close();
}

static void a_task_is_counted_and_no_event_is_blamed(void)
{
    open_world();
    say("AB");
    uint32_t slot = UN_ID_SLOT(speakers[1]->conn);
    un_dirty_map(arena.setup.public, arena.setup.ports[HONEST_PORT])[slot] = 1;
    be_in(UN_HANDLING_TASK(slot));
    CHECK(!un_engine_lost_worker(arena.engine, HONEST_PORT, UN_LOSS_DIED));
    CHECK_EQ(un_load(&arena.engine->counters->task_deaths), 1);
    CHECK_EQ(un_load(&arena.engine->counters->redelivered), 0);
    CHECK_EQ(conn_of(speakers[1])->state, UN_CONN_CLOSED);
    CHECK_EQ(state()->suspects, 0);
    arena_close();
}

/* Another worker's, none at all, one that never was. */
static void a_task_of_nobody_is_not_counted(void)
{
    open_world();
    const uint32_t slots[] = {UN_ID_SLOT(arena.peers[0].conn), CONN_MAX - 1, UINT32_MAX};
    CHECK_EQ(arena.peers[0].seat, MAD);
    for (uint32_t i = 0; i < sizeof slots / sizeof *slots; i++) {
        be_in(UN_HANDLING_TASK(slots[i]));
        CHECK(!un_engine_lost_worker(arena.engine, HONEST_PORT, UN_LOSS_DIED));
        come_again();
    }
    CHECK_EQ(un_load(&arena.engine->counters->task_deaths), 0);
    arena_close();
}

/* The engine is killed as well. */

static const uint32_t said_before[SPEAKERS] = {3, 2, 1};

static void watch_memories(void)
{
    step_forget();
    step_watch(arena.setup.private, un_engine_private_bytes(&arena.config));
    step_watch(arena.setup.public, arena.layout.public_bytes);
    step_watch(arena.setup.ports[HONEST_PORT], arena.layout.port_bytes);
}

static void lose(void)
{
    un_engine_lost_worker(arena.engine, HONEST_PORT, UN_LOSS_DIED);
}

static void take_over(void)
{
    CHECK((arena.engine = un_engine_start(&arena.setup)) != NULL);
}

/* Frames of what stands in the ring belong to it, and hold what it says. */
static void check_bytes(void)
{
    for (uint32_t i = 0; i < un_ring_used(&state()->events); i++) {
        const struct un_event *event = event_at(i);
        CHECK_EQ(event->type, UN_EVENT_DATA);
        CHECK(arena.engine->rx_frames[HONEST_PORT][event->frame].references > 0);
    }
}

/* The supervisor asks once more. Afterwards the suspect's events stand at the end, unless the engine was killed between
 * the note that this death is looked into and the mark. */
static void check_sorted_by_successor(void)
{
    take_over();
    check_order_of_each(said_before);
    CHECK_EQ(arena.engine->own->order.port, 0);
    un_engine_lost_worker(arena.engine, HONEST_PORT, UN_LOSS_DIED);
    check_order_of_each(said_before);
    check_bytes();
    CHECK(ring_is("BCBAAA") || (ring_is("ABACBA") && state()->suspects == 0));
    if (state()->suspects > 0) /* the mark went with the event */
        CHECK_EQ(arena.engine->suspects[HONEST_PORT][un_ring_slot(&state()->events, state()->events.seen + 4)], 1);
    CHECK(state()->suspects <= 1);
    CHECK_EQ(state()->attached, false);
}

static void judge_state(void)
{
    step_judge(check_sorted_by_successor);
}

static void killed_while_it_sorts(void)
{
    open_world();
    say("ABACBA");
    be_in(UN_HANDLING(state()->events.seen + 2)); /* its second */
    watch_memories();
    step_through(lose, judge_state);
    arena_close();
}

/* As an engine leaves it that was killed while it copied back. */
static void killed_while_it_completes_what_another_one_sorted(void)
{
    struct un_event before[8];
    open_world();
    say("ABACBA");
    uint32_t first = state()->events.seen, count = un_ring_used(&state()->events);
    for (uint32_t i = 0; i < count; i++)
        before[i] = *event_at(i);
    die_at(2);
    EXPECT_RING("BCBAAA");
    for (uint32_t i = 2; i < count; i++)
        *(struct un_event *)(uintptr_t)event_at(i) = before[i];
    memset(arena.engine->suspects[HONEST_PORT], 0, arena.config.event_slots);
    arena.engine->suspects[HONEST_PORT][un_ring_slot(&state()->events, first + 2)] = 1;
    arena.engine->own->order.port = HONEST_PORT + 1;
    watch_memories();
    step_through(take_over, judge_state);
    arena_close();
}

static void a_mark_goes_with_its_event_to_another_ring(void)
{
    open_world();
    say("AB");
    die_once_at(1);
    uint32_t first = state()->events.seen;
    EXPECT_RING("AB");
    un_suspect_moved(arena.engine, HONEST_PORT, first, MAD_PORT, 5);
    CHECK_EQ(arena.engine->own->ports[MAD_PORT].suspects, 0);
    un_suspect_moved(arena.engine, HONEST_PORT, first + 1, MAD_PORT, 6);
    CHECK_EQ(arena.engine->own->ports[MAD_PORT].suspects, 1);
    CHECK_EQ(arena.engine->suspects[MAD_PORT][6], 1);
    arena_close();
}

int main(void)
{
    RUN(others_are_served_first);
    RUN(known_connections_are_served_before_new_ones);
    RUN(what_a_poisoner_sends_comes_last);
    RUN(an_event_that_two_workers_die_of_is_condemned);
    RUN(suspects_do_not_wait_for_each_other_for_ever);
    RUN(what_was_handled_is_no_suspect_any_more);
    RUN(what_was_consumed_leaves_no_suspicion);
    RUN(an_event_that_a_worker_hung_in_is_condemned_at_once);
    RUN(nothing_is_condemned_where_no_event_hung);
    RUN(a_task_is_counted_and_no_event_is_blamed);
    RUN(a_task_of_nobody_is_not_counted);
    RUN(a_mark_goes_with_its_event_to_another_ring);
    RUN(killed_while_it_sorts);
    RUN(killed_while_it_completes_what_another_one_sorted);
    return 0;
}
