/* UDP endpoints (RFC 768).
 *
 * A datagram waits in the frames it came in; who sent it stands in front of its payload, where the headers were. An
 * endpoint holds at most so many frames (not bytes: a small datagram holds a whole one), and none when frames are
 * short. What is sent leaves at once; with an unknown next hop the neighbour cache keeps it for a moment. */
#include "stack/udp_sockets.h"

#include <errno.h>

#include "stack/arrival.h"
#include "stack/complain.h"
#include "stack/handover.h"
#include "stack/local.h"
#include "stack/output.h"
#include "stack/packets.h"
#include "stack/paths.h"
#include "stack/random.h"
#include "stack/route.h"
#include "wire/udp.h"

#define UN_UDP_CHECKSUM_OFFSET 6u
#define UN_GROUP_HOP_LIMIT 1u /* unless somebody says otherwise: RFC 1112 section 6.1, RFC 3493 section 5.2 */

/* In front of the payload of a datagram that waits. */
struct sender {
    struct un_ip ip;
    uint16_t port;
};
UN_STATIC_ASSERT(sizeof(struct sender) <= UN_ETH_BYTES + UN_IPV4_BYTES + UN_UDP_BYTES, "the headers were longer");

static void busy(struct un_stack *stack, uint32_t number)
{
    un_assert(stack->own->busy_udp == 0 && number < stack->config->udp_max);
    stack->own->busy_udp = number + 1;
    un_compiler_fence();
}

static void idle(struct un_stack *stack)
{
    un_assert(stack->own->busy_udp != 0);
    un_compiler_fence();
    stack->own->busy_udp = 0;
}

static uint32_t number_of(const struct un_stack *stack, const struct un_udp_socket *endpoint)
{
    return (uint32_t)(endpoint - stack->endpoints);
}

static struct un_udp_socket *open_endpoint(const struct un_stack *stack, uint32_t number)
{
    bool exists = number < stack->config->udp_max && stack->endpoints[number].is_open;
    return exists ? &stack->endpoints[number] : NULL;
}

/* ---- look-up ---- */

static uint32_t *bucket_of(struct un_stack *stack, uint16_t port)
{
    return &stack->own->udp_buckets[port % UN_UDP_BUCKETS];
}

#define FIT_MAX 2

/* How well its address says that a datagram to this one is for it; -1: not at all. */
static int fit(const struct un_udp_socket *endpoint, const struct un_ip *ip)
{
    if (un_ip_equal(&endpoint->ip, ip))
        return FIT_MAX;
    if (!un_ip_is_any(&endpoint->ip))
        return -1;
    if (un_ip_is_v4(&endpoint->ip))
        return un_ip_is_v4(ip) ? 1 : -1;
    return un_ip_is_v4(ip) ? 0 : 1;
}

/* One that has a remote end is not there for others, as with sockets everywhere: they hear that nobody is. */
static bool is_open_to(const struct un_udp_socket *endpoint, const struct un_ip *remote, uint16_t remote_port)
{
    return endpoint->remote_port == 0 ||
           (endpoint->remote_port == remote_port && un_ip_equal(&endpoint->remote, remote));
}

/* The endpoint for a datagram between these ends. */
static struct un_udp_socket *find(struct un_stack *stack, const struct un_ip *ip, uint16_t port,
                                const struct un_ip *remote, uint16_t remote_port)
{
    struct un_udp_socket *best = NULL;
    int best_fit = -1;
    for (uint32_t at = *bucket_of(stack, port); at != UN_NONE; at = stack->endpoints[at].bucket_next) {
        struct un_udp_socket *endpoint = &stack->endpoints[at];
        bool is_candidate = endpoint->port == port && is_open_to(endpoint, remote, remote_port);
        int how = is_candidate ? fit(endpoint, ip) : -1;
        if (how >= 0 && endpoint->remote_port)
            how += FIT_MAX + 1; /* the one with this remote end comes before any that takes all */
        if (how > best_fit) {
            best_fit = how;
            best = endpoint;
        }
    }
    return best;
}

static bool is_taken(struct un_stack *stack, const struct un_ip *ip, uint16_t port)
{
    for (uint32_t at = *bucket_of(stack, port); at != UN_NONE; at = stack->endpoints[at].bucket_next)
        if (stack->endpoints[at].port == port && un_ip_equal(&stack->endpoints[at].ip, ip))
            return true;
    return false;
}

static void enter(struct un_stack *stack, struct un_udp_socket *endpoint)
{
    uint32_t *bucket = bucket_of(stack, endpoint->port);
    endpoint->bucket_next = *bucket;
    *bucket = number_of(stack, endpoint);
}

static void leave(struct un_stack *stack, struct un_udp_socket *endpoint)
{
    uint32_t *link = bucket_of(stack, endpoint->port);
    while (*link != number_of(stack, endpoint)) {
        un_assert(*link != UN_NONE); /* an open one stands in its bucket */
        link = &stack->endpoints[*link].bucket_next;
    }
    *link = endpoint->bucket_next;
}

