/* Queues of a network card for whoever starts processes that each use one: AF_XDP sockets, made once, with privilege,
 * and handed down as descriptors. usnet_bpf.h has the program that puts frames into them.
 *
 * The part between the two `cffi` marks is read twice, as in usnet.h. */
#ifndef USNET_XDP_H
#define USNET_XDP_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* cffi: begin */

enum usnet_xdp_mode {
    USNET_XDP_ANY,
    USNET_XDP_COPY,
    USNET_XDP_ZERO_COPY,
};

struct usnet_xdp_request {
    const char *interface;
    uint16_t queue;
    uint16_t mode; /* enum usnet_xdp_mode */
    uint16_t mtu;  /* bytes of an IP packet; what is larger than a frame comes and goes in several (Linux 6.6) */
    uint8_t mac[6]; /* ours */
    void *frames;  /* at a page's start; every process that uses the queue has the same memory there */
    uint64_t frame_count; /* at least as many as the pool of the device will have */
    uint32_t frame_bytes; /* 2048 or 4096 */
    int memory_fd; /* a memfd of the caller's, empty: what outlives the processes that use the queue */
    bool tx_checksum; /* leave checksums to what is behind the queue, if the kernel can be told to (Linux 6.11): in copy
                         mode to the interface, in zero-copy to a driver that has to be able to (xsk-features) */
    bool is_polled;   /* whoever looks for packets does the driver's work, if the caller may ask for that: worth it
                         where interrupts are put off (napi_defer_hard_irqs, gro_flush_timeout of the interface) */
};

/* A socket on the queue, which has the frames registered. A descriptor, or a negative errno and *why a sentence, valid
 * until the next call of this thread. */
int usnet_xdp_socket(const struct usnet_xdp_request *request, const char **why);

/* What is in force of a socket. */
struct usnet_xdp_modes {
    bool zero_copy; /* the driver reads and writes the frames itself; otherwise the kernel copies */
    bool tx_checksum;
    bool is_polled; /* not before the first packet, and never where the driver does not tell whom to poll */
};

/* 0 or a negative errno. */
int usnet_xdp_modes(int fd, int memory_fd, struct usnet_xdp_modes *modes);

/* The device over such a socket, number `queue` (from 0) of `queues`; both descriptors are its own then. Its pool has
 * frames that were registered. NULL, as in usnet.h. */
struct usnet_device;
struct usnet_device *usnet_xdp_device(int fd, int memory_fd, uint16_t queue, uint16_t queues, const char **why);

/* cffi: end */

#ifdef __cplusplus
}
#endif

#endif
