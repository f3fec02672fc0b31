/* See events.h. */
#include "engine/events.h"

#include "base/wake.h"
#include "engine/worklists.h"

bool un_event_push(struct un_engine *engine, uint32_t port, const struct un_event *event)
{
    struct un_ring *ring = &engine->own->ports[port].events;
    if (un_event_room(engine, port) == 0)
        return false;
    un_event_ring(engine->setup.public, port)[un_ring_slot(ring, ring->own)] = *event;
    un_compiler_fence(); /* an event of which the index tells is whole */
    un_ring_submit(ring, 1);
    un_count(&engine->counters->events, 1);
    return true;
}

void un_wake_worker(struct un_engine *engine, uint32_t port)
{
    struct un_port_memory *memory = un_port_memory(engine, port);
    if (engine->setup.port_wake_fds[port] < 0)
        return;
    un_fence();
    if (!un_load(&memory->sleeping))
        return;
    un_store(&memory->sleeping, 0); /* always followed by the write, so a sleeper that set it anew wakes too */
    un_wake_send(engine->setup.port_wake_fds[port]);
    un_count(&engine->counters->wakes, 1);
}

void un_tell_space(struct un_engine *engine, uint32_t port)
{
    struct un_port_end *state = &engine->own->ports[port];
    if (!state->gave_space)
        return;
    state->gave_space = false;
    un_fence();
    if (un_load(&un_port_memory(engine, port)->want_space))
        un_wake_worker(engine, port);
}

void un_events_publish(struct un_engine *engine, uint32_t port)
{
    struct un_port_end *state = &engine->own->ports[port];
    if (state->published == state->events.own)
        return;
    state->published = state->events.own;
    un_publish(&un_port_public(engine->setup.public, port)->events_produced, state->published);
    un_wake_worker(engine, port);
}

static const struct {
    uint16_t post;
    uint8_t type;
} posts_in_order[] = {
    {UN_WORK_POST_DRAIN, UN_EVENT_DRAIN}, {UN_WORK_POST_EOF, UN_EVENT_EOF}, {UN_WORK_POST_CLOSE, UN_EVENT_CLOSE}};

static bool push_post(struct un_engine *engine, uint32_t slot, uint16_t post, uint8_t type)
{
    struct un_conn *conn = un_slot(engine, slot);
    struct un_work *work = &engine->works[slot];
    struct un_event event = {
        .type = type, .reason = work->reason, .conn = un_load(&conn->id), .time_ns = engine->now_ns};
    if (!un_event_push(engine, un_port_of(conn), &event))
        return false;
    work->flags &= (uint16_t)~post;
    return true;
}

bool un_event_push_posts(struct un_engine *engine, uint32_t slot)
{
    struct un_work *work = &engine->works[slot];
    if (un_is_withheld(work))
        return false;
    if ((work->flags & UN_WORK_POST_CONNECT) && !push_post(engine, slot, UN_WORK_POST_CONNECT, UN_EVENT_CONNECT))
        return false;
    for (size_t i = 0; i < sizeof posts_in_order / sizeof *posts_in_order; i++)
        if ((work->flags & posts_in_order[i].post) &&
            !push_post(engine, slot, posts_in_order[i].post, posts_in_order[i].type))
            return false;
    return true;
}

void un_event_post(struct un_engine *engine, uint32_t slot, uint16_t posts)
{
    engine->works[slot].flags |= posts;
    if (!un_event_push_posts(engine, slot))
        un_receive_later(engine, slot);
}
