/* See neighbour_table.h. */
#include "stack/neighbour_table.h"

void un_neighbour_restamp(struct un_stack *stack, struct un_neighbour *neighbour)
{
    uint32_t place = (uint32_t)(neighbour - stack->neighbours);
    uint32_t number = ++stack->own->neighbour_stamps * stack->config->neighbours;
    if (number == 0) /* wrapped: 0 is the stamp that no neighbour has */
        number = ++stack->own->neighbour_stamps * stack->config->neighbours;
    neighbour->stamp = number + place;
}

void un_neighbours_restamp(struct un_stack *stack)
{
    for (uint32_t i = 0; i < stack->config->neighbours; i++)
        if (stack->neighbours[i].state != UN_NEIGHBOUR_FREE)
            un_neighbour_restamp(stack, &stack->neighbours[i]);
}

struct un_neighbour *un_neighbour_set(struct un_stack *stack, const struct un_ip *ip)
{
    uint32_t sets = stack->config->neighbours / UN_NEIGHBOUR_WAYS;
    uint32_t hash = un_flows_hash(&stack->flows_key, ip, 0);
    return &stack->neighbours[(hash & (sets - 1)) * UN_NEIGHBOUR_WAYS];
}

struct un_neighbour *un_neighbour_find(struct un_stack *stack, const struct un_ip *ip)
{
    struct un_neighbour *set = un_neighbour_set(stack, ip);
    for (uint32_t way = 0; way < UN_NEIGHBOUR_WAYS; way++)
        if (set[way].state != UN_NEIGHBOUR_FREE && un_ip_equal(&set[way].ip, ip))
            return &set[way];
    return NULL;
}
