/* The handshake (RFC 9293 sections 3.5 and 3.10.7.3): what SYNs offer and agree on, SYN-SENT, simultaneous open, and
 * connections made from a SYN or from a cookie. The options are RFC 7323 (window scale, timestamps), RFC 2018 (SACK)
 * and RFC 3168 section 6.1.1 (ECN). */
#include "tcp/internal.h"

#define AFTER_CHALLENGE_NS (2 * UN_MS_NS) /* so that the SYN does not overtake the reset; Linux: 2 jiffies */

uint8_t un_tcp_window_scale(const struct un_tcp_config *config, uint32_t limit)
{
    uint8_t scale = 0;
    if (limit >= config->rcv_limit) /* it may grow: tune.c */
        limit = un_max32(limit, config->rcv_limit_max);
    while (config->window_scaling && scale < UN_TCP_WSCALE_MAX && (limit >> scale) > UINT16_MAX)
        scale++;
    return scale;
}

static bool may_use_ecn(const struct un_tcp_config *config, const struct un_tcb *tcb)
{
    return tcb->flags & UN_TCB_ACTIVE ? config->ecn == UN_ECN_ASK : config->ecn != UN_ECN_NEVER;
}

static void offer(const struct un_tcp *tcp, struct un_tcb *tcb)
{
    const struct un_tcp_config *config = tcp->config;
    tcb->flags |= (config->window_scaling ? UN_TCB_WSCALE : 0u) | (config->timestamps ? UN_TCB_TIMESTAMP : 0u) |
                  (config->sack ? UN_TCB_SACK : 0u) | (may_use_ecn(config, tcb) ? UN_TCB_ECN : 0u);
}

/* A SYN asks for ECN with both flags, a SYN-ACK grants it with one. */
static bool wants_ecn(const struct un_seg *syn)
{
    uint8_t asked = syn->flags & UN_TCP_ACK ? UN_TCP_ECE : UN_TCP_ECE | UN_TCP_CWR;
    return (syn->flags & (UN_TCP_ECE | UN_TCP_CWR)) == asked;
}

/* What we offered and the peer's SYN does not is off; the receive side begins. */
static void agree(const struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *syn)
{
    uint32_t off = (syn->options & UN_SEG_WSCALE ? 0u : UN_TCB_WSCALE) |
                   (syn->options & UN_SEG_TIMESTAMP ? 0u : UN_TCB_TIMESTAMP) |
                   (syn->options & UN_SEG_SACK_PERMITTED ? 0u : UN_TCB_SACK) | (wants_ecn(syn) ? 0u : UN_TCB_ECN);
    tcb->flags &= ~off;
    if (!(tcb->flags & UN_TCB_WSCALE))
        tcb->rcv_wscale = 0;
    tcb->snd_wscale = tcb->flags & UN_TCB_WSCALE ? (uint8_t)un_min32(syn->wscale, UN_TCP_WSCALE_MAX) : 0;
    if (tcb->flags & UN_TCB_TIMESTAMP) {
        tcb->ts_recent = syn->tsval;
        tcb->ts_recent_s = tcp->now_s;
    }
    un_tcp_set_peer_mss(tcb, syn);
    uint16_t offered = un_tcp_window_syn(tcp, tcb); /* depends on rcv_nxt as it was when our SYN left */
    tcb->irs = syn->seq;
    tcb->rcv_nxt = tcb->rcv_acked = syn->seq + 1;
    tcb->rcv_edge = tcb->rcv_nxt + offered;
    tcb->snd_wnd = tcb->snd_wnd_max = syn->wnd; /* of a SYN: never scaled */
    tcb->snd_wl1 = syn->seq;
    tcb->snd_wl2 = tcb->iss;
}

void un_tcp_connect(struct un_tcp *tcp, struct un_tcb *tcb)
{
    un_assert(tcb->state == UN_TCP_CLOSED && tcb->snd_nxt == tcb->iss);
    tcb->flags |= UN_TCB_ACTIVE;
    offer(tcp, tcb);
    un_tcp_set_state(tcp, tcb, UN_TCP_SYN_SENT);
    tcp->counters->active_opens++;
    un_tcp_want_output(tcp, tcb);
}

void un_tcp_accept_syn(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *syn)
{
    un_assert(tcb->state == UN_TCP_CLOSED && tcb->snd_nxt == tcb->iss);
    offer(tcp, tcb);
    agree(tcp, tcb, syn);
    un_tcp_set_state(tcp, tcb, UN_TCP_SYN_RECEIVED);
    tcp->counters->passive_opens++;
    un_tcp_want_output(tcp, tcb);
}

