/* Workers come and go at the ports of a seat; its connections stay.
 *
 * When a worker is gone, what it had committed is taken to the end; everything after that did not happen. Its
 * uncommitted events stand in the ring for the next worker. Frames that it held are swept: a frame lives if an
 * unconsumed event needs it, or it is open. Its memory is put back to what the engine believes, whatever it wrote
 * there. Connections with output or input that was in no commit (dirty) are reset, and all of them when the handler
 * cannot resume. An event that two workers in a row died of is quarantined (P3); after the first death those of
 * connections that have nothing to do with it go first. */
#include <errno.h>
#include <string.h>

#include "base/wake.h"
#include "engine/commits.h"
#include "engine/events.h"
#include "engine/judge.h"
#include "engine/order.h"
#include "engine/ports.h"
#include "engine/receive.h"
#include "engine/seats.h"
#include "engine/transmit.h"
#include "engine/unread.h"

static void reset_dirty(struct un_engine *engine, uint32_t port)
{
    const uint8_t *dirty = un_dirty_map(engine->setup.public, un_port_memory(engine, port));
    bool any = false;
    for (uint32_t slot = 0; slot < engine->own->conn_high; slot++) {
        const struct un_conn *conn = un_slot(engine, slot);
        if (!dirty[slot] || un_port_of(conn) != port || conn->state != UN_CONN_OPEN)
            continue;
        un_count(&engine->counters->dirty_resets, 1);
        un_unread_doom(engine, slot);
        any = true;
    }
    if (any)
        un_unread_reset_doomed(engine, port, engine->own->ports[port].resumes);
}

/* Take what was committed. Commands that wait for send nodes cost their connection: nobody could vouch for the rest. */
static void take_to_the_end(struct un_engine *engine, uint32_t port)
{
    struct un_port_end *state = &engine->own->ports[port];
    const struct un_command *ring =
        un_command_ring(engine->setup.public, un_port_memory(engine, port));
    un_commits_take(engine, port);
    while (state->commands_stuck) {
        uint32_t slot = UN_ID_SLOT(ring[un_ring_slot(&state->commands, state->commands.own)].conn);
        if (slot >= engine->own->conn_high || !un_is_alive(un_slot(engine, slot)) ||
            un_port_of(un_slot(engine, slot)) != port)
            break;
        un_count(&engine->counters->dirty_resets, 1);
        un_unread_reset(engine, slot, UN_REASON_WORKER_LOST, state->resumes);
        un_commits_take(engine, port);
    }
}

/* The next worker finds in its memory what the engine believes, not what the last one wrote. */
static void restore_memory(struct un_engine *engine, uint32_t port)
{
    struct un_port_end *state = &engine->own->ports[port];
    struct un_port_memory *memory = un_port_memory(engine, port);
    un_store(&memory->handling, 0);
    un_store(&memory->sleeping, 0);
    un_store(&memory->want_space, 0);
    un_store(&memory->releases_produced, state->releases.own);
    state->releases.seen = state->releases.own;
    state->commands.seen = state->commands.own;
    un_publish(&memory->commit, UN_COMMIT(state->events.seen, state->commands.own));
    memset(un_dirty_map(engine->setup.public, memory), 0, engine->own->conn_high);
    un_store(&memory->counters.held_frames, 0);
    un_store(&memory->counters.overflow_bytes, 0);
    un_store(&memory->counters.objects, 0);
}

/* A server that stops ends connections when all workers have left. The worker of these has left in order, so nothing of
 * them is half done. Should another one come here all the same, sit_down treats them as those of one that died. */
static bool is_stopping(const struct un_engine *engine, uint32_t port, enum un_loss how)
{
    return how == UN_LOSS_LEFT && !engine->own->accepting && un_is_current(engine, port);
}

bool un_engine_lost_worker(struct un_engine *engine, uint32_t port, enum un_loss how)
{
    struct un_port_end *state = &engine->own->ports[port];
    struct un_port_public *published = un_port_public(engine->setup.public, port);
    un_assert(port < un_port_count(engine->config));
    if (!state->attached)
        return state->used && un_load(&un_quarantine_at(engine->setup.public, port)->valid);
    engine->now_ns = un_engine_now_ns(engine);
    take_to_the_end(engine, port);
    bool poisoned = un_judge_death(engine, port, how == UN_LOSS_HUNG);
    reset_dirty(engine, port);
    if (!state->resumes && !is_stopping(engine, port, how))
        un_unread_reset_known(engine, port);
    un_order_suspects_last(engine, port);
    un_unread_sweep_frames(engine, port);
    restore_memory(engine, port);
    state->attached = state->bad = false;
    un_store(&published->attached, 0);
    un_store(&published->bad, 0);
    un_seats_lost(engine, port);
    un_transmit_listed(engine);
    return poisoned;
}

static void sit_down(struct un_engine *engine, uint32_t port, uint32_t serial, bool resumes)
{
    struct un_port_end *state = &engine->own->ports[port];
    struct un_port_public *published = un_port_public(engine->setup.public, port);
    if (!resumes || !state->resumes)
        un_unread_reset_known(engine, port);
    if (engine->setup.wake_fds[port] >= 0)
        un_wake_drain(engine->setup.wake_fds[port]); /* its predecessor may have filled it */
    un_store(&un_quarantine_at(engine->setup.public, port)->valid, 0);
    if (!state->attached) /* events may have been copied meanwhile, or somebody else may have written there */
        restore_memory(engine, port);
    un_store(&published->serial, serial);
    un_store(&published->attached, 1);
    state->serial = serial;
    state->resumes = resumes;
    state->line = port;
    state->cursor = UN_NONE;
    state->diverted = false;
    un_compiler_fence(); /* asked again, an engine that was killed before does it again */
    state->attached = true;
    un_events_publish(engine, port);
}

int un_engine_attach_worker(struct un_engine *engine, uint32_t port, uint32_t serial, bool resumes)
{
    struct un_port_end *state = &engine->own->ports[port];
    un_assert(port < un_port_count(engine->config));
    engine->now_ns = un_engine_now_ns(engine);
    un_port_use(engine, port);
    if (un_seats_is_split(engine, port))
        return -EBUSY;
    if (!state->attached || state->serial != serial)
        sit_down(engine, port, serial, resumes);
    un_port_make_current(engine, port);
    un_seats_attached(engine, port);
    return 0;
}
