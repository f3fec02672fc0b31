/* Takeover (P10) over a stack of our own: an engine killed at any instruction of a turn, or of a takeover, leaves an
 * engine's and a stack's memory with which the next one goes on. No connection ends for it, both sides know the same
 * connections and bytes afterwards, and nothing of the stack is lost. Sanitized, every 16th state is judged. */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "check.h"
#include "engine/peers.h"
#include "engine/watch.h"
#include "server.h"
#include "stack/arena.h"
#include "step.h"

static uint32_t states;

/* All connections are those of one peer. */
static void check_peers(struct un_engine *engine, uint32_t alive)
{
    struct un_endpoint peer = {.ip = {10, 0, 0, 2}, .family = UN_FAMILY_IPV4};
    struct un_engine_options options = *engine->options;
    const struct un_engine_options *given = engine->options;
    engine->options = &options;
    options.max_connections_per_peer = alive + 1;
    CHECK(!un_peers_is_full(engine, &peer));
    options.max_connections_per_peer = alive;
    CHECK(alive == 0 || un_peers_is_full(engine, &peer));
    engine->options = given;
}

/* The connections that the engine has are the stack's, and the other way round. */
static void check_both_sides(struct un_engine *engine)
{
    struct un_stack *stack = &engine->link->stack;
    uint32_t alive = 0, accepted = 0;
    for (uint32_t slot = 0; slot < engine->own->conn_high; slot++) {
        const struct un_conn *conn = un_slot(engine, slot);
        if (!un_is_alive(conn))
            continue;
        const struct un_tcb *tcb = &stack->tcp.tcbs[engine->works[slot].handle];
        CHECK_EQ(tcb->user, un_load(&conn->id));
        CHECK(tcb->flags & UN_TCB_ACCEPTED);
        CHECK(tcb->state & (UN_TCP_SYNCHRONIZED | UN_TCP_DEAD)); /* of one that is over the engine is told next */
        alive++;
    }
    for (uint32_t slot = 0; slot < un_stack_slots(stack); slot++) {
        const struct un_tcb *tcb = &stack->tcp.tcbs[slot];
        accepted += tcb->state != UN_TCP_CLOSED && tcb->flags & UN_TCB_ACCEPTED && !(tcb->flags & UN_TCB_DETACHED);
    }
    CHECK_EQ(alive, accepted);
    check_peers(engine, alive);
}

/* Of each send frame: what was taken from the worker and is not done stands in a connection's output, or waits in the
 * stack to be acknowledged. */
static uint32_t waiting_in(struct un_engine *engine, uint32_t port, uint32_t frame)
{
    const struct un_pool *pool = &engine->link->stack.tcp.pool;
    const struct un_node *entry;
    uint32_t waiting = 0;
    for (uint32_t slot = 0; slot < engine->own->conn_high; slot++) {
        uint32_t node = un_is_alive(un_slot(engine, slot)) ? engine->works[slot].tx_head : UN_NONE;
        for (; node != UN_NONE; node = entry->next) {
            entry = un_node_at(engine, port, node);
            waiting += un_node_port(port, node) == port && entry->frame == frame;
        }
    }
    for (uint32_t i = pool->own->count; i < pool->own->count + pool->own->lent_count; i++)
        waiting += pool->frames[i].references > 0 && pool->frames[i].flags == port &&
                   pool->frames[i].seq / server.config.tx_frame_bytes == frame;
    return waiting;
}

static void check_accounts(struct un_engine *engine)
{
    for (uint32_t port = 0; port < UN_PORTS; port++)
        for (uint32_t frame = 0; frame < server.config.tx_frames; frame++) {
            const struct un_tx_account *account = &un_tx_accounts(server.setup.public, port)[frame];
            CHECK_EQ(un_load(&account->queued) - un_load(&account->done), waiting_in(engine, port, frame));
        }
}

static uint64_t heard(const struct un_engine *engine, uint64_t conn)
{
    uint64_t bytes = 0;
    for (uint32_t port = 0; port < UN_PORTS; port++) {
        const struct un_ring *ring = &engine->own->ports[port].events;
        for (uint32_t i = ring->seen; i != ring->own; i++) {
            const struct un_event *event = &un_event_ring(server.setup.public, port)[un_ring_slot(ring, i)];
            bytes += event->conn == conn && event->type == UN_EVENT_DATA ? event->length : 0;
        }
    }
    return bytes;
}

