/* After adoption: what the blocks say is made again from them. */
#ifndef UN_REBUILD_H
#define UN_REBUILD_H

#include "stack/arena.h"

/* device: whose rings may hold frames; NULL: none */
void un_stack_rebuild(struct un_stack *stack, const struct un_device *device);
void un_stack_tell_again(struct un_stack *stack, struct un_tcb *tcb); /* as events: all that is so */

#endif
