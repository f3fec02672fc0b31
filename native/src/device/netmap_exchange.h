/* Buffers of netmap's as frames of a pool: what came is taken out of its slot, and a free frame stands there instead.
 * So no byte of it is copied.
 *
 * A port is given buffers beside those in its rings, as a list: each begins with the number of the next one. They and
 * the buffers of the ring to receive are frames. Frame 0 is the lowest of them, or one before it at a page's start;
 * frame n is the buffer that is n further on. Buffers in between that are somebody else's, such as those of the ring to
 * send, are frames that nobody drops. What stands in the ring has one reference, the ring's, which goes to whoever gets
 * the packet.
 *
 * Which frame stands in which slot is remembered here, as slots may be written over by whoever has the card mapped. It
 * is the process's own, so this is for programs that are one process. One that ends as it should puts all buffers back
 * into the list. Those of one that was killed are the module's again when nobody uses its memory any more. */
#ifndef UN_NETMAP_EXCHANGE_H
#define UN_NETMAP_EXCHANGE_H

#include "device/device.h"
#include "device/netmap_rings.h"

struct un_netmap_exchange {
    struct un_device_frames frames;
    uint32_t first;      /* buffer that is frame 0 */
    bool *is_ours;       /* by frame */
    uint32_t stands[];   /* by slot: the frame in it; behind them, those that were extra */
};

/* NULL: the list is not so long or out of order, the buffers lie too far apart, or there is no memory for it. */
struct un_netmap_exchange *un_netmap_exchange_open(const struct un_netmap_pair *pair, uint32_t extra_buffers);
/* All frames into the list: the device has no pool any more. */
void un_netmap_exchange_close(struct un_netmap_exchange *exchange, const struct un_netmap_pair *pair);
/* References of those that are not free (un_device_hold). */
void un_netmap_exchange_held(const struct un_netmap_exchange *exchange, uint32_t slot_count, struct un_pool *pool);

/* Another frame into a slot of the ring: which one stood there. */
static inline uint32_t un_netmap_put(struct un_netmap_exchange *exchange, const struct un_netmap_side *rx, uint32_t at,
                                     uint32_t frame)
{
    struct un_netmap_slot *slot = &rx->ring->slots[at];
    uint32_t stood = exchange->stands[at];
    exchange->stands[at] = frame;
    slot->buffer = exchange->first + frame;
    slot->flags = UN_NETMAP_BUFFER_CHANGED;
    return stood;
}

#endif
