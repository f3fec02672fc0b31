/* The exported symbols to look at a stack: what is known of a connection, counters, names. See usnet.h. */
#include <errno.h>

#include "api/counters.h"
#include "api/view.h"
#include "stack/arena.h"

UN_API_SAME(USNET_TCP_CLOSED, UN_TCP_CLOSED);
UN_API_SAME(USNET_TCP_ESTABLISHED, UN_TCP_ESTABLISHED);
UN_API_SAME(USNET_TCP_TIME_WAIT, UN_TCP_TIME_WAIT);
UN_API_SAME(USNET_TCP_DEAD, UN_TCP_DEAD);
UN_API_SAME(USNET_TCP_WINDOW_SCALING, UN_TCB_WSCALE);
UN_API_SAME(USNET_TCP_TIMESTAMPS, UN_TCB_TIMESTAMP);
UN_API_SAME(USNET_TCP_SACK, UN_TCB_SACK);
UN_API_SAME(USNET_TCP_ECN, UN_TCB_ECN);

#define AGREED (USNET_TCP_WINDOW_SCALING | USNET_TCP_TIMESTAMPS | USNET_TCP_SACK | USNET_TCP_ECN)

/* A connection. */

static struct usnet_tcp_info describe(const struct usnet_stack *stack, const struct un_tcb *tcb)
{
    const struct un_stack_peer local = {stack->inner.own->addresses[tcb->local].ip, tcb->local_port};
    const struct un_stack_peer remote = {tcb->peer, tcb->peer_port};
    return (struct usnet_tcp_info){
        .local = un_api_endpoint(&local),
        .remote = un_api_endpoint(&remote),
        .user = tcb->user,
        .state = tcb->state,
        .agreed = tcb->flags & AGREED,
        .reason = tcb->state == UN_TCP_DEAD ? (uint32_t)un_tcp_reason(tcb) : 0,
        .congestion = tcb->congestion,
        .snd_wscale = tcb->snd_wscale,
        .rcv_wscale = tcb->rcv_wscale,
        .backoff = tcb->backoff,
        .probes = tcb->probes,
        .in_recovery = (tcb->flags & UN_TCB_RECOVERY) != 0,
        .in_loss = (tcb->flags & UN_TCB_LOSS) != 0,
        .iss = tcb->iss,
        .irs = tcb->irs,
        .snd_una = tcb->snd_una,
        .snd_nxt = tcb->snd_nxt,
        .snd_wnd = tcb->snd_wnd,
        .rcv_nxt = tcb->rcv_nxt,
        .rcv_wnd = tcb->rcv_edge - tcb->rcv_nxt,
        .snd_mss = tcb->snd_mss,
        .path_mtu = tcb->path_mtu,
        .unread = tcb->rcv_bytes,
        .out_of_order = tcb->rcv_ooo_bytes,
        .queued = tcb->snd_bytes,
        .cwnd = tcb->cwnd,
        .ssthresh = tcb->ssthresh,
        .in_flight = tcb->in_flight,
        .sacked = tcb->sacked_bytes,
        .lost = tcb->lost_bytes,
        .rto_us = (uint32_t)(un_recovery_rto_ns(&stack->inner.tcp, tcb) / UN_US_NS),
        .srtt_us = tcb->srtt_us,
        .rttvar_us = tcb->rttvar_us,
        .min_rtt_us = tcb->min_rtt_us,
        .retransmitted = tcb->retransmitted,
        .bytes_in = tcb->bytes_in,
        .bytes_out = tcb->bytes_out,
    };
}

int usnet_stack_info(struct usnet_stack *stack, uint64_t conn, struct usnet_tcp_info *info)
{
    if (!stack || !info)
        return -EFAULT;
    const struct un_tcb *tcb = un_stack_conn_find(&stack->inner, conn);
    if (!tcb)
        return -EBADF;
    *info = describe(stack, tcb);
    return 0;
}

int usnet_stack_next_connection(struct usnet_stack *stack, uint32_t *position, uint64_t *conn,
                                struct usnet_tcp_info *info)
{
    if (!stack || !position || !conn || !info)
        return -EFAULT;
    while (*position < un_stack_slots(&stack->inner)) {
        const struct un_tcb *tcb = &stack->inner.tcp.tcbs[(*position)++];
        if (tcb->state == UN_TCP_CLOSED)
            continue;
        *conn = tcb->flags & UN_TCB_DETACHED ? 0 : un_stack_handle(&stack->inner, tcb);
        *info = describe(stack, tcb);
        return 1;
    }
    return 0;
}

/* The stack. */

void usnet_stack_usage(const struct usnet_stack *stack, struct usnet_stack_usage *usage)
{
    if (!stack || !usage)
        return;
    const struct un_stack *inner = &stack->inner;
    *usage = (struct usnet_stack_usage){
        .conns = inner->own->conn_count,
        .frames_free = inner->tcp.pool.own->free_count,
        .sents_free = inner->tcp.sent_pool->free_count,
    };
}

