/* Takeover (P10) over real sockets: wherever a network process is killed, no connection is lost, and no byte is lost,
 * comes twice or changes. A scenario has a state for each instruction that stores and for each system call. Of these a
 * part is played, another one in each run; USNET_TEST_PART=1 plays all, and every 8th of a takeover. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "killed_world.h"

enum end { GOES_ON, PEER_ENDS, WORKER_ENDS, PEER_RESETS, WORKER_RESETS, WORKER_DIRTY, SERVER_ENDS };

enum flag {
    TCP_ONLY = 1 << 0, /* a unix socket cannot */
    UNIX_ONLY = 1 << 1,
};

struct scenario {
    const char *name;
    uint32_t connected;
    void (*prepare)(void); /* what the turn finds */
    enum end end;          /* of client 0 */
    uint32_t flags;        /* enum flag */
    enum killed_act act;   /* what is stepped through */
    void (*settle)(void);  /* what the supervisor does then; NULL: nothing */
};

enum { STATES_MAX = 1 << 14 };

static bool is_unix;
static const struct scenario *now;
static uint32_t part; /* one of so many states is played */

static struct killed_client *first = &world.clients[0];

/* Prepared. */

static void a_connection_comes(void)
{
    client_connect(1);
}

static void a_connection_comes_and_speaks(void)
{
    client_connect(1);
    client_write(1, 700);
}

static void requests_come(void)
{
    client_write(0, 300);
    client_write(1, 5);
}

static void a_long_request_comes(void)
{
    client_write(0, 11000);
}

static void answers_leave(void)
{
    worker_answer(0, 1000);
    worker_answer(1, 2500);
    worker_answer(0, 7);
}

static void a_request_comes_and_an_answer_leaves(void)
{
    client_write(0, 60);
    worker_answer(0, 60);
}

/* More than the kernel takes: what is left waits in the queue, and goes on when the client reads. */
static void a_blocked_answer_goes_on(void)
{
    const struct un_conn *conn = un_conn_at(world.setup.public, UN_ID_SLOT(first->conn));
    for (uint32_t i = 0; i < 3000 && !(conn->flags & UN_CONN_BLOCKED); i++) {
        if (un_port_credit(&world.workers[LEFT].end) >= 4000)
            worker_answer(0, 4000);
        world_turn();
    }
    CHECK(conn->flags & UN_CONN_BLOCKED);
    for (uint32_t i = 0; i < 20; i++) { /* until the kernel has passed on what it took */
        client_read(0);
        usleep(200);
    }
}

static void the_peer_ends(void)
{
    client_write(0, 400);
    CHECK_EQ(shutdown(first->fd, SHUT_WR), 0);
}

