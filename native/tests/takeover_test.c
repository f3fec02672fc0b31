/* Takeover (P10): an engine killed at any instruction leaves what its successor can go on with.
 *
 * A forked engine is single-stepped through a turn, or through a takeover. Each state of the memories that it leaves
 * after an instruction is judged in a copy: the next engine takes over, and the rings must tell each worker of every
 * connection once that it began and once that it ended. These are unix sockets, so one connection may end for it: the
 * one whose output was in a system call (engine/killed_test.c has TCP, where none may). A send frame is never called
 * done before it is, because its worker runs on and would fill it anew. */
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../fuzz/arena.h"
#include "base/wake.h"
#include "check.h"
#include "step.h"

static void watch_memories(void)
{
    step_forget();
    step_watch(arena.setup.private, un_engine_private_bytes(&arena.config));
    step_watch(arena.setup.public, arena.layout.public_bytes);
    step_watch(arena.setup.ports[MAD_PORT], arena.layout.port_bytes);
    step_watch(arena.setup.ports[HONEST_PORT], arena.layout.port_bytes);
}

/* What a worker that hears the ring from its unconsumed start knows. */

static uint64_t known[CONN_MAX];       /* ids of connections that began and did not end */
static uint64_t known_before[CONN_MAX]; /* of those, the ones whose beginning was consumed */

static void hear(const struct un_event *event)
{
    uint32_t slot = UN_ID_SLOT(event->conn);
    if (event->type == UN_EVENT_CONNECT) {
        CHECK_EQ(known[slot], 0);
        known[slot] = event->conn;
    } else if (event->type != UN_EVENT_SKIP) {
        CHECK_EQ(known[slot], event->conn);
    }
    if (event->type == UN_EVENT_CLOSE)
        known[slot] = 0;
}

static void hear_rings(const struct un_engine *engine)
{
    memcpy(known, known_before, sizeof known);
    for (uint32_t port = 0; port < PORTS; port++) {
        const struct un_ring *ring = &engine->own->ports[port].events;
        for (uint32_t i = ring->seen; i != ring->own; i++) {
            const struct un_event *event = &un_event_ring(arena.setup.public, port)[un_ring_slot(ring, i)];
            hear(event);
            if (event->type == UN_EVENT_DATA) /* else the next input would be written over it */
                CHECK(engine->rx_frames[port][event->frame].references > 0);
        }
    }
}

static void check_known(struct un_engine *engine, uint32_t slot)
{
    const struct un_conn *conn = un_slot(engine, slot);
    uint16_t flags = engine->works[slot].flags;
    if (un_is_alive(conn))
        CHECK(known[slot] == un_load(&conn->id) || (flags & UN_WORK_POST_CONNECT));
    else if (known[slot])
        CHECK(conn->state == UN_CONN_CLOSED && (flags & UN_WORK_POST_CLOSE)); /* it will be told */
}

static uint32_t lost_for_the_engine(const struct un_engine *engine)
{
    return (uint32_t)un_load(&engine->counters->closed[UN_REASON_NETWORK_LOST]);
}

/* Each worker is woken, whether its memory says that it sleeps or not: the dead engine may have taken the note that it
 * does, and not come to write. */
static void check_wakes(void)
{
    char byte;
    for (uint32_t port = 0; port < PORTS; port++)
        if (arena.engine->own->ports[port].attached)
            CHECK_EQ(read(arena.worker_wakes[port].from_engine, &byte, 1), 1);
}

static void check_takeover(void)
{
    for (uint32_t port = 0; port < PORTS; port++)
        un_wake_drain(arena.worker_wakes[port].from_engine);
    struct un_engine *engine = un_engine_start(&arena.setup);
    CHECK(engine != NULL);
    check_wakes();
    hear_rings(engine);
    for (uint32_t slot = 0; slot < engine->own->conn_high; slot++)
        check_known(engine, slot);
    CHECK(lost_for_the_engine(engine) <= 1);
    free(engine);
}

