/* From a frame of the device to its connection, listener or endpoint.
 *
 * Parse, find our address, check the transport checksum, find the connection. A packet that no connection of this shard
 * takes may belong to another shard (P6): it is handed to its owner before anything is answered. Packets that another
 * shard gave to us are never handed on.
 *
 * A usual segment (wire/packet_fast.h) of an existing connection takes the fast path, rx_fast, which fills in no
 * un_packet. When it is what the connection expects (tcp/input_fast.h), one function takes it to the queue. */
#include "stack/input.h"

#include "base/bytes.h"
#include "stack/arrival.h"
#include "stack/complain.h"
#include "stack/discovery.h"
#include "stack/fragment.h"
#include "stack/handover.h"
#include "stack/icmp_input.h"
#include "stack/listen.h"
#include "stack/lists.h"
#include "stack/local.h"
#include "stack/process.h"
#include "stack/udp_datagrams.h"
#include "tcp/input_fast.h"
#include "wire/packet_fast.h"
#include "wire/udp.h"

#define UN_TCP_SEQ_OFFSET 4u

static const uint8_t *own_mac(const struct un_stack *stack)
{
    return stack->device->capabilities.mac;
}

/* Ours, or a group. */
static bool is_station(const struct un_stack *stack, const uint8_t *mac)
{
    return memcmp(mac, own_mac(stack), UN_MAC_BYTES) == 0 || (mac[0] & 1);
}

static enum un_checksum_state checksum_state(const struct un_stack *stack, uint16_t flags)
{
    if (flags & UN_RX_CHECKSUM_GOOD)
        return UN_CHECKSUM_GOOD;
    return stack->config->accept_partial_checksum ? UN_CHECKSUM_PARTIAL : UN_CHECKSUM_UNKNOWN;
}

static bool is_checksum_good(const struct un_stack *stack, const struct un_arrival *arrival)
{
    return un_packet_checksum_good(&arrival->packet, arrival->pieces, arrival->count,
                                   checksum_state(stack, arrival->rx.flags));
}

/* ---- TCP ---- */

/* A segment for a connection that is over, or nearly. false: it is for nobody. */
static bool take_for_old(struct un_stack *stack, struct un_arrival *arrival, struct un_tcb *tcb,
                         const struct un_seg *seg)
{
    if (tcb->state == UN_TCP_DEAD) {
        un_stack_conn_leave_flows(stack, tcb);
        return false;
    }
    if (!un_listen_reuse(stack, arrival, tcb, seg))
        un_stack_process(stack, arrival, tcb, seg);
    return true;
}

static enum un_drop rx_tcp(struct un_stack *stack, struct un_arrival *arrival)
{
    const struct un_packet *packet = &arrival->packet;
    struct un_seg seg;
    enum un_drop why = un_seg_parse(&seg, un_arrival_transport(arrival), un_arrival_contiguous(arrival),
                                    packet->transport_length);
    if (why)
        return why;
    if (!is_checksum_good(stack, arrival))
        return UN_DROP_tcp_checksum;
    seg.ecn = packet->ecn;
    uint32_t slot =
        un_stack_find_flow(stack, &packet->source, seg.source_port, seg.destination_port, arrival->local);
    if (__builtin_expect(slot != UN_NONE, 1)) {
        struct un_tcb *tcb = &stack->tcp.tcbs[slot];
        if (__builtin_expect(!(tcb->state & (UN_TCP_TIME_WAIT | UN_TCP_DEAD)), 1)) {
            un_stack_process(stack, arrival, tcb, &seg);
            return UN_DROP_NONE;
        }
        if (take_for_old(stack, arrival, tcb, &seg))
            return UN_DROP_NONE;
    }
    stack->tcp.counters->in_segments++;
    if (!un_can_be_source(stack, &packet->source))
        return UN_DROP_ip_source;
    if (un_hand_to_owner(stack, arrival, &packet->source, seg.source_port, &packet->destination, seg.destination_port))
        return UN_DROP_NONE;
    return un_listen_input(stack, arrival, &seg);
}

