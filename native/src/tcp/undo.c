/* Recoveries that turn out to be needless, because what was given up arrived: cwnd and ssthresh are restored.
 *
 * Three ways to know: an ACK of resent data echoes a timestamp older than the first retransmission (Eifel: RFC 3522,
 * 4015); D-SACK reports every byte that was sent again as a duplicate (RFC 3708), perhaps after the recovery is
 * over; after a timeout, data that was never sent again is acknowledged (F-RTO: RFC 5682). */
#include "tcp/congestion.h"
#include "tcp/probe.h"
#include "tcp/rack.h"
#include "tcp/recovery.h"
#include "tcp/sent.h"
#include "tcp/undo.h"

void un_undo_begin(struct un_tcb *tcb)
{
    tcb->recovery = (uint8_t)((tcb->recovery & ~UN_RECOVERY_RESENT) | UN_RECOVERY_UNDO);
    tcb->undo_bytes = 0;
}

void un_undo_resent(struct un_tcb *tcb, const struct un_sent *sent)
{
    if (!(tcb->recovery & UN_RECOVERY_RESENT))
        tcb->undo_tsval = sent->tsval;
    tcb->recovery |= UN_RECOVERY_RESENT;
    tcb->undo_bytes += sent->length;
}

static void undo(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_ack *ack)
{
    for (uint32_t index = tcb->sent_head; index != UN_NONE && tcb->lost_bytes > 0; index = tcp->sents[index].next)
        if (tcp->sents[index].flags & UN_SENT_LOST)
            un_sent_set(tcp, tcb, index, UN_SENT_IN_FLIGHT);
    if (tcb->cwnd < tcb->prior_cwnd)
        tcb->cwnd = tcb->prior_cwnd;
    if (tcb->ssthresh < tcb->prior_ssthresh)
        tcb->ssthresh = tcb->prior_ssthresh;
    un_congestion_of(tcb)->undo(tcp, tcb);
    if (!(tcb->flags & UN_TCB_LOSS))
        tcb->flags |= UN_TCB_RACK_REORDER; /* it was taken for a loss */
    if (tcb->flags & (UN_TCB_RECOVERY | UN_TCB_LOSS))
        un_rack_recovered(tcb);
    tcb->flags &= ~(uint32_t)(UN_TCB_RECOVERY | UN_TCB_LOSS | UN_TCB_FRTO);
    tcb->recovery &= (uint8_t) ~(UN_RECOVERY_UNDO | UN_RECOVERY_RESENT);
    tcb->recover = ack->una;
    tcb->dup_acks = 0;
    tcb->backoff = 0;
    tcp->counters->spurious++;
}

static bool echoes_original(const struct un_tcb *tcb, const struct un_ack *ack)
{
    return ack->acked_resent && tcb->flags & (UN_TCB_RECOVERY | UN_TCB_LOSS) && tcb->flags & UN_TCB_TIMESTAMP &&
           ack->seg->options & UN_SEG_TIMESTAMP && un_seq_lt(ack->seg->tsecr, tcb->undo_tsval);
}

static bool all_reported(struct un_tcb *tcb, const struct un_ack *ack)
{
    if (!ack->has_dsack || un_probe_is_dsack(tcb, ack) || un_seq_lt(tcb->recover, ack->dsack.end))
        return false;
    uint32_t bytes = ack->dsack.end - ack->dsack.start;
    tcb->undo_bytes -= bytes < tcb->undo_bytes ? bytes : tcb->undo_bytes;
    return tcb->undo_bytes == 0;
}

bool un_undo_acked(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_ack *ack)
{
    const uint32_t needed = UN_RECOVERY_UNDO | UN_RECOVERY_RESENT;
    if ((tcb->recovery & needed) != needed)
        return false;
    if (!all_reported(tcb, ack) && !echoes_original(tcb, ack))
        return false;
    undo(tcp, tcb, ack);
    return true;
}

/* Room for two full new segments, by which RFC 5682 finds out. */
static bool has_new_data(const struct un_tcb *tcb)
{
    uint32_t wanted = 2u * tcb->snd_mss;
    return un_tx_unsent(tcb) >= wanted && tcb->snd_nxt - tcb->snd_una + wanted <= tcb->snd_wnd;
}

/* RFC 5682 section 3.1. While UN_TCB_FRTO is set nothing but the head is sent again; new data goes out after the
 * first ACK that moves snd_una. Without SACK, an ACK that also covers resent data proves nothing. */
void un_undo_frto(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_ack *ack)
{
    if (!(tcb->flags & UN_TCB_FRTO))
        return;
    if (ack->sacked_original || (ack->acked_original && !ack->acked_resent)) {
        undo(tcp, tcb, ack);
        return;
    }
    bool new_data_sent = tcb->snd_nxt != tcb->recover;
    bool goes_on = ack->acked > 0 && (new_data_sent || has_new_data(tcb));
    if (!goes_on && (ack->acked > 0 || ack->is_duplicate || ack->sacked > 0))
        tcb->flags &= ~(uint32_t)UN_TCB_FRTO;
}
