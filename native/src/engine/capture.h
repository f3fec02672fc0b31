/* A capture: packets are copied for somebody who looks (usnet-ctl capture).
 *
 * The supervisor asks for it over the control socket and sends the memory that they are copied into
 * (capture_ring.h). While there is none, an engine pays one look at a pointer in each turn of a stack, and one for each
 * connection that is accepted. While there is one,
 *
 *   capture_packets.c  stands between a stack of our own and its device, and takes in what comes packet by packet
 *   capture_sockets.c  stands between the engine and the kernel's sockets, and makes packets of what passes
 *
 * What was asked for is noted in the private memory, and the keeper has the descriptor, too. So the engine that comes
 * after a death goes on with the capture before it looks at any packet. */
#ifndef UN_CAPTURE_H
#define UN_CAPTURE_H

#include "engine/capture_packets.h"
#include "engine/capture_ring.h"
#include "engine/capture_sockets.h"
#include "engine/state.h"

struct un_capture {
    struct un_capture_end end;
    struct un_capture_packets packets;
    struct un_capture_sockets sockets;
    uint64_t bytes; /* of the memory */
};

/* Begin number `serial`, not 0, with this memory, whose descriptor is the engine's if that is 0.
 * -EALREADY: it has this one; -EBUSY: another one; -EINVAL: the memory is none (capture_ring.h). */
int un_capture_start(struct un_engine *engine, uint32_t serial, int fd, uint64_t bytes);

/* None, from now on. */
void un_capture_stop(struct un_engine *engine);

/* An engine starts: go on with what its predecessor did; one that ends, or is freed: leave it to a successor. */
void un_capture_resume(struct un_engine *engine);
void un_capture_leave(struct un_engine *engine);

#endif
