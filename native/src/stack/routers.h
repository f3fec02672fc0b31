/* Routers of the link: router solicitations, and routes that expire. */
#ifndef UN_ROUTERS_H
#define UN_ROUTERS_H

#include "stack/arena.h"

void un_routers_attach(struct un_stack *stack); /* the device is there */
uint64_t un_routers_due(struct un_stack *stack); /* solicitations and ends; when to come again */

#endif