/* ---- the rest ---- */

static enum un_drop rx_udp(struct un_stack *stack, struct un_arrival *arrival)
{
    if (!un_can_be_source(stack, &arrival->packet.source))
        return UN_DROP_ip_source;
    return is_checksum_good(stack, arrival) ? un_udp_input(stack, arrival) : UN_DROP_udp_checksum;
}

static enum un_drop rx_icmp(struct un_stack *stack, struct un_arrival *arrival)
{
    const struct un_packet *packet = &arrival->packet;
    bool is_v6 = packet->protocol == UN_PROTOCOL_ICMPV6;
    if (is_v6 == un_ip_is_v4(&packet->destination))
        return UN_DROP_ip_protocol;
    bool is_discovery = is_v6 && (un_ip_is_any(&packet->source) || un_stack_has_address(stack, &packet->source));
    if (!un_can_be_source(stack, &packet->source) && !is_discovery) /* if it is: icmp_input.c */
        return UN_DROP_ip_source;
    return is_checksum_good(stack, arrival) ? un_icmp_input(stack, arrival) : UN_DROP_icmp_checksum;
}

static enum un_drop rx_transport(struct un_stack *stack, struct un_arrival *arrival)
{
    if (__builtin_expect(arrival->packet.protocol == UN_PROTOCOL_TCP, 1))
        return arrival->is_unicast ? rx_tcp(stack, arrival) : UN_DROP_ip_destination;
    switch (arrival->packet.protocol) {
    case UN_PROTOCOL_UDP:
        return rx_udp(stack, arrival);
    case UN_PROTOCOL_ICMP:
    case UN_PROTOCOL_ICMPV6:
        return rx_icmp(stack, arrival);
    default:
        if (un_is_shared(stack))
            return UN_DROP_left_to_kernel;
        if (arrival->is_unicast && un_can_be_source(stack, &arrival->packet.source))
            un_icmp_refuse(stack, arrival, UN_ICMP_UNREACHABLE_PROTOCOL);
        return UN_DROP_ip_protocol;
    }
}

/* One of our addresses, or a group that we are in. */
static bool is_for_us(const struct un_stack *stack, struct un_arrival *arrival)
{
    const struct un_ip *destination = &arrival->packet.destination;
    int local = un_address_find(stack, destination);
    /* What came in an Ethernet broadcast is for all, whatever its IP address says (RFC 1122 section 3.3.6). */
    arrival->is_unicast = local >= 0 && !(arrival->packet.destination_mac[0] & 1);
    arrival->local = (uint16_t)local;
    if (local >= 0)
        return arrival->is_unicast;
    return un_ip_is_multicast(destination) ? un_address_is_group(stack, destination)
                                           : un_address_is_broadcast(stack, destination);
}

/* The last one of a datagram: what was put together takes the way in of a packet that came whole. */
static enum un_drop rx_fragment(struct un_stack *stack, struct un_arrival *arrival)
{
    struct un_rx whole;
    enum un_drop why = un_fragment_input(stack, arrival, &whole);
    if (whole.frame != UN_NONE)
        un_stack_rx(stack, &whole, 1, false);
    return why;
}

static enum un_drop rx_packet(struct un_stack *stack, struct un_arrival *arrival)
{
    const struct un_packet *packet = &arrival->packet;
    if (!is_station(stack, packet->destination_mac))
        return UN_DROP_foreign_mac;
    if (packet->ether_type == UN_ETHER_ARP)
        return un_is_shared(stack) ? UN_DROP_left_to_kernel : un_arp_input(stack, arrival);
    if (!is_for_us(stack, arrival))
        return UN_DROP_ip_destination;
    if (packet->is_fragment)
        return rx_fragment(stack, arrival);
    return rx_transport(stack, arrival);
}

