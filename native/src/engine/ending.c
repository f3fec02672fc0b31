/* The end of all connections, when the server stops: un_engine_end_all of engine.h.
 *
 * One that is done is ended in order: a FIN behind all of its output. It is done when nothing of it waits here or in
 * the transport that this process would take with it:
 *
 *   output    of commands that were not taken, in its queue, or in a transport that does not go on without us
 *   input     that no worker has consumed, or nobody has received
 *   an answer to an end of file: a peer that has sent all it has would take what there is for the whole
 *   what its worker has in no commit (the dirty map)
 *
 * All others are reset and counted: what was cut short must not look whole. Nobody waits for peers. */
#include "engine/engine.h"

#include "engine/change.h"
#include "engine/commits.h"
#include "engine/conns.h"
#include "engine/transmit.h"
#include "engine/transport.h"

/* Of a port without a worker this was settled when it was lost. */
static bool has_more_to_say(struct un_engine *engine, uint32_t port, uint32_t slot)
{
    const struct un_port_end *state = &engine->own->ports[port];
    if (!state->attached)
        return false;
    const uint8_t *dirty = un_dirty_map(engine->setup.public, un_port_memory(engine, port));
    return state->bad || un_ring_peek(&state->commands) > 0 || dirty[slot];
}

static bool is_done(struct un_engine *engine, uint32_t slot)
{
    const struct un_conn *conn = un_slot(engine, slot);
    const struct un_work *work = &engine->works[slot];
    if (conn->state == UN_CONN_LINGER)
        return true; /* its worker has closed it, and all is said */
    return work->tx_head == UN_NONE && work->rx_waiting == 0 && !(conn->flags & UN_CONN_EOF_IN) &&
           !has_more_to_say(engine, un_port_of(conn), slot) && engine->transport->is_idle(engine, work->handle);
}

static void end(struct un_engine *engine, uint32_t slot, enum un_reason reason)
{
    bool done = is_done(engine, slot);
    un_count(&engine->counters->unfinished_resets, !done);
    un_enter(engine, slot);
    un_engine_conn_finish(engine, slot, reason, !done);
    un_leave(engine);
}

void un_engine_end_all(struct un_engine *engine, enum un_reason reason)
{
    for (uint32_t i = 0; i < engine->live_count; i++)
        un_commits_take(engine, engine->live[i]);
    un_transmit_listed(engine);
    for (uint32_t slot = 0; slot < engine->own->conn_high; slot++)
        if (un_is_alive(un_slot(engine, slot)))
            end(engine, slot, reason);
    engine->transport->drain(engine);
}
