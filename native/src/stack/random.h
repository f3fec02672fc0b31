/* Numbers that look random and that nobody has to guess: equal seeds, equal numbers. */
#ifndef UN_RANDOM_H
#define UN_RANDOM_H

#include "stack/arena.h"

/* xorshift64*: spreads delays and identifications; secrets come from SipHash. */
static inline uint64_t un_stack_random(struct un_stack *stack)
{
    uint64_t state = stack->own->random;
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    stack->own->random = state;
    return state * UINT64_C(2685821657736338717);
}

#endif
