/* Samples of the round trip, and the timer that follows from them. See rtt.c. */
#ifndef UN_RTT_H
#define UN_RTT_H

#include "tcp/recovery.h"

/* A sample from the timestamp that a segment echoes (RFC 7323 section 4), to a millisecond; 0: none. */
uint32_t un_rtt_echoed(const struct un_tcp *tcp, const struct un_tcb *tcb, const struct un_seg *seg);

static inline void un_rto_arm(struct un_tcp *tcp, struct un_tcb *tcb)
{
    uint64_t rto_ns = tcb->backoff == 0 ? tcb->rto_us * UN_US_NS : un_tcp_timeout_ns(tcp, tcb);
    un_tcp_arm(tcp, tcb, UN_TIMER_RETRANSMIT, tcp->now_ns + rto_ns);
}

static inline void un_rtt_min(struct un_tcb *tcb, uint32_t rtt_us)
{
    if (rtt_us < tcb->min_rtt_us)
        tcb->min_rtt_us = rtt_us; /* until forgotten with a later sample */
}

/* A packet that was sent at sent_us has arrived. */
static inline void un_rtt_measure(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t sent_us)
{
    if (un_seq_le(tcb->sampled_us, sent_us))
        un_rtt_sample(tcp, tcb, tcp->now_us - sent_us);
}

static inline uint32_t un_rtt_since(const struct un_tcp *tcp, uint32_t sent_us)
{
    uint32_t rtt_us = tcp->now_us - sent_us;
    return rtt_us + !rtt_us; /* 0 means none */
}

/* Packets were acknowledged in order: the oldest was sent at oldest_us, the newest at newest_us. */
static inline void un_rtt_in_order(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t ack, uint32_t oldest_us,
                                   uint32_t newest_us)
{
    tcb->rack_us = newest_us;
    tcb->rack_end = ack;
    tcb->recovery &= (uint8_t)~UN_RECOVERY_RACK_RESENT;
    tcb->rack_rtt_us = un_rtt_since(tcp, newest_us);
    un_rtt_min(tcb, tcb->rack_rtt_us);
    un_rtt_measure(tcp, tcb, oldest_us);
}

#endif
