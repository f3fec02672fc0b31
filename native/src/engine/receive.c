/* See receive.h. */
#include "engine/receive.h"

#include <errno.h>
#include <string.h>

#include "engine/change.h"
#include "engine/conns.h"
#include "engine/events.h"
#include "engine/moving.h"
#include "engine/transport.h"
#include "engine/worklists.h"

static struct un_rx_frame *frame_of(struct un_engine *engine, uint32_t port, uint32_t frame)
{
    return &engine->rx_frames[port][frame];
}

static void tell_free_frames(struct un_engine *engine, uint32_t port)
{
    un_store(&un_port_public(engine->setup.public, port)->rx_frames_free, engine->own->ports[port].rx_free_count);
}

static void push_free(struct un_engine *engine, uint32_t port, uint32_t frame)
{
    struct un_port_end *state = &engine->own->ports[port];
    un_assert(state->rx_free_count < engine->config->rx_frames);
    frame_of(engine, port, frame)->next_free = state->rx_free;
    state->rx_free = frame;
    state->rx_free_count++;
    tell_free_frames(engine, port);
}

/* The open frame stays, with or without slices. */
bool un_rx_release(struct un_engine *engine, uint32_t port, uint32_t frame)
{
    if (frame >= engine->config->rx_frames || frame_of(engine, port, frame)->references == 0)
        return false;
    if (--frame_of(engine, port, frame)->references == 0 && frame != engine->own->ports[port].rx_open)
        push_free(engine, port, frame);
    return true;
}

void un_rx_rebuild_free(struct un_engine *engine, uint32_t port)
{
    struct un_port_end *state = &engine->own->ports[port];
    state->rx_free = UN_NONE;
    state->rx_free_count = 0;
    for (uint32_t frame = engine->config->rx_frames; frame-- > 0;)
        if (frame_of(engine, port, frame)->references == 0 && frame != state->rx_open)
            push_free(engine, port, frame);
    tell_free_frames(engine, port);
}

/* Close the open frame: its slices alone keep it now. */
static void close_frame(struct un_engine *engine, uint32_t port)
{
    uint32_t frame = engine->own->ports[port].rx_open;
    if (frame == UN_NONE)
        return;
    engine->own->ports[port].rx_open = UN_NONE;
    if (frame_of(engine, port, frame)->references == 0)
        push_free(engine, port, frame);
}

/* Of the port's open frame. */
static uint32_t room_left(const struct un_engine *engine, uint32_t port)
{
    const struct un_port_end *state = &engine->own->ports[port];
    if (state->rx_open == UN_NONE)
        return 0;
    bool is_empty = engine->rx_frames[port][state->rx_open].references == 0; /* every slice came back */
    return engine->config->rx_frame_bytes - (is_empty ? 0 : state->rx_fill);
}

bool un_receive_has_room(const struct un_engine *engine, uint32_t port, uint32_t least)
{
    return engine->own->ports[port].rx_free != UN_NONE || room_left(engine, port) >= least;
}

/* Room in the port's open frame, opening another one when less than `least` is left; 0 when none is free. No part of
 * the change: each store leaves frames that a takeover knows what to do with. */
static uint32_t open_room(struct un_engine *engine, uint32_t port, uint32_t least)
{
    struct un_port_end *state = &engine->own->ports[port];
    uint32_t room = room_left(engine, port);
    if (state->rx_open != UN_NONE)
        state->rx_fill = engine->config->rx_frame_bytes - room; /* from the start, where the cache is warm */
    if (room >= least)
        return room;
    close_frame(engine, port);
    if (state->rx_free == UN_NONE)
        return 0;
    uint32_t frame = state->rx_free;
    un_assert(frame < engine->config->rx_frames && frame_of(engine, port, frame)->references == 0);
    state->rx_free = frame_of(engine, port, frame)->next_free;
    state->rx_free_count--;
    state->rx_fill = 0;
    state->rx_open = frame;
    tell_free_frames(engine, port);
    return engine->config->rx_frame_bytes;
}

