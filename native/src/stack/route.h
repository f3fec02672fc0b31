/* Routes: the next hop, and the address of ours that goes with a destination. */
#ifndef UN_ROUTE_H
#define UN_ROUTE_H

#include "stack/arena.h"

int un_route_find(struct un_stack *stack, const struct un_ip *destination, struct un_ip *next_hop); /* -EHOSTUNREACH */
/* index of an address, -EHOSTUNREACH */
int un_route_source(const struct un_stack *stack, const struct un_ip *destination);
void un_route_advertised(struct un_stack *stack, const struct un_ip *router, uint16_t lifetime_s);

#endif
