/* A worker and its successor sit at one seat (engine/moving.h), over sockets and our stack: no byte of a connection is
 * lost, comes twice or out of order while it changes its worker, and no worker hears of one that it gave up. */
#include "engine/conns.h"
#include "engine/engine.h"
#include "hands.h"

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
    RUN(answers_that_nobody_asked_for_are_refused);
    RUN(a_connection_is_not_released_before_its_events_are_read);
}

int main(void)
{
    over(&carrier_sockets);
    over(&carrier_stack);
    return 0;
}
