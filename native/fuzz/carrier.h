/* How peers of the arena reach the engine: over unix sockets, or over our stack at both ends of a wire in memory.
 *
 * A peer is a small number from connect on. receive and send answer as recv and send do. */
#ifndef UN_FUZZ_CARRIER_H
#define UN_FUZZ_CARRIER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct carrier {
    void (*open)(void); /* what the engine is to start with: into arena.setup and arena.options */
    int (*connect)(void); /* on its way; the engine takes it in a turn */
    ssize_t (*receive)(int peer, void *bytes, size_t most);
    ssize_t (*send)(int peer, const void *bytes, size_t length);
    void (*half_close)(int peer);
    void (*disconnect)(int peer);
    void (*turn)(void); /* of the peers' end */
    void (*close)(void); /* after the engine */
    /* While it is kept, what carries outlives an engine, for the next one. NULL: an engine closes what it does not
     * know, and that would be the peers' ends as well. */
    void (*keep)(bool is_kept);
};

extern const struct carrier carrier_sockets, carrier_stack;

#endif
