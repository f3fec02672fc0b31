/* What an ACK or a timeout means for what is in flight: recovery.h has the states, tcp.h the contract.
 *
 * An ACK in order takes the fast path. Any other goes through the steps of acknowledge(), in an order that matters:
 * first what arrived is noted, then whether the recovery that goes on was needless or is over, then what is lost,
 * and last what cwnd becomes and which timers run. */
#include "tcp/congestion.h"
#include "tcp/internal.h"
#include "tcp/probe.h"
#include "tcp/prr.h"
#include "tcp/rack.h"
#include "tcp/recovery.h"
#include "tcp/rtt.h"
#include "tcp/sack.h"
#include "tcp/sent.h"
#include "tcp/undo.h"

#define UN_SYN_TIMEOUTS_MAX 1u /* of the handshake; beyond it the first window is one segment: RFC 6928 section 2 */

void un_recovery_init(struct un_tcp *tcp, struct un_tcb *tcb)
{
    tcb->sent_head = tcb->sent_tail = tcb->lost_hint = UN_NONE;
    tcb->in_flight = tcb->sacked_bytes = tcb->lost_bytes = 0;
    tcb->srtt_us = tcb->rttvar_us = tcb->min_rtt_us = 0;
    tcb->sampled_us = tcp->now_us;
    tcb->rto_us = un_min32(tcp->config->rto_initial_us, tcp->config->rto_max_us);
    tcb->backoff = tcb->dup_acks = tcb->recovery = 0;
    tcb->cwnd = 1;
    tcb->ssthresh = UINT32_MAX;
    tcb->recover = tcb->high_sacked = tcb->iss;
    tcb->rack_rtt_us = 0;
    tcb->rack_mult = 1;
    tcb->rack_persist = 0;
    tcb->congestion = tcp->config->congestion;
}

void un_recovery_established(struct un_tcp *tcp, struct un_tcb *tcb)
{
    tcb->cwnd = tcb->retransmitted > UN_SYN_TIMEOUTS_MAX ? tcb->snd_mss : un_congestion_initial(tcp, tcb);
    tcb->flags &= ~(uint32_t)(UN_TCB_RECOVERY | UN_TCB_LOSS | UN_TCB_FRTO);
    tcb->backoff = tcb->dup_acks = tcb->recovery = 0;
    un_congestion_of(tcb)->init(tcp, tcb);
}

/* Of what was resent, a timestamp says which transmission arrived. */
static void measure_echo(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg)
{
    uint32_t rtt_us = un_rtt_echoed(tcp, tcb, seg);
    if (rtt_us != 0)
        un_rtt_measure(tcp, tcb, tcp->now_us - rtt_us);
}

/* RFC 3168 section 6.1.2: no growth by an ACK that tells of congestion. */
static void grow(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg, uint32_t bytes)
{
    bool may_grow = (tcb->recovery & UN_RECOVERY_LIMITED) && !un_recovery_hears_congestion(tcb, seg);
    un_congestion_of(tcb)->acked(tcp, tcb, bytes, may_grow);
}

/* ---- an ACK in order ---- */

/* Take off the list what is acknowledged. Returns the last record of which something was acknowledged, be it one that
 * was given back by now. */
static const struct un_sent *take_off(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t acked, uint32_t *flags)
{
    struct un_sent *sents = tcp->sents, *last = NULL;
    uint32_t index = tcb->sent_head;
    while (index != UN_NONE && acked >= sents[index].length) {
        uint32_t taken = index;
        last = &sents[taken];
        *flags |= last->flags;
        acked -= last->length;
        index = last->next;
        un_sent_give(tcp, taken);
    }
    tcb->sent_head = index;
    if (acked == 0)
        return last;
    un_assert(index != UN_NONE); /* the records end at snd_nxt */
    *flags |= sents[index].flags;
    un_sent_trim(tcp, &sents[index], acked);
    return &sents[index];
}

