/* Listeners, and segments that belong to no connection (RFC 9293 section 3.10.7.1 and 3.10.7.2).
 *
 * A listener counts the handshakes that are not over and the connections that the application has not accepted. When
 * their sum reaches the backlog, or no block is free, further SYNs are answered with cookies (RFC 4987), which take no
 * memory. The ACK that returns a cookie makes a connection as long as fewer than `backlog` connections wait to be
 * accepted. So there are never more than twice the backlog.
 *
 * A returned cookie is accepted only while one that was sent may still come back (cookies_until_ns). At other times
 * nobody can make a connection by guessing one. */
#include "stack/listen.h"

#include <errno.h>

#include "stack/arrival.h"
#include "stack/conn.h"
#include "stack/conn_options.h"
#include "stack/lists.h"
#include "stack/local.h"
#include "stack/neighbour.h"
#include "stack/output.h"
#include "stack/paths.h"
#include "stack/process.h"
#include "stack/rate.h"
#include "stack/secrets.h"
#include "tcp/cookie.h"

#define UN_COOKIE_LIFE_NS (128 * UN_SECOND_NS) /* two slots of cookie.h */

/* ---- listeners ---- */

/* How well a listener's address fits: 2 exactly, 1 any address of the family, 0 any address, -1 not at all. */
static int fit(const struct un_listener *listener, const struct un_ip *ip)
{
    if (un_ip_equal(&listener->ip, ip))
        return 2;
    if (!un_ip_is_any(&listener->ip))
        return -1;
    if (un_ip_is_v4(&listener->ip))
        return un_ip_is_v4(ip) ? 1 : -1;
    return un_ip_is_v4(ip) ? 0 : 1;
}

static struct un_listener *find_listener(const struct un_stack *stack, const struct un_ip *ip, uint16_t port)
{
    struct un_listener *best = NULL;
    int best_fit = -1;
    for (uint32_t i = 0; i < UN_STACK_LISTENERS_MAX; i++) {
        struct un_listener *listener = &stack->own->listeners[i];
        if (!listener->is_open || listener->port != port)
            continue;
        int how = fit(listener, ip);
        if (how > best_fit) {
            best_fit = how;
            best = listener;
        }
    }
    return best;
}

static bool is_taken(const struct un_stack *stack, const struct un_ip *ip, uint16_t port)
{
    for (uint32_t i = 0; i < UN_STACK_LISTENERS_MAX; i++) {
        const struct un_listener *listener = &stack->own->listeners[i];
        if (listener->is_open && listener->port == port && un_ip_equal(&listener->ip, ip))
            return true;
    }
    return false;
}

int un_stack_listen(struct un_stack *stack, const struct un_ip *ip, uint16_t port, uint32_t backlog, uint64_t user)
{
    if (port == 0)
        return -EINVAL;
    if (!un_ip_is_any(ip) && un_address_find(stack, ip) < 0)
        return -EADDRNOTAVAIL;
    if (is_taken(stack, ip, port))
        return -EADDRINUSE;
    for (uint32_t i = 0; i < UN_STACK_LISTENERS_MAX; i++) {
        struct un_listener *listener = &stack->own->listeners[i];
        if (listener->is_open)
            continue;
        *listener = (struct un_listener){.ip = *ip, .port = port, .user = user, .backlog = backlog ? backlog : 1,
                                         .receive_bytes = stack->config->tcp.rcv_limit,
                                         .accept_queue = UN_LIST_EMPTY};
        un_compiler_fence();
        listener->is_open = true;
        return (int)i;
    }
    return -ENOSPC;
}

static struct un_listener *open_listener(struct un_stack *stack, uint32_t number)
{
    bool exists = number < UN_STACK_LISTENERS_MAX && stack->own->listeners[number].is_open;
    return exists ? &stack->own->listeners[number] : NULL;
}

int un_stack_pause_listener(struct un_stack *stack, uint32_t number, bool paused)
{
    struct un_listener *listener = open_listener(stack, number);
    if (!listener)
        return -EBADF;
    listener->is_paused = paused;
    return 0;
}

int un_stack_set_listener_option(struct un_stack *stack, uint32_t number, enum un_stack_option option, uint32_t value)
{
    struct un_listener *listener = open_listener(stack, number);
    if (!listener)
        return -EBADF;
    int result = un_stack_check_option(option, value);
    if (result < 0)
        return result;
    if (option == UN_OPTION_RECEIVE_BYTES)
        listener->receive_bytes = value;
    else if (option == UN_OPTION_MSS)
        listener->mss = (uint16_t)value;
    else
        return -ENOPROTOOPT;
    return 0;
}

