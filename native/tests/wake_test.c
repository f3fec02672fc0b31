/* Sleeping and waking: two threads hand a token to and fro and sleep at random; no wake-up is lost.
 *
 * One thread is a worker with a real port. The other one is an engine reduced to its sleep: the same words, fences and
 * looks, in the order of native/src/engine (events.c, engine.c, commits.c). A lost wake-up leaves both asleep; then
 * epoll_wait returns by its timeout, which is the failure. */
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/wake.h"
#include "check.h"
#include "model.h"
#include "shard/port.h"

enum {
    HAND_OVERS = UN_TEST_SANITIZED ? 40000 : 500000, /* each way */
    SPACE_ROUNDS = UN_TEST_SANITIZED ? 2000 : 30000,
    TIMEOUT_MS = 20000, /* of a sleep that nobody ends */
    SPIN_MAX = 300,    /* looks before a sleep: some see the token, some just miss it, some sleep long */
};

static struct model model;
static struct un_port port;
/* A pipe, and who sleeps on it as the engine and the worker's loop do: by edges, without reading. */
struct bed {
    int pipe[2];
    int epoll_fd;
    uint32_t heard;
};
static struct bed engine_bed, worker_bed;
static uint64_t engine_sleeps, worker_sleeps;

static void open_bed(struct bed *bed)
{
    struct epoll_event edges = {.events = EPOLLIN | EPOLLET};
    CHECK_EQ(pipe2(bed->pipe, O_NONBLOCK | O_CLOEXEC), 0);
    CHECK_EQ(fcntl(bed->pipe[1], F_SETPIPE_SZ, 4096), 4096);
    CHECK((bed->epoll_fd = epoll_create1(EPOLL_CLOEXEC)) >= 0);
    CHECK_EQ(epoll_ctl(bed->epoll_fd, EPOLL_CTL_ADD, bed->pipe[0], &edges), 0);
    bed->heard = 0;
}

/* Whoever woke did so once for each sleep, so the pipe was never near its end. */
static void close_bed(struct bed *bed)
{
    int unread;
    CHECK_EQ(ioctl(bed->pipe[0], FIONREAD, &unread), 0);
    CHECK(unread <= (int)UN_WAKES_PER_DRAIN + 1);
    close(bed->epoll_fd);
    close(bed->pipe[0]);
    close(bed->pipe[1]);
}

static void open_world(void)
{
    model_open(&model, model_config(), 0u - 1000);
    open_bed(&engine_bed);
    open_bed(&worker_bed);
    CHECK_EQ(un_port_attach(&port, model.public, model.seat, 0, engine_bed.pipe[1]), 0);
    engine_sleeps = worker_sleeps = 0;
}

static void close_world(void)
{
    un_port_close(&port);
    model_close(&model);
    close_bed(&engine_bed);
    close_bed(&worker_bed);
}

static void sleep_in(struct bed *bed)
{
    struct epoll_event event;
    CHECK_EQ(epoll_wait(bed->epoll_fd, &event, 1, TIMEOUT_MS), 1); /* else a wake-up was lost */
    un_wake_heard(bed->pipe[0], &bed->heard);
}

/* The engine's half. */

static void wake_worker(void)
{
    un_fence();
    if (!un_load(&model.memory->sleeping))
        return;
    un_store(&model.memory->sleeping, 0);
    CHECK(un_wake_send(worker_bed.pipe[1]));
}

static bool commit_changed(void)
{
    return un_observe(&model.memory->commit) != UN_COMMIT(model.events.seen, model.commands.own);
}

static void engine_waits(uint32_t spins, enum un_engine_sleep mode)
{
    struct un_engine_public *engine = un_engine_public(model.public);
    while (spins-- > 0 && !commit_changed())
        un_relax();
    if (commit_changed())
        return;
    un_store(&engine->sleeping, UN_SLEEP_NEXT(un_load(&engine->sleeping), mode));
    un_fence();
    if (!commit_changed()) {
        engine_sleeps++;
        sleep_in(&engine_bed);
    }
    un_store(&engine->sleeping, UN_SLEEP_AWAKE(un_load(&engine->sleeping)));
}

