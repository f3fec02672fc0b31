/* Loss detection by time: RACK (RFC 8985 section 6), for connections with SACK.
 *
 * What was sent well before something that has arrived is lost. "Well before" is the reordering window: nothing
 * until reordering has been seen, then a quarter of the smallest round trip, more when D-SACK says that we were too
 * quick. The walk over the records ends early: records that were sent once stand in the order of sending. */
#include "tcp/rack.h"
#include "tcp/recovery.h"
#include "tcp/rtt.h"
#include "tcp/sent.h"

#define UN_RACK_PERSIST 16u /* recoveries after which a widened window is forgotten: RFC 8985 section 6.2 */
#define UN_RACK_MULT_MAX 64u /* quarters of min_rtt; srtt bounds the window much earlier */

static bool is_after(uint32_t left_us, uint32_t left_end, uint32_t right_us, uint32_t right_end)
{
    int32_t later_us = un_seq_diff(left_us, right_us);
    return later_us > 0 || (later_us == 0 && un_seq_lt(right_end, left_end));
}

/* Was the record sent before what has arrived? Within a tick of the clock both new data and what is resent go out by
 * sequence number; which of the two kinds went first, nobody knows. */
static bool is_overtaken(const struct un_tcb *tcb, const struct un_sent *sent)
{
    if (sent->flags & UN_SENT_RESENT && !(tcb->recovery & UN_RECOVERY_RACK_RESENT))
        return un_seq_lt(sent->sent_us, tcb->rack_us);
    return is_after(tcb->rack_us, tcb->rack_end, sent->sent_us, sent->seq + sent->length);
}

/* Is it the arrival of an earlier transmission that we hear of? RFC 8985 section 6.2 step 2. The timestamp tells
 * only of what is acknowledged: an ACK that SACKs echoes that of the last segment in order. */
static bool is_ambiguous(const struct un_tcb *tcb, const struct un_ack *ack, const struct un_sent *sent,
                         uint32_t rtt_us)
{
    if (!(sent->flags & UN_SENT_RESENT))
        return false;
    bool has_echo = tcb->flags & UN_TCB_TIMESTAMP && ack->seg->options & UN_SEG_TIMESTAMP &&
                    un_seq_lt(sent->seq, ack->una);
    return (has_echo && un_seq_lt(ack->seg->tsecr, sent->tsval)) || rtt_us < tcb->min_rtt_us;
}

void un_rack_delivered(const struct un_tcp *tcp, struct un_tcb *tcb, const struct un_ack *ack,
                       const struct un_sent *sent, uint32_t length)
{
    uint32_t end = sent->seq + length, rtt_us = un_rtt_since(tcp, sent->sent_us);
    if (un_seq_lt(tcb->high_sacked, end))
        tcb->high_sacked = end;
    else if (end != tcb->high_sacked && !(sent->flags & UN_SENT_RESENT))
        tcb->flags |= UN_TCB_RACK_REORDER;
    if (is_ambiguous(tcb, ack, sent, rtt_us))
        return;
    tcb->rack_rtt_us = rtt_us;
    if (is_after(sent->sent_us, end, tcb->rack_us, tcb->rack_end)) {
        tcb->rack_us = sent->sent_us;
        tcb->rack_end = end;
        tcb->recovery &= (uint8_t)~UN_RECOVERY_RACK_RESENT;
        tcb->recovery |= sent->flags & UN_SENT_RESENT ? UN_RECOVERY_RACK_RESENT : 0;
    }
}

/* RFC 8985 does this at most once in a round trip; since the count goes down only when a recovery is over, here it
 * is at most once for each recovery. */
void un_rack_widen(struct un_tcb *tcb)
{
    if (tcb->rack_persist < UN_RACK_PERSIST && tcb->rack_mult < UN_RACK_MULT_MAX)
        tcb->rack_mult++;
    tcb->rack_persist = UN_RACK_PERSIST;
}

void un_rack_recovered(struct un_tcb *tcb)
{
    if (tcb->rack_persist > 0)
        tcb->rack_persist--;
    if (tcb->rack_persist == 0)
        tcb->rack_mult = 1;
}

static uint32_t reordering_window_us(const struct un_tcb *tcb)
{
    bool is_plain = tcb->flags & (UN_TCB_RECOVERY | UN_TCB_LOSS) || tcb->dup_acks >= UN_DUP_THRESHOLD ||
                    tcb->sacked_bytes > (UN_DUP_THRESHOLD - 1) * tcb->snd_mss;
    if (is_plain && !(tcb->flags & UN_TCB_RACK_REORDER))
        return 0;
    uint64_t window_us = (uint64_t)tcb->rack_mult * tcb->min_rtt_us / 4;
    return window_us < tcb->srtt_us ? (uint32_t)window_us : tcb->srtt_us;
}

uint32_t un_rack_detect(struct un_tcp *tcp, struct un_tcb *tcb, bool *is_congestion)
{
    if (!(tcb->flags & UN_TCB_SACK))
        return 0;
    uint32_t deadline_us = tcb->rack_rtt_us + reordering_window_us(tcb) - tcp->now_us, left = tcb->in_flight;
    int32_t longest_us = 0;
    for (uint32_t index = tcb->sent_head; index != UN_NONE && left > 0; index = tcp->sents[index].next) {
        const struct un_sent *sent = &tcp->sents[index];
        if (!(sent->flags & UN_SENT_IN_FLIGHT))
            continue;
        left -= sent->length;
        if (!is_overtaken(tcb, sent)) {
            if (sent->flags & UN_SENT_RESENT)
                continue;
            break; /* all behind it were sent later */
        }
        int32_t remaining_us = (int32_t)(sent->sent_us + deadline_us);
        if (remaining_us <= 0) {
            un_sent_set(tcp, tcb, index, UN_SENT_LOST);
            *is_congestion |= !(sent->flags & UN_SENT_PATH_PROBE);
        } else if (remaining_us > longest_us) {
            longest_us = remaining_us;
        }
    }
    return (uint32_t)longest_us;
}
