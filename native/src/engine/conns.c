/* See conns.h. */
#include "engine/conns.h"

#include "engine/capture_sockets.h"
#include "engine/change.h"
#include "engine/events.h"
#include "engine/peers.h"
#include "engine/sendqueue.h"
#include "engine/transport.h"
#include "engine/worklists.h"

uint32_t un_engine_conn_take_slot(struct un_engine *engine)
{
    struct un_private *own = engine->own;
    if (own->conn_free != UN_NONE) {
        uint32_t slot = own->conn_free;
        own->conn_free = engine->works[slot].next_free;
        un_assert(slot < own->conn_high && un_slot(engine, slot)->state == UN_CONN_FREE);
        return slot;
    }
    return own->conn_high < engine->config->conn_max ? own->conn_high++ : UN_NONE;
}

/* A slot that still stands in the receive list of its port becomes free only when it is taken off: its next connection
 * may belong to another port, and must not wait for the ring of this one. */
void un_engine_conn_free_slot(struct un_engine *engine, uint32_t slot)
{
    struct un_conn *conn = un_slot(engine, slot);
    un_assert(!un_is_alive(conn));
    if (engine->works[slot].move != UN_MOVE_NONE)
        un_engine_conn_set_move(engine, slot, UN_MOVE_NONE);
    if (conn->state != UN_CONN_FREE)
        engine->own->ports[un_port_of(conn)].slots--;
    conn->state = UN_CONN_FREE;
    if (engine->works[slot].flags & UN_WORK_RECEIVE_LISTED)
        return; /* un_receive_listed comes back */
    engine->works[slot].next_free = engine->own->conn_free;
    engine->own->conn_free = slot;
}

/* A worker that makes no progress counts as none. */
static bool is_attached(const struct un_engine *engine, uint32_t seat)
{
    const struct un_port_end *port = &engine->own->ports[engine->own->seats[seat].current];
    return port->attached && !port->diverted;
}

static uint32_t slots_of(const struct un_engine *engine, uint32_t seat)
{
    uint32_t slots = 0;
    for (uint32_t side = 0; side < UN_PORTS; side++)
        slots += engine->own->ports[un_port_of_seat(seat, side)].slots;
    return slots;
}

uint32_t un_engine_port_choose(struct un_engine *engine)
{
    struct un_private *own = engine->own;
    uint32_t seats = engine->config->seats, best = own->next_seat % seats;
    for (uint32_t i = 1; i < seats; i++) {
        uint32_t seat = (own->next_seat + i) % seats;
        bool fewer = slots_of(engine, seat) < slots_of(engine, best);
        if (is_attached(engine, seat) != is_attached(engine, best) ? is_attached(engine, seat) : fewer)
            best = seat;
    }
    own->next_seat = best + 1;
    return own->seats[best].current;
}

static void tell_connections(struct un_engine *engine, uint32_t port)
{
    un_store(&un_port_public(engine->setup.public, port)->connections, engine->own->ports[port].connections);
}

static void count_active(struct un_engine *engine, uint32_t port, int32_t change)
{
    engine->own->active += change;
    engine->own->ports[port].connections += change;
    un_store(&engine->counters->active, engine->own->active);
    tell_connections(engine, port);
}

void un_engine_conn_set_move(struct un_engine *engine, uint32_t slot, enum un_move move)
{
    struct un_work *work = &engine->works[slot];
    struct un_port_end *port = &engine->own->ports[un_port_of(un_slot(engine, slot))];
    port->moving += (uint32_t)un_is_moving(move) - (uint32_t)un_is_moving(work->move);
    work->move = move & 15;
}

/* Of sums: a takeover makes them anew, so it is no part of a change. */
static void recount(struct un_engine *engine, uint32_t slot, uint32_t port, int32_t change)
{
    struct un_port_end *state = &engine->own->ports[port];
    state->slots += change;
    state->connections += un_is_alive(un_slot(engine, slot)) ? change : 0;
    state->over_budget += engine->works[slot].flags & UN_WORK_OVER_BUDGET ? change : 0;
    tell_connections(engine, port);
}

void un_engine_conn_change_port(struct un_engine *engine, uint32_t slot, uint32_t port)
{
    struct un_conn *conn = un_slot(engine, slot);
    un_assert(un_seat_of(port) == un_seat_of(un_port_of(conn)) && conn->state != UN_CONN_FREE);
    recount(engine, slot, un_port_of(conn), -1);
    conn->port = (uint16_t)port;
    recount(engine, slot, port, 1);
}

