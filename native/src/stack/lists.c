/* Connections in and out of the tables and lists of the stack.
 *
 * A connection stands in the list of events at most once, and in one of the lists for output: of all that have
 * something to send, or of a neighbour whose address they wait for. These lists are linked one way, so a connection
 * that ends while it stands in one stays there, CLOSED, and its slot becomes free when it is taken out. The accept
 * queue of a listener is linked both ways: a connection that ends leaves it at once. */
#include "stack/lists.h"

#include <stddef.h>

#include "stack/paths.h"
#include "stack/secrets.h"

static void push_output(struct un_stack *stack, struct un_list *list, struct un_tcb *tcb)
{
    uint32_t slot = un_stack_slot(stack, tcb);
    un_assert(!(tcb->listed & UN_LISTED_OUTPUT) && tcb->state != UN_TCP_CLOSED);
    tcb->listed |= UN_LISTED_OUTPUT;
    tcb->output_next = UN_NONE;
    if (list->head == UN_NONE)
        list->head = slot;
    else
        stack->tcp.tcbs[list->tail].output_next = slot;
    list->tail = slot;
}

void un_stack_conn_list_output(struct un_stack *stack, struct un_tcb *tcb)
{
    if (tcb->listed & UN_LISTED_OUTPUT)
        return;
    push_output(stack, &stack->own->outputs, tcb);
}

void un_stack_conn_wait(struct un_stack *stack, struct un_tcb *tcb, struct un_neighbour *neighbour)
{
    tcb->flags |= UN_TCB_NO_NEIGHBOUR;
    if (tcb->listed & UN_LISTED_OUTPUT)
        return;
    push_output(stack, &neighbour->waiting, tcb);
}

void un_stack_conn_wake(struct un_stack *stack, struct un_neighbour *neighbour)
{
    struct un_list *from = &neighbour->waiting;
    struct un_list *to = &stack->own->outputs;
    if (from->head == UN_NONE)
        return;
    if (to->head == UN_NONE)
        to->head = from->head;
    else
        stack->tcp.tcbs[to->tail].output_next = from->head;
    to->tail = from->tail;
    *from = UN_LIST_EMPTY;
}

struct un_tcb *un_stack_conn_next_output(struct un_stack *stack)
{
    struct un_list *list = &stack->own->outputs;
    while (list->head != UN_NONE) {
        struct un_tcb *tcb = &stack->tcp.tcbs[list->head];
        un_assert(tcb->listed & UN_LISTED_OUTPUT);
        list->head = tcb->output_next;
        tcb->listed &= (uint8_t)~UN_LISTED_OUTPUT;
        tcb->flags &= ~UN_TCB_NO_NEIGHBOUR;
        if (tcb->state != UN_TCP_CLOSED)
            return tcb;
        un_stack_conn_give_back(stack, tcb);
    }
    return NULL;
}

void un_stack_conn_list_event(struct un_stack *stack, struct un_tcb *tcb)
{
    if (tcb->listed & UN_LISTED_EVENTS)
        return;
    struct un_list *list = &stack->own->events;
    uint32_t slot = un_stack_slot(stack, tcb);
    tcb->listed |= UN_LISTED_EVENTS;
    tcb->event_next = UN_NONE;
    if (list->head == UN_NONE)
        list->head = slot;
    else
        stack->tcp.tcbs[list->tail].event_next = slot;
    list->tail = slot;
}

struct un_tcb *un_stack_conn_next_event(struct un_stack *stack)
{
    struct un_list *list = &stack->own->events;
    while (list->head != UN_NONE) {
        struct un_tcb *tcb = &stack->tcp.tcbs[list->head];
        un_assert(tcb->listed & UN_LISTED_EVENTS);
        list->head = tcb->event_next;
        tcb->listed &= (uint8_t)~UN_LISTED_EVENTS;
        if (tcb->state == UN_TCP_CLOSED)
            un_stack_conn_give_back(stack, tcb);
        else if (tcb->events)
            return tcb;
    }
    return NULL;
}

/* ---- slots ---- */

