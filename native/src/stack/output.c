/* From a segment or datagram to the device: IP and Ethernet headers, checksums, the next hop.
 *
 * The headers are written into the view and lent to the device; payload is named by its frames and never copied, except
 * for packets of no connection whose next hop is not known yet. A segment of a connection is submitted when the change
 * in which it was emitted is over: what a peer has seen is never undone (tcp/keep.h). A reset is kept until then.
 *
 * A connection remembers its next hop by the stamp of the neighbour, which is good as long as the neighbour says so
 * (neighbour.c): the usual segment costs one comparison of stamps and one of times. */
#include "stack/output.h"

#include <errno.h>

#include "base/bytes.h"
#include "stack/farewell.h"
#include "stack/lists.h"
#include "stack/neighbour.h"
#include "stack/packets.h"
#include "stack/route.h"
#include "stack/waiting.h"
#include "tcp/output_fast.h"
#include "wire/packet_fast.h"

#define UN_TCP_CHECKSUM_OFFSET 16u
#define UN_TURN_OUTPUTS 256u /* connections that send in a turn */

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

/* Which one a connection remembers, when it is not to be looked for again; else NULL. */
static struct un_neighbour *told_next_hop(const struct un_stack *stack, uint32_t stamp)
{
    struct un_neighbour *neighbour = &stack->neighbours[stamp & (stack->config->neighbours - 1)];
    return neighbour->stamp == stamp && neighbour->state == UN_NEIGHBOUR_TOLD ? neighbour : NULL;
}

/* The neighbour that the connection's packets go to; or the result of emit in *result. One that did not answer loses
 * the segment, as a wire does, so that the connection's own timers decide how long to go on. */
static struct un_neighbour *slow_next_hop(struct un_stack *stack, struct un_tcb *tcb, int *result)
{
    struct un_neighbour *neighbour = told_next_hop(stack, tcb->next_hop);
    *result = neighbour ? un_neighbour_use(stack, neighbour) : find_next_hop(stack, &tcb->peer, &neighbour);
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
                              struct un_seg *seg, struct un_outgoing_place to, const struct un_piece *pieces, int count,
                              uint32_t segment_bytes, struct kind kind)
{
    /* by the device: the field holds the pseudo-header's sum */
    bool is_completed = stack->device->capabilities.tx_checksum;
    uint32_t transport = UN_ETH_BYTES + (kind.is_v4 ? UN_IPV4_BYTES : UN_IPV6_BYTES);
    uint8_t *ip = to.header + UN_ETH_BYTES, *at = to.header + transport;
    uint64_t sum;
    memcpy(to.header, neighbour->ethernet, UN_ETH_BYTES);
    uint32_t header_length = put_segment(at, tcb, seg, kind, &sum), length = header_length + seg->length;
    uint64_t pseudo =
        kind.is_v4 ? put_ipv4(stack, tcb, ip, seg->ecn, length) : put_ipv6(stack, tcb, ip, seg->ecn, length);
    if (is_completed)
        sum = pseudo;
    else if (!kind.is_single)
        sum += pseudo + un_outgoing_sum(pieces, count);
    else
        sum = count > 0 ? un_sum_more(sum + pseudo, pieces->bytes, pieces->length) : sum + pseudo;
    uint16_t field = is_completed ? un_sum_fold(sum) : un_checksum(sum);
    memcpy(at + UN_TCP_CHECKSUM_OFFSET, &field, sizeof field);
    to.tx->flags = (uint16_t)((is_completed ? UN_TX_CHECKSUM : 0) | (segment_bytes ? UN_TX_SEGMENT : 0) |
                                  (kind.is_v4 ? 0 : UN_TX_IPV6));
    to.tx->segment_bytes = (uint16_t)segment_bytes;
    to.tx->checksum_start = (uint16_t)transport;
    to.tx->checksum_offset = UN_TCP_CHECKSUM_OFFSET;
    un_outgoing_gather(to, transport + header_length, pieces, count, seg->length);
}

