/* Addresses of our own: whether they are really ours. */
#ifndef UN_ADDRESS_H
#define UN_ADDRESS_H

#include "stack/arena.h"

void un_addresses_attach(struct un_stack *stack); /* the device is there: link-local address, announcements */
void un_address_conflict(struct un_stack *stack, uint32_t index, const uint8_t *mac); /* that station claims it */
uint64_t un_addresses_due(struct un_stack *stack); /* probes and announcements; when to come again */

#endif
