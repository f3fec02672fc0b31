/* See sendqueue.h. */
#include "engine/sendqueue.h"

#include <stdlib.h>

#include "engine/change.h"
#include "engine/transport.h"

/* Of a port's own pool, as the free list has it. */
static struct un_node *node_in(struct un_engine *engine, uint32_t port, uint32_t node)
{
    return &engine->nodes[port][node];
}

/* As queues have it. */
static uint32_t named(uint32_t port, uint32_t node)
{
    return node | (port & 1) << UN_NODE_SIDE_SHIFT;
}

static void tell_free_nodes(struct un_engine *engine, uint32_t port)
{
    un_store(&un_port_public(engine->setup.public, port)->tx_nodes_free, engine->own->ports[port].node_free_count);
}

static uint32_t take_node(struct un_engine *engine, uint32_t port)
{
    struct un_port_end *state = &engine->own->ports[port];
    uint32_t node = state->node_free;
    if (node != UN_NONE) {
        un_assert(node < engine->node_count && state->node_free_count > 0);
        state->node_free = node_in(engine, port, node)->next;
        state->node_free_count--;
    }
    return node;
}

static void push_free_node(struct un_engine *engine, uint32_t port, uint32_t node)
{
    struct un_port_end *state = &engine->own->ports[port];
    un_assert(state->node_free_count < engine->node_count);
    node_in(engine, port, node)->next = state->node_free;
    state->node_free = node;
    state->node_free_count++;
}

void un_sendqueue_done(struct un_engine *engine, uint32_t port, uint32_t frame)
{
    un_shared32 *done = &un_tx_accounts(engine->setup.public, port)[frame].done;
    un_publish(done, un_load(done) + 1);
    un_count(&engine->counters->frames_out, 1);
    engine->own->ports[port].gave_space = true;
}

/* A node of a queue is free; its bytes are done with too unless the transport keeps them. */
static void give_node(struct un_engine *engine, uint32_t name, uint32_t of_port, bool is_lent)
{
    uint32_t port = un_node_port(of_port, name);
    if (!is_lent)
        un_sendqueue_done(engine, port, un_node_at(engine, of_port, name)->frame);
    push_free_node(engine, port, name & ~(UINT32_C(1) << UN_NODE_SIDE_SHIFT));
    tell_free_nodes(engine, port);
    engine->own->ports[port].gave_space = true;
}

/* Nodes that stand in no live connection's queue become the free list, and accounts are settled with the ones that do,
 * and with what the transport keeps: by one store each, because the worker may be looking, and fills a frame anew that
 * is said to be done. */
void un_sendqueue_rebuild(struct un_engine *engine, uint32_t port)
{
    struct un_port_end *state = &engine->own->ports[port];
    struct un_tx_account *accounts = un_tx_accounts(engine->setup.public, port);
    bool *used = calloc(engine->node_count, sizeof *used);
    uint32_t *waiting = calloc(engine->config->tx_frames, sizeof *waiting);
    un_assert(used != NULL && waiting != NULL);
    for (uint32_t slot = 0; slot < engine->own->conn_high; slot++) {
        const struct un_conn *conn = un_slot(engine, slot);
        if (!un_is_alive(conn) || un_seat_of(un_port_of(conn)) != un_seat_of(port))
            continue;
        const struct un_node *entry;
        for (uint32_t node = engine->works[slot].tx_head; node != UN_NONE; node = entry->next) {
            entry = un_node_at(engine, port, node);
            if (un_node_port(port, node) != port)
                continue;
            waiting[entry->frame]++;
            used[entry - engine->nodes[port]] = true;
        }
    }
    engine->transport->count_lent(engine, port, waiting);
    for (uint32_t frame = 0; frame < engine->config->tx_frames; frame++)
        un_publish(&accounts[frame].done, un_load(&accounts[frame].queued) - waiting[frame]);
    free(waiting);
    state->node_free = UN_NONE;
    state->node_free_count = 0;
    for (uint32_t node = engine->node_count; node-- > 0;)
        if (!used[node])
            push_free_node(engine, port, node);
    free(used);
    tell_free_nodes(engine, port);
}