/* The parser refused it; its sender is to hear why, if it was for us. */
static void complain(struct un_stack *stack, struct un_arrival *arrival)
{
    const struct un_packet *packet = &arrival->packet;
    if (is_station(stack, packet->destination_mac) && is_for_us(stack, arrival) &&
        un_can_be_source(stack, &packet->source))
        un_icmp_complain(stack, arrival);
}

static inline void add_piece(const struct un_pool *pool, struct un_arrival *arrival, uint32_t at)
{
    const struct un_frame *frame = &pool->frames[at];
    arrival->pieces[arrival->count++] = (struct iovec){un_pool_bytes(pool, at) + frame->offset, frame->length};
}

/* false: more pieces than any packet has. */
static inline bool gather(const struct un_stack *stack, struct un_arrival *arrival)
{
    const struct un_pool *pool = &stack->tcp.pool;
    arrival->count = 0;
    add_piece(pool, arrival, arrival->rx.frame);
    for (uint32_t at = pool->frames[arrival->rx.frame].next; at != UN_NONE; at = pool->frames[at].next) {
        if (arrival->count == (int)UN_TX_PIECES_MAX)
            return false;
        add_piece(pool, arrival, at);
    }
    return true;
}

static UN_NEVER_INLINE void rx_slow(struct un_stack *stack, const struct un_rx *packet, bool is_foreign)
{
    struct un_arrival arrival;
    arrival.rx = *packet;
    arrival.is_foreign = is_foreign;
    arrival.packet.problem = UN_PROBLEM_NONE;
    enum un_drop why = UN_DROP_ip_malformed;
    if (gather(stack, &arrival))
        why = un_packet_parse(&arrival.packet, arrival.pieces, arrival.count);
    if (why == UN_DROP_NONE)
        why = rx_packet(stack, &arrival);
    else if (arrival.packet.problem)
        complain(stack, &arrival);
    if (why)
        un_stack_drop(stack, why);
    if (arrival.rx.frame != UN_NONE)
        un_pool_drop_chain(&stack->tcp.pool, arrival.rx.frame);
}

static inline int find_local(struct un_stack *stack, const struct un_ip *ip)
{
    if (__builtin_expect(un_ip_equal(&stack->own->addresses[stack->local_last].ip, ip), 1))
        return stack->local_last;
    int local = un_address_find(stack, ip);
    if (local >= 0)
        stack->local_last = (uint16_t)local;
    return local;
}

static inline uint32_t find_flow_fast(struct un_stack *stack, const struct un_packet_fast *plain)
{
    int local = find_local(stack, &plain->destination);
    if (local < 0)
        return UN_NONE;
    return un_stack_find_flow(stack, &plain->source, plain->peer_port, plain->local_port, (uint16_t)local);
}

/* The frame holds this much payload behind so many bytes of headers; returns it, UN_NONE when there is none. */
static inline uint32_t keep_payload(struct un_stack *stack, uint32_t index, uint32_t headers, uint32_t payload)
{
    struct un_frame *frame = &stack->tcp.pool.frames[index];
    frame->offset = (uint16_t)(frame->offset + headers);
    frame->length = (uint16_t)payload;
    if (payload > 0)
        return index;
    un_pool_drop(&stack->tcp.pool, index);
    return UN_NONE;
}

UN_ALWAYS_INLINE void process_fast(struct un_stack *stack, uint32_t slot, const struct un_seg *seg, uint32_t payload)
{
    struct un_tcb *tcb = &stack->tcp.tcbs[slot];
    uint32_t acked = tcb->snd_una;
    un_stack_busy_part(stack, slot, UN_KEEP_HOT);
    enum un_drop drop = un_tcp_input_fast(&stack->tcp, tcb, seg, payload, false);
    if (seg->length > 0 && drop == UN_DROP_NONE && !(tcb->events & UN_TCP_EVENT_READABLE))
        un_stack_conn_readable(stack, tcb);
    un_stack_idle(stack);
    if (tcb->snd_una != acked)
        un_neighbour_confirm(stack, tcb);
}

