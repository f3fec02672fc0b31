/* See order.h. */
#include "engine/order.h"

#include "engine/unread.h"

static uint8_t *mark_of(const struct un_engine *engine, uint32_t port, uint32_t index)
{
    return &engine->suspects[port][un_ring_slot(&engine->own->ports[port].events, index)];
}

static void flag_suspects(struct un_engine *engine, uint32_t port)
{
    const struct un_ring *ring = &engine->own->ports[port].events;
    for (uint32_t i = ring->seen; i != ring->own; i++) {
        uint32_t slot = un_unread_slot(engine, un_unread_event(engine, port, i));
        if (slot != UN_NONE && *mark_of(engine, port, i))
            engine->works[slot].flags |= UN_WORK_SUSPECT;
    }
}

static void unflag_suspects(struct un_engine *engine, uint32_t port)
{
    const struct un_ring *ring = &engine->own->ports[port].events;
    for (uint32_t i = ring->seen; i != ring->own; i++) {
        uint32_t slot = un_unread_slot(engine, un_unread_event(engine, port, i));
        if (slot != UN_NONE)
            engine->works[slot].flags &= (uint16_t)~UN_WORK_SUSPECT;
    }
}

/* Copy the events whose connections have a suspect, or the others, in their order; how many there are then. */
static uint32_t copy(struct un_engine *engine, uint32_t port, bool suspects, uint32_t count)
{
    const struct un_ring *ring = &engine->own->ports[port].events;
    for (uint32_t i = ring->seen; i != ring->own; i++) {
        const struct un_event *event = un_unread_event(engine, port, i);
        uint32_t slot = un_unread_slot(engine, event);
        bool is_suspect = slot != UN_NONE && engine->works[slot].flags & UN_WORK_SUSPECT;
        if (is_suspect == suspects)
            engine->ordered[count++] = (struct un_ordered){*event, *mark_of(engine, port, i)};
    }
    return count;
}

void un_order_suspects_last(struct un_engine *engine, uint32_t port)
{
    const struct un_port_end *state = &engine->own->ports[port];
    struct un_order *order = &engine->own->order;
    if (state->suspects == 0)
        return;
    flag_suspects(engine, port);
    uint32_t count = copy(engine, port, true, copy(engine, port, false, 0));
    unflag_suspects(engine, port);
    un_assert(count == un_ring_used(&state->events));
    order->first = state->events.seen;
    order->count = count;
    un_compiler_fence();
    order->port = port + 1;
    un_compiler_fence();
    un_order_complete(engine);
}

void un_order_complete(struct un_engine *engine)
{
    struct un_order *order = &engine->own->order;
    if (order->port == 0)
        return;
    uint32_t port = order->port - 1;
    for (uint32_t i = 0; i < order->count; i++) {
        *un_unread_event(engine, port, order->first + i) = engine->ordered[i].event;
        *mark_of(engine, port, order->first + i) = (uint8_t)engine->ordered[i].suspect;
    }
    un_compiler_fence();
    order->port = 0;
    un_compiler_fence();
}
