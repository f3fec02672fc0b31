/* Peers of which workers die.
 *
 * A peer is what it is in peers.h. A peer is suspected for UN_POISON_WINDOW_NS after a worker died while it handled an
 * event or a task of a connection of this peer: what it sends comes last after the next death (order.h). If
 * UN_POISON_MANY events of it were condemned, or tasks died, within that time, it is refused for as long from then on,
 * where that is asked for (options->refuse_poisoners).
 *
 * The table is small: in a flood of poisoners the one suspected longest ago is forgotten. It lies in private memory, so
 * that an engine's death absolves nobody; an engine that dies over an entry leaves one that says less. */
#ifndef UN_POISONERS_H
#define UN_POISONERS_H

#include "engine/state.h"

void un_poisoners_suspect(struct un_engine *engine, const struct un_endpoint *peer);
void un_poisoners_count(struct un_engine *engine, const struct un_endpoint *peer); /* one that is suspected */
bool un_poisoners_suspected(const struct un_engine *engine, const struct un_endpoint *peer);
bool un_poisoners_refused(const struct un_engine *engine, const struct un_endpoint *peer);

#endif
