/* Deadlines of a connection. The wheel holds at most one entry for it, at or before the earliest of them; a deadline
 * that moved or went leaves that entry where it is, and what fires early finds nothing due. */
#include "tcp/internal.h"

#define BACKOFF_MAX 16u          /* doublings; the timeout has long come to its maximum */
#define OVERRIDE_MAX_NS UN_SECOND_NS /* silly window avoidance gives way after 0.1 to 1 s: RFC 9293 section 3.8.6.2.1 */

uint64_t un_tcp_deadline_ns(const struct un_tcb *tcb)
{
    uint64_t earliest = 0;
    for (uint32_t timer = 0; timer < UN_TIMERS; timer++) {
        uint64_t deadline = tcb->timers[timer];
        if (deadline && (!earliest || deadline < earliest))
            earliest = deadline;
    }
    return earliest;
}

/* ---- user timeout (RFC 5482; R2 of RFC 9293 section 3.8.3) ---- */

static uint64_t user_timeout_ns(const struct un_tcp *tcp, const struct un_tcb *tcb)
{
    return (tcb->user_timeout_ms ? tcb->user_timeout_ms : tcp->config->user_timeout_ms) * UN_MS_NS;
}

static bool is_given_up(const struct un_tcp *tcp, const struct un_tcb *tcb)
{
    return tcb->unacked_ns && tcp->now_ns - tcb->unacked_ns >= user_timeout_ns(tcp, tcb);
}

/* `wait_ns`, or as long as the peer still has. */
static uint64_t within_user_timeout(const struct un_tcp *tcp, const struct un_tcb *tcb, uint64_t wait_ns)
{
    if (tcb->unacked_ns == 0 || !(tcb->state & UN_TCP_SYNCHRONIZED))
        return wait_ns;
    uint64_t waited_ns = tcp->now_ns - tcb->unacked_ns, most_ns = user_timeout_ns(tcp, tcb);
    uint64_t left_ns = waited_ns < most_ns ? most_ns - waited_ns : 0;
    return wait_ns < left_ns ? wait_ns : left_ns;
}

uint64_t un_tcp_timeout_ns(const struct un_tcp *tcp, const struct un_tcb *tcb)
{
    return within_user_timeout(tcp, tcb, un_recovery_rto_ns(tcp, tcb));
}

/* Of an attempt, how long it may take in all: SYNs are otherwise counted. */
static void bound_attempt(struct un_tcp *tcp, struct un_tcb *tcb)
{
    uint64_t begin_ns = tcb->unacked_ns ? tcb->unacked_ns : tcp->now_ns;
    if (tcb->user_timeout_ms)
        un_tcp_arm(tcp, tcb, UN_TIMER_LIFE, begin_ns + user_timeout_ns(tcp, tcb));
    else
        un_tcp_disarm(tcb, UN_TIMER_LIFE);
}

void un_tcp_set_user_timeout(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t timeout_ms)
{
    tcb->user_timeout_ms = timeout_ms;
    if (tcb->state & (UN_TCP_SYN_SENT | UN_TCP_SYN_RECEIVED)) {
        bound_attempt(tcp, tcb);
    } else if (tcb->timers[UN_TIMER_RETRANSMIT] > tcp->now_ns && (tcb->backoff > 0 || (tcb->flags & UN_TCB_PERSIST))) {
        uint64_t wait_ns = tcb->timers[UN_TIMER_RETRANSMIT] - tcp->now_ns;
        un_tcp_arm(tcp, tcb, UN_TIMER_RETRANSMIT, tcp->now_ns + within_user_timeout(tcp, tcb, wait_ns));
    }
}

/* ---- keepalive (RFC 9293 section 3.8.4) ---- */

static bool is_kept_alive(const struct un_tcb *tcb)
{
    const uint32_t states = UN_TCP_SYNCHRONIZED & ~(uint32_t)UN_TCP_TIME_WAIT;
    bool is_orphan = (tcb->flags & UN_TCB_DETACHED) && tcb->state == UN_TCP_FIN_WAIT_2;
    return (tcb->state & states) && !is_orphan;
}

