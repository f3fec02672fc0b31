/* From a frame of the device to its connection, listener or endpoint. See input.c. */
#ifndef UN_STACK_INPUT_H
#define UN_STACK_INPUT_H

#include "stack/arena.h"

void un_stack_rx(struct un_stack *stack, const struct un_rx *packets, uint32_t count, bool is_foreign);

#endif
