/* Datagrams of UDP endpoints (RFC 768): in, out, and the ICMP errors about them.
 *
 * A received datagram stays in the frames it came in until it is read. Its sender is written in front of the payload,
 * over the headers. An endpoint may hold UN_UDP_FRAMES_MAX frames, fewer when the pool is short; a datagram that finds
 * no room is dropped and counted. Frames are counted, not bytes, because a small datagram holds a whole frame.
 *
 * A datagram joins the queue with one store, and leaves it with one: whoever goes on after a sudden death (P10) finds
 * it as a whole or not at all. The end of the queue and the number of its frames are found by a scan.
 *
 * A datagram that is sent leaves at once. While the Ethernet address of its next hop is not known, the neighbour cache
 * keeps it (waiting.c). */
#include "stack/udp_datagrams.h"

#include <errno.h>

#include "stack/complain.h"
#include "stack/handover.h"
#include "stack/local.h"
#include "stack/output.h"
#include "stack/packets.h"
#include "stack/paths.h"
#include "stack/route.h"
#include "stack/udp_endpoints.h"
#include "wire/udp.h"

#define UN_UDP_CHECKSUM_OFFSET 6u
#define UN_GROUP_HOP_LIMIT 1u /* the default for multicast: RFC 1112 section 6.1, RFC 3493 section 5.2 */

/* Stands in front of the payload of a datagram that waits to be read. */
struct sender {
    struct un_ip ip;
    uint16_t port;
};
UN_STATIC_ASSERT(sizeof(struct sender) <= UN_ETH_BYTES + UN_IPV4_BYTES + UN_UDP_BYTES, "the headers were longer");

/* ---- in ---- */

/* The frames of the payload. An empty datagram keeps its first frame, with no bytes in it. */
static uint32_t take_payload(struct un_stack *stack, struct un_arrival *arrival, uint32_t length)
{
    struct un_pool *pool = &stack->tcp.pool;
    uint32_t head = arrival->rx.frame;
    arrival->packet.transport_length = UN_UDP_BYTES + length;
    if (length > 0)
        return un_arrival_payload(stack, arrival, UN_UDP_BYTES);
    struct un_frame *frame = &pool->frames[head];
    un_pool_drop_chain(pool, frame->next);
    frame->next = UN_NONE;
    frame->offset = (uint16_t)(frame->offset + arrival->packet.transport + UN_UDP_BYTES);
    frame->length = 0;
    arrival->rx.frame = UN_NONE;
    return head;
}

static void append(struct un_stack *stack, struct un_udp_socket *endpoint, uint32_t head)
{
    struct un_frame *frames = stack->tcp.pool.frames;
    uint32_t tail = head, count = 1;
    for (; frames[tail].next != UN_NONE; tail = frames[tail].next) {
        frames[tail].flags = 0;
        count++;
    }
    frames[tail].flags = UN_FRAME_LAST;
    un_compiler_fence();
    *(endpoint->queue.head == UN_NONE ? &endpoint->queue.head : &frames[endpoint->queue.tail].next) = head;
    un_compiler_fence();
    endpoint->queue.tail = tail;
    endpoint->frames += count;
}

static void deliver(struct un_stack *stack, struct un_udp_socket *endpoint, struct un_arrival *arrival,
                    const struct un_udp *udp)
{
    struct sender sender = {arrival->packet.source, udp->source_port};
    uint32_t head = take_payload(stack, arrival, udp->length);
    struct un_frame *frame = &stack->tcp.pool.frames[head];
    memcpy(un_pool_bytes(&stack->tcp.pool, head) + frame->offset - sizeof sender, &sender, sizeof sender);
    frame->seq = udp->length;
    append(stack, endpoint, head);
    stack->counters->udp_in++;
    un_udp_tell(stack, endpoint, UN_TCP_EVENT_READABLE);
}

static enum un_drop refuse(struct un_stack *stack, struct un_arrival *arrival, const struct un_udp *udp)
{
    if (!arrival->is_unicast)
        return UN_DROP_udp_no_port;
    const struct un_packet *packet = &arrival->packet;
    if (un_hand_to_owner(stack, arrival, &packet->source, udp->source_port, &packet->destination,
                         udp->destination_port))
        return UN_DROP_NONE;
    un_icmp_refuse(stack, arrival, UN_ICMP_UNREACHABLE_PORT);
    return UN_DROP_udp_no_port;
}

/* When the pool is short, an endpoint that is not read may not take frames that others need (base/pool.h). */
static bool may_keep(const struct un_stack *stack, const struct un_udp_socket *endpoint, uint32_t frames)
{
    const struct un_pool *pool = &stack->tcp.pool;
    if (un_pool_is_nearly_empty(pool) || (un_pool_is_scarce(pool) && endpoint->frames >= UN_POOL_FEW))
        return false;
    return endpoint->frames + frames <= UN_UDP_FRAMES_MAX;
}

enum un_drop un_udp_input(struct un_stack *stack, struct un_arrival *arrival)
{
    const struct un_packet *packet = &arrival->packet;
    uint32_t there = un_arrival_contiguous(arrival);
    struct un_udp udp;
    enum un_drop why = un_udp_parse(&udp, un_arrival_transport(arrival), there, packet->transport_length);
    if (why)
        return why;
    if (udp.length > 0 && there <= UN_UDP_BYTES)
        return UN_DROP_udp_malformed;
    struct un_udp_socket *endpoint =
        un_udp_find(stack, &packet->destination, udp.destination_port, &packet->source, udp.source_port);
    if (!endpoint)
        return refuse(stack, arrival, &udp);
    if (!may_keep(stack, endpoint, (uint32_t)arrival->count))
        return UN_DROP_udp_full;
    deliver(stack, endpoint, arrival, &udp);
    return UN_DROP_NONE;
}