/* The caller has entered the slot. */
void un_engine_conn_opened(struct un_engine *engine, uint32_t slot, const struct un_accepted *accepted)
{
    struct un_work *work = &engine->works[slot];
    struct un_conn *conn = un_slot(engine, slot);
    uint32_t generation = work->generation + 1 ? work->generation + 1 : 1;
    uint16_t listed = work->flags & UN_WORK_FLUSH_LISTED;
    un_assert(conn->state == UN_CONN_FREE && !(work->flags & UN_WORK_RECEIVE_LISTED));
    un_assert(accepted->port < un_port_count(engine->config) && accepted->listener < UN_LISTENERS_MAX);
    *work = (struct un_work){.handle = accepted->handle,
                             .listener = (uint8_t)accepted->listener,
                             /* A slot that is used again may still stand in the flush list. And as soon as the
                              * connection is open, its worker has to be told. */
                             .flags = listed | UN_WORK_POST_CONNECT | (accepted->parted ? UN_WORK_PARTED : 0),
                             .generation = generation,
                             .next_receive = UN_NONE,
                             .next_flush = work->next_flush,
                             .tx_head = UN_NONE,
                             .tx_tail = UN_NONE};
    conn->port = (uint16_t)accepted->port;
    conn->flags = 0;
    conn->state_length = 0;
    un_store(&conn->bytes_in, 0);
    un_store(&conn->bytes_queued, 0);
    un_store(&conn->bytes_out, 0);
    conn->opened_ns = engine->now_ns;
    un_store(&conn->active_ns, engine->now_ns);
    conn->peer = accepted->peer;
    conn->local = accepted->local;
    un_compiler_fence(); /* what is found alive is whole */
    conn->state = UN_CONN_OPEN;
    un_publish(&conn->id, UN_ID(engine->config->shard, slot, generation));
    engine->own->ports[un_port_of(conn)].slots++;
    count_active(engine, un_port_of(conn), 1);
    un_peers_add(engine, &conn->peer);
    un_count(&engine->counters->accepted, 1);
    if (__builtin_expect(engine->capture != NULL, 0))
        un_capture_opened(engine, slot);
    un_event_post(engine, slot, UN_WORK_POST_CONNECT);
}

/* Take it off the network and give its output back; what remains is to tell the worker, by these posts. They are owed
 * from the moment it is closed: an engine may die before it has told. */
static void take_down(struct un_engine *engine, uint32_t slot, enum un_reason reason, bool reset, uint16_t posts)
{
    struct un_work *work = &engine->works[slot];
    struct un_conn *conn = un_slot(engine, slot);
    un_assert(un_is_alive(conn));
    un_assert(engine->own->busy.slot == slot + 1);
    un_change_ends(engine, reason, (reset ? UN_ENDS_RESET : 0) | (posts ? UN_ENDS_TELL : 0));
    if (conn->state == UN_CONN_LINGER)
        engine->own->lingering--;
    if (work->flags & UN_WORK_OVER_BUDGET)
        engine->own->ports[un_port_of(conn)].over_budget--;
    un_sendqueue_drop(engine, slot);
    engine->transport->close(engine, work->handle, reset, work->flags & UN_WORK_FIN_SENT);
    work->handle = -1;
    work->flags = (work->flags & (UN_WORK_RECEIVE_LISTED | UN_WORK_FLUSH_LISTED)) | posts;
    work->reason = reason & 15;
    un_compiler_fence();
    conn->state = UN_CONN_CLOSED;
    count_active(engine, un_port_of(conn), -1);
    un_peers_remove(engine, &conn->peer);
    un_count(&engine->counters->closed[reason], 1);
}

void un_engine_conn_finish(struct un_engine *engine, uint32_t slot, enum un_reason reason, bool reset)
{
    uint16_t before = engine->works[slot].flags & (UN_WORK_POST_CONNECT | UN_WORK_POST_EOF);
    take_down(engine, slot, reason, reset, before | UN_WORK_POST_CLOSE);
    un_event_post(engine, slot, UN_WORK_POST_CLOSE);
}

void un_engine_conn_discard(struct un_engine *engine, uint32_t slot, enum un_reason reason)
{
    take_down(engine, slot, reason, true, 0);
    un_engine_conn_free_slot(engine, slot);
}

