/* Everything that must hold of one connection between two calls: the order of its sequence numbers, the bounds of its
 * queues, and what a state may have (timers, a FIN, a reason). Slow, and for tests and fuzzing; the verbs assert the
 * part of it that they rely on. What the queues hold is counted by the stack (stack/scan.c). */
#include "tcp/internal.h"

/* States in which something of ours may be unacknowledged, or waits to be sent. */
#define OPENING (UN_TCP_SYN_SENT | UN_TCP_SYN_RECEIVED)
#define HAS_FIN_OF_PEER (UN_TCP_CLOSE_WAIT | UN_TCP_CLOSING | UN_TCP_LAST_ACK | UN_TCP_TIME_WAIT)
#define HAS_SHUT_DOWN (UN_TCP_FIN_WAIT_1 | UN_TCP_FIN_WAIT_2 | UN_TCP_CLOSING | UN_TCP_LAST_ACK | UN_TCP_TIME_WAIT)

static bool has(const struct un_tcb *tcb, uint32_t flags)
{
    return (tcb->flags & flags) == flags;
}

/* What is outstanding without our FIN. */
static uint32_t payload_outstanding(const struct un_tcb *tcb)
{
    return tcb->snd_nxt - tcb->snd_una - (has(tcb, UN_TCB_FIN_SENT) && tcb->snd_una != tcb->snd_nxt);
}

static const char *check_send(const struct un_tcb *tcb)
{
    if (un_seq_lt(tcb->snd_nxt, tcb->snd_una))
        return "snd_una is beyond snd_nxt";
    if (tcb->snd_small_end - tcb->snd_una > tcb->snd_nxt - tcb->snd_una)
        return "snd_small_end is not between snd_una and snd_nxt";
    if (tcb->snd_wnd > tcb->snd_wnd_max)
        return "the peer's window is larger than the largest";
    if (tcb->snd_wscale > UN_TCP_WSCALE_MAX || (!has(tcb, UN_TCB_WSCALE) && tcb->snd_wscale != 0))
        return "the peer's window has a scale that was not agreed on";
    if (tcb->snd_mss == 0 || tcb->cwnd == 0)
        return "a segment, or the congestion window, has no room";
    return NULL;
}

static const char *check_send_queue(const struct un_tcp *tcp, const struct un_tcb *tcb)
{
    uint32_t outstanding = tcb->state & OPENING ? 0 : payload_outstanding(tcb);
    if (outstanding > tcb->snd_bytes)
        return "more payload is outstanding than is queued";
    if ((tcb->unsent_frame == UN_NONE) != (outstanding == tcb->snd_bytes))
        return "unsent_frame does not say whether payload is unsent";
    if (tcb->snd.head != UN_NONE && tcb->snd_head_offset >= tcp->pool.frames[tcb->snd.head].length)
        return "a frame stays in the send queue, and all of it is acknowledged";
    return NULL;
}

static const char *check_opening(const struct un_tcb *tcb)
{
    bool is_iss = tcb->snd_una == tcb->iss && tcb->snd_nxt - tcb->iss <= 1;
    if (!is_iss || tcb->snd_bytes > 0)
        return "before the handshake is over, more than a SYN was sent or queued";
    return tcb->rcv_bytes + tcb->rcv_ooo_bytes > 0 ? "payload is there before the handshake is over" : NULL;
}

static const char *check_receive(const struct un_tcb *tcb)
{
    if (un_seq_lt(tcb->rcv_edge, tcb->rcv_nxt) || un_seq_lt(tcb->rcv_nxt, tcb->rcv_acked))
        return "rcv_acked, rcv_nxt and rcv_edge are out of order";
    if (tcb->rcv_wscale > UN_TCP_WSCALE_MAX || (!has(tcb, UN_TCB_WSCALE) && tcb->rcv_wscale != 0))
        return "our window has a scale that was not agreed on";
    if (tcb->rcv_edge - tcb->rcv_nxt > (uint32_t)UINT16_MAX << tcb->rcv_wscale)
        return "our window is larger than its field can say";
    if (has(tcb, UN_TCB_DETACHED) && tcb->rcv_bytes + tcb->rcv_ooo_bytes > 0)
        return "input is kept that nobody can read";
    return NULL;
}

/* By sequence number, without overlaps, between rcv_nxt and rcv_edge; there is a gap in front. */
static const char *check_out_of_order(const struct un_tcp *tcp, const struct un_tcb *tcb)
{
    uint32_t end = tcb->rcv_nxt;
    for (uint32_t at = tcb->rcv_ooo.head; at != UN_NONE; at = tcp->pool.frames[at].next) {
        const struct un_frame *frame = &tcp->pool.frames[at];
        if (un_seq_lt(frame->seq, end) || frame->seq == tcb->rcv_nxt || frame->length == 0)
            return "payload out of order overlaps, is empty or is next";
        end = frame->seq + frame->length;
    }
    if (tcb->rcv_ooo.head != UN_NONE && un_seq_lt(tcb->rcv_edge, end))
        return "payload out of order lies beyond the window";
    if (tcb->sack_count > UN_SACK_BLOCKS_MAX || (tcb->sack_count == 0) != (tcb->rcv_ooo.head == UN_NONE))
        return "the remembered runs do not say whether payload is out of order";
    return NULL;
}

