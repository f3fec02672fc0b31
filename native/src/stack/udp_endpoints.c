/* See udp_endpoints.h. */
#include "stack/udp_endpoints.h"

#include <errno.h>

#include "stack/local.h"
#include "stack/output.h"
#include "stack/random.h"

uint32_t un_udp_number(const struct un_stack *stack, const struct un_udp_socket *endpoint)
{
    return (uint32_t)(endpoint - stack->endpoints);
}

struct un_udp_socket *un_udp_endpoint(const struct un_stack *stack, uint32_t number)
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

/* How well the endpoint's address fits the destination of a datagram; -1: it does not. */
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

/* As with the kernel's sockets, a connected endpoint takes datagrams from its remote end only. */
static bool is_open_to(const struct un_udp_socket *endpoint, const struct un_ip *remote, uint16_t remote_port)
{
    return endpoint->remote_port == 0 ||
           (endpoint->remote_port == remote_port && un_ip_equal(&endpoint->remote, remote));
}

struct un_udp_socket *un_udp_find(struct un_stack *stack, const struct un_ip *ip, uint16_t port,
                                  const struct un_ip *remote, uint16_t remote_port)
{
    struct un_udp_socket *best = NULL;
    int best_fit = -1;
    for (uint32_t at = *bucket_of(stack, port); at != UN_NONE; at = stack->endpoints[at].bucket_next) {
        struct un_udp_socket *endpoint = &stack->endpoints[at];
        bool is_candidate = endpoint->port == port && is_open_to(endpoint, remote, remote_port);
        int how = is_candidate ? fit(endpoint, ip) : -1;
        if (how >= 0 && endpoint->remote_port)
            how += FIT_MAX + 1; /* connected to this remote end: comes before any that is not connected */
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
    *bucket = un_udp_number(stack, endpoint);
}

static void leave(struct un_stack *stack, struct un_udp_socket *endpoint)
{
    uint32_t *link = bucket_of(stack, endpoint->port);
    while (*link != un_udp_number(stack, endpoint)) {
        un_assert(*link != UN_NONE); /* an open endpoint stands in its bucket */
        link = &stack->endpoints[*link].bucket_next;
    }
    *link = endpoint->bucket_next;
}

/* ---- events ---- */

void un_udp_tell(struct un_stack *stack, struct un_udp_socket *endpoint, uint32_t events)
{
    struct un_list *list = &stack->own->udp_events;
    endpoint->events |= events;
    if (endpoint->is_listed)
        return;
    endpoint->is_listed = true;
    endpoint->event_next = UN_NONE;
    if (list->head == UN_NONE)
        list->head = un_udp_number(stack, endpoint);
    else
        stack->endpoints[list->tail].event_next = un_udp_number(stack, endpoint);
    list->tail = un_udp_number(stack, endpoint);
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
        *event = (struct un_stack_event){.conn = un_udp_number(stack, endpoint),
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
            un_udp_tell(stack, endpoint, UN_TCP_EVENT_WRITABLE);
        endpoint->wants_room = false;
    }
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
    if (!local->port && stack->config->port_low == 0) /* shared addresses, and no port was set aside */
        return -EOPNOTSUPP;
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
    struct un_udp_socket *endpoint = un_udp_endpoint(stack, number);
    if (!endpoint)
        return -EBADF;
    endpoint->is_open = false;
    leave(stack, endpoint);
    un_pool_drop_chain(&stack->tcp.pool, endpoint->queue.head);
    endpoint->queue = UN_LIST_EMPTY;
    endpoint->frames = 0;
    return 0;
}

bool un_stack_udp_waiting(struct un_stack *stack, uint32_t number)
{
    const struct un_udp_socket *endpoint = un_udp_endpoint(stack, number);
    return endpoint && endpoint->queue.head != UN_NONE;
}

bool un_stack_udp_may_send(struct un_stack *stack, uint32_t number)
{
    const struct un_udp_socket *endpoint = un_udp_endpoint(stack, number);
    return endpoint && !endpoint->wants_room;
}

int un_stack_udp_name(struct un_stack *stack, uint32_t number, struct un_stack_peer *local)
{
    const struct un_udp_socket *endpoint = un_udp_endpoint(stack, number);
    if (!endpoint)
        return -EBADF;
    *local = (struct un_stack_peer){endpoint->ip, endpoint->port};
    return 0;
}

int un_stack_udp_connect(struct un_stack *stack, uint32_t number, const struct un_stack_peer *remote)
{
    struct un_udp_socket *endpoint = un_udp_endpoint(stack, number);
    if (!endpoint)
        return -EBADF;
    endpoint->remote_port = 0; /* not connected while `remote` changes */
    un_compiler_fence();
    endpoint->remote = remote->ip;
    un_compiler_fence();
    endpoint->remote_port = remote->port;
    endpoint->error = 0;
    return 0;
}

int un_stack_udp_error(const struct un_stack *stack, uint32_t number)
{
    const struct un_udp_socket *endpoint = un_udp_endpoint(stack, number);
    return endpoint ? endpoint->error : 0;
}

int un_stack_udp_take_error(struct un_stack *stack, uint32_t number)
{
    struct un_udp_socket *endpoint = un_udp_endpoint(stack, number);
    int error = un_stack_udp_error(stack, number);
    if (error)
        endpoint->error = 0;
    return error;
}

/* ---- after adoption ---- */

/* The frames that wait in the endpoints were found by the scan (rebuild.c). */
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
        un_udp_tell(stack, endpoint, (endpoint->queue.head != UN_NONE ? UN_TCP_EVENT_READABLE : 0u) |
                                         (endpoint->wants_room ? 0u : UN_TCP_EVENT_WRITABLE) |
                                         (endpoint->error ? UN_UDP_EVENT_ERROR : 0u));
    }
}