/* The slice that the free end of the open frame begins with. */
static void take_slice(struct un_engine *engine, uint32_t port, uint32_t length)
{
    struct un_port_end *state = &engine->own->ports[port];
    struct un_rx_frame *frame = frame_of(engine, port, state->rx_open);
    struct un_busy *busy = &engine->own->busy;
    busy->slice_references = frame->references;
    busy->slice_fill = state->rx_fill;
    un_compiler_fence();
    busy->slice = state->rx_open + 1;
    un_compiler_fence();
    frame->references++;
    state->rx_fill += (length + UN_RX_SLICE_ALIGN - 1) / UN_RX_SLICE_ALIGN * UN_RX_SLICE_ALIGN;
}

bool un_receive_copy(struct un_engine *engine, uint32_t port, uint32_t source, struct un_event *event)
{
    const struct un_port_end *state = &engine->own->ports[port];
    if (open_room(engine, port, event->length) == 0)
        return false;
    const uint8_t *from = un_rx_frame(engine->setup.public, source, event->frame) + event->offset;
    memcpy(un_rx_frame(engine->setup.public, port, state->rx_open) + state->rx_fill, from, event->length);
    event->frame = state->rx_open;
    event->offset = state->rx_fill;
    take_slice(engine, port, event->length);
    return true;
}

/* Bytes that lie at the free end of the open frame. */
void un_receive_took(struct un_engine *engine, uint32_t slot, uint32_t length)
{
    struct un_conn *conn = un_slot(engine, slot);
    const struct un_port_end *state = &engine->own->ports[un_port_of(conn)];
    struct un_event event = {.type = UN_EVENT_DATA,
                             .length = length,
                             .conn = un_load(&conn->id),
                             .frame = state->rx_open,
                             .offset = state->rx_fill,
                             .time_ns = engine->now_ns};
    take_slice(engine, un_port_of(conn), length);
    engine->works[slot].rx_waiting += length;
    un_count(&conn->bytes_in, length);
    un_store(&conn->active_ns, engine->now_ns);
    un_count(&engine->counters->bytes_in, length);
    un_count(&engine->counters->frames_in, 1);
    un_assert(un_event_push(engine, un_port_of(conn), &event));
    un_change_stays(engine);
}

/* The transport ended it or has no more for now; true when the connection may go on receiving later. */
static void receive_stopped(struct un_engine *engine, uint32_t slot, ssize_t status)
{
    struct un_work *work = &engine->works[slot];
    if (status == -EINTR) {
        un_receive_later(engine, slot);
        return;
    }
    work->flags &= (uint16_t)~(UN_WORK_READABLE | UN_WORK_READ_ON);
    if (status == 0 && work->flags & UN_WORK_FAILED)
        status = -ECONNRESET;
    if (status == 0)
        un_engine_conn_peer_eof(engine, slot);
    else if (status != -EAGAIN)
        un_engine_conn_finish(engine, slot,
                              status == -ECONNRESET || status == -EPIPE ? UN_REASON_RESET : UN_REASON_SYSTEM, true);
}

/* Closing: nobody wants the input, but the peer's end of file matters. */
static void receive_and_discard(struct un_engine *engine, uint32_t slot)
{
    static char waste[65536];
    struct un_work *work = &engine->works[slot];
    for (int i = 0; i < UN_RECEIVES_PER_TURN; i++) {
        ssize_t length = engine->transport->receive(engine, work->handle, waste, sizeof waste);
        if (length <= 0) {
            receive_stopped(engine, slot, length);
            return;
        }
    }
    un_receive_later(engine, slot);
}

static bool is_over_budget(struct un_engine *engine, uint32_t slot)
{
    struct un_work *work = &engine->works[slot];
    if (work->rx_waiting < engine->config->rx_budget)
        return false;
    if (!(work->flags & UN_WORK_OVER_BUDGET)) {
        work->flags |= UN_WORK_OVER_BUDGET;
        engine->own->ports[un_port_of(un_slot(engine, slot))].over_budget++;
        un_count(&engine->counters->receives_blocked_budget, 1);
    }
    return true; /* commits.c lists it again */
}

static uint32_t room_to_receive(struct un_engine *engine, uint32_t slot)
{
    uint32_t port = un_port_of(un_slot(engine, slot)), room = 0;
    if (un_event_room(engine, port) == 0)
        un_count(&engine->counters->receives_blocked_ring, 1);
    else if ((room = open_room(engine, port, UN_RX_ROOM_MIN)) == 0)
        un_count(&engine->counters->receives_blocked_frames, 1);
    if (room == 0)
        un_receive_later(engine, slot);
    return room;
}

