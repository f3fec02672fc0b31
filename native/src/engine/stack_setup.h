/* What an engine over a stack of our own is given, and how large its memory is.
 *
 * Addresses and listeners come as text, the same from the command line of usnet-network and from the inline worker:
 * `10.0.0.1/24,fd00::1/64`, `10.0.0.254` and `10.0.0.1:7000,[::]:80`. Who writes it has explained mistakes to the user
 * already; here they are refused. The memory outlives the engine, as its private memory does. */
#ifndef UN_STACK_SETUP_H
#define UN_STACK_SETUP_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"
#include "engine/exchange.h"
#include "stack/stack.h"

#define UN_GATEWAYS_MAX 2u /* one for each family */
#define UN_STACK_HEAD_BYTES 4096u /* in front of the arena: what the transport itself has to remember */

struct un_own_address {
    struct un_ip ip;
    uint8_t prefix;
};

struct un_stack_setup {
    void *memory;  /* un_stack_setup_bytes of it, zero when the first engine starts on it */
    int tap_fd;    /* one queue of a TAP interface (device.h) */
    struct un_device *device; /* instead of it, when not NULL; closed with the engine */
    uint16_t queue;
    uint16_t queues;
    int exchange_fd; /* memory of all shards: exchange.h */
    int exchange_wake_fds[UN_EXCHANGE_SHARDS_MAX]; /* one eventfd per shard */
    uint32_t address_count;
    uint32_t gateway_count;
    uint32_t listener_count;
    uint32_t backlog; /* of each listener */
    uint64_t seed;    /* of what looks random, where equal runs are to be equal; 0: drawn */
    struct un_own_address addresses[UN_STACK_ADDRESSES_MAX];
    struct un_ip gateways[UN_GATEWAYS_MAX]; /* to all networks that are not on the link */
    struct un_stack_peer listeners[UN_LISTENERS_MAX];
    struct un_stack_config config; /* un_stack_setup_sizes; secret and seed are filled in where the stack is made */
};

/* 0, or -EINVAL: what stands there is no list of addresses, or too long a one. */
int un_stack_setup_addresses(struct un_stack_setup *setup, const char *text);
int un_stack_setup_gateways(struct un_stack_setup *setup, const char *text); /* may be empty */
int un_stack_setup_listeners(struct un_stack_setup *setup, const char *text); /* may be empty */

/* Sizes and limits of the stack for so many connections that are accepted at a time, and the backlog. Of the send
 * frames of a seat, it keeps no more than half until peers acknowledge them: beyond that it copies, so that peers who
 * do not cannot stop the others. */
void un_stack_setup_sizes(struct un_stack_setup *setup, uint32_t connections, uint32_t tx_frames);

uint64_t un_stack_setup_bytes(const struct un_stack_setup *setup);

#endif
