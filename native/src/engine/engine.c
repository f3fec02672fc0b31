/* The engine's loop and its start: see engine.h.
 *
 * A turn, and why in this order: wait in the transport (input is put into the rings while it is warm); publish, so that
 * workers start on it; then take what workers committed meanwhile and send it, so that one turn may carry a request in
 * and an earlier answer out; then those that had to wait for space;
 * deadlines last. */
#include "engine/engine.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/accept.h"
#include "engine/capture.h"
#include "engine/commits.h"
#include "engine/conns.h"
#include "engine/events.h"
#include "engine/hand.h"
#include "engine/link.h"
#include "engine/listeners.h"
#include "engine/peers.h"
#include "engine/ports.h"
#include "engine/receive.h"
#include "engine/requests.h"
#include "engine/seats.h"
#include "engine/sendqueue.h"
#include "engine/takeover.h"
#include "engine/transmit.h"
#include "engine/transport.h"

#define UN_SPIN_NS UINT64_C(50000)       /* a sleep and its wake-up cost some 10 us; longer spins do not pay */
#define UN_SPIN_PAUSE_MAX 255u           /* sleeps for each spin, where spins catch nothing: 0.2 us of each */
#define UN_SPINS_PER_POLL 32             /* looks at the commit words for each look at the transport */

static uint64_t align_line(uint64_t bytes)
{
    return (bytes + UN_CACHE_LINE - 1) / UN_CACHE_LINE * UN_CACHE_LINE;
}

uint64_t un_engine_private_bytes(const struct un_segment_config *config)
{
    uint64_t bytes = 0;
#define UN_ONE(name, item, count) bytes += align_line((uint64_t)(count) * sizeof(item));
#define UN_EACH(name, item, count) bytes += un_port_count(config) * align_line((uint64_t)(count) * sizeof(item));
    UN_PRIVATE_TABLES(UN_ONE, UN_EACH)
#undef UN_ONE
#undef UN_EACH
    return bytes;
}

static void *take(uint8_t **at, uint64_t bytes)
{
    void *start = *at;
    *at += align_line(bytes);
    return start;
}

static void map_private(struct un_engine *engine)
{
    const struct un_segment_config *config = engine->config;
    uint8_t *at = engine->setup.private;
#define UN_ONE(name, item, count) engine->name = take(&at, (uint64_t)(count) * sizeof(item));
#define UN_EACH(name, item, count)                                                                                     \
    for (uint32_t port = 0; port < un_port_count(config); port++)                                                      \
        engine->name[port] = take(&at, (uint64_t)(count) * sizeof(item));
    UN_PRIVATE_TABLES(UN_ONE, UN_EACH)
#undef UN_ONE
#undef UN_EACH
}

static void format_private(struct un_engine *engine)
{
    struct un_private *own = engine->own;
    own->conn_free = UN_NONE;
    own->flush = UN_LIST_EMPTY;
    own->accepting = true;
    un_peers_reset(engine);
    un_listeners_begin(engine);
    un_ports_begin(engine);
    un_compiler_fence();
    own->magic = UN_PRIVATE_MAGIC;
}

/* Where the engine is in the worker's process, and spins: nothing of the worker waits for the end of the turn, and the
 * core would be spent on looking anyway. Who asks for another mode of polling asks for the shortest way, or has no core
 * to spend. And where answers that leave together arrive together. */
static bool moderates(const struct un_engine *engine)
{
    const struct un_engine_setup *setup = &engine->setup;
    return setup->stack && setup->wake_fds[0] < 0 && !setup->time_ns &&
           engine->options->poll_mode == UN_POLL_ADAPTIVE && !engine->link->device->capabilities.tx_alone;
}

static void tell_awake(struct un_engine *engine)
{
    un_store(&engine->published->sleeping, UN_SLEEP_AWAKE(un_load(&engine->published->sleeping)));
}

