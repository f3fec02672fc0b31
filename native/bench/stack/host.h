/* One of our stacks on a device, in virtual time: the client of every measurement of stack_bench, and one of the
 * servers. */
#ifndef HOST_H
#define HOST_H

#include "stack/stack.h"

struct host {
    struct un_stack stack;
    struct un_device *device;
    void *memory;
    uint64_t bytes;
};

struct host_size {
    uint32_t connections;
    uint32_t frames;
};

/* Secrets and order follow from the seed. The device is the host's from now on. */
void host_start(struct host *host, struct un_device *device, struct host_size size, uint64_t seed);
void host_stop(struct host *host);

/* A microsecond later: packets in, timers, packets out. */
void host_turn(struct host *host);

/* What is to be sent leaves, as an engine lets it leave at the end of its turn. */
void host_flush(struct host *host);

/* What came for this connection goes back. */
void host_echo(struct host *host, uint64_t conn);

/* 10.0.network.host; all are in one /16. */
struct un_ip host_address(uint8_t network, uint8_t host);

#endif
