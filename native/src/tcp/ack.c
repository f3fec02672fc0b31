/* Step 5 of segment arrival: what an acceptable ACK changes (RFC 9293 section 3.10.7.4). Loss recovery and congestion
 * control see it first, with the block as it was; then the send queue, SND.UNA, the window, and the states that wait
 * for the ACK of our FIN. */
#include "tcp/internal.h"

bool un_tcp_acks_probe(const struct un_tcb *tcb, uint32_t ack)
{
    return (tcb->flags & UN_TCB_PERSIST) && tcb->backoff > 0 && ack == tcb->snd_nxt + 1 && un_tcp_has_unsent(tcb);
}

/* The peer took the byte, or the FIN, of a window probe: now it counts as sent. */
static void take_probe(struct un_tcp *tcp, struct un_tcb *tcb)
{
    un_assert(un_tcp_has_unsent(tcb));
    if (tcb->unsent_frame != UN_NONE) {
        un_tx_advance(tcp, &tcb->unsent_frame, &tcb->unsent_offset, 1);
        tcb->bytes_out++;
        tcp->counters->bytes_out++;
    } else {
        tcb->flags |= UN_TCB_FIN_SENT;
    }
    tcb->snd_nxt++;
    if (!un_tcp_waits(tcb))
        un_tcp_leave_persist(tcb);
}

static void tell_writable(struct un_tcp *tcp, struct un_tcb *tcb)
{
    if (!(tcb->flags & UN_TCB_WANT_WRITE) || un_tcp_write_room(tcp, tcb) < un_tcp_send_limit(tcp, tcb) / 4)
        return;
    tcb->flags &= ~(uint32_t)UN_TCB_WANT_WRITE;
    un_tcp_raise(tcp, tcb, UN_TCP_EVENT_WRITABLE);
}

static void advance(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t ack)
{
    bool has_fin = (tcb->flags & UN_TCB_FIN_SENT) && ack == tcb->snd_nxt;
    uint32_t payload = ack - tcb->snd_una - has_fin;
    if (payload > 0)
        un_tx_acked(tcp, tcb, payload);
    tcb->snd_una = ack;
    tcb->snd_small_end = un_seq_max(tcb->snd_small_end, ack);
    tcb->unacked_ns = ack == tcb->snd_nxt ? 0 : tcp->now_ns;
    tell_writable(tcp, tcb);
}

static void set_window(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg, uint32_t window)
{
    bool was_short = (tcb->flags & UN_TCB_LOSS) && un_tcp_window_is_short(tcb);
    if (window > 0 && tcb->snd_wnd == 0 && (tcb->flags & UN_TCB_PERSIST))
        un_tcp_leave_persist(tcb);
    tcb->snd_wnd = window;
    tcb->snd_wnd_max = un_max32(tcb->snd_wnd_max, window);
    tcb->snd_wl1 = seg->seq;
    tcb->snd_wl2 = seg->ack;
    if (was_short && !un_tcp_window_is_short(tcb))
        un_recovery_window_opened(tcp, tcb);
}

/* A peer that keeps its window shut and says so is alive: the user timeout begins anew with what is sent next (RFC 9293
 * section 3.8.6.1). Not so for a connection that its application has left, lest peers make us keep what nobody wants,
 * nor where the application has set the timeout: how long is long enough is its to say (RFC 6429 section 3). */
static void hear_shut_window(struct un_tcb *tcb)
{
    if ((tcb->flags & UN_TCB_DETACHED) || tcb->user_timeout_ms)
        return;
    tcb->probes = 0;
    tcb->unacked_ns = 0;
}

/* The states that waited for the ACK of our FIN. May end the connection. */
static void fin_acked(struct un_tcp *tcp, struct un_tcb *tcb)
{
    if (tcb->state == UN_TCP_FIN_WAIT_1)
        un_tcp_enter_fin_wait_2(tcp, tcb);
    else if (tcb->state == UN_TCP_CLOSING)
        un_tcp_enter_time_wait(tcp, tcb);
    else if (tcb->state == UN_TCP_LAST_ACK)
        un_tcp_end(tcp, tcb, UN_TCP_REASON_CLOSED);
}

/* The window of an older segment does not count (RFC 9293: SND.WL1, SND.WL2). */
static bool is_newer(const struct un_tcb *tcb, const struct un_seg *seg)
{
    return un_seq_lt(tcb->snd_wl1, seg->seq) || (tcb->snd_wl1 == seg->seq && un_seq_le(tcb->snd_wl2, seg->ack));
}

void un_tcp_process_ack(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg)
{
    uint32_t window = (uint32_t)seg->wnd << tcb->snd_wscale;
    bool sets_window = is_newer(tcb, seg);
    un_assert(seg->ack - tcb->snd_una <= tcb->snd_nxt - tcb->snd_una || un_tcp_acks_probe(tcb, seg->ack));
    if (tcb->snd_una == tcb->snd_nxt && seg->ack != tcb->snd_nxt) {
        take_probe(tcp, tcb);
    } else { /* what was needless is often told when nothing is in flight any more */
        if (seg->ack != tcb->snd_una)
            tcb->unacked_ns = tcp->now_ns; /* the next timeout is bounded by it */
        if (un_recovery_hears_congestion(tcb, seg) && tcb->snd_una != tcb->snd_nxt)
            un_recovery_congestion(tcp, tcb);
        un_recovery_ack(tcp, tcb, seg, sets_window && window != tcb->snd_wnd);
    }
    if (seg->ack != tcb->snd_una)
        advance(tcp, tcb, seg->ack);
    if (sets_window)
        set_window(tcp, tcb, seg, window);
    if (tcb->snd_wnd == 0)
        hear_shut_window(tcb);
    if (un_tcp_fin_acked(tcb))
        fin_acked(tcp, tcb);
    else if (un_tcp_has_unsent(tcb)) /* what is to be sent again, recovery asks for itself */
        un_tcp_want_output(tcp, tcb);
}
