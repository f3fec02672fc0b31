/* The four rings of an AF_XDP socket, mapped. Indices run freely; the slots are a power of two.
 *
 *   fill         frames for packets to come        ours to put
 *   completion   frames whose packets were sent    ours to take
 *   rx           packets that have come            ours to take
 *   tx           packets to send                   ours to put */
#ifndef UN_AFXDP_RINGS_H
#define UN_AFXDP_RINGS_H

#include <linux/if_xdp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/barrier.h"
#include "device/afxdp_memory.h"

/* Of an xdp_desc's options: the packet goes on in the next one (XDP_PKT_CONTD of Linux 6.6); what is asked for stands
 * in front of it (XDP_TX_METADATA of Linux 6.8). */
#define UN_AFXDP_PACKET_CONTINUES (1u << 0)
#define UN_AFXDP_PACKET_HAS_METADATA (1u << 1)

struct un_device;

struct un_afxdp_ring {
    un_shared32 *producer;
    un_shared32 *consumer;
    un_shared32 *flags;
    void *slots; /* uint64_t of fill and completion, struct xdp_desc of rx and tx */
    uint32_t mask;
    void *map;
    size_t map_bytes;
};

struct un_afxdp_rings {
    struct un_afxdp_ring fill, completion, rx, tx;
};

/* Of a socket whose rings were made with the sizes in `memory`. 0 or -errno, and nothing is mapped then. */
int un_afxdp_rings_map(struct un_afxdp_rings *rings, int fd, const struct un_afxdp_memory *memory);
void un_afxdp_rings_unmap(struct un_afxdp_rings *rings);

/* The device over rings and memory that somebody else has mapped; fd -1: there is no socket. NULL: no memory. */
struct un_device *un_afxdp_over(const struct un_afxdp_rings *rings, struct un_afxdp_memory *memory, int fd);

static inline uint64_t *un_afxdp_address(const struct un_afxdp_ring *ring, uint32_t index)
{
    return &((uint64_t *)ring->slots)[index & ring->mask];
}

static inline struct xdp_desc *un_afxdp_packet(const struct un_afxdp_ring *ring, uint32_t index)
{
    return &((struct xdp_desc *)ring->slots)[index & ring->mask];
}

/* How many were put and not taken: of a ring that we take from. */
static inline uint32_t un_afxdp_ready(const struct un_afxdp_ring *ring)
{
    return un_observe(ring->producer) - un_load(ring->consumer);
}

/* The same of a ring that we put into. */
static inline uint32_t un_afxdp_waiting(const struct un_afxdp_ring *ring)
{
    return un_load(ring->producer) - un_observe(ring->consumer);
}

/* Asked when something was put. The kernel says that it wants to be woken, and looks at the ring once more; one of the
 * two sees the other (barrier.h: Dekker). Mostly it has said so long ago, and no fence is needed. */
static inline bool un_afxdp_wants_wake(const struct un_afxdp_ring *ring)
{
    if (un_load(ring->flags) & XDP_RING_NEED_WAKEUP)
        return true;
    un_fence();
    return un_load(ring->flags) & XDP_RING_NEED_WAKEUP;
}

#endif