/* ---- events ---- */

static void tell(struct un_stack *stack, struct un_udp_socket *endpoint, uint32_t events)
{
    struct un_list *list = &stack->own->udp_events;
    endpoint->events |= events;
    if (endpoint->is_listed)
        return;
    endpoint->is_listed = true;
    endpoint->event_next = UN_NONE;
    if (list->head == UN_NONE)
        list->head = number_of(stack, endpoint);
    else
        stack->endpoints[list->tail].event_next = number_of(stack, endpoint);
    list->tail = number_of(stack, endpoint);
}

bool un_udp_next_event(struct un_stack *stack, struct un_stack_event *event)
{
    struct un_list *list = &stack->own->udp_events;
    while (list->head != UN_NONE) {
        struct un_udp_socket *endpoint = &stack->endpoints[list->head];
        list->head = endpoint->event_next;
        endpoint->is_listed = false;
        if (!endpoint->is_open || !endpoint->events)
            continue;
        *event = (struct un_stack_event){.conn = number_of(stack, endpoint),
                                         .user = endpoint->user,
                                         .events = endpoint->events,
                                         .listener = UINT16_MAX,
                                         .is_udp = true};
        endpoint->events = 0;
        return true;
    }
    return false;
}

void un_udp_room(struct un_stack *stack)
{
    if (!un_stack_has_room(stack))
        return;
    stack->own->udp_refused = 0;
    for (uint32_t i = 0; i < stack->config->udp_max; i++) {
        struct un_udp_socket *endpoint = &stack->endpoints[i];
        if (endpoint->is_open && endpoint->wants_room)
            tell(stack, endpoint, UN_TCP_EVENT_WRITABLE);
        endpoint->wants_room = false;
    }
}

/* ---- in ---- */

/* The payload's frames, or for an empty datagram the first frame without payload. */
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
    uint32_t tail = head;
    endpoint->frames++;
    for (; frames[tail].next != UN_NONE; tail = frames[tail].next) {
        frames[tail].flags = 0;
        endpoint->frames++;
    }
    frames[tail].flags = UN_FRAME_LAST;
    if (endpoint->queue.head == UN_NONE)
        endpoint->queue.head = head;
    else
        frames[endpoint->queue.tail].next = head;
    endpoint->queue.tail = tail;
}

static void deliver(struct un_stack *stack, struct un_udp_socket *endpoint, struct un_arrival *arrival,
                    const struct un_udp *udp)
{
    struct sender sender = {arrival->packet.source, udp->source_port};
    uint32_t head = take_payload(stack, arrival, udp->length);
    struct un_frame *frame = &stack->tcp.pool.frames[head];
    memcpy(un_pool_bytes(&stack->tcp.pool, head) + frame->offset - sizeof sender, &sender, sizeof sender);
    frame->seq = udp->length;
    busy(stack, number_of(stack, endpoint));
    append(stack, endpoint, head);
    idle(stack);
    stack->counters->udp_in++;
    tell(stack, endpoint, UN_TCP_EVENT_READABLE);
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

/* An endpoint that nobody reads leaves frames to the others: pool.h. */
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
        find(stack, &packet->destination, udp.destination_port, &packet->source, udp.source_port);
    if (!endpoint)
        return refuse(stack, arrival, &udp);
    if (!may_keep(stack, endpoint, (uint32_t)arrival->count))
        return UN_DROP_udp_full;
    deliver(stack, endpoint, arrival, &udp);
    return UN_DROP_NONE;
}

/* ---- errors ---- */

/* As others tell them to sockets: what may pass is nobody's business. */
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
        find(stack, &quote->source, quote->source_port, &quote->destination, quote->destination_port);
    if (!endpoint && un_hand_to_owner(stack, arrival, &quote->destination, quote->destination_port, &quote->source,
                                      quote->source_port))
        return UN_DROP_NONE;
    if (!endpoint || endpoint->remote_port == 0)
        return UN_DROP_icmp_unmatched;
    if (error_of(icmp->kind)) {
        endpoint->error = error_of(icmp->kind);
        stack->counters->udp_errors++;
        tell(stack, endpoint, UN_UDP_EVENT_ERROR);
    }
    return UN_DROP_NONE;
}

int un_stack_udp_connect(struct un_stack *stack, uint32_t number, const struct un_stack_peer *remote)
{
    struct un_udp_socket *endpoint = open_endpoint(stack, number);
    if (!endpoint)
        return -EBADF;
    endpoint->remote_port = 0; /* half a change names nobody */
    un_compiler_fence();
    endpoint->remote = remote->ip;
    un_compiler_fence();
    endpoint->remote_port = remote->port;
    endpoint->error = 0;
    return 0;
}

int un_stack_udp_error(const struct un_stack *stack, uint32_t number)
{
    const struct un_udp_socket *endpoint = open_endpoint(stack, number);
    return endpoint ? endpoint->error : 0;
}

