/* A connection changes its port, from that of the worker that has it to the current one of its seat (seats.h). What
 * moves is the table entry's `port`; unsent output goes with it, because a node names its port.
 *
 *   move    means                                             ends
 *   NONE    events go to the connection's port
 *   DUE     leaving: to be asked when the ring has space      ASKED with MOVE in the ring; NONE if it need not move
 *   ASKED   MOVE is the last event of it                      RELEASE: NONE, at the current port. KEEP: KEPT
 *   KEPT    its worker has something of it in no commit       SETTLED: DUE
 *   HELD    emptied: unread events of it were not copied yet  the last one is copied: NONE, at the current port
 *
 * ASKED and HELD are withheld: input stays in the transport, and what must be told stays in the flags. All but HELD end
 * with the worker: what it was asked and did not answer did not happen. One that is DUE stands in the receive list. */
#ifndef UN_MOVING_H
#define UN_MOVING_H

#include "engine/state.h"

/* Is there a worker that can give connections up, and another one that can go on with them? */
bool un_moving_is_possible(const struct un_engine *engine, uint32_t port);

/* In a change of the connection. True: it is not asked after all. */
bool un_moving_ask(struct un_engine *engine, uint32_t slot);

/* Its port is emptied: it moves, unless it is withheld. */
void un_moving_follow(struct un_engine *engine, uint32_t slot);

/* What was withheld until now may go on. */
void un_moving_go_on(struct un_engine *engine, uint32_t slot);

/* The worker's commands; false: nobody asked for it. */
bool un_moving_release(struct un_engine *engine, uint32_t slot);
bool un_moving_keep(struct un_engine *engine, uint32_t slot);
bool un_moving_settled(struct un_engine *engine, uint32_t slot);

#endif
