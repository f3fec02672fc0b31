/* See hands.h. */
#include "hands.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/control.h"

struct hand hands[UN_PORTS];
const struct carrier *carrier;
static uint32_t serials;
static int words[2]; /* the supervisor's end of the control socket, the engine's */

static void meet(struct hand *hand, const struct un_event *event)
{
    uint32_t slot = UN_ID_SLOT(event->conn);
    if (hand->knows[slot] == event->conn)
        return;
    hand->resumed++;
    hand->knows[slot] = event->conn;
}

static void begin(struct hand *hand, const struct un_event *event)
{
    uint32_t slot = UN_ID_SLOT(event->conn);
    CHECK(hand->knows[slot] != event->conn);
    hand->knows[slot] = event->conn;
}

static void answer(struct hand *hand, const struct un_event *event)
{
    hand->asked++;
    if (hand->manner == IS_SILENT)
        return;
    CHECK(un_port_command(&hand->end, hand->manner == KEEPS ? UN_COMMAND_KEEP : UN_COMMAND_RELEASE, event->conn, 0));
    if (hand->manner == RELEASES)
        hand->knows[UN_ID_SLOT(event->conn)] = 0;
}

static void hear(struct hand *hand, const struct un_event *event)
{
    hand->heard++;
    if (event->type == UN_EVENT_CONNECT)
        begin(hand, event);
    else if (event->type == UN_EVENT_MOVE)
        answer(hand, event);
    else if (event->type != UN_EVENT_SKIP)
        meet(hand, event);
    if (event->type == UN_EVENT_DATA) {
        CHECK_EQ(un_port_send(&hand->end, event->conn, un_port_bytes(&hand->end, event), event->length),
                 event->length);
        un_port_free_frame(&hand->end, event->frame);
    }
    if (event->type == UN_EVENT_CLOSE) {
        hand->knows[UN_ID_SLOT(event->conn)] = 0;
        hand->closed++;
    }
}

uint32_t serve_some(struct hand *hand, uint32_t most)
{
    uint32_t ready = hand->sits ? un_port_peek(&hand->end) : 0;
    ready = ready < most ? ready : most;
    for (uint32_t i = 0; i < ready; i++)
        hear(hand, un_port_event(&hand->end, i));
    un_port_release(&hand->end, ready);
    if (hand->sits)
        un_port_commit(&hand->end);
    return ready;
}

void serve(struct hand *hand)
{
    serve_some(hand, UINT32_MAX);
}

void turns(uint32_t count)
{
    while (count-- > 0)
        arena_turn();
}

void rounds(uint32_t count)
{
    while (count-- > 0) {
        arena_turn();
        serve(left);
        serve(right);
    }
}

/* The supervisor. */

int try_to_sit(struct hand *hand, bool resumes)
{
    int status = un_engine_attach_worker(arena.engine, hand->port, ++serials, resumes);
    if (status < 0)
        return status;
    *hand = (struct hand){.port = hand->port, .serial = serials, .sits = true};
    int to_engine = arena.worker_wakes[hand->port].to_engine;
    CHECK_EQ(un_port_attach(&hand->end, arena.setup.public, arena.setup.ports[hand->port], hand->port, to_engine), 0);
    return 0;
}

void sit(struct hand *hand)
{
    CHECK_EQ(try_to_sit(hand, true), 0);
}

void die(struct hand *hand)
{
    un_port_close(&hand->end);
    hand->sits = false;
    un_engine_lost_worker(arena.engine, hand->port, UN_LOSS_DIED);
}

uint32_t vacancies(const struct hand *hand)
{
    struct un_control word;
    uint32_t count = 0;
    while (recv(words[0], &word, sizeof word, MSG_DONTWAIT) == sizeof word) {
        CHECK_EQ(word.type, UN_CONTROL_VACANT);
        CHECK_EQ(word.serial, hand->serial);
        count += word.port == hand->port;
    }
    return count;
}

/* Peers of the honest seat. */

struct peer *peer_at(uint32_t number)
{
    for (uint32_t i = 0; i < PEERS; i++)
        if (arena.peers[i].seat == HONEST && number-- == 0)
            return &arena.peers[i];
    check_failed(__FILE__, __LINE__, "there are so many peers");
}

uint32_t peer_count(void)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < PEERS; i++)
        count += arena.peers[i].seat == HONEST;
    return count;
}

struct un_conn *conn_of(const struct peer *peer)
{
    return un_slot(arena.engine, UN_ID_SLOT(peer->conn));
}

struct un_work *work_of(const struct peer *peer)
{
    return &arena.engine->works[UN_ID_SLOT(peer->conn)];
}

bool is_at(const struct peer *peer, const struct hand *hand)
{
    return conn_of(peer)->port == hand->port;
}

void say(struct peer *peer, uint32_t length)
{
    peer_write(peer, length);
    for (int i = 0; i < 3; i++)
        arena_turn();
}

void hear_echoes(void)
{
    for (uint32_t i = 0; i < 20000; i++) {
        bool is_all = true;
        rounds(1);
        for (uint32_t peer = 0; peer < peer_count(); peer++) {
            peer_read(peer_at(peer));
            is_all &= peer_at(peer)->received == peer_at(peer)->sent;
        }
        if (is_all)
            return;
    }
    check_failed(__FILE__, __LINE__, "all echoes come");
}

void all_go_on(void)
{
    for (uint32_t i = 0; i < peer_count(); i++)
        say(peer_at(i), 60);
    hear_echoes();
}

void all_are_at(const struct hand *hand)
{
    for (uint32_t i = 0; i < peer_count(); i++)
        CHECK(is_at(peer_at(i), hand));
    CHECK_EQ(arena.engine->own->ports[hand->port].connections, peer_count());
    CHECK_EQ(arena.engine->own->ports[un_port_beside(hand->port)].connections, 0);
}

void open_seat(void)
{
    arena_open(carrier);
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, words), 0);
    arena.engine->setup.control_fd = arena.setup.control_fd = words[1];
    memset(hands, 0, sizeof hands);
    left->port = HONEST_PORT;
    right->port = HONEST_PORT + 1;
    left->end = arena.honest;
    memset(&arena.honest, 0, sizeof arena.honest);
    left->serial = arena.serial;
    left->sits = true;
    serials = arena.serial;
    for (uint32_t i = 0; i < peer_count(); i++)
        left->knows[UN_ID_SLOT(peer_at(i)->conn)] = peer_at(i)->conn;
    CHECK(peer_count() >= 3);
    all_go_on();
}

void close_seat(void)
{
    for (uint32_t i = 0; i < UN_PORTS; i++)
        if (hands[i].sits)
            un_port_close(&hands[i].end);
    arena_close();
    close(words[0]);
    close(words[1]);
}
