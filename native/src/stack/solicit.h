/* What we ask and announce: ARP (RFC 826, RFC 5227) and IPv6 neighbour discovery (RFC 4861). Everything here goes to a
 * group, or to an Ethernet address that the caller knows. */
#ifndef UN_SOLICIT_H
#define UN_SOLICIT_H

#include "stack/packets.h"
#include "wire/arp.h"
#include "wire/icmp.h"

void un_neighbour_solicit(struct un_stack *stack, struct un_neighbour *neighbour);
void un_address_announce(struct un_stack *stack, uint32_t index);
void un_address_probe(struct un_stack *stack, uint32_t index);
void un_router_solicit(struct un_stack *stack);

/* Parts of answers: discovery.c. */
void un_arp_send(struct un_stack *stack, struct un_arp *arp, const uint8_t *to);
struct un_icmp un_advertisement(const struct un_stack *stack, uint32_t index, bool is_solicited);
void un_discovery_begin(const struct un_stack *stack, struct un_datagram *datagram, uint8_t header[UN_ICMP_EMIT_MAX],
                        struct un_icmp *icmp, const struct un_ip *from, const struct un_ip *to);
void un_discovery_sent(struct un_stack *stack, int result); /* it is counted: 0, or it was not sent */

#endif