void un_tcp_rearm_keepalive(struct un_tcp *tcp, struct un_tcb *tcb)
{
    if (!is_kept_alive(tcb))
        return;
    if (!(tcb->flags & UN_TCB_KEEPALIVE)) {
        un_tcp_disarm(tcb, UN_TIMER_LIFE);
        return;
    }
    if (!(tcb->flags & UN_TCB_PERSIST) || !un_tcp_has_unsent(tcb)) { /* else `probes` counts those of the window */
        tcb->probes = 0;
        if (tcb->snd_una == tcb->snd_nxt)
            tcb->unacked_ns = 0;
    }
    tcb->flags &= ~(uint32_t)UN_TCB_KEEPALIVE_DUE;
    un_tcp_arm(tcp, tcb, UN_TIMER_LIFE, tcp->now_ns + tcb->keep_idle_s * UN_SECOND_NS);
}

/* A user timeout that the application has set takes the place of the number of probes: RFC 5482 section 4.2. It runs
 * from when the silence began, and is looked at when a probe is due. */
static bool is_silent_too_long(const struct un_tcp *tcp, const struct un_tcb *tcb)
{
    return tcb->user_timeout_ms ? tcb->probes > 0 && is_given_up(tcp, tcb) : tcb->probes >= tcb->keep_count;
}

static void keepalive_expired(struct un_tcp *tcp, struct un_tcb *tcb)
{
    if (!(tcb->flags & UN_TCB_KEEPALIVE) || !is_kept_alive(tcb))
        return;
    if (tcb->snd_una != tcb->snd_nxt || un_tcp_has_unsent(tcb)) { /* data asks the same question */
        un_tcp_rearm_keepalive(tcp, tcb);
        return;
    }
    if (is_silent_too_long(tcp, tcb)) {
        un_tcp_abort(tcp, tcb, UN_TCP_REASON_KEEPALIVE);
        return;
    }
    if (tcb->probes == 0)
        tcb->unacked_ns = tcp->now_ns - tcb->keep_idle_s * UN_SECOND_NS;
    if (tcb->probes < UINT8_MAX)
        tcb->probes++;
    tcb->flags |= UN_TCB_KEEPALIVE_DUE;
    un_tcp_arm(tcp, tcb, UN_TIMER_LIFE, tcp->now_ns + tcb->keep_interval_s * UN_SECOND_NS);
    un_tcp_want_output(tcp, tcb);
}

/* ---- persist ---- */

void un_tcp_arm_persist(struct un_tcp *tcp, struct un_tcb *tcb)
{
    if (tcb->timers[UN_TIMER_RETRANSMIT] || !un_tcp_waits(tcb))
        return;
    uint64_t wait = un_tcp_timeout_ns(tcp, tcb);
    uint64_t most = tcb->snd_wnd == 0 ? tcp->config->persist_max_us * UN_US_NS : OVERRIDE_MAX_NS;
    tcb->flags |= UN_TCB_PERSIST;
    un_tcp_arm(tcp, tcb, UN_TIMER_RETRANSMIT, tcp->now_ns + (wait < most ? wait : most));
}

void un_tcp_leave_persist(struct un_tcb *tcb)
{
    tcb->flags &= ~(uint32_t)(UN_TCB_PERSIST | UN_TCB_WINDOW_PROBE);
    tcb->backoff = 0;
    tcb->probes = 0;
    tcb->unacked_ns = 0;
    un_tcp_disarm(tcb, UN_TIMER_RETRANSMIT);
}

static void persist_expired(struct un_tcp *tcp, struct un_tcb *tcb)
{
    if (is_given_up(tcp, tcb)) {
        un_tcp_abort(tcp, tcb, UN_TCP_REASON_TIMEOUT);
        return;
    }
    if (un_tcp_has_unsent(tcb) && (tcb->state & UN_TCP_SYNCHRONIZED)) {
        tcb->flags |= UN_TCB_WINDOW_PROBE;
        if (tcb->snd_wnd == 0 && tcb->backoff < BACKOFF_MAX)
            tcb->backoff++;
    }
    if ((tcb->flags & UN_TCB_WANT_WRITE) && un_tcp_write_room(tcp, tcb) > 0) { /* it was frames that were short */
        tcb->flags &= ~(uint32_t)UN_TCB_WANT_WRITE;
        un_tcp_raise(tcp, tcb, UN_TCP_EVENT_WRITABLE);
    }
    un_tcp_want_output(tcp, tcb);
}

