/* What the stack transport has: the stack and its device. */
#ifndef UN_LINK_H
#define UN_LINK_H

#include "engine/exchange.h"
#include "engine/stack_counters.h"
#include "engine/stack_setup.h"
#include "engine/state.h"
#include "stack/stack.h"

struct un_link {
    struct un_stack stack;
    struct un_device *device;
    struct un_link_head *head;
    struct un_exchange exchange;
    const struct un_kernel_table *kernel; /* of shared addresses; NULL: there is none */
    const uint8_t *lenders[UN_PORTS_MAX]; /* the send frames of each port */
    bool is_deaf; /* the epoll set does not tell of the device */
    uint32_t polls;
    uint32_t accept_turn; /* whose listener's turn it is to have a connection accepted; runs freely */
};

/* stack_share.c: of an interface whose addresses we share; else nothing is done */
int un_link_open_table(struct un_engine *engine); /* 0, -errno */
void un_link_close_table(struct un_engine *engine);
void un_link_share(struct un_link *link); /* the stack knows the table from then on */
int un_link_adopt(struct un_link *link, const struct un_stack_place *place); /* un_stack_adopt, with the table */
void un_link_tell_questions(struct un_engine *engine); /* what the kernel is to find out */

/* stack_abandoned.c */
void un_link_reset_abandoned(struct un_engine *engine, const struct un_stack_place *place);

/* stack_accept.c */
void un_link_accept(struct un_engine *engine); /* as many as there is room for */

/* stack_listen.c */
int un_link_listen_first(struct un_engine *engine); /* of a stack that was just made: on what the options name */
int un_link_listen(struct un_engine *engine, uint32_t number, const struct un_listening *what);
void un_link_unlisten(struct un_engine *engine, uint32_t number);
void un_link_unlisten_all(struct un_engine *engine); /* who waits there is reset */
void un_link_forget_unknown(struct un_engine *engine); /* what an engine that died did not come to note */

#endif
