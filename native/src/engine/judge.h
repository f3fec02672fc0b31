/* Which event a worker died of (P3).
 *
 * Each port's memory has a word that says what its worker is in. At a death the event that it names is marked as a
 * suspect. A suspect that is being handled at a second death is condemned: its bytes are kept for the supervisor, and
 * its connection is reset. One that was handled without a death is none any more, even if the worker died before it
 * committed. So several suspects may wait in one ring, each for its second trial; order.h says where.
 *
 * A worker that hung and was killed for it leaves no doubt: the event is condemned at once.
 *
 * A task of a callback is no event. Its connection is dirty, so it is reset anyhow. The supervisor is told what was
 * running in either case.
 *
 * Marks are a byte for each slot of the event ring, in private memory. `suspects` of the port counts them, rather too
 * many than too few: where it is zero nobody looks. */
#ifndef UN_JUDGE_H
#define UN_JUDGE_H

#include "engine/state.h"

bool un_judge_death(struct un_engine *engine, uint32_t port, bool hung); /* true: an event was condemned */

/* Events from `first` up to `end` are no suspects: they were consumed, or handled. */
void un_judge_acquit(struct un_engine *engine, uint32_t port, uint32_t first, uint32_t end);

/* An event moves to another ring, and its mark with it. */
void un_judge_moved(struct un_engine *engine, uint32_t from, uint32_t from_index, uint32_t to, uint32_t to_index);

void un_judge_recount(struct un_engine *engine, uint32_t port); /* of a takeover */

#endif
