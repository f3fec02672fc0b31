/* See farewell.h. */
#include "stack/farewell.h"

/* Undone with the change, what it has put must not leave: its connection lives on. */
static void remember(struct un_stack *stack)
{
    struct un_farewells *farewells = &stack->own->farewells;
    if (!stack->own->busy || farewells->is_open)
        return;
    farewells->before = farewells->put;
    un_compiler_fence();
    farewells->is_open = true;
    un_compiler_fence();
    stack->is_staged = true;
}

void un_farewell_settle(struct un_stack *stack, bool is_undone)
{
    struct un_farewells *farewells = &stack->own->farewells;
    if (farewells->is_open && is_undone)
        farewells->put = farewells->before;
    un_compiler_fence();
    farewells->is_open = false;
    if (farewells->put - farewells->taken > UN_FAREWELLS_MAX) /* the first is the last one, too */
        farewells->taken++;
}

bool un_farewell_has_room(const struct un_stack *stack)
{
    const struct un_farewells *farewells = &stack->own->farewells;
    return farewells->put - farewells->taken < UN_FAREWELLS_MAX;
}

void un_farewell_put(struct un_farewells *farewells, const struct un_farewell *farewell)
{
    farewells->ring[farewells->put % UN_FAREWELLS_MAX] = *farewell;
    un_compiler_fence();
    farewells->put++;
    un_compiler_fence();
}

bool un_farewell_keep(struct un_stack *stack, const struct un_tcb *tcb, const struct un_seg *reset)
{
    struct un_farewells *farewells = &stack->own->farewells;
    if (!un_farewell_has_room(stack)) {
        un_stack_drop(stack, UN_DROP_device_full);
        return false;
    }
    remember(stack);
    const struct un_farewell farewell = {
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
        .next_hop = tcb->next_hop,
    };
    un_farewell_put(farewells, &farewell);
    return true;
}
