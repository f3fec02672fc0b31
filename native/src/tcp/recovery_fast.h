/* The fast path of loss recovery: one record that is sent once and acknowledged as a whole, while no recovery goes on.
 * Inline, for input_fast.h and output_fast.h. Must do the same as un_recovery_ack and un_recovery_sent. */
#ifndef UN_RECOVERY_FAST_H
#define UN_RECOVERY_FAST_H

#include "tcp/congestion.h"
#include "tcp/probe.h"
#include "tcp/rtt.h"
#include "tcp/sent.h"

/* un_recovery_ack, when all that was in flight is one record, sent once, which this acknowledges, and no recovery or
 * probe goes on. */
static inline void un_recovery_ack_of_one(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t ack)
{
    uint32_t index = tcb->sent_head, acked = tcb->in_flight, sent_us = tcp->sents[index].sent_us;
    un_sent_give(tcp, index);
    tcb->sent_head = UN_NONE;
    tcb->in_flight = 0;
    tcb->lost_hint = UN_NONE;
    tcb->high_sacked = ack;
    tcb->dup_acks = 0;
    un_rtt_in_order(tcp, tcb, ack, sent_us, sent_us);
    un_congestion_of(tcb)->acked(tcp, tcb, acked, tcb->recovery & UN_RECOVERY_LIMITED);
    un_tcp_disarm(tcb, UN_TIMER_REORDER);
    un_tcp_disarm(tcb, UN_TIMER_RETRANSMIT);
}

/* Nothing is in flight yet: measurements may be old, and no ACK that comes is about them. */
static inline void un_recovery_begin_flight(struct un_tcp *tcp, struct un_tcb *tcb)
{
    if (__builtin_expect(un_congestion_is_stale(tcp, tcb), 0))
        un_congestion_of(tcb)->idle(tcp, tcb);
    tcb->unacked_ns = 0; /* of a silence that was probed */
    tcb->sampled_us = tcp->now_us;
    tcb->rack_us = tcp->now_us;
    tcb->rack_end = tcb->snd_nxt;
    tcb->recovery &= (uint8_t)~UN_RECOVERY_RACK_RESENT;
}

/* A record of what was sent for the first time, from snd_nxt on; the retransmission timer runs. */
static inline void un_recovery_record(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t length, uint32_t frame,
                                      uint32_t offset, uint16_t flags, uint32_t tsval)
{
    if (tcb->sent_head == UN_NONE)
        un_recovery_begin_flight(tcp, tcb);
    *un_sent_append(tcp, tcb) = (struct un_sent){
        .next = UN_NONE,
        .seq = tcb->snd_nxt,
        .length = length,
        .frame = frame,
        .offset = offset,
        .sent_us = tcp->now_us,
        .flags = (uint16_t)(flags | UN_SENT_IN_FLIGHT),
        .times = 1,
        .tsval = tsval,
    };
    tcb->in_flight += length;
    tcb->sent_at_us = tcp->now_us;
    un_congestion_sent(tcb);
    if (tcb->timers[UN_TIMER_RETRANSMIT] == 0)
        un_rto_arm(tcp, tcb);
}

/* un_recovery_sent of payload alone, in order: no recovery goes on, and no probe is due. */
static inline void un_recovery_sent_in_order(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t length, uint32_t frame,
                                             uint32_t offset, uint32_t tsval)
{
    un_recovery_record(tcp, tcb, length, frame, offset, 0, tsval);
    un_probe_arm(tcp, tcb);
}

/* May so much payload leave, at most a segment? Where this says no, ask un_recovery_allowance. */
static inline bool un_recovery_allows(const struct un_tcb *tcb, uint32_t length)
{
    return tcb->lost_bytes == 0 && (uint64_t)tcb->in_flight + length <= tcb->cwnd;
}

#endif