/* ---- retransmission ---- */

/* SYN and SYN-ACK are sent so often, everything else for so long (R2 of RFC 9293 section 3.8.3). */
static bool attempts_are_over(const struct un_tcp *tcp, const struct un_tcb *tcb)
{
    if (tcb->state == UN_TCP_SYN_SENT)
        return tcb->backoff >= tcp->config->syn_retries;
    if (tcb->state == UN_TCP_SYN_RECEIVED)
        return tcb->backoff >= tcp->config->syn_ack_retries;
    return is_given_up(tcp, tcb);
}

static void give_up(struct un_tcp *tcp, struct un_tcb *tcb)
{
    if (tcb->state & UN_TCP_SYNCHRONIZED)
        un_tcp_abort(tcp, tcb, UN_TCP_REASON_TIMEOUT);
    else
        un_tcp_end(tcp, tcb, tcb->soft_error ? UN_TCP_REASON_UNREACHABLE : UN_TCP_REASON_TIMEOUT);
}

static void retransmit_expired(struct un_tcp *tcp, struct un_tcb *tcb)
{
    if (tcb->flags & UN_TCB_PERSIST) {
        persist_expired(tcp, tcb);
        return;
    }
    if (tcb->snd_una == tcb->snd_nxt)
        return;
    if (attempts_are_over(tcp, tcb)) {
        give_up(tcp, tcb);
        return;
    }
    un_tcp_suspect_black_hole(tcp, tcb);
    un_recovery_timeout(tcp, tcb);
    un_tcp_want_output(tcp, tcb);
}

/* ---- the rest ---- */

static void reorder_expired(struct un_tcp *tcp, struct un_tcb *tcb)
{
    un_recovery_reorder_timeout(tcp, tcb);
    un_tcp_want_output(tcp, tcb);
}

static void ack_expired(struct un_tcp *tcp, struct un_tcb *tcb)
{
    if (!(tcb->flags & UN_TCB_ACK_LATER)) {
        un_tcp_open_window(tcp, tcb);
        return;
    }
    tcp->counters->delayed_acks++;
    un_tcp_ack_now(tcp, tcb);
}

static void life_expired(struct un_tcp *tcp, struct un_tcb *tcb)
{
    if (tcb->state == UN_TCP_TIME_WAIT)
        un_tcp_end(tcp, tcb, UN_TCP_REASON_CLOSED);
    else if (tcb->state & (UN_TCP_SYN_SENT | UN_TCP_SYN_RECEIVED))
        give_up(tcp, tcb);
    else if (tcb->state == UN_TCP_FIN_WAIT_2 && (tcb->flags & UN_TCB_DETACHED))
        un_tcp_end(tcp, tcb, UN_TCP_REASON_TIMEOUT);
    else
        keepalive_expired(tcp, tcb);
}

static void (*const expired[UN_TIMERS])(struct un_tcp *, struct un_tcb *) = {
    [UN_TIMER_RETRANSMIT] = retransmit_expired,
    [UN_TIMER_REORDER] = reorder_expired,
    [UN_TIMER_ACK] = ack_expired,
    [UN_TIMER_LIFE] = life_expired,
};

void un_tcp_expire(struct un_tcp *tcp, struct un_tcb *tcb)
{
    for (uint32_t timer = 0; timer < UN_TIMERS; timer++) {
        if (!tcb->timers[timer] || tcb->timers[timer] > tcp->now_ns)
            continue;
        un_assert(!un_tcp_is_over(tcb)); /* a connection that is over has no timers */
        tcb->timers[timer] = 0;
        expired[timer](tcp, tcb);
        if (un_tcp_is_over(tcb))
            return;
    }
    uint64_t deadline = un_tcp_deadline_ns(tcb);
    if (deadline)
        tcp->operations->arm(tcp, tcb, deadline);
}
