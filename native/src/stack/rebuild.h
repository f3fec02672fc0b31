/* After adoption: what the blocks say is made again from them. */
#ifndef UN_REBUILD_H
#define UN_REBUILD_H

#include "stack/arena.h"

void un_stack_rebuild(struct un_stack *stack);
void un_stack_send_pending_reset(struct un_stack *stack); /* a reset for the connection that was being changed */

#endif