void un_sendqueue_begin(struct un_engine *engine, uint32_t port)
{
    engine->own->ports[port].node_free = UN_NONE;
    engine->own->ports[port].node_free_count = 0;
    for (uint32_t node = engine->node_count; node-- > 0;)
        push_free_node(engine, port, node);
    tell_free_nodes(engine, port);
}

bool un_sendqueue_append(struct un_engine *engine, uint32_t slot, const struct un_command *command)
{
    struct un_conn *conn = un_slot(engine, slot);
    struct un_work *work = &engine->works[slot];
    uint32_t port = un_port_of(conn), node = take_node(engine, port);
    if (node == UN_NONE)
        return false;
    *node_in(engine, port, node) = (struct un_node){
        .frame = command->frame, .offset = command->offset, .length = command->length, .next = UN_NONE};
    node = named(port, node);
    if (work->tx_head == UN_NONE)
        work->tx_head = node;
    else
        un_node_at(engine, port, work->tx_tail)->next = node;
    work->tx_tail = node;
    work->tx_bytes += command->length;
    un_count(&conn->bytes_queued, command->length);
    tell_free_nodes(engine, port);
    return true;
}

void un_sendqueue_drop(struct un_engine *engine, uint32_t slot)
{
    struct un_work *work = &engine->works[slot];
    uint32_t port = un_port_of(un_slot(engine, slot));
    for (uint32_t node = work->tx_head; node != UN_NONE;) {
        uint32_t next = un_node_at(engine, port, node)->next;
        give_node(engine, node, port, false);
        node = next;
    }
    work->tx_head = work->tx_tail = UN_NONE;
    work->tx_sent = 0;
    work->tx_bytes = 0;
}

static bool is_of_one_port(uint32_t node, uint32_t first)
{
    return node != UN_NONE && (node ^ first) >> UN_NODE_SIDE_SHIFT == 0;
}

int un_sendqueue_gather(struct un_engine *engine, uint32_t slot, uint32_t *port, struct iovec *pieces)
{
    const struct un_work *work = &engine->works[slot];
    uint32_t node = work->tx_head, sent = work->tx_sent;
    *port = un_node_port(un_port_of(un_slot(engine, slot)), node);
    uint8_t *frames = un_send_frames(engine->setup.public, engine->setup.ports[*port]);
    int count = 0;
    for (uint32_t first = node; count < UN_IOV_MAX && is_of_one_port(node, first); count++) {
        const struct un_node *entry = node_in(engine, *port, node & ~(UINT32_C(1) << UN_NODE_SIDE_SHIFT));
        uint64_t at = (uint64_t)entry->frame * engine->config->tx_frame_bytes + entry->offset;
        pieces[count] = (struct iovec){frames + at + sent, entry->length - sent};
        sent = 0;
        node = entry->next;
    }
    return count;
}

void un_sendqueue_took(struct un_engine *engine, uint32_t slot, size_t bytes, uint64_t lent)
{
    struct un_work *work = &engine->works[slot];
    struct un_conn *conn = un_slot(engine, slot);
    un_count(&conn->bytes_out, bytes);
    un_store(&conn->active_ns, engine->now_ns);
    un_count(&engine->counters->bytes_out, bytes);
    work->tx_bytes -= bytes;
    un_assert((int64_t)work->tx_bytes >= 0);
    bytes += work->tx_sent;
    uint32_t port = un_port_of(conn), first = work->tx_head, head = first;
    while (head != UN_NONE && bytes >= un_node_at(engine, port, head)->length) {
        bytes -= un_node_at(engine, port, head)->length;
        head = un_node_at(engine, port, head)->next;
    }
    un_assert(head != UN_NONE || (bytes == 0 && work->tx_bytes == 0));
    work->tx_head = head;
    work->tx_sent = (uint32_t)bytes;
    un_change_stays(engine); /* until here the nodes stand in the queue */
    for (uint32_t next; first != head; first = next, lent >>= 1) {
        next = un_node_at(engine, port, first)->next;
        give_node(engine, first, port, lent & 1);
    }
}
