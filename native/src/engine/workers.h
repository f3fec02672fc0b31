/* Of workers.c, for the rest of the engine; what the supervisor asks for is in engine.h. */
#ifndef UN_WORKERS_H
#define UN_WORKERS_H

#include "engine/state.h"

/* Those of a connection that were not consumed; nobody will hear of them. */
void un_engine_skip_events(struct un_engine *engine, uint32_t slot);

#endif