/* Reset the `left` connections whose listener was closed before they were accepted. */
static void reset_orphans(struct un_stack *stack, uint32_t left)
{
    for (uint32_t slot = 0; left > 0 && slot < stack->own->conn_fresh; slot++) {
        struct un_tcb *tcb = &stack->tcp.tcbs[slot];
        if (!(tcb->listed & (UN_LISTED_HALF_OPEN | UN_LISTED_READY)) || stack->own->listeners[tcb->listener].is_open)
            continue;
        left--;
        un_stack_conn_abort(stack, tcb);
    }
}

int un_stack_unlisten(struct un_stack *stack, uint32_t number)
{
    struct un_listener *listener = open_listener(stack, number);
    if (!listener)
        return -EBADF;
    listener->is_open = false;
    reset_orphans(stack, listener->half_open + listener->ready);
    return 0;
}

void un_listen_finish(struct un_stack *stack)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < UN_STACK_LISTENERS_MAX; i++) {
        const struct un_listener *listener = &stack->own->listeners[i];
        if (!listener->is_open)
            left += listener->half_open + listener->ready;
    }
    reset_orphans(stack, left);
}

uint64_t un_stack_accept_next(const struct un_stack *stack, uint32_t number)
{
    if (number >= UN_STACK_LISTENERS_MAX || !stack->own->listeners[number].is_open)
        return 0;
    uint32_t slot = stack->own->listeners[number].accept_queue.head;
    return slot == UN_NONE ? 0 : un_stack_handle(stack, &stack->tcp.tcbs[slot]);
}

/* ---- a segment for a listener, or for nobody ---- */

/* A reset, unless there were too many in this second. */
static enum un_drop refuse(struct un_stack *stack, const struct un_arrival *arrival, const struct un_seg *seg,
                           enum un_drop why)
{
    struct un_seg reset;
    if (!un_tcp_refuse(seg, &reset))
        return why;
    if (!un_rate_allows(&stack->own->resets, stack->config->resets_per_s, 1, stack->tcp.now_ns))
        return UN_DROP_tcp_rst_rate;
    reset.source_port = seg->destination_port;
    reset.destination_port = seg->source_port;
    stack->tcp.counters->out_resets++;
    un_stack_answer(stack, arrival, &reset);
    return why;
}

static struct un_cookie_flow cookie_flow(const struct un_stack *stack, const struct un_listener *listener,
                                         const struct un_arrival *arrival, const struct un_seg *seg)
{
    const struct un_packet *packet = &arrival->packet;
    uint16_t link_mtu = un_link_mtu(stack, &packet->source);
    uint16_t wanted = un_mtu_of_mss(&packet->source, listener->mss);
    return (struct un_cookie_flow){
        .secret = stack->config->secret,
        .peer = packet->source,
        .local = packet->destination,
        .peer_port = seg->source_port,
        .local_port = seg->destination_port,
        .link_mtu = wanted < link_mtu ? wanted : link_mtu,
        .rcv_limit = listener->receive_bytes,
        .ts_offset = un_timestamp_offset(stack, &packet->destination, seg->destination_port, &packet->source,
                                         seg->source_port),
    };
}

static void answer_with_cookie(struct un_stack *stack, struct un_listener *listener, const struct un_arrival *arrival,
                               const struct un_seg *syn)
{
    struct un_cookie_flow flow = cookie_flow(stack, listener, arrival, syn);
    struct un_seg answer;
    un_cookie_answer(&stack->tcp, &flow, syn, &answer);
    answer.source_port = syn->destination_port;
    answer.destination_port = syn->source_port;
    listener->cookies_until_ns = stack->tcp.now_ns + UN_COOKIE_LIFE_NS;
    stack->tcp.counters->syn_cookies_sent++;
    un_stack_answer(stack, arrival, &answer);
}

static struct un_opening opening_for(const struct un_stack *stack, const struct un_listener *listener,
                                     const struct un_arrival *arrival, const struct un_seg *seg)
{
    const struct un_packet *packet = &arrival->packet;
    return (struct un_opening){
        .peer = packet->source,
        .peer_port = seg->source_port,
        .local = arrival->local,
        .local_port = seg->destination_port,
        .listener = (uint16_t)(listener - stack->own->listeners),
        .user = listener->user,
        .iss = un_initial_sequence(stack, &packet->destination, seg->destination_port, &packet->source,
                                   seg->source_port),
    };
}

