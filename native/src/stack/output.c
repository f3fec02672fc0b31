/* From a segment or datagram to the device: IP and Ethernet headers, checksums, the next hop.
 *
 * The headers are written on the C stack and lent to the device; payload is named by its frames and never copied,
 * except for packets of no connection whose next hop is not known yet. A connection remembers its next hop by the stamp
 * of the neighbour, which is good as long as the neighbour says so (neighbour.c): the usual segment costs one
 * comparison of stamps and one of times. */
#include <errno.h>

#include "base/bytes.h"
#include "stack/arena.h"
#include "tcp/output_fast.h"
#include "wire/packet_fast.h"

#define UN_HOP_LIMIT 64u         /* RFC 1700, and what everybody sends */
#define UN_ROOM_ASKED 16u        /* packets: one question to the device for so many */
#define UN_DEVICE_RETRY_NS UN_MS_NS /* device.h: look for room again after a millisecond */
#define UN_TCP_CHECKSUM_OFFSET 16u

/* A packet that is being put together. */
struct packet {
    uint8_t header[UN_HEADERS_MAX];
    uint32_t header_length;
    struct un_piece pieces[UN_TX_PIECES_MAX];
    struct un_tx tx;
};

bool un_stack_ask_room(struct un_stack *stack)
{
    stack->tx_room = stack->device->operations->reserve(stack->device, UN_ROOM_ASKED);
    if (stack->tx_room == 0)
        stack->own->retry_ns = stack->tcp.now_ns + UN_DEVICE_RETRY_NS;
    return stack->tx_room > 0;
}

static inline void submit(struct un_stack *stack, const struct un_tx *packet)
{
    stack->device->operations->submit(stack->device, packet, 1);
    stack->tx_room--;
    stack->has_submitted = true;
    stack->counters->tx_packets++;
}

int un_stack_transmit(struct un_stack *stack, const struct un_tx *packet)
{
    if (!un_stack_has_room(stack))
        return -EAGAIN;
    submit(stack, packet);
    return 0;
}

void un_stack_flush(struct un_stack *stack)
{
    stack->tx_room = 0; /* what the device said holds for this turn */
    if (!stack->has_submitted)
        return;
    stack->has_submitted = false;
    stack->device->operations->flush(stack->device);
}

/* Sum of the payload, which begins at an even offset of the packet. */
static uint64_t sum_pieces(const struct un_piece *pieces, int count)
{
    uint64_t sum = 0;
    bool is_odd = false;
    for (int i = 0; i < count; i++) {
        uint64_t part = un_sum(pieces[i].bytes, pieces[i].length);
        sum += is_odd ? un_sum_odd(part) : part;
        is_odd ^= pieces[i].length & 1;
    }
    return sum;
}

static uint32_t length_of(const struct un_piece *pieces, int count)
{
    uint32_t length = 0;
    for (int i = 0; i < count; i++)
        length += pieces[i].length;
    return length;
}

/* The gather list: headers first. */
static inline void gather(struct packet *packet, const struct un_piece *pieces, int count, uint32_t payload)
{
    un_assert(count < (int)UN_TX_PIECES_MAX);
    packet->pieces[0] = (struct un_piece){packet->header, packet->header_length, UN_NONE};
    if (count > 0)
        packet->pieces[1] = pieces[0]; /* mostly there is one: no call of memcpy for it */
    if (__builtin_expect(count > 1, 0))
        memcpy(packet->pieces + 2, pieces + 1, (size_t)(count - 1) * sizeof *pieces);
    packet->tx.pieces = packet->pieces;
    packet->tx.count = (uint16_t)(count + 1);
    packet->tx.header_length = (uint16_t)packet->header_length;
    packet->tx.length = packet->header_length + payload;
}

/* ---- segments of connections ---- */

/* -ENOBUFS: the neighbours that share its places are all being asked for. */
static int find_next_hop(struct un_stack *stack, const struct un_ip *destination, struct un_neighbour **neighbour)
{
    struct un_ip next_hop;
    int result = un_route_find(stack, destination, &next_hop);
    if (result)
        return result;
    *neighbour = un_neighbour_make(stack, &next_hop);
    if (!*neighbour)
        return -ENOBUFS;
    (*neighbour)->is_router |= !un_ip_equal(&next_hop, destination);
    return un_neighbour_use(stack, *neighbour);
}

static void count_lost(struct un_stack *stack, int result, const struct un_neighbour *neighbour)
{
    bool has_route = neighbour || result == -ENOBUFS;
    un_stack_drop(stack, has_route ? UN_DROP_no_neighbour : UN_DROP_no_route);
}

/* The neighbour that the connection's packets go to; or the result of emit in *result. One that did not answer loses
 * the segment, as a wire does, so that the connection's own timers decide how long to go on. */
