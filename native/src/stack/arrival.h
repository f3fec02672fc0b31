/* A packet on its way in: what was parsed, and the frames that it lies in. */
#ifndef UN_ARRIVAL_H
#define UN_ARRIVAL_H

#include <sys/uio.h>

#include "stack/arena.h"
#include "wire/packet.h"

/* Handlers that keep the frames set rx.frame to UN_NONE. */
struct un_arrival {
    struct un_packet packet;
    struct un_rx rx;
    bool is_foreign;   /* another shard gave it to us: it is not handed over again, and not answered for it */
    bool is_unicast;   /* for one of our addresses: `local` */
    uint16_t local;    /* index of the address */
    int count;
    struct iovec pieces[UN_TX_PIECES_MAX];
};

static inline const uint8_t *un_arrival_transport(const struct un_arrival *arrival)
{
    return (const uint8_t *)arrival->pieces[0].iov_base + arrival->packet.transport;
}

/* How many bytes of the transport packet lie in a row. */
static inline uint32_t un_arrival_contiguous(const struct un_arrival *arrival)
{
    uint32_t there = (uint32_t)arrival->pieces[0].iov_len - arrival->packet.transport;
    return there < arrival->packet.transport_length ? there : arrival->packet.transport_length;
}
/* The Ethernet address that an answer goes to; NULL: that of the next hop, which is looked for. */
static inline const uint8_t *un_arrival_answer_mac(const struct un_stack *stack, const struct un_arrival *arrival)
{
    const uint8_t *mac = arrival->packet.source_mac;
    return un_is_shared(stack) && !(mac[0] & 1) ? mac : NULL;
}

/* Payload of the transport packet, header and padding cut off; the frames are the caller's then. */
uint32_t un_arrival_payload(struct un_stack *stack, struct un_arrival *arrival, uint32_t header_length);

#endif
