/* A seat with 100,000 connections changes hands: what a turn does for that is bounded, so that it delays nobody.
 *
 * The connections are made in the table, and nothing is ever carried by them. Work is counted, not timed; the times
 * that are printed are for people, and are of the processor, whoever else uses it. */
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "engine/clock.h"
#include "engine/conns.h"
#include "engine/engine.h"
#include "engine/events.h"
#include "engine/state.h"
#include "shard/port.h"

enum { CONNECTIONS = 100000, PER_TURN_MAX = 256, TURNS_MAX = 5000 };

static struct un_segment_config config;
static struct un_segment_layout layout;
static struct un_engine_setup setup;
static struct un_engine *engine;
static struct un_port left, right;

static void *map(uint64_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}

static void open_engine(void)
{
    const char *why;
    config = (struct un_segment_config){.seats = 1, .conn_max = CONNECTIONS, .state_bytes = 64, .event_slots = 4096,
                                        .command_slots = 8192, .rx_frame_bytes = 65536, .rx_frames = 512,
                                        .tx_frame_bytes = 16384, .tx_frames = 4096, .rx_budget = 131072,
                                        .tx_budget = 262144, .hold_max = 128};
    const struct un_engine_options options = {.connection_limit = CONNECTIONS};
    CHECK_EQ(un_segment_plan(&config, &layout, &why), 0);
    memset(&setup, 0, sizeof setup);
    setup.private = map(un_engine_private_bytes(&config));
    setup.public = map(layout.public_bytes);
    for (uint32_t port = 0; port < UN_PORTS; port++) {
        setup.ports[port] = map(layout.port_bytes);
        setup.wake_fds[port] = setup.port_wake_fds[port] = -1;
    }
    setup.control_fd = -1;
    CHECK((setup.epoll_fd = epoll_create1(EPOLL_CLOEXEC)) >= 0);
    un_segment_format(setup.public, &config, &layout, &options);
    CHECK((engine = un_engine_start(&setup)) != NULL);
    un_engine_attach_worker(engine, 0, 1, true);
    CHECK_EQ(un_port_attach(&left, setup.public, setup.ports[0], 0, -1), 0);
}

static void close_engine(void)
{
    un_port_close(&right);
    un_engine_free(engine);
    close(setup.epoll_fd);
    munmap(setup.private, un_engine_private_bytes(&config));
    munmap(setup.public, layout.public_bytes);
    for (uint32_t port = 0; port < UN_PORTS; port++)
        munmap(setup.ports[port], layout.port_bytes);
}

static void fill_table(void)
{
    for (uint32_t i = 0; i < CONNECTIONS; i++) {
        uint32_t slot = un_engine_conn_take_slot(engine);
        struct un_conn *conn = un_slot(engine, slot);
        engine->works[slot].generation = 1;
        engine->works[slot].handle = -1;
        engine->works[slot].tx_head = engine->works[slot].tx_tail = UN_NONE;
        conn->port = 0;
        conn->state = UN_CONN_OPEN;
        un_store(&conn->id, UN_ID(0, slot, 1));
    }
    engine->own->active = engine->own->ports[0].connections = engine->own->ports[0].slots = CONNECTIONS;
}

static uint64_t used_ns(void)
{
    struct timespec used;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * 1000000000 + (uint64_t)used.tv_nsec;
}

static uint64_t longest_ns, first_ns;
static uint32_t turns;

static uint32_t moved(void)
{
    return engine->own->ports[1].connections;
}

/* Its work is bounded, and it is never idle while there is some. */
static void turn(void)
{
    uint32_t before = moved(), asked = engine->own->ports[0].moving;
    uint64_t start_ns = used_ns();
    un_engine_turn(engine, -1);
    uint64_t took_ns = used_ns() - start_ns;
    if (turns == 0)
        first_ns = took_ns;
    else
        longest_ns = took_ns > longest_ns ? took_ns : longest_ns;
    CHECK(engine->own->ports[0].moving <= asked + PER_TURN_MAX);
    CHECK(moved() <= before + 8192); /* commands that the ring holds */
    CHECK(++turns < TURNS_MAX);
}