/* Everything outstanding is in flight and nothing special goes on: records go, a sample comes, cwnd grows. */
static void acknowledge_in_order(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg)
{
    uint32_t acked = seg->ack - tcb->snd_una, flags = 0;
    uint32_t oldest_us = tcp->sents[tcb->sent_head].sent_us;
    const struct un_sent *newest = take_off(tcp, tcb, acked, &flags);
    un_assert(acked <= tcb->in_flight);
    tcb->in_flight -= acked;
    tcb->lost_hint = UN_NONE;
    tcb->high_sacked = seg->ack;
    tcb->dup_acks = 0;
    if (flags & UN_SENT_PATH_PROBE)
        un_tcp_path_probed(tcp, tcb);
    if (flags & UN_SENT_RESENT) {
        measure_echo(tcp, tcb, seg);
    } else {
        un_rtt_in_order(tcp, tcb, seg->ack, oldest_us, newest->sent_us);
    }
    grow(tcp, tcb, seg, acked);
}

static void restart_timers(struct un_tcp *tcp, struct un_tcb *tcb)
{
    un_tcp_disarm(tcb, UN_TIMER_REORDER);
    if (tcb->sent_head == UN_NONE) {
        un_tcp_disarm(tcb, UN_TIMER_RETRANSMIT);
        return;
    }
    un_rto_arm(tcp, tcb);
    un_probe_arm(tcp, tcb);
}

/* ---- any other ACK ---- */

static void enter_recovery(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t una, uint32_t flight)
{
    if (!un_congestion_is_reduced(tcb, una)) {
        un_congestion_reduce(tcp, tcb);
        un_undo_begin(tcb);
    }
    un_probe_cancel(tcb);
    tcb->flags |= UN_TCB_RECOVERY;
    tcb->recover = tcb->snd_nxt;
    un_prr_begin(tcb, flight);
    tcp->counters->fast_recoveries++;
}

/* snd_una will have reached `recover`. RFC 6582 section 3.2 step 3 and RFC 6937bis: no burst. */
static void leave_recovery(struct un_tcb *tcb, const struct un_ack *ack)
{
    uint32_t outstanding = tcb->snd_nxt - ack->una, mss = tcb->snd_mss;
    uint32_t window = (outstanding > mss ? outstanding : mss) + mss;
    if (tcb->flags & UN_TCB_RECOVERY)
        tcb->cwnd = tcb->flags & UN_TCB_SACK || tcb->ssthresh < window ? tcb->ssthresh : window;
    tcb->flags &= ~(uint32_t)(UN_TCB_RECOVERY | UN_TCB_LOSS | UN_TCB_FRTO);
    un_rack_recovered(tcb);
}

static void lose_head(struct un_tcp *tcp, struct un_tcb *tcb)
{
    uint32_t head = tcb->sent_head, segment = un_segment_bytes(tcb);
    if (head == UN_NONE || tcp->sents[head].flags & UN_SENT_LOST)
        return;
    if (un_sent_payload(&tcp->sents[head]) <= segment || un_sent_split(tcp, tcb, head, segment))
        un_sent_set(tcp, tcb, head, UN_SENT_LOST);
}

/* Fast retransmit and fast recovery without SACK: RFC 6582. When snd_una is `recover`, duplicate ACKs are about what
 * was resent needlessly, if anything was, and begin nothing. A peer does not make us send more by sending more ACKs
 * than it got segments: duplicates count up to what was outstanding (RFC 5681 section 3.2), and an ACK of less than a
 * segment names no hole, as the rest of it was in the same packet. */
static void new_reno(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_ack *ack)
{
    uint32_t mss = tcb->snd_mss, most = tcb->ssthresh + (tcb->recover - tcb->snd_una);
    if (tcb->flags & UN_TCB_LOSS)
        return;
    if (!(tcb->flags & UN_TCB_RECOVERY)) {
        bool is_echo = tcb->snd_una == tcb->recover && tcb->recovery & UN_RECOVERY_RESENT;
        if (!ack->is_duplicate || tcb->dup_acks != UN_DUP_THRESHOLD || is_echo)
            return;
        enter_recovery(tcp, tcb, tcb->snd_una, ack->flight);
        tcb->cwnd = tcb->ssthresh + UN_DUP_THRESHOLD * mss;
        lose_head(tcp, tcb);
    } else if (ack->acked > 0) { /* a partial ACK: the next hole */
        tcb->cwnd = tcb->cwnd > ack->acked + mss ? tcb->cwnd - ack->acked : mss;
        if (ack->acked >= mss)
            tcb->cwnd += mss;
        if (ack->acked >= un_segment_bytes(tcb) || !ack->cuts_record)
            lose_head(tcp, tcb);
    } else if (ack->is_duplicate && tcb->cwnd < most) {
        un_congestion_grow(tcb, mss);
    }
}

