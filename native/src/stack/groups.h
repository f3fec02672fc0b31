/* Multicast listener reports. */
#ifndef UN_GROUPS_H
#define UN_GROUPS_H

#include "stack/arrival.h"
#include "wire/icmp.h"

void un_groups_changed(struct un_stack *stack);
enum un_drop un_groups_input(struct un_stack *stack, const struct un_arrival *arrival, const struct un_icmp *query);
uint64_t un_groups_due(struct un_stack *stack);

#endif
