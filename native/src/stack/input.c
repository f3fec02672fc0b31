/* From a frame of the device to whoever it is for.
 *
 * Parse, find our address, check the transport checksum, find the connection. A packet that no connection of this shard
 * takes may be another shard's (P6): nothing is answered before its owner was looked for. Packets that another shard
 * gave to us are never handed on.
 *
 * The usual segment (wire/packet_fast.h) of a connection that is there takes a short way, rx_fast, on which no
 * un_packet is filled in; when it is what the connection expects (tcp/input_fast.h), the way to its queue is one
 * function. */
#include "stack/arena.h"
#include "stack/steering.h"
#include "tcp/input_fast.h"
#include "wire/packet_fast.h"
#include "wire/udp.h"

static const uint8_t *own_mac(const struct un_stack *stack)
{
    return stack->device->capabilities.mac;
}

/* Ours, or a group. */
static bool is_station(const struct un_stack *stack, const uint8_t *mac)
{
    return memcmp(mac, own_mac(stack), UN_MAC_BYTES) == 0 || (mac[0] & 1);
}

/* RFC 1122 section 3.2.1.3, RFC 4291: what cannot be where a packet comes from. */
bool un_can_be_source(const struct un_stack *stack, const struct un_ip *ip)
{
    return !un_ip_is_any(ip) && !un_ip_is_multicast(ip) && !un_ip_is_loopback(ip) &&
           !un_address_is_broadcast(stack, ip) && un_address_find(stack, ip) < 0;
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

/* ---- between shards ---- */

uint32_t un_flow_owner(const struct un_stack *stack, const struct un_ip *peer, uint16_t peer_port,
                       const struct un_ip *local, uint16_t local_port)
{
    return un_steering_shard(un_steering_hash(peer, local, peer_port, local_port), stack->shards.shards);
}

void un_hand_over(struct un_stack *stack, const struct un_arrival *arrival, uint32_t shard)
{
    if (arrival->is_foreign || stack->shards.shards == 1 || !stack->shards.hand_over)
        return;
    stack->counters->handed_over++;
    stack->shards.hand_over(stack->shards.context, shard, &arrival->rx);
}

bool un_hand_to_owner(struct un_stack *stack, const struct un_arrival *arrival, const struct un_ip *peer,
                      uint16_t peer_port, const struct un_ip *local, uint16_t local_port)
{
    if (arrival->is_foreign || stack->shards.shards == 1)
        return false;
    uint32_t owner = un_flow_owner(stack, peer, peer_port, local, local_port);
    if (owner == stack->shards.shard)
        return false;
    un_hand_over(stack, arrival, owner);
    return true;
}

/* ---- payload ---- */

/* Make the chain hold payload alone: `skip` bytes in front go, so does what the Ethernet padding put behind it. Frames
 * that are left empty are dropped. Returns the chain, UN_NONE when length is 0. */
static uint32_t trim(struct un_stack *stack, uint32_t head, uint32_t skip, uint32_t length)
{
    struct un_pool *pool = &stack->tcp.pool;
    uint32_t first = UN_NONE;
    uint32_t *link = &first;
    while (head != UN_NONE) {
        struct un_frame *frame = &pool->frames[head];
        uint32_t next = frame->next;
        uint32_t cut = skip < frame->length ? skip : frame->length;
        uint32_t keep = frame->length - cut < length ? frame->length - cut : length;
        frame->offset = (uint16_t)(frame->offset + cut);
        frame->length = (uint16_t)keep;
        frame->next = UN_NONE;
        skip -= cut;
        length -= keep;
        if (keep > 0) {
            *link = head;
            link = &frame->next;
        } else {
            un_pool_drop(pool, head);
        }
        head = next;
    }
    return first;
}

static inline uint32_t take_payload(struct un_stack *stack, struct un_arrival *arrival, uint32_t header_length)
{
    const struct un_packet *packet = &arrival->packet;
    uint32_t skip = packet->transport + header_length;
    uint32_t length = packet->transport_length - header_length;
    uint32_t head = arrival->rx.frame;
    struct un_frame *frame = &stack->tcp.pool.frames[head];
    arrival->rx.frame = UN_NONE;
    if (length == 0) {
        un_pool_drop_chain(&stack->tcp.pool, head);
        return UN_NONE;
    }
    if (frame->next != UN_NONE || skip >= frame->length)
        return trim(stack, head, skip, length);
    frame->offset = (uint16_t)(frame->offset + skip);
    frame->length = (uint16_t)length;
    return head;
}

uint32_t un_arrival_payload(struct un_stack *stack, struct un_arrival *arrival, uint32_t header_length)
{
    return take_payload(stack, arrival, header_length);
}

/* ---- TCP ---- */

static inline uint32_t find_flow(struct un_stack *stack, const struct un_ip *peer, uint16_t peer_port,
                                 uint16_t local_port, uint16_t local)
{
    uint64_t ends = un_flows_ends(peer_port, local_port, local);
    uint32_t hash = un_flows_hash(&stack->flows_key, peer, ends);
    return un_flows_find(&stack->flows, stack->tcp.tcbs, hash, peer, ends);
}

uint32_t un_flow_find(struct un_stack *stack, const struct un_ip *peer, uint16_t peer_port, uint16_t local_port,
                      uint16_t local)
{
    uint32_t slot = find_flow(stack, peer, peer_port, local_port, local);
    if (slot == UN_NONE || stack->tcp.tcbs[slot].state != UN_TCP_DEAD)
        return slot;
    un_stack_conn_leave_flows(stack, &stack->tcp.tcbs[slot]); /* it is over: its ends are free for another */
    return UN_NONE;
}

/* An ACK of something new proves that the next hop hears us (RFC 4861 section 7.3.1). */
static void confirm_neighbour(struct un_stack *stack, const struct un_tcb *tcb)
{
    struct un_neighbour *neighbour = &stack->neighbours[tcb->next_hop & (stack->config->neighbours - 1)];
    if (neighbour->stamp == tcb->next_hop)
        neighbour->confirmed_ns = stack->tcp.now_ns;
}

static void process(struct un_stack *stack, uint32_t slot, const struct un_seg *seg, uint32_t payload)
{
    struct un_tcb *tcb = &stack->tcp.tcbs[slot];
    uint32_t acked = tcb->snd_una;
    un_stack_busy_slot(stack, slot);
    un_tcp_process(&stack->tcp, tcb, seg, payload);
    un_stack_idle(stack);
    if (tcb->snd_una != acked)
        confirm_neighbour(stack, tcb);
    if (tcb->state == UN_TCP_TIME_WAIT && !(tcb->listed & UN_LISTED_TIME_WAIT))
        un_stack_conn_time_wait(stack, tcb);
}

void un_stack_process(struct un_stack *stack, struct un_arrival *arrival, struct un_tcb *tcb, const struct un_seg *seg)
{
    process(stack, un_stack_slot(stack, tcb), seg, take_payload(stack, arrival, seg->header_length));
}

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
        find_flow(stack, &packet->source, seg.source_port, seg.destination_port, arrival->local);
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
    if (!un_can_be_source(stack, &packet->source) && !is_discovery) /* if it is: icmp.c */
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

static enum un_drop rx_packet(struct un_stack *stack, struct un_arrival *arrival)
{
    const struct un_packet *packet = &arrival->packet;
    if (!is_station(stack, packet->destination_mac))
        return UN_DROP_foreign_mac;
    if (packet->ether_type == UN_ETHER_ARP)
        return un_arp_input(stack, arrival);
    if (!is_for_us(stack, arrival))
        return UN_DROP_ip_destination;
    if (packet->is_fragment)
        return un_fragment_input(stack, arrival);
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
    return find_flow(stack, &plain->source, plain->peer_port, plain->local_port, (uint16_t)local);
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
    un_stack_busy_slot(stack, slot);
    un_tcp_input_fast(&stack->tcp, tcb, seg, payload, false);
    un_stack_idle(stack);
    if (tcb->snd_una != acked)
        confirm_neighbour(stack, tcb);
}

/* A frame at `at` that seems to be plain, of the kind that network and header say; false: it is not, or for no
 * connection (or one that is over, or nearly), and nothing was done. */
UN_ALWAYS_INLINE bool rx_fast_as(struct un_stack *stack, const struct un_rx *packet, const uint8_t *at,
                                 uint32_t network, uint32_t header)
{
    struct un_packet_fast plain;
    struct un_seg seg;
    uint32_t length = stack->tcp.pool.frames[packet->frame].length, headers = un_packet_fast_bytes(network, header);
    if (!un_packet_fast_check(&plain, at, length, packet->flags & UN_RX_CHECKSUM_GOOD, network, header))
        return false;
    uint32_t slot = find_flow_fast(stack, &plain);
    if (__builtin_expect(slot == UN_NONE, 0))
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
    process(stack, slot, &whole, keep_payload(stack, packet->frame, headers, seg.length));
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

void un_stack_rx(struct un_stack *stack, const struct un_rx *packet, bool is_foreign)
{
    if (stack->tcp.is_slow || !rx_fast(stack, packet))
        rx_slow(stack, packet, is_foreign);
}
