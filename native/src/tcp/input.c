/* A segment arrives (RFC 9293 section 3.10.7.4). The common case, the next segment of an established connection with
 * nothing special about it, is told by one look at the header and goes straight to its ACK and payload (input_fast.h).
 * All others go through the steps in their order:
 *
 *   RST (RFC 5961 section 3) · SYN (section 4) · timestamp (RFC 7323 section 5) · sequence number · ACK (RFC 5961
 *   section 5) · ECN (RFC 3168) · payload · FIN
 *
 * RST and SYN come first because their answers do not depend on the steps between: a reset counts whatever its
 * timestamp, and a SYN is answered with an ACK whether it lies in the window or not. Urgent data is payload like all
 * other.
 *
 * A step returns whether the next one follows; if not, why is in *drop. */
#include "tcp/input_fast.h"
#include "tcp/rxblocks.h"

#define PAWS_LIFETIME_S (24u * 24 * 3600) /* RFC 7323 section 5.5 */
#define REUSE_DISTANCE (1u << 17)          /* of a new ISS from what the old connection sent last */

static uint32_t window_left(const struct un_tcb *tcb)
{
    return un_seq_lt(tcb->rcv_nxt, tcb->rcv_edge) ? tcb->rcv_edge - tcb->rcv_nxt : 0;
}

/* Answer a segment that is not taken with an ACK. Two confused sides must not keep each other busy with pure ACKs. */
static void acknowledge_unacceptable(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg)
{
    if (un_seg_space(seg) > 0)
        un_tcp_ack_now(tcp, tcb);
    else
        un_tcp_challenge(tcp, tcb);
}

static void reset_by_peer(struct un_tcp *tcp, struct un_tcb *tcb)
{
    bool is_refused = tcb->state == UN_TCP_SYN_RECEIVED && (tcb->flags & UN_TCB_ACTIVE);
    un_tcp_end(tcp, tcb, is_refused ? UN_TCP_REASON_REFUSED : UN_TCP_REASON_RESET);
}

/* RFC 5961 section 3.2. The right edge of the window counts as in it, as in is_acceptable: there a peer stands that has
 * filled the window and lost some of what it sent. May end the connection. */
static bool check_reset(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg, enum un_drop *drop)
{
    if (!(seg->flags & UN_TCP_RST))
        return true;
    if (seg->seq == tcb->rcv_nxt) {
        reset_by_peer(tcp, tcb);
    } else if (seg->seq - tcb->rcv_nxt <= window_left(tcb)) {
        un_tcp_challenge(tcp, tcb);
        *drop = UN_DROP_tcp_flags;
    } else {
        *drop = UN_DROP_tcp_window;
    }
    return false;
}

/* The peer's SYN again, in SYN-RECEIVED: our answer was lost, or both sides opened and this is the peer's. */
static void process_first_syn(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg)
{
    uint32_t tsval;
    if (tcb->snd_nxt == tcb->iss)
        return;
    if ((seg->flags & UN_TCP_ACK) && seg->ack == tcb->snd_nxt) {
        un_tcp_process_syn_acked(tcp, tcb, seg, seg->wnd);
        un_tcp_ack_now(tcp, tcb);
    } else {
        un_tcp_send_syn(tcp, tcb, &tsval);
    }
}

static bool check_syn(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg, enum un_drop *drop)
{
    if (!(seg->flags & UN_TCP_SYN))
        return true;
    if (tcb->state == UN_TCP_SYN_RECEIVED && seg->seq == tcb->irs) {
        process_first_syn(tcp, tcb, seg);
    } else {
        un_tcp_challenge(tcp, tcb);
        *drop = UN_DROP_tcp_flags;
    }
    return false;
}

static bool is_old_timestamp(const struct un_tcp *tcp, const struct un_tcb *tcb, const struct un_seg *seg)
{
    return un_seq_lt(seg->tsval, tcb->ts_recent) && tcp->now_s - tcb->ts_recent_s <= PAWS_LIFETIME_S;
}

/* There are peers, and boxes on the way, that agree on timestamps and leave them out later. RFC 7323 section 3.2 would
 * have such segments dropped, which is the end of the connection; Linux takes them, and so do we, without PAWS. */
