/* See takeover.h. */
#include "engine/takeover.h"

#include <stdlib.h>

#include "base/wake.h"
#include "engine/conns.h"
#include "engine/control.h"
#include "engine/events.h"
#include "engine/order.h"
#include "engine/peers.h"
#include "engine/receive.h"
#include "engine/seats.h"
#include "engine/sendqueue.h"
#include "engine/suspects.h"
#include "engine/transport.h"
#include "engine/rollback.h"
#include "engine/unread.h"
#include "engine/worklists.h"

/* An event that stands in the ring is not posted once more: the last engine may have died before it took the note of
 * it back. Each of these comes once in the life of a connection. */
static void settle_posts(struct un_engine *engine, uint32_t port)
{
    static const uint16_t posts[] = {[UN_EVENT_CONNECT] = UN_WORK_POST_CONNECT,
                                     [UN_EVENT_DATA] = 0,
                                     [UN_EVENT_EOF] = UN_WORK_POST_EOF,
                                     [UN_EVENT_DRAIN] = 0,
                                     [UN_EVENT_CLOSE] = UN_WORK_POST_CLOSE,
                                     [UN_EVENT_MOVE] = 0};
    const struct un_port_end *state = &engine->own->ports[port];
    const struct un_event *ring = un_event_ring(engine->setup.public, port);
    for (uint32_t i = state->walked; i != state->events.own; i++) {
        const struct un_event *event = &ring[un_ring_slot(&state->events, i)];
        struct un_work *work = &engine->works[UN_ID_SLOT(event->conn)];
        if (work->generation == UN_ID_GENERATION(event->conn))
            work->flags &= (uint16_t)~posts[event->type];
    }
}

static void sum_ring(struct un_engine *engine, uint32_t port, bool *closing)
{
    const struct un_port_end *state = &engine->own->ports[port];
    const struct un_event *ring = un_event_ring(engine->setup.public, port);
    for (uint32_t i = state->walked; i != state->events.own; i++) {
        const struct un_event *event = &ring[un_ring_slot(&state->events, i)];
        struct un_work *work = &engine->works[UN_ID_SLOT(event->conn)];
        if (work->generation != UN_ID_GENERATION(event->conn))
            continue;
        if (event->type == UN_EVENT_DATA)
            work->rx_waiting += event->length;
        if (event->type == UN_EVENT_CLOSE)
            closing[UN_ID_SLOT(event->conn)] = true;
    }
}

static void count_slot(struct un_engine *engine, uint32_t slot)
{
    struct un_port_end *port = &engine->own->ports[un_port_of(un_slot(engine, slot))];
    port->slots++;
    port->moving += un_is_moving(engine->works[slot].move);
}

static void clear_sums(struct un_engine *engine)
{
    struct un_private *own = engine->own;
    own->active = own->lingering = 0;
    own->conn_free = UN_NONE;
    own->flush = UN_LIST_EMPTY;
    for (uint32_t port = 0; port < un_port_count(engine->config); port++) {
        own->ports[port].connections = own->ports[port].slots = own->ports[port].moving = 0;
        own->ports[port].over_budget = 0;
        own->ports[port].receive = UN_LIST_EMPTY;
        own->ports[port].commands_stuck = false;
    }
    for (uint32_t slot = 0; slot < own->conn_high; slot++) {
        if (un_slot(engine, slot)->state == UN_CONN_FREE)
            engine->works[slot].move = UN_MOVE_NONE;
        else
            count_slot(engine, slot);
        engine->works[slot].rx_waiting = 0;
        engine->works[slot].flags &=
            (uint16_t)~(UN_WORK_RECEIVE_LISTED | UN_WORK_FLUSH_LISTED | UN_WORK_OVER_BUDGET | UN_WORK_FRESH |
                       UN_WORK_SUSPECT | UN_WORK_DOOMED);
    }
}

static void count_peers(struct un_engine *engine)
{
    un_peers_reset(engine);
    for (uint32_t slot = 0; slot < engine->own->conn_high; slot++)
        if (un_is_alive(un_slot(engine, slot)))
            un_peers_add(engine, &un_slot(engine, slot)->peer);
}

/* Count a living connection and give it a turn at everything. */
static void readmit(struct un_engine *engine, uint32_t slot)
{
    struct un_conn *conn = un_slot(engine, slot);
    engine->own->active++;
    engine->own->ports[un_port_of(conn)].connections++;
    engine->own->lingering += conn->state == UN_CONN_LINGER;
    conn->flags &= (uint8_t)~UN_CONN_BLOCKED;
    engine->works[slot].flags |= UN_WORK_READABLE | UN_WORK_READ_ON;
    if (conn->flags & UN_CONN_EOF_IN)
        engine->works[slot].flags &= (uint16_t)~(UN_WORK_READABLE | UN_WORK_READ_ON);
    un_receive_later(engine, slot);
    un_transmit_later(engine, slot);
}

