/* Queues of a network card for whoever starts processes that each use one: AF_XDP sockets, made once, with privilege,
 * and handed down as descriptors. usnet_bpf.h has the program that puts frames into them.
 *
 * The part between the two `cffi` marks is read twice, as in usnet.h. */
#ifndef USNET_XDP_H
#define USNET_XDP_H

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
    uint16_t mtu;  /* bytes of an IP packet, which has to fit into a frame */
    uint8_t mac[6]; /* ours */
    void *frames;  /* at a page's start; every process that uses the queue has the same memory there */
    uint64_t frame_count;
    uint32_t frame_bytes; /* 2048 or 4096 */
    int memory_fd; /* a memfd of the caller's, empty: what outlives the processes that use the queue */
};

/* A socket on the queue, which has the frames registered. A descriptor, or a negative errno and *why a sentence, valid
 * until the next call of this thread. */
int usnet_xdp_socket(const struct usnet_xdp_request *request, const char **why);

/* 1: the driver reads and writes the frames itself; 0: the kernel copies; or a negative errno. */
int usnet_xdp_is_zero_copy(int fd);

/* The device over such a socket, number `queue` (from 0) of `queues`; both descriptors are its own then. Its pool has
 * the frames that were registered. NULL, as in usnet.h. */
struct usnet_device;
struct usnet_device *usnet_xdp_device(int fd, int memory_fd, uint16_t queue, uint16_t queues, const char **why);

/* cffi: end */

#ifdef __cplusplus
}
#endif

#endif
