/* A seat changes hands: its connections move, one by one, from the port where a worker leaves to the current one.
 *
 * The worker that was attached last sits at the current port, which gets all new connections. The other port is leaving
 * while a worker sits there, and is emptied when it does not any more. What moves is the table entry's `port`; unsent
 * output goes with it, because a node names its port.
 *
 *   move    means                                             ends
 *   NONE    events go to the connection's port
 *   DUE     leaving: to be asked when the ring has space      ASKED with MOVE in the ring; NONE if it need not move
 *   ASKED   MOVE is the last event of it                      RELEASE: NONE, at the current port. KEEP: KEPT
 *   KEPT    its worker has something of it in no commit       SETTLED: DUE
 *   HELD    emptied: unread events of it were not copied yet  the last one is copied: NONE, at the current port
 *
 * ASKED and HELD are withheld: input stays in the transport, and what must be told stays in the flags. All but HELD end
 * with the worker: what it was asked and did not answer did not happen.
 *
 * Leaving: a cursor goes through the table once and asks for each connection of the port, as long as half of the ring
 * is free. Both workers must be able to resume; else the connections stay until the worker is gone.
 *
 * Emptied: unread events are copied to the current port, in their order, as its ring and frames come free. Each is one
 * change (change.h). `reserved` marks the last one of its connection. A connection without any moves when it has
 * something to tell, or when the cursor comes to it. While events are being copied no worker may come to the port that
 * they come from: some of a connection lie in both rings, the older ones in the current one.
 *
 * A port is vacant when no slot, no unread event and no untaken command is left of it. The supervisor is told once for
 * each worker, and by each engine. */
#ifndef UN_HANDOVER_H
#define UN_HANDOVER_H

#include "engine/state.h"

/* A worker came to `port`, which is current now; or it is gone. */
void un_handover_attached(struct un_engine *engine, uint32_t port);
void un_handover_lost(struct un_engine *engine, uint32_t port);
bool un_handover_is_split(const struct un_engine *engine, uint32_t port); /* its events are being copied */

/* Part of a turn, bounded. */
uint32_t un_handover_turn(struct un_engine *engine);

/* How an engine may sleep meanwhile. */
enum un_engine_sleep un_handover_sleep(const struct un_engine *engine);

/* In a change of the connection. True: it is not asked after all. */
bool un_handover_ask(struct un_engine *engine, uint32_t slot);

/* Its port is emptied: it moves, unless it is withheld. */
void un_handover_follow(struct un_engine *engine, uint32_t slot);

/* The worker's commands; false: nobody asked for it. */
bool un_handover_release(struct un_engine *engine, uint32_t slot);
bool un_handover_keep(struct un_engine *engine, uint32_t slot);
bool un_handover_settled(struct un_engine *engine, uint32_t slot);

/* After the death of an engine: when the change in progress was settled, and when that is over. */
void un_handover_take_over(struct un_engine *engine);
void un_handover_taken_over(struct un_engine *engine);

#endif
