/* Unread events of a port in another order, so that the next worker serves everybody else before it may die as the last
 * one did:
 *
 *   1  of connections that an earlier worker knew
 *   2  of new ones
 *   3  of connections that have a suspect (judge.h)
 *   4  of other connections of peers of which workers died lately (poisoners.h)
 *
 * The third come before the fourth, or a peer that sends poison faster than workers are replaced would never be found
 * out. The order within each connection, and between those of one rank, stays.
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
