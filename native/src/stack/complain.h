/* ICMP that we send: within the rate, and errors about packets of others to their senders. */
#ifndef UN_COMPLAIN_H
#define UN_COMPLAIN_H

#include "stack/arrival.h"
#include "wire/icmp.h"

bool un_icmp_may_send(struct un_stack *stack, uint32_t packets); /* false is counted */
/* to: source, destination and class, and the Ethernet address or NULL. room: 0, or how much of a message goes into each
 * fragment. */
struct un_icmp_to {
    struct un_ip_header ip;
    const uint8_t *mac;
};
bool un_icmp_send(struct un_stack *stack, const struct un_icmp *icmp, const struct un_icmp_to *to,
                  const struct un_piece *pieces, int count, uint32_t room);

void un_icmp_refuse(struct un_stack *stack, struct un_arrival *arrival, enum un_icmp_kind kind);
/* of what the parser has found: packet.problem */
void un_icmp_complain(struct un_stack *stack, struct un_arrival *arrival);
void un_icmp_give_up(struct un_stack *stack, const struct un_ip *from, const struct un_ip *to,
                     struct un_piece fragment);

#endif
