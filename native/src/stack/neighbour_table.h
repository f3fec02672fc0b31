/* The table of neighbours: where one stands, and the stamp by which connections know it. What its states mean is
 * neighbour.c's. */
#ifndef UN_NEIGHBOUR_TABLE_H
#define UN_NEIGHBOUR_TABLE_H

#include "stack/arena.h"

struct un_neighbour *un_neighbour_find(struct un_stack *stack, const struct un_ip *ip);
/* The UN_NEIGHBOUR_WAYS places that it may have. */
struct un_neighbour *un_neighbour_set(struct un_stack *stack, const struct un_ip *ip);
void un_neighbour_restamp(struct un_stack *stack, struct un_neighbour *neighbour); /* it is another one now */
void un_neighbours_restamp(struct un_stack *stack); /* routes changed: no connection knows its next hop any more */

#endif
