/* Packets between the shards of a server (P6): a frame that arrived on a queue whose shard does not own its flow is
 * copied to the one that does.
 *
 * One memory is shared by all shards, made by the supervisor and as old as the server; zero is a valid state of it. It
 * holds the secret that all stacks of the server have in common, and a ring for each ordered pair of shards, written by
 * one and read by the other. A packet is a record of whole cells: what the device said of it, then its bytes. When a
 * ring is full the packet is dropped, as by any other queue on its way; its sender sends it again.
 *
 * A shard that gives a packet tells the receiver by one word (`pending`), so that a receiver with nothing to take looks
 * at one cache line, and writes its eventfd only when it sleeps. A shard may die and begin anew at any moment: indices
 * lie in the memory, a record counts when its index was published, and is taken again if its taker dies over it. */
#ifndef UN_EXCHANGE_H
#define UN_EXCHANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/pool.h"
#include "device/device.h"

#define UN_EXCHANGE_SHARDS_MAX 256u /* as many as a packet device has queues */
#define UN_EXCHANGE_SECRET_BYTES 16u

struct un_exchange_memory;

struct un_exchange {
    struct un_exchange_memory *memory;
    uint32_t shard;
    uint32_t shards;
    const int *wake_fds; /* one eventfd per shard */
    uint32_t next;       /* shard whose ring is looked at first */
};

/* Map the memory, which grows to what so many shards need; it is unmapped by un_exchange_close. 0 or -errno. */
int un_exchange_open(struct un_exchange *exchange, int fd, uint32_t shard, uint32_t shards, const int *wake_fds);
void un_exchange_close(struct un_exchange *exchange);

const uint8_t *un_exchange_secret(const struct un_exchange *exchange);

/* Copy a packet to another shard, or to all others (UN_NONE); how many had no room for it. */
uint32_t un_exchange_give(struct un_exchange *exchange, const struct un_pool *pool, uint32_t shard,
                          const struct un_rx *packet);

/* The next packet for us, in frames of the pool with one reference each; false: there is none. When too few frames are
 * free it is taken all the same, and lost: its frame is UN_NONE. */
bool un_exchange_take(struct un_exchange *exchange, struct un_pool *pool, struct un_rx *packet);

/* Before the owner sleeps on its eventfd: false when there is something to take. */
bool un_exchange_sleep(struct un_exchange *exchange);
void un_exchange_awake(struct un_exchange *exchange);

#endif
