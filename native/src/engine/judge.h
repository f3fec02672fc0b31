/* Which event a worker died of (P3).
 *
 * Each port's memory has a word that names the event which is being handled. At a death the engine remembers that
 * event as the suspect; a second death in a row over the same one condemns it: its bytes are kept for the supervisor,
 * and its connection is reset. */
#ifndef UN_JUDGE_H
#define UN_JUDGE_H

#include "engine/state.h"

/* An unread event is copied to the ring of another port, and is a suspect there too. */
void un_judge_moved(struct un_engine *engine, uint32_t port, uint32_t index, uint32_t to, uint32_t index_there);

bool un_judge_death(struct un_engine *engine, uint32_t port); /* true: an event was condemned */

#endif