struct un_engine *un_engine_start(const struct un_engine_setup *setup)
{
    struct un_engine *engine = calloc(1, sizeof *engine);
    if (!engine)
        return NULL;
    engine->setup = *setup;
    engine->config = &un_header(setup->public)->config;
    engine->options = &un_header(setup->public)->options;
    engine->transport = setup->stack ? &un_stack_transport : &un_kernel_transport;
    engine->published = un_engine_public(setup->public);
    engine->counters = &engine->published->counters;
    engine->node_count = UN_NODES_OF_PORT(engine->config);
    engine->now_ns = un_engine_now_ns(engine);
    map_private(engine);
    un_hand_settle(engine);
    int status = engine->transport->start(engine);
    if (status < 0) {
        free(engine);
        errno = -status;
        return NULL;
    }
    engine->moderates = moderates(engine);
    if (engine->own->magic == UN_PRIVATE_MAGIC)
        un_takeover(engine);
    else
        format_private(engine);
    un_capture_resume(engine);
    engine->own->paused = false;
    engine->transport->admit(engine, engine->own->accepting);
    tell_awake(engine);
    un_store(&engine->counters->engine_epoch, ++engine->own->epoch);
    return engine;
}

void un_engine_free(struct un_engine *engine)
{
    un_capture_leave(engine);
    engine->transport->stop(engine);
    free(engine);
}

void un_engine_leave_to_parent(const struct un_engine *engine)
{
    if (engine->own->capturing.fd)
        close((int)engine->own->capturing.fd - 1);
    if (engine->setup.stack)
        return; /* handles are no descriptors */
    for (uint32_t number = 0; number < UN_LISTENERS_MAX; number++)
        if (engine->own->listeners[number].fd != UN_NO_LISTENER)
            close(engine->own->listeners[number].fd);
    for (uint32_t slot = 0; slot < engine->config->conn_max; slot++)
        if (engine->works[slot].handle > 2) /* 0: never used, -1: closed */
            close(engine->works[slot].handle);
}

bool un_engine_has_failed(const struct un_engine *engine)
{
    return engine->failed;
}

static void publish_all(struct un_engine *engine)
{
    for (uint32_t i = 0; i < engine->live_count; i++) {
        uint32_t port = engine->live[i];
        if (engine->own->ports[port].published != engine->own->ports[port].events.own)
            un_events_publish(engine, port);
    }
}

uint32_t un_engine_take_commits(struct un_engine *engine)
{
    uint32_t work = 0;
    for (uint32_t i = 0; i < engine->live_count; i++)
        work += un_commits_take(engine, engine->live[i]);
    if (engine->handing_over)
        work += un_seats_turn(engine);
    if (!un_list_is_empty(&engine->own->flush))
        un_transmit_listed(engine);
    for (uint32_t i = 0; i < engine->live_count; i++) {
        uint32_t port = engine->live[i];
        un_tell_space(engine, port);
        if (!un_list_is_empty(&engine->own->ports[port].receive))
            un_receive_listed(engine, port);
    }
    engine->transport->flush(engine);
    publish_all(engine);
    return work;
}

static bool can_receive_listed(const struct un_engine *engine, uint32_t port)
{
    const struct un_port_end *state = &engine->own->ports[port];
    return !un_list_is_empty(&state->receive) && un_ring_reserve(&state->events) > 0 &&
           un_receive_has_room(engine, port, UN_RX_ROOM_MIN);
}

/* How to sleep: not at all while something can go on; lightly while something waits for a worker's progress. */
static enum un_engine_sleep sleep_mode(struct un_engine *engine)
{
    enum un_engine_sleep mode = engine->handing_over ? un_seats_sleep(engine) : UN_ENGINE_WAKE_ON_COMMANDS;
    for (uint32_t i = 0; i < engine->live_count && mode != UN_ENGINE_AWAKE; i++) {
        const struct un_port_end *port = &engine->own->ports[engine->live[i]];
        if (can_receive_listed(engine, engine->live[i]))
            return UN_ENGINE_AWAKE;
        if (!un_list_is_empty(&port->receive) || port->over_budget)
            mode = UN_ENGINE_WAKE_ON_ANYTHING;
    }
    return mode;
}