static uint64_t unsent(struct un_engine *engine, uint32_t slot)
{
    const struct un_work *work = &engine->works[slot];
    uint64_t bytes = 0;
    for (uint32_t node = work->tx_head; node != UN_NONE; node = un_node_at(engine, LEFT, node)->next)
        bytes += un_node_at(engine, LEFT, node)->length;
    return bytes - work->tx_sent;
}

/* What the stack gave is in the ring, what it took has left the queue, and nothing else: the worker had consumed all
 * before. That the stack itself loses nothing is tested with it. */
static void check_bytes(struct un_engine *engine)
{
    struct un_stack *stack = &engine->link->stack;
    for (uint32_t slot = 0; slot < engine->own->conn_high; slot++) {
        struct un_conn *conn = un_slot(engine, slot);
        uint64_t taken, given;
        if (conn->state != UN_CONN_OPEN)
            continue;
        uint64_t handle = un_stack_handle(stack, &stack->tcp.tcbs[engine->works[slot].handle]);
        CHECK_EQ(un_stack_conn_counts(stack, handle, &taken, &given), 0);
        CHECK_EQ(taken, un_load(&conn->bytes_in));
        CHECK_EQ(given, un_load(&conn->bytes_out));
        CHECK_EQ(heard(engine, un_load(&conn->id)), taken);
        CHECK_EQ(unsent(engine, slot), un_load(&conn->bytes_queued) - given);
        CHECK_EQ(unsent(engine, slot), engine->works[slot].tx_bytes);
    }
}

static void check_takeover(void)
{
    struct un_engine *engine = un_engine_start(&server.setup);
    CHECK(engine != NULL);
    const char *wrong = un_stack_check(&engine->link->stack);
    if (wrong)
        check_failed(__FILE__, __LINE__, wrong);
    check_both_sides(engine);
    check_accounts(engine);
    CHECK_EQ(un_load(&engine->counters->closed[UN_REASON_NETWORK_LOST]), 0);
    check_bytes(engine);
    un_engine_turn(engine, 0);
    check_both_sides(engine);
    check_accounts(engine);
    check_bytes(engine);
    CHECK(un_stack_check(&engine->link->stack) == NULL);
}

static void judge(void)
{
    if (!UN_TEST_SANITIZED || states++ % 16 == 0)
        step_judge(check_takeover);
}

static void start(void)
{
    server_open();
    step_forget();
}

static void killed_while_a_connection_begins(void)
{
    start();
    client_connect();
    clients_turn(); /* SYN */
    server_turn();
    clients_turn(); /* ACK */
    server_step(server_turn, judge);
}

static void killed_while_a_request_comes_and_an_answer_leaves(void)
{
    start();
    worker_send(server.conns[0], 1000);
    client_send(server.clients[1], 300);
    server_step(server_turn, judge);
}

/* The second answer is long, and stays where the worker wrote it. */
static void killed_while_an_answer_is_lent(void)
{
    start();
    worker_send(server.conns[0], 1000);
    worker_send(server.conns[1], 1500);
    server_step(server_turn, judge);
}

static void killed_while_a_lent_answer_is_acknowledged(void)
{
    start();
    worker_send(server.conns[1], 1400);
    server_turn();
    CHECK_EQ(server.engine->link->stack.published->tcp.lent, 1);
    clients_turn(); /* the acknowledgement */
    server_step(server_turn, judge);
}

static void killed_while_the_worker_aborts_what_is_lent(void)
{
    start();
    worker_send(server.conns[1], 1500);
    server_turn();
    CHECK(un_port_command(&server.worker, UN_COMMAND_ABORT, server.conns[1], UN_REASON_ABORTED));
    un_port_commit(&server.worker);
    server_step(server_turn, judge);
}

static void killed_while_the_peer_ends_it(void)
{
    start();
    CHECK_EQ(un_stack_shutdown(&server.far, server.clients[0]), 0);
    clients_turn();
    server_step(server_turn, judge);
}

