/* A real engine with two seats over unix sockets. Seat 1 has an honest worker that echoes; on seat 0 sits a mad one.
 *
 * The script is a list of steps: the mad worker writes plausible or arbitrary words, commands, releases and dirty bytes
 * into everything it may write; its peers send, shut down, close and connect anew; the supervisor replaces the worker;
 * the engine takes turns. Three invariants:
 *
 *   The engine never crashes: no assertion of its own fails, and no sanitizer has anything to say.
 *   No other seat is touched: connections of seat 1 stay open, keep their state, and get exactly their echo.
 *   No bytes go astray: what lies before and after the mad worker's memory, and what seat 1 carries, never reaches a
 *   peer of seat 0.
 *
 * At the end the mad worker is replaced by an honest one, which must find a memory it can work with, and when all
 * connections are gone every send node, send frame and receive frame must be accounted for.
 */
#include "hostile.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../tests/check.h"
#include "engine/state.h"
#include "shard/port.h"

enum {
    MAD = 0,
    HONEST = 1,
    SEATS = 2,
    PEERS = 6,
    CONN_MAX = 16,
    PAGE = 4096,
    ECHO_MAX = 200, /* bytes an honest peer sends at once */
    STATE_LENGTH = 8,
};

static const uint8_t secret[16] = "\xd5\x8e\x17\xf0\x9b\xc3\x62\xa4\x3d\xe8\x71\xba\x05\x4f\x96\xdc";

struct peer {
    int fd; /* -1: not connected */
    uint32_t seat;
    uint64_t conn;
    uint64_t sent;
    uint64_t received;
};

static struct {
    const uint8_t *script;
    size_t left;
    struct un_segment_config config;
    struct un_segment_layout layout;
    struct un_engine_setup setup;
    struct un_engine *engine;
    uint8_t *region; /* guard, secret, memory of seat 0, secret, guard */
    uint64_t region_bytes;
    struct un_port honest;
    struct peer peers[PEERS];
    uint32_t serial;
} world;

/* The script. */

static uint8_t next_byte(void)
{
    if (world.left == 0)
        return 0;
    world.left--;
    return *world.script++;
}

static uint64_t next_word(void)
{
    uint64_t word = 0;
    for (int i = 0; i < 8; i++)
        word = word << 8 | next_byte();
    return word;
}

/* Opening and closing. */