static UN_NEVER_INLINE void compose_any(struct un_stack *stack, const struct un_tcb *tcb,
                                        const struct un_neighbour *neighbour, struct un_seg *seg,
                                        const struct un_piece *pieces, int count, uint32_t segment_bytes)
{
    compose(stack, tcb, neighbour, seg, un_outgoing_place(&stack->segment), pieces, count, segment_bytes,
            (struct kind){.is_v4 = un_ip_is_v4(&tcb->peer)});
}

/* A segment that cannot leave now: -EAGAIN has its connection try again. A reset is kept, as its connection is over. */
static int keep_reset(struct un_stack *stack, const struct un_tcb *tcb, const struct un_seg *seg, int result)
{
    bool is_kept = result == -EAGAIN && (seg->flags & UN_TCP_RST) && un_farewell_keep(stack, tcb, seg);
    return is_kept ? 0 : result;
}

int un_stack_emit(struct un_tcp *tcp, struct un_tcb *tcb, struct un_seg *seg, const struct un_piece *pieces, int count,
                  uint32_t segment_bytes)
{
    struct un_stack *stack = un_stack_of(tcp);
    int result = 0;
    un_assert(stack->own->busy != 0 && !stack->is_segment_staged);
    const struct un_neighbour *neighbour = next_hop(stack, tcb, &result);
    if (!neighbour)
        return keep_reset(stack, tcb, seg, result);
    if (!un_stack_has_room(stack)) {
        un_stack_conn_list_output(stack, tcb);
        return keep_reset(stack, tcb, seg, -EAGAIN);
    }
    stack->tx_room--;
    stack->is_staged = stack->is_segment_staged = true;
    if (__builtin_expect(seg->flags & UN_TCP_RST, 0))
        stack->is_reset_kept = un_farewell_has_room(stack) && un_farewell_keep(stack, tcb, seg);
    if (__builtin_expect(!un_ip_is_v4(&tcb->peer) || seg->options != UN_SEG_TIMESTAMP || seg->sack_count > 0 ||
                             count > 1 || segment_bytes > 0 || tcp->is_slow,
                         0)) {
        compose_any(stack, tcb, neighbour, seg, pieces, count, segment_bytes);
        return 0;
    }
    compose(stack, tcb, neighbour, seg, un_outgoing_place(&stack->segment), pieces, count, 0,
            (struct kind){.is_v4 = true, .is_stamped = true, .is_single = true});
    return 0;
}

/* All that the connection has to send is a segment of the usual kind (tcp/output_fast.h; IPv4, a timestamp): it leaves.
 * false: it is not so, or it cannot leave now; nothing was done, and un_tcp_dispatch does it. */
UN_ALWAYS_INLINE bool output_usual(struct un_stack *stack, struct un_tcb *tcb)
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
    un_stack_busy_part(stack, un_stack_slot(stack, tcb), UN_KEEP_HOT);
    un_tcp_output_fast_segment(tcp, tcb, length, &seg, &piece);
    compose(stack, tcb, neighbour, &seg, un_row_place(&stack->row), &piece, 1, 0,
            (struct kind){.is_v4 = true, .is_stamped = true, .is_single = true});
    un_tcp_output_fast_sent(tcp, tcb, &seg);
    un_stack_idle(stack);
    un_row_add(stack);
    return true;
}

/* A connection attempt whose next hop did not answer, or to which no way leads any more: it neither left nor waits. */
static bool is_unreachable(const struct un_tcb *tcb)
{
    return tcb->state == UN_TCP_SYN_SENT && (tcb->flags & UN_TCB_NO_NEIGHBOUR) && !(tcb->listed & UN_LISTED_OUTPUT);
}

static UN_NEVER_INLINE void dispatch(struct un_stack *stack, struct un_tcb *tcb)
{
    un_stack_busy(stack, tcb);
    un_tcp_dispatch(&stack->tcp, tcb);
    if (is_unreachable(tcb))
        un_tcp_end(&stack->tcp, tcb, UN_TCP_REASON_UNREACHABLE);
    un_stack_idle(stack);
}

/* Connections with something to send, each as much as it may. One that finds the device full stays, and ends
 * the round. */
