/* See seats.h. */
#include "engine/seats.h"

#include "engine/change.h"
#include "engine/conns.h"
#include "engine/control.h"
#include "engine/events.h"
#include "engine/moving.h"
#include "engine/ports.h"
#include "engine/receive.h"
#include "engine/suspects.h"
#include "engine/unread.h"
#include "engine/worklists.h"

#define UN_LOOKS_PER_TURN 4096u     /* slots of the table: some 50 us */
#define UN_MOVES_PER_TURN 256u      /* connections asked, moved, or copied for: some 50 us */
#define UN_COPIES_PER_TURN (1u << 20) /* bytes: some 100 us */

#define UN_EVENT_IS_LAST 1u /* in `reserved`: no later one of its connection is unread */

/* Leaving. */

/* Others need the ring too. */
static bool has_room_to_ask(const struct un_engine *engine, uint32_t port)
{
    return un_event_room(engine, port) > un_end_of(engine, port)->events.size / 2;
}

/* False: it is not one that could be asked. */
static bool look_at(struct un_engine *engine, uint32_t port, uint32_t slot)
{
    const struct un_conn *conn = un_slot(engine, slot);
    const struct un_work *work = &engine->works[slot];
    if (!un_is_alive(conn) || un_port_of(conn) != port || work->move != UN_MOVE_NONE)
        return false;
    un_enter(engine, slot);
    un_engine_conn_set_move(engine, slot, UN_MOVE_DUE);
    if (!(work->flags & UN_WORK_RECEIVE_LISTED)) /* else it is asked when its turn comes */
        un_moving_ask(engine, slot);
    un_leave(engine);
    return true;
}

static uint32_t ask_some(struct un_engine *engine, uint32_t port)
{
    struct un_port_end *state = un_end_of(engine, port);
    uint32_t asked = 0;
    if (state->cursor == UN_NONE || !un_moving_is_possible(engine, port))
        return 0;
    for (uint32_t looks = 0; looks < UN_LOOKS_PER_TURN && asked < UN_MOVES_PER_TURN; looks++) {
        if (state->cursor >= engine->own->conn_high) {
            state->cursor = UN_NONE;
            break;
        }
        if (!has_room_to_ask(engine, port))
            break;
        asked += look_at(engine, port, state->cursor++);
    }
    return asked;
}

/* Emptied. */

/* Of a connection that was given up nothing follows, whatever a worker that gave it up has left unread. */
static bool is_nobodys(struct un_engine *engine, uint32_t port, const struct un_event *event)
{
    uint32_t slot = un_unread_slot(engine, event);
    if (event->type == UN_EVENT_SKIP || event->type == UN_EVENT_MOVE || slot == UN_NONE ||
        un_slot(engine, slot)->state == UN_CONN_FREE)
        return true;
    return un_port_of(un_slot(engine, slot)) != port && engine->works[slot].move != UN_MOVE_HELD;
}

static void skip_nobodys(struct un_engine *engine, uint32_t port)
{
    const struct un_ring *ring = &un_end_of(engine, port)->events;
    for (uint32_t i = ring->seen; i != ring->own; i++) {
        struct un_event *event = un_unread_event(engine, port, i);
        if (event->type != UN_EVENT_SKIP && is_nobodys(engine, port, event))
            un_unread_skip(engine, port, event);
    }
}

static void clear_fresh(struct un_engine *engine, uint32_t port)
{
    const struct un_ring *ring = &un_end_of(engine, port)->events;
    for (uint32_t i = ring->seen; i != ring->own; i++)
        engine->works[UN_ID_SLOT(un_unread_event(engine, port, i)->conn)].flags &= (uint16_t)~UN_WORK_FRESH;
}

/* Which connections are HELD, and until when. Done once more, it comes to the same. */
static void hold(struct un_engine *engine, uint32_t port)
{
    const struct un_ring *ring = &un_end_of(engine, port)->events;
    skip_nobodys(engine, port);
    clear_fresh(engine, port);
    for (uint32_t i = ring->own; i != ring->seen; i--) {
        struct un_event *event = un_unread_event(engine, port, i - 1);
        uint32_t slot = un_unread_slot(engine, event);
        event->reserved = 0;
        if (event->type == UN_EVENT_SKIP || engine->works[slot].flags & UN_WORK_FRESH)
            continue;
        event->reserved = UN_EVENT_IS_LAST;
        engine->works[slot].flags |= UN_WORK_FRESH;
        un_engine_conn_set_move(engine, slot, UN_MOVE_HELD);
    }
    clear_fresh(engine, port);
}

/* What the worker at the current port cannot go on with, or no other than the last one at this port. */
static void reset_unresumable(struct un_engine *engine, uint32_t port)
{
    const struct un_port_end *heir = un_end_of(engine, un_heir_of(engine, port));
    if (heir->attached && (!heir->resumes || !un_end_of(engine, port)->resumes))
        un_unread_reset_known(engine, port);
}

