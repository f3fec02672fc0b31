/* The network process: an engine and nothing else. */
#ifndef UN_NETWORK_H
#define UN_NETWORK_H

#include "engine/engine.h"

/* Exit statuses that the keeper tells apart; by any other, and by a signal, an engine died and is replaced. */
#define UN_NETWORK_DONE 0     /* asked to quit, or the supervisor is gone */
#define UN_NETWORK_FAILED 3   /* could not start; another try would fail alike */

/* Run until asked to quit; returns an exit status. */
int un_network_run(const struct un_engine_setup *setup);

#endif
