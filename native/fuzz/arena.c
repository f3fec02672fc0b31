/* See arena.h. */
#include "arena.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../tests/check.h"
#include "base/siphash.h"

static uint8_t secret[16] = "\xd5\x8e\x17\xf0\x9b\xc3\x62\xa4\x3d\xe8\x71\xba\x05\x4f\x96\xdc";

struct arena arena;

enum { TURNS_MAX = 20000 }; /* that something may take at most over a stack; over sockets it is one */

void arena_hide(const uint8_t *script, size_t length)
{
    uint8_t key[16] = {0};
    for (uint32_t half = 0; half < 2; half++) {
        key[0] = (uint8_t)half;
        uint64_t hash = un_siphash(key, script, (uint32_t)length);
        memcpy(secret + half * sizeof hash, &hash, sizeof hash);
    }
}

/* Opening and closing. */

static void open_config(void)
{
    const char *why;
    arena.config = (struct un_segment_config){
        .seats = SEATS,
        .conn_max = CONN_MAX,
        .state_bytes = 64,
        .event_slots = 8,
        .command_slots = 16,
        .rx_frame_bytes = 2048,
        .rx_frames = 8,
        .tx_frame_bytes = 2048,
        .tx_frames = 4,
        .rx_budget = 4096,
        .tx_budget = 4096,
        .hold_max = 2,
    };
    CHECK_EQ(un_segment_plan(&arena.config, &arena.layout, &why), 0);
}

static void *map(uint64_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}

static uint8_t *put_secret(uint8_t *page)
{
    for (uint64_t at = 0; at < PAGE; at += sizeof secret)
        memcpy(page + at, secret, sizeof secret);
    return page + PAGE;
}

static void open_mad_memories(void)
{
    arena.region_bytes = 2 * arena.layout.port_bytes + 5 * PAGE;
    arena.region = map(arena.region_bytes);
    uint8_t *at = put_secret(arena.region + PAGE);
    for (uint32_t side = 0; side < UN_PORTS; side++) {
        arena.setup.ports[MAD_PORT + side] = at;
        at = put_secret(at + arena.layout.port_bytes);
    }
    CHECK_EQ(mprotect(arena.region, PAGE, PROT_NONE), 0);
    CHECK_EQ(mprotect(at, PAGE, PROT_NONE), 0);
}

static void open_memories(void)
{
    open_mad_memories();
    arena.setup.private = map(un_engine_private_bytes(&arena.config));
    arena.setup.public = map(arena.layout.public_bytes);
    for (uint32_t side = 0; side < UN_PORTS; side++)
        arena.setup.ports[HONEST_PORT + side] = map(arena.layout.port_bytes);
    un_segment_format(arena.setup.public, &arena.config, &arena.layout, &arena.options);
}

static void open_descriptors(void)
{
    arena.setup.control_fd = -1;
    CHECK((arena.setup.epoll_fd = epoll_create1(EPOLL_CLOEXEC)) >= 0);
    for (uint32_t port = 0; port < PORTS; port++) {
        int from_worker[2], to_worker[2];
        CHECK_EQ(pipe2(from_worker, O_NONBLOCK | O_CLOEXEC), 0);
        CHECK_EQ(pipe2(to_worker, O_NONBLOCK | O_CLOEXEC), 0);
        arena.setup.wake_fds[port] = from_worker[0];
        arena.setup.port_wake_fds[port] = to_worker[1];
        arena.worker_wakes[port] = (struct worker_wakes){.to_engine = from_worker[1], .from_engine = to_worker[0]};
    }
}

void arena_close(void)
{
    un_port_close(&arena.honest);
    if (arena.is_leaving)
        un_port_close(&arena.leaving);
    for (uint32_t i = 0; i < PEERS; i++)
        if (arena.peers[i].fd >= 0)
            peer_disconnect(&arena.peers[i]);
    un_engine_free(arena.engine);
    arena.carrier->close();
    for (uint32_t port = 0; port < PORTS; port++) {
        close(arena.setup.wake_fds[port]);
        close(arena.setup.port_wake_fds[port]);
        close(arena.worker_wakes[port].to_engine);
        close(arena.worker_wakes[port].from_engine);
    }
    close(arena.setup.epoll_fd);
    munmap(arena.setup.private, un_engine_private_bytes(&arena.config));
    munmap(arena.setup.public, arena.layout.public_bytes);
    for (uint32_t side = 0; side < UN_PORTS; side++)
        munmap(arena.setup.ports[HONEST_PORT + side], arena.layout.port_bytes);
    munmap(arena.region, arena.region_bytes);
}