static enum un_reason closed_by(const struct un_engine *engine, uint32_t slot)
{
    return engine->works[slot].reason ? (enum un_reason)engine->works[slot].reason : UN_REASON_LOCAL;
}

static void send_fin(struct un_engine *engine, uint32_t slot)
{
    struct un_work *work = &engine->works[slot];
    if (work->flags & UN_WORK_FIN_SENT)
        return;
    work->flags |= UN_WORK_FIN_SENT;
    engine->transport->send_eof(engine, work->handle); /* fails when the peer reset it; receive will tell */
}

static bool is_closed_both_ways(struct un_engine *engine, uint32_t slot)
{
    return (un_slot(engine, slot)->flags & UN_CONN_EOF_IN) && (engine->works[slot].flags & UN_WORK_FIN_SENT);
}

static void linger(struct un_engine *engine, uint32_t slot)
{
    struct un_work *work = &engine->works[slot];
    un_assert(un_slot(engine, slot)->state == UN_CONN_CLOSING && work->tx_head == UN_NONE);
    send_fin(engine, slot);
    un_slot(engine, slot)->state = UN_CONN_LINGER;
    work->deadline_ns = un_engine_now_ns(engine) + engine->options->linger_ns;
    work->delivered = (uint32_t)un_load(&un_slot(engine, slot)->bytes_out) + 1; /* never so much: not asked yet */
    engine->own->lingering++;
    work->flags |= UN_WORK_READABLE;
    un_receive_later(engine, slot);
}

void un_engine_conn_sent_all(struct un_engine *engine, uint32_t slot)
{
    struct un_conn *conn = un_slot(engine, slot);
    un_assert(un_is_alive(conn) && engine->works[slot].tx_head == UN_NONE);
    if (conn->state == UN_CONN_CLOSING) {
        if (conn->flags & UN_CONN_EOF_IN)
            un_engine_conn_finish(engine, slot, closed_by(engine, slot), false);
        else
            linger(engine, slot);
    } else if (conn->state == UN_CONN_OPEN && (conn->flags & UN_CONN_EOF_OUT)) {
        send_fin(engine, slot);
        if (is_closed_both_ways(engine, slot))
            un_engine_conn_finish(engine, slot, UN_REASON_PEER, false);
    }
}

void un_engine_conn_close(struct un_engine *engine, uint32_t slot)
{
    struct un_conn *conn = un_slot(engine, slot);
    if (conn->state != UN_CONN_OPEN)
        return;
    engine->works[slot].reason = conn->flags & UN_CONN_EOF_IN ? UN_REASON_PEER : UN_REASON_LOCAL;
    conn->state = UN_CONN_CLOSING;
    un_transmit_later(engine, slot);
}

void un_engine_conn_send_eof(struct un_engine *engine, uint32_t slot)
{
    struct un_conn *conn = un_slot(engine, slot);
    if (conn->state != UN_CONN_OPEN)
        return;
    conn->flags |= UN_CONN_EOF_OUT;
    un_transmit_later(engine, slot);
}

void un_engine_conn_peer_eof(struct un_engine *engine, uint32_t slot)
{
    struct un_conn *conn = un_slot(engine, slot);
    bool first = !(conn->flags & UN_CONN_EOF_IN);
    un_assert(un_is_alive(conn));
    conn->flags |= UN_CONN_EOF_IN;
    if (conn->state == UN_CONN_OPEN && first)
        un_event_post(engine, slot, UN_WORK_POST_EOF);
    if (conn->state == UN_CONN_LINGER)
        un_engine_conn_finish(engine, slot, closed_by(engine, slot), false);
    else if (conn->state == UN_CONN_OPEN && is_closed_both_ways(engine, slot))
        un_engine_conn_finish(engine, slot, UN_REASON_PEER, false);
}

void un_engine_conn_failed(struct un_engine *engine, uint64_t id)
{
    uint32_t slot = UN_ID_SLOT(id);
    struct un_conn *conn = un_slot(engine, slot);
    if (engine->works[slot].generation != UN_ID_GENERATION(id) || !un_is_alive(conn))
        return;
    un_enter(engine, slot);
    if (conn->flags & UN_CONN_EOF_IN) /* nothing is left to read that would tell */
        un_engine_conn_finish(engine, slot, UN_REASON_RESET, true);
    un_leave(engine);
}

