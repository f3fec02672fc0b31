/* What a dead engine was in the middle of (P10): change.h says what it kept.
 *
 * First the change is rolled back. Then, once sums and lists may be touched, what happened outside is made good: the
 * connection ends if it was to end; bytes that the transport took or gave are accounted for. Where the transport cannot
 * say how many (unix sockets), the connection ends, and is counted. Until the change is left by the caller, the next
 * engine may do both again. */
#ifndef UN_ROLLBACK_H
#define UN_ROLLBACK_H

#include "engine/state.h"

void un_rollback(struct un_engine *engine);
void un_rollback_settle(struct un_engine *engine);

#endif
