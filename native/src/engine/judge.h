/* Which event a worker died of (P3).
 *
 * Each port's memory has a word that says what its worker is in. At a death the event that it names is marked as a
 * suspect. A suspect that is being handled at a second death is condemned: its bytes are kept for the supervisor, and
 * its connection is reset. One that was handled without a death is none any more, even if the worker died before it
 * committed. So several suspects may wait in one ring, each for its second trial; order.h says where.
 *
 * A worker that hung and was killed for it leaves no doubt: the event is condemned at once.
 *
 * A task of a callback is no event. Its connection is dirty, so it is reset anyhow. */
#ifndef UN_JUDGE_H
#define UN_JUDGE_H

#include "engine/state.h"

bool un_judge_death(struct un_engine *engine, uint32_t port, bool hung); /* true: an event was condemned */

#endif
