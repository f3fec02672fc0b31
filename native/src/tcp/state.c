/* The states of a connection (RFC 9293 section 3.3.2), its beginning and its end. See tcp.h.
 *
 * Two states are ours. CLOSED is a free slot. DEAD is a connection that is over while its application still holds it:
 * it remembers why, and what was received in order and not yet read. The application is told of the end once (finish):
 * at TIME-WAIT, since nothing more can happen for it then, or when the connection ends before that. Of an orderly end
 * it is told when it has read everything. tcb->reason is set from then on.
 *
 *            connect          accept_syn     accept_cookie
 *   CLOSED ---------> SYN-SENT    |               |
 *                      |    '-> SYN-RECEIVED      |
 *                      '-> ESTABLISHED <-'--------'
 *     our FIN first      |         |   the peer's FIN first
 *       FIN-WAIT-1 <-----'         '----> CLOSE-WAIT
 *         |     '--> CLOSING                 |
 *       FIN-WAIT-2      |                 LAST-ACK
 *         '-> TIME-WAIT <                    |
 *                 '------> DEAD, CLOSED <----' */
#include "tcp/internal.h"

#include <stddef.h>
#include <string.h>

#define THE_END (UN_TCP_DEAD | UN_TCP_CLOSED)

/* What may follow a state, by the number of its bit. */
static const uint16_t successors[] = {
    [0] = UN_TCP_SYN_SENT | UN_TCP_SYN_RECEIVED | UN_TCP_ESTABLISHED, /* CLOSED */
    [1] = UN_TCP_SYN_RECEIVED | UN_TCP_ESTABLISHED | THE_END,         /* SYN-SENT */
    [2] = UN_TCP_ESTABLISHED | THE_END,                               /* SYN-RECEIVED */
    [3] = UN_TCP_FIN_WAIT_1 | UN_TCP_CLOSE_WAIT | THE_END,            /* ESTABLISHED */
    [4] = UN_TCP_FIN_WAIT_2 | UN_TCP_CLOSING | THE_END,               /* FIN-WAIT-1 */
    [5] = UN_TCP_TIME_WAIT | THE_END,                                 /* FIN-WAIT-2 */
    [6] = UN_TCP_LAST_ACK | THE_END,                                  /* CLOSE-WAIT */
    [7] = UN_TCP_TIME_WAIT | THE_END,                                 /* CLOSING */
    [8] = THE_END,                                                    /* LAST-ACK */
    [9] = THE_END,                                                    /* TIME-WAIT */
    [10] = THE_END,                                                   /* DEAD: adoption may end it once more */
};

void un_tcp_set_state(struct un_tcp *tcp, struct un_tcb *tcb, enum un_tcp_state state)
{
    un_assert(state & successors[__builtin_ctz(tcb->state)]);
    tcb->state = (uint16_t)state;
    if (state == UN_TCP_CLOSED)
        tcp->operations->ended(tcp, tcb);
}

void un_tcp_init(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t iss, uint32_t ts_offset, uint16_t path_mtu,
                 uint16_t link_mtu)
{
    const struct un_tcp_config *config = tcp->config;
    uint64_t user = tcb->user;
    uint16_t listener = tcb->listener;
    memset(&tcb->rcv_nxt, 0, offsetof(struct un_tcb, event_next) - offsetof(struct un_tcb, rcv_nxt));
    memset(&tcb->tos, 0, offsetof(struct un_tcb, wheel_next) - offsetof(struct un_tcb, tos));
    tcb->user = user;
    tcb->listener = listener;
    tcb->state = UN_TCP_CLOSED;

    tcb->iss = tcb->snd_una = tcb->snd_nxt = tcb->snd_small_end = iss;
    tcb->ts_offset = ts_offset;
    tcb->path_mtu = path_mtu;
    tcb->path_mtu_max = link_mtu;
    tcb->path_minute = un_tcp_clock_minute(tcp);
    tcb->rcv_limit = config->rcv_limit;
    tcb->snd_limit = config->snd_limit;
    tcb->rcv_wscale = un_tcp_window_scale(config, config->rcv_limit);
    tcb->rcv_mss = UN_TCP_RCV_MSS_MIN;
    tcb->rcv.head = tcb->rcv_ooo.head = tcb->snd.head = UN_NONE;
    tcb->unsent_frame = tcb->sent_head = tcb->sent_tail = UN_NONE;
    tcb->keep_idle_s = config->keep_idle_s;
    tcb->keep_interval_s = config->keep_interval_s;
    tcb->keep_count = config->keep_count;
    tcb->congestion = config->congestion;
    un_tcp_set_peer_mss(tcb, NULL);
    un_recovery_init(tcp, tcb);
}

