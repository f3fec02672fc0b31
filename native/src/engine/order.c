/* See order.h. */
#include "engine/order.h"

#include "engine/poisoners.h"
#include "engine/suspects.h"
#include "engine/unread.h"

enum { RANK_KNOWN, RANK_NEW, RANK_SUSPECT, RANK_POISONER, RANKS };

#define UN_WORK_RANKED (UN_WORK_FRESH | UN_WORK_SUSPECT)

static void flag_conns(struct un_engine *engine, uint32_t port)
{
    const struct un_ring *ring = &engine->own->ports[port].events;
    for (uint32_t i = ring->seen; i != ring->own; i++) {
        const struct un_event *event = un_unread_event(engine, port, i);
        uint32_t slot = un_unread_slot(engine, event);
        if (slot != UN_NONE && event->type == UN_EVENT_CONNECT)
            engine->works[slot].flags |= UN_WORK_FRESH;
        if (slot != UN_NONE && *un_suspect_at(engine, port, i))
            engine->works[slot].flags |= UN_WORK_SUSPECT;
    }
}

static void unflag_conns(struct un_engine *engine, uint32_t port)
{
    const struct un_ring *ring = &engine->own->ports[port].events;
    for (uint32_t i = ring->seen; i != ring->own; i++) {
        uint32_t slot = un_unread_slot(engine, un_unread_event(engine, port, i));
        if (slot != UN_NONE)
            engine->works[slot].flags &= (uint16_t)~UN_WORK_RANKED;
    }
}

static uint32_t rank_of(struct un_engine *engine, const struct un_event *event)
{
    uint32_t slot = un_unread_slot(engine, event);
    if (slot == UN_NONE)
        return RANK_KNOWN; /* nobody handles it */
    if (engine->works[slot].flags & UN_WORK_SUSPECT)
        return RANK_SUSPECT;
    if (un_poisoners_suspected(engine, &un_slot(engine, slot)->peer))
        return RANK_POISONER;
    return engine->works[slot].flags & UN_WORK_FRESH ? RANK_NEW : RANK_KNOWN;
}

/* False: they are in order. */
static bool rank_events(struct un_engine *engine, uint32_t port)
{
    const struct un_ring *ring = &engine->own->ports[port].events;
    uint32_t last = 0;
    bool fell = false;
    for (uint32_t i = 0; i < un_ring_used(ring); i++) {
        uint32_t rank = rank_of(engine, un_unread_event(engine, port, ring->seen + i));
        fell |= rank < last;
        engine->ordered[i].rank = last = rank;
    }
    return fell;
}

/* The ranks stay where they are: each is of the place in the ring. */
static void copy_ordered(struct un_engine *engine, uint32_t port)
{
    const struct un_ring *ring = &engine->own->ports[port].events;
    uint32_t count = 0;
    for (uint32_t rank = 0; rank < RANKS; rank++)
        for (uint32_t i = 0; i < un_ring_used(ring); i++) {
            if (engine->ordered[i].rank != rank)
                continue;
            engine->ordered[count].event = *un_unread_event(engine, port, ring->seen + i);
            engine->ordered[count++].suspect = *un_suspect_at(engine, port, ring->seen + i);
        }
    un_assert(count == un_ring_used(ring));
}

void un_order_suspects_last(struct un_engine *engine, uint32_t port)
{
    const struct un_ring *ring = &engine->own->ports[port].events;
    struct un_order *order = &engine->own->order;
    flag_conns(engine, port);
    bool is_wrong = rank_events(engine, port);
    unflag_conns(engine, port);
    if (!is_wrong)
        return;
    copy_ordered(engine, port);
    order->first = ring->seen;
    order->count = un_ring_used(ring);
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
        *un_suspect_at(engine, port, order->first + i) = (uint8_t)engine->ordered[i].suspect;
    }
    un_compiler_fence();
    order->port = 0;
    un_compiler_fence();
}