static bool check_timestamp(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg, enum un_drop *drop)
{
    if (!(tcb->flags & UN_TCB_TIMESTAMP))
        return true;
    if (!(seg->options & UN_SEG_TIMESTAMP)) {
        tcp->counters->no_timestamp++;
        return true;
    }
    if (!is_old_timestamp(tcp, tcb, seg))
        return true;
    acknowledge_unacceptable(tcp, tcb, seg);
    *drop = UN_DROP_tcp_old_timestamp;
    return false;
}

/* Some of it lies in the window. A segment of no payload may also stand right at its edge, where a peer stands that has
 * filled the window; a FIN needs no room; and what comes next in order is looked at even when there is none, for its
 * ACK (RFC 9293 section 3.10.7.4: special allowance). */
static bool is_acceptable(const struct un_tcb *tcb, const struct un_seg *seg)
{
    uint32_t end = seg->seq + un_seg_space(seg);
    if (seg->seq == tcb->rcv_nxt)
        return true;
    if (seg->length == 0 && seg->seq == tcb->rcv_edge)
        return un_seq_lt(tcb->rcv_nxt, tcb->rcv_edge);
    return un_seq_lt(seg->seq, tcb->rcv_edge) && un_seq_lt(tcb->rcv_nxt, end + (end == seg->seq));
}

/* The peer repeats what it sent last, or its data has overtaken a pure ACK: the segment ends at rcv_nxt, or behind what
 * we have acknowledged. Of such a segment the ACK counts (RFC 9293 appendix A.2): the peer may have nothing else to say
 * it with. Older ones tell nothing new, and their numbers are easier to guess. */
static bool is_repeated(const struct un_tcb *tcb, const struct un_seg *seg)
{
    uint32_t end = seg->seq + un_seg_space(seg);
    return (tcb->state & UN_TCP_SYNCHRONIZED) && un_seq_lt(seg->seq, tcb->rcv_nxt) &&
           un_seq_le(tcb->rcv_acked, end) && un_seq_le(end, tcb->rcv_nxt);
}

/* A duplicate is shown to the receive queue, which reports it (RFC 2883), and the FIN behind it with it. */
static void report_duplicate(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg, uint32_t frame,
                             enum un_drop *drop)
{
    if (tcb->flags & UN_TCB_ACK_NOW) /* each duplicate has an ACK of its own */
        un_tcp_send_ack(tcp, tcb);
    un_rx_insert(tcp, tcb, seg->seq, frame, drop);
    if (seg->flags & UN_TCP_FIN)
        un_rx_blocks_duplicate(tcb, seg->seq + seg->length, seg->seq + seg->length + 1);
}

/* May end the connection. */
static bool check_ack(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg, enum un_drop *drop)
{
    if (!(seg->flags & UN_TCP_ACK)) {
        *drop = UN_DROP_tcp_no_ack;
        return false;
    }
    if (tcb->state == UN_TCP_SYN_RECEIVED) {
        if (seg->ack == tcb->snd_nxt && tcb->snd_nxt != tcb->iss) {
            un_tcp_process_syn_acked(tcp, tcb, seg, (uint32_t)seg->wnd << tcb->snd_wscale);
            return true;
        }
        un_tcp_send_reset(tcp, tcb, seg->ack, false);
        *drop = UN_DROP_tcp_bad_ack;
        return false;
    }
    bool is_future = un_seq_lt(tcb->snd_nxt, seg->ack) && !un_tcp_acks_probe(tcb, seg->ack);
    if (is_future || un_seq_lt(seg->ack, tcb->snd_una - tcb->snd_wnd_max)) {
        un_tcp_challenge(tcp, tcb);
        *drop = UN_DROP_tcp_bad_ack;
        return false;
    }
    un_tcp_rearm_keepalive(tcp, tcb);
    if (un_seq_le(tcb->snd_una, seg->ack))
        un_tcp_process_ack(tcp, tcb, seg);
    else
        un_recovery_late_ack(tcp, tcb, seg);
    return !un_tcp_is_over(tcb);
}