static void open_config(void)
{
    const char *why;
    world.config = (struct un_segment_config){
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
    CHECK_EQ(un_segment_plan(&world.config, &world.layout, &why), 0);
}

static void *map(uint64_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}

static void open_memories(void)
{
    uint64_t mad_bytes = world.layout.seat_bytes;
    world.region_bytes = mad_bytes + 4 * PAGE;
    world.region = map(world.region_bytes);
    for (uint64_t at = 0; at < PAGE; at += sizeof secret) {
        memcpy(world.region + PAGE + at, secret, sizeof secret);
        memcpy(world.region + 2 * PAGE + mad_bytes + at, secret, sizeof secret);
    }
    CHECK_EQ(mprotect(world.region, PAGE, PROT_NONE), 0);
    CHECK_EQ(mprotect(world.region + 3 * PAGE + mad_bytes, PAGE, PROT_NONE), 0);
    world.setup.private = map(un_engine_private_bytes(&world.config));
    world.setup.public = map(world.layout.public_bytes);
    world.setup.seats[MAD] = world.region + 2 * PAGE;
    world.setup.seats[HONEST] = map(world.layout.seat_bytes);
    un_segment_format(world.setup.public, &world.config, &world.layout);
}

static socklen_t listener_address(struct sockaddr_un *address)
{
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    int length = snprintf(address->sun_path + 1, sizeof address->sun_path - 1, "usnet-hostile-%d", getpid());
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
}

static void open_descriptors(void)
{
    struct sockaddr_un address;
    socklen_t length = listener_address(&address);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK(listener >= 0);
    CHECK_EQ(bind(listener, (struct sockaddr *)&address, length), 0);
    CHECK_EQ(listen(listener, 16), 0);
    world.setup.listeners[0] = listener;
    world.setup.listener_count = 1;
    world.setup.connection_limit = CONN_MAX;
    world.setup.linger_ns = 1000000;
    world.setup.control_fd = -1;
    CHECK((world.setup.epoll_fd = epoll_create1(EPOLL_CLOEXEC)) >= 0);
    CHECK((world.setup.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) >= 0);
    for (uint32_t seat = 0; seat < SEATS; seat++)
        CHECK((world.setup.seat_wake_fds[seat] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) >= 0);
}

static void close_world(void)
{
    un_port_close(&world.honest);
    free(world.engine);
    for (uint32_t i = 0; i < PEERS; i++)
        if (world.peers[i].fd >= 0)
            close(world.peers[i].fd);
    for (uint32_t seat = 0; seat < SEATS; seat++)
        close(world.setup.seat_wake_fds[seat]);
    close(world.setup.wake_fd);
    close(world.setup.epoll_fd);
    close(world.setup.listeners[0]);
    munmap(world.setup.private, un_engine_private_bytes(&world.config));
    munmap(world.setup.public, world.layout.public_bytes);
    munmap(world.setup.seats[HONEST], world.layout.seat_bytes);
    munmap(world.region, world.region_bytes);
}

/* Peers. */

static void turn(void)
{
    un_engine_turn(world.engine, 0);
}

static uint64_t id_in_slot(uint32_t slot)
{
    return un_load(&un_conn_at(world.setup.public, slot)->id);
}

static void connect_peer(struct peer *peer)
{
    struct sockaddr_un address;
    uint64_t before[CONN_MAX];
    const struct un_conn *conn = NULL;
    socklen_t length = listener_address(&address);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    CHECK_EQ(connect(fd, (struct sockaddr *)&address, length), 0);
    for (uint32_t slot = 0; slot < CONN_MAX; slot++)
        before[slot] = id_in_slot(slot);
    turn();
    for (uint32_t slot = 0; slot < CONN_MAX; slot++)
        if (id_in_slot(slot) != before[slot])
            conn = un_conn_at(world.setup.public, slot);
    if (!conn) { /* closed connections that the mad worker does not acknowledge fill the table */
        close(fd);
        turn();
        return;
    }
    *peer = (struct peer){.fd = fd, .seat = conn->seat, .conn = un_load(&conn->id)};
}

static void disconnect_peer(struct peer *peer)
{
    close(peer->fd);
    peer->fd = -1;
}

static uint8_t honest_byte(const struct peer *peer, uint64_t position)
{
    return (uint8_t)(secret[position % sizeof secret] ^ (peer - world.peers));
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

static void read_peer(struct peer *peer)
{
    uint8_t bytes[PAGE];
    ssize_t length;
    while (peer->fd >= 0 && (length = recv(peer->fd, bytes, sizeof bytes, MSG_DONTWAIT)) != -1) {
        if (length == 0) {
            CHECK_EQ(peer->seat, MAD); /* nobody closes an honest connection */
            disconnect_peer(peer);
        } else if (peer->seat == HONEST) {
            check_echo(peer, bytes, (size_t)length);
        } else {
            check_no_secret(bytes, (size_t)length);
        }
    }
    if (peer->fd >= 0 && errno != EAGAIN) {
        CHECK_EQ(peer->seat, MAD);
        disconnect_peer(peer);
    }
}

static void write_peer(struct peer *peer, uint32_t length)
{
    uint8_t bytes[ECHO_MAX] = {0};
    for (uint32_t i = 0; peer->seat == HONEST && i < length; i++)
        bytes[i] = honest_byte(peer, peer->sent + i);
    ssize_t sent = send(peer->fd, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
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
    if (event->type != UN_EVENT_DATA)
        return;
    un_port_send(port, event->conn, un_port_bytes(port, event), event->length);
    un_port_free_frame(port, event->frame);
}

static void serve(struct un_port *port)
{
    uint32_t ready;
    while ((ready = un_port_peek(port)) > 0) {
        for (uint32_t i = 0; i < ready; i++)
            handle(port, un_port_event(port, i));
        un_port_release(port, ready);
        un_port_commit(port);
        turn();
    }
}

static void check_honest_entry(const struct peer *peer)
{
    struct un_conn *conn = un_conn_at(world.setup.public, UN_ID_SLOT(peer->conn));
    uint64_t state = state_of(peer->conn);
    CHECK_EQ(un_load(&conn->id), peer->conn);
    CHECK_EQ(conn->state, UN_CONN_OPEN);
    CHECK_EQ(conn->seat, HONEST);
    CHECK_EQ(conn->flags & (UN_CONN_EOF_IN | UN_CONN_EOF_OUT | UN_CONN_PAUSED), 0);
    CHECK_EQ(conn->state_length, STATE_LENGTH);
    CHECK(memcmp(un_conn_blob(conn), &state, STATE_LENGTH) == 0);
}

/* Every honest peer says something and gets it back whole. */
static void check_seat_1(void)
{
    for (uint32_t i = 0; i < PEERS; i++) {
        struct peer *peer = &world.peers[i];
        if (peer->fd < 0 || peer->seat != HONEST)
            continue;
        write_peer(peer, 1 + next_byte() % ECHO_MAX);
        turn();
        serve(&world.honest);
        read_peer(peer);
        CHECK_EQ(peer->received, peer->sent);
        check_honest_entry(peer);
    }
}

/* The mad worker. */

static struct un_seat_memory *mad(void)
{
    return world.setup.seats[MAD];
}

static void add_to_commit(uint32_t events, uint32_t commands)
{
    uint64_t word = un_load(&mad()->commit);
    un_publish(&mad()->commit, UN_COMMIT(UN_COMMIT_EVENTS(word) + events, UN_COMMIT_COMMANDS(word) + commands));
}

/* Mostly an id that exists: of any peer, whosever it is. */
static uint64_t some_conn(void)
{
    uint8_t choice = next_byte();
    if (choice < 200)
        return world.peers[choice % PEERS].conn;
    return choice < 230 ? UN_ID(0, choice % (2 * CONN_MAX), 1 + next_byte()) : next_word();
}

/* Mostly a small number or one near a limit. */
static uint32_t some_number(uint32_t limit)
{
    uint8_t choice = next_byte();
    if (choice < 128)
        return (uint32_t)next_byte() * 9;
    return choice < 230 ? limit + choice % 5 - 2 : (uint32_t)next_word();
}

static void mad_commands(void)
{
    struct un_command *ring = un_at(mad(), world.layout.command_ring);
    uint32_t produced = UN_COMMIT_COMMANDS(un_load(&mad()->commit));
    uint32_t count = 1 + next_byte() % 8;
    for (uint32_t i = 0; i < count; i++)
        ring[(produced + i) % world.config.command_slots] = (struct un_command){
            .op = next_byte() % 12,
            .conn = some_conn(),
            .length = some_number(world.config.tx_frame_bytes),
            .frame = next_byte() % (world.config.tx_frames + 1),
            .offset = some_number(world.config.tx_frame_bytes),
            .arg = next_byte(),
        };
    add_to_commit(0, count);
}

static void mad_releases(void)
{
    uint32_t *ring = un_at(mad(), world.layout.release_ring);
    uint32_t produced = un_load(&mad()->releases_produced);
    uint32_t count = 1 + next_byte() % 8;
    for (uint32_t i = 0; i < count; i++)
        ring[(produced + i) % world.layout.release_slots] = next_byte() % (world.config.rx_frames + 1);
    un_publish(&mad()->releases_produced, produced + count);
}

static void mad_word(void)
{
    uint64_t word = next_word();
    switch (next_byte() % 6) {
    case 0: un_store(&mad()->commit, word); break;
    case 1: un_store(&mad()->releases_produced, (uint32_t)word); break;
    case 2: un_store(&mad()->handling, word); break;
    case 3: un_store(&mad()->sleeping, (uint32_t)word); break;
    case 4: un_store(&mad()->want_space, (uint32_t)word); break;
    default: un_store(&mad()->handling, UN_HANDLING(UN_COMMIT_EVENTS(un_load(&mad()->commit)) + word % 10));
    }
}

static void mad_scribble(void)
{
    uint64_t at = next_word() % world.layout.seat_bytes;
    uint64_t length = next_byte();
    for (uint64_t i = 0; i < length && at + i < world.layout.seat_bytes; i++)
        ((uint8_t *)mad())[at + i] = next_byte();
}

static void mad_dirty(void)
{
    uint8_t *dirty = un_at(mad(), world.layout.dirty);
    dirty[next_byte() % CONN_MAX] = next_byte();
}

/* The supervisor replaces the mad worker, by another mad one. */
static void replace_mad_worker(bool resumes)
{
    un_engine_lost_worker(world.engine, MAD);
    un_engine_attach_worker(world.engine, MAD, ++world.serial, resumes);
}

static void mad_peer(void)
{
    uint8_t choice = next_byte();
    struct peer *peer = &world.peers[choice % PEERS];
    if (peer->fd < 0) {
        connect_peer(peer);
        serve(&world.honest);
    } else if (peer->seat == MAD) {
        switch (choice / PEERS % 5) {
        case 0: disconnect_peer(peer); break;
        case 1: shutdown(peer->fd, SHUT_WR); break;
        case 2: read_peer(peer); break;
        default: write_peer(peer, 1 + next_byte() % ECHO_MAX);
        }
    }
}

static void step(void)
{
    switch (next_byte() % 16) {
    case 0: case 1: case 2: mad_commands(); break;
    case 3: add_to_commit(next_byte() % 10, 0); break;
    case 4: mad_releases(); break;
    case 5: mad_word(); break;
    case 6: mad_scribble(); break;
    case 7: mad_dirty(); break;
    case 8: case 9: case 10: mad_peer(); break;
    case 11: replace_mad_worker(next_byte() & 1); break;
    case 12: check_seat_1(); break;
    default: turn();
    }
    if (un_load(&un_seat_public(world.setup.public, MAD)->bad))
        replace_mad_worker(next_byte() & 1);
}

/* The end. */

/* An honest worker takes the mad one's place and can work. */
static void check_seat_0_recovers(void)
{
    struct un_port port;
    replace_mad_worker(true);
    CHECK_EQ(un_port_attach(&port, world.setup.public, mad(), MAD, world.setup.wake_fd), 0);
    turn();
    serve(&port);
    un_port_close(&port);
    for (uint32_t i = 0; i < PEERS; i++)
        read_peer(&world.peers[i]);
}

static void check_receive_frames(uint32_t seat)
{
    const struct un_seat *state = &world.engine->own->seats[seat];
    uint32_t listed = 0, unused = 0;
    for (uint32_t frame = state->rx_free; frame != UN_NONE; frame = world.engine->rx_frames[seat][frame].next_free) {
        CHECK(listed++ < world.config.rx_frames);
        CHECK_EQ(world.engine->rx_frames[seat][frame].references, 0);
    }
    for (uint32_t frame = 0; frame < world.config.rx_frames; frame++)
        unused += world.engine->rx_frames[seat][frame].references == 0;
    CHECK_EQ(listed, unused);
    CHECK_EQ(listed, state->rx_free_count);
    CHECK_EQ(listed + (state->rx_open != UN_NONE), world.config.rx_frames); /* both workers gave all slices back */
}

static void check_nothing_is_lost(uint32_t seat)
{
    const struct un_tx_account *accounts = un_tx_accounts(world.setup.public, seat);
    CHECK_EQ(world.engine->own->seats[seat].node_free_count, world.engine->node_count);
    CHECK_EQ(world.engine->own->seats[seat].connections, 0);
    for (uint32_t frame = 0; frame < world.config.tx_frames; frame++)
        CHECK_EQ(un_load(&accounts[frame].queued), un_load(&accounts[frame].done));
    check_receive_frames(seat);
}

static void open_world(const uint8_t *script, size_t length)
{
    memset(&world, 0, sizeof world);
    world.script = script;
    world.left = length;
    open_config();
    open_memories();
    open_descriptors();
    for (uint32_t i = 0; i < PEERS; i++)
        world.peers[i].fd = -1;
    CHECK((world.engine = un_engine_start(&world.setup)) != NULL);
    un_engine_attach_worker(world.engine, MAD, ++world.serial, true);
    un_engine_attach_worker(world.engine, HONEST, 1, true);
    CHECK_EQ(un_port_attach(&world.honest, world.setup.public, world.setup.seats[HONEST], HONEST, world.setup.wake_fd), 0);
    for (uint32_t i = 0; i < PEERS; i++) {
        connect_peer(&world.peers[i]);
        CHECK(world.peers[i].fd >= 0);
        serve(&world.honest);
    }
}

void hostile_run(const uint8_t *script, size_t length)
{
    open_world(script, length);
    check_seat_1();
    while (world.left > 0)
        step();
    turn();
    check_seat_1();
    check_seat_0_recovers();
    check_seat_1();
    un_engine_reset_all(world.engine, UN_REASON_SHUTDOWN);
    for (uint32_t seat = 0; seat < SEATS; seat++)
        check_nothing_is_lost(seat);
    close_world();
}