uint32_t un_stack_run_outputs(struct un_stack *stack)
{
    uint32_t done = 0;
    while (done < UN_TURN_OUTPUTS && !stack->own->retry_ns) {
        struct un_tcb *tcb = un_stack_conn_next_output(stack);
        if (!tcb)
            break;
        if (stack->tcp.is_slow || !output_usual(stack, tcb))
            dispatch(stack, tcb);
        done += !stack->own->retry_ns;
    }
    un_row_submit(stack);
    return done;
}

/* ---- packets of no connection ---- */

int un_stack_send(struct un_stack *stack, struct un_datagram *datagram)
{
    const struct un_ip *destination = &datagram->ip.destination;
    if (un_is_group(stack, destination))
        return un_stack_send_group(stack, datagram);
    if (datagram->mac)
        return un_stack_send_to(stack, datagram, datagram->mac);
    struct un_neighbour *neighbour = NULL;
    int result = find_next_hop(stack, destination, &neighbour);
    if (result == 0)
        return un_stack_send_to(stack, datagram, neighbour->ethernet);
    if (result == -EAGAIN) {
        struct un_outgoing packet;
        un_outgoing_build(stack, datagram, &packet);
        un_waiting_add(stack, neighbour, packet.pieces, packet.tx.count);
        return 0;
    }
    count_lost(stack, result, neighbour);
    return result;
}

/* header: room for the segment's. */
static struct un_datagram datagram_of(const struct un_ip *local, const struct un_ip *peer, const struct un_seg *seg,
                                      uint8_t *header)
{
    return (struct un_datagram){
        .ip = {.source = *local, .destination = *peer, .protocol = UN_PROTOCOL_TCP, .ecn = UN_ECN_NONE},
        .header = header,
        .header_length = un_seg_emit(seg, header),
        .checksum_offset = UN_TCP_CHECKSUM_OFFSET,
    };
}

void un_stack_answer(struct un_stack *stack, const struct un_arrival *arrival, const struct un_seg *seg)
{
    uint8_t header[UN_TCP_HEADER_MAX];
    struct un_datagram datagram = datagram_of(&arrival->packet.destination, &arrival->packet.source, seg, header);
    datagram.mac = un_arrival_answer_mac(stack, arrival);
    if (un_stack_send(stack, &datagram) == -EAGAIN)
        un_stack_drop(stack, UN_DROP_device_full);
}

/* ---- resets whose connection is gone ---- */

/* -EAGAIN: the next hop is being asked for, or the device is full. */
static int try_segment(struct un_stack *stack, const struct un_ip *local, const struct un_ip *peer,
                       const struct un_seg *seg, uint32_t next_hop)
{
    uint8_t header[UN_TCP_HEADER_MAX];
    struct un_neighbour *neighbour = told_next_hop(stack, next_hop);
    int result = neighbour ? 0 : find_next_hop(stack, peer, &neighbour);
    if (result == -EAGAIN)
        return result;
    if (result) {
        count_lost(stack, result, neighbour);
        return result;
    }
    struct un_datagram datagram = datagram_of(local, peer, seg, header);
    return un_stack_send_to(stack, &datagram, neighbour->ethernet);
}

/* -EAGAIN: its next hop is being asked for. */
static int say(struct un_stack *stack, const struct un_farewell *farewell)
{
    struct un_seg reset = {.seq = farewell->seq,
                           .ack = farewell->ack,
                           .flags = farewell->flags,
                           .options = farewell->options,
                           .tsval = farewell->tsval,
                           .tsecr = farewell->tsecr,
                           .source_port = farewell->local_port,
                           .destination_port = farewell->peer_port};
    return try_segment(stack, &stack->own->addresses[farewell->local].ip, &farewell->peer, &reset,
                       farewell->next_hop);
}

void un_stack_send_farewells(struct un_stack *stack)
{
    struct un_farewells *farewells = &stack->own->farewells;
    for (uint32_t left = farewells->put - farewells->taken; left > 0 && un_stack_has_room(stack); left--) {
        const struct un_farewell first = farewells->ring[farewells->taken % UN_FAREWELLS_MAX];
        if (say(stack, &first) == -EAGAIN)
            un_farewell_put(farewells, &first);
        farewells->taken++; /* a process that dies before it leaves one twice, and none is lost */
    }
}
