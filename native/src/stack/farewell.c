/* See farewell.h. */
#include "stack/farewell.h"

bool un_farewell_keep(struct un_stack *stack, const struct un_tcb *tcb, const struct un_seg *reset)
{
    struct un_farewells *farewells = &stack->own->farewells;
    if (farewells->put - farewells->taken == UN_FAREWELLS_MAX) {
        un_stack_drop(stack, UN_DROP_device_full);
        return false;
    }
    farewells->ring[farewells->put % UN_FAREWELLS_MAX] = (struct un_farewell){
        .peer = tcb->peer,
        .peer_port = tcb->peer_port,
        .local_port = tcb->local_port,
        .local = tcb->local,
        .flags = reset->flags,
        .options = reset->options,
        .seq = reset->seq,
        .ack = reset->ack,
        .tsval = reset->tsval,
        .tsecr = reset->tsecr,
    };
    un_compiler_fence();
    farewells->put++;
    return true;
}
