/* Packets to the device: headers written on the C stack and lent, payload named by its frames. Whoever sends knows the
 * Ethernet address: output.c finds it out. */
#ifndef UN_PACKETS_H
#define UN_PACKETS_H

#include "stack/local.h"
#include "wire/packet.h"

#define UN_HOP_LIMIT 64u         /* RFC 1700, and what everybody sends */

/* A packet of no connection: the transport header (checksum field zero, at checksum_offset) and what follows it. */
struct un_datagram {
    struct un_ip_header ip; /* payload_length, identification and dont_fragment are filled in */
    const uint8_t *mac; /* whom it goes to; NULL: the next hop is looked for */
    const uint8_t *header;
    uint32_t header_length;
    uint32_t extension_length; /* of it: IPv6 extension headers, in front of the transport header */
    uint32_t checksum_offset;  /* within the transport header */
    const struct un_piece *pieces;
    int count;
    bool is_fragment; /* a part of one whose checksum was computed; identification is given */
    uint16_t fragment_word; /* IPv4: offset and more-fragments */
};
/* Of what goes behind the IP header. */
uint16_t un_stack_checksum(const struct un_ip_header *ip, uint8_t protocol, const struct un_piece *pieces, int count);
/* 0, or -EAGAIN: the device is full. */
int un_stack_send_to(struct un_stack *stack, struct un_datagram *datagram, const uint8_t *mac);
int un_stack_send_group(struct un_stack *stack, struct un_datagram *datagram); /* un_is_group(destination) */
/* A whole packet, Ethernet header included. */
int un_stack_transmit(struct un_stack *stack, const struct un_tx *packet);
void un_stack_flush(struct un_stack *stack);
bool un_stack_ask_room(struct un_stack *stack);
void un_row_submit(struct un_stack *stack); /* those that wait */
static inline bool un_stack_has_room(struct un_stack *stack)
{
    return stack->tx_room > 0 || un_stack_ask_room(stack);
}

/* Not for one station alone. */
static inline bool un_is_group(const struct un_stack *stack, const struct un_ip *destination)
{
    return un_ip_is_multicast(destination) || un_address_is_broadcast(stack, destination);
}

/* ---- parts, for packets that output.c puts together ---- */

/* Everything but the Ethernet header. */
void un_outgoing_build(struct un_stack *stack, struct un_datagram *datagram, struct un_outgoing *packet);
/* Sum of the payload, which begins at an even offset of the packet. */
uint64_t un_outgoing_sum(const struct un_piece *pieces, int count);

/* There is room for it. */
static inline void un_outgoing_submit(struct un_stack *stack, const struct un_tx *packet)
{
    stack->device->operations->submit(stack->device, packet, 1);
    stack->tx_room--;
    stack->has_submitted = true;
    stack->counters->tx_packets++;
}

/* Where a packet is put together: its headers, its gather list, and what the device is told. */
struct un_outgoing_place {
    uint8_t *header;
    struct un_piece *pieces;
    struct un_tx *tx;
};

static inline struct un_outgoing_place un_outgoing_place(struct un_outgoing *packet)
{
    return (struct un_outgoing_place){packet->header, packet->pieces, &packet->tx};
}

/* The gather list: headers first. */
static inline void un_outgoing_gather(struct un_outgoing_place to, uint32_t header_length,
                                      const struct un_piece *pieces, int count, uint32_t payload)
{
    un_assert(count < (int)UN_TX_PIECES_MAX);
    to.pieces[0] = (struct un_piece){to.header, header_length, UN_NONE};
    if (count > 0)
        to.pieces[1] = pieces[0]; /* mostly there is one: no call of memcpy for it */
    if (__builtin_expect(count > 1, 0))
        memcpy(to.pieces + 2, pieces + 1, (size_t)(count - 1) * sizeof *pieces);
    to.tx->pieces = to.pieces;
    to.tx->count = (uint16_t)(count + 1);
    to.tx->header_length = (uint16_t)header_length;
    to.tx->length = header_length + payload;
}

/* ---- packets that leave together ---- */

/* Of the next one. */
static inline struct un_outgoing_place un_row_place(struct un_row *row)
{
    uint32_t next = row->count;
    return (struct un_outgoing_place){row->headers[next], row->pieces[next], &row->packets[next]};
}

/* It is put together, and there is room for it. */
static inline void un_row_add(struct un_stack *stack)
{
    stack->tx_room--;
    if (++stack->row.count == UN_ROW_MAX)
        un_row_submit(stack);
}

#endif
