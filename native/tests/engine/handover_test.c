/* The hand-over of a seat (engine/handover.h), over sockets and over our stack: no byte of a connection is lost, comes
 * twice or out of order while it changes its worker, whoever dies meanwhile; and no worker hears of a connection that
 * it gave up. The two workers are hands of this process, at the two ports of the arena's honest seat; peers check the
 * bytes. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../fuzz/arena.h"
#include "check.h"
#include "engine/control.h"
#include "engine/conns.h"

enum manner { RELEASES, KEEPS, IS_SILENT };

/* A worker: echoes, and answers questions in its manner. */
static struct hand {
    uint32_t port;
    uint32_t serial;
    struct un_port end;
    bool sits;
    enum manner manner;
    uint64_t knows[CONN_MAX]; /* by slot */
    uint32_t resumed, asked, heard, closed;
} hands[UN_PORTS];

static struct hand *const left = &hands[0], *const right = &hands[1];
static const struct carrier *carrier;
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

/* So many events at most. */
static uint32_t serve_some(struct hand *hand, uint32_t most)
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

static void serve(struct hand *hand)
{
    serve_some(hand, UINT32_MAX);
}

static void turns(uint32_t count)
{
    while (count-- > 0)
        arena_turn();
}

static void rounds(uint32_t count)
{
    while (count-- > 0) {
        arena_turn();
        serve(left);
        serve(right);
    }
}

/* The supervisor. */

static int try_to_sit(struct hand *hand, bool resumes)
{
    int status = un_engine_attach_worker(arena.engine, hand->port, ++serials, resumes);
    if (status < 0)
        return status;
    *hand = (struct hand){.port = hand->port, .serial = serials, .sits = true};
    int to_engine = arena.worker_wakes[hand->port].to_engine;
    CHECK_EQ(un_port_attach(&hand->end, arena.setup.public, arena.setup.ports[hand->port], hand->port, to_engine), 0);
    return 0;
}

static void sit(struct hand *hand)
{
    CHECK_EQ(try_to_sit(hand, true), 0);
}

static void die(struct hand *hand)
{
    un_port_close(&hand->end);
    hand->sits = false;
    un_engine_lost_worker(arena.engine, hand->port, false);
}

/* How often the supervisor was told, since it was asked last, that the port is vacant. */
static uint32_t vacancies(const struct hand *hand)
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

static struct peer *peer_at(uint32_t number)
{
    for (uint32_t i = 0; i < PEERS; i++)
        if (arena.peers[i].seat == HONEST && number-- == 0)
            return &arena.peers[i];
    check_failed(__FILE__, __LINE__, "there are so many peers");
}

static uint32_t peer_count(void)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < PEERS; i++)
        count += arena.peers[i].seat == HONEST;
    return count;
}

static struct un_conn *conn_of(const struct peer *peer)
{
    return un_slot(arena.engine, UN_ID_SLOT(peer->conn));
}

static struct un_work *work_of(const struct peer *peer)
{
    return &arena.engine->works[UN_ID_SLOT(peer->conn)];
}

static bool is_at(const struct peer *peer, const struct hand *hand)
{
    return conn_of(peer)->port == hand->port;
}

static void say(struct peer *peer, uint32_t length)
{
    peer_write(peer, length);
    for (int i = 0; i < 3; i++)
        arena_turn();
}

/* All that was said comes back. */
static void hear_echoes(void)
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

static void all_go_on(void)
{
    for (uint32_t i = 0; i < peer_count(); i++)
        say(peer_at(i), 60);
    hear_echoes();
}

static void all_are_at(const struct hand *hand)
{
    for (uint32_t i = 0; i < peer_count(); i++)
        CHECK(is_at(peer_at(i), hand));
    CHECK_EQ(arena.engine->own->ports[hand->port].connections, peer_count());
    CHECK_EQ(arena.engine->own->ports[un_port_beside(hand->port)].connections, 0);
}

/* A worker at the left that knows all connections of the seat. */
static void open_seat(void)
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

static void close_seat(void)
{
    for (uint32_t i = 0; i < UN_PORTS; i++)
        if (hands[i].sits)
            un_port_close(&hands[i].end);
    arena_close();
    close(words[0]);
    close(words[1]);
}

