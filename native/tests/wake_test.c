/* Sleeping and waking: two threads hand a token to and fro and sleep at random; no wake-up is lost.
 *
 * One thread is a worker with a real port. The other one is an engine reduced to its sleep: the same words, fences and
 * looks, in the order of native/src/engine (events.c, engine.c, commits.c). A lost wake-up leaves both asleep; poll()
 * returns then by its timeout, which is
 * the failure. */
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

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
static int engine_wake, seat_wake;
static uint64_t engine_sleeps, worker_sleeps;

static void open_world(void)
{
    model_open(&model, model_config(), 0u - 1000);
    CHECK((engine_wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) >= 0);
    CHECK((seat_wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) >= 0);
    CHECK_EQ(un_port_attach(&port, model.public, model.seat, 0, engine_wake), 0);
    engine_sleeps = worker_sleeps = 0;
}

static void close_world(void)
{
    un_port_close(&port);
    model_close(&model);
    close(engine_wake);
    close(seat_wake);
}

static void sleep_on(int fd)
{
    uint64_t count;
    struct pollfd entry = {.fd = fd, .events = POLLIN};
    CHECK_EQ(poll(&entry, 1, TIMEOUT_MS), 1); /* else a wake-up was lost */
    CHECK_EQ(read(fd, &count, sizeof count), sizeof count);
}

/* The engine's half. */

static void wake_worker(void)
{
    uint64_t one = 1;
    un_fence();
    if (!un_load(&model.memory->sleeping))
        return;
    un_store(&model.memory->sleeping, 0);
    CHECK_EQ(write(seat_wake, &one, sizeof one), sizeof one);
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
    un_store(&engine->sleeping, mode);
    un_fence();
    if (!commit_changed()) {
        engine_sleeps++;
        sleep_on(engine_wake);
    }
    un_store(&engine->sleeping, UN_ENGINE_AWAKE);
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
    sleep_on(seat_wake);
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
