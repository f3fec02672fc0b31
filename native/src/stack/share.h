/* Addresses that the kernel has as well: see share.c. */
#ifndef UN_SHARE_H
#define UN_SHARE_H

#include "stack/arena.h"

void un_share_attach(struct un_stack *stack); /* the device is there */

#endif
