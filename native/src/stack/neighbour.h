/* The neighbour cache: the Ethernet addresses of the IP addresses on our links. See neighbour.c. */
#ifndef UN_NEIGHBOUR_H
#define UN_NEIGHBOUR_H

#include "stack/arena.h"

/* Find the entry, or make one and ask; NULL: its set is full of entries that are awaited. */
struct un_neighbour *un_neighbour_make(struct un_stack *stack, const struct un_ip *ip);
/* May packets go to it now? 0, -EAGAIN: it is being asked, -EHOSTUNREACH: it did not answer. */
int un_neighbour_use(struct un_stack *stack, struct un_neighbour *neighbour);
void un_neighbour_learn(struct un_stack *stack, struct un_neighbour *neighbour, const uint8_t *mac, bool is_reachable);
void un_neighbour_doubt(struct un_neighbour *neighbour);
/* Packets to the connection's next hop do not seem to arrive: probe it, unless it has just proved that it hears us (RFC
 * 1122 section 2.3.2.1 (4)). */
void un_neighbour_suspect(struct un_stack *stack, struct un_tcb *tcb);
/* A station asked us: find its entry, or make one where no entry in use has to go; NULL: there is no such place. The
 * caller calls un_neighbour_learn next. */
struct un_neighbour *un_neighbour_offered(struct un_stack *stack, const struct un_ip *ip);
bool un_neighbour_has_mac(const struct un_neighbour *neighbour, const uint8_t *mac);
bool un_neighbour_is_known(const struct un_neighbour *neighbour); /* has an Ethernet address */
bool un_neighbour_is_station(const struct un_neighbour *neighbour); /* known by that alone: see un_neighbour_heard */
/* Packets of the connection go where a segment of it came from. For shared addresses. */
void un_neighbour_heard(struct un_stack *stack, struct un_tcb *tcb, const uint8_t *mac);
/* There is another table of the kernel's; has_other_routes: the ways of connections may have changed. */
void un_neighbours_follow(struct un_stack *stack, bool has_other_routes);
void un_neighbours_run(struct un_stack *stack); /* run what is due */
void un_neighbours_forget_waiting(struct un_stack *stack); /* after adoption */

#endif
