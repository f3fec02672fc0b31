/* A ring pair of a netmap port in the memory that its descriptor maps, and what has to be known to find it there.
 *
 * Rings, buffers and the positions in them are the module's memory, and live as long as the descriptor. The process
 * that uses the pair remembers nothing that the next one could miss. Where the pair lies, and what the port is to us,
 * stands in a small memory of the supervisor's, handed down beside the descriptor.
 *
 * All pairs of a card lie in one memory, so the engines of other shards can write into ours (P4). What is read there is
 * copied once, and the copy is checked and used; whatever stands there, nothing outside the memory is touched, and
 * no loop goes on for longer than a ring is. Packets may be lost or wrong. */
#ifndef UN_NETMAP_RINGS_H
#define UN_NETMAP_RINGS_H

#include <stdbool.h>

#include "device/netmap_abi.h"

#define UN_NETMAP_MAGIC 0x706d6e55u /* "Unmp" */
#define UN_NETMAP_PACKET_PARTS 64u  /* slots of one packet at most, as a VALE switch has it */

enum un_netmap_memory_flag {
    /* other ports of ours are on the same switch, and one of them takes what is for all */
    UN_NETMAP_IGNORES_GROUPS = 1 << 0,
    UN_NETMAP_SHARES = 1 << 1, /* the card: what is not for our station is the kernel's */
    UN_NETMAP_IS_HOST = 1 << 2, /* the pair is that of the kernel's stack */
};

struct un_netmap_memory {
    uint32_t magic;
    uint16_t ring; /* number of the pair */
    uint16_t mtu;  /* bytes of an IP packet */
    uint8_t mac[6]; /* ours */
    uint16_t flags; /* enum un_netmap_memory_flag */
    uint32_t zero;
    uint64_t if_at;        /* in the memory of the descriptor … */
    uint64_t memory_bytes; /* … which is so large */
};
UN_STATIC_ASSERT(sizeof(struct un_netmap_memory) == 40, "the same in every version of this device");

/* A ring, and what was found in order when it was mapped. */
struct un_netmap_side {
    struct un_netmap_ring *ring;
    uint8_t *buffers;
    uint32_t head; /* as the ring has it, where it is only stored */
    uint32_t slot_count;
    uint32_t buffer_bytes;
    uint32_t buffer_count; /* a slot that names no lower number is out of order */
};

struct un_netmap_pair {
    struct un_netmap_side rx, tx;
    struct un_netmap_if *port;
    void *map;
    uint64_t map_bytes;
};

/* The pair in memory that is mapped already: 0, or -EINVAL when it would not lie in there. */
int un_netmap_find(struct un_netmap_pair *pair, void *map, const struct un_netmap_memory *memory);

/* What the supervisor wrote into the memory beside the descriptor: 0 or -errno. */
int un_netmap_recall(struct un_netmap_memory *memory, int fd);

int un_netmap_map(struct un_netmap_pair *pair, int fd, const struct un_netmap_memory *memory); /* 0 or -errno */
void un_netmap_unmap(struct un_netmap_pair *pair);

/* The device over a pair that somebody else has mapped; fd: what synchronises it. NULL: no memory. */
struct un_device *un_netmap_over(const struct un_netmap_pair *pair, const struct un_netmap_memory *memory, int fd);

/* How many slots are the user's. */
static inline uint32_t un_netmap_ready(const struct un_netmap_side *side)
{
    uint32_t head = side->head, tail = un_observe(&side->ring->tail);
    if (tail >= side->slot_count)
        return 0;
    return tail >= head ? tail - head : tail + side->slot_count - head;
}

static inline uint32_t un_netmap_next(const struct un_netmap_side *side, uint32_t at)
{
    return at + 1 == side->slot_count ? 0 : at + 1;
}

/* Slots before `head` are the kernel's from now on. */
static inline void un_netmap_give(struct un_netmap_side *side, uint32_t head)
{
    side->head = head;
    un_store(&side->ring->cur, head);
    un_publish(&side->ring->head, head);
}

/* As it is now. */
static inline struct un_netmap_slot un_netmap_slot(const struct un_netmap_side *side, uint32_t at)
{
    return (struct un_netmap_slot){.word = un_load(&side->ring->slots[at].word)};
}

static inline uint8_t *un_netmap_buffer(const struct un_netmap_side *side, uint32_t buffer)
{
    return side->buffers + (uint64_t)buffer * side->buffer_bytes;
}

#endif