/* A block for a connection of this listener; it is busy until the caller calls un_stack_idle. NULL: none is free. */
static struct un_tcb *begin(struct un_stack *stack, const struct un_listener *listener,
                            const struct un_arrival *arrival, const struct un_opening *opening)
{
    struct un_tcb *tcb = un_stack_conn_begin(stack, opening);
    if (!tcb)
        return NULL;
    un_stack_conn_half_open(stack, tcb);
    if (un_is_shared(stack))
        un_neighbour_heard(stack, tcb, arrival->packet.source_mac);
    un_stack_conn_limit_mss(tcb, listener->mss);
    un_tcp_set_receive_limit(&stack->tcp, tcb, listener->receive_bytes);
    return tcb;
}

static void take_syn(struct un_stack *stack, struct un_listener *listener, const struct un_arrival *arrival,
                     const struct un_seg *syn, const struct un_opening *opening)
{
    bool is_full = listener->half_open + listener->ready >= listener->backlog;
    struct un_tcb *tcb = is_full ? NULL : begin(stack, listener, arrival, opening);
    if (!tcb) {
        answer_with_cookie(stack, listener, arrival, syn);
        return;
    }
    un_tcp_accept_syn(&stack->tcp, tcb, syn);
    un_stack_idle(stack);
}

static enum un_drop take_cookie(struct un_stack *stack, struct un_listener *listener, struct un_arrival *arrival,
                                const struct un_seg *seg)
{
    struct un_seg syn;
    struct un_cookie_flow flow = cookie_flow(stack, listener, arrival, seg);
    if (listener->cookies_until_ns < stack->tcp.now_ns || !un_cookie_check(&stack->tcp, &flow, seg, &syn))
        return refuse(stack, arrival, seg, UN_DROP_tcp_bad_cookie);
    if (listener->ready >= listener->backlog || listener->is_paused)
        return UN_DROP_tcp_backlog;
    struct un_opening opening = opening_for(stack, listener, arrival, seg);
    opening.iss = seg->ack - 1;
    struct un_tcb *tcb = begin(stack, listener, arrival, &opening);
    if (!tcb)
        return UN_DROP_no_connection_free;
    un_tcp_accept_cookie(&stack->tcp, tcb, &syn);
    un_stack_idle(stack);
    un_stack_process(stack, arrival, tcb, seg);
    return UN_DROP_NONE;
}

enum un_drop un_listen_input(struct un_stack *stack, struct un_arrival *arrival, const struct un_seg *seg)
{
    struct un_listener *listener = find_listener(stack, &arrival->packet.destination, seg->destination_port);
    if (!listener)
        return refuse(stack, arrival, seg, UN_DROP_tcp_no_connection);
    if (seg->flags & UN_TCP_RST)
        return UN_DROP_tcp_no_connection;
    if ((seg->flags & (UN_TCP_SYN | UN_TCP_ACK)) == UN_TCP_ACK)
        return take_cookie(stack, listener, arrival, seg);
    if (seg->flags & UN_TCP_ACK)
        return refuse(stack, arrival, seg, UN_DROP_tcp_flags);
    if ((seg->flags & (UN_TCP_SYN | UN_TCP_FIN)) != UN_TCP_SYN)
        return UN_DROP_tcp_flags;
    if (listener->is_paused)
        return UN_DROP_tcp_backlog;
    struct un_opening opening = opening_for(stack, listener, arrival, seg);
    take_syn(stack, listener, arrival, seg, &opening);
    return UN_DROP_NONE;
}

bool un_listen_reuse(struct un_stack *stack, struct un_arrival *arrival, struct un_tcb *tcb, const struct un_seg *seg)
{
    if ((seg->flags & (UN_TCP_SYN | UN_TCP_ACK | UN_TCP_RST | UN_TCP_FIN)) != UN_TCP_SYN)
        return false;
    struct un_listener *listener = find_listener(stack, &arrival->packet.destination, seg->destination_port);
    if (!listener || listener->is_paused)
        return false;
    struct un_opening opening = opening_for(stack, listener, arrival, seg);
    if (!un_tcp_is_reusable(tcb, seg, &opening.iss))
        return false;
    un_stack_conn_end(stack, tcb, UN_TCP_REASON_CLOSED);
    if (tcb->state == UN_TCP_DEAD) /* its application still holds it, but its ends go to the new one */
        un_stack_conn_leave_flows(stack, tcb);
    take_syn(stack, listener, arrival, seg, &opening);
    return true;
}
