/* TX fast path. Must produce the same segment as un_tcp_dispatch.
 *
 * It takes all unsent payload when that lies in one frame and fits into one segment, and when no flag asks for anything
 * else. Three steps: the length, the segment, the bookkeeping after it left. Inline, so that the compiler makes one
 * function of it and the caller that writes the packet. */
#ifndef UN_TCP_OUTPUT_FAST_H
#define UN_TCP_OUTPUT_FAST_H

#include "base/attributes.h"
#include "tcp/internal.h"
#include "tcp/recovery_fast.h"

/* ---- parts that all segments have in common ---- */

/* Payload of a full segment: what is left beside all options that it may carry, since SACK blocks come and go. */
static inline uint32_t un_tcp_segment_most(const struct un_tcb *tcb)
{
    uint32_t timestamp = tcb->flags & UN_TCB_TIMESTAMP ? UN_TCP_TIMESTAMP_BYTES : 0;
    uint32_t blocks =
        un_min32(tcb->sack_count + tcb->has_dsack, timestamp ? UN_SACK_BLOCKS_MAX - 1 : UN_SACK_BLOCKS_MAX);
    return tcb->snd_mss - timestamp - (blocks ? UN_TCP_SACK_BYTES(blocks) : 0);
}

static inline bool un_tcp_may_send_small(const struct un_tcb *tcb)
{
    if (tcb->flags & (UN_TCB_FIN_QUEUED | UN_TCB_PROBE_DUE))
        return true;
    if (tcb->flags & UN_TCB_CORK)
        return false;
    return (tcb->flags & UN_TCB_NODELAY) || un_seq_le(tcb->snd_small_end, tcb->snd_una);
}

/* The user timeout runs from the first packet that is not answered. */
static inline void un_tcp_begin_waiting(const struct un_tcp *tcp, struct un_tcb *tcb)
{
    if (tcb->unacked_ns == 0)
        tcb->unacked_ns = tcp->now_ns;
}

/* Only new data is marked ECT, and only new data tells that cwnd was reduced (RFC 3168 sections 6.1.2 and 6.1.5). */
static inline void un_tcp_mark_ecn(const struct un_tcb *tcb, struct un_seg *seg)
{
    if (!(tcb->flags & UN_TCB_ECN) || seg->length == 0)
        return;
    seg->ecn = 2; /* ECT(0) */
    if (tcb->flags & UN_TCB_CWR)
        seg->flags |= UN_TCP_CWR;
}

/* All but payload and SACK blocks. */
static inline void un_tcp_begin_segment(struct un_tcp *tcp, const struct un_tcb *tcb, struct un_seg *seg, uint8_t flags)
{
    seg->seq = tcb->snd_nxt;
    seg->ack = tcb->rcv_nxt;
    seg->length = 0;
    seg->wnd = un_tcp_window_next(tcp, tcb);
    seg->flags = flags | UN_TCP_ACK | (tcb->flags & UN_TCB_ECE ? UN_TCP_ECE : 0);
    seg->options = tcb->flags & UN_TCB_TIMESTAMP ? UN_SEG_TIMESTAMP : 0;
    seg->tsval = un_tcp_timestamp(tcp, tcb);
    seg->tsecr = tcb->ts_recent;
    seg->sack_count = 0;
    seg->ecn = 0;
    seg->urgent = 0;
}

/* The segment left, and has acknowledged whatever was to be acknowledged. UN_TIMER_ACK also watches a window that is
 * shut (window.c). */
static inline void un_tcp_emitted(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg)
{
    tcp->counters->out_segments++;
    uint32_t window = (uint32_t)seg->wnd << tcb->rcv_wscale;
    tcb->rcv_edge = seg->ack + window;
    tcb->rcv_acked = seg->ack;
    tcb->flags &= ~(uint32_t)(UN_TCB_ACK_NOW | UN_TCB_ACK_LATER);
    if (__builtin_expect(window >= tcb->rcv_mss, 1))
        un_tcp_disarm(tcb, UN_TIMER_ACK);
    else
        un_tcp_watch_window(tcp, tcb);
}

/* ---- the fast path ---- */

/* Payload bytes of the segment; 0: it is not for the fast path. */
static inline uint32_t un_tcp_output_fast_length(const struct un_tcp *tcp, const struct un_tcb *tcb)
{
    const uint32_t special = UN_TCB_FIN_QUEUED | UN_TCB_CWR | UN_TCB_CORK | UN_TCB_PROBE_DUE | UN_TCB_WINDOW_PROBE |
                             UN_TCB_KEEPALIVE_DUE | UN_TCB_PERSIST | UN_TCB_RECOVERY | UN_TCB_LOSS | UN_TCB_FRTO;
    if (!(tcb->state & UN_TCP_CAN_SEND) || (tcb->flags & special) || tcb->unsent_frame == UN_NONE ||
        tcb->sack_count + tcb->has_dsack > 0 || !un_recovery_can_record(tcp, tcb))
        return 0;
    uint32_t unsent = tcb->snd_bytes - (tcb->snd_nxt - tcb->snd_una), mss = un_tcp_segment_most(tcb);
    bool is_in_one_frame = tcb->unsent_offset + unsent <= tcp->pool.frames[tcb->unsent_frame].length;
    if (!is_in_one_frame || unsent > mss || un_seq_diff(tcb->snd_una + tcb->snd_wnd, tcb->snd_nxt) < (int32_t)unsent ||
        !un_recovery_allows(tcb, unsent))
        return 0;
    return unsent == mss || un_tcp_may_send_small(tcb) ? unsent : 0;
}

static inline void un_tcp_output_fast_segment(struct un_tcp *tcp, const struct un_tcb *tcb, uint32_t length,
                                              struct un_seg *seg, struct un_piece *piece)
{
    *piece = (struct un_piece){un_pool_content(&tcp->pool, tcb->unsent_frame) + tcb->unsent_offset, length,
                               tcb->unsent_frame};
    un_tcp_begin_segment(tcp, tcb, seg, UN_TCP_PSH);
    seg->length = length;
    un_tcp_mark_ecn(tcb, seg);
}

/* The segment left. */
static inline void un_tcp_output_fast_sent(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg)
{
    uint32_t length = seg->length;
    un_tcp_emitted(tcp, tcb, seg);
    un_recovery_sent_in_order(tcp, tcb, length, tcb->unsent_frame, tcb->unsent_offset, seg->tsval);
    tcb->unsent_frame = UN_NONE;
    tcb->unsent_offset = 0;
    tcb->snd_nxt += length;
    tcb->bytes_out += length;
    tcp->counters->bytes_out += length;
    if (!(tcb->flags & UN_TCB_NODELAY) && length != un_tcp_segment_most(tcb))
        tcb->snd_small_end = tcb->snd_nxt;
    un_tcp_begin_waiting(tcp, tcb);
}

#endif
