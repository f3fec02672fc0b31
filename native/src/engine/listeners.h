/* The listening sockets that the engine accepts from.
 *
 * The table lies in private memory, because an engine's successor has the same sockets. A listener keeps its number
 * while it is there, and each connection notes the number of its own. A stack's listeners have numbers alike, in a
 * table of the transport's. */
#ifndef UN_LISTENERS_H
#define UN_LISTENERS_H

#include "engine/state.h"

int un_listeners_add(struct un_engine *engine, int fd);  /* its number, or -ENOSPC */
void un_listeners_remove(struct un_engine *engine, uint32_t number);

/* At start: those that the setup names, under the numbers that they had before. */
void un_listeners_start(struct un_engine *engine);

#endif
