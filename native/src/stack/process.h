/* A segment goes to its connection, and what follows from it for the stack. */
#ifndef UN_PROCESS_H
#define UN_PROCESS_H

#include "stack/arrival.h"
#include "stack/neighbour.h"

/* An ACK of something new proves that the next hop hears us (RFC 4861 section 7.3.1). */
static inline void un_neighbour_confirm(struct un_stack *stack, const struct un_tcb *tcb)
{
    struct un_neighbour *neighbour = &stack->neighbours[tcb->next_hop & (stack->config->neighbours - 1)];
    if (neighbour->stamp == tcb->next_hop)
        neighbour->confirmed_ns = stack->tcp.now_ns;
}

/* Of shared addresses: packets of a flow go where its last segment came from. The segment lies in the window, or less
 * than another one before it: a peer whose router was replaced repeats what we have, as our ACKs went to the old one.
 * Somebody on the link who does not know the numbers would have to guess them. */
static inline void un_flow_heard(struct un_stack *stack, struct un_tcb *tcb, const uint8_t *mac, uint32_t seq)
{
    const struct un_neighbour *neighbour = &stack->neighbours[tcb->next_hop & (stack->config->neighbours - 1)];
    uint32_t first = tcb->rcv_nxt - tcb->rcv_limit;
    bool is_same = neighbour->stamp == tcb->next_hop && memcmp(neighbour->ethernet, mac, UN_MAC_BYTES) == 0;
    if (!is_same && (tcb->state == UN_TCP_SYN_SENT || seq - first <= tcb->rcv_edge - first))
        un_neighbour_heard(stack, tcb, mac);
}

void un_stack_process(struct un_stack *stack, struct un_arrival *arrival, struct un_tcb *tcb, const struct un_seg *seg);
void un_stack_process_slot(struct un_stack *stack, uint32_t slot, const struct un_seg *seg, uint32_t payload);

#endif
