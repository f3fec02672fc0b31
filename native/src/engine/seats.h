/* A seat changes hands: its connections move, one by one, from the port where a worker leaves to the current one.
 *
 * The worker that was attached last sits at the current port, which gets all new connections. The other port is leaving
 * while a worker sits there, and is emptied when it does not any more. How a single one moves is in moving.h.
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
#ifndef UN_SEATS_H
#define UN_SEATS_H

#include "engine/state.h"

/* A worker came to `port`, which is current now; or it is gone. */
void un_seats_attached(struct un_engine *engine, uint32_t port);
void un_seats_lost(struct un_engine *engine, uint32_t port);
bool un_seats_is_split(const struct un_engine *engine, uint32_t port); /* its events are being copied */

/* Part of a turn, bounded. */
uint32_t un_seats_turn(struct un_engine *engine);

/* How an engine may sleep meanwhile. */
enum un_engine_sleep un_seats_sleep(struct un_engine *engine);

/* After the death of an engine: when the change in progress was settled, and when that is over. */
void un_seats_take_over(struct un_engine *engine);
void un_seats_taken_over(struct un_engine *engine);

#endif
