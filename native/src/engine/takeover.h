/* An engine goes on where a dead one was killed (P10).
 *
 * The dead engine's private memory is as program order left it. The change that it was in is rolled back, and
 * what the transport had done for it accounted for: rollback.h. Everything that is
 * a cache is made anew: free lists by a scan, work lists by giving every connection a turn, sums from the rings.
 * Events that were whole when it died are published; edges of readiness that died with it are replaced
 * by trying. */
#ifndef UN_TAKEOVER_H
#define UN_TAKEOVER_H

#include "engine/state.h"

void un_takeover(struct un_engine *engine);

#endif
