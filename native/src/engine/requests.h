/* What the supervisor asks for over the control socket: see control.h.
 *
 * The loop reads requests between the transport's poll and the commits, never in the middle of either: a request may
 * end connections, and the engine itself. */
#ifndef UN_REQUESTS_H
#define UN_REQUESTS_H

#include "engine/state.h"

void un_requests_read(struct un_engine *engine);

#endif
