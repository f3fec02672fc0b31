/* What the stack transport has: the stack and its device. */
#ifndef UN_LINK_H
#define UN_LINK_H

#include "engine/exchange.h"
#include "engine/stack_counters.h"
#include "engine/stack_setup.h"
#include "engine/state.h"
#include "stack/stack.h"

/* In front of the arena, as old as it. */
struct un_link_head {
    uint32_t begun; /* somebody wrote to the arena */
    uint32_t ready; /* the stack is complete, with its addresses and listeners */
    uint32_t listeners[UN_LISTENERS_MAX]; /* number of the stack's listener + 1; 0: it does not listen */
};
UN_STATIC_ASSERT(sizeof(struct un_link_head) <= UN_STACK_HEAD_BYTES, "fits in front of the arena");

struct un_link {
    struct un_stack stack;
    struct un_device *device;
    struct un_link_head *head;
    struct un_exchange exchange;
    const uint8_t *lenders[UN_SEATS_MAX]; /* the send frames of each seat */
    uint32_t polls;
    uint32_t accept_turn; /* whose listener's turn it is to have a connection accepted; runs freely */
};

/* stack_accept.c */
void un_link_accept(struct un_engine *engine); /* as many as there is room for */

#endif
