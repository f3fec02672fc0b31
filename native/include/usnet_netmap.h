/* Ring pairs of netmap ports for whoever starts processes that each use one: opened once, with the right to, and handed
 * down as descriptors, so that the port and what waits in its rings outlive those processes.
 *
 * The part between the two `cffi` marks is read twice, as in usnet.h. */
#ifndef USNET_NETMAP_H
#define USNET_NETMAP_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* cffi: begin */

struct usnet_netmap_request {
    const char *port; /* eth1; vale0:us, a port of a VALE switch */
    bool is_card;     /* it has as many pairs as it has queues; else there is one, of a switch or a pipe (x{1, x}1) */
    uint16_t ring;    /* number of the pair */
    uint16_t mtu;     /* bytes of an IP packet */
    uint8_t mac[6];   /* ours */
    bool ignores_groups; /* another port of ours on the same switch takes what is for all stations, or for a group */
    bool shares;      /* the card with the kernel: what is not for our station is its */
    bool is_host;     /* the pair of the kernel's stack, of a card */
    int memory_fd;    /* a memfd of the caller's, empty: what processes that use the pair have to know */
};

/* Of a port that was opened. */
struct usnet_netmap_about {
    uint16_t tx_rings; /* of the whole port */
    uint16_t rx_rings;
    uint32_t tx_slots; /* of each of them */
    uint32_t rx_slots;
    uint32_t buffer_bytes; /* of each slot */
};

/* /dev/netmap, open: a descriptor, or a negative errno and *why a sentence, valid until the next call of the thread. */
int usnet_netmap_file(const char **why);

/* Register the port with it, for as long as the descriptor is open anywhere: 0, or as above. The kernel's stack is
 * cut off from a card then. */
int usnet_netmap_port(int fd, const struct usnet_netmap_request *request, struct usnet_netmap_about *about,
                      const char **why);

/* The device over such a pair, number `queue` (from 0) of `queues`; both descriptors are its own then. NULL, as in
 * usnet.h. */
struct usnet_device;
struct usnet_device *usnet_netmap_device(int fd, int memory_fd, uint16_t queue, uint16_t queues, const char **why);

/* What the kernel sends to a card that is shared, one of its devices carries: it takes over the host's pair, and
 * wait_fd, an epoll instance over both descriptors, which it is waited for by from then on. 0, or as above, and the
 * descriptors are still the caller's. */
int usnet_netmap_carries(struct usnet_device *device, int host_fd, int host_memory_fd, int wait_fd,
                         const char **why);

/* For a program that is one process: the pair of a port, by its name, as a device of usnet.h. vale0:us, a port of a
 * VALE switch; eth1-2, the pair 2 of a card, and eth1 of one with a single pair (the kernel's stack is cut off from the
 * card); x{1 and x}1, the ends of a pipe. It can be waited for. A context over it with up to 8,192 frames takes the
 * module's buffers as frames, where it gives as many, and what comes is not copied; a child of fork has none. */
struct usnet_device *usnet_device_netmap(const char *port, const char **why);

/* cffi: end */

#ifdef __cplusplus
}
#endif

#endif