/* Step 1, which of a repeated segment takes step 5 as well. May end the connection. */
static bool check_sequence(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg, uint32_t *frame,
                           enum un_drop *drop)
{
    bool is_again = is_repeated(tcb, seg);
    if (is_acceptable(tcb, seg) || (is_again && un_seg_space(seg) == 0))
        return true;
    *drop = UN_DROP_tcp_window;
    if (seg->length > 0 && un_seq_lt(seg->seq, tcb->rcv_nxt)) {
        report_duplicate(tcp, tcb, seg, *frame, drop);
        *frame = UN_NONE;
    }
    if (!is_again || check_ack(tcp, tcb, seg, drop))
        acknowledge_unacceptable(tcp, tcb, seg);
    return false;
}

static void note_congestion(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg)
{
    if (!(tcb->flags & UN_TCB_ECN))
        return;
    if (seg->flags & UN_TCP_CWR)
        tcb->flags &= ~(uint32_t)UN_TCB_ECE;
    if (seg->ecn == 3 && seg->length > 0) {
        tcb->flags |= UN_TCB_ECE;
        tcp->counters->ecn_marks++;
    }
}

/* Why payload is not taken at all, though it lies in the window. */
static enum un_drop refuses_payload(const struct un_tcb *tcb, const struct un_seg *seg)
{
    const uint32_t ended = UN_TCB_NO_INPUT | UN_TCB_FIN_QUEUED;
    if ((tcb->flags & UN_TCB_DETACHED) || (tcb->flags & ended) == ended)
        return UN_DROP_tcp_after_close;
    if ((tcb->flags & UN_TCB_FIN_SEEN) && un_seq_lt(tcb->fin_seq, seg->seq + seg->length))
        return UN_DROP_tcp_window; /* behind the peer's own FIN */
    return UN_DROP_NONE;
}

/* May end the connection. */
static enum un_drop take_payload(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg, uint32_t frame)
{
    enum un_drop drop = seg->length > 0 ? refuses_payload(tcb, seg) : UN_DROP_NONE;
    if (drop != UN_DROP_NONE) {
        un_pool_drop_chain(&tcp->pool, frame);
        if (drop == UN_DROP_tcp_after_close) /* nobody will ever read it: RFC 9293 section 3.6 */
            un_tcp_abort(tcp, tcb, tcb->flags & UN_TCB_DETACHED ? UN_TCP_REASON_ABORTED : UN_TCP_REASON_RESET);
        return un_tcp_drop(tcp, drop);
    }
    if (seg->length > 0)
        drop = un_tcp_receive(tcp, tcb, seg->seq, seg->length, frame);
    if (seg->flags & UN_TCP_FIN)
        un_tcp_receive_fin(tcp, tcb, seg->seq + seg->length);
    else
        un_tcp_take_fin(tcp, tcb);
    return drop;
}

static enum un_drop process_steps(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg, uint32_t frame)
{
    enum un_drop drop = UN_DROP_NONE;
    bool goes_on = check_reset(tcp, tcb, seg, &drop) && check_syn(tcp, tcb, seg, &drop) &&
                   check_timestamp(tcp, tcb, seg, &drop) && check_sequence(tcp, tcb, seg, &frame, &drop);
    goes_on = goes_on && check_ack(tcp, tcb, seg, &drop);
    if (goes_on && (seg->options & UN_SEG_TIMESTAMP))
        un_tcp_remember_timestamp(tcp, tcb, seg);
    if (!goes_on || !(tcb->state & UN_TCP_CAN_RECEIVE)) {
        un_pool_drop_chain(&tcp->pool, frame);
        return un_tcp_drop(tcp, drop);
    }
    note_congestion(tcp, tcb, seg);
    return take_payload(tcp, tcb, seg, frame);
}

/* The ACK of the peer's FIN may be repeated. A reset with the exact number ends the state, as in RFC 9293 section
 * 3.10.7.4 and Linux: another host behind the same NAT, which has been given these ports again, answers with it to the
 * ACK of its SYN, and would be locked out for the rest of the minute. What RFC 1337 fears, an old duplicate that
 * provokes such a reset, harms no later connection, whose initial sequence number is beyond those of this one. */
