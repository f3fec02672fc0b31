/* A stack goes on in another process, or after the sudden death of its own (P10).
 *
 * The blocks are the truth; all else is made again from them: references of frames and free lists by a scan of the
 * queues, and of the device's rings where they outlived the process; look-up table and wheel by entering every
 * connection; lists by giving every connection a turn. Events that the application had fetched and may not have acted
 * upon are told again. The connection that was being changed (`busy`) may be half changed: the change is undone
 * (tcp/keep.h), as if the segment had not come, the timer not fired, the application not called.
 *
 * This process may die as well. So the damaged connection is dealt with first, and `busy` is cleared after that; the
 * next process does the rest anew. */
#include "stack/rebuild.h"

#include "stack/farewell.h"
#include "stack/lists.h"
#include "stack/neighbour.h"
#include "stack/scan.h"
#include "stack/udp_endpoints.h"

static bool is_live(const struct un_tcb *tcb)
{
    return tcb->state != 0 && tcb->state != UN_TCP_CLOSED;
}

/* ---- frames and records ---- */

static void scan_conns(struct un_stack *stack)
{
    for (uint32_t slot = 0; slot < stack->own->conn_fresh; slot++) {
        struct un_tcb *tcb = &stack->tcp.tcbs[slot];
        if (is_live(tcb))
            un_assert(un_scan_conn(stack, tcb));
    }
}

static void scan_endpoints(struct un_stack *stack)
{
    for (uint32_t i = 0; i < stack->config->udp_max; i++) {
        struct un_udp_socket *endpoint = &stack->endpoints[i];
        uint32_t bytes;
        if (!endpoint->is_open)
            endpoint->queue = UN_LIST_EMPTY;
        un_assert(un_scan_frames(stack, endpoint->queue.head, &endpoint->frames, &bytes, &endpoint->queue.tail));
    }
}

static void scan_fragments(struct un_stack *stack)
{
    for (uint32_t i = 0; i < UN_FRAGMENTS_MAX; i++) {
        struct un_fragments *datagram = &stack->own->fragments[i];
        uint32_t count, tail;
        if (!datagram->is_used)
            datagram->head = UN_NONE;
        un_assert(un_scan_frames(stack, datagram->head, &count, &datagram->received, &tail));
        datagram->frames = (uint16_t)count;
    }
}

static void rebuild_pools(struct un_stack *stack, const struct un_device *device)
{
    struct un_pool *pool = &stack->tcp.pool;
    pool->own->count = stack->config->frames;
    pool->own->frame_bytes = stack->config->frame_bytes;
    pool->own->lent_count = stack->config->lent;
    for (uint32_t frame = 0; frame < pool->own->count + pool->own->lent_count; frame++)
        pool->frames[frame].references = stack->frame_scratch[frame];
    un_device_hold(device, pool); /* a card may write into those, or read them */
    un_pool_rebuild(pool);
    stack->own->sent_pool.count = stack->config->sents;
    un_recovery_rebuild(&stack->tcp, stack->sent_scratch);
}

/* ---- connections ---- */

static void leave_backlog_empty(struct un_listener *listener)
{
    listener->half_open = listener->ready = 0;
    listener->accept_queue = UN_LIST_EMPTY;
}

static void reset_caches(struct un_stack *stack)
{
    struct un_stack_memory *own = stack->own;
    own->events = own->outputs = UN_LIST_EMPTY;
    own->conn_free = UN_NONE;
    own->conn_count = own->time_wait_head = own->time_wait_count = 0;
    own->retry_ns = 0;
    for (uint32_t place = 0; place < UN_STACK_ADDRESSES_MAX; place++)
        own->claims[place].conns = 0;
    for (uint32_t i = 0; i < UN_STACK_LISTENERS_MAX; i++)
        leave_backlog_empty(&own->listeners[i]);
    own->addresses_next_ns = own->fragments_next_ns = own->now_ns;
    un_flows_clear(&stack->flows);
    un_wheel_init(&own->wheel, own->now_ns);
    own->timers_next_ns = own->now_ns;
}

static void count_backlog(struct un_stack *stack, struct un_tcb *tcb)
{
    if (tcb->listener == UINT16_MAX || (tcb->flags & (UN_TCB_ACTIVE | UN_TCB_ACCEPTED | UN_TCB_DETACHED)))
        return;
    if (tcb->state == UN_TCP_SYN_RECEIVED)
        un_stack_conn_half_open(stack, tcb);
    else
        un_stack_conn_ready(stack, tcb);
}

static bool was_established(const struct un_tcb *tcb)
{
    return (tcb->state & UN_TCP_SYNCHRONIZED) || (tcb->state == UN_TCP_DEAD && tcb->snd_una != tcb->iss);
}