static struct un_neighbour *slow_next_hop(struct un_stack *stack, struct un_tcb *tcb, int *result)
{
    struct un_neighbour *neighbour = NULL;
    *result = find_next_hop(stack, &tcb->peer, &neighbour);
    if (neighbour)
        tcb->next_hop = neighbour->stamp;
    if (*result == 0)
        return neighbour;
    if (*result == -EAGAIN) {
        un_stack_conn_wait(stack, tcb, neighbour);
        return NULL;
    }
    if (*result == -EHOSTUNREACH)
        tcb->flags |= UN_TCB_NO_NEIGHBOUR;
    count_lost(stack, *result, neighbour);
    *result = 0;
    return NULL;
}

/* Without another look; NULL: one is needed. */
static inline struct un_neighbour *good_next_hop(struct un_stack *stack, const struct un_tcb *tcb)
{
    struct un_neighbour *neighbour = &stack->neighbours[tcb->next_hop & (stack->config->neighbours - 1)];
    bool is_good = neighbour->stamp == tcb->next_hop && stack->tcp.now_ns < neighbour->good_until_ns;
    return __builtin_expect(is_good, 1) ? neighbour : NULL;
}

static inline struct un_neighbour *next_hop(struct un_stack *stack, struct un_tcb *tcb, int *result)
{
    struct un_neighbour *neighbour = good_next_hop(stack, tcb);
    return neighbour ? neighbour : slow_next_hop(stack, tcb, result);
}

/* What is known of a segment before its packet is put together: constants for most of them. */
struct kind {
    bool is_v4;
    bool is_stamped; /* a timestamp, and no other option */
    bool is_single;  /* at most one piece of payload, of at most one segment */
};

/* The TCP header at `at`; its sum in *sum. */
UN_ALWAYS_INLINE uint32_t put_segment(uint8_t *at, const struct un_tcb *tcb, struct un_seg *seg, struct kind kind,
                                      uint64_t *sum)
{
    uint32_t length = UN_TCP_HEADER_TIMESTAMP;
    if (kind.is_stamped) {
        *sum = un_packet_fast_emit(at, seg, tcb->local_port, tcb->peer_port, UN_TCP_HEADER_TIMESTAMP);
        return length;
    }
    seg->source_port = tcb->local_port;
    seg->destination_port = tcb->peer_port;
    length = un_seg_emit(seg, at);
    *sum = un_sum(at, length);
    return length;
}

/* The IP header of `length` bytes of TCP. Returns the sum of the pseudo-header. */
static inline uint64_t put_ipv4(struct un_stack *stack, const struct un_tcb *tcb, uint8_t *at, uint8_t ecn,
                                uint32_t length)
{
    const struct un_packet_fast_ipv4 ip = {
        .source = un_ip_v4_word(&stack->own->addresses[tcb->local].ip),
        .destination = un_ip_v4_word(&tcb->peer),
        .total = UN_IPV4_BYTES + length,
        .identification = stack->own->ip_identification++,
        .tos = (uint8_t)((tcb->tos & ~3u) | ecn),
        .hop_limit = UN_HOP_LIMIT,
        .protocol = UN_PROTOCOL_TCP,
        .dont_fragment = true,
    };
    un_packet_fast_ipv4_emit(at, &ip);
    return un_sum_pseudo_v4(ip.source, ip.destination, UN_PROTOCOL_TCP, length);
}

static uint64_t put_ipv6(struct un_stack *stack, const struct un_tcb *tcb, uint8_t *at, uint8_t ecn, uint32_t length)
{
    const struct un_ip_header ip = {
        .source = stack->own->addresses[tcb->local].ip,
        .destination = tcb->peer,
        .protocol = UN_PROTOCOL_TCP,
        .hop_limit = UN_HOP_LIMIT,
        .ecn = ecn,
        .dscp = tcb->tos >> 2,
        .payload_length = length,
    };
    un_ip_emit(at, &ip);
    return un_sum_pseudo(&ip.source, &ip.destination, UN_PROTOCOL_TCP, length);
}

