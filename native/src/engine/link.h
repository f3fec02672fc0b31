/* What the stack transport has: the stack, its device, and the line of connections that wait to be accepted. */
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
    uint64_t *waiting; /* handles, oldest first; a ring, indices run freely */
    uint32_t waiting_mask;
    uint32_t waiting_first;
    uint32_t waiting_end;
};

/* stack_accept.c */
int un_link_make_line(struct un_link *link);
void un_link_wait_in_line(struct un_link *link, uint64_t conn);
void un_link_accept(struct un_engine *engine); /* as many as there is room for */

#endif