/* Peers. */

void arena_turn(void)
{
    un_engine_turn(arena.engine, 0);
    arena.carrier->turn();
}

static uint64_t id_in_slot(uint32_t slot)
{
    return un_load(&un_conn_at(arena.setup.public, slot)->id);
}

/* Closed connections whose end the mad worker does not acknowledge may fill the table. */
static bool table_has_room(void)
{
    const struct un_private *own = arena.engine->own;
    return !own->paused && (own->conn_free != UN_NONE || own->conn_high < CONN_MAX);
}

/* The engine has nobody else to accept: the entry whose id changes is ours. NULL: it took nobody. */
static const struct un_conn *find_new(const uint64_t *before)
{
    for (uint32_t slot = 0; slot < CONN_MAX; slot++)
        if (id_in_slot(slot) != before[slot])
            return un_conn_at(arena.setup.public, slot);
    return NULL;
}

void peer_connect(struct peer *peer)
{
    uint64_t before[CONN_MAX];
    const struct un_conn *conn = NULL;
    arena_turn();
    if (!table_has_room())
        return;
    for (uint32_t slot = 0; slot < CONN_MAX; slot++)
        before[slot] = id_in_slot(slot);
    int fd = arena.carrier->connect();
    for (int turns = 0; !conn && turns < TURNS_MAX; turns++) {
        arena_turn();
        conn = find_new(before);
    }
    CHECK(conn != NULL);
    *peer = (struct peer){.fd = fd, .seat = un_seat_of(conn->port), .conn = un_load(&conn->id)};
}

void peer_disconnect(struct peer *peer)
{
    arena.carrier->disconnect(peer->fd);
    peer->fd = -1;
}

static uint8_t honest_byte(const struct peer *peer, uint64_t position)
{
    return (uint8_t)(secret[position % sizeof secret] ^ (peer - arena.peers));
}

static void check_echo(struct peer *peer, const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        CHECK_EQ(bytes[i], honest_byte(peer, peer->received + i));
    peer->received += length;
    CHECK(peer->received <= peer->sent);
}

/* No peer of seat 0 sees the pages around its memory, nor what peers of seat 1 said. */
static void check_no_secret(const uint8_t *bytes, size_t length)
{
    for (uint8_t mask = 0; mask < PEERS; mask++) {
        uint8_t wanted[sizeof secret];
        for (size_t i = 0; i < sizeof secret; i++)
            wanted[i] = secret[i] ^ mask;
        CHECK(memmem(bytes, length, wanted, sizeof wanted) == NULL);
    }
}

void peer_read(struct peer *peer)
{
    uint8_t bytes[PAGE];
    ssize_t length;
    while (peer->fd >= 0 && (length = arena.carrier->receive(peer->fd, bytes, sizeof bytes)) != -1) {
        if (length == 0) {
            CHECK_EQ(peer->seat, MAD); /* nobody closes an honest connection */
            peer_disconnect(peer);
        } else if (peer->seat == HONEST) {
            check_echo(peer, bytes, (size_t)length);
        } else {
            check_no_secret(bytes, (size_t)length);
        }
    }
    if (peer->fd >= 0 && errno != EAGAIN) {
        CHECK_EQ(peer->seat, MAD);
        peer_disconnect(peer);
    }
}

void peer_write(struct peer *peer, uint32_t length)
{
    uint8_t bytes[ECHO_MAX] = {0};
    for (uint32_t i = 0; peer->seat == HONEST && i < length; i++)
        bytes[i] = honest_byte(peer, peer->sent + i);
    ssize_t sent = arena.carrier->send(peer->fd, bytes, length);
    CHECK(sent > 0 || peer->seat == MAD);
    peer->sent += sent > 0 ? (uint64_t)sent : 0;
}

/* The honest worker. */

static uint64_t state_of(uint64_t conn)
{
    return conn * UINT64_C(0x9e3779b97f4a7c15);
}

static void handle(struct un_port *port, const struct un_event *event)
{
    uint64_t state = state_of(event->conn);
    if (event->type == UN_EVENT_CONNECT)
        un_port_state(port, event->conn, &state, STATE_LENGTH);
    if (event->type == UN_EVENT_MOVE)
        CHECK(un_port_command(port, UN_COMMAND_RELEASE, event->conn, 0));
    if (event->type != UN_EVENT_DATA)
        return;
    un_port_send(port, event->conn, un_port_bytes(port, event), event->length);
    un_port_free_frame(port, event->frame);
}