static const char *check_fins(const struct un_tcb *tcb)
{
    if (has(tcb, UN_TCB_FIN_RECEIVED) != ((tcb->state & HAS_FIN_OF_PEER) != 0))
        return "the state does not say whether the peer's FIN has come";
    /* Not always right behind it: a peer may have sent payload behind its FIN, out of order, before the FIN came. */
    if (has(tcb, UN_TCB_FIN_RECEIVED) && (!has(tcb, UN_TCB_FIN_SEEN) || un_seq_le(tcb->rcv_nxt, tcb->fin_seq)))
        return "rcv_nxt does not stand behind the peer's FIN";
    if ((tcb->state & HAS_SHUT_DOWN) && !has(tcb, UN_TCB_FIN_QUEUED))
        return "a state after our FIN without one";
    if ((tcb->state & UN_TCP_CAN_SEND) && has(tcb, UN_TCB_FIN_QUEUED))
        return "a FIN is queued in a state before it";
    if (has(tcb, UN_TCB_FIN_SENT) && !has(tcb, UN_TCB_FIN_QUEUED))
        return "a FIN was sent that was not queued";
    if ((tcb->state & (UN_TCP_FIN_WAIT_2 | UN_TCP_TIME_WAIT)) && !un_tcp_fin_acked(tcb))
        return "a state after the ACK of our FIN without that ACK";
    return NULL;
}

/* A timer runs only where something can come of it; and what is in flight has one, or is asked for by dispatch. */
static const char *check_timers(const struct un_tcb *tcb)
{
    const uint64_t *timers = tcb->timers;
    bool is_sending = tcb->state & (OPENING | UN_TCP_SENDING);
    bool is_orphan = tcb->state == UN_TCP_FIN_WAIT_2 && has(tcb, UN_TCB_DETACHED);
    if (timers[UN_TIMER_RETRANSMIT] && !is_sending)
        return "the retransmission timer runs in a state that sends nothing";
    if (timers[UN_TIMER_REORDER] && tcb->sent_head == UN_NONE)
        return "a loss is waited for, and nothing is in flight";
    if (timers[UN_TIMER_ACK] && !(tcb->state & UN_TCP_SYNCHRONIZED))
        return "an ACK is delayed before the handshake is over";
    if (has(tcb, UN_TCB_ACK_LATER) && !timers[UN_TIMER_ACK] && !has(tcb, UN_TCB_ACK_NOW))
        return "an ACK is delayed without a timer";
    if (has(tcb, UN_TCB_PERSIST) && tcb->snd_una != tcb->snd_nxt)
        return "the persist timer runs while something is in flight";
    if (is_sending && tcb->snd_una != tcb->snd_nxt && !timers[UN_TIMER_RETRANSMIT])
        return "something is in flight without a timer";
    if ((is_orphan || tcb->state == UN_TCP_TIME_WAIT) && !timers[UN_TIMER_LIFE])
        return "a state that ends by a timer has none";
    return NULL;
}

/* Of what is in flight there are records, and of nothing else. */
static const char *check_records(const struct un_tcp *tcp, const struct un_tcb *tcb)
{
    bool is_outstanding = tcb->snd_una != tcb->snd_nxt;
    if (is_outstanding != (tcb->sent_head != UN_NONE))
        return "the records do not say whether something is in flight";
    return un_recovery_check(tcp, tcb);
}

static const char *check_dead(const struct un_tcb *tcb)
{
    if (tcb->reason == UN_TCP_REASON_NONE || tcb->reason >= UN_TCP_REASON_COUNT)
        return "a connection is over for no reason";
    if (tcb->snd.head != UN_NONE || tcb->sent_head != UN_NONE || tcb->rcv_ooo.head != UN_NONE)
        return "a connection that is over holds what nobody can ask for";
    return un_tcp_deadline_ns(tcb) ? "a connection that is over has a timer" : NULL;
}

static const char *check_living(const struct un_tcp *tcp, const struct un_tcb *tcb)
{
    bool is_told = tcb->reason != UN_TCP_REASON_NONE;
    const char *wrong = check_send(tcb);
    if (is_told != (tcb->state == UN_TCP_TIME_WAIT))
        wrong = "the reason for an end does not agree with the state";
    if (!wrong)
        wrong = check_send_queue(tcp, tcb);
    if (!wrong)
        wrong = check_records(tcp, tcb);
    if (!wrong)
        wrong = check_timers(tcb);
    if (!wrong)
        wrong = check_fins(tcb);
    return wrong;
}

const char *un_tcp_check(const struct un_tcp *tcp, const struct un_tcb *tcb)
{
    if (tcb->state == UN_TCP_CLOSED)
        return NULL;
    if (tcb->state & (tcb->state - 1u) || tcb->state > UN_TCP_DEAD || tcb->state == 0)
        return "a connection is not in exactly one state";
    if (tcb->state == UN_TCP_DEAD)
        return check_dead(tcb);
    const char *wrong = check_living(tcp, tcb);
    if (wrong || (tcb->state & OPENING))
        return wrong ? wrong : check_opening(tcb);
    wrong = check_receive(tcb);
    return wrong ? wrong : check_out_of_order(tcp, tcb);
}
