/* Connections in and out of the tables and lists of the stack. */
#ifndef UN_LISTS_H
#define UN_LISTS_H

#include "stack/arena.h"

struct un_opening {
    struct un_ip peer;
    uint16_t peer_port;
    uint16_t local; /* index of the address */
    uint16_t local_port;
    uint16_t listener; /* UINT16_MAX: none */
    uint32_t iss;
    uint64_t user;
};
/* A block for a new connection, in the look-up table, initialised; it is busy, the caller ends that. NULL: none is
 * free. */
struct un_tcb *un_stack_conn_begin(struct un_stack *stack, const struct un_opening *opening);
void un_stack_conn_enter_flows(struct un_stack *stack, struct un_tcb *tcb);
void un_stack_conn_leave_flows(struct un_stack *stack, struct un_tcb *tcb);
void un_stack_conn_end(struct un_stack *stack, struct un_tcb *tcb, enum un_tcp_reason reason);
void un_stack_conn_give_back(struct un_stack *stack, struct un_tcb *tcb); /* once it stands in no list */
void un_stack_conn_list_output(struct un_stack *stack, struct un_tcb *tcb);
void un_stack_conn_list_event(struct un_stack *stack, struct un_tcb *tcb);
/* There is something to read; who has let go of the connection is not told. */
static inline void un_stack_conn_readable(struct un_stack *stack, struct un_tcb *tcb)
{
    if (tcb->flags & UN_TCB_DETACHED)
        return;
    tcb->events |= UN_TCP_EVENT_READABLE;
    un_stack_conn_list_event(stack, tcb);
}
void un_stack_conn_wait(struct un_stack *stack, struct un_tcb *tcb, struct un_neighbour *neighbour);
void un_stack_conn_wake(struct un_stack *stack, struct un_neighbour *neighbour); /* all that waited may send */
struct un_tcb *un_stack_conn_next_output(struct un_stack *stack);
struct un_tcb *un_stack_conn_next_event(struct un_stack *stack);
void un_stack_conn_half_open(struct un_stack *stack, struct un_tcb *tcb); /* counts in the backlog of its listener */
void un_stack_conn_leave_half_open(struct un_stack *stack, struct un_tcb *tcb);
/* it entered TIME-WAIT: the oldest may have to go */
void un_stack_conn_time_wait(struct un_stack *stack, struct un_tcb *tcb);
/* the oldest in TIME-WAIT goes; false: there is none */
bool un_stack_conn_make_room(struct un_stack *stack);
/* established, and the last in the accept queue of its listener */
void un_stack_conn_ready(struct un_stack *stack, struct un_tcb *tcb);
void un_stack_conn_accepted(struct un_stack *stack, struct un_tcb *tcb); /* it leaves the accept queue, if it waits */

/* The slot of the connection with these ends, also of one that is over; UN_NONE. */
static inline uint32_t un_stack_find_flow(struct un_stack *stack, const struct un_ip *peer, uint16_t peer_port,
                                          uint16_t local_port, uint16_t local)
{
    uint64_t ends = un_flows_ends(peer_port, local_port, local);
    uint32_t hash = un_flows_hash(&stack->flows_key, peer, ends);
    return un_flows_find(&stack->flows, stack->tcp.tcbs, hash, peer, ends);
}
/* The same, but of one that is over UN_NONE: its ends are free for another. */
uint32_t un_flow_find(struct un_stack *stack, const struct un_ip *peer, uint16_t peer_port, uint16_t local_port,
                      uint16_t local);

#endif