/* Both workers sit. */

static void connections_move_when_their_worker_releases_them(void)
{
    open_seat();
    sit(right);
    rounds(20);
    all_are_at(right);
    CHECK_EQ(left->asked, peer_count());
    CHECK_EQ(vacancies(left), 1);
    uint32_t heard = left->heard;
    all_go_on();
    CHECK_EQ(left->heard, heard);
    CHECK_EQ(right->resumed, peer_count());
    die(left);
    all_go_on();
    CHECK_EQ(vacancies(left), 0);
    close_seat();
}

static void new_connections_go_to_who_came_last(void)
{
    open_seat();
    left->manner = IS_SILENT;
    sit(right);
    struct peer *peer = peer_at(0);
    peer_disconnect(peer);
    rounds(5);
    peer_connect(peer); /* it may be of the other seat; then that one has fewer */
    if (peer->seat == HONEST)
        CHECK(is_at(peer, right));
    close_seat();
}

static void nothing_follows_a_question_until_it_is_answered(void)
{
    open_seat();
    struct peer *peer = peer_at(0);
    left->manner = IS_SILENT;
    sit(right);
    rounds(20);
    uint32_t heard = left->heard;
    CHECK_EQ(left->asked, peer_count());
    say(peer, 100);
    carrier->half_close(peer->fd);
    rounds(20);
    CHECK_EQ(left->heard, heard);
    CHECK_EQ(right->heard, 0);
    CHECK_EQ(vacancies(left), 0);
    CHECK(un_port_command(&left->end, UN_COMMAND_RELEASE, peer->conn, 0));
    left->knows[UN_ID_SLOT(peer->conn)] = 0;
    un_port_commit(&left->end);
    rounds(20);
    CHECK_EQ(left->heard, heard);
    CHECK_EQ(right->heard, 2); /* data, end of file */
    peer_read(peer);
    CHECK_EQ(peer->received, peer->sent);
    close_seat();
}

static void who_is_kept_goes_on_and_is_asked_again_when_it_is_settled(void)
{
    open_seat();
    struct peer *peer = peer_at(1);
    left->manner = KEEPS;
    sit(right);
    rounds(20);
    all_go_on();
    CHECK_EQ(left->asked, peer_count());
    CHECK_EQ(right->heard, 0);
    left->manner = RELEASES;
    CHECK(un_port_command(&left->end, UN_COMMAND_SETTLED, peer->conn, 0));
    rounds(20);
    CHECK_EQ(left->asked, peer_count() + 1);
    CHECK(is_at(peer, right));
    CHECK_EQ(arena.engine->own->ports[right->port].connections, 1);
    all_go_on();
    CHECK_EQ(right->resumed, 1);
    close_seat();
}

/* Who hears of an end depends on the answer. */
static void an_end_is_told_to_who_has_the_connection(void)
{
    for (int kept = 0; kept < 2; kept++) {
        open_seat();
        struct peer *peer = peer_at(0);
        left->manner = IS_SILENT;
        sit(right);
        rounds(20);
        un_engine_conn_ended(arena.engine, peer->conn, UN_REASON_RESET);
        rounds(5);
        CHECK_EQ(left->closed + right->closed, 0);
        CHECK(un_port_command(&left->end, kept ? UN_COMMAND_KEEP : UN_COMMAND_RELEASE, peer->conn, 0));
        rounds(5);
        CHECK_EQ(left->closed, kept);
        CHECK_EQ(right->closed, !kept);
        CHECK_EQ(conn_of(peer)->state, UN_CONN_FREE);
        CHECK_EQ(arena.engine->own->ports[left->port].moving, peer_count() - 1);
        close_seat();
    }
}

/* A peer that does not read is answered more than the way to it takes. */
static void block(struct peer *peer)
{
    for (uint32_t i = 0; i < 20000 && !(conn_of(peer)->flags & UN_CONN_BLOCKED); i++) {
        peer_write(peer, ECHO_MAX);
        rounds(1);
    }
    CHECK(conn_of(peer)->flags & UN_CONN_BLOCKED);
    CHECK(work_of(peer)->tx_head != UN_NONE);
}