/* What is looked at for every packet of some stacks alone. false: it is to take the slow path. */
static UN_NEVER_INLINE bool rx_special(struct un_stack *stack, uint32_t slot, const uint8_t *at, uint32_t network)
{
    uint32_t seq = un_get32(at + UN_ETH_BYTES + network + UN_TCP_SEQ_OFFSET);
    if (un_is_shared(stack))
        un_flow_heard(stack, &stack->tcp.tcbs[slot], at + UN_MAC_BYTES, seq);
    return !stack->tcp.is_slow;
}

/* A frame at `at` that seems to be plain, of the kind that network and header say; false: it is not, or for no
 * connection (or one that is over, or nearly), and nothing was done. */
UN_ALWAYS_INLINE bool rx_fast_as(struct un_stack *stack, const struct un_rx *packet, const uint8_t *at,
                                 uint32_t network, uint32_t header)
{
    struct un_packet_fast plain;
    struct un_seg seg;
    uint32_t length = stack->tcp.pool.frames[packet->frame].length, headers = un_packet_fast_bytes(network, header);
    if (!un_packet_fast_check(&plain, at, length, checksum_state(stack, packet->flags), network, header))
        return false;
    uint32_t slot = find_flow_fast(stack, &plain);
    if (__builtin_expect(slot == UN_NONE, 0))
        return false;
    if (__builtin_expect(stack->is_rx_special, 0) && !rx_special(stack, slot, at, network))
        return false;
    const struct un_tcb *tcb = &stack->tcp.tcbs[slot];
    un_packet_fast_read(&seg, &plain, at, network, header);
    if (__builtin_expect(un_tcp_input_is_fast(tcb, &seg), 1)) {
        process_fast(stack, slot, &seg, keep_payload(stack, packet->frame, headers, seg.length));
        return true;
    }
    if (tcb->state & (UN_TCP_TIME_WAIT | UN_TCP_DEAD))
        return false;
    const struct un_seg whole = seg; /* the other may live in registers */
    un_stack_process_slot(stack, slot, &whole, keep_payload(stack, packet->frame, headers, seg.length));
    return true;
}

static UN_NEVER_INLINE bool rx_fast_rare(struct un_stack *stack, const struct un_rx *packet, const uint8_t *at)
{
    uint32_t network, header;
    return un_packet_fast_kind(at, stack->tcp.pool.frames[packet->frame].length, own_mac(stack), &network, &header) &&
           rx_fast_as(stack, packet, at, network, header);
}

/* IPv4 and a timestamp: most segments have them. */
static inline bool rx_fast(struct un_stack *stack, const struct un_rx *packet)
{
    const struct un_pool *pool = &stack->tcp.pool;
    const struct un_frame *frame = &pool->frames[packet->frame];
    const uint8_t *at = un_pool_bytes(pool, packet->frame) + frame->offset;
    if (frame->next != UN_NONE)
        return false;
    if (__builtin_expect(frame->length >= un_packet_fast_bytes(UN_IPV4_BYTES, UN_TCP_HEADER_TIMESTAMP) &&
                             un_packet_fast_is_mac(at, own_mac(stack)) && un_packet_fast_network(at) == UN_IPV4_BYTES &&
                             at[UN_ETH_BYTES + UN_IPV4_BYTES + 12] == UN_TCP_HEADER_TIMESTAMP << 2,
                         1))
        return rx_fast_as(stack, packet, at, UN_IPV4_BYTES, UN_TCP_HEADER_TIMESTAMP);
    return rx_fast_rare(stack, packet, at);
}

void un_stack_rx(struct un_stack *stack, const struct un_rx *packets, uint32_t count, bool is_foreign)
{
    for (uint32_t i = 0; i < count; i++) {
        if (i + 1 < count)
            __builtin_prefetch(un_pool_bytes(&stack->tcp.pool, packets[i + 1].frame) + 64);
        if (!rx_fast(stack, &packets[i]))
            rx_slow(stack, &packets[i], is_foreign);
    }
}
