/* Tail loss probes (RFC 8985 section 7): when ACKs stop coming, something is sent before the timeout, so that the loss
 * of the last packets is found by the ACK it causes.
 *
 * UN_TIMER_REORDER is the probe's timer while RACK does not need it. UN_TIMER_RETRANSMIT runs beside it and is never
 * the earlier one. The probe is new data when there is any, else the last segment; until snd_una reaches `recover`
 * no other probe is sent. That the lost segment was the probe itself shows when it is acknowledged once and no
 * duplicate comes. */
#include "tcp/congestion.h"
#include "tcp/probe.h"
#include "tcp/recovery.h"
#include "tcp/rtt.h"
#include "tcp/sent.h"

#define UN_PROBE_ACK_DELAY_US 200000u /* TLP.max_ack_delay: so long a peer may keep the ACK of one segment */
#define UN_PROBE_DEFAULT_US 1000000u  /* without a round trip known */
/* round trips of a machine room say nothing of schedulers; Linux TCP_TIMEOUT_MIN */
#define UN_PROBE_LEAST_US 2000u

bool un_probe_is_possible(const struct un_tcb *tcb)
{
    const uint32_t excluded = UN_TCB_RECOVERY | UN_TCB_LOSS | UN_TCB_PROBE_OUT | UN_TCB_PROBE_DUE | UN_TCB_PERSIST;
    return (tcb->flags & (UN_TCB_SACK | excluded)) == UN_TCB_SACK && tcb->state & UN_TCP_SENDING &&
           tcb->in_flight > 0 && tcb->sacked_bytes == 0 && tcb->lost_bytes == 0;
}

void un_probe_arm(struct un_tcp *tcp, struct un_tcb *tcb)
{
    if (!un_probe_is_possible(tcb))
        return;
    uint64_t wait_us = UN_PROBE_DEFAULT_US;
    if (tcb->srtt_us != 0) {
        wait_us = 2 * (uint64_t)tcb->srtt_us + (tcb->in_flight <= tcb->snd_mss ? UN_PROBE_ACK_DELAY_US : 0);
        wait_us = wait_us > UN_PROBE_LEAST_US ? wait_us : UN_PROBE_LEAST_US;
    }
    uint64_t deadline_ns = tcp->now_ns + wait_us * UN_US_NS, timeout_ns = tcb->timers[UN_TIMER_RETRANSMIT];
    un_tcp_arm(tcp, tcb, UN_TIMER_REORDER, timeout_ns && timeout_ns < deadline_ns ? timeout_ns : deadline_ns);
}

void un_probe_due(struct un_tcp *tcp, struct un_tcb *tcb)
{
    tcb->flags |= UN_TCB_PROBE_DUE;
    tcp->counters->tail_probes++;
    un_tcp_disarm(tcb, UN_TIMER_REORDER);
    un_rto_arm(tcp, tcb);
    tcp->operations->output(tcp, tcb);
}

void un_probe_sent(struct un_tcb *tcb, uint32_t end, bool is_resent)
{
    tcb->flags = (tcb->flags & ~(uint32_t)UN_TCB_PROBE_DUE) | UN_TCB_PROBE_OUT;
    tcb->recover = end;
    tcb->recovery &= (uint8_t)~UN_RECOVERY_PROBE_RESENT;
    tcb->recovery |= is_resent ? UN_RECOVERY_PROBE_RESENT : 0;
}

void un_probe_cancel(struct un_tcb *tcb)
{
    tcb->flags &= ~(uint32_t)(UN_TCB_PROBE_DUE | UN_TCB_PROBE_OUT);
}

bool un_probe_is_dsack(const struct un_tcb *tcb, const struct un_ack *ack)
{
    return ack->has_dsack && tcb->flags & UN_TCB_PROBE_OUT && tcb->recovery & UN_RECOVERY_PROBE_RESENT &&
           ack->dsack.end == tcb->recover;
}

/* RFC 8985 section 7.4.2. */
void un_probe_acked(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_ack *ack)
{
    int32_t beyond = un_seq_diff(ack->una, tcb->recover);
    if (!(tcb->flags & UN_TCB_PROBE_OUT) || beyond < 0)
        return;
    bool is_needless = !(tcb->recovery & UN_RECOVERY_PROBE_RESENT) || un_probe_is_dsack(tcb, ack) ||
                       (beyond == 0 && ack->is_duplicate && ack->seg->sack_count == 0);
    if (is_needless)
        un_probe_cancel(tcb);
    else if (beyond > 0)
        un_congestion_react(tcp, tcb); /* the probe repaired a loss that nothing else has shown */
}

static bool has_new_data(const struct un_tcb *tcb)
{
    uint32_t unsent = un_tx_unsent(tcb), least = unsent < tcb->snd_mss ? unsent : tcb->snd_mss;
    return unsent > 0 && tcb->snd_nxt - tcb->snd_una + least <= tcb->snd_wnd;
}

uint32_t un_probe_next(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t most)
{
    if (tcb->in_flight == 0 || has_new_data(tcb))
        return UN_NONE;
    uint32_t index = tcb->sent_tail, segment = un_segment_bytes(tcb), size = most < segment ? most : segment;
    const struct un_sent *sent = &tcp->sents[index];
    if (un_sent_payload(sent) <= size)
        return index;
    if (!un_sent_split(tcp, tcb, index, un_sent_payload(sent) - size)) {
        un_probe_cancel(tcb);
        return UN_NONE;
    }
    return tcb->sent_tail;
}