/* ---- errors ---- */

/* The errno of an ICMP error, as other stacks report it to sockets; 0: it may be transient, and is not reported. */
static uint8_t error_of(enum un_icmp_kind kind)
{
    switch (kind) {
    case UN_ICMP_UNREACHABLE_PORT:
        return ECONNREFUSED;
    case UN_ICMP_UNREACHABLE_PROTOCOL:
        return ENOPROTOOPT;
    case UN_ICMP_UNREACHABLE_FOR_GOOD:
        return EHOSTUNREACH;
    case UN_ICMP_PACKET_TOO_BIG:
        return EMSGSIZE;
    default:
        return 0;
    }
}

enum un_drop un_udp_error(struct un_stack *stack, struct un_arrival *arrival, const struct un_icmp *icmp)
{
    const struct un_icmp_quote *quote = &icmp->quote;
    struct un_udp_socket *endpoint =
        un_udp_find(stack, &quote->source, quote->source_port, &quote->destination, quote->destination_port);
    if (!endpoint && un_hand_to_owner(stack, arrival, &quote->destination, quote->destination_port, &quote->source,
                                      quote->source_port))
        return UN_DROP_NONE;
    if (!endpoint || endpoint->remote_port == 0)
        return UN_DROP_icmp_unmatched;
    if (error_of(icmp->kind)) {
        endpoint->error = error_of(icmp->kind);
        stack->counters->udp_errors++;
        un_udp_tell(stack, endpoint, UN_UDP_EVENT_ERROR);
    }
    return UN_DROP_NONE;
}

/* ---- out ---- */

/* Index of the source address: the endpoint's own, or the one that the route prefers. Negative errno: none fits. */
static int source_for(const struct un_stack *stack, const struct un_udp_socket *endpoint, const struct un_ip *to)
{
    if (un_ip_is_v4(&endpoint->ip) && !un_ip_is_v4(to))
        return -EHOSTUNREACH;
    if (un_ip_is_any(&endpoint->ip))
        return un_route_source(stack, to);
    return un_ip_is_v4(&endpoint->ip) == un_ip_is_v4(to) ? un_address_find(stack, &endpoint->ip) : -EHOSTUNREACH;
}

int64_t un_stack_udp_send(struct un_stack *stack, uint32_t number, const struct un_stack_peer *to, const void *bytes,
                          uint32_t length)
{
    struct un_udp_socket *endpoint = un_udp_endpoint(stack, number);
    if (!endpoint)
        return -EBADF;
    if (to->port == 0 || un_ip_is_any(&to->ip))
        return -EINVAL;
    if (length > UINT16_MAX || un_ip_header_length(&to->ip) + UN_UDP_BYTES + length > un_path_mtu(stack, &to->ip))
        return -EMSGSIZE;
    int source = source_for(stack, endpoint, &to->ip);
    if (source < 0)
        return -EHOSTUNREACH;
    uint8_t header[UN_UDP_BYTES];
    struct un_udp udp = {.source_port = endpoint->port, .destination_port = to->port, .length = length};
    struct un_piece piece = {bytes, length, UN_NONE};
    struct un_datagram datagram = {
        .ip = {.source = stack->own->addresses[source].ip,
               .destination = to->ip,
               .protocol = UN_PROTOCOL_UDP,
               .hop_limit = un_ip_is_multicast(&to->ip) ? UN_GROUP_HOP_LIMIT : 0},
        .header = header,
        .header_length = un_udp_emit(&udp, header),
        .checksum_offset = UN_UDP_CHECKSUM_OFFSET,
        .pieces = &piece,
        .count = length > 0,
    };
    int result = un_stack_send(stack, &datagram);
    if (result == -EAGAIN) {
        endpoint->wants_room = true;
        stack->own->udp_refused++;
    }
    if (result)
        return result;
    stack->counters->udp_out++;
    return length;
}

/* ---- read ---- */

/* The first datagram has been read; behind it comes this one. */
static void let_go(struct un_stack *stack, struct un_udp_socket *endpoint, uint32_t behind)
{
    struct un_pool *pool = &stack->tcp.pool;
    uint32_t at = endpoint->queue.head;
    un_compiler_fence();
    endpoint->queue.head = behind;
    un_compiler_fence();
    for (bool is_last = false; !is_last;) {
        uint32_t next = pool->frames[at].next;
        is_last = pool->frames[at].flags & UN_FRAME_LAST;
        endpoint->frames--;
        un_pool_drop(pool, at);
        at = next;
    }
}

int64_t un_stack_udp_receive(struct un_stack *stack, uint32_t number, struct un_stack_peer *from, void *bytes,
                             uint32_t most)
{
    struct un_udp_socket *endpoint = un_udp_endpoint(stack, number);
    if (!endpoint)
        return -EBADF;
    if (endpoint->queue.head == UN_NONE)
        return -EAGAIN;
    struct un_pool *pool = &stack->tcp.pool;
    uint32_t at = endpoint->queue.head;
    uint32_t length = pool->frames[at].seq, done = 0;
    struct sender sender;
    memcpy(&sender, un_pool_bytes(pool, at) + pool->frames[at].offset - sizeof sender, sizeof sender);
    *from = (struct un_stack_peer){sender.ip, sender.port};
    for (bool is_last = false; !is_last; at = pool->frames[at].next) {
        const struct un_frame *frame = &pool->frames[at];
        uint32_t part = most - done < frame->length ? most - done : frame->length;
        memcpy((uint8_t *)bytes + done, un_pool_bytes(pool, at) + frame->offset, part);
        done += part;
        is_last = frame->flags & UN_FRAME_LAST;
    }
    let_go(stack, endpoint, at);
    return length < most ? length : most;
}
