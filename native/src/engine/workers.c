/* Workers come and go on a seat; its connections stay.
 *
 * When a worker is gone, what it had committed is taken to the end; everything after that did not happen. Its
 * uncommitted events stand in the ring for the next worker. Frames that it held are swept: a frame lives if an
 * unconsumed event needs it, or it is open. Its memory is put back to what the engine believes, whatever it wrote
 * there. Connections with output or input that was in no commit (dirty) are reset, and all of them when the handler
 * cannot resume. An event that two workers in a row died of is quarantined (P3). */
#include <stdlib.h>
#include <string.h>

#include "base/wake.h"
#include "engine/change.h"
#include "engine/commits.h"
#include "engine/conns.h"
#include "engine/events.h"
#include "engine/receive.h"
#include "engine/transmit.h"
#include "engine/workers.h"

static struct un_event *waiting_event(struct un_engine *engine, uint32_t port, uint32_t index)
{
    const struct un_port_end *state = &engine->own->ports[port];
    return &un_event_ring(engine->setup.public, port)[un_ring_slot(&state->events, index)];
}

/* The connection of an event, if it is still the same one. */
static uint32_t event_slot(struct un_engine *engine, const struct un_event *event)
{
    uint32_t slot = UN_ID_SLOT(event->conn);
    return engine->works[slot].generation == UN_ID_GENERATION(event->conn) ? slot : UN_NONE;
}

static void skip_event(struct un_engine *engine, uint32_t port, struct un_event *event)
{
    uint8_t type = event->type;
    event->type = UN_EVENT_SKIP;
    un_compiler_fence(); /* dying here keeps a slice until all are swept, which is soon */
    if (type == UN_EVENT_DATA)
        un_rx_release(engine, port, event->frame); /* a faulty worker may have released it already */
}

void un_engine_skip_events(struct un_engine *engine, uint32_t slot)
{
    uint32_t port = un_port_of(un_slot(engine, slot));
    uint64_t conn = un_load(&un_slot(engine, slot)->id);
    const struct un_ring *ring = &engine->own->ports[port].events;
    for (uint32_t i = ring->seen; i != ring->own; i++)
        if (waiting_event(engine, port, i)->conn == conn)
            skip_event(engine, port, waiting_event(engine, port, i));
}

/* Reset a connection whose worker is gone. A handler that resumes is told; another one never knew the connection. */
static void reset_conn(struct un_engine *engine, uint32_t slot, enum un_reason reason, bool tell)
{
    un_enter(engine, slot);
    un_change_ends(engine, reason, UN_ENDS_SKIP | UN_ENDS_RESET | (tell ? UN_ENDS_TELL : 0));
    un_engine_skip_events(engine, slot);
    if (tell)
        un_engine_conn_finish(engine, slot, reason, true);
    else
        un_engine_conn_discard(engine, slot, reason);
    un_leave(engine);
}

/* References are counted anew: what the ring still needs. They are counted apart, since a frame
 * must not look free to who takes over from an engine that is killed meanwhile; one that is kept too long is swept when
 * it is asked again. */
static void sweep_frames(struct un_engine *engine, uint32_t port)
{
    struct un_port_end *state = &engine->own->ports[port];
    uint32_t free_before = state->rx_free_count;
    uint32_t *needed = calloc(engine->config->rx_frames, sizeof *needed);
    un_assert(needed != NULL);
    for (uint32_t i = state->events.seen; i != state->events.own; i++)
        if (waiting_event(engine, port, i)->type == UN_EVENT_DATA)
            needed[waiting_event(engine, port, i)->frame]++;
    for (uint32_t frame = 0; frame < engine->config->rx_frames; frame++)
        engine->rx_frames[port][frame].references = needed[frame];
    free(needed);
    un_rx_rebuild_free(engine, port);
    un_count(&engine->counters->frames_reclaimed, state->rx_free_count - free_before);
}

static void mark_fresh(struct un_engine *engine, uint32_t port)
{
    const struct un_ring *ring = &engine->own->ports[port].events;
    for (uint32_t i = ring->seen; i != ring->own; i++) {
        const struct un_event *event = waiting_event(engine, port, i);
        uint32_t slot = event_slot(engine, event);
        if (event->type == UN_EVENT_CONNECT && slot != UN_NONE)
            engine->works[slot].flags |= UN_WORK_FRESH;
    }
}

