/* See commits.h. */
#include "engine/commits.h"

#include "engine/change.h"
#include "engine/conns.h"
#include "engine/control.h"
#include "engine/moving.h"
#include "engine/receive.h"
#include "engine/sendqueue.h"
#include "engine/suspects.h"
#include "engine/worklists.h"

static void count(un_shared64 *counter)
{
    un_count(counter, 1);
}

static void condemn(struct un_engine *engine, uint32_t port)
{
    struct un_port_end *state = &engine->own->ports[port];
    if (state->bad)
        return;
    state->bad = true;
    un_store(&un_port_public(engine->setup.public, port)->bad, 1);
    un_control_tell(engine, UN_CONTROL_BAD, port, state->serial, 0, 0, 0);
}

static uint32_t take_releases(struct un_engine *engine, uint32_t port)
{
    struct un_port_end *state = &engine->own->ports[port];
    struct un_port_memory *memory = un_port_memory(engine, port);
    const uint32_t *frames = un_release_ring(engine->setup.public, memory);
    if (!un_ring_consumer_saw(&state->releases, un_observe(&memory->releases_produced))) {
        condemn(engine, port);
        return 0;
    }
    uint32_t taken = un_ring_peek(&state->releases);
    while (un_ring_peek(&state->releases) > 0) {
        uint32_t frame = *(volatile const uint32_t *)&frames[un_ring_slot(&state->releases, state->releases.own)];
        un_ring_release(&state->releases, 1);
        un_compiler_fence(); /* dying here leaks a slice until the worker is replaced; twice released would be worse */
        if (!un_rx_release(engine, port, frame))
            count(&engine->counters->bad_releases);
    }
    if (taken)
        un_publish(&un_port_public(engine->setup.public, port)->releases_consumed, state->releases.own);
    return taken;
}

static void account_consumed(struct un_engine *engine, const struct un_event *event)
{
    uint32_t slot = UN_ID_SLOT(event->conn);
    struct un_work *work = &engine->works[slot];
    if (work->generation != UN_ID_GENERATION(event->conn))
        return;
    if (event->type == UN_EVENT_CLOSE) {
        un_assert(un_slot(engine, slot)->state == UN_CONN_CLOSED);
        un_engine_conn_free_slot(engine, slot);
    } else if (event->type == UN_EVENT_DATA) {
        work->rx_waiting -= event->length;
        un_assert((int32_t)work->rx_waiting >= 0);
        if ((work->flags & UN_WORK_OVER_BUDGET) && work->rx_waiting <= engine->config->rx_budget / 2) {
            work->flags &= (uint16_t)~UN_WORK_OVER_BUDGET;
            engine->own->ports[un_port_of(un_slot(engine, slot))].over_budget--;
            un_receive_later(engine, slot);
        }
    }
}

static uint32_t walk_consumed(struct un_engine *engine, uint32_t port)
{
    struct un_port_end *state = &engine->own->ports[port];
    const struct un_event *ring = un_event_ring(engine->setup.public, port);
    uint32_t consumed = state->events.seen - state->walked;
    if (__builtin_expect(state->suspects > 0, 0))
        un_suspects_acquit(engine, port, state->walked, state->events.seen);
    while (state->walked != state->events.seen) {
        const struct un_event *event = &ring[un_ring_slot(&state->events, state->walked)];
        un_assert(UN_ID_SLOT(event->conn) < engine->own->conn_high); /* the ring is ours to write, and nobody else's */
        state->walked++; /* the rest is made anew by a takeover */
        un_compiler_fence();
        account_consumed(engine, event);
    }
    return consumed;
}

/* The bytes of a command lie in one send frame of this port. */
static bool has_valid_bytes(const struct un_engine *engine, const struct un_command *command)
{
    return command->length > 0 && command->frame < engine->config->tx_frames &&
           command->length <= engine->config->tx_frame_bytes &&
           command->offset <= engine->config->tx_frame_bytes - command->length;
}

static void set_state(struct un_engine *engine, uint32_t slot, const struct un_command *command)
{
    struct un_conn *conn = un_slot(engine, slot);
    uint32_t port = un_port_of(conn);
    const uint8_t *frames = un_send_frames(engine->setup.public, engine->setup.ports[port]);
    if (command->length > engine->config->state_bytes) {
        count(&engine->counters->bad_commands);
        return;
    }
    conn->state_length = 0; /* a reader that races sees no blob rather than half of one */
    un_compiler_fence();
    for (uint32_t i = 0; i < command->length; i++)
        un_conn_blob(conn)[i] =
            frames[(uint64_t)command->frame * engine->config->tx_frame_bytes + command->offset + i];
    un_compiler_fence();
    conn->state_length = command->length;
}

