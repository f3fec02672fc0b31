/* See rollback.h. */
#include "engine/rollback.h"

#include <errno.h>

#include "engine/change.h"
#include "engine/conns.h"
#include "engine/events.h"
#include "engine/receive.h"
#include "engine/sendqueue.h"
#include "engine/transport.h"
#include "engine/unread.h"

/* A command is done with the index behind it. */
static bool is_complete(const struct un_engine *engine)
{
    const struct un_busy *busy = &engine->own->busy;
    return busy->is_command && engine->own->ports[busy->port].commands.own != busy->command;
}

/* So is an event that is copied to another port. */
static bool is_copied(const struct un_engine *engine)
{
    const struct un_busy *busy = &engine->own->busy;
    return busy->source && engine->own->ports[busy->source - 1].events.seen != busy->source_index;
}

static void settle_account(struct un_engine *engine)
{
    const struct un_busy *busy = &engine->own->busy;
    struct un_tx_account *accounts = un_tx_accounts(engine->setup.public, busy->port);
    if (busy->frame)
        un_store(&accounts[busy->frame - 1].queued, busy->queued_before + is_complete(engine));
}

static void put_back(struct un_engine *engine, uint32_t slot)
{
    const struct un_busy *busy = &engine->own->busy;
    struct un_port_end *port = &engine->own->ports[busy->port];
    engine->works[slot] = busy->work;
    memcpy((void *)un_slot(engine, slot), busy->conn, sizeof busy->conn);
    port->events.own = busy->events;
    if (busy->slice) {
        engine->rx_frames[busy->port][busy->slice - 1].references = busy->slice_references;
        port->rx_fill = busy->slice_fill;
    }
    if (un_is_alive(un_slot(engine, slot)) && busy->work.tx_head != UN_NONE) /* one may have been appended */
        un_node_at(engine, busy->port, busy->work.tx_tail)->next = UN_NONE;
}

void un_rollback(struct un_engine *engine)
{
    struct un_busy *busy = &engine->own->busy;
    settle_account(engine);
    if (is_complete(engine) || is_copied(engine))
        busy->slot = 0;
    un_compiler_fence(); /* what says that it is complete goes after what would be put back */
    busy->source = 0;
    un_compiler_fence();
    busy->frame = 0;
    un_compiler_fence(); /* whose account is settled by what the command was */
    busy->is_command = false;
    if (busy->slot)
        put_back(engine, busy->slot - 1);
}

/* Its queue may be half given back, its handle closed and used again: the nodes are found free, and the transport
 * closes what nobody owns. */
static void end(struct un_engine *engine, uint32_t slot)
{
    uint32_t ends = engine->own->busy.ends;
    struct un_work *work = &engine->works[slot];
    enum un_reason reason = (enum un_reason)(uint8_t)ends;
    work->tx_head = work->tx_tail = UN_NONE;
    work->handle = -1;
    if (ends & UN_ENDS_SKIP)
        un_engine_skip_events(engine, slot);
    if (ends & UN_ENDS_TELL)
        un_engine_conn_finish(engine, slot, reason, ends & UN_ENDS_RESET);
    else
        un_engine_conn_discard(engine, slot, reason);
}

static uint32_t open_room(const struct un_engine *engine, uint32_t slot)
{
    const struct un_port_end *port = &engine->own->ports[un_port_of(un_slot((struct un_engine *)engine, slot))];
    return port->rx_open == UN_NONE ? 0 : engine->config->rx_frame_bytes - port->rx_fill;
}

static void settle_transfer(struct un_engine *engine, uint32_t slot)
{
    struct un_conn *conn = un_slot(engine, slot);
    struct un_counts counts;
    int status = engine->transport->counts(engine, slot, &counts);
    bool came = engine->own->busy.transfer == UN_TRANSFER_IN;
    uint64_t sent = came ? 0 : counts.given - un_load(&conn->bytes_out);
    uint64_t received = came ? counts.taken - un_load(&conn->bytes_in) : 0;
    if (conn->state != UN_CONN_OPEN || conn->flags & UN_CONN_EOF_IN)
        received = 0; /* nobody wants it, or nothing can come */
    if (status < 0 || sent > engine->works[slot].tx_bytes || received > open_room(engine, slot)) {
        un_engine_conn_finish(engine, slot, status == -ECONNRESET ? UN_REASON_RESET : UN_REASON_NETWORK_LOST, true);
        return;
    }
    if (sent > 0)
        un_sendqueue_took(engine, slot, sent, UINT64_MAX); /* what is done with is found by the rebuild that follows */
    if (received > 0) {
        un_assert(un_event_push_posts(engine, slot)); /* there was room before that was received */
        un_receive_took(engine, slot, (uint32_t)received);
    }
}

void un_rollback_settle(struct un_engine *engine)
{
    const struct un_busy *busy = &engine->own->busy;
    uint32_t slot = busy->slot - 1;
    if (busy->slot == 0 || !un_is_alive(un_slot(engine, slot)))
        return;
    if (busy->ends)
        end(engine, slot);
    else if (busy->transfer)
        settle_transfer(engine, slot);
}