static void begin_to_empty(struct un_engine *engine, uint32_t port)
{
    struct un_port_end *state = un_end_of(engine, port);
    uint32_t heir = un_heir_of(engine, port);
    un_assert(!state->attached && heir != port);
    hold(engine, port);
    state->cursor = 0;
    un_receive_join(engine, port, heir);
    state->line = heir;
}

static void finish_change(struct un_engine *engine)
{
    un_leave(engine);
    un_compiler_fence(); /* until here it is known to be copied */
    engine->own->busy.source = 0;
}

/* The bytes go with it. */
static bool put(struct un_engine *engine, uint32_t port, uint32_t index, struct un_event event)
{
    uint32_t heir = un_end_of(engine, port)->line;
    event.reserved = 0;
    if (un_event_room(engine, heir) == 0 ||
        (event.type == UN_EVENT_DATA && !un_receive_copy(engine, heir, port, &event)))
        return false;
    un_suspect_moved(engine, port, index, heir, un_end_of(engine, heir)->events.own);
    un_assert(un_event_push(engine, heir, &event));
    return true;
}

/* The first unread event is that no more. */
static void pass(struct un_engine *engine, uint32_t port)
{
    struct un_port_end *state = un_end_of(engine, port);
    uint32_t index = state->events.seen;
    state->events.seen = index + 1;
    un_compiler_fence(); /* the rest is made anew by a takeover */
    state->walked = index + 1;
    if (state->suspects > 0)
        un_suspects_acquit(engine, port, index, index + 1);
}

/* The first unread event, as one change; false when there is no room for it. */
static bool copy_one(struct un_engine *engine, uint32_t port)
{
    struct un_port_end *state = un_end_of(engine, port);
    struct un_busy *busy = &engine->own->busy;
    uint32_t index = state->events.seen;
    const struct un_event event = *un_unread_event(engine, port, index);
    if (is_nobodys(engine, port, &event)) {
        if (event.type != UN_EVENT_SKIP)
            un_unread_skip(engine, port, un_unread_event(engine, port, index));
        pass(engine, port);
        return true;
    }
    uint32_t slot = UN_ID_SLOT(event.conn);
    busy->source_index = index;
    busy->source = port + 1;
    un_enter_at(engine, slot, state->line);
    bool done = put(engine, port, index, event);
    if (done) {
        if (un_port_of(un_slot(engine, slot)) == port)
            un_engine_conn_change_port(engine, slot, state->line);
        if (event.reserved == UN_EVENT_IS_LAST)
            un_engine_conn_set_move(engine, slot, UN_MOVE_NONE);
        un_compiler_fence();
        pass(engine, port); /* now it stands there, and here no more */
    }
    finish_change(engine);
    if (done && event.type == UN_EVENT_DATA)
        un_rx_release(engine, port, event.frame);
    if (done && event.reserved == UN_EVENT_IS_LAST)
        un_moving_go_on(engine, slot);
    return done;
}

static uint32_t copy_some(struct un_engine *engine, uint32_t port)
{
    const struct un_port_end *state = un_end_of(engine, port);
    uint32_t copied = 0, bytes = 0;
    while (un_ring_used(&state->events) > 0 && copied < UN_MOVES_PER_TURN && bytes < UN_COPIES_PER_TURN) {
        const struct un_event *event = un_unread_event(engine, port, state->events.seen);
        uint32_t length = event->type == UN_EVENT_DATA ? event->length : 0;
        if (!copy_one(engine, port))
            break;
        bytes += length;
        copied++;
    }
    return copied;
}

static uint32_t move_some(struct un_engine *engine, uint32_t port)
{
    struct un_port_end *state = un_end_of(engine, port);
    uint32_t moved = 0;
    if (state->cursor == UN_NONE)
        return 0;
    for (uint32_t looks = 0; looks < UN_LOOKS_PER_TURN && moved < UN_MOVES_PER_TURN; looks++) {
        if (state->cursor >= engine->own->conn_high) {
            state->cursor = UN_NONE;
            break;
        }
        uint32_t slot = state->cursor++;
        const struct un_conn *conn = un_slot(engine, slot);
        if (conn->state == UN_CONN_FREE || un_port_of(conn) != port)
            continue;
        un_moving_follow(engine, slot);
        un_moving_go_on(engine, slot);
        moved++;
    }
    return moved;
}

/* Both. */

static bool has_untaken_commands(struct un_engine *engine, uint32_t port)
{
    const struct un_port_end *state = un_end_of(engine, port);
    uint64_t word = un_observe(&un_port_memory(engine, port)->commit);
    return state->attached && (state->bad || UN_COMMIT_COMMANDS(word) != state->commands.own);
}

static void look_for_vacancy(struct un_engine *engine, uint32_t port)
{
    struct un_port_end *state = un_end_of(engine, port);
    if (state->vacant || state->slots > 0 || un_ring_used(&state->events) > 0 || has_untaken_commands(engine, port))
        return;
    state->vacant = true;
    if (state->serial)
        un_control_tell(engine, UN_CONTROL_VACANT, port, state->serial, 0, 0, 0);
    un_ports_look(engine);
}