static void take_and_tell_space(void)
{
    uint32_t before = model.commands.own;
    model_take_commit(&model);
    model_take_commands(&model, UINT32_MAX);
    if (model.commands.own == before)
        return;
    un_fence();
    if (un_load(&model.memory->want_space))
        wake_worker();
}

/* One event goes to the worker; it answers with one command, or with the consumption of the event alone. */
static void *be_engine(void *unused)
{
    uint64_t random = 77;
    for (uint32_t round = 0; round < HAND_OVERS; round++) {
        uint32_t expected = model.events.own + 1;
        CHECK(model_push(&model, UN_EVENT_EOF, 0, NULL, 0));
        model_publish(&model);
        wake_worker();
        while (model.events.seen != expected) {
            engine_waits(random_below(&random, SPIN_MAX), UN_ENGINE_WAKE_ON_ANYTHING);
            take_and_tell_space();
        }
        model.journal_length = 0;
    }
    return unused;
}

static void worker_waits(uint32_t spins, bool want_space)
{
    while (spins-- > 0)
        un_relax();
    if (!un_port_sleep(&port, want_space))
        return;
    worker_sleeps++;
    sleep_in(&worker_bed);
    un_port_awake(&port);
}

static void a_token_goes_to_and_fro(void)
{
    pthread_t engine;
    uint64_t random = 99;
    open_world();
    CHECK_EQ(pthread_create(&engine, NULL, be_engine, NULL), 0);
    for (uint32_t round = 0; round < HAND_OVERS; round++) {
        while (un_port_peek(&port) == 0)
            worker_waits(random_below(&random, SPIN_MAX), false);
        un_port_release(&port, 1);
        if (round % 2)
            CHECK(un_port_command(&port, UN_COMMAND_PAUSE, model_conn_id(0), round));
        un_port_commit(&port);
    }
    CHECK_EQ(pthread_join(engine, NULL), 0);
    CHECK(engine_sleeps > 10);
    CHECK(worker_sleeps > 10);
    printf("# %" PRIu64 " sleeps of the engine, %" PRIu64 " of the worker\n", engine_sleeps, worker_sleeps);
    close_world();
}

/* The worker fills its command ring and sleeps until there is space; the engine sleeps until there are commands. */
static void *take_commands_for_ever(void *unused)
{
    uint64_t random = 55;
    uint32_t last = model.commands.own + SPACE_ROUNDS * model.config.command_slots;
    while (model.commands.own != last) {
        engine_waits(random_below(&random, SPIN_MAX), UN_ENGINE_WAKE_ON_COMMANDS);
        take_and_tell_space();
        model.journal_length = 0;
    }
    return unused;
}

static void a_full_command_ring_wakes_when_it_has_space(void)
{
    pthread_t engine;
    uint64_t random = 33;
    open_world();
    CHECK_EQ(pthread_create(&engine, NULL, take_commands_for_ever, NULL), 0);
    for (uint32_t left = SPACE_ROUNDS * model.config.command_slots; left > 0;) {
        if (un_port_command(&port, UN_COMMAND_PAUSE, model_conn_id(0), left)) {
            left--;
            continue;
        }
        un_port_commit(&port);
        worker_waits(random_below(&random, SPIN_MAX), true);
    }
    un_port_commit(&port);
    CHECK_EQ(pthread_join(engine, NULL), 0);
    CHECK(worker_sleeps > 10);
    printf("# %" PRIu64 " sleeps of the engine, %" PRIu64 " of the worker\n", engine_sleeps, worker_sleeps);
    close_world();
}

int main(void)
{
    RUN(a_token_goes_to_and_fro);
    RUN(a_full_command_ring_wakes_when_it_has_space);
    return 0;
}