static void judge(void)
{
    step_judge(check_takeover);
}

static void start(void)
{
    arena_open(&carrier_sockets);
    memset(known_before, 0, sizeof known_before);
    for (uint32_t i = 0; i < PEERS; i++)
        if (arena.peers[i].seat == HONEST)
            known_before[UN_ID_SLOT(arena.peers[i].conn)] = arena.peers[i].conn;
}

static struct peer *honest_peer(void)
{
    struct peer *peer = arena.peers;
    while (peer->seat != HONEST)
        peer++;
    return peer;
}

static void turn(void)
{
    arena_turn();
}

static void killed_while_a_connection_begins(void)
{
    struct sockaddr_un address;
    socklen_t length = sizeof address;
    start();
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQ(getsockname(arena.setup.listeners[0], (struct sockaddr *)&address, &length), 0);
    CHECK_EQ(connect(fd, (struct sockaddr *)&address, length), 0);
    watch_memories();
    step_through(turn, judge);
    close(fd);
    arena_close();
}

static void killed_while_a_connection_ends(void)
{
    start();
    struct peer *peer = honest_peer();
    CHECK(un_port_command(&arena.honest, UN_COMMAND_ABORT, peer->conn, UN_REASON_ABORTED));
    un_port_commit(&arena.honest);
    watch_memories();
    step_through(turn, judge);
    arena_close();
}

static void killed_while_a_request_is_answered(void)
{
    start();
    struct peer *peer = honest_peer();
    CHECK_EQ(un_port_send(&arena.honest, peer->conn, "answer", 6), 6);
    un_port_commit(&arena.honest);
    peer_write(peer, 100);
    watch_memories();
    step_through(turn, judge);
    arena_close();
}

static void lose_worker(void)
{
    un_engine_lost_worker(arena.engine, HONEST_PORT, UN_LOSS_DIED);
}

static void killed_while_a_dead_worker_is_swept_up(void)
{
    start();
    for (struct peer *peer = arena.peers; peer < arena.peers + PEERS; peer++)
        peer_write(peer, 100);
    arena_turn();
    watch_memories();
    step_through(lose_worker, judge);
    arena_close();
}

/* The worker runs on while the next engine takes over. */

static uint32_t done_before[16];

static void read_done(uint32_t *done)
{
    for (uint32_t frame = 0; frame < arena.config.tx_frames; frame++)
        done[frame] = un_load(&un_tx_accounts(arena.setup.public, HONEST_PORT)[frame].done);
}

static void check_done(void)
{
    uint32_t done[16];
    read_done(done);
    CHECK_EQ(memcmp(done, done_before, sizeof done[0] * arena.config.tx_frames), 0);
}

static void check_done_and_judge(void)
{
    check_done();
    judge();
}

static void take_over(void)
{
    CHECK(un_engine_start(&arena.setup) != NULL);
}

static void fill_the_way_to(const struct peer *peer)
{
    uint8_t bytes[1000] = {0};
    const struct un_conn *conn = un_conn_at(arena.setup.public, UN_ID_SLOT(peer->conn));
    while (!(conn->flags & UN_CONN_BLOCKED)) {
        CHECK(un_port_send(&arena.honest, peer->conn, bytes, sizeof bytes) > 0);
        un_port_commit(&arena.honest);
        arena_turn();
    }
}

static void no_frame_is_done_before_it_is_while_another_engine_takes_over(void)
{
    start();
    fill_the_way_to(honest_peer());
    read_done(done_before);
    watch_memories();
    step_through(take_over, check_done_and_judge);
    arena_close();
}

int main(void)
{
    RUN(killed_while_a_connection_begins);
    RUN(killed_while_a_connection_ends);
    RUN(killed_while_a_request_is_answered);
    RUN(killed_while_a_dead_worker_is_swept_up);
    RUN(no_frame_is_done_before_it_is_while_another_engine_takes_over);
    return 0;
}