static bool is_emptied(const struct un_engine *engine, uint32_t port)
{
    return un_end_of(engine, port)->line != port;
}

uint32_t un_seats_turn(struct un_engine *engine)
{
    uint32_t work = 0;
    for (uint32_t i = engine->live_count; i-- > 0;) {
        uint32_t port = engine->live[i];
        if (un_is_current(engine, port))
            continue;
        if (is_emptied(engine, port))
            work += copy_some(engine, port) + move_some(engine, port);
        else
            work += ask_some(engine, port);
        look_for_vacancy(engine, port); /* then it is live no more */
    }
    return work;
}

static bool can_copy(struct un_engine *engine, uint32_t port)
{
    const struct un_port_end *state = un_end_of(engine, port);
    if (un_ring_used(&state->events) == 0)
        return false;
    const struct un_event *event = un_unread_event(engine, port, state->events.seen);
    if (is_nobodys(engine, port, event))
        return true;
    return un_event_room(engine, state->line) > 0 &&
           (event->type != UN_EVENT_DATA || un_receive_has_room(engine, state->line, event->length));
}

static bool can_go_on(struct un_engine *engine, uint32_t port)
{
    const struct un_port_end *state = un_end_of(engine, port);
    if (is_emptied(engine, port))
        return state->cursor != UN_NONE || can_copy(engine, port);
    return state->cursor != UN_NONE && un_moving_is_possible(engine, port) && has_room_to_ask(engine, port);
}

enum un_engine_sleep un_seats_sleep(struct un_engine *engine)
{
    for (uint32_t i = 0; i < engine->live_count; i++)
        if (!un_is_current(engine, engine->live[i]) && can_go_on(engine, engine->live[i]))
            return UN_ENGINE_AWAKE;
    return UN_ENGINE_WAKE_ON_ANYTHING;
}

bool un_seats_is_split(const struct un_engine *engine, uint32_t port)
{
    return is_emptied(engine, port) && un_ring_used(&un_end_of(engine, port)->events) > 0;
}

void un_seats_attached(struct un_engine *engine, uint32_t port)
{
    uint32_t other = un_port_beside(port);
    struct un_port_end *leaving = un_end_of(engine, other);
    if (leaving->used && !leaving->vacant) {
        leaving->cursor = 0;
        if (!leaving->attached) {
            reset_unresumable(engine, other);
            begin_to_empty(engine, other);
        }
    }
    un_ports_look(engine);
}

/* What the worker was asked it will not answer. */
static void take_back_questions(struct un_engine *engine, uint32_t port)
{
    const struct un_port_end *state = un_end_of(engine, port);
    for (uint32_t slot = 0; slot < engine->own->conn_high && state->moving > 0; slot++) {
        const struct un_conn *conn = un_slot(engine, slot);
        if (conn->state == UN_CONN_FREE || un_port_of(conn) != port || !un_is_moving(engine->works[slot].move))
            continue;
        un_engine_conn_set_move(engine, slot, UN_MOVE_NONE);
        un_moving_go_on(engine, slot);
    }
}

/* The next one here finds what it has not been asked, and nothing that is not its own. */
static void wait_for_worker(struct un_engine *engine, uint32_t port)
{
    if (un_end_of(engine, un_port_beside(port))->used)
        skip_nobodys(engine, port);
    take_back_questions(engine, port);
}

void un_seats_lost(struct un_engine *engine, uint32_t port)
{
    uint32_t heir = un_heir_of(engine, port);
    if (heir != port && un_end_of(engine, heir)->attached && !un_end_of(engine, port)->vacant) {
        if (un_end_of(engine, un_port_beside(port))->used)
            skip_nobodys(engine, port);
        reset_unresumable(engine, port);
        begin_to_empty(engine, port);
    } else {
        wait_for_worker(engine, port);
    }
    un_ports_look(engine);
}

void un_seats_take_over(struct un_engine *engine)
{
    for (uint32_t port = 0; port < un_port_count(engine->config); port++) {
        struct un_port_end *state = un_end_of(engine, port);
        bool is_current = un_is_current(engine, port);
        if (!state->used)
            continue;
        if (!is_current) {
            state->vacant = false;
            state->cursor = 0;
        }
        if (state->attached)
            continue;
        if (!is_current && (is_emptied(engine, port) || un_end_of(engine, un_heir_of(engine, port))->attached))
            begin_to_empty(engine, port);
        else
            wait_for_worker(engine, port); /* an engine that died over it may not have come to that */
    }
    un_ports_look(engine);
}

void un_seats_taken_over(struct un_engine *engine)
{
    for (uint32_t i = 0; i < engine->live_count; i++)
        if (is_emptied(engine, engine->live[i]))
            reset_unresumable(engine, engine->live[i]);
}
