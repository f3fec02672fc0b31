/* What an engine over a stack of our own is given besides the options (shard/options.h), and how large its memory is.
 * The memory outlives the engine, as its private memory does. */
#ifndef UN_STACK_SETUP_H
#define UN_STACK_SETUP_H

#include <stdint.h>

#include "engine/engine.h"
#include "engine/exchange.h"
#include "stack/stack.h"

#define UN_STACK_HEAD_BYTES 4096u /* in front of the arena: what the transport itself has to remember */

struct un_stack_setup {
    void *memory;  /* un_stack_setup_bytes of it, zero when the first engine starts on it */
    int tap_fd;    /* one queue of a TAP interface (device.h) */
    struct un_device *device; /* instead of it, when not NULL; closed with the engine */
    int exchange_fd; /* memory of all shards: exchange.h */
    int exchange_wake_fds[UN_EXCHANGE_SHARDS_MAX]; /* one eventfd per shard */
    struct un_stack_config config; /* un_stack_setup_sizes; secret and seed are filled in where the stack is made */
};

/* Sizes and limits of the stack: for so many connections as the options allow, and their backlog. Of the send frames of
 * a seat, it keeps no more than half until peers acknowledge them: beyond that it copies, so that peers who do not
 * cannot stop the others. */
void un_stack_setup_sizes(struct un_stack_setup *setup, const struct un_engine_options *options, uint32_t tx_frames);

uint64_t un_stack_setup_bytes(const struct un_stack_setup *setup);

#endif
