/* Adoption (P10): a stack whose process dies at any instruction goes on in another, and no connection is lost.
 *
 * A forked process is stepped instruction by instruction through one call. The states of the arena and the wire that it
 * leaves behind are judged, each in a process of its own; some that are chosen at random when that takes long:
 * sanitized, in special worlds (USNET_TEST_EVERY in the environment: all). The arena is copied to another address and
 * adopted, and must be whole. The connection that was being changed is as it was before
 * the change, to the byte, and so are its queues. Then all connections bring all their bytes to both ends. */
#ifndef UN_TEST_ADOPT_TRY_H
#define UN_TEST_ADOPT_TRY_H

#include "adopt_world.h"

#define ONE(number) (1u << (number))
#define ANY UINT32_MAX

/* In the world as it was opened: what happened before, and the call that is stepped through. `changes`: connections
 * that it changes, one at a time; those that are new need not be named. `ends`: of those, which are not there when it
 * is done. */
void adopt_try(void (*prepare)(void), void (*run)(void), uint32_t changes, uint32_t ends);

/* For `prepare`. A change has begun without a step. */
void adopt_begun(void);
/* So many datagrams wait for the application after adoption; without that, the one that waits from the beginning. */
void adopt_datagrams(uint32_t least, uint32_t most);
/* What happens after adoption, before applications go on. */
void adopt_afterwards(void (*act)(void));

extern const char adopt_datagram[8]; /* what each of them is, or begins with */

/* Of `it`. */
static inline struct un_stack *stack(void)
{
    return &world.it.stack;
}

static inline struct un_tcb *tcb(uint32_t number)
{
    return &stack()->tcp.tcbs[slot_of(&world.it, number)];
}

static inline void poll(void)
{
    un_stack_poll(stack(), world.now_ns);
}

/* And the card takes it. */
static inline void let_peer_send(void)
{
    side_poll(&world.peer);
    world_card();
}

#define TRY(paths)                                                                                                     \
    for_each_seed(1, paths); /* which states are judged, sanitized */                                                  \
    printf("ok " #paths "\n")

#endif