static void rebuild_conns(struct un_engine *engine, const bool *closing)
{
    for (uint32_t slot = engine->own->conn_high; slot-- > 0;) {
        const struct un_conn *conn = un_slot(engine, slot);
        const struct un_work *work = &engine->works[slot];
        if (un_is_alive(conn))
            readmit(engine, slot);
        else if (conn->state == UN_CONN_CLOSED && (work->flags & UN_WORK_POST_CLOSE))
            un_receive_later(engine, slot);
        else if (!closing[slot])
            un_engine_conn_free_slot(engine, slot);
    }
}

/* What was summed up connection by connection agrees with the rings and with itself. */
static void check_sums(const struct un_engine *engine)
{
    uint32_t active = 0;
    for (uint32_t i = 0; i < un_port_count(engine->config); i++) {
        const struct un_port_end *port = &engine->own->ports[i];
        un_assert(port->connections <= port->slots && port->slots <= engine->own->conn_high);
        active += port->connections;
        un_assert(un_ring_used(&port->events) <= port->events.size);
        un_assert(port->events.own - port->walked <= port->events.size);
    }
    un_assert(active == engine->own->active && engine->own->lingering <= active);
}

/* Whatever its memory says: the dead engine may have taken the note that the worker sleeps, and not come to write. */
static void wake_anyway(const struct un_engine *engine, uint32_t port)
{
    if (engine->setup.port_wake_fds[port] >= 0)
        un_wake_send(engine->setup.port_wake_fds[port]);
}

/* What the dead engine knew of the rings, and may not have come to tell. */
static void tell_rings(struct un_engine *engine, uint32_t port)
{
    struct un_port_end *state = &engine->own->ports[port];
    struct un_port_public *published = un_port_public(engine->setup.public, port);
    un_publish(&published->commands_consumed, state->commands.own);
    un_publish(&published->releases_consumed, state->releases.own);
    state->published = un_load(&published->events_produced);
    un_events_publish(engine, port);
}

/* Of a port that is in use, once connections and their queues are known. */
static void rebuild_port(struct un_engine *engine, uint32_t port)
{
    struct un_port_end *state = &engine->own->ports[port];
    un_sendqueue_rebuild(engine, port);
    if (state->attached)
        un_rx_rebuild_free(engine, port);
    else /* an event was copied, perhaps, and its frame not given back */
        un_unread_sweep_frames(engine, port);
    tell_rings(engine, port);
    wake_anyway(engine, port);
    un_store(&un_port_public(engine->setup.public, port)->connections, state->connections);
    if (state->bad) /* the dead engine may not have come to say so */
        un_control_tell(engine, UN_CONTROL_BAD, port, state->serial, 0, 0, 0);
}

void un_takeover(struct un_engine *engine)
{
    struct un_private *own = engine->own;
    bool *closing = calloc(engine->config->conn_max, sizeof *closing);
    un_assert(closing != NULL);
    engine->now_ns = un_engine_now_ns(engine);
    un_order_complete(engine);
    un_rollback(engine);
    for (uint32_t port = 0; port < un_port_count(engine->config); port++) {
        own->ports[port].rx_free = own->ports[port].node_free = UN_NONE;
        own->ports[port].rx_free_count = own->ports[port].node_free_count = 0;
        if (!own->ports[port].attached)
            own->ports[port].walked = own->ports[port].events.seen;
        un_suspects_recount(engine, port);
        settle_posts(engine, port);
    }
    clear_sums(engine);
    count_peers(engine);
    un_rollback_settle(engine);
    clear_sums(engine);
    un_seats_take_over(engine);
    for (uint32_t port = 0; port < un_port_count(engine->config); port++)
        sum_ring(engine, port, closing);
    rebuild_conns(engine, closing);
    check_sums(engine);
    for (uint32_t port = 0; port < un_port_count(engine->config); port++)
        if (own->ports[port].used)
            rebuild_port(engine, port);
    own->busy.slot = 0;
    un_store(&engine->counters->active, own->active);
    engine->transport->settle_orphans(engine);
    un_seats_taken_over(engine);
    un_count(&engine->counters->takeovers, 1);
    free(closing);
}
