/* See arena.h. */
#include "arena.h"

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

static const uint8_t secret[16] = "\xd5\x8e\x17\xf0\x9b\xc3\x62\xa4\x3d\xe8\x71\xba\x05\x4f\x96\xdc";

struct arena arena;

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

static void open_memories(void)
{
    uint64_t mad_bytes = arena.layout.seat_bytes;
    arena.region_bytes = mad_bytes + 4 * PAGE;
    arena.region = map(arena.region_bytes);
    for (uint64_t at = 0; at < PAGE; at += sizeof secret) {
        memcpy(arena.region + PAGE + at, secret, sizeof secret);
        memcpy(arena.region + 2 * PAGE + mad_bytes + at, secret, sizeof secret);
    }
    CHECK_EQ(mprotect(arena.region, PAGE, PROT_NONE), 0);
    CHECK_EQ(mprotect(arena.region + 3 * PAGE + mad_bytes, PAGE, PROT_NONE), 0);
    arena.setup.private = map(un_engine_private_bytes(&arena.config));
    arena.setup.public = map(arena.layout.public_bytes);
    arena.setup.seats[MAD] = arena.region + 2 * PAGE;
    arena.setup.seats[HONEST] = map(arena.layout.seat_bytes);
    un_segment_format(arena.setup.public, &arena.config, &arena.layout);
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
    arena.setup.listeners[0] = listener;
    arena.setup.listener_count = 1;
    arena.setup.connection_limit = CONN_MAX;
    arena.setup.linger_ns = 1000000;
    arena.setup.control_fd = -1;
    CHECK((arena.setup.epoll_fd = epoll_create1(EPOLL_CLOEXEC)) >= 0);
    CHECK((arena.setup.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) >= 0);
    for (uint32_t seat = 0; seat < SEATS; seat++)
        CHECK((arena.setup.seat_wake_fds[seat] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) >= 0);
}

void arena_close(void)
{
    un_port_close(&arena.honest);
    free(arena.engine);
    for (uint32_t i = 0; i < PEERS; i++)
        if (arena.peers[i].fd >= 0)
            close(arena.peers[i].fd);
    for (uint32_t seat = 0; seat < SEATS; seat++)
        close(arena.setup.seat_wake_fds[seat]);
    close(arena.setup.wake_fd);
    close(arena.setup.epoll_fd);
    close(arena.setup.listeners[0]);
    munmap(arena.setup.private, un_engine_private_bytes(&arena.config));
    munmap(arena.setup.public, arena.layout.public_bytes);
    munmap(arena.setup.seats[HONEST], arena.layout.seat_bytes);
    munmap(arena.region, arena.region_bytes);
}

/* Peers. */

void arena_turn(void)
{
    un_engine_turn(arena.engine, 0);
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

/* The engine has nobody else to accept: the entry whose id changes is ours. */
static const struct un_conn *connect_and_find(int fd)
{
    struct sockaddr_un address;
    uint64_t before[CONN_MAX];
    const struct un_conn *conn = NULL;
    for (uint32_t slot = 0; slot < CONN_MAX; slot++)
        before[slot] = id_in_slot(slot);
    CHECK_EQ(connect(fd, (struct sockaddr *)&address, listener_address(&address)), 0);
    arena_turn();
    for (uint32_t slot = 0; slot < CONN_MAX; slot++)
        if (id_in_slot(slot) != before[slot])
            conn = un_conn_at(arena.setup.public, slot);
    return conn;
}

void peer_connect(struct peer *peer)
{
    arena_turn();
    if (!table_has_room())
        return;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    const struct un_conn *conn = connect_and_find(fd);
    CHECK(conn != NULL);
    *peer = (struct peer){.fd = fd, .seat = conn->seat, .conn = un_load(&conn->id)};
}

void peer_disconnect(struct peer *peer)
{
    close(peer->fd);
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
    while (peer->fd >= 0 && (length = recv(peer->fd, bytes, sizeof bytes, MSG_DONTWAIT)) != -1) {
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

void honest_serve(struct un_port *port)
{
    uint32_t ready;
    while ((ready = un_port_peek(port)) > 0) {
        for (uint32_t i = 0; i < ready; i++)
            handle(port, un_port_event(port, i));
        un_port_release(port, ready);
        un_port_commit(port);
        arena_turn();
    }
}

static void check_honest_entry(const struct peer *peer)
{
    struct un_conn *conn = un_conn_at(arena.setup.public, UN_ID_SLOT(peer->conn));
    uint64_t state = state_of(peer->conn);
    CHECK_EQ(un_load(&conn->id), peer->conn);
    CHECK_EQ(conn->state, UN_CONN_OPEN);
    CHECK_EQ(conn->seat, HONEST);
    CHECK_EQ(conn->flags & (UN_CONN_EOF_IN | UN_CONN_EOF_OUT | UN_CONN_PAUSED), 0);
    CHECK_EQ(conn->state_length, STATE_LENGTH);
    CHECK(memcmp(un_conn_blob(conn), &state, STATE_LENGTH) == 0);
}

void honest_check(struct peer *peer, uint32_t length)
{
    peer_write(peer, length);
    arena_turn();
    honest_serve(&arena.honest);
    peer_read(peer);
    CHECK_EQ(peer->received, peer->sent);
    check_honest_entry(peer);
}

void arena_open(void)
{
    memset(&arena, 0, sizeof arena);
    open_config();
    open_memories();
    open_descriptors();
    for (uint32_t i = 0; i < PEERS; i++)
        arena.peers[i].fd = -1;
    CHECK((arena.engine = un_engine_start(&arena.setup)) != NULL);
    un_engine_attach_worker(arena.engine, MAD, ++arena.serial, true);
    un_engine_attach_worker(arena.engine, HONEST, 1, true);
    void *memory = arena.setup.seats[HONEST];
    CHECK_EQ(un_port_attach(&arena.honest, arena.setup.public, memory, HONEST, arena.setup.wake_fd), 0);
    for (uint32_t i = 0; i < PEERS; i++) {
        peer_connect(&arena.peers[i]);
        CHECK(arena.peers[i].fd >= 0);
        honest_serve(&arena.honest);
    }
}