void un_engine_conn_ended(struct un_engine *engine, uint64_t id, enum un_reason reason)
{
    uint32_t slot = UN_ID_SLOT(id);
    if (engine->works[slot].generation != UN_ID_GENERATION(id) || !un_is_alive(un_slot(engine, slot)))
        return;
    un_enter(engine, slot);
    un_engine_conn_finish(engine, slot, reason, true);
    un_leave(engine);
}

static bool is_idle(const struct un_engine *engine, struct un_conn *conn)
{
    uint64_t timeout = engine->options->idle_timeout_ns;
    return timeout && engine->now_ns > un_load(&conn->active_ns) + timeout;
}

static bool is_overdue(const struct un_engine *engine, const struct un_work *work)
{
    return work->deadline_ns && engine->now_ns > work->deadline_ns;
}

void un_engine_conn_expect_progress(struct un_engine *engine, uint32_t slot, uint32_t undelivered)
{
    struct un_work *work = &engine->works[slot];
    work->delivered = (uint32_t)un_load(&un_slot(engine, slot)->bytes_out) - undelivered;
    work->deadline_ns = engine->now_ns + engine->options->send_timeout_ns;
}

/* At the deadline: was any output delivered since it was set? If some is left, there is another one. */
static bool has_progressed(struct un_engine *engine, uint32_t slot)
{
    struct un_work *work = &engine->works[slot];
    uint32_t undelivered = engine->transport->undelivered(engine, work->handle), before = work->delivered;
    if (undelivered == 0 && work->tx_head == UN_NONE) {
        work->deadline_ns = 0;
        return true;
    }
    un_engine_conn_expect_progress(engine, slot, undelivered);
    return work->delivered != before;
}

/* At the deadline: does the peer still take output that the transport had when our FIN was queued behind it? The first
 * time nothing is there to compare with, so a peer that takes nothing has two deadlines. */
static bool takes_the_rest(struct un_engine *engine, uint32_t slot)
{
    struct un_work *work = &engine->works[slot];
    uint32_t undelivered = engine->transport->undelivered(engine, work->handle), before = work->delivered;
    work->delivered = (uint32_t)un_load(&un_slot(engine, slot)->bytes_out) - undelivered;
    work->deadline_ns = engine->now_ns + engine->options->linger_ns;
    return undelivered > 0 && work->delivered != before;
}

static void meet_deadlines(struct un_engine *engine, uint32_t slot)
{
    struct un_conn *conn = un_slot(engine, slot);
    bool overdue = is_overdue(engine, &engine->works[slot]), lingers = conn->state == UN_CONN_LINGER;
    if (overdue && lingers && !takes_the_rest(engine, slot))
        un_engine_conn_finish(engine, slot, closed_by(engine, slot), true);
    else if (overdue && !lingers && !has_progressed(engine, slot))
        un_engine_conn_finish(engine, slot, UN_REASON_STALLED, true);
    else if (is_idle(engine, conn))
        un_engine_conn_finish(engine, slot, UN_REASON_IDLE, true);
}

void un_engine_conn_sweep_deadlines(struct un_engine *engine)
{
    struct un_private *own = engine->own;
    engine->now_ns = un_engine_now_ns(engine);
    if (engine->now_ns < own->swept_ns + UN_SWEEP_NS)
        return;
    own->swept_ns = engine->now_ns;
    for (uint32_t slot = 0; slot < own->conn_high; slot++) {
        if (!un_is_alive(un_slot(engine, slot)))
            continue;
        un_enter(engine, slot);
        meet_deadlines(engine, slot);
        un_leave(engine);
    }
}

/* The transport is asked once of what was sent: what was delivered stays so. */
static bool owes_output(struct un_engine *engine, uint32_t slot)
{
    struct un_work *work = &engine->works[slot];
    uint32_t sent = (uint32_t)un_load(&un_slot(engine, slot)->bytes_out);
    if (work->tx_head != UN_NONE)
        return true;
    if (work->deadline_ns == 0 && work->delivered == sent)
        return false;
    if (engine->transport->undelivered(engine, work->handle) > 0)
        return true;
    if (work->deadline_ns == 0)
        work->delivered = sent;
    return false;
}

bool un_engine_owes_output(struct un_engine *engine)
{
    for (uint32_t slot = 0; slot < engine->own->conn_high; slot++)
        if (un_is_alive(un_slot(engine, slot)) && owes_output(engine, slot))
            return true;
    return false;
}