/* The generation never goes back, not even for an instruction: handles from before must not be right again. */
static void clear_block(struct un_tcb *tcb)
{
    memset(tcb, 0, offsetof(struct un_tcb, generation));
    memset(&tcb->user, 0, sizeof *tcb - offsetof(struct un_tcb, user));
    tcb->generation += tcb->generation == UINT32_MAX ? 2 : 1; /* never 0 */
    tcb->state = UN_TCP_CLOSED;
    tcb->listener = UINT16_MAX;
    tcb->rcv = tcb->rcv_ooo = tcb->snd = (struct un_queue){UN_NONE, UN_NONE};
    tcb->unsent_frame = tcb->sent_head = tcb->sent_tail = UN_NONE;
    tcb->wheel_next = tcb->wheel_prev = tcb->wheel_at = UN_NONE;
    tcb->event_next = tcb->output_next = tcb->accept_previous = tcb->accept_next = UN_NONE;
}

/* Slots that were used before come first: their memory is warm, and a stack that was made for many connections and
 * has few does not touch the rest. */
static struct un_tcb *take_slot(struct un_stack *stack)
{
    struct un_stack_memory *own = stack->own;
    uint32_t slot = own->conn_free;
    if (slot != UN_NONE)
        own->conn_free = stack->tcp.tcbs[slot].next_free;
    else if (own->conn_fresh < own->config.conn_max)
        slot = own->conn_fresh++;
    else
        return NULL;
    own->conn_count++;
    un_assert(stack->tcp.tcbs[slot].listed == 0);
    return &stack->tcp.tcbs[slot];
}

void un_stack_conn_give_back(struct un_stack *stack, struct un_tcb *tcb)
{
    un_assert(tcb->state == UN_TCP_CLOSED && !(tcb->listed & ~UN_LISTED_LINKED));
    if (tcb->listed & UN_LISTED_LINKED)
        return;
    tcb->next_free = stack->own->conn_free;
    stack->own->conn_free = un_stack_slot(stack, tcb);
    stack->own->conn_count--;
    stack->own->claims[tcb->local].conns--;
}

void un_stack_conn_end(struct un_stack *stack, struct un_tcb *tcb, enum un_tcp_reason reason)
{
    un_stack_busy(stack, tcb);
    un_tcp_end(&stack->tcp, tcb, reason);
    un_stack_idle(stack);
}

void un_stack_conn_enter_flows(struct un_stack *stack, struct un_tcb *tcb)
{
    un_assert(!(tcb->listed & UN_LISTED_FLOWS));
    tcb->listed |= UN_LISTED_FLOWS;
    un_flows_insert(&stack->flows, stack->tcp.tcbs, un_stack_slot(stack, tcb));
}

struct un_tcb *un_stack_conn_begin(struct un_stack *stack, const struct un_opening *opening)
{
    struct un_tcb *tcb = take_slot(stack);
    if (!tcb && un_stack_conn_make_room(stack))
        tcb = take_slot(stack);
    if (!tcb)
        return NULL;
    const struct un_ip *local = &stack->own->addresses[opening->local].ip;
    un_stack_busy(stack, tcb);
    clear_block(tcb);
    tcb->peer = opening->peer;
    tcb->peer_port = opening->peer_port;
    tcb->local_port = opening->local_port;
    tcb->local = opening->local;
    stack->own->claims[tcb->local].conns++;
    tcb->hash = un_flows_hash(&stack->flows_key, &tcb->peer, un_flows_ends_of(tcb));
    tcb->user = opening->user;
    tcb->listener = opening->listener;
    un_tcp_init(&stack->tcp, tcb, opening->iss,
                un_timestamp_offset(stack, local, tcb->local_port, &tcb->peer, tcb->peer_port),
                un_path_mtu(stack, &tcb->peer), un_link_mtu(stack, &tcb->peer));
    un_stack_conn_enter_flows(stack, tcb);
    return tcb;
}

void un_stack_conn_leave_flows(struct un_stack *stack, struct un_tcb *tcb)
{
    if (!(tcb->listed & UN_LISTED_FLOWS))
        return;
    tcb->listed &= (uint8_t)~UN_LISTED_FLOWS;
    un_flows_remove(&stack->flows, stack->tcp.tcbs, un_stack_slot(stack, tcb));
}

uint32_t un_flow_find(struct un_stack *stack, const struct un_ip *peer, uint16_t peer_port, uint16_t local_port,
                      uint16_t local)
{
    uint32_t slot = un_stack_find_flow(stack, peer, peer_port, local_port, local);
    if (slot == UN_NONE || stack->tcp.tcbs[slot].state != UN_TCP_DEAD)
        return slot;
    un_stack_conn_leave_flows(stack, &stack->tcp.tcbs[slot]); /* it is over: its ends are free for another */
    return UN_NONE;
}

