/* The end of all connections (engine/ending.c), over sockets and our stack: a peer sees an end in order if nothing of
 * its connection was under way, and is reset otherwise. And the end of a connection that was closed. */
#include <errno.h>

#include "engine/conns.h"
#include "engine/engine.h"
#include "engine/transport.h"
#include "hands.h"

enum sight { SEES_END, SEES_RESET };

enum { ACKNOWLEDGED = 500 }; /* turns, of 100 us over our stack: a delayed ACK has come then */

static void open_idle_seat(void)
{
    open_seat();
    turns(ACKNOWLEDGED);
}

static struct peer *first(void)
{
    return peer_at(0);
}

/* What is left to read is thrown away. */
static enum sight sight_of(const struct peer *peer)
{
    uint8_t bytes[4096];
    ssize_t length = 0;
    for (int i = 0; i < 100; i++) {
        length = carrier->receive(peer->fd, bytes, sizeof bytes);
        if (length == 0 || (length < 0 && errno != EAGAIN))
            break;
    }
    CHECK(length == 0 || (length < 0 && errno == ECONNRESET));
    return length == 0 ? SEES_END : SEES_RESET;
}

static uint64_t unfinished(void)
{
    return un_load(&arena.engine->counters->unfinished_resets);
}

/* Of a unix socket a peer sees a reset only if it said something that nobody read. */
static bool is_told_of_resets(void)
{
    return carrier == &carrier_stack;
}

static void end_all(void)
{
    un_engine_end_all(arena.engine, UN_REASON_SHUTDOWN);
    for (uint32_t i = 0; i < PEERS; i++)
        if (arena.peers[i].fd >= 0)
            CHECK(!un_is_alive(conn_of(&arena.peers[i])));
}

/* All others are done. */
static void the_first_is_not_done(void)
{
    end_all();
    CHECK_EQ(unfinished(), 1);
    if (is_told_of_resets())
        CHECK_EQ(sight_of(first()), SEES_RESET);
    for (uint32_t i = 1; i < peer_count(); i++)
        CHECK_EQ(sight_of(peer_at(i)), SEES_END);
    close_seat();
}

static void all_are_done(void)
{
    end_all();
    CHECK_EQ(unfinished(), 0);
    for (uint32_t i = 0; i < peer_count(); i++)
        CHECK_EQ(sight_of(peer_at(i)), SEES_END);
    CHECK_EQ(un_load(&arena.engine->counters->closed[UN_REASON_SHUTDOWN]), PEERS);
    close_seat();
}

static void who_is_idle_is_ended_in_order(void)
{
    open_idle_seat();
    all_are_done();
}

static void nobody_read_what_came(void)
{
    open_idle_seat();
    say(first(), 10);
    the_first_is_not_done();
}

static void pause(struct peer *peer)
{
    CHECK(un_port_command(&left->end, UN_COMMAND_PAUSE, peer->conn, 0));
    un_port_commit(&left->end);
    arena_turn();
}

static void nobody_received_what_came(void)
{
    open_idle_seat();
    pause(first());
    say(first(), 10);
    CHECK_EQ(un_port_peek(&left->end), 0);
    end_all();
    CHECK_EQ(unfinished(), 1);
    CHECK_EQ(sight_of(first()), SEES_RESET);
    close_seat();
}

static void the_peer_has_ended_and_waits_for_an_answer(void)
{
    open_idle_seat();
    carrier->half_close(first()->fd);
    rounds(3);
    the_first_is_not_done();
}

static void output_waits_for_a_slow_peer(void)
{
    open_idle_seat();
    for (uint32_t i = 0; i < 20000 && !(conn_of(first())->flags & UN_CONN_BLOCKED); i++) {
        peer_write(first(), ECHO_MAX);
        rounds(1);
    }
    CHECK(work_of(first())->tx_head != UN_NONE);
    turns(3);
    serve(left);
    the_first_is_not_done();
}

static void something_is_in_no_commit(void)
{
    open_idle_seat();
    un_port_set_dirty(&left->end, first()->conn, true);
    the_first_is_not_done();
}

/* The kernel goes on to deliver what it took. Of our stack nobody is left that would send it once more. */
static void an_answer_was_not_taken_yet(void)
{
    open_idle_seat();
    say(first(), 10);
    serve(left);
    if (carrier == &carrier_stack) {
        the_first_is_not_done();
        return;
    }
    end_all();
    CHECK_EQ(unfinished(), 0);
    uint8_t bytes[100];
    CHECK_EQ(carrier->receive(first()->fd, bytes, sizeof bytes), 10);
    CHECK_EQ(sight_of(first()), SEES_END);
    close_seat();
}

static void a_worker_writes_nonsense(void)
{
    open_idle_seat();
    un_store(&un_port_memory(arena.engine, left->port)->commit, UINT64_MAX);
    end_all();
    CHECK_EQ(unfinished(), peer_count());
    close_seat();
}

static void who_lingers_has_said_all(void)
{
    open_idle_seat();
    CHECK(un_port_command(&left->end, UN_COMMAND_CLOSE, first()->conn, 0));
    un_port_commit(&left->end);
    turns(3);
    CHECK_EQ(conn_of(first())->state, UN_CONN_LINGER);
    all_are_done();
}

