/* Peers that poison workers again and again, refused for a while (options->refuse_poisoners).
 *
 * A peer is what it is in peers.h. One of whom UN_POISON_MANY events were condemned, or tasks died, within
 * UN_POISON_WINDOW_NS is refused for as long from then on. The table is small: in a flood of poisoners the one that was
 * first noted longest ago is forgotten. It lies in private memory, so that a poisoner does not outlive it by killing
 * more than workers; an engine that dies over an entry leaves one that counts less. */
#ifndef UN_POISONERS_H
#define UN_POISONERS_H

#include "engine/state.h"

void un_poisoners_note(struct un_engine *engine, const struct un_endpoint *peer);
bool un_poisoners_refused(const struct un_engine *engine, const struct un_endpoint *peer);

#endif
