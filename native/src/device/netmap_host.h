/* The kernel's part of a card that is in netmap mode, so that its connections go on beside ours (P7).
 *
 * What comes for the kernel is marked in its slot, and the module passes it on when the slot is handed back: in each
 * ring, by whoever has it. What the kernel sends comes through a ring pair of its own, the host's. One process carries
 * it to the card: it is copied into the slots of that process's ring to send. Half of those are left to its own
 * packets; what finds no room is dropped, as in the queue of any card. */
#ifndef UN_NETMAP_HOST_H
#define UN_NETMAP_HOST_H

#include "device/device.h"
#include "device/netmap_rings.h"

struct un_netmap_host {
    struct un_netmap_pair pair;
    int fd;
    int memory_fd; /* -1: somebody else has mapped the pair */
    uint32_t looks;
};

/* Both descriptors are its own when that succeeds; NULL with errno. */
struct un_netmap_host *un_netmap_host_open(int fd, int memory_fd);
/* Over a pair that somebody else has mapped; NULL: no memory. */
struct un_netmap_host *un_netmap_host_over(const struct un_netmap_pair *pair, int fd);
/* The device is the one that carries for it, and closes it. */
void un_netmap_carries_for(struct un_device *device, struct un_netmap_host *host, int wait_fd);
void un_netmap_host_close(struct un_netmap_host *host);

/* Of a ring of the card: the next packet, in one slot, is the kernel's. */
static inline void un_netmap_forward(const struct un_netmap_side *rx)
{
    rx->ring->slots[rx->head].flags |= UN_NETMAP_FORWARD;
    rx->ring->flags |= UN_NETMAP_RING_FORWARDS;
}

/* Whether packets of the kernel's are there; `must`: the module is asked for more first, and told of slots that it may
 * have again. */
bool un_netmap_ask_host(struct un_netmap_host *host, bool must);

/* As many of them as there is room for, `most` at most, into the ring to send. What is out of order is left out. */
struct un_netmap_carried {
    uint32_t taken;
    uint32_t copied;
};
struct un_netmap_carried un_netmap_carry(struct un_netmap_host *host, struct un_netmap_side *tx, uint32_t most);

uint32_t un_netmap_drop_host(struct un_netmap_host *host); /* all others; how many */

#endif