static void killed_while_the_worker_aborts_it(void)
{
    start();
    CHECK(un_port_command(&server.worker, UN_COMMAND_ABORT, server.conns[0], UN_REASON_ABORTED));
    un_port_commit(&server.worker);
    server_step(server_turn, judge);
}

static void killed_while_the_worker_closes_it(void)
{
    start();
    CHECK(un_port_command(&server.worker, UN_COMMAND_CLOSE, server.conns[0], 0));
    un_port_commit(&server.worker);
    server_step(server_turn, judge);
}

static void end_all(void)
{
    un_engine_end_all(server.engine, UN_REASON_SHUTDOWN);
}

/* One in order, the other one not. */
static void killed_while_all_are_ended(void)
{
    start();
    client_send(server.clients[1], 300);
    server_turn();
    server_step(end_all, judge);
}

/* The seat changes hands. */

static void a_successor_sits(void)
{
    CHECK_EQ(un_engine_attach_worker(server.engine, RIGHT, 2, true), 0);
}

static void lose_worker(void)
{
    un_engine_lost_worker(server.engine, LEFT, UN_LOSS_DIED);
}

static void killed_while_a_successor_sits_down(void)
{
    start();
    worker_send(server.conns[1], 1400);
    server_turn();
    server_step(a_successor_sits, judge);
}

static void killed_while_a_worker_is_asked(void)
{
    start();
    a_successor_sits();
    client_send(server.clients[1], 300);
    server_step(server_turn, judge);
}

static void killed_while_what_is_lent_is_given_up(void)
{
    start();
    worker_send(server.conns[0], 1400);
    a_successor_sits();
    server_turn();
    worker_take();
    client_send(server.clients[0], 300);
    server_step(server_turn, judge);
}

/* More than the window of its peer takes. */
static void killed_while_unsent_output_is_given_up(void)
{
    start();
    const struct un_conn *conn = un_conn_at(server.setup.public, UN_ID_SLOT(server.conns[0]));
    for (int i = 0; i < 200 && !(conn->flags & UN_CONN_BLOCKED); i++) {
        if (un_port_send(&server.worker, server.conns[0], server.setup.public, 900) == 900)
            un_port_commit(&server.worker);
        server_turn();
        clients_turn();
    }
    CHECK(conn->flags & UN_CONN_BLOCKED);
    a_successor_sits();
    server_turn();
    worker_take();
    server_step(server_turn, judge);
}

static void unread_events(void)
{
    start();
    client_send(server.clients[0], 300);
    client_send(server.clients[1], 40);
    server_turn();
    a_successor_sits();
    server_turn();
    client_send(server.clients[0], 200); /* withheld */
    server_turn();
}

static void killed_while_a_leaving_worker_is_lost(void)
{
    unread_events();
    server_step(lose_worker, judge);
}

static void killed_while_its_events_are_copied(void)
{
    unread_events();
    lose_worker();
    server_step(server_turn, judge);
}

/* Listeners. The request that the dead engine was at is repeated. */

static const struct un_listening another = {.fd = -1, .port = SERVER_PORT + 1};

static void listen_on_another(void)
{
    CHECK_EQ(un_engine_listen(server.engine, 1, &another), 0);
}

static void unlisten_another(void)
{
    CHECK_EQ(un_engine_unlisten(server.engine, 1), 0);
}

static uint32_t open_listeners(const struct un_engine *engine)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < UN_STACK_LISTENERS_MAX; i++)
        count += engine->link->stack.own->listeners[i].is_open;
    return count;
}

static void check_listening(void)
{
    struct un_engine *engine = un_engine_start(&server.setup);
    CHECK(engine != NULL);
    CHECK_EQ(un_engine_listen(engine, 1, &another), 0);
    CHECK_EQ(open_listeners(engine), 2);
    CHECK_EQ(un_engine_unlisten(engine, 1), 0);
    CHECK_EQ(open_listeners(engine), 1);
    CHECK_EQ(un_engine_listen(engine, 0, &another), -EEXIST);
    CHECK(un_stack_check(&engine->link->stack) == NULL);
}

static void judge_listening(void)
{
    step_judge(check_listening);
}

static void killed_while_it_listens_on_more(void)
{
    start();
    server_step(listen_on_another, judge_listening);
}