void un_tcp_accept_cookie(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *syn)
{
    un_assert(tcb->state == UN_TCP_CLOSED && tcb->snd_nxt == tcb->iss);
    offer(tcp, tcb);
    agree(tcp, tcb, syn);
    /* whatever the pool has: cookie.c offered it */
    tcb->rcv_edge = tcb->rcv_nxt + un_min32(tcb->rcv_limit, UINT16_MAX);
    tcb->snd_una = tcb->snd_nxt = tcb->iss + 1;
    tcp->counters->passive_opens++;
    tcp->counters->syn_cookies_received++;
    un_tcp_establish(tcp, tcb);
}

void un_tcp_process_syn_acked(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg, uint32_t window)
{
    bool was_resent = tcb->backoff > 0;
    un_assert(seg->ack == tcb->snd_nxt && seg->ack != tcb->snd_una);
    un_recovery_ack(tcp, tcb, seg, true);
    tcb->snd_una = seg->ack;
    tcb->snd_wnd = window;
    tcb->snd_wnd_max = un_max32(tcb->snd_wnd_max, window);
    tcb->snd_wl1 = seg->seq;
    tcb->snd_wl2 = seg->ack;
    if (was_resent)
        un_recovery_spurious_syn(tcp, tcb);
    un_tcp_establish(tcp, tcb);
}

/* Both sides opened at the same time: our SYN goes out again, with the ACK of theirs. */
static void open_simultaneously(struct un_tcp *tcp, struct un_tcb *tcb)
{
    un_tcp_set_state(tcp, tcb, UN_TCP_SYN_RECEIVED);
    uint32_t tsval;
    if (tcb->snd_nxt != tcb->iss) /* else dispatch sends it for the first time */
        un_tcp_send_syn(tcp, tcb, &tsval);
}

/* The peer still has another connection with these ends, and challenged our SYN; the reset that it gets now ends that
 * one. A second SYN, right behind, begins ours; without it the first timeout would have to pass. Once in an attempt, as
 * in Linux. */
static void try_again_soon(struct un_tcp *tcp, struct un_tcb *tcb)
{
    if (tcb->snd_nxt != tcb->iss && tcb->backoff == 0)
        un_tcp_arm(tcp, tcb, UN_TIMER_RETRANSMIT, tcp->now_ns + AFTER_CHALLENGE_NS);
}

/* First step of SYN-SENT: an ACK of anything but our SYN is of another connection. */
static bool check_ack(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg)
{
    if (!(seg->flags & UN_TCP_ACK) || (seg->ack == tcb->snd_nxt && tcb->snd_nxt != tcb->iss))
        return true;
    if (!(seg->flags & UN_TCP_RST)) {
        un_tcp_send_reset(tcp, tcb, seg->ack, false);
        try_again_soon(tcp, tcb);
    }
    return false;
}

static enum un_drop take_syn(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg)
{
    if (!check_ack(tcp, tcb, seg))
        return UN_DROP_tcp_bad_ack;
    if (seg->flags & UN_TCP_RST) {
        if (!(seg->flags & UN_TCP_ACK))
            return UN_DROP_tcp_no_ack;
        un_tcp_end(tcp, tcb, UN_TCP_REASON_REFUSED);
        return UN_DROP_NONE;
    }
    if (!(seg->flags & UN_TCP_SYN))
        return UN_DROP_tcp_flags;
    agree(tcp, tcb, seg);
    if (!(seg->flags & UN_TCP_ACK)) {
        open_simultaneously(tcp, tcb);
        return UN_DROP_NONE;
    }
    un_tcp_process_syn_acked(tcp, tcb, seg, seg->wnd);
    un_tcp_ack_now(tcp, tcb);
    return UN_DROP_NONE;
}

enum un_drop un_tcp_process_syn_sent(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg, uint32_t frame)
{
    enum un_drop drop = take_syn(tcp, tcb, seg);
    if (drop != UN_DROP_NONE || !(tcb->state & UN_TCP_CAN_RECEIVE)) {
        un_pool_drop_chain(&tcp->pool, frame);
        return un_tcp_drop(tcp, drop);
    }
    /* Whatever else the SYN-ACK carries stands behind its SYN. */
    if (seg->length > 0)
        drop = un_tcp_receive(tcp, tcb, seg->seq + 1, seg->length, frame);
    if (seg->flags & UN_TCP_FIN)
        un_tcp_receive_fin(tcp, tcb, seg->seq + 1 + seg->length);
    return drop;
}
