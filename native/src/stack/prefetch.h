/* What the packets of a turn will be looked up in, brought into the cache before the first of them is looked at.
 *
 * With many connections, the bucket and the block of each packet have to come from memory, one after the other. Here
 * the buckets of all packets are asked for at once, then their blocks, so that a turn waits for them once.
 *
 * Headers are taken as they are: a wrong one fetches what nobody needs. Nothing else depends on it. It takes 46
 * instructions a packet, so it is done where blocks are not in the cache anyway. */
#ifndef UN_PREFETCH_H
#define UN_PREFETCH_H

#include "stack/input.h"

#define UN_PREFETCH_FROM 1000u /* connections: the blocks of fewer stay in an L2 cache of 512 KiB */

/* At most UN_TURN_PACKETS. */
void un_stack_prefetch(const struct un_stack *stack, const struct un_rx *packets, uint32_t count);

#endif
