/* One segment is built and emitted. Whatever leaves with ACK acknowledges what was to be acknowledged, so that no
 * second ACK follows in the same dispatch. What depends on having been sent (the edge of the window, Last.ACK.sent, the
 * flags) changes only when it was. */
#include "tcp/output_fast.h"

void un_tcp_segment(struct un_tcp *tcp, struct un_tcb *tcb, struct un_seg *seg, uint8_t flags)
{
    un_tcp_begin_segment(tcp, tcb, seg, flags);
    if (__builtin_expect((tcb->flags & UN_TCB_SACK) && (tcb->sack_count || tcb->has_dsack), 0))
        un_rx_sack_blocks(tcp, tcb, seg, seg->options ? UN_SACK_BLOCKS_MAX - 1 : UN_SACK_BLOCKS_MAX);
}

/* A duplicate is reported in one segment; un_tcp_segment has taken the report out of the block. */
static bool reports_dsack(const struct un_tcb *tcb, const struct un_seg *seg)
{
    return seg->sack_count && seg->sacks[0].start == tcb->dsack.start && seg->sacks[0].end == tcb->dsack.end;
}

int un_tcp_emit(struct un_tcp *tcp, struct un_tcb *tcb, struct un_seg *seg, const struct un_piece *pieces, int count,
                uint32_t segment_bytes)
{
    int result = tcp->operations->emit(tcp, tcb, seg, pieces, count, segment_bytes);
    if (result < 0) {
        tcb->has_dsack |= reports_dsack(tcb, seg);
        return result;
    }
    un_tcp_emitted(tcp, tcb, seg);
    return 0;
}

int un_tcp_send_ack(struct un_tcp *tcp, struct un_tcb *tcb)
{
    struct un_seg seg;
    un_tcp_segment(tcp, tcb, &seg, 0);
    return un_tcp_emit(tcp, tcb, &seg, NULL, 0, 0);
}

/* The options that we offer, or accept; the block's flags say which. */
static void syn_options(struct un_tcp *tcp, struct un_tcb *tcb, struct un_seg *seg)
{
    seg->options = UN_SEG_MSS;
    seg->mss = un_tcp_announced_mss(&tcb->peer, tcb->path_mtu_max);
    if (tcb->flags & UN_TCB_WSCALE) {
        seg->options |= UN_SEG_WSCALE;
        seg->wscale = tcb->rcv_wscale;
    }
    if (tcb->flags & UN_TCB_SACK)
        seg->options |= UN_SEG_SACK_PERMITTED;
    if (tcb->flags & UN_TCB_TIMESTAMP) {
        seg->options |= UN_SEG_TIMESTAMP;
        seg->tsval = un_tcp_timestamp(tcp, tcb);
        seg->tsecr = tcb->ts_recent;
    }
}

/* ECN is not asked for again when a SYN was lost: some paths drop such SYNs (RFC 3168 section 6.1.1.1). */
static uint8_t syn_flags(const struct un_tcb *tcb)
{
    bool is_answer = tcb->state == UN_TCP_SYN_RECEIVED;
    uint8_t flags = is_answer ? UN_TCP_SYN | UN_TCP_ACK : UN_TCP_SYN;
    if (tcb->flags & UN_TCB_ECN)
        flags |= is_answer ? UN_TCP_ECE : tcb->backoff == 0 ? UN_TCP_ECE | UN_TCP_CWR : 0;
    return flags;
}

int un_tcp_send_syn(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t *tsval)
{
    struct un_seg seg = {.seq = tcb->iss, .wnd = un_tcp_window_syn(tcp, tcb), .flags = syn_flags(tcb)};
    seg.ack = seg.flags & UN_TCP_ACK ? tcb->rcv_nxt : 0;
    syn_options(tcp, tcb, &seg);
    int result = tcp->operations->emit(tcp, tcb, &seg, NULL, 0, 0);
    if (result < 0)
        return result;
    tcp->counters->out_segments++;
    *tsval = seg.tsval;
    tcb->rcv_acked = seg.ack;
    tcb->rcv_edge = seg.ack + seg.wnd;
    tcb->flags &= ~(uint32_t)UN_TCB_ACK_NOW;
    return 0;
}

/* A peer takes a reset at the number that it expects next, and asks back by a challenge ACK when the number lies in its
 * window (RFC 5961 section 3.2); any other it does not hear. The next number is snd_nxt when all that is in flight has
 * arrived. But a peer that had no room dropped what is in flight and took its window back: then it is the edge of the
 * window, as in Linux. Peers that round their window down have more room than they say: up to a unit of its scale
 * beyond the edge they are not believed, unless the window is shut. A SYN has no window: the peer expects what follows
 * it. */
uint32_t un_tcp_reset_seq(const struct un_tcb *tcb)
{
    int32_t beyond = un_seq_diff(tcb->snd_nxt, tcb->snd_una + tcb->snd_wnd);
    bool is_rounded = tcb->snd_wnd > 0 && beyond < 1 << tcb->snd_wscale;
    if (beyond <= 0 || is_rounded || !(tcb->state & UN_TCP_SYNCHRONIZED))
        return tcb->snd_nxt;
    return tcb->snd_una + tcb->snd_wnd;
}

/* With a timestamp like all other segments once they are agreed on (RFC 7323 section 3.2). */
void un_tcp_send_reset(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t seq, bool has_ack)
{
    struct un_seg seg = {.seq = seq, .flags = UN_TCP_RST};
    if ((tcb->flags & UN_TCB_TIMESTAMP) && tcb->state != UN_TCP_SYN_SENT) {
        seg.options = UN_SEG_TIMESTAMP;
        seg.tsval = un_tcp_timestamp(tcp, tcb);
        seg.tsecr = tcb->ts_recent;
    }
    if (has_ack) {
        seg.flags |= UN_TCP_ACK;
        seg.ack = tcb->rcv_nxt;
    }
    if (tcp->operations->emit(tcp, tcb, &seg, NULL, 0, 0) < 0)
        return;
    tcp->counters->out_segments++;
    tcp->counters->out_resets++;
}

void un_tcp_challenge(struct un_tcp *tcp, struct un_tcb *tcb)
{
    uint16_t second = (uint16_t)tcp->now_s;
    if (tcb->challenge_s != second) {
        tcb->challenge_s = second;
        tcb->challenges = 0;
    }
    if (tcb->challenges >= un_min32(tcp->config->challenge_acks_per_s, UINT8_MAX)) {
        un_tcp_drop(tcp, UN_DROP_tcp_challenge_rate);
        return;
    }
    tcb->challenges++;
    tcp->counters->challenge_acks++;
    un_tcp_ack_now(tcp, tcb);
}