static void unsent_output_moves_with_its_connection(void)
{
    open_seat();
    struct peer *peer = peer_at(0);
    block(peer);
    sit(right);
    for (uint32_t i = 0; i < 50 && !is_at(peer, right); i++)
        rounds(1);
    CHECK(is_at(peer, right));
    CHECK_EQ(un_node_port(right->port, work_of(peer)->tx_head), left->port);
    CHECK_EQ(vacancies(left), 1);
    die(left);
    say(peer, 10); /* answered behind that */
    rounds(10);
    CHECK_EQ(un_node_port(right->port, work_of(peer)->tx_tail), right->port);
    hear_echoes();
    all_go_on();
    sit(left); /* its frames came free, all of them */
    CHECK_EQ(arena.engine->own->ports[left->port].node_free_count, arena.engine->node_count);
    CHECK_EQ(left->end.tx_free_count, arena.config.tx_frames);
    rounds(30);
    all_are_at(left);
    all_go_on();
    close_seat();
}

static void a_seat_changes_hands_again_and_again(void)
{
    open_seat();
    for (uint32_t i = 0; i < 40; i++) {
        struct hand *old = &hands[i % 2], *new = &hands[(i + 1) % 2];
        for (uint32_t peer = 0; peer < peer_count(); peer++)
            peer_write(peer_at(peer), 1 + (i * 37 + peer * 11) % 100);
        sit(new);
        hear_echoes();
        rounds(20);
        all_are_at(new);
        CHECK_EQ(vacancies(old), 1);
        die(old);
    }
    all_go_on();
    close_seat();
}

/* The supervisor takes the change back. */
static void who_is_attached_again_gets_everything_back(void)
{
    open_seat();
    left->manner = IS_SILENT;
    sit(right);
    rounds(20);
    CHECK(un_port_command(&left->end, UN_COMMAND_RELEASE, peer_at(0)->conn, 0));
    left->knows[UN_ID_SLOT(peer_at(0)->conn)] = 0;
    rounds(3);
    CHECK(is_at(peer_at(0), right));
    CHECK_EQ(un_engine_attach_worker(arena.engine, left->port, left->serial, true), 0);
    rounds(20);
    CHECK(is_at(peer_at(0), left));
    CHECK_EQ(vacancies(right), 1);
    for (uint32_t i = 1; i < peer_count(); i++) { /* what was asked before is answered now */
        CHECK(un_port_command(&left->end, UN_COMMAND_RELEASE, peer_at(i)->conn, 0));
        left->knows[UN_ID_SLOT(peer_at(i)->conn)] = 0;
    }
    rounds(3);
    all_are_at(left);
    uint32_t heard = right->heard;
    all_go_on();
    CHECK_EQ(right->heard, heard);
    CHECK_EQ(left->resumed, peer_count());
    close_seat();
}

static void without_on_resume_connections_stay_until_their_worker_is_gone(void)
{
    open_seat();
    CHECK_EQ(try_to_sit(right, false), 0);
    rounds(20);
    CHECK_EQ(left->asked, 0);
    all_are_at(left);
    all_go_on();
    CHECK_EQ(right->heard, 0);
    die(left);
    rounds(20);
    for (uint32_t i = 0; i < PEERS; i++)
        if (arena.peers[i].seat == HONEST)
            CHECK_EQ(un_load(&un_slot(arena.engine, UN_ID_SLOT(arena.peers[i].conn))->id) == arena.peers[i].conn &&
                         un_is_alive(un_slot(arena.engine, UN_ID_SLOT(arena.peers[i].conn))),
                     false);
    CHECK_EQ(vacancies(left), 1);
    close_seat();
}

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
    CHECK_EQ(un_engine_attach_worker(arena.engine, left->port, ++serials, true), 0); /* all fit, so it is free again */
    un_engine_lost_worker(arena.engine, left->port, false);
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
    return un_engine_lost_worker(arena.engine, hand->port, false);
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

/* Answers that nobody asked for. */