void un_tcp_establish(struct un_tcp *tcp, struct un_tcb *tcb)
{
    un_assert(tcb->snd_una == tcb->iss + 1 && tcb->snd_nxt == tcb->snd_una); /* our SYN, and nothing else */
    un_tcp_set_state(tcp, tcb, UN_TCP_ESTABLISHED);
    un_recovery_established(tcp, tcb);
    tcb->snd_small_end = tcb->snd_una;
    tcb->unacked_ns = 0;
    tcb->quickacks = UN_TCP_QUICKACKS;
    un_tcp_disarm(tcb, UN_TIMER_LIFE);
    un_tcp_rearm_keepalive(tcp, tcb);
    un_tcp_raise(tcp, tcb, tcb->flags & UN_TCB_ACTIVE ? UN_TCP_EVENT_CONNECTED : UN_TCP_EVENT_ACCEPTED);
    if (tcb->flags & UN_TCB_FIN_QUEUED) { /* asked for while there was no connection yet */
        un_tcp_set_state(tcp, tcb, UN_TCP_FIN_WAIT_1);
        un_tcp_want_output(tcp, tcb);
    }
}

/* The application hears that it is over, once: of an orderly end when it has read everything, of any other at once. */
static void finish(struct un_tcp *tcp, struct un_tcb *tcb, enum un_tcp_reason reason)
{
    if (tcb->reason != UN_TCP_REASON_NONE)
        return;
    tcb->reason = (uint8_t)reason;
    if (tcb->rcv_bytes == 0 || reason != UN_TCP_REASON_CLOSED)
        un_tcp_raise(tcp, tcb, UN_TCP_EVENT_CLOSED);
}

void un_tcp_enter_fin_wait_2(struct un_tcp *tcp, struct un_tcb *tcb)
{
    un_assert(un_tcp_fin_acked(tcb));
    un_tcp_set_state(tcp, tcb, UN_TCP_FIN_WAIT_2);
    if (tcb->flags & UN_TCB_DETACHED)
        un_tcp_arm(tcp, tcb, UN_TIMER_LIFE, tcp->now_ns + tcp->config->fin_wait_2_ms * UN_MS_NS);
}

/* Both FINs are acknowledged: only the last ACK may have to be repeated (RFC 9293 section 3.10.7.4). */
void un_tcp_enter_time_wait(struct un_tcp *tcp, struct un_tcb *tcb)
{
    un_assert(un_tcp_fin_acked(tcb) && (tcb->flags & UN_TCB_FIN_RECEIVED));
    un_tcp_set_state(tcp, tcb, UN_TCP_TIME_WAIT);
    un_recovery_end(tcp, tcb);
    un_tx_drop_all(tcp, tcb);
    un_tcp_disarm(tcb, UN_TIMER_RETRANSMIT);
    un_tcp_disarm(tcb, UN_TIMER_REORDER);
    tcb->flags &= ~(uint32_t)(UN_TCB_PERSIST | UN_TCB_WANT_WRITE);
    un_tcp_arm(tcp, tcb, UN_TIMER_LIFE, tcp->now_ns + 2 * UN_MS_NS * tcp->config->msl_ms);
    finish(tcp, tcb, UN_TCP_REASON_CLOSED);
}

static void count_end(struct un_tcp *tcp, const struct un_tcb *tcb, enum un_tcp_reason reason)
{
    if (tcb->state & (UN_TCP_SYN_SENT | UN_TCP_SYN_RECEIVED))
        tcp->counters->attempt_fails++;
    else if ((tcb->state & UN_TCP_CAN_SEND) && reason != UN_TCP_REASON_CLOSED)
        tcp->counters->established_resets++;
}

