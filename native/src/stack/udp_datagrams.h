/* Datagrams of UDP endpoints that arrive, and ICMP errors about those that were sent. */
#ifndef UN_UDP_DATAGRAMS_H
#define UN_UDP_DATAGRAMS_H

#include "stack/arrival.h"
#include "wire/icmp.h"

enum un_drop un_udp_input(struct un_stack *stack, struct un_arrival *arrival);
/* `icmp` quotes a datagram that came from us. */
enum un_drop un_udp_error(struct un_stack *stack, struct un_arrival *arrival, const struct un_icmp *icmp);

#endif