/* Everything but the payload; there is room for it, and the next hop is known. */
UN_ALWAYS_INLINE void compose(struct un_stack *stack, const struct un_tcb *tcb, const struct un_neighbour *neighbour,
                              struct un_seg *seg, struct packet *packet, const struct un_piece *pieces, int count,
                              uint32_t segment_bytes, struct kind kind)
{
    /* by the device: the field holds the pseudo-header's sum */
    bool is_completed = stack->device->capabilities.tx_checksum;
    uint32_t transport = UN_ETH_BYTES + (kind.is_v4 ? UN_IPV4_BYTES : UN_IPV6_BYTES);
    uint8_t *ip = packet->header + UN_ETH_BYTES, *at = packet->header + transport;
    uint64_t sum;
    memcpy(packet->header, neighbour->ethernet, UN_ETH_BYTES);
    uint32_t header_length = put_segment(at, tcb, seg, kind, &sum), length = header_length + seg->length;
    uint64_t pseudo =
        kind.is_v4 ? put_ipv4(stack, tcb, ip, seg->ecn, length) : put_ipv6(stack, tcb, ip, seg->ecn, length);
    if (is_completed)
        sum = pseudo;
    else if (!kind.is_single)
        sum += pseudo + sum_pieces(pieces, count);
    else
        sum = count > 0 ? un_sum_more(sum + pseudo, pieces->bytes, pieces->length) : sum + pseudo;
    uint16_t field = is_completed ? un_sum_fold(sum) : un_checksum(sum);
    memcpy(at + UN_TCP_CHECKSUM_OFFSET, &field, sizeof field);
    packet->header_length = transport + header_length;
    packet->tx.flags = (uint16_t)((is_completed ? UN_TX_CHECKSUM : 0) | (segment_bytes ? UN_TX_SEGMENT : 0) |
                                  (kind.is_v4 ? 0 : UN_TX_IPV6));
    packet->tx.segment_bytes = (uint16_t)segment_bytes;
    packet->tx.checksum_start = (uint16_t)transport;
    packet->tx.checksum_offset = UN_TCP_CHECKSUM_OFFSET;
    gather(packet, pieces, count, seg->length);
    submit(stack, &packet->tx);
}

static UN_NEVER_INLINE void send_any(struct un_stack *stack, const struct un_tcb *tcb,
                                     const struct un_neighbour *neighbour, struct un_seg *seg,
                                     const struct un_piece *pieces, int count, uint32_t segment_bytes)
{
    struct packet packet;
    compose(stack, tcb, neighbour, seg, &packet, pieces, count, segment_bytes,
            (struct kind){.is_v4 = un_ip_is_v4(&tcb->peer)});
}

int un_stack_emit(struct un_tcp *tcp, struct un_tcb *tcb, struct un_seg *seg, const struct un_piece *pieces, int count,
                  uint32_t segment_bytes)
{
    struct un_stack *stack = un_stack_of(tcp);
    int result = 0;
    const struct un_neighbour *neighbour = next_hop(stack, tcb, &result);
    if (!neighbour)
        return result;
    if (!un_stack_has_room(stack)) {
        un_stack_conn_list_output(stack, tcb);
        return -EAGAIN;
    }
    if (__builtin_expect(!un_ip_is_v4(&tcb->peer) || seg->options != UN_SEG_TIMESTAMP || seg->sack_count > 0 ||
                             count > 1 || segment_bytes > 0 || tcp->is_slow,
                         0)) {
        send_any(stack, tcb, neighbour, seg, pieces, count, segment_bytes);
        return 0;
    }
    struct packet packet;
    compose(stack, tcb, neighbour, seg, &packet, pieces, count, 0,
            (struct kind){.is_v4 = true, .is_stamped = true, .is_single = true});
    return 0;
}

bool un_stack_output_fast(struct un_stack *stack, struct un_tcb *tcb)
{
    struct un_tcp *tcp = &stack->tcp;
    uint32_t length = un_tcp_output_fast_length(tcp, tcb);
    if (length == 0 || !un_ip_is_v4(&tcb->peer) || !(tcb->flags & UN_TCB_TIMESTAMP))
        return false;
    const struct un_neighbour *neighbour = good_next_hop(stack, tcb);
    if (!neighbour || !un_stack_has_room(stack))
        return false;
    struct un_seg seg;
    struct un_piece piece;
    struct packet packet;
    un_tcp_output_fast_segment(tcp, tcb, length, &seg, &piece);
    compose(stack, tcb, neighbour, &seg, &packet, &piece, 1, 0,
            (struct kind){.is_v4 = true, .is_stamped = true, .is_single = true});
    un_tcp_output_fast_sent(tcp, tcb, &seg);
    return true;
}

/* ---- packets of no connection ---- */

uint16_t un_stack_checksum(const struct un_ip_header *ip, uint8_t protocol, const struct un_piece *pieces, int count)
{
    uint64_t sum = sum_pieces(pieces, count);
    if (protocol != UN_PROTOCOL_ICMP)
        sum += un_sum_pseudo(&ip->source, &ip->destination, protocol, length_of(pieces, count));
    uint16_t field = un_checksum(sum);
    return field == 0 && protocol == UN_PROTOCOL_UDP ? 0xffff : field; /* RFC 768: zero says that there is none */
}

