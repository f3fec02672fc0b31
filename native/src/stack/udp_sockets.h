/* UDP endpoints: what comes for them. */
#ifndef UN_UDP_SOCKETS_H
#define UN_UDP_SOCKETS_H

#include "stack/arrival.h"
#include "wire/icmp.h"

enum un_drop un_udp_input(struct un_stack *stack, struct un_arrival *arrival);
/* An ICMP error about a datagram of ours. */
enum un_drop un_udp_error(struct un_stack *stack, struct un_arrival *arrival, const struct un_icmp *icmp);
void un_udp_room(struct un_stack *stack); /* endpoints were refused: has the device room again? */
bool un_udp_next_event(struct un_stack *stack, struct un_stack_event *event);
void un_udp_rebuild(struct un_stack *stack);

#endif