void un_tcp_end(struct un_tcp *tcp, struct un_tcb *tcb, enum un_tcp_reason reason)
{
    /* Of a connection that a peer asked for, the application knows only when it was established. */
    bool is_known = (tcb->flags & UN_TCB_ACTIVE) || tcb->state != UN_TCP_SYN_RECEIVED;
    bool is_held = is_known && !(tcb->flags & UN_TCB_DETACHED);
    count_end(tcp, tcb, reason);
    un_recovery_end(tcp, tcb);
    un_tx_drop_all(tcp, tcb);
    if (is_held) /* what was acknowledged can still be read, as in BSD and Linux */
        un_rx_drop_out_of_order(tcp, tcb);
    else
        un_rx_drop_all(tcp, tcb);
    memset(tcb->timers, 0, sizeof tcb->timers);
    tcb->flags &= UN_TCB_ACTIVE | UN_TCB_ACCEPTED | UN_TCB_DETACHED | UN_TCB_FIN_RECEIVED | UN_TCB_READABLE_TOLD;
    if (is_held) {
        un_tcp_set_state(tcp, tcb, UN_TCP_DEAD);
        finish(tcp, tcb, reason);
    } else {
        un_tcp_set_state(tcp, tcb, UN_TCP_CLOSED);
    }
}

void un_tcp_forget(struct un_tcp *tcp, struct un_tcb *tcb)
{
    un_assert(tcb->state == UN_TCP_DEAD);
    un_rx_drop_all(tcp, tcb);
    un_tcp_set_state(tcp, tcb, UN_TCP_CLOSED);
}

enum un_tcp_reason un_tcp_reason(const struct un_tcb *tcb)
{
    return (enum un_tcp_reason)tcb->reason;
}

void un_tcp_shutdown(struct un_tcp *tcp, struct un_tcb *tcb)
{
    if (!(tcb->state & (UN_TCP_CAN_SEND | UN_TCP_SYN_SENT | UN_TCP_SYN_RECEIVED)))
        return;
    tcb->flags = (tcb->flags | UN_TCB_FIN_QUEUED) & ~(uint32_t)UN_TCB_WANT_WRITE;
    if (tcb->state == UN_TCP_ESTABLISHED)
        un_tcp_set_state(tcp, tcb, UN_TCP_FIN_WAIT_1);
    else if (tcb->state == UN_TCP_CLOSE_WAIT)
        un_tcp_set_state(tcp, tcb, UN_TCP_LAST_ACK);
    un_tcp_want_output(tcp, tcb);
}

void un_tcp_shutdown_input(struct un_tcb *tcb)
{
    tcb->flags |= UN_TCB_NO_INPUT;
}

void un_tcp_close(struct un_tcp *tcp, struct un_tcb *tcb)
{
    if (tcb->state == UN_TCP_DEAD) {
        un_tcp_forget(tcp, tcb);
        return;
    }
    bool has_unread = tcb->rcv_bytes > 0;
    tcb->flags |= UN_TCB_DETACHED;
    un_rx_drop_all(tcp, tcb);
    if (tcb->state == UN_TCP_SYN_SENT) {
        un_tcp_end(tcp, tcb, UN_TCP_REASON_ABORTED);
    } else if (has_unread && tcb->state != UN_TCP_TIME_WAIT) {
        un_tcp_abort(tcp, tcb, UN_TCP_REASON_ABORTED);
    } else {
        un_tcp_shutdown(tcp, tcb);
        if (tcb->state == UN_TCP_FIN_WAIT_2)
            un_tcp_arm(tcp, tcb, UN_TIMER_LIFE, tcp->now_ns + tcp->config->fin_wait_2_ms * UN_MS_NS);
    }
}

void un_tcp_abort(struct un_tcp *tcp, struct un_tcb *tcb, enum un_tcp_reason reason)
{
    if (tcb->state == UN_TCP_DEAD) {
        if (reason == UN_TCP_REASON_ABORTED)
            un_tcp_forget(tcp, tcb);
        return;
    }
    if (reason == UN_TCP_REASON_ABORTED) /* it was the application: it need not be told */
        tcb->flags |= UN_TCB_DETACHED;
    if (tcb->state & (UN_TCP_SYNCHRONIZED | UN_TCP_SYN_RECEIVED) && tcb->state != UN_TCP_TIME_WAIT)
        un_tcp_send_reset(tcp, tcb, un_tcp_reset_seq(tcb), true);
    un_tcp_end(tcp, tcb, reason);
}
