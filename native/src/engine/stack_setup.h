/* What an engine over a stack of our own is given besides the options (shard/options.h), and how large its memories
 * are.
 *
 * There are two memories. The supervisor makes them (memfd) and hands them down, so they outlive engine and keeper.
 *
 *   arena    all that the stack knows
 *   frames   packets and payload; never punched or replaced while the server lives, since a packet device may have
 *            them registered
 *
 * An engine of the same keeper goes on with the arena. The first engine of a new keeper adopts it only to reset its
 * connections, whose segment and workers are gone; then it makes the arena anew. */
#ifndef UN_STACK_SETUP_H
#define UN_STACK_SETUP_H

#include <stdint.h>

#include "device/kinds.h"
#include "engine/engine.h"
#include "engine/exchange.h"
#include "stack/stack.h"

#define UN_STACK_HEAD_BYTES 4096u /* in front of the arena: what the transport itself has to remember */

struct un_stack_setup {
    void *arena;  /* un_stack_setup_arena_bytes of it, zero at first */
    void *frames; /* un_stack_setup_frames_bytes of them */
    const struct un_device_kind *kind; /* of the packet device … */
    struct un_device_parts parts;      /* … and what it is opened from: descriptors; the rest is filled in */
    struct un_device *device; /* instead of it, when not NULL; closed with the engine */
    int exchange_fd; /* memory of all shards: exchange.h */
    int exchange_wake_fds[UN_EXCHANGE_SHARDS_MAX]; /* one eventfd per shard */
    struct un_stack_config config; /* un_stack_setup_sizes; secret and seed are filled in where the stack is made */
};

/* Sizes and limits of the stack, for as many connections as the options allow, and their backlog. At most half of a
 * port's send frames are lent to the stack until peers acknowledge them; beyond that bytes are copied. So peers that do
 * not acknowledge cannot stop the others. */
void un_stack_setup_sizes(struct un_stack_setup *setup, const struct un_engine_options *options, uint32_t tx_frames);

uint64_t un_stack_setup_arena_bytes(const struct un_stack_setup *setup); /* a multiple of the page size */
uint64_t un_stack_setup_frames_bytes(const struct un_stack_setup *setup);

/* Lies in front of the arena and lives as long. */
struct un_link_head {
    uint32_t begun; /* the arena was written to */
    uint32_t ready; /* the stack is complete, with its addresses and listeners */
    uint32_t abandoned; /* 0: its keeper lives; else 1 + the engines that tried to reset its connections */
    uint32_t listener_high; /* numbers below it were used at least once */
    uint32_t listeners[UN_LISTENERS_MAX]; /* number of the stack's listener + 1; 0: it does not listen */
};
UN_STATIC_ASSERT(sizeof(struct un_link_head) <= UN_STACK_HEAD_BYTES, "fits in front of the arena");

/* Call this before the first engine of a keeper (or of an inline worker) starts: what is in the arena belongs to a
 * predecessor. */
void un_stack_setup_abandon(struct un_stack_setup *setup);

#endif