/* Reset the connections that the last worker knew, since it kept state of them; those that it was not told of stay. */
static void reset_unresumable(struct un_engine *engine, uint32_t port)
{
    mark_fresh(engine, port);
    for (uint32_t slot = 0; slot < engine->own->conn_high; slot++) {
        struct un_conn *conn = un_slot(engine, slot);
        if (conn->state == UN_CONN_FREE || un_port_of(conn) != port)
            continue;
        bool fresh = engine->works[slot].flags & (UN_WORK_FRESH | UN_WORK_POST_CONNECT);
        engine->works[slot].flags &= (uint16_t)~UN_WORK_FRESH;
        if (conn->state == UN_CONN_OPEN && !fresh)
            reset_conn(engine, slot, UN_REASON_WORKER_LOST, false);
    }
}

static void reset_dirty(struct un_engine *engine, uint32_t port)
{
    const uint8_t *dirty = un_dirty_map(engine->setup.public, un_port_memory(engine, port));
    for (uint32_t slot = 0; slot < engine->own->conn_high; slot++) {
        const struct un_conn *conn = un_slot(engine, slot);
        if (!dirty[slot] || un_port_of(conn) != port || conn->state != UN_CONN_OPEN)
            continue;
        un_count(&engine->counters->dirty_resets, 1);
        reset_conn(engine, slot, UN_REASON_WORKER_LOST, engine->own->ports[port].resumes);
    }
}

/* Take what was committed. Commands that wait for send nodes cost their connection: nobody could vouch for the rest. */
static void take_to_the_end(struct un_engine *engine, uint32_t port)
{
    struct un_port_end *state = &engine->own->ports[port];
    const struct un_command *ring =
        un_command_ring(engine->setup.public, un_port_memory(engine, port));
    un_commits_take(engine, port);
    while (state->commands_stuck) {
        uint32_t slot = UN_ID_SLOT(ring[un_ring_slot(&state->commands, state->commands.own)].conn);
        if (slot >= engine->own->conn_high || !un_is_alive(un_slot(engine, slot)) ||
            un_port_of(un_slot(engine, slot)) != port)
            break;
        un_count(&engine->counters->dirty_resets, 1);
        reset_conn(engine, slot, UN_REASON_WORKER_LOST, state->resumes);
        un_commits_take(engine, port);
    }
}

/* The event that was being handled, or NULL. Later events of the ring are none of the dead worker's business. One that
 * wrote nonsense may have written over this word too: then it is the first that was not committed, which is the right
 * one from the second death on, because events are committed one by one after an attach. */
static struct un_event *handled_event(struct un_engine *engine, uint32_t port, uint32_t *index)
{
    const struct un_port_end *state = &engine->own->ports[port];
    uint64_t word = un_load(&un_port_memory(engine, port)->handling);
    uint32_t waiting = state->events.own - state->events.seen;
    bool known = word >> 32 == 1 && (uint32_t)word - state->events.seen < waiting;
    *index = known ? (uint32_t)word : state->events.seen;
    if (!known && (waiting == 0 || (word == 0 && !state->bad)))
        return NULL;
    return waiting_event(engine, port, *index);
}

static void quarantine(struct un_engine *engine, uint32_t port, const struct un_event *event)
{
    struct un_quarantine *record = un_quarantine_at(engine->setup.public, port);
    uint32_t slot = event_slot(engine, event);
    record->event_type = event->type;
    record->conn = event->conn;
    record->length = event->type == UN_EVENT_DATA ? event->length : 0;
    memset(&record->peer, 0, sizeof record->peer);
    if (slot != UN_NONE)
        record->peer = un_slot(engine, slot)->peer;
    if (record->length)
        memcpy(record + 1, un_rx_frame(engine->setup.public, port, event->frame) + event->offset, record->length);
    un_publish(&record->valid, 1);
}