static void count_duplicate(struct un_tcp *tcp, struct un_tcb *tcb, struct un_ack *ack, bool is_window_update)
{
    const struct un_seg *seg = ack->seg;
    ack->is_duplicate = ack->acked == 0 && seg->length == 0 && !(seg->flags & (UN_TCP_SYN | UN_TCP_FIN)) &&
                        !is_window_update;
    if (ack->acked > 0)
        tcb->dup_acks = 0;
    if (!ack->is_duplicate || tcb->sent_head == UN_NONE)
        return;
    tcp->counters->duplicate_acks++;
    if (tcb->flags & UN_TCB_SACK && ack->sacked == 0)
        return; /* RFC 6675 section 2: it says nothing new */
    if (tcb->dup_acks < UINT8_MAX)
        tcb->dup_acks++;
}

/* Karn's rule: what was resent gives no sample, unless a timestamp says which transmission it was. Nor does an ACK that
 * took longer than the one behind it. */
static void sample(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_ack *ack)
{
    if (ack->una != ack->seg->ack)
        return;
    uint32_t rtt_us = ack->acked_resent ? 0 : ack->rtt_us;
    if (rtt_us == 0)
        rtt_us = ack->sack_rtt_us;
    if (rtt_us != 0) {
        un_rtt_min(tcb, rtt_us);
        un_rtt_measure(tcp, tcb, tcp->now_us - rtt_us);
    } else if (ack->acked_resent) {
        measure_echo(tcp, tcb, ack->seg);
    }
}

/* Is what goes on needless, or over? */
static void judge(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_ack *ack)
{
    if (ack->has_dsack && !un_probe_is_dsack(tcb, ack))
        un_rack_widen(tcb);
    un_probe_acked(tcp, tcb, ack);
    if (!un_undo_acked(tcp, tcb, ack))
        un_undo_frto(tcp, tcb, ack);
    if (tcb->flags & (UN_TCB_RECOVERY | UN_TCB_LOSS) && un_seq_le(tcb->recover, ack->una))
        leave_recovery(tcb, ack);
}

/* Mark what is lost; fast recovery begins with the first of it. In how many microseconds to look again. */
static uint32_t detect(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t una, uint32_t flight)
{
    bool is_congestion = false;
    uint32_t again_us = un_rack_detect(tcp, tcb, &is_congestion);
    if (is_congestion && !(tcb->flags & (UN_TCB_RECOVERY | UN_TCB_LOSS)))
        enter_recovery(tcp, tcb, una, flight);
    return again_us;
}

/* What was acknowledged in fast recovery does not let cwnd grow, the last of it included. After a timeout one ACK
 * may cover what had arrived long ago: it counts for one segment (RFC 3465 section 2.3). */
static void move_window(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_ack *ack, uint32_t before, bool is_safe)
{
    if (tcb->flags & UN_TCB_RECOVERY) {
        if (tcb->flags & UN_TCB_SACK)
            un_prr_update(tcb, ack->delivered, is_safe);
    } else if (ack->acked > 0 && !(before & UN_TCB_RECOVERY)) {
        uint32_t bytes = before & UN_TCB_LOSS && ack->acked > tcb->snd_mss ? tcb->snd_mss : ack->acked;
        grow(tcp, tcb, ack->seg, bytes);
    }
}

