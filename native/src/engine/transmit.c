/* Output: from send frames to the transport.
 *
 * Each SEND of a worker becomes a node in its connection's queue. Connections with output stand in one list and are
 * flushed after all commands of a turn were taken, so several sends of a batch leave in one gathering call. What the
 * transport does not take waits for un_engine_conn_can_send. A frame's account tells the worker when all of its
 * descriptors are done, which is later where the transport keeps the bytes in their frame until the peer has them.
 * Nodes come from a pool per seat, so a worker can exhaust its own only; then its commands wait (P5). */
#include <errno.h>
#include <stdlib.h>

#include "engine/state.h"
#include "engine/transport.h"

static struct un_node *node_at(struct un_engine *engine, uint32_t seat, uint32_t node)
{
    return &engine->nodes[seat][node];
}

static void tell_free_nodes(struct un_engine *engine, uint32_t seat)
{
    un_store(&un_seat_public(engine->setup.public, seat)->tx_nodes_free, engine->own->seats[seat].node_free_count);
}

static uint32_t take_node(struct un_engine *engine, uint32_t seat)
{
    struct un_seat *state = &engine->own->seats[seat];
    uint32_t node = state->node_free;
    if (node != UN_NONE) {
        state->node_free = node_at(engine, seat, node)->next;
        state->node_free_count--;
    }
    return node;
}

static void push_free_node(struct un_engine *engine, uint32_t seat, uint32_t node)
{
    struct un_seat *state = &engine->own->seats[seat];
    node_at(engine, seat, node)->next = state->node_free;
    state->node_free = node;
    state->node_free_count++;
}

void un_transmit_done(struct un_engine *engine, uint32_t seat, uint32_t frame)
{
    un_shared32 *done = &un_tx_accounts(engine->setup.public, seat)[frame].done;
    un_publish(done, un_load(done) + 1);
    un_count(&engine->counters->frames_out, 1);
    engine->own->seats[seat].gave_space = true;
}

/* The node is free; its bytes are done with too unless the transport keeps them. */
static void give_node(struct un_engine *engine, uint32_t seat, uint32_t node, bool is_lent)
{
    if (!is_lent)
        un_transmit_done(engine, seat, node_at(engine, seat, node)->frame);
    push_free_node(engine, seat, node);
    tell_free_nodes(engine, seat);
    engine->own->seats[seat].gave_space = true;
}

/* Nodes that stand in no live connection's queue become the free list, and accounts are settled with the ones that do,
 * and with what the transport keeps: by one store each, because the worker may be looking, and fills a frame anew that
 * is said to be done. */
void un_transmit_rebuild(struct un_engine *engine, uint32_t seat)
{
    struct un_seat *state = &engine->own->seats[seat];
    struct un_tx_account *accounts = un_tx_accounts(engine->setup.public, seat);
    bool *used = calloc(engine->node_count, sizeof *used);
    uint32_t *waiting = calloc(engine->config->tx_frames, sizeof *waiting);
    un_assert(used != NULL && waiting != NULL);
    for (uint32_t slot = 0; slot < engine->own->conn_high; slot++) {
        const struct un_conn *conn = un_slot(engine, slot);
        if (!un_is_alive(conn) || conn->seat != seat)
            continue;
        for (uint32_t node = engine->works[slot].tx_head; node != UN_NONE; node = node_at(engine, seat, node)->next) {
            waiting[node_at(engine, seat, node)->frame]++;
            used[node] = true;
        }
    }
    engine->transport->count_lent(engine, seat, waiting);
    for (uint32_t frame = 0; frame < engine->config->tx_frames; frame++)
        un_publish(&accounts[frame].done, un_load(&accounts[frame].queued) - waiting[frame]);
    free(waiting);
    state->node_free = UN_NONE;
    state->node_free_count = 0;
    for (uint32_t node = engine->node_count; node-- > 0;)
        if (!used[node])
            push_free_node(engine, seat, node);
    free(used);
    tell_free_nodes(engine, seat);
}

bool un_transmit_queue(struct un_engine *engine, uint32_t slot, const struct un_command *command)
{
    struct un_conn *conn = un_slot(engine, slot);
    struct un_work *work = &engine->works[slot];
    uint32_t node = take_node(engine, conn->seat);
    if (node == UN_NONE)
        return false;
    *node_at(engine, conn->seat, node) = (struct un_node){
        .frame = command->frame, .offset = command->offset, .length = command->length, .next = UN_NONE};
    if (work->tx_head == UN_NONE)
        work->tx_head = node;
    else
        node_at(engine, conn->seat, work->tx_tail)->next = node;
    work->tx_tail = node;
    work->tx_bytes += command->length;
    un_count(&conn->bytes_queued, command->length);
    tell_free_nodes(engine, conn->seat);
    un_transmit_later(engine, slot);
    return true;
}

void un_transmit_later(struct un_engine *engine, uint32_t slot)
{
    struct un_work *work = &engine->works[slot];
    struct un_list *list = &engine->own->flush;
    if (work->flags & UN_WORK_FLUSH_LISTED)
        return;
    work->flags |= UN_WORK_FLUSH_LISTED;
    work->next_flush = UN_NONE;
    if (list->head == UN_NONE)
        list->head = slot;
    else
        engine->works[list->tail].next_flush = slot;
    list->tail = slot;
}

