/* The neighbour cache: which Ethernet address an IP address of our links has. */
#ifndef UN_NEIGHBOUR_H
#define UN_NEIGHBOUR_H

#include "stack/arena.h"

/* found, or put in; NULL: no place */
struct un_neighbour *un_neighbour_make(struct un_stack *stack, const struct un_ip *ip);
/* May packets go to it now? 0, -EAGAIN: it is being asked, -EHOSTUNREACH: it did not answer. */
int un_neighbour_use(struct un_stack *stack, struct un_neighbour *neighbour);
void un_neighbour_learn(struct un_stack *stack, struct un_neighbour *neighbour, const uint8_t *mac, bool is_reachable);
void un_neighbour_doubt(struct un_neighbour *neighbour);
/* What goes to the connection's next hop does not arrive: ask it, unless it has just proved that it hears us. RFC 1122
 * section 2.3.2.1 (4). */
void un_neighbour_suspect(struct un_stack *stack, const struct un_tcb *tcb);
/* Somebody asked us: found, or put in where that pushes nobody out who is in use; NULL. To be followed by learn. */
struct un_neighbour *un_neighbour_offered(struct un_stack *stack, const struct un_ip *ip);
bool un_neighbour_has_mac(const struct un_neighbour *neighbour, const uint8_t *mac);
bool un_neighbour_is_known(const struct un_neighbour *neighbour); /* its address, at least */
void un_neighbours_run(struct un_stack *stack); /* what is due */
void un_neighbours_forget_waiting(struct un_stack *stack); /* after adoption */

#endif