static uint32_t serve(struct un_port *port)
{
    uint32_t ready = un_port_peek(port);
    for (uint32_t i = 0; i < ready; i++)
        handle(port, un_port_event(port, i));
    un_port_release(port, ready);
    un_port_commit(port);
    return ready;
}

void honest_serve(struct un_port *port)
{
    while (serve(port) + (arena.is_leaving ? serve(&arena.leaving) : 0) > 0)
        arena_turn();
}

void honest_die(void)
{
    un_port_close(&arena.honest);
    un_engine_lost_worker(arena.engine, arena.honest_port, UN_LOSS_DIED);
}

void honest_sit(void)
{
    bool died = arena.honest.header == NULL;
    uint32_t port = un_port_beside(arena.honest_port);
    CHECK(!arena.is_leaving);
    CHECK_EQ(un_engine_attach_worker(arena.engine, port, ++arena.serial, true), 0);
    arena.leaving = arena.honest;
    arena.is_leaving = !died;
    arena.honest_port = port;
    CHECK_EQ(un_port_attach(&arena.honest, arena.setup.public, arena.setup.ports[port], port,
                            arena.worker_wakes[port].to_engine),
             0);
}

void honest_follow(void)
{
    uint32_t port = un_port_beside(arena.honest_port);
    const struct un_port_end *left = &arena.engine->own->ports[port];
    for (int turns = 0; (left->slots > 0 || un_ring_used(&left->events) > 0) && turns < TURNS_MAX; turns++) {
        arena_turn();
        honest_serve(&arena.honest);
    }
    CHECK_EQ(left->slots, 0);
    CHECK_EQ(un_ring_used(&left->events), 0);
    if (arena.is_leaving) {
        un_port_close(&arena.leaving);
        un_engine_lost_worker(arena.engine, port, UN_LOSS_DIED);
    }
    arena.is_leaving = false;
}

static void check_honest_entry(const struct peer *peer)
{
    struct un_conn *conn = un_conn_at(arena.setup.public, UN_ID_SLOT(peer->conn));
    uint64_t state = state_of(peer->conn);
    CHECK_EQ(un_load(&conn->id), peer->conn);
    CHECK_EQ(conn->state, UN_CONN_OPEN);
    CHECK_EQ(un_seat_of(conn->port), HONEST);
    CHECK_EQ(conn->flags & (UN_CONN_EOF_IN | UN_CONN_EOF_OUT | UN_CONN_PAUSED), 0);
    CHECK_EQ(conn->state_length, STATE_LENGTH);
    CHECK(memcmp(un_conn_blob(conn), &state, STATE_LENGTH) == 0);
}

void honest_check(struct peer *peer, uint32_t length)
{
    peer_write(peer, length);
    for (int turns = 0; turns == 0 || (peer->received < peer->sent && turns < TURNS_MAX); turns++) {
        arena_turn();
        honest_serve(&arena.honest);
        peer_read(peer);
    }
    CHECK_EQ(peer->received, peer->sent);
    check_honest_entry(peer);
}

void arena_open(const struct carrier *carrier)
{
    memset(&arena, 0, sizeof arena);
    arena.carrier = carrier;
    arena.options = (struct un_engine_options){.connection_limit = CONN_MAX, .linger_ns = 1000000};
    open_config();
    arena.carrier->open();
    open_memories();
    open_descriptors();
    for (uint32_t i = 0; i < PEERS; i++)
        arena.peers[i].fd = -1;
    CHECK((arena.engine = un_engine_start(&arena.setup)) != NULL);
    un_engine_attach_worker(arena.engine, MAD_PORT, ++arena.serial, true);
    un_engine_attach_worker(arena.engine, HONEST_PORT, ++arena.serial, true);
    arena.honest_port = HONEST_PORT;
    void *memory = arena.setup.ports[HONEST_PORT];
    int to_engine = arena.worker_wakes[HONEST_PORT].to_engine;
    CHECK_EQ(un_port_attach(&arena.honest, arena.setup.public, memory, HONEST_PORT, to_engine), 0);
    for (uint32_t i = 0; i < PEERS; i++) {
        peer_connect(&arena.peers[i]);
        CHECK(arena.peers[i].fd >= 0);
        honest_serve(&arena.honest);
    }
}