void un_transmit_drop(struct un_engine *engine, uint32_t slot)
{
    struct un_work *work = &engine->works[slot];
    uint32_t seat = un_slot(engine, slot)->seat;
    for (uint32_t node = work->tx_head; node != UN_NONE;) {
        uint32_t next = node_at(engine, seat, node)->next;
        give_node(engine, seat, node, false);
        node = next;
    }
    work->tx_head = work->tx_tail = UN_NONE;
    work->tx_sent = 0;
    work->tx_bytes = 0;
}

static int gather(struct un_engine *engine, uint32_t slot, struct iovec *pieces)
{
    const struct un_work *work = &engine->works[slot];
    uint32_t seat = un_slot(engine, slot)->seat, sent = work->tx_sent;
    uint8_t *frames = un_at(engine->setup.seats[seat], un_header(engine->setup.public)->layout.tx_frames);
    int count = 0;
    for (uint32_t node = work->tx_head; node != UN_NONE && count < UN_IOV_MAX; count++) {
        const struct un_node *entry = node_at(engine, seat, node);
        uint64_t at = (uint64_t)entry->frame * engine->config->tx_frame_bytes + entry->offset;
        pieces[count] = (struct iovec){frames + at + sent, entry->length - sent};
        sent = 0;
        node = entry->next;
    }
    return count;
}

/* The transport took so many bytes; bit i of lent: it keeps those of the node i behind the head where they are. */
static void took(struct un_engine *engine, uint32_t slot, size_t bytes, uint64_t lent)
{
    struct un_work *work = &engine->works[slot];
    struct un_conn *conn = un_slot(engine, slot);
    un_count(&conn->bytes_out, bytes);
    un_store(&conn->active_ns, engine->now_ns);
    un_count(&engine->counters->bytes_out, bytes);
    work->tx_bytes -= bytes;
    bytes += work->tx_sent;
    while (work->tx_head != UN_NONE && bytes >= node_at(engine, conn->seat, work->tx_head)->length) {
        uint32_t node = work->tx_head;
        bytes -= node_at(engine, conn->seat, node)->length;
        work->tx_head = node_at(engine, conn->seat, node)->next;
        give_node(engine, conn->seat, node, lent & 1);
        lent >>= 1;
    }
    work->tx_sent = (uint32_t)bytes;
}

/* Send until the queue is empty or the transport takes no more; false when the connection ended. */
static bool send_queue(struct un_engine *engine, uint32_t slot)
{
    struct un_work *work = &engine->works[slot];
    struct un_conn *conn = un_slot(engine, slot);
    while (work->tx_head != UN_NONE) {
        struct iovec pieces[UN_IOV_MAX];
        uint64_t lent;
        int count = gather(engine, slot, pieces);
        ssize_t sent = engine->transport->send(engine, work->handle, pieces, count, &lent);
        if (sent == -EINTR)
            continue;
        if (sent < 0 && sent != -EAGAIN) {
            un_engine_conn_finish(engine, slot,
                                  sent == -EPIPE || sent == -ECONNRESET ? UN_REASON_RESET : UN_REASON_SYSTEM, true);
            return false;
        }
        size_t offered = 0;
        for (int i = 0; i < count; i++)
            offered += pieces[i].iov_len;
        if (sent > 0)
            took(engine, slot, (size_t)sent, lent);
        if (sent < 0 || (size_t)sent < offered) {
            conn->flags |= UN_CONN_BLOCKED;
            un_count(&engine->counters->sends_blocked, 1);
            return true;
        }
    }
    conn->flags &= (uint8_t)~UN_CONN_BLOCKED;
    return true;
}

static void flush(struct un_engine *engine, uint32_t slot)
{
    struct un_work *work = &engine->works[slot];
    const struct un_conn *conn = un_slot(engine, slot);
    if (!un_is_alive(conn) || (!(conn->flags & UN_CONN_BLOCKED) && !send_queue(engine, slot)))
        return;
    if ((work->flags & UN_WORK_WANT_DRAIN) && work->tx_bytes <= work->drain_mark) {
        work->flags &= (uint16_t)~UN_WORK_WANT_DRAIN;
        un_event_post(engine, slot, UN_WORK_POST_DRAIN);
    }
    if (work->tx_head == UN_NONE)
        un_engine_conn_sent_all(engine, slot);
}

void un_transmit_listed(struct un_engine *engine)
{
    struct un_list *list = &engine->own->flush;
    while (list->head != UN_NONE) {
        uint32_t slot = list->head;
        list->head = engine->works[slot].next_flush;
        engine->works[slot].flags &= (uint16_t)~UN_WORK_FLUSH_LISTED;
        un_enter(engine, slot);
        flush(engine, slot);
        un_leave(engine);
    }
}

void un_engine_conn_can_send(struct un_engine *engine, uint64_t id)
{
    uint32_t slot = UN_ID_SLOT(id);
    struct un_work *work = &engine->works[slot];
    struct un_conn *conn = un_slot(engine, slot);
    if (work->generation != UN_ID_GENERATION(id) || !(conn->flags & UN_CONN_BLOCKED))
        return;
    conn->flags &= (uint8_t)~UN_CONN_BLOCKED;
    un_transmit_later(engine, slot);
}