static void set_timers(struct un_tcp *tcp, struct un_tcb *tcb, bool has_advanced, uint32_t again_us)
{
    if (has_advanced)
        restart_timers(tcp, tcb);
    if (again_us != 0)
        un_tcp_arm(tcp, tcb, UN_TIMER_REORDER, tcp->now_ns + again_us * UN_US_NS);
    else if (!un_probe_is_possible(tcb))
        un_tcp_disarm(tcb, UN_TIMER_REORDER);
}

/* Not inlined: the fast path need not save the registers that this takes. */
__attribute__((noinline)) static void acknowledge(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg,
                                                  bool is_window_update)
{
    uint32_t una = un_seq_max(seg->ack, tcb->snd_una);
    struct un_ack ack = {
        .seg = seg,
        .una = una,
        .acked = una - tcb->snd_una,
        .flight = tcb->in_flight + tcb->lost_bytes,
    };
    uint32_t before = tcb->flags & (UN_TCB_RECOVERY | UN_TCB_LOSS);
    if (tcb->high_sacked - tcb->snd_una > tcb->snd_nxt - tcb->snd_una)
        tcb->high_sacked = tcb->snd_una;
    if (ack.acked > 0)
        tcb->recovery |= UN_RECOVERY_ADVANCED;
    if (ack.acked > 0 || seg->sack_count > 0)
        tcb->flags &= ~(uint32_t)UN_TCB_PROBE_DUE;
    un_sack_acknowledge(tcp, tcb, &ack);
    un_sack_mark(tcp, tcb, &ack);
    count_duplicate(tcp, tcb, &ack, is_window_update);
    sample(tcp, tcb, &ack);
    judge(tcp, tcb, &ack);
    uint32_t lost_bytes = tcb->lost_bytes, again_us = detect(tcp, tcb, una, ack.flight);
    if (!(tcb->flags & UN_TCB_SACK))
        new_reno(tcp, tcb, &ack);
    move_window(tcp, tcb, &ack, before, ack.acked > 0 && tcb->lost_bytes <= lost_bytes);
    set_timers(tcp, tcb, ack.acked > 0, again_us);
    if (before || tcb->lost_bytes > 0 || tcb->dup_acks > 0)
        tcp->operations->output(tcp, tcb);
}

void un_recovery_ack(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg, bool is_window_update)
{
    const uint32_t special = UN_TCB_RECOVERY | UN_TCB_LOSS | UN_TCB_PROBE_OUT | UN_TCB_PROBE_DUE;
    bool is_special = (tcb->flags & special) || seg->sack_count != 0 || tcb->sacked_bytes + tcb->lost_bytes != 0;
    if (!is_special && tcb->sent_head == UN_NONE)
        return;
    if (seg->ack != tcb->snd_una && !is_special) {
        acknowledge_in_order(tcp, tcb, seg);
        restart_timers(tcp, tcb);
    } else if (is_special || seg->length == 0) {
        acknowledge(tcp, tcb, seg, is_window_update);
    }
}

void un_recovery_late_ack(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg)
{
    if (seg->sack_count > 0 && (tcb->flags & UN_TCB_SACK))
        acknowledge(tcp, tcb, seg, false);
}

/* ---- timeouts, and what else says that something is lost ---- */

/* All that is not known to have arrived is lost, and what is known is forgotten (RFC 2018 section 8): an ACK of that
 * data proves nothing later on. */
static void lose_all(struct un_tcp *tcp, struct un_tcb *tcb)
{
    tcb->lost_hint = UN_NONE;
    for (uint32_t index = tcb->sent_head; index != UN_NONE; index = tcp->sents[index].next) {
        un_keep_sent(tcp, index);
        if (tcp->sents[index].flags & UN_SENT_SACKED)
            tcp->sents[index].flags |= UN_SENT_RESENT;
        un_sent_set(tcp, tcb, index, UN_SENT_LOST);
    }
}

/* RFC 5681 section 3.1 (4), (7): ssthresh stays for further timeouts of the same segment. A timeout in fast recovery
 * is a second indication of congestion. */
