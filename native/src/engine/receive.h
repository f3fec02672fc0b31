/* Input: from the transport into receive frames, from there into the ring.
 *
 * A port has one frame open. Input is read into its free end, so one read may bring a few bytes or a whole frame, small
 * messages of many connections share a frame, and each becomes a slice that holds a reference. A frame is free again
 * when its last slice was released. Three things stop a read, each counted: no slot in the ring, no free frame, or a
 * handler that is behind with this connection by rx_budget bytes. The transport's window closes behind
 * it (P5). */
#ifndef UN_RECEIVE_H
#define UN_RECEIVE_H

#include "engine/state.h"

void un_receive_listed(struct un_engine *engine, uint32_t port);
bool un_rx_release(struct un_engine *engine, uint32_t port, uint32_t frame); /* a slice; false: none is out */
void un_receive_took(struct un_engine *engine, uint32_t slot, uint32_t length); /* what now lies in the open frame */
/* In a change of `port`: the bytes of a DATA event of another port become a slice of this one. False: no frame is
 * free. */
bool un_receive_copy(struct un_engine *engine, uint32_t port, uint32_t source, struct un_event *event);
bool un_receive_has_room(const struct un_engine *engine, uint32_t port, uint32_t least); /* in one frame */
void un_rx_rebuild_free(struct un_engine *engine, uint32_t port);

/* From the transport: there is something to read; with read_on, a short read is not the last one. */
void un_engine_conn_can_receive(struct un_engine *engine, uint64_t id, bool read_on);

#endif
