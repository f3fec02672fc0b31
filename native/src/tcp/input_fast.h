/* RX fast path. Must leave the connection as un_tcp_process leaves it.
 *
 * It takes the next segment in order of an established connection when no flag or option is special: the steps of RFC
 * 9293 section 3.10.7.4 would do nothing but process its ACK and payload. An ACK of all data in flight, when that was
 * one packet, needs no walk over the records. Inline, so that the compiler makes one function of it and the caller, and
 * the segment stays in registers. */
#ifndef UN_TCP_INPUT_FAST_H
#define UN_TCP_INPUT_FAST_H

#include "tcp/keep.h"
#include "tcp/receive_fast.h"
#include "tcp/recovery_fast.h"

UN_ALWAYS_INLINE bool un_tcp_input_is_fast(const struct un_tcb *tcb, const struct un_seg *seg)
{
    const uint8_t special = UN_TCP_FIN | UN_TCP_SYN | UN_TCP_RST | UN_TCP_URG | UN_TCP_ECE | UN_TCP_CWR;
    uint8_t options = tcb->flags & UN_TCB_TIMESTAMP ? UN_SEG_TIMESTAMP : 0;
    return tcb->state == UN_TCP_ESTABLISHED && (seg->flags & (special | UN_TCP_ACK)) == UN_TCP_ACK &&
           seg->seq == tcb->rcv_nxt && seg->options == options &&
           (!options || !un_seq_lt(seg->tsval, tcb->ts_recent)) &&
           seg->ack - tcb->snd_una <= tcb->snd_nxt - tcb->snd_una &&
           (int32_t)seg->length <= un_seq_diff(tcb->rcv_edge, tcb->rcv_nxt) && seg->ecn != 3 &&
           !(tcb->flags & (UN_TCB_FIN_SEEN | UN_TCB_PERSIST));
}

/* Only a segment that begins at or before the last ACK counts: the timestamp of a later one would hide that the ACK was
 * delayed (RFC 7323 section 4.3). */
static inline void un_tcp_remember_timestamp(const struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg)
{
    if (!(tcb->flags & UN_TCB_TIMESTAMP) || un_seq_lt(tcb->rcv_acked, seg->seq))
        return;
    tcb->ts_recent = seg->tsval;
    tcb->ts_recent_s = tcp->now_s;
}

/* ---- an ACK of all there is ---- */

/* One packet is in flight, was sent once, and this segment acknowledges it. un_tcp_take_ack_of_all then does all that
 * un_tcp_process_ack would. */
static inline bool un_tcp_is_ack_of_all(const struct un_tcp *tcp, const struct un_tcb *tcb, const struct un_seg *seg)
{
    const uint32_t special = UN_TCB_RECOVERY | UN_TCB_LOSS | UN_TCB_FRTO | UN_TCB_PROBE_OUT | UN_TCB_PROBE_DUE |
                             UN_TCB_FIN_QUEUED | UN_TCB_WANT_WRITE;
    return seg->ack == tcb->snd_nxt && tcb->sent_head == tcb->sent_tail && !(tcb->flags & special) &&
           tcp->sents[tcb->sent_head].flags == UN_SENT_IN_FLIGHT && tcb->unsent_frame == UN_NONE && seg->wnd > 0 &&
           seg->sack_count == 0 && un_seq_le(tcb->snd_wl1, seg->seq);
}

static inline void un_tcp_acked_all(struct un_tcp *tcp, struct un_tcb *tcb)
{
    uint32_t frame = tcb->snd.head;
    tcb->snd.head = UN_NONE;
    tcb->snd_head_offset = 0;
    tcb->snd_bytes = 0;
    if (__builtin_expect(tcp->pool.frames[frame].next == UN_NONE, 1)) /* its link is not changed but by this */
        un_pool_drop(&tcp->pool, frame);
    else
        un_keep_drop_chain(tcp, frame);
}

UN_ALWAYS_INLINE void un_tcp_take_ack_of_all(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg)
{
    uint32_t window = (uint32_t)seg->wnd << tcb->snd_wscale;
    un_recovery_ack_of_one(tcp, tcb, seg->ack);
    un_tcp_acked_all(tcp, tcb);
    tcb->snd_una = seg->ack;
    tcb->snd_small_end = un_seq_max(tcb->snd_small_end, seg->ack);
    tcb->unacked_ns = 0;
    tcb->snd_wnd = window;
    tcb->snd_wnd_max = un_max32(tcb->snd_wnd_max, window);
    tcb->snd_wl1 = seg->seq;
    tcb->snd_wl2 = seg->ack;
}

/* ---- the whole segment ---- */

UN_ALWAYS_INLINE void un_tcp_ack_fast(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg)
{
    /* D-SACK often comes when nothing is in flight any more */
    bool is_news = tcb->snd_una != tcb->snd_nxt || seg->sack_count > 0;
    if (!is_news && (uint32_t)seg->wnd << tcb->snd_wscale == tcb->snd_wnd) {
        tcb->snd_wl1 = seg->seq;
        tcb->snd_wl2 = seg->ack;
    } else if (tcb->snd_una != tcb->snd_nxt && un_tcp_is_ack_of_all(tcp, tcb, seg)) {
        un_tcp_take_ack_of_all(tcp, tcb, seg);
    } else {
        const struct un_seg whole = *seg;
        un_keep_all(tcp, tcb);
        un_tcp_process_ack(tcp, tcb, &whole);
    }
}

/* What un_tcp_process does, of a segment that un_tcp_input_is_fast. is_chain: as of un_tcp_receive_next. */
UN_ALWAYS_INLINE enum un_drop un_tcp_input_fast(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg,
                                                uint32_t frame, bool is_chain)
{
    tcp->counters->in_segments++;
    un_tcp_remember_timestamp(tcp, tcb, seg);
    if (tcb->flags & UN_TCB_KEEPALIVE)
        un_tcp_rearm_keepalive(tcp, tcb);
    un_tcp_ack_fast(tcp, tcb, seg);
    return seg->length > 0 ? un_tcp_receive_next(tcp, tcb, seg->length, frame, is_chain) : UN_DROP_NONE;
}

#endif