/* Read one slice; true when another read may bring more. */
static bool receive_slice(struct un_engine *engine, uint32_t slot)
{
    struct un_conn *conn = un_slot(engine, slot);
    struct un_work *work = &engine->works[slot];
    struct un_port_end *state = &engine->own->ports[un_port_of(conn)];
    uint32_t room = room_to_receive(engine, slot);
    if (room == 0)
        return false;
    uint8_t *into = un_rx_frame(engine->setup.public, un_port_of(conn), state->rx_open) + state->rx_fill;
    bool parted = false;
    un_change_transfers(engine, UN_TRANSFER_IN);
    ssize_t length = __builtin_expect(work->flags & UN_WORK_PARTED, 0)
                         ? engine->transport->receive_parted(engine, work->handle, into, room, &parted)
                         : engine->transport->receive(engine, work->handle, into, room);
    if (length <= 0) {
        receive_stopped(engine, slot, length);
        return false;
    }
    un_assert((uint32_t)length <= room);
    un_receive_took(engine, slot, (uint32_t)length);
    bool drained = (uint32_t)length < room && !parted && !(work->flags & UN_WORK_READ_ON);
    if (drained)
        work->flags &= (uint16_t)~UN_WORK_READABLE;
    return !drained;
}

static void receive(struct un_engine *engine, uint32_t slot)
{
    struct un_conn *conn = un_slot(engine, slot);
    struct un_work *work = &engine->works[slot];
    if (!(work->flags & UN_WORK_READABLE) || !un_is_alive(conn) || un_is_withheld(work))
        return;
    if (conn->state != UN_CONN_OPEN) {
        receive_and_discard(engine, slot);
        return;
    }
    for (int i = 0; i < UN_RECEIVES_PER_TURN; i++) {
        if (conn->flags & UN_CONN_PAUSED || is_over_budget(engine, slot))
            return;
        if (!receive_slice(engine, slot))
            return;
    }
    un_receive_later(engine, slot);
}

/* Instead of receiving: or it is to be, when the ring has space. */
static bool is_asked(struct un_engine *engine, uint32_t slot)
{
    return engine->works[slot].move == UN_MOVE_DUE && !un_moving_ask(engine, slot);
}

/* Its turn, when it was taken off the list of `port`. */
static void receive_one(struct un_engine *engine, uint32_t port, uint32_t slot)
{
    const struct un_conn *conn = un_slot(engine, slot);
    if (un_port_of(conn) != port && conn->state != UN_CONN_FREE)
        un_moving_follow(engine, slot);
    un_enter(engine, slot);
    if (conn->state == UN_CONN_FREE)
        un_engine_conn_free_slot(engine, slot); /* it ended while it stood here */
    else if (un_event_push_posts(engine, slot) && !is_asked(engine, slot))
        receive(engine, slot);
    else
        un_receive_later(engine, slot);
    un_leave(engine);
}

/* One turn of everything listed now; what cannot go on lists itself again, behind the last. */
void un_receive_listed(struct un_engine *engine, uint32_t port)
{
    struct un_port_end *state = &engine->own->ports[port];
    uint32_t last = state->receive.tail;
    while (!un_list_is_empty(&state->receive) && un_ring_reserve(&state->events) > 0) {
        uint32_t slot = un_receive_next(engine, port);
        receive_one(engine, port, slot);
        if (slot == last)
            break;
    }
}

void un_engine_conn_can_receive(struct un_engine *engine, uint64_t id, bool read_on)
{
    uint32_t slot = UN_ID_SLOT(id);
    struct un_work *work = &engine->works[slot];
    if (work->generation != UN_ID_GENERATION(id) || work->handle < 0)
        return;
    un_enter(engine, slot);
    work->flags |= UN_WORK_READABLE | (read_on ? UN_WORK_READ_ON : 0);
    if (work->flags & UN_WORK_POST_CONNECT)
        un_receive_later(engine, slot);
    else if (!(work->flags & UN_WORK_RECEIVE_LISTED))
        receive(engine, slot);
    un_leave(engine);
}
