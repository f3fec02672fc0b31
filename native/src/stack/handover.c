/* See handover.h. */
#include "stack/handover.h"

#include "stack/arrival.h"
#include "stack/steering.h"

uint32_t un_flow_owner(const struct un_stack *stack, const struct un_ip *peer, uint16_t peer_port,
                       const struct un_ip *local, uint16_t local_port)
{
    return un_steering_shard(un_steering_hash(peer, local, peer_port, local_port), stack->shards.shards);
}

void un_hand_over(struct un_stack *stack, const struct un_arrival *arrival, uint32_t shard)
{
    if (arrival->is_foreign || stack->shards.shards == 1 || !stack->shards.hand_over)
        return;
    stack->counters->handed_over++;
    stack->shards.hand_over(stack->shards.context, shard, &arrival->rx);
}

bool un_hand_to_owner(struct un_stack *stack, const struct un_arrival *arrival, const struct un_ip *peer,
                      uint16_t peer_port, const struct un_ip *local, uint16_t local_port)
{
    if (arrival->is_foreign || stack->shards.shards == 1)
        return false;
    uint32_t owner = un_flow_owner(stack, peer, peer_port, local, local_port);
    if (owner == stack->shards.shard)
        return false;
    un_hand_over(stack, arrival, owner);
    return true;
}
