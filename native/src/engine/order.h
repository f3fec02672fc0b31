/* Unread events of a port in another order: those of connections that have a suspect (judge.h) last, so that the next
 * worker serves everybody else before it may die of them. The order within each connection stays.
 *
 * Done while no worker reads the ring. What is to stand there is written into scratch memory first, then it is noted
 * that this is being copied back; an engine that finds the note completes it, and one that is killed before has changed
 * nothing. */
#ifndef UN_ORDER_H
#define UN_ORDER_H

#include "engine/state.h"

void un_order_suspects_last(struct un_engine *engine, uint32_t port);
void un_order_complete(struct un_engine *engine); /* what a dead engine was copying back, if anything */

#endif