static void reduce_to_one_segment(struct un_tcp *tcp, struct un_tcb *tcb)
{
    bool is_again = tcb->flags & UN_TCB_LOSS && !(tcb->recovery & UN_RECOVERY_ADVANCED);
    if (tcb->flags & UN_TCB_RECOVERY)
        tcb->cwnd = tcb->ssthresh;
    if (!is_again) {
        un_congestion_reduce(tcp, tcb);
        un_congestion_of(tcb)->timeout(tcp, tcb);
        un_undo_begin(tcb);
    }
    tcb->cwnd = tcb->snd_mss;
}

void un_recovery_timeout(struct un_tcp *tcp, struct un_tcb *tcb)
{
    if (tcb->timers[UN_TIMER_REORDER] != 0 && un_probe_is_possible(tcb)) {
        un_probe_due(tcp, tcb); /* it was due at the same time */
        return;
    }
    un_assert(tcb->sent_head != UN_NONE);
    tcp->counters->timeouts++;
    if (tcb->backoff < UINT8_MAX)
        tcb->backoff++;
    if (tcb->state & UN_TCP_SYNCHRONIZED) {
        bool is_first = !(tcb->flags & UN_TCB_LOSS);
        reduce_to_one_segment(tcp, tcb);
        un_probe_cancel(tcb);
        tcb->flags &= ~(uint32_t)(UN_TCB_RECOVERY | UN_TCB_FRTO);
        tcb->flags |= UN_TCB_LOSS | (is_first ? UN_TCB_FRTO : 0);
        tcb->recovery &= (uint8_t)~UN_RECOVERY_ADVANCED;
        tcb->recovery |= UN_RECOVERY_LIMITED;
        tcb->recover = tcb->snd_nxt;
    }
    tcb->dup_acks = 0;
    lose_all(tcp, tcb);
    un_tcp_disarm(tcb, UN_TIMER_REORDER);
    un_rto_arm(tcp, tcb);
    tcp->operations->output(tcp, tcb);
}

void un_recovery_reorder_timeout(struct un_tcp *tcp, struct un_tcb *tcb)
{
    uint32_t lost_bytes = tcb->lost_bytes;
    uint32_t again_us = detect(tcp, tcb, tcb->snd_una, tcb->in_flight + lost_bytes);
    un_tcp_disarm(tcb, UN_TIMER_REORDER);
    if (again_us != 0)
        un_tcp_arm(tcp, tcb, UN_TIMER_REORDER, tcp->now_ns + again_us * UN_US_NS);
    if (tcb->lost_bytes != lost_bytes) {
        if (tcb->flags & UN_TCB_RECOVERY)
            un_prr_update(tcb, 0, false);
        tcp->operations->output(tcp, tcb);
    } else if (again_us == 0 && un_probe_is_possible(tcb)) {
        un_probe_due(tcp, tcb);
    }
}

void un_recovery_congestion(struct un_tcp *tcp, struct un_tcb *tcb)
{
    if (!un_congestion_is_reduced(tcb, tcb->snd_una) && !(tcb->flags & (UN_TCB_RECOVERY | UN_TCB_LOSS)))
        un_congestion_react(tcp, tcb);
}

/* What is in flight in segments of at least so many bytes is lost. Not a sign of congestion: cwnd stays. */
static void lose_from(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t bytes)
{
    for (uint32_t index = tcb->sent_head; index != UN_NONE; index = tcp->sents[index].next)
        if (tcp->sents[index].flags & UN_SENT_IN_FLIGHT && un_sent_payload(&tcp->sents[index]) >= bytes)
            un_sent_set(tcp, tcb, index, UN_SENT_LOST);
    un_tcp_disarm(tcb, UN_TIMER_REORDER);
    tcp->operations->output(tcp, tcb);
}

void un_recovery_resegment(struct un_tcp *tcp, struct un_tcb *tcb)
{
    lose_from(tcp, tcb, tcb->snd_mss + 1);
}

/* What was resent at a window that had shrunk was a probe of it: the peer answered, but had no room. */
void un_recovery_window_opened(struct un_tcp *tcp, struct un_tcb *tcb)
{
    tcb->flags &= ~(uint32_t)UN_TCB_FRTO;
    tcb->backoff = 0;
    un_rto_arm(tcp, tcb);
    lose_from(tcp, tcb, 0);
}
