/* A segment goes to its connection, and what follows from it for the stack. */
#ifndef UN_PROCESS_H
#define UN_PROCESS_H

#include "stack/arrival.h"

/* An ACK of something new proves that the next hop hears us (RFC 4861 section 7.3.1). */
static inline void un_neighbour_confirm(struct un_stack *stack, const struct un_tcb *tcb)
{
    struct un_neighbour *neighbour = &stack->neighbours[tcb->next_hop & (stack->config->neighbours - 1)];
    if (neighbour->stamp == tcb->next_hop)
        neighbour->confirmed_ns = stack->tcp.now_ns;
}

void un_stack_process(struct un_stack *stack, struct un_arrival *arrival, struct un_tcb *tcb, const struct un_seg *seg);
void un_stack_process_slot(struct un_stack *stack, uint32_t slot, const struct un_seg *seg, uint32_t payload);

#endif