/* Of a worker that cannot resume. */
static void the_worker_goes(enum un_loss how, bool stops)
{
    arena.engine->own->ports[left->port].resumes = false;
    if (stops)
        un_engine_stop_accepting(arena.engine);
    un_port_close(&left->end);
    left->sits = false;
    un_engine_lost_worker(arena.engine, left->port, how);
}

static void connections_of_a_worker_that_left_wait_for_the_end_of_the_stop(void)
{
    open_idle_seat();
    the_worker_goes(UN_LOSS_LEFT, true);
    CHECK(un_is_alive(conn_of(first())));
    all_are_done();
}

static void those_of_one_that_died_are_reset(void)
{
    for (int stops = 0; stops < 2; stops++) {
        open_idle_seat();
        the_worker_goes(stops ? UN_LOSS_DIED : UN_LOSS_LEFT, stops);
        CHECK(!un_is_alive(conn_of(first())));
        CHECK_EQ(un_load(&arena.engine->counters->closed[UN_REASON_WORKER_LOST]), peer_count());
        close_seat();
    }
}

static void nobody_inherits_what_only_the_last_worker_could_go_on_with(void)
{
    for (uint32_t side = 0; side < UN_PORTS; side++) {
        open_idle_seat();
        the_worker_goes(UN_LOSS_LEFT, true);
        sit(&hands[side]);
        CHECK_EQ(un_load(&arena.engine->counters->closed[UN_REASON_WORKER_LOST]), peer_count());
        rounds(3);
        CHECK_EQ(hands[side].heard, 0);
        close_seat();
    }
}

/* Whether output is owed. */

static struct un_transport counting;
static uint32_t asked;

static uint32_t count_asked(struct un_engine *engine, int handle)
{
    asked++;
    return (carrier == &carrier_stack ? &un_stack_transport : &un_kernel_transport)->undelivered(engine, handle);
}

static bool owes(void)
{
    asked = 0;
    return un_engine_owes_output(arena.engine);
}

/* Each costs a system call, and a stop asks again and again. */
static void the_transport_is_asked_of_new_output_alone(void)
{
    open_idle_seat();
    counting = *arena.engine->transport;
    counting.undelivered = count_asked;
    arena.engine->transport = &counting;
    CHECK(!owes());
    CHECK_EQ(asked, peer_count()); /* others have sent nothing */
    CHECK(!owes());
    CHECK_EQ(asked, 0);
    say(first(), 10);
    serve(left);
    turns(1);
    CHECK(owes());
    CHECK_EQ(asked, 1);
    hear_echoes();
    turns(ACKNOWLEDGED);
    CHECK(!owes());
    close_seat();
}

/* A connection that was closed, and whose peer has not ended. */

static uint32_t left_over; /* bytes that the transport has and the peer has not taken */

static uint32_t count_left_over(struct un_engine *engine, int handle)
{
    (void)engine;
    (void)handle;
    return left_over;
}

static bool still_lingers_at_its_deadline(uint32_t bytes)
{
    left_over = bytes;
    work_of(first())->deadline_ns = 1;
    arena.engine->own->swept_ns = 0;
    un_engine_conn_sweep_deadlines(arena.engine);
    return conn_of(first())->state == UN_CONN_LINGER;
}

static void open_lingering_seat(void)
{
    open_idle_seat();
    counting = *arena.engine->transport;
    counting.undelivered = count_left_over;
    arena.engine->transport = &counting;
    CHECK(un_port_command(&left->end, UN_COMMAND_CLOSE, first()->conn, 0));
    un_port_commit(&left->end);
    turns(3);
    CHECK_EQ(conn_of(first())->state, UN_CONN_LINGER);
}

static void a_peer_that_takes_the_rest_is_waited_for(void)
{
    open_lingering_seat();
    CHECK(still_lingers_at_its_deadline(3000));
    CHECK(still_lingers_at_its_deadline(2000));
    CHECK(still_lingers_at_its_deadline(1));
    CHECK(!still_lingers_at_its_deadline(1));
    close_seat();
}

static void one_that_has_all_and_does_not_end_is_reset(void)
{
    open_lingering_seat();
    CHECK(!still_lingers_at_its_deadline(0));
    CHECK_EQ(un_load(&arena.engine->counters->closed[UN_REASON_LOCAL]), 1);
    close_seat();
}

static void over(const struct carrier *which)
{
    carrier = which;
    RUN(who_is_idle_is_ended_in_order);
    RUN(nobody_read_what_came);
    RUN(nobody_received_what_came);
    RUN(the_peer_has_ended_and_waits_for_an_answer);
    RUN(output_waits_for_a_slow_peer);
    RUN(something_is_in_no_commit);
    RUN(an_answer_was_not_taken_yet);
    RUN(a_worker_writes_nonsense);
    RUN(who_lingers_has_said_all);
    RUN(connections_of_a_worker_that_left_wait_for_the_end_of_the_stop);
    RUN(those_of_one_that_died_are_reset);
    RUN(nobody_inherits_what_only_the_last_worker_could_go_on_with);
    RUN(the_transport_is_asked_of_new_output_alone);
    RUN(a_peer_that_takes_the_rest_is_waited_for);
    RUN(one_that_has_all_and_does_not_end_is_reset);
}

int main(void)
{
    over(&carrier_sockets);
    over(&carrier_stack);
    return 0;
}
