/* See unread.h. */
#include "engine/unread.h"

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

void un_engine_skip_events(struct un_engine *engine, uint32_t slot)
{
    uint32_t port = un_port_of(un_slot(engine, slot));
    uint64_t conn = un_load(&un_slot(engine, slot)->id);
    const struct un_ring *ring = &engine->own->ports[port].events;
    for (uint32_t i = ring->seen; i != ring->own; i++)
        if (un_unread_event(engine, port, i)->conn == conn)
            un_unread_skip(engine, port, un_unread_event(engine, port, i));
}

void un_unread_reset(struct un_engine *engine, uint32_t slot, enum un_reason reason, bool tell)
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
