/* What may leave, and what has left: retransmissions first, then new data within cwnd.
 *
 * Retransmissions go in the order of sequence numbers, in whole segments as far as cwnd has room. The first one of a
 * recovery without SACK does not ask cwnd (RFC 6582), nor does a SYN, nor a tail loss probe. */
#include "tcp/congestion.h"
#include "tcp/probe.h"
#include "tcp/prr.h"
#include "tcp/recovery.h"
#include "tcp/recovery_fast.h"
#include "tcp/rtt.h"
#include "tcp/sent.h"
#include "tcp/undo.h"

static uint32_t first_lost(const struct un_tcp *tcp, struct un_tcb *tcb)
{
    uint32_t index = tcb->lost_hint != UN_NONE ? tcb->lost_hint : tcb->sent_head;
    while (index != UN_NONE && !(tcp->sents[index].flags & UN_SENT_LOST))
        index = tcp->sents[index].next;
    un_assert(index != UN_NONE); /* lost_bytes says that there is one */
    tcb->lost_hint = index;
    return index;
}

/* How many bytes of payload may be sent of it; -1: not even that which it has none of. */
static int64_t sendable(const struct un_tcb *tcb, const struct un_sent *sent, uint32_t most)
{
    uint32_t size = un_sent_payload(sent), segment = un_segment_bytes(tcb);
    uint32_t room = tcb->cwnd > tcb->in_flight ? tcb->cwnd - tcb->in_flight : 0;
    size = size < most ? size : most;
    if ((tcb->flags & (UN_TCB_SACK | UN_TCB_RECOVERY)) == UN_TCB_RECOVERY && sent->seq == tcb->snd_una)
        return size < segment ? size : segment;
    bool has_room = size > 0 ? size <= room : room > 0; /* a FIN alone is a packet, too */
    if (sent->flags & UN_SENT_SYN || has_room)
        return size;
    return room < segment ? -1 : (int64_t)(room - room % segment);
}

uint32_t un_recovery_next(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t most)
{
    un_assert(most > 0);
    if (tcb->flags & UN_TCB_PROBE_DUE)
        return un_probe_next(tcp, tcb, most);
    if (tcb->lost_bytes == 0 || (tcb->flags & UN_TCB_FRTO && tcb->recovery & UN_RECOVERY_ADVANCED))
        return UN_NONE;
    uint32_t index = first_lost(tcp, tcb);
    const struct un_sent *sent = &tcp->sents[index];
    int64_t size = sendable(tcb, sent, most);
    if (size < 0 || (size < un_sent_payload(sent) && !un_sent_split(tcp, tcb, index, (uint32_t)size)))
        return UN_NONE;
    return index;
}

void un_recovery_resent(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t index, uint32_t tsval)
{
    struct un_sent *sent = &tcp->sents[index];
    un_sent_set(tcp, tcb, index, UN_SENT_IN_FLIGHT);
    sent->flags = (uint16_t)((sent->flags & ~UN_SENT_PATH_PROBE) | UN_SENT_RESENT);
    sent->sent_us = tcp->now_us;
    sent->tsval = tsval;
    if (sent->times < UINT16_MAX)
        sent->times++;
    tcb->sent_at_us = tcp->now_us;
    tcb->retransmitted++;
    tcp->counters->retransmitted++;
    if (tcb->flags & UN_TCB_PROBE_DUE) {
        un_probe_sent(tcb, tcb->snd_nxt, true);
        return;
    }
    un_undo_resent(tcb, sent);
    un_prr_sent(tcb, sent->length);
    if (sent->seq == tcb->snd_una || tcb->timers[UN_TIMER_RETRANSMIT] == 0)
        un_rto_arm(tcp, tcb); /* RFC 6675 section 6: its answer takes another round trip */
}

void un_recovery_sent(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t length, uint32_t frame, uint32_t offset,
                      uint16_t flags, uint32_t tsval)
{
    un_recovery_record(tcp, tcb, length, frame, offset, flags, tsval);
    un_prr_sent(tcb, length);
    if (tcb->flags & UN_TCB_PROBE_DUE)
        un_probe_sent(tcb, tcb->snd_nxt + length, false);
    else
        un_probe_arm(tcp, tcb);
}

uint32_t un_recovery_allowance(const struct un_tcp *tcp, const struct un_tcb *tcb)
{
    bool holds_back = tcb->flags & UN_TCB_FRTO && tcb->recovery & UN_RECOVERY_ADVANCED;
    if (tcb->flags & UN_TCB_PROBE_DUE)
        return tcb->snd_mss;
    if (tcb->lost_bytes > 0 && !holds_back)
        return 0;
    uint32_t window = un_congestion_window(tcp, tcb);
    bool is_limited_transmit = !(tcb->flags & (UN_TCB_SACK | UN_TCB_RECOVERY | UN_TCB_LOSS)); /* RFC 3042 */
    if (is_limited_transmit && tcb->dup_acks < UN_DUP_THRESHOLD)
        window += (uint32_t)tcb->dup_acks * tcb->snd_mss;
    uint32_t room = window > tcb->in_flight ? window - tcb->in_flight : 0;
    return room < un_segment_bytes(tcb) && room < un_tx_unsent(tcb) ? 0 : room; /* no splinters */
}