static void release_all(void)
{
    uint32_t ready = un_port_peek(&left);
    for (uint32_t i = 0; i < ready; i++) {
        CHECK_EQ(un_port_event(&left, i)->type, UN_EVENT_MOVE);
        CHECK(un_port_command(&left, UN_COMMAND_RELEASE, un_port_event(&left, i)->conn, 0));
    }
    un_port_release(&left, ready);
    un_port_commit(&left);
}

static void begin(void)
{
    open_engine();
    fill_table();
    longest_ns = first_ns = turns = 0;
    uint64_t start_ns = used_ns();
    CHECK_EQ(un_engine_attach_worker(engine, 1, 2, true), 0);
    printf("# attached in %" PRIu64 " us\n", (used_ns() - start_ns) / 1000);
    CHECK_EQ(un_port_attach(&right, setup.public, setup.ports[1], 1, -1), 0);
}

static void end(const char *what)
{
    un_engine_turn(engine, 0);
    printf("# %s: %u turns, the first took %" PRIu64 " us, the longest of the others %" PRIu64 " us\n", what, turns,
           first_ns / 1000, longest_ns / 1000);
    CHECK_EQ(engine->own->ports[0].slots, 0);
    CHECK(engine->own->ports[0].vacant);
    CHECK(!engine->own->ports[1].vacant);
    close_engine();
}

static void connections_are_given_up_bit_by_bit(void)
{
    begin();
    while (moved() < CONNECTIONS) {
        turn();
        release_all();
    }
    un_port_close(&left);
    end("asked for");
}

static void connections_of_a_dead_worker_follow_bit_by_bit(void)
{
    begin();
    turn();
    un_port_close(&left);
    uint64_t start_ns = used_ns();
    un_engine_lost_worker(engine, 0, UN_LOSS_DIED);
    printf("# lost in %" PRIu64 " us\n", (used_ns() - start_ns) / 1000);
    while (moved() < CONNECTIONS)
        turn();
    end("followed");
}

/* Its unread events are looked at once, and not once for each of them. */
static void a_crowd_whose_worker_died_is_reset(void)
{
    begin();
    memset(un_dirty_map(setup.public, setup.ports[0]), 1, CONNECTIONS - 1);
    for (uint32_t i = 0; i < config.event_slots; i++) {
        uint32_t slot = CONNECTIONS - 1 - i % 2; /* every second event is one of who is not dirty */
        struct un_event event = {.type = UN_EVENT_DRAIN, .conn = un_load(&un_slot(engine, slot)->id)};
        CHECK(un_event_push(engine, 0, &event));
    }
    un_port_close(&left);
    uint64_t start_ns = used_ns();
    un_engine_lost_worker(engine, 0, UN_LOSS_DIED);
    printf("# reset in %" PRIu64 " us\n", (used_ns() - start_ns) / 1000);
    CHECK_EQ(un_load(&engine->counters->closed[UN_REASON_WORKER_LOST]), CONNECTIONS - 1);
    CHECK_EQ(engine->own->active, 1);
    for (uint32_t i = 0; i < config.event_slots; i++)
        CHECK_EQ(un_event_ring(setup.public, 0)[i].type, i % 2 ? UN_EVENT_SKIP : UN_EVENT_DRAIN);
    close_engine();
}

/* While the worker does not answer, the engine may sleep. */
static void it_waits_for_a_worker_that_does_not_answer(void)
{
    begin();
    for (int i = 0; i < 100; i++) /* until half of the ring is full of questions */
        un_engine_turn(engine, 0);
    CHECK_EQ(engine->own->ports[0].moving, config.event_slots / 2);
    uint64_t start_ns = un_clock_ns();
    un_engine_turn(engine, 20);
    CHECK(un_clock_ns() - start_ns >= 15000000);
    un_port_close(&left);
    close_engine();
}

int main(void)
{
    RUN(connections_are_given_up_bit_by_bit);
    RUN(connections_of_a_dead_worker_follow_bit_by_bit);
    RUN(a_crowd_whose_worker_died_is_reset);
    RUN(it_waits_for_a_worker_that_does_not_answer);
    return 0;
}