/* The transport header, whose checksum is always computed here, and whatever stands in front of it. */
static void put_transport(const struct un_datagram *datagram, uint8_t *at, struct packet *packet)
{
    uint32_t before = datagram->extension_length;
    uint8_t protocol = before ? at[0] : datagram->ip.protocol;
    packet->pieces[0] = (struct un_piece){at + before, datagram->header_length - before, UN_NONE};
    if (datagram->count > 0)
        memcpy(packet->pieces + 1, datagram->pieces, (size_t)datagram->count * sizeof *datagram->pieces);
    uint16_t field = un_stack_checksum(&datagram->ip, protocol, packet->pieces, datagram->count + 1);
    memcpy(at + before + datagram->checksum_offset, &field, sizeof field);
}

/* Its place in the whole, which un_ipv4_emit knows nothing of. */
static void put_fragment_word(uint8_t *at, uint16_t word)
{
    uint16_t zero = 0;
    un_put16(at + 6, word);
    memcpy(at + 10, &zero, sizeof zero);
    uint16_t field = un_checksum(un_sum(at, UN_IPV4_BYTES));
    memcpy(at + 10, &field, sizeof field);
}

/* Everything but the Ethernet header. */
static void build(struct un_stack *stack, struct un_datagram *datagram, struct packet *packet)
{
    struct un_ip_header *ip = &datagram->ip;
    uint32_t payload = length_of(datagram->pieces, datagram->count);
    bool is_v4 = un_ip_is_v4(&ip->destination);
    ip->payload_length = datagram->header_length + payload;
    ip->dont_fragment = !datagram->is_fragment;
    if (!datagram->is_fragment)
        ip->identification = stack->own->ip_identification++;
    if (ip->hop_limit == 0)
        ip->hop_limit = UN_HOP_LIMIT;
    uint8_t *network = packet->header + UN_ETH_BYTES, *at = network + un_ip_emit(network, ip);
    memcpy(at, datagram->header, datagram->header_length);
    if (!datagram->is_fragment)
        put_transport(datagram, at, packet);
    else if (is_v4)
        put_fragment_word(network, datagram->fragment_word);
    packet->header_length = (uint32_t)(at - packet->header) + datagram->header_length;
    packet->tx = (struct un_tx){.flags = is_v4 ? 0 : UN_TX_IPV6,
                                .checksum_start = (uint16_t)(at - packet->header),
                                .checksum_offset = (uint16_t)datagram->checksum_offset};
    gather(packet, datagram->pieces, datagram->count, payload);
}

int un_stack_send_to(struct un_stack *stack, struct un_datagram *datagram, const uint8_t *mac)
{
    struct packet packet;
    uint16_t type = un_ip_is_v4(&datagram->ip.destination) ? UN_ETHER_IPV4 : UN_ETHER_IPV6;
    un_eth_emit(packet.header, mac, stack->device->capabilities.mac, type);
    build(stack, datagram, &packet);
    return un_stack_transmit(stack, &packet.tx);
}

/* RFC 1112 section 6.4, RFC 2464 section 7. */
static void group_mac(const struct un_ip *ip, uint8_t *mac)
{
    if (!un_ip_is_v4(ip)) {
        memcpy(mac, "\x33\x33", 2);
        memcpy(mac + 2, ip->bytes + 12, 4);
    } else if (un_ip_is_multicast(ip)) {
        memcpy(mac, "\x01\x00\x5e", 3);
        mac[3] = ip->bytes[13] & 0x7f;
        memcpy(mac + 4, ip->bytes + 14, 2);
    } else {
        memset(mac, 0xff, UN_MAC_BYTES);
    }
}

int un_stack_send(struct un_stack *stack, struct un_datagram *datagram)
{
    const struct un_ip *destination = &datagram->ip.destination;
    if (un_ip_is_multicast(destination) || un_address_is_broadcast(stack, destination)) {
        uint8_t mac[UN_MAC_BYTES];
        group_mac(destination, mac);
        return un_stack_send_to(stack, datagram, mac);
    }
    struct un_neighbour *neighbour = NULL;
    int result = find_next_hop(stack, destination, &neighbour);
    if (result == 0)
        return un_stack_send_to(stack, datagram, neighbour->ethernet);
    if (result == -EAGAIN) {
        struct packet packet;
        build(stack, datagram, &packet);
        un_waiting_add(stack, neighbour, packet.pieces, packet.tx.count);
        return 0;
    }
    count_lost(stack, result, neighbour);
    return result;
}

void un_stack_send_segment(struct un_stack *stack, const struct un_ip *local, const struct un_ip *peer,
                           const struct un_seg *seg)
{
    uint8_t header[UN_TCP_HEADER_MAX];
    struct un_datagram datagram = {
        .ip = {.source = *local, .destination = *peer, .protocol = UN_PROTOCOL_TCP, .ecn = UN_ECN_NONE},
        .header = header,
        .header_length = un_seg_emit(seg, header),
        .checksum_offset = UN_TCP_CHECKSUM_OFFSET,
    };
    if (un_stack_send(stack, &datagram) == -EAGAIN)
        un_stack_drop(stack, UN_DROP_device_full);
}
