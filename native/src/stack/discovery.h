/* What neighbours say: ARP and IPv6 neighbour discovery. */
#ifndef UN_DISCOVERY_H
#define UN_DISCOVERY_H

#include "stack/arrival.h"
#include "wire/icmp.h"

enum un_drop un_arp_input(struct un_stack *stack, struct un_arrival *arrival);
enum un_drop un_discovery_input(struct un_stack *stack, struct un_arrival *arrival, const struct un_icmp *icmp);

#endif
