/* Which addresses are ours, and what makes a packet one for us. */
#ifndef UN_LOCAL_H
#define UN_LOCAL_H

#include "stack/arena.h"

/* The index of an address that was added, or -1. */
static inline int un_address_claimed(const struct un_stack *stack, const struct un_ip *ip)
{
    const struct un_stack_memory *own = stack->own;
    for (uint32_t i = 0; i < own->address_count; i++)
        if (un_ip_equal(&own->addresses[i].ip, ip))
            return (int)i;
    return -1;
}

/* The index of an address of ours, or -1: one that another station has is not. */
static inline int un_address_find(const struct un_stack *stack, const struct un_ip *ip)
{
    int index = un_address_claimed(stack, ip);
    return index >= 0 && stack->own->addresses[index].state == UN_ADDRESS_TAKEN ? -1 : index;
}

bool un_address_is_broadcast(const struct un_stack *stack, const struct un_ip *ip);
bool un_address_is_group(const struct un_stack *stack, const struct un_ip *ip); /* multicast that we listen to */
/* Not: any, group, broadcast, loopback, one of ours (RFC 1122 section 3.2.1.3). */
bool un_can_be_source(const struct un_stack *stack, const struct un_ip *ip);

#endif