/* Nobody but us changes the commit words of an inline engine. */
static bool commits_come(struct un_engine *engine)
{
    int looks = engine->setup.wake_fds[0] < 0 ? 0 : UN_SPINS_PER_POLL;
    for (int i = 0; i < looks; i++) {
        if (un_commits_changed(engine))
            return true;
        un_relax();
    }
    return false;
}

static uint32_t look_around(struct un_engine *engine)
{
    uint64_t until = un_clock_ns() + UN_SPIN_NS;
    do {
        if (commits_come(engine))
            return 1;
        uint32_t events = engine->transport->poll(engine, 0);
        if (events)
            return events;
    } while (un_clock_ns() < until);
    return 0;
}

/* Look around for a while, unless that has not paid lately: because messages are far apart, or because whom we wait for
 * needs this core. A spin in vain doubles the sleeps without one, one that caught something halves them, so we spin
 * where more than every second one pays. */
static uint32_t spin(struct un_engine *engine)
{
    if (engine->spin_skip > 0 && engine->options->poll_mode != UN_POLL_BUSY) {
        engine->spin_skip--;
        return 0;
    }
    uint32_t events = look_around(engine);
    if (events)
        engine->spin_pause /= 2;
    else if (engine->spin_pause < UN_SPIN_PAUSE_MAX)
        engine->spin_pause = 2 * engine->spin_pause + 1;
    engine->spin_skip = engine->spin_pause;
    return events;
}

static uint32_t sleep_in_transport(struct un_engine *engine, enum un_engine_sleep mode, int timeout_ms)
{
    un_store(&engine->published->sleeping, UN_SLEEP_NEXT(un_load(&engine->published->sleeping), mode));
    un_fence();
    if (un_commits_changed(engine))
        timeout_ms = 0;
    else
        un_count(&engine->counters->sleeps, 1);
    uint32_t events = engine->transport->poll(engine, timeout_ms);
    tell_awake(engine);
    return events;
}

static uint32_t wait(struct un_engine *engine, int timeout_ms)
{
    enum un_engine_sleep mode = sleep_mode(engine);
    if (timeout_ms == 0 || mode == UN_ENGINE_AWAKE || un_commits_changed(engine))
        return engine->transport->poll(engine, 0);
    uint32_t events = engine->options->poll_mode != UN_POLL_SLEEP ? spin(engine) : 0;
    if (!events && engine->options->poll_mode != UN_POLL_BUSY)
        events = sleep_in_transport(engine, mode, timeout_ms);
    while (engine->moderates && un_moderation_waits(&engine->moderation, engine->now_ns))
        events += engine->transport->poll(engine, 0);
    return events;
}

int un_engine_deadline_ms(const struct un_engine *engine)
{
    const struct un_private *own = engine->own;
    bool has_timeout = engine->options->idle_timeout_ns || engine->options->send_timeout_ns;
    bool wanted = (has_timeout && own->active) || own->lingering || own->paused;
    return wanted ? (int)(UN_SWEEP_NS / 1000000) : -1;
}

uint64_t un_engine_deadline_ns(const struct un_engine *engine)
{
    uint64_t deadline_ns = engine->transport->deadline_ns(engine);
    uint64_t sweep_ns = un_engine_deadline_ms(engine) < 0 ? UINT64_MAX : engine->own->swept_ns + UN_SWEEP_NS;
    return sweep_ns < deadline_ns ? sweep_ns : deadline_ns;
}

uint32_t un_engine_turn(struct un_engine *engine, int timeout_ms)
{
    un_count(&engine->counters->polls, 1);
    un_moderation_begin(&engine->moderation);
    uint32_t work = wait(engine, timeout_ms);
    if (engine->requests_wait)
        un_requests_read(engine);
    publish_all(engine);
    work += un_engine_take_commits(engine);
    if (un_engine_deadline_ms(engine) >= 0) {
        un_engine_conn_sweep_deadlines(engine);
        publish_all(engine);
        un_accept_resume(engine);
        engine->transport->flush(engine);
    }
    return work;
}