static void abort_conn(struct un_engine *engine, uint32_t slot, uint64_t reason)
{
    if (reason == UN_REASON_ABORTED || reason == UN_REASON_ERROR)
        un_engine_conn_finish(engine, slot, (enum un_reason)reason, true);
    else
        count(&engine->counters->bad_commands);
}

static void resume(struct un_engine *engine, uint32_t slot)
{
    un_slot(engine, slot)->flags &= (uint8_t)~UN_CONN_PAUSED;
    un_receive_later(engine, slot);
}

static void want_drain(struct un_engine *engine, uint32_t slot, uint64_t mark)
{
    engine->works[slot].flags |= UN_WORK_WANT_DRAIN;
    engine->works[slot].drain_mark = mark;
    un_transmit_later(engine, slot);
}

enum outcome {
    OUTCOME_DONE,   /* and its bytes, if any, are not needed any more */
    OUTCOME_QUEUED, /* the bytes stay in their frame until they are sent */
    OUTCOME_WAIT,   /* no send node is free; nothing was changed */
};

static enum outcome send_bytes(struct un_engine *engine, uint32_t slot, const struct un_command *command)
{
    const struct un_conn *conn = un_slot(engine, slot);
    if (conn->state != UN_CONN_OPEN || (conn->flags & UN_CONN_EOF_OUT)) {
        count(&engine->counters->stale_commands);
        return OUTCOME_DONE;
    }
    if (!un_sendqueue_append(engine, slot, command))
        return OUTCOME_WAIT;
    un_transmit_later(engine, slot);
    return OUTCOME_QUEUED;
}

/* False: nobody asked. */
static bool answer(struct un_engine *engine, uint32_t slot, uint8_t op)
{
    switch (op) {
    case UN_COMMAND_RELEASE: return un_moving_release(engine, slot);
    case UN_COMMAND_KEEP: return un_moving_keep(engine, slot);
    default: return un_moving_settled(engine, slot);
    }
}

static enum outcome apply(struct un_engine *engine, uint32_t slot, const struct un_command *command)
{
    switch (command->op) {
    case UN_COMMAND_SEND:
        return send_bytes(engine, slot, command);
    case UN_COMMAND_SEND_EOF:
        un_engine_conn_send_eof(engine, slot);
        break;
    case UN_COMMAND_CLOSE:
        un_engine_conn_close(engine, slot);
        break;
    case UN_COMMAND_ABORT:
        abort_conn(engine, slot, command->arg);
        break;
    case UN_COMMAND_PAUSE:
        un_slot(engine, slot)->flags |= UN_CONN_PAUSED;
        break;
    case UN_COMMAND_RESUME:
        resume(engine, slot);
        break;
    case UN_COMMAND_STATE:
        set_state(engine, slot, command);
        break;
    case UN_COMMAND_WANT_DRAIN:
        want_drain(engine, slot, command->arg);
        break;
    case UN_COMMAND_RELEASE:
    case UN_COMMAND_KEEP:
    case UN_COMMAND_SETTLED:
        if (!answer(engine, slot, command->op))
            count(&engine->counters->bad_commands);
        break;
    default:
        count(&engine->counters->bad_commands);
    }
    return OUTCOME_DONE;
}

/* One that ended while its worker was asked waits for the answer, and who hears of its end depends on that. */
static bool may_be_addressed(const struct un_conn *conn, uint8_t op)
{
    return un_is_alive(conn) ||
           (conn->state == UN_CONN_CLOSED && (op == UN_COMMAND_RELEASE || op == UN_COMMAND_KEEP));
}

/* The slot a command is for, or UN_NONE when it may not have it. */
static uint32_t addressed_slot(struct un_engine *engine, uint32_t port, const struct un_command *command)
{
    uint32_t slot = UN_ID_SLOT(command->conn);
    if (slot >= engine->own->conn_high || un_load(&un_slot(engine, slot)->id) != command->conn ||
        !may_be_addressed(un_slot(engine, slot), command->op)) {
        count(&engine->counters->stale_commands);
        return UN_NONE;
    }
    if (un_port_of(un_slot(engine, slot)) != port) {
        count(&engine->counters->foreign_commands);
        return UN_NONE;
    }
    return slot;
}

static bool carries_bytes(const struct un_command *command)
{
    return command->op == UN_COMMAND_SEND || (command->op == UN_COMMAND_STATE && command->length > 0);
}