static void killed_while_it_listens_on_less(void)
{
    start();
    listen_on_another();
    server_step(unlisten_another, judge_listening);
}

static void take_over(void)
{
    CHECK(un_engine_start(&server.setup) != NULL);
}

static void killed_while_it_takes_over(void)
{
    start();
    client_send(server.clients[1], 300);
    worker_send(server.conns[0], 1000);
    server_step(take_over, judge);
}

/* Not stepped: what a client sees of it. */
/* ---- without frames ---- */

#define LOOKS 32 /* turns, in which descriptors are looked at */

static bool is_told_of_device(void)
{
    struct epoll_event events[UN_PORTS_MAX];
    int count = epoll_wait(server.setup.epoll_fd, events, UN_PORTS_MAX, 0);
    for (int i = 0; i < count; i++)
        if (UN_WATCHED_KIND(events[i].data.u64) == UN_WATCHED_DEVICE)
            return true;
    return false;
}

static void next_engine(void)
{
    struct un_engine *dead = server.engine;
    server.engine = un_engine_start(&server.setup);
    CHECK(server.engine != NULL);
    un_exchange_close(&dead->link->exchange);
    free(dead->link);
    free(dead);
}

static bool is_told_after_looks(bool lacks_frames)
{
    server.wire[0]->lacks_frames = lacks_frames;
    for (int i = 0; i < LOOKS; i++)
        server_turn();
    return is_told_of_device();
}

/* Its descriptor tells of packets all the time, as that of a TAP queue does. */
static void a_device_without_frames_keeps_no_engine_awake(void)
{
    int fd = eventfd(1, EFD_CLOEXEC);
    CHECK(fd >= 0);
    server_open();
    server.wire[0]->fd = fd;
    next_engine();
    CHECK(is_told_after_looks(false));
    CHECK(!is_told_after_looks(true));
    CHECK(is_told_after_looks(false));
    CHECK(!is_told_after_looks(true));
    next_engine(); /* over the same epoll set */
    CHECK(is_told_of_device());
    CHECK(!is_told_after_looks(true));
    server.wire[0]->fd = -1;
    close(fd);
    server_close();
}

static void connections_go_on_with_the_next_engine(void)
{
    start();
    struct un_engine *dead = server.engine;
    server.engine = un_engine_start(&server.setup);
    CHECK(server.engine != NULL);
    client_send(server.clients[0], 500);
    server_turn();
    CHECK_EQ(un_port_peek(&server.worker), 1);
    CHECK_EQ(un_port_event(&server.worker, 0)->length, 500);
    worker_send(server.conns[0], 700);
    server_turn();
    clients_turn();
    CHECK_EQ(un_stack_conn_find(&server.far, server.clients[0])->rcv_bytes, 700);
    for (uint32_t i = 0; i < CLIENTS; i++)
        CHECK(client_is_open(server.clients[i]));
    un_exchange_close(&dead->link->exchange);
    free(dead->link);
    free(dead);
    server_close();
}

int main(void)
{
    RUN(a_device_without_frames_keeps_no_engine_awake);
    RUN(connections_go_on_with_the_next_engine);
    RUN(killed_while_a_connection_begins);
    RUN(killed_while_a_request_comes_and_an_answer_leaves);
    RUN(killed_while_an_answer_is_lent);
    RUN(killed_while_a_lent_answer_is_acknowledged);
    RUN(killed_while_the_worker_aborts_what_is_lent);
    RUN(killed_while_the_peer_ends_it);
    RUN(killed_while_the_worker_aborts_it);
    RUN(killed_while_the_worker_closes_it);
    RUN(killed_while_all_are_ended);
    RUN(killed_while_a_successor_sits_down);
    RUN(killed_while_a_worker_is_asked);
    RUN(killed_while_what_is_lent_is_given_up);
    RUN(killed_while_unsent_output_is_given_up);
    RUN(killed_while_a_leaving_worker_is_lost);
    RUN(killed_while_its_events_are_copied);
    RUN(killed_while_it_listens_on_more);
    RUN(killed_while_it_listens_on_less);
    RUN(killed_while_it_takes_over);
    return 0;
}