static void command(struct hand *hand, enum un_command_op op, uint64_t conn)
{
    CHECK(un_port_command(&hand->end, op, conn, 0));
    un_port_commit(&hand->end);
    arena_turn();
}

static void answers_that_nobody_asked_for_are_refused(void)
{
    open_seat();
    struct un_engine_counters *counters = arena.engine->counters;
    uint64_t conn = peer_at(0)->conn, bad = un_load(&counters->bad_commands);
    command(left, UN_COMMAND_RELEASE, conn);
    command(left, UN_COMMAND_KEEP, conn);
    command(left, UN_COMMAND_SETTLED, conn);
    CHECK_EQ(un_load(&counters->bad_commands), bad + 3);
    left->manner = IS_SILENT;
    sit(right);
    rounds(20);
    command(left, UN_COMMAND_SETTLED, conn); /* it was not kept */
    CHECK_EQ(un_load(&counters->bad_commands), bad + 4);
    uint64_t foreign = un_load(&counters->foreign_commands);
    command(right, UN_COMMAND_RELEASE, conn);
    CHECK_EQ(un_load(&counters->foreign_commands), foreign + 1);
    command(left, UN_COMMAND_RELEASE, conn);
    command(left, UN_COMMAND_RELEASE, conn);
    command(left, UN_COMMAND_KEEP, conn);
    command(left, UN_COMMAND_ABORT, conn);
    CHECK_EQ(un_load(&counters->foreign_commands), foreign + 4);
    command(right, UN_COMMAND_RELEASE, conn);
    CHECK_EQ(un_load(&counters->bad_commands), bad + 5);
    CHECK(is_at(peer_at(0), right));
    left->knows[UN_ID_SLOT(conn)] = 0;
    left->manner = RELEASES;
    for (uint32_t i = 1; i < peer_count(); i++)
        command(left, UN_COMMAND_RELEASE, peer_at(i)->conn);
    all_go_on();
    close_seat();
}

/* It says so before it has read what stands in its ring. */
static void a_connection_is_not_released_before_its_events_are_read(void)
{
    open_seat();
    struct peer *peer = peer_at(0);
    uint64_t bad = un_load(&arena.engine->counters->bad_commands);
    say(peer, 30);
    sit(right);
    turns(3);
    command(left, UN_COMMAND_RELEASE, peer->conn);
    CHECK_EQ(un_load(&arena.engine->counters->bad_commands), bad + 1);
    CHECK(is_at(peer, left));
    hear_echoes();
    rounds(10);
    all_are_at(right);
    close_seat();
}

static void over(const struct carrier *which)
{
    carrier = which;
    RUN(connections_move_when_their_worker_releases_them);
    RUN(new_connections_go_to_who_came_last);
    RUN(nothing_follows_a_question_until_it_is_answered);
    RUN(who_is_kept_goes_on_and_is_asked_again_when_it_is_settled);
    RUN(an_end_is_told_to_who_has_the_connection);
    RUN(unsent_output_moves_with_its_connection);
    RUN(a_seat_changes_hands_again_and_again);
    RUN(who_is_attached_again_gets_everything_back);
    RUN(without_on_resume_connections_stay_until_their_worker_is_gone);
    RUN(events_of_a_dead_worker_are_copied_in_their_order);
    RUN(copying_waits_for_space);
    RUN(a_connection_without_events_moves_at_once);
    RUN(a_successor_that_dies_leaves_the_old_worker_working);
    RUN(what_moved_waits_for_a_spare_when_the_successor_dies);
    RUN(both_die_and_the_next_worker_may_come_to_either_port);
    RUN(the_heir_dies_while_events_are_copied);
    RUN(a_connection_ends_while_its_events_are_copied);
    RUN(an_event_that_a_worker_died_of_is_a_suspect_at_its_new_place);
    RUN(dirty_connections_of_a_dead_leaving_worker_are_reset_and_no_other);
    RUN(answers_that_nobody_asked_for_are_refused);
    RUN(a_connection_is_not_released_before_its_events_are_read);
}

int main(void)
{
    over(&carrier_sockets);
    over(&carrier_stack);
    return 0;
}
