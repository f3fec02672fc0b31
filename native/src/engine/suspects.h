/* Which unread events are suspects (judge.h): a byte for each slot of an event ring, in private memory.
 *
 * `suspects` of the port counts them, rather too many than too few: where it is zero nobody looks. A byte may be left
 * behind by an engine that dies, or undone with a change; a takeover keeps those of events that are there. */
#ifndef UN_SUSPECTS_H
#define UN_SUSPECTS_H

#include "engine/state.h"

uint8_t *un_suspect_at(const struct un_engine *engine, uint32_t port, uint32_t index);
void un_suspect_mark(struct un_engine *engine, uint32_t port, uint32_t index);

/* Events from `first` up to `end` are none: they were consumed, or handled. */
void un_suspects_acquit(struct un_engine *engine, uint32_t port, uint32_t first, uint32_t end);

/* An event moves to another ring, and its mark with it. */
void un_suspect_moved(struct un_engine *engine, uint32_t from, uint32_t from_index, uint32_t to, uint32_t to_index);

void un_suspects_recount(struct un_engine *engine, uint32_t port); /* of a takeover */

#endif