/* Names. */

const char *usnet_congestion_name(uint32_t index)
{
    return index < UN_CONGESTIONS ? un_congestions[index]->name : NULL;
}

const char *usnet_tcp_state_name(uint32_t state)
{
    static const char *const names[] = {"closed",     "syn_sent",   "syn_received", "established", "fin_wait_1",
                                        "fin_wait_2", "close_wait", "closing",      "last_ack",    "time_wait",
                                        "dead"};
    for (uint32_t bit = 0; bit < UN_API_LENGTH(names); bit++)
        if (state == 1u << bit)
            return names[bit];
    return NULL;
}

const char *usnet_tcp_reason_name(uint32_t reason)
{
    static const char *const names[UN_TCP_REASON_COUNT] = {
        [UN_TCP_REASON_NONE] = "none",
        [UN_TCP_REASON_CLOSED] = "closed",
        [UN_TCP_REASON_RESET] = "reset",
        [UN_TCP_REASON_REFUSED] = "refused",
        [UN_TCP_REASON_ABORTED] = "aborted",
        [UN_TCP_REASON_TIMEOUT] = "timeout",
        [UN_TCP_REASON_KEEPALIVE] = "keepalive",
        [UN_TCP_REASON_UNREACHABLE] = "unreachable",
    };
    return reason < UN_TCP_REASON_COUNT ? names[reason] : NULL;
}

/* Counters: the structs hold nothing else, so they can be read as arrays. */

static const struct un_api_counter tcp_counters[] = {UN_TCP_COUNTERS(UN_API_COUNTER)};
static const struct un_api_counter ip_counters[] = {UN_STACK_COUNTERS(UN_API_COUNTER)};
static const struct un_api_counter drop_counters[] = {UN_DROPS(UN_API_COUNTER)};
static const struct un_api_counter device_counters[] = {UN_DEVICE_COUNTERS(UN_API_COUNTER)};

UN_STATIC_ASSERT(sizeof(struct un_tcp_counters) == sizeof(uint64_t) * UN_API_LENGTH(tcp_counters),
                 "nothing but counters");
UN_STATIC_ASSERT(sizeof(struct un_stack_counters) == sizeof(uint64_t) * UN_API_LENGTH(ip_counters),
                 "nothing but counters");
UN_STATIC_ASSERT(sizeof(struct un_device_counters) == sizeof(uint64_t) * UN_API_LENGTH(device_counters),
                 "nothing but counters");
UN_STATIC_ASSERT(UN_DROP_COUNT == UN_API_LENGTH(drop_counters) + 1, "reason 0 is no drop");

static const struct {
    const struct un_api_counter *counters;
    uint32_t count;
} kinds[] = {
    [USNET_STACK_TCP] = {tcp_counters, UN_API_LENGTH(tcp_counters)},
    [USNET_STACK_IP] = {ip_counters, UN_API_LENGTH(ip_counters)},
    [USNET_STACK_DROPS] = {drop_counters, UN_API_LENGTH(drop_counters)},
    [USNET_STACK_DEVICE] = {device_counters, UN_API_LENGTH(device_counters)},
};

static const uint64_t *counter_values(const struct usnet_stack *stack, enum usnet_stack_counter_kind kind)
{
    switch (kind) {
    case USNET_STACK_TCP:
        return (const uint64_t *)stack->inner.tcp.counters;
    case USNET_STACK_IP:
        return (const uint64_t *)stack->inner.counters;
    case USNET_STACK_DROPS:
        return stack->inner.tcp.drops + 1;
    default:
        return (const uint64_t *)&stack->inner.published->device;
    }
}

uint32_t usnet_stack_counter_count(enum usnet_stack_counter_kind kind)
{
    return (uint32_t)kind < UN_API_LENGTH(kinds) ? kinds[kind].count : 0;
}

const char *usnet_stack_counter_name(enum usnet_stack_counter_kind kind, uint32_t index)
{
    return index < usnet_stack_counter_count(kind) ? kinds[kind].counters[index].name : NULL;
}

const char *usnet_stack_counter_help(enum usnet_stack_counter_kind kind, uint32_t index)
{
    return index < usnet_stack_counter_count(kind) ? kinds[kind].counters[index].help : NULL;
}

int usnet_stack_counters(const struct usnet_stack *stack, enum usnet_stack_counter_kind kind, uint64_t *values,
                         uint32_t max)
{
    if (!stack || (!values && max > 0))
        return -EFAULT;
    const uint64_t *from = counter_values(stack, kind);
    uint32_t count = usnet_stack_counter_count(kind);
    if (count > max)
        count = max;
    for (uint32_t i = 0; i < count; i++)
        values[i] = from[i];
    return (int)count;
}