/* A change begins: of a connection (or UN_NONE), and of the account of the frame that the command's bytes lie in. */
static void begin(struct un_engine *engine, uint32_t port, uint32_t slot, const struct un_command *command,
                  const struct un_tx_account *account)
{
    struct un_busy *busy = &engine->own->busy;
    busy->port = port;
    busy->command = engine->own->ports[port].commands.own;
    busy->queued_before = account ? un_load(&account->queued) : 0;
    un_compiler_fence();
    busy->frame = account ? command->frame + 1 : 0;
    busy->is_command = true;
    un_enter_at(engine, slot, port);
}

static void end(struct un_engine *engine)
{
    un_leave(engine);
    engine->own->busy.frame = 0;
    un_compiler_fence(); /* until here the account is settled by what the command was */
    engine->own->busy.is_command = false;
}

/* Take one command as one change: what it asks for, the account of its frame, and our ring index. */
static bool take_command(struct un_engine *engine, uint32_t port, const struct un_command *command)
{
    uint32_t slot = addressed_slot(engine, port, command);
    struct un_tx_account *account = NULL;
    if (carries_bytes(command) && !has_valid_bytes(engine, command)) {
        count(&engine->counters->bad_ranges);
        slot = UN_NONE;
    } else if (carries_bytes(command)) {
        account = &un_tx_accounts(engine->setup.public, port)[command->frame];
    }
    begin(engine, port, slot, command, account);
    enum outcome outcome = slot == UN_NONE ? OUTCOME_DONE : apply(engine, slot, command);
    if (outcome != OUTCOME_WAIT) {
        if (account)
            un_store(&account->queued, un_load(&account->queued) + 1);
        un_ring_release(&engine->own->ports[port].commands, 1);
        un_compiler_fence(); /* its bytes are the worker's again only when nobody reads it once more */
        if (account && outcome == OUTCOME_DONE)
            un_publish(&account->done, un_load(&account->done) + 1);
    }
    end(engine);
    return outcome != OUTCOME_WAIT;
}

static uint32_t take_commands(struct un_engine *engine, uint32_t port)
{
    struct un_port_end *state = &engine->own->ports[port];
    struct un_port_memory *memory = un_port_memory(engine, port);
    const struct un_command *ring = un_command_ring(engine->setup.public, memory);
    uint32_t before = state->commands.own;
    state->commands_stuck = false;
    while (un_ring_peek(&state->commands) > 0 && !state->commands_stuck) {
        struct un_command command = ring[un_ring_slot(&state->commands, state->commands.own)]; /* checked, then used */
        un_compiler_fence();
        state->commands_stuck = !take_command(engine, port, &command);
    }
    if (state->commands_stuck)
        count(&engine->counters->commands_blocked);
    uint32_t taken = state->commands.own - before;
    if (taken) {
        un_publish(&un_port_public(engine->setup.public, port)->commands_consumed, state->commands.own);
        un_count(&engine->counters->commands, taken);
        state->gave_space = true;
    }
    return taken;
}

/* As most ports are in most turns: nothing came, and nothing waits. */
static bool is_quiet(const struct un_port_end *state, const struct un_port_memory *memory)
{
    return un_observe(&memory->releases_produced) == state->releases.own && state->walked == state->events.seen &&
           un_observe(&memory->commit) == UN_COMMIT(state->events.seen, state->commands.own);
}

uint32_t un_commits_take(struct un_engine *engine, uint32_t port)
{
    struct un_port_end *state = &engine->own->ports[port];
    if (state->bad || !state->attached || is_quiet(state, un_port_memory(engine, port)))
        return 0;
    uint32_t work = take_releases(engine, port);
    if (state->bad)
        return work;
    uint64_t word = un_observe(&un_port_memory(engine, port)->commit);
    struct un_ring events = state->events;
    if (!un_ring_producer_saw(&events, UN_COMMIT_EVENTS(word)) ||
        !un_ring_consumer_saw(&state->commands, UN_COMMIT_COMMANDS(word))) {
        count(&engine->counters->bad_commits);
        condemn(engine, port);
        return work;
    }
    if (events.seen != state->events.seen)
        count(&engine->counters->commits);
    state->events.seen = events.seen;
    work += walk_consumed(engine, port);
    return work + take_commands(engine, port);
}

bool un_commits_changed(struct un_engine *engine)
{
    for (uint32_t i = 0; i < engine->live_count; i++) {
        uint32_t port = engine->live[i];
        const struct un_port_end *state = &engine->own->ports[port];
        const struct un_port_memory *memory = un_port_memory(engine, port);
        if (state->bad || !state->attached)
            continue;
        uint64_t word = un_observe(&memory->commit);
        bool commands_came = UN_COMMIT_COMMANDS(word) != state->commands.own && !state->commands_stuck;
        if (commands_came || UN_COMMIT_EVENTS(word) != state->events.seen)
            return true;
        if (un_observe(&memory->releases_produced) != state->releases.own)
            return true;
    }
    return false;
}
