/* From a frame of the device to its connection, listener or endpoint. See input.c. */
#ifndef UN_STACK_INPUT_H
#define UN_STACK_INPUT_H

#include "stack/arena.h"

#define UN_TURN_PACKETS 64u /* taken from the device: what one gather of it brings, and stays in the L1 cache */

/* How many packets `device` has for a turn. They are released before the first of them is looked at: after a sudden
 * death, the next process must not find them in the device again while their frames wait in a connection's queue. */
static inline uint32_t un_stack_take(struct un_stack *stack, struct un_device *device, struct un_rx *packets)
{
    uint32_t count = device->operations->peek(device, packets, UN_TURN_PACKETS);
    if (count > 0) {
        device->operations->release(device, count);
        stack->counters->rx_packets += count;
    }
    return count;
}

void un_stack_rx(struct un_stack *stack, const struct un_rx *packets, uint32_t count, bool is_foreign);

#endif