/* ---- backlog ---- */

void un_stack_conn_half_open(struct un_stack *stack, struct un_tcb *tcb)
{
    un_assert(!(tcb->listed & (UN_LISTED_HALF_OPEN | UN_LISTED_READY)) && tcb->listener < UN_STACK_LISTENERS_MAX);
    tcb->listed |= UN_LISTED_HALF_OPEN;
    stack->own->listeners[tcb->listener].half_open++;
}

void un_stack_conn_leave_half_open(struct un_stack *stack, struct un_tcb *tcb)
{
    if (!(tcb->listed & UN_LISTED_HALF_OPEN))
        return;
    un_assert(stack->own->listeners[tcb->listener].half_open > 0);
    tcb->listed &= (uint8_t)~UN_LISTED_HALF_OPEN;
    stack->own->listeners[tcb->listener].half_open--;
}

void un_stack_conn_ready(struct un_stack *stack, struct un_tcb *tcb)
{
    struct un_listener *listener = &stack->own->listeners[tcb->listener];
    struct un_list *queue = &listener->accept_queue;
    uint32_t slot = un_stack_slot(stack, tcb);
    un_assert(!(tcb->listed & (UN_LISTED_READY | UN_LISTED_HALF_OPEN)) && tcb->listener < UN_STACK_LISTENERS_MAX);
    tcb->listed |= UN_LISTED_READY;
    tcb->accept_next = UN_NONE;
    tcb->accept_previous = queue->head == UN_NONE ? UN_NONE : queue->tail;
    *(queue->head == UN_NONE ? &queue->head : &stack->tcp.tcbs[queue->tail].accept_next) = slot;
    queue->tail = slot;
    listener->ready++;
}

void un_stack_conn_accepted(struct un_stack *stack, struct un_tcb *tcb)
{
    if (!(tcb->listed & UN_LISTED_READY))
        return;
    struct un_listener *listener = &stack->own->listeners[tcb->listener];
    struct un_list *queue = &listener->accept_queue;
    struct un_tcb *tcbs = stack->tcp.tcbs;
    un_assert(listener->ready > 0);
    tcb->listed &= (uint8_t)~UN_LISTED_READY;
    *(tcb->accept_previous == UN_NONE ? &queue->head : &tcbs[tcb->accept_previous].accept_next) = tcb->accept_next;
    *(tcb->accept_next == UN_NONE ? &queue->tail : &tcbs[tcb->accept_next].accept_previous) = tcb->accept_previous;
    listener->ready--;
}

/* ---- TIME-WAIT ---- */

/* The ring remembers who came when; entries of connections that are gone are passed over. A full ring therefore bounds
 * the connections in TIME-WAIT. */
static struct un_tcb *oldest_time_wait(struct un_stack *stack)
{
    struct un_stack_memory *own = stack->own;
    while (own->time_wait_count > 0) {
        struct un_time_wait entry = stack->time_waits[own->time_wait_head];
        own->time_wait_head = own->time_wait_head + 1 == own->config.time_wait_max ? 0 : own->time_wait_head + 1;
        own->time_wait_count--;
        struct un_tcb *tcb = &stack->tcp.tcbs[entry.slot];
        if (tcb->generation == entry.generation && tcb->state == UN_TCP_TIME_WAIT)
            return tcb;
    }
    return NULL;
}

bool un_stack_conn_make_room(struct un_stack *stack)
{
    struct un_tcb *tcb = oldest_time_wait(stack);
    if (tcb)
        un_stack_conn_end(stack, tcb, UN_TCP_REASON_CLOSED);
    return tcb != NULL;
}

void un_stack_conn_time_wait(struct un_stack *stack, struct un_tcb *tcb)
{
    struct un_stack_memory *own = stack->own;
    uint32_t most = own->config.time_wait_max;
    un_assert(tcb->state == UN_TCP_TIME_WAIT && !(tcb->listed & UN_LISTED_TIME_WAIT));
    if (own->time_wait_count == most)
        un_stack_conn_make_room(stack);
    un_assert(own->time_wait_count < most);
    uint32_t at = own->time_wait_head + own->time_wait_count;
    stack->time_waits[at >= most ? at - most : at] =
        (struct un_time_wait){un_stack_slot(stack, tcb), tcb->generation};
    own->time_wait_count++;
    tcb->listed |= UN_LISTED_TIME_WAIT;
}
