/* What an engine over a stack of our own is given besides the options (shard/options.h), and how large its memories
 * are.
 *
 * There are two. The arena holds all that the stack knows. The frames hold packets and payload. A packet device may
 * have the frames registered, so they are never punched or replaced while the server lives. The supervisor makes both
 * (memfd) and hands them down: they outlive engine and keeper. A new keeper's engine adopts an arena only to reset its
 * connections, and begins it anew: nothing is left of the segment and the workers that those connections had. */
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

/* Sizes and limits of the stack: for so many connections as the options allow, and their backlog. Of the send frames of
 * a port, it keeps no more than half until peers acknowledge them: beyond that it copies, so that peers who do not
 * cannot stop the others. */
void un_stack_setup_sizes(struct un_stack_setup *setup, const struct un_engine_options *options, uint32_t tx_frames);

uint64_t un_stack_setup_arena_bytes(const struct un_stack_setup *setup); /* a multiple of the page size */
uint64_t un_stack_setup_frames_bytes(const struct un_stack_setup *setup);

/* In front of the arena, as old as it. */
struct un_link_head {
    uint32_t begun; /* somebody wrote to the arena */
    uint32_t ready; /* the stack is complete, with its addresses and listeners */
    uint32_t abandoned; /* its keeper is gone; counts the engines that tried to reset its connections, from 1 on */
    uint32_t listener_high; /* numbers below it were used at least once */
    uint32_t listeners[UN_LISTENERS_MAX]; /* number of the stack's listener + 1; 0: it does not listen */
};
UN_STATIC_ASSERT(sizeof(struct un_link_head) <= UN_STACK_HEAD_BYTES, "fits in front of the arena");

/* Before the first engine of a keeper (or of an inline worker) starts: what stands in the arena is of another one. */
void un_stack_setup_abandon(struct un_stack_setup *setup);

#endif
