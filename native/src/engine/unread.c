/* See unread.h. */
#include "engine/unread.h"

#include <stdlib.h>

#include "engine/change.h"
#include "engine/conns.h"
#include "engine/receive.h"

struct un_event *un_unread_event(struct un_engine *engine, uint32_t port, uint32_t index)
{
    const struct un_port_end *state = &engine->own->ports[port];
    return &un_event_ring(engine->setup.public, port)[un_ring_slot(&state->events, index)];
}

uint32_t un_unread_slot(struct un_engine *engine, const struct un_event *event)
{
    uint32_t slot = UN_ID_SLOT(event->conn);
    return engine->works[slot].generation == UN_ID_GENERATION(event->conn) ? slot : UN_NONE;
}

void un_unread_skip(struct un_engine *engine, uint32_t port, struct un_event *event)
{
    uint8_t type = event->type;
    event->type = UN_EVENT_SKIP;
    un_compiler_fence(); /* dying here keeps a slice until all are swept, which is soon */
    if (type == UN_EVENT_DATA)
        un_rx_release(engine, port, event->frame); /* a faulty worker may have released it already */
}

static void skip_events_of(struct un_engine *engine, uint32_t port, uint64_t conn)
{
    const struct un_ring *ring = &engine->own->ports[port].events;
    for (uint32_t i = ring->seen; i != ring->own; i++)
        if (un_unread_event(engine, port, i)->conn == conn)
            un_unread_skip(engine, port, un_unread_event(engine, port, i));
}

/* While it is held, some lie in either ring. */
void un_engine_skip_events(struct un_engine *engine, uint32_t slot)
{
    uint32_t port = un_port_of(un_slot(engine, slot));
    uint64_t conn = un_load(&un_slot(engine, slot)->id);
    skip_events_of(engine, port, conn);
    if (engine->works[slot].move == UN_MOVE_NONE)
        return;
    skip_events_of(engine, un_port_beside(port), conn);
    un_engine_conn_set_move(engine, slot, UN_MOVE_NONE);
}

/* In its change. */
static void reset(struct un_engine *engine, uint32_t slot, enum un_reason reason, bool tell)
{
    if (tell)
        un_engine_conn_finish(engine, slot, reason, true);
    else
        un_engine_conn_discard(engine, slot, reason);
}

void un_unread_reset(struct un_engine *engine, uint32_t slot, enum un_reason reason, bool tell)
{
    un_enter(engine, slot);
    un_change_ends(engine, reason, UN_ENDS_SKIP | UN_ENDS_RESET | (tell ? UN_ENDS_TELL : 0));
    un_engine_skip_events(engine, slot);
    reset(engine, slot, reason, tell);
    un_leave(engine);
}

void un_unread_doom(struct un_engine *engine, uint32_t slot)
{
    engine->works[slot].flags |= UN_WORK_DOOMED;
}

static void skip_doomed(struct un_engine *engine, uint32_t port)
{
    const struct un_ring *ring = &engine->own->ports[port].events;
    for (uint32_t i = ring->seen; i != ring->own; i++) {
        struct un_event *event = un_unread_event(engine, port, i);
        uint32_t slot = un_unread_slot(engine, event);
        if (slot != UN_NONE && engine->works[slot].flags & UN_WORK_DOOMED)
            un_unread_skip(engine, port, event);
    }
}

/* One look at the rings is enough for all of them. Of one that is HELD events lie in either. */
void un_unread_reset_doomed(struct un_engine *engine, uint32_t port, bool tell)
{
    skip_doomed(engine, port);
    skip_doomed(engine, un_port_beside(port));
    for (uint32_t slot = 0; slot < engine->own->conn_high; slot++) {
        if (!(engine->works[slot].flags & UN_WORK_DOOMED))
            continue;
        engine->works[slot].flags &= (uint16_t)~UN_WORK_DOOMED;
        un_enter(engine, slot);
        un_engine_conn_set_move(engine, slot, UN_MOVE_NONE);
        reset(engine, slot, UN_REASON_WORKER_LOST, tell);
        un_leave(engine);
    }
}

static void mark_fresh(struct un_engine *engine, uint32_t port)
{
    const struct un_ring *ring = &engine->own->ports[port].events;
    for (uint32_t i = ring->seen; i != ring->own; i++) {
        const struct un_event *event = un_unread_event(engine, port, i);
        uint32_t slot = un_unread_slot(engine, event);
        if (event->type == UN_EVENT_CONNECT && slot != UN_NONE && un_port_of(un_slot(engine, slot)) == port)
            engine->works[slot].flags |= UN_WORK_FRESH;
    }
}

void un_unread_reset_known(struct un_engine *engine, uint32_t port)
{
    if (engine->own->ports[port].slots == 0)
        return;
    mark_fresh(engine, port);
    for (uint32_t slot = 0; slot < engine->own->conn_high; slot++) {
        struct un_conn *conn = un_slot(engine, slot);
        if (conn->state == UN_CONN_FREE || un_port_of(conn) != port)
            continue;
        bool fresh = engine->works[slot].flags & (UN_WORK_FRESH | UN_WORK_POST_CONNECT);
        engine->works[slot].flags &= (uint16_t)~UN_WORK_FRESH;
        if (conn->state == UN_CONN_OPEN && !fresh)
            un_unread_doom(engine, slot);
    }
    un_unread_reset_doomed(engine, port, false);
}

/* References are counted anew: what the ring still needs. They are counted apart, since a frame
 * must not look free to who takes over from an engine that is killed meanwhile; one that is kept too long is swept when
 * it is asked again. */
void un_unread_sweep_frames(struct un_engine *engine, uint32_t port)
{
    struct un_port_end *state = &engine->own->ports[port];
    uint32_t free_before = state->rx_free_count;
    uint32_t *needed = calloc(engine->config->rx_frames, sizeof *needed);
    un_assert(needed != NULL);
    for (uint32_t i = state->events.seen; i != state->events.own; i++)
        if (un_unread_event(engine, port, i)->type == UN_EVENT_DATA)
            needed[un_unread_event(engine, port, i)->frame]++;
    for (uint32_t frame = 0; frame < engine->config->rx_frames; frame++)
        engine->rx_frames[port][frame].references = needed[frame];
    free(needed);
    un_rx_rebuild_free(engine, port);
    un_count(&engine->counters->frames_reclaimed, state->rx_free_count - free_before);
}
