/* Datagrams that leave in fragments. */
#ifndef UN_SPLIT_H
#define UN_SPLIT_H

#include "stack/packets.h"

/* As un_stack_send, in fragments of so many bytes: un_split_room. */
int un_stack_send_split(struct un_stack *stack, struct un_datagram *datagram, uint32_t room);
uint32_t un_split_room(const struct un_ip *destination, uint32_t mtu);

#endif
