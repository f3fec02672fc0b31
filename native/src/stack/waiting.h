/* What waits for a neighbour's address: packets and connections. */
#ifndef UN_WAITING_H
#define UN_WAITING_H

#include "stack/arena.h"

void un_waiting_add(struct un_stack *stack, struct un_neighbour *neighbour, const struct un_piece *pieces, int count);
void un_waiting_drop(struct un_stack *stack, struct un_neighbour *neighbour);    /* all, counted */
void un_waiting_release(struct un_stack *stack, struct un_neighbour *neighbour); /* packets and connections go */

#endif