static void the_peer_resets(void)
{
    struct linger at_once = {.l_onoff = 1};
    CHECK_EQ(setsockopt(first->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
    CHECK_EQ(close(first->fd), 0);
    first->fd = -1;
}

/* With an answer that it did not read, which a unix socket takes for a reset, and tells once. */
static void the_peer_leaves_an_answer(void)
{
    worker_answer(0, 500);
    for (uint32_t i = 0; i < 3; i++)
        world_turn();
    client_write(0, 300);
    CHECK_EQ(close(first->fd), 0);
    first->fd = -1;
}

/* The answer finds nobody: a FIN was counted before. */
static void the_peer_ends_and_resets(void)
{
    client_write(0, 50);
    CHECK_EQ(shutdown(first->fd, SHUT_WR), 0);
    for (uint32_t i = 0; i < 3; i++) {
        world_turn();
        workers_serve();
    }
    CHECK(first->heard_eof);
    worker_answer(0, 500);
    the_peer_resets();
}

static void the_worker_closes(void)
{
    worker_answer(0, 900);
    worker_order(0, UN_COMMAND_CLOSE, 0);
}

static void the_worker_closes_what_the_peer_has_ended(void)
{
    CHECK_EQ(shutdown(first->fd, SHUT_WR), 0);
    world_turn();
    world_turn();
    workers_serve();
    CHECK(first->heard_eof);
    the_worker_closes();
}

static void the_worker_aborts(void)
{
    worker_order(0, UN_COMMAND_ABORT, UN_REASON_ABORTED);
}

static void the_worker_ends_its_half(void)
{
    worker_answer(0, 900);
    worker_order(0, UN_COMMAND_SEND_EOF, 0);
    client_write(0, 50);
}

static void an_urgent_byte_comes(void)
{
    client_write(0, 100);
    uint64_t position = first->wrote;
    uint8_t urgent = (uint8_t)(position * 31 + position / 251);
    CHECK_EQ(send(first->fd, &urgent, 1, MSG_OOB), 1);
    first->wrote++;
    client_write(0, 100);
}

static void the_worker_keeps_a_state(void)
{
    uint64_t state = 0x1234;
    CHECK(un_port_state(&world.workers[LEFT].end, first->conn, &state, sizeof state));
    worker_answer(0, 10);
}

/* The seat changes hands. */

/* Both are asked for by the turn. */
static void a_successor_sits(void)
{
    client_write(0, 30);
    world_do(ACT_ATTACH_RIGHT);
}

static void connections_are_given_up(void)
{
    world_do(ACT_ATTACH_RIGHT);
    world_turn();
    client_write(0, 90);
    worker_serve(LEFT);
    worker_answer(1, 700);
}

static void a_connection_with_unsent_output_is_given_up(void)
{
    a_blocked_answer_goes_on();
    world_do(ACT_ATTACH_RIGHT);
    world_turn();
    worker_serve(LEFT);
    CHECK_EQ(first->owner, -1);
}

static void events_wait_for_a_worker(void)
{
    client_write(0, 800);
    client_write(1, 5);
    world_turn();
    client_write(0, 20);
    world_turn();
}

static void events_of_a_dead_worker_wait(void)
{
    events_wait_for_a_worker();
    worker_dies(LEFT);
    world_do(ACT_LOSE_LEFT);
    client_write(1, 40);
}

static void events_of_a_dead_worker_are_copied(void)
{
    events_of_a_dead_worker_wait();
    world_do(ACT_ATTACH_RIGHT);
}

/* It was asked, and has read none of it. */
static void the_leaving_worker_dies(void)
{
    events_wait_for_a_worker();
    world_do(ACT_ATTACH_RIGHT);
    world_turn();
    client_write(1, 60);
    worker_dies(LEFT);
}

static void the_successor_dies(void)
{
    world_do(ACT_ATTACH_RIGHT);
    world_turn();
    worker_serve(LEFT);
    world_turn();
    events_wait_for_a_worker();
    worker_dies(RIGHT);
}

static void a_spare_takes_its_port(void)
{
    world_do(ACT_ATTACH_RIGHT);
}

/* With output of its own, of the first; and some of either is unread. */
static void a_worker_with_uncommitted_output_dies(void)
{
    un_port_set_dirty(&world.workers[LEFT].end, first->conn, true);
    events_wait_for_a_worker();
    worker_dies(LEFT);
}

/* The worker at the other port was asked before. */
static void both_die(void)
{
    events_wait_for_a_worker();
    world_do(ACT_ATTACH_RIGHT);
    world_turn();
    worker_dies(RIGHT);
    world_do(ACT_LOSE_RIGHT);
    worker_dies(LEFT);
    client_write(1, 60);
}

static void a_spare_comes_to_the_first_port(void)
{
    world_do(ACT_ATTACH_LEFT);
}

static void a_successor_comes(void)
{
    client_write(0, 10);
}

/* The first has got its answer; what the second one says nobody has received. */
static void the_server_stops(void)
{
    worker_answer(0, 900);
    client_write(1, 50);
}

/* Judged. */

static bool all_is_there(void)
{
    for (uint32_t i = 0; i < KILLED_CLIENTS; i++) {
        const struct killed_client *end = &world.clients[i];
        if (end->fd >= 0 && (end->conn == 0 || end->heard != end->wrote || end->got != end->answered))
            return false;
    }
    return true;
}

static bool end_is_heard(void)
{
    return first->heard_close;
}

static bool client_sees_the_end(void)
{
    return first->got_eof || first->got_reset;
}

static bool both_see_the_end(void)
{
    const struct killed_client *second = &world.clients[1];
    return client_sees_the_end() && (second->got_eof || second->got_reset);
}

static bool eof_is_heard(void)
{
    return first->heard_eof;
}

static void judge_end(void)
{
    switch (now->end) {
    case GOES_ON:
    case WORKER_DIRTY:
    case SERVER_ENDS: break;
    case PEER_ENDS:
        world_until(eof_is_heard, "the worker hears the end");
        break;
    case WORKER_ENDS:
        world_until(client_sees_the_end, "the client sees the end");
        CHECK(first->got_eof && !first->got_reset);
        close(first->fd);
        first->fd = -1;
        world_until(end_is_heard, "the worker hears that it is over");
        CHECK(first->reason == UN_REASON_LOCAL || first->reason == UN_REASON_PEER);
        break;
    case PEER_RESETS:
        world_until(end_is_heard, "the worker hears of the reset");
        CHECK_EQ(first->reason, UN_REASON_RESET);
        CHECK(!first->heard_eof || now->prepare == the_peer_ends_and_resets);
        CHECK(first->heard == first->wrote || now->prepare == the_peer_resets);
        break;
    case WORKER_RESETS:
        world_until(end_is_heard, "the worker hears that it is over");
        CHECK_EQ(first->reason, UN_REASON_ABORTED);
        world_until(client_sees_the_end, "the client sees the reset");
        CHECK(first->got_reset || is_unix);
        break;
    }
}

/* In order if it was done. */
static void judge_stop(void)
{
    const struct killed_client *second = &world.clients[1];
    world_until(both_see_the_end, "the clients see the end");
    CHECK(first->got_eof && first->got == first->answered);
    CHECK(second->got_reset);
}

/* Before others go on. */
static void judge_dirty(void)
{
    world_until(client_sees_the_end, "the client sees the reset");
    CHECK(first->got_reset || is_unix);
    world_until(end_is_heard, "the next worker hears of it");
    CHECK_EQ(first->reason, UN_REASON_WORKER_LOST);
    CHECK_EQ(first->heard, 0);
    close(first->fd);
    first->fd = -1;
}

/* What goes on still carries bytes, both ways. */
static void use(void)
{
    for (uint32_t i = 0; i < KILLED_CLIENTS; i++) {
        struct killed_client *end = &world.clients[i];
        if (end->fd < 0 || end->got_eof || end->got_reset)
            continue;
        if (i > 0 || now->end == GOES_ON)
            client_write(i, 100);
        worker_answer(i, 200);
    }
    world_until(all_is_there, "connections go on");
}

static uint64_t counted_lost(void)
{
    return un_load(&un_engine_public(world.setup.public)->counters.closed[UN_REASON_NETWORK_LOST]);
}

static void judge(void)
{
    if (now->end == SERVER_ENDS) {
        judge_stop();
        return;
    }
    if (now->end == WORKER_DIRTY)
        judge_dirty();
    if (now->end != WORKER_RESETS) /* else what is on its way is lost rightly */
        world_until(all_is_there, "all bytes arrive");
    judge_end();
    use();
    CHECK_EQ(counted_lost(), 0);
    const struct un_conn *conn = un_conn_at(world.setup.public, UN_ID_SLOT(first->conn));
    if (now->prepare == the_worker_keeps_a_state)
        CHECK_EQ(conn->state_length, 8);
}

static void begin(void)
{
    world_open(is_unix, now->connected);
    now->prepare();
}

static uint32_t record(enum killed_act act, uint32_t *steps)
{
    uint32_t count = world_record(act, steps, STATES_MAX);
    CHECK(count > 10);
    return count;
}

/* Which of every `count` states is the first to be played. */
static uint32_t some_of(uint32_t count)
{
    return (uint32_t)random() % count;
}

/* Of takeovers: they are long, and each state has one. */
static uint32_t takeover_part(void)
{
    return part == 1 ? 8 : 32 * part;
}

static void name_state(const char *who, uint32_t step, uint32_t takeover_step)
{
    static char name[160];
    snprintf(name, sizeof name, "%s: %s killed after %u steps (%u)", now->name, who, step, takeover_step);
    check_test = name;
}

/* What was asked for and not confirmed is asked for again. */
static void go_on(void)
{
    if (now->act != ACT_TURN)
        world_do(now->act);
    if (now->settle)
        now->settle();
}

static void play(uint32_t step)
{
    name_state("it was", step, 0);
    begin();
    world_kill(now->act, step);
    world_take_over();
    go_on();
    judge();
    world_close();
}

/* The one that takes over is killed as well. */
static void play_twice(uint32_t step)
{
    static uint32_t steps[STATES_MAX];
    begin();
    world_kill(now->act, step);
    uint32_t count = record(ACT_TAKEOVER, steps);
    world_take_over();
    go_on();
    judge();
    world_close();
    for (uint32_t i = some_of(takeover_part()); i < count; i += takeover_part()) {
        name_state("its successor too was", step, steps[i]);
        begin();
        world_kill(now->act, step);
        world_kill(ACT_TAKEOVER, steps[i]);
        world_take_over();
        go_on();
        judge();
        world_close();
    }
}

/* One state again: USNET_TEST_STEPS=306 or, with its successor, 306,7965. */
static void replay(const struct scenario *scenario, const char *text)
{
    char *rest;
    uint32_t step = (uint32_t)strtoul(text, &rest, 10);
    now = scenario;
    if (*rest == 0) {
        play(step);
        return;
    }
    begin();
    world_kill(now->act, step);
    world_kill(ACT_TAKEOVER, (uint32_t)strtoul(rest + 1, NULL, 10));
    world_take_over();
    go_on();
    judge();
    world_close();
}

static void killed_anywhere(const struct scenario *scenario)
{
    static uint32_t steps[STATES_MAX];
    now = scenario;
    name_state("not yet", 0, 0);
    begin();
    uint32_t count = record(now->act, steps);
    world_take_over();
    go_on();
    judge();
    world_close();
    for (uint32_t i = some_of(part); i < count; i += part)
        play(steps[i]);
    for (uint32_t i = some_of(takeover_part()); i < count; i += takeover_part())
        play_twice(steps[i]);
    printf("ok %s: %u states\n", scenario->name, count);
}

/* As a descriptor that came with a request, over which its engine died. Others have it open, too. */
static void a_listener_that_was_not_noted_stays_as_it_is(void)
{
    struct linger linger;
    socklen_t length = sizeof linger;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQ(listen(fd, 1), 0);
    world_open(false, 0);
    world_take_over();
    CHECK_EQ(getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &length), 0);
    CHECK_EQ(linger.l_onoff, 0);
    world_close();
    close(fd);
}

int main(int argc, char **argv)
{
    static const struct scenario scenarios[] = {
        {"a connection comes", 1, a_connection_comes, GOES_ON, 0, ACT_TURN, NULL},
        {"a connection comes and speaks", 1, a_connection_comes_and_speaks, GOES_ON, 0, ACT_TURN, NULL},
        {"requests come", 2, requests_come, GOES_ON, 0, ACT_TURN, NULL},
        {"a long request comes", 2, a_long_request_comes, GOES_ON, 0, ACT_TURN, NULL},
        {"answers leave", 2, answers_leave, GOES_ON, 0, ACT_TURN, NULL},
        {"a request comes and an answer leaves", 2, a_request_comes_and_an_answer_leaves, GOES_ON, 0, ACT_TURN, NULL},
        {"a blocked answer goes on", 2, a_blocked_answer_goes_on, GOES_ON, 0, ACT_TURN, NULL},
        {"the peer ends", 2, the_peer_ends, PEER_ENDS, 0, ACT_TURN, NULL},
        {"the peer resets", 2, the_peer_resets, PEER_RESETS, TCP_ONLY, ACT_TURN, NULL},
        {"the peer leaves an answer", 2, the_peer_leaves_an_answer, PEER_RESETS, UNIX_ONLY, ACT_TURN, NULL},
        {"the peer ends and resets", 2, the_peer_ends_and_resets, PEER_RESETS, TCP_ONLY, ACT_TURN, NULL},
        {"the worker closes", 2, the_worker_closes, WORKER_ENDS, 0, ACT_TURN, NULL},
        {"the worker closes what the peer ended", 2, the_worker_closes_what_the_peer_has_ended, WORKER_ENDS, 0,
         ACT_TURN, NULL},
        {"the worker aborts", 2, the_worker_aborts, WORKER_RESETS, 0, ACT_TURN, NULL},
        {"the worker ends its half", 2, the_worker_ends_its_half, GOES_ON, 0, ACT_TURN, NULL},
        {"an urgent byte comes", 2, an_urgent_byte_comes, GOES_ON, TCP_ONLY, ACT_TURN, NULL},
        {"the worker keeps a state", 2, the_worker_keeps_a_state, GOES_ON, 0, ACT_TURN, NULL},
        {"the server stops", 2, the_server_stops, SERVER_ENDS, 0, ACT_END_ALL, NULL},
        {"a successor comes", 2, a_successor_comes, GOES_ON, 0, ACT_ATTACH_RIGHT, NULL},
        {"a worker is asked", 2, a_successor_sits, GOES_ON, 0, ACT_TURN, NULL},
        {"connections are given up", 2, connections_are_given_up, GOES_ON, 0, ACT_TURN, NULL},
        {"unsent output is given up", 2, a_connection_with_unsent_output_is_given_up, GOES_ON, 0, ACT_TURN, NULL},
        {"a worker comes beside events", 2, events_of_a_dead_worker_wait, GOES_ON, 0, ACT_ATTACH_RIGHT, NULL},
        {"events are copied", 2, events_of_a_dead_worker_are_copied, GOES_ON, 0, ACT_TURN, NULL},
        {"the leaving worker dies", 2, the_leaving_worker_dies, GOES_ON, 0, ACT_LOSE_LEFT, NULL},
        {"a worker dies with uncommitted output", 2, a_worker_with_uncommitted_output_dies, WORKER_DIRTY, 0,
         ACT_LOSE_LEFT, a_spare_comes_to_the_first_port},
        {"both die", 2, both_die, GOES_ON, 0, ACT_LOSE_LEFT, a_spare_comes_to_the_first_port},
        {"the successor dies", 2, the_successor_dies, GOES_ON, 0, ACT_LOSE_RIGHT, a_spare_takes_its_port},
    };
    const char *wanted = getenv("USNET_TEST_PART"), *only = getenv("USNET_TEST_ONLY"),
               *again = getenv("USNET_TEST_STEPS");
    part = wanted ? (uint32_t)atoi(wanted) : UN_TEST_SANITIZED ? 128 : 16;
    CHECK(part > 0);
    srandom((unsigned)time(NULL));
    is_unix = argc > 1 && strcmp(argv[1], "unix") == 0;
    RUN(a_listener_that_was_not_noted_stays_as_it_is);
    for (uint32_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++)
        if (!(scenarios[i].flags & (is_unix ? TCP_ONLY : UNIX_ONLY)) && (!only || strstr(scenarios[i].name, only)))
            again ? replay(&scenarios[i], again) : killed_anywhere(&scenarios[i]);
    return 0;
}
