/* Queues of a TAP interface for whoever starts processes that each use one: made once, with privilege, and handed down
 * as descriptors, so that the interface and what waits in it outlive those processes.
 *
 * The part between the two `cffi` marks is read twice, as in usnet.h. */
#ifndef USNET_TAP_H
#define USNET_TAP_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* cffi: begin */

/* One more queue of the TAP interface `name`, which is created when there is none. `multi_queue`: it has several, or is
 * to have. A descriptor, or a negative errno and *why a sentence, valid until the next call of this thread. */
int usnet_tap_queue(const char *name, bool multi_queue, const char **why);

/* Have the kernel put each frame into the queue whose shard owns its flow, by the hash of its addresses and ports. `fd`
 * is any queue, and there are `queues`. 0, or as above; without it frames come through any queue. */
int usnet_tap_steer(int fd, uint16_t queues, const char **why);

/* The device over such a queue, number `queue` (from 0) of `queues`; the descriptor is its own then. NULL, as in
 * usnet.h. */
struct usnet_device;
struct usnet_device *usnet_tap_device(int fd, uint16_t queue, uint16_t queues, const char **why);

/* cffi: end */

#ifdef __cplusplus
}
#endif

#endif