static enum un_drop process_time_wait(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg, uint32_t frame)
{
    un_pool_drop_chain(&tcp->pool, frame);
    bool is_fin = (seg->flags & UN_TCP_FIN) && seg->seq + un_seg_space(seg) == tcb->rcv_nxt;
    bool is_old =
        (tcb->flags & UN_TCB_TIMESTAMP) && (seg->options & UN_SEG_TIMESTAMP) && is_old_timestamp(tcp, tcb, seg);
    if (seg->flags & UN_TCP_RST) {
        if (seg->seq == tcb->rcv_nxt && !is_old)
            un_tcp_end(tcp, tcb, UN_TCP_REASON_CLOSED);
        return un_tcp_drop(tcp, UN_DROP_tcp_time_wait);
    }
    if (is_fin && !is_old)
        un_tcp_arm(tcp, tcb, UN_TIMER_LIFE, tcp->now_ns + 2 * UN_MS_NS * tcp->config->msl_ms);
    if (seg->seq != tcb->rcv_nxt || un_seg_space(seg) > 0)
        acknowledge_unacceptable(tcp, tcb, seg);
    return un_tcp_drop(tcp, UN_DROP_tcp_time_wait);
}

static enum un_drop process_over(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg, uint32_t frame)
{
    struct un_seg reset;
    un_pool_drop_chain(&tcp->pool, frame);
    if (un_tcp_refuse(seg, &reset) && tcp->operations->emit(tcp, tcb, &reset, NULL, 0, 0) == 0) {
        tcp->counters->out_segments++;
        tcp->counters->out_resets++;
    }
    return un_tcp_drop(tcp, UN_DROP_tcp_no_connection);
}

static enum un_drop process_unexpected(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg, uint32_t frame)
{
    if (un_tcp_is_over(tcb))
        return process_over(tcp, tcb, seg, frame);
    if (tcb->state == UN_TCP_SYN_SENT)
        return un_tcp_process_syn_sent(tcp, tcb, seg, frame);
    if (tcb->state == UN_TCP_TIME_WAIT)
        return process_time_wait(tcp, tcb, seg, frame);
    return process_steps(tcp, tcb, seg, frame);
}

enum un_drop un_tcp_process(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg, uint32_t frame)
{
    if (__builtin_expect(!tcp->is_slow && un_tcp_input_is_fast(tcb, seg), 1))
        return un_tcp_input_fast(tcp, tcb, seg, frame, true);
    un_tcp_assert_order(tcb);
    tcp->counters->in_segments++;
    return process_unexpected(tcp, tcb, seg, frame);
}

bool un_tcp_is_reusable(const struct un_tcb *tcb, const struct un_seg *syn, uint32_t *iss)
{
    const uint8_t kind = UN_TCP_SYN | UN_TCP_ACK | UN_TCP_RST | UN_TCP_FIN;
    if (tcb->state != UN_TCP_TIME_WAIT || (syn->flags & kind) != UN_TCP_SYN)
        return false;
    bool has_timestamps = (tcb->flags & UN_TCB_TIMESTAMP) && (syn->options & UN_SEG_TIMESTAMP);
    bool is_newer = has_timestamps && syn->tsval != tcb->ts_recent ? un_seq_lt(tcb->ts_recent, syn->tsval)
                                                                   : un_seq_lt(tcb->rcv_nxt, syn->seq);
    if (is_newer && un_seq_le(*iss, tcb->snd_nxt + REUSE_DISTANCE))
        *iss = tcb->snd_nxt + REUSE_DISTANCE;
    return is_newer;
}

bool un_tcp_refuse(const struct un_seg *seg, struct un_seg *reset)
{
    if (seg->flags & UN_TCP_RST)
        return false;
    *reset = (struct un_seg){.flags = UN_TCP_RST};
    if (seg->flags & UN_TCP_ACK) {
        reset->seq = seg->ack;
    } else {
        reset->flags |= UN_TCP_ACK;
        reset->ack = seg->seq + un_seg_space(seg);
    }
    return true;
}
