/* See process.h. */
#include "stack/process.h"

#include "stack/arrival.h"
#include "stack/lists.h"

void un_stack_process_slot(struct un_stack *stack, uint32_t slot, const struct un_seg *seg, uint32_t payload)
{
    struct un_tcb *tcb = &stack->tcp.tcbs[slot];
    uint32_t acked = tcb->snd_una;
    un_assert(tcb->listed & UN_LISTED_FLOWS);
    un_stack_busy(stack, tcb);
    un_tcp_process(&stack->tcp, tcb, seg, payload);
    un_stack_idle(stack);
    if (tcb->snd_una != acked)
        un_neighbour_confirm(stack, tcb);
    if (tcb->state == UN_TCP_TIME_WAIT && !(tcb->listed & UN_LISTED_TIME_WAIT))
        un_stack_conn_time_wait(stack, tcb);
}

void un_stack_process(struct un_stack *stack, struct un_arrival *arrival, struct un_tcb *tcb, const struct un_seg *seg)
{
    if (un_is_shared(stack))
        un_flow_heard(stack, tcb, arrival->packet.source_mac, seg->seq);
    uint32_t payload = un_arrival_payload(stack, arrival, seg->header_length);
    un_stack_process_slot(stack, un_stack_slot(stack, tcb), seg, payload);
}
