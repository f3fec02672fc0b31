/* The network process: an engine and nothing else, in a file of its own (usnet-engine.so).
 *
 * The keeper never loads that file. Each engine is a clone of the keeper and opens it by a descriptor, so that it is
 * the same file however often engines die, whatever is installed meanwhile. An engine that exits for another one
 * (UN_NETWORK_UPGRADE) is followed by one out of the file that was sent, with all connections open. Both must lay out
 * what is there alike: state_layout.py. */
#ifndef UN_NETWORK_H
#define UN_NETWORK_H

#include "engine/engine.h"

/* Exit statuses that the keeper tells apart; by any other, and by a signal, an engine died and is replaced. */
#define UN_NETWORK_DONE 0     /* asked to quit, or the supervisor is gone */
#define UN_NETWORK_FAILED 3   /* could not start; another try would fail alike */
#define UN_NETWORK_UPGRADE 4  /* the next one comes out of the file that was sent */
#define UN_NETWORK_REFUSED 5  /* that file cannot be used */

/* What the file exports under the name "un_network". */
struct un_network {
    uint64_t state_layout;
    const char *version; /* of the package */
    int (*run)(const struct un_engine_setup *setup); /* until asked to quit; an exit status */
};

#endif
