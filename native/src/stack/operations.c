/* See operations.h. */
#include "stack/operations.h"

#include "stack/lists.h"
#include "stack/output.h"

static void on_event(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t events)
{
    struct un_stack *stack = un_stack_of(tcp);
    if (events & UN_TCP_EVENT_ACCEPTED) {
        un_stack_conn_leave_half_open(stack, tcb);
        un_stack_conn_ready(stack, tcb);
    }
    if (tcb->flags & UN_TCB_DETACHED)
        return;
    tcb->events |= events;
    un_stack_conn_list_event(stack, tcb);
}

static void on_sent(struct un_tcp *tcp, struct un_tcb *tcb)
{
    un_stack_idle(un_stack_of(tcp));
    un_stack_busy(un_stack_of(tcp), tcb);
}

static void on_arm(struct un_tcp *tcp, struct un_tcb *tcb, uint64_t deadline_ns)
{
    struct un_stack *stack = un_stack_of(tcp);
    uint64_t tick = UINT64_C(1) << UN_WHEEL_TICK_BITS;
    stack->own->timers_next_ns = un_min64(stack->own->timers_next_ns, (deadline_ns + tick - 1) & ~(tick - 1));
    un_wheel_arm(&stack->own->wheel, tcp->tcbs, un_stack_slot(stack, tcb), deadline_ns);
}

static void on_output(struct un_tcp *tcp, struct un_tcb *tcb)
{
    un_stack_conn_list_output(un_stack_of(tcp), tcb);
}

static void on_ended(struct un_tcp *tcp, struct un_tcb *tcb)
{
    struct un_stack *stack = un_stack_of(tcp);
    un_stack_conn_leave_flows(stack, tcb);
    un_stack_conn_leave_half_open(stack, tcb);
    un_stack_conn_accepted(stack, tcb);
    un_wheel_cancel(&stack->own->wheel, tcp->tcbs, un_stack_slot(stack, tcb));
    tcb->listed &= UN_LISTED_LINKED;
    tcb->events = 0;
    un_stack_conn_give_back(stack, tcb);
}

const struct un_tcp_operations un_stack_operations = {
    .emit = un_stack_emit,
    .sent = on_sent,
    .event = on_event,
    .arm = on_arm,
    .output = on_output,
    .ended = on_ended,
};