/* Two deaths in a row over one event: keep its bytes, reset its connection. */
static bool judge_suspect(struct un_engine *engine, uint32_t port)
{
    struct un_port_end *state = &engine->own->ports[port];
    uint32_t index;
    struct un_event *event = handled_event(engine, port, &index);
    if (event)
        un_count(&engine->counters->redelivered, index - state->events.seen + 1);
    bool again = event && state->suspect_known && state->suspect == index && event->type != UN_EVENT_SKIP;
    state->suspect_known = event != NULL;
    state->suspect = index;
    if (!again)
        return false;
    quarantine(engine, port, event);
    state->suspect_known = false;
    uint32_t slot = event_slot(engine, event);
    if (slot != UN_NONE && un_is_alive(un_slot(engine, slot)))
        reset_conn(engine, slot, UN_REASON_POISONED, state->resumes);
    else if (event->type == UN_EVENT_CLOSE && slot != UN_NONE) {
        skip_event(engine, port, event);
        un_engine_conn_free_slot(engine, slot);
    } else {
        skip_event(engine, port, event);
    }
    return true;
}

/* An engine that is killed over it is asked again. One death counts once: rather not at all than twice. */
static bool judge_death(struct un_engine *engine, uint32_t port)
{
    struct un_port_end *state = &engine->own->ports[port];
    if (state->judged == state->serial)
        return un_load(&un_quarantine_at(engine->setup.public, port)->valid);
    state->judged = state->serial;
    un_compiler_fence();
    return judge_suspect(engine, port);
}

/* The next worker finds in its memory what the engine believes, not what the last one wrote. */
static void restore_memory(struct un_engine *engine, uint32_t port)
{
    struct un_port_end *state = &engine->own->ports[port];
    struct un_port_memory *memory = un_port_memory(engine, port);
    un_store(&memory->handling, 0);
    un_store(&memory->sleeping, 0);
    un_store(&memory->want_space, 0);
    un_store(&memory->releases_produced, state->releases.own);
    state->releases.seen = state->releases.own;
    state->commands.seen = state->commands.own;
    un_publish(&memory->commit, UN_COMMIT(state->events.seen, state->commands.own));
    memset(un_dirty_map(engine->setup.public, memory), 0, engine->own->conn_high);
    un_store(&memory->counters.held_frames, 0);
    un_store(&memory->counters.overflow_bytes, 0);
    un_store(&memory->counters.objects, 0);
}

bool un_engine_lost_worker(struct un_engine *engine, uint32_t seat)
{
    uint32_t port = un_port_of_seat(seat);
    struct un_port_end *state = &engine->own->ports[port];
    struct un_port_public *published = un_port_public(engine->setup.public, port);
    un_assert(seat < engine->config->seats);
    if (!state->attached)
        return un_load(&un_quarantine_at(engine->setup.public, port)->valid);
    engine->now_ns = un_engine_now_ns(engine);
    take_to_the_end(engine, port);
    bool poisoned = judge_death(engine, port);
    reset_dirty(engine, port);
    if (!state->resumes)
        reset_unresumable(engine, port);
    sweep_frames(engine, port);
    restore_memory(engine, port);
    state->attached = state->bad = false;
    un_store(&published->attached, 0);
    un_store(&published->bad, 0);
    un_transmit_listed(engine);
    return poisoned;
}

void un_engine_attach_worker(struct un_engine *engine, uint32_t seat, uint32_t serial, bool resumes)
{
    uint32_t port = un_port_of_seat(seat);
    struct un_port_end *state = &engine->own->ports[port];
    struct un_port_public *published = un_port_public(engine->setup.public, port);
    un_assert(seat < engine->config->seats);
    if (state->attached && state->serial == serial)
        return;
    engine->now_ns = un_engine_now_ns(engine);
    if (!resumes)
        reset_unresumable(engine, port);
    if (engine->setup.wake_fds[port] >= 0)
        un_wake_drain(engine->setup.wake_fds[port]); /* its predecessor may have filled it */
    un_store(&un_quarantine_at(engine->setup.public, port)->valid, 0);
    un_store(&published->serial, serial);
    un_store(&published->attached, 1);
    state->serial = serial;
    state->resumes = resumes;
    state->diverted = false;
    un_compiler_fence(); /* asked again, an engine that was killed before does it again */
    state->attached = true;
    un_events_publish(engine, port);
}