static bool has_room(const struct un_stack *stack, const struct un_tcb *tcb)
{
    bool may_write = (tcb->state & UN_TCP_CAN_SEND) && !(tcb->flags & (UN_TCB_FIN_QUEUED | UN_TCB_WANT_WRITE));
    bool is_known = tcb->flags & (UN_TCB_ACTIVE | UN_TCB_ACCEPTED); /* to the application */
    return is_known && may_write && un_tcp_write_room(&stack->tcp, tcb) > 0;
}

/* All that an event may have said and nobody acted upon. Once too often is harmless, once too few is not. */
void un_stack_tell_again(struct un_stack *stack, struct un_tcb *tcb)
{
    enum un_tcp_reason reason = un_tcp_reason(tcb);
    bool is_over = reason != UN_TCP_REASON_NONE && (tcb->rcv_bytes == 0 || reason != UN_TCP_REASON_CLOSED);
    if (tcb->flags & UN_TCB_DETACHED)
        return;
    tcb->events |= (tcb->listed & UN_LISTED_READY ? UN_TCP_EVENT_ACCEPTED : 0u) |
                   ((tcb->flags & UN_TCB_ACTIVE) && was_established(tcb) ? UN_TCP_EVENT_CONNECTED : 0u) |
                   (tcb->rcv_bytes > 0 ? UN_TCP_EVENT_READABLE : 0u) |
                   (tcb->flags & UN_TCB_FIN_RECEIVED ? UN_TCP_EVENT_EOF : 0u) |
                   (has_room(stack, tcb) ? UN_TCP_EVENT_WRITABLE : 0u) | (is_over ? UN_TCP_EVENT_CLOSED : 0u);
    if (tcb->events)
        un_stack_conn_list_event(stack, tcb);
}

static void enter(struct un_stack *stack, struct un_tcb *tcb)
{
    uint64_t deadline = un_tcp_deadline_ns(tcb);
    stack->own->conn_count++;
    stack->own->claims[tcb->local].conns++;
    if (tcb->state != UN_TCP_DEAD)
        un_stack_conn_enter_flows(stack, tcb);
    if (tcb->state == UN_TCP_TIME_WAIT)
        un_stack_conn_time_wait(stack, tcb);
    if (deadline)
        un_wheel_arm(&stack->own->wheel, stack->tcp.tcbs, un_stack_slot(stack, tcb), deadline);
    un_stack_conn_list_output(stack, tcb);
}

static void unlink_block(struct un_tcb *tcb)
{
    tcb->wheel_next = tcb->wheel_prev = tcb->wheel_at = UN_NONE;
    tcb->event_next = tcb->output_next = tcb->accept_previous = tcb->accept_next = UN_NONE;
    tcb->listed = 0;
    tcb->flags &= ~UN_TCB_NO_NEIGHBOUR;
}

/* From the last to the first, so that low slots are taken first again. */
static void enter_conns(struct un_stack *stack)
{
    for (uint32_t slot = stack->own->conn_fresh; slot-- > 0;) {
        struct un_tcb *tcb = &stack->tcp.tcbs[slot];
        unlink_block(tcb);
        if (is_live(tcb)) {
            enter(stack, tcb);
            continue;
        }
        tcb->state = UN_TCP_CLOSED;
        tcb->next_free = stack->own->conn_free;
        stack->own->conn_free = slot;
    }
}

/* From the first to the last: as long as no slot was used twice, that is how they came. */
static void tell_all_again(struct un_stack *stack)
{
    for (uint32_t slot = 0; slot < stack->own->conn_fresh; slot++) {
        struct un_tcb *tcb = &stack->tcp.tcbs[slot];
        if (!is_live(tcb))
            continue;
        count_backlog(stack, tcb);
        un_stack_tell_again(stack, tcb);
    }
}

/* ---- the one that was being changed ---- */

static void undo_change(struct un_stack *stack)
{
    uint32_t slot = stack->own->busy - 1; /* UN_NONE: none */
    if (slot < stack->own->conn_fresh)
        un_keep_undo(&stack->tcp, &stack->tcp.tcbs[slot]);
    un_farewell_settle(stack, slot != UN_NONE);
    un_compiler_fence();
    stack->own->busy = 0;
    un_compiler_fence();
}

void un_stack_rebuild(struct un_stack *stack, const struct un_device *device)
{
    undo_change(stack);
    un_scan_begin(stack);
    scan_conns(stack);
    scan_endpoints(stack);
    scan_fragments(stack);
    rebuild_pools(stack, device);
    reset_caches(stack);
    un_udp_rebuild(stack);
    un_neighbours_forget_waiting(stack);
    enter_conns(stack);
    tell_all_again(stack);
}
