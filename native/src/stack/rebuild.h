/* After adoption: what the blocks say is made again from them. */
#ifndef UN_REBUILD_H
#define UN_REBUILD_H

#include "stack/arena.h"

/* device: whose rings may hold frames; NULL: none */
void un_stack_rebuild(struct un_stack *stack, const struct un_device *device);
void un_stack_send_pending_reset(struct un_stack *stack); /* a reset for the connection that was being changed */

#endif