int un_stack_udp_take_error(struct un_stack *stack, uint32_t number)
{
    struct un_udp_socket *endpoint = open_endpoint(stack, number);
    int error = un_stack_udp_error(stack, number);
    if (error)
        endpoint->error = 0;
    return error;
}

/* ---- the application ---- */

static uint16_t choose_port(struct un_stack *stack, const struct un_ip *ip)
{
    uint32_t range = (uint32_t)stack->config->port_high - stack->config->port_low + 1;
    uint32_t start = (uint32_t)(un_stack_random(stack) >> 32) % range;
    for (uint32_t i = 0; i < range; i++) {
        uint16_t port = (uint16_t)(stack->config->port_low + (start + i) % range);
        if (!is_taken(stack, ip, port))
            return port;
    }
    return 0;
}

int un_stack_udp_open(struct un_stack *stack, const struct un_stack_peer *local, uint64_t user)
{
    if (!un_ip_is_any(&local->ip) && un_address_find(stack, &local->ip) < 0)
        return -EADDRNOTAVAIL;
    uint16_t port = local->port ? local->port : choose_port(stack, &local->ip);
    if (port == 0 || is_taken(stack, &local->ip, port))
        return -EADDRINUSE;
    for (uint32_t i = 0; i < stack->config->udp_max; i++) {
        struct un_udp_socket *endpoint = &stack->endpoints[i];
        if (endpoint->is_open || endpoint->is_listed)
            continue;
        *endpoint = (struct un_udp_socket){.ip = local->ip, .port = port, .user = user, .queue = UN_LIST_EMPTY};
        un_compiler_fence();
        endpoint->is_open = true;
        enter(stack, endpoint);
        return (int)i;
    }
    return -ENOSPC;
}

int un_stack_udp_close(struct un_stack *stack, uint32_t number)
{
    struct un_udp_socket *endpoint = open_endpoint(stack, number);
    if (!endpoint)
        return -EBADF;
    endpoint->is_open = false;
    leave(stack, endpoint);
    un_pool_drop_chain(&stack->tcp.pool, endpoint->queue.head);
    endpoint->queue = UN_LIST_EMPTY;
    endpoint->frames = 0;
    return 0;
}

/* The address to send from: the endpoint's own, or the best. */
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
    struct un_udp_socket *endpoint = open_endpoint(stack, number);
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

bool un_stack_udp_waiting(struct un_stack *stack, uint32_t number)
{
    const struct un_udp_socket *endpoint = open_endpoint(stack, number);
    return endpoint && endpoint->queue.head != UN_NONE;
}

bool un_stack_udp_may_send(struct un_stack *stack, uint32_t number)
{
    const struct un_udp_socket *endpoint = open_endpoint(stack, number);
    return endpoint && !endpoint->wants_room;
}

int un_stack_udp_name(struct un_stack *stack, uint32_t number, struct un_stack_peer *local)
{
    const struct un_udp_socket *endpoint = open_endpoint(stack, number);
    if (!endpoint)
        return -EBADF;
    *local = (struct un_stack_peer){endpoint->ip, endpoint->port};
    return 0;
}

int64_t un_stack_udp_receive(struct un_stack *stack, uint32_t number, struct un_stack_peer *from, void *bytes,
                             uint32_t most)
{
    struct un_udp_socket *endpoint = open_endpoint(stack, number);
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
    busy(stack, number);
    for (bool is_last = false; !is_last;) {
        un_assert(at != UN_NONE && endpoint->frames > 0);
        const struct un_frame *frame = &pool->frames[at];
        uint32_t part = most - done < frame->length ? most - done : frame->length;
        memcpy((uint8_t *)bytes + done, un_pool_bytes(pool, at) + frame->offset, part);
        done += part;
        is_last = frame->flags & UN_FRAME_LAST;
        endpoint->queue.head = frame->next;
        endpoint->frames--;
        un_pool_drop(pool, at);
        at = endpoint->queue.head;
    }
    idle(stack);
    return length < most ? length : most;
}

/* ---- after adoption ---- */

/* Look-up and the list of events, which are told again (rebuild.c); the frames of the queues were found by the scan. */
void un_udp_rebuild(struct un_stack *stack)
{
    struct un_stack_memory *own = stack->own;
    own->udp_events = UN_LIST_EMPTY;
    own->udp_refused = 0;
    for (uint32_t i = 0; i < UN_UDP_BUCKETS; i++)
        own->udp_buckets[i] = UN_NONE;
    for (uint32_t i = 0; i < own->config.udp_max; i++) {
        struct un_udp_socket *endpoint = &stack->endpoints[i];
        endpoint->is_listed = false;
        if (!endpoint->is_open)
            continue;
        enter(stack, endpoint);
        own->udp_refused += endpoint->wants_room;
        tell(stack, endpoint, (endpoint->queue.head != UN_NONE ? UN_TCP_EVENT_READABLE : 0u) |
                                  (endpoint->wants_room ? 0u : UN_TCP_EVENT_WRITABLE) |
                                  (endpoint->error ? UN_UDP_EVENT_ERROR : 0u));
    }
}
