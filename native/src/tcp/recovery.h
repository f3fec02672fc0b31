/* What the files of loss recovery share; nobody else includes it, but input_fast.h and output_fast.h.
 *
 * Every packet in flight has a record (struct un_sent) in a list by sequence number, without gaps, from snd_una to
 * snd_nxt. A record is in exactly one of three states: IN_FLIGHT, SACKED or LOST; in_flight, sacked_bytes and
 * lost_bytes of the block are the sums over them, and every change goes through un_sent_set or takes the record off the
 * list. The head is never SACKED. Neighbours that are SACKED are one record: the list is as long as the holes are many,
 * and a walk from the head is short. A record may be a super-segment of many MSS; it is split where a SACK block ends
 * within it.
 *
 * A connection is in order (no flag), in fast recovery (UN_TCB_RECOVERY) or in recovery after a timeout
 * (UN_TCB_LOSS); both last until snd_una reaches `recover`. Without SACK there is no pipe: fast recovery is RFC
 * 6582, with cwnd inflated by duplicate ACKs and in_flight everything that is outstanding. */
#ifndef UN_RECOVERY_H
#define UN_RECOVERY_H

#include "tcp/tcp.h"

#define UN_TIMESTAMP_BYTES 12u /* of options, with padding */
#define UN_DUP_THRESHOLD 3u /* RFC 5681 section 3.2 */

/* un_tcb's recovery. */
enum un_recovery_bit {
    UN_RECOVERY_UNDO = 1 << 0,         /* prior_cwnd may be restored when what was resent turns out to be needless */
    UN_RECOVERY_RESENT = 1 << 1,       /* undo_tsval and undo_bytes are of a retransmission */
    UN_RECOVERY_PROBE_RESENT = 1 << 2, /* the probe in flight was a retransmission */
    UN_RECOVERY_LIMITED = 1 << 3,      /* cwnd was used up by what was sent last (RFC 7661: only then it may grow) */
    UN_RECOVERY_ADVANCED = 1 << 4,     /* snd_una has moved since the timeout */
    UN_RECOVERY_RACK_RESENT = 1 << 5,  /* what rack_us tells of had been resent */
};

/* What one ACK has told so far. */
struct un_ack {
    const struct un_seg *seg;
    uint32_t una;         /* what snd_una will be: beyond what a late ACK acknowledges */
    uint32_t acked;       /* sequence numbers that snd_una will move */
    uint32_t delivered;   /* bytes not known to have arrived before, acknowledged or SACKed */
    uint32_t sacked;      /* of them those by SACK */
    uint32_t flight;      /* bytes outstanding and not SACKed before it */
    uint32_t rtt_us;      /* of the oldest record acknowledged that was never resent; 0: none */
    uint32_t sack_rtt_us; /* of the newest such record SACKed */
    bool acked_resent;    /* what was acknowledged had been resent, at least in part */
    bool cuts_record;     /* it ends within what was sent as one */
    bool acked_original;  /* a record from before `recover` that was never resent */
    bool sacked_original;
    bool is_duplicate;    /* RFC 5681 section 2 */
    bool has_dsack;       /* RFC 2883: `dsack` arrived twice */
    struct un_sack_block dsack;
};

/* ---- sent.c: records ---- */

/* One more at the end of the list, for the caller to fill in: next is UN_NONE. */
static inline struct un_sent *un_sent_append(struct un_tcp *tcp, struct un_tcb *tcb)
{
    uint32_t index = tcp->sent_pool->free_head;
    un_assert(index != UN_NONE);
    struct un_sent *sent = &tcp->sents[index];
    tcp->sent_pool->free_head = sent->next;
    tcp->sent_pool->free_count--;
    if (tcb->sent_head == UN_NONE)
        tcb->sent_head = index;
    else
        tcp->sents[tcb->sent_tail].next = index;
    tcb->sent_tail = index;
    return sent;
}
/* Give the head back; its bytes have left the sums already. */
void un_sent_pop(struct un_tcp *tcp, struct un_tcb *tcb);
/* Take the first bytes of a record off it. */
void un_sent_trim(const struct un_tcp *tcp, struct un_sent *sent, uint32_t length);
/* Cut a record in two; the second begins `length` later. false: no record is free. */
bool un_sent_split(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t index, uint32_t length);
/* Make a record and the one behind it one. */
void un_sent_join(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t index);
/* Into this one of the three states. */
void un_sent_set(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t index, enum un_sent_flag state);

static inline uint32_t un_sent_payload(const struct un_sent *sent)
{
    return sent->length - !!(sent->flags & UN_SENT_SYN) - !!(sent->flags & UN_SENT_FIN);
}

/* Payload of a full segment: without the room that timestamps take. */
static inline uint32_t un_segment_bytes(const struct un_tcb *tcb)
{
    return tcb->snd_mss - (tcb->flags & UN_TCB_TIMESTAMP ? UN_TIMESTAMP_BYTES : 0);
}

static inline uint32_t *un_sent_sum(struct un_tcb *tcb, uint32_t flags)
{
    if (flags & UN_SENT_IN_FLIGHT)
        return &tcb->in_flight;
    return flags & UN_SENT_SACKED ? &tcb->sacked_bytes : &tcb->lost_bytes;
}

/* ---- sack.c: the scoreboard ---- */

void un_sack_acknowledge(struct un_tcp *tcp, struct un_tcb *tcb, struct un_ack *ack); /* cumulatively */
void un_sack_mark(struct un_tcp *tcp, struct un_tcb *tcb, struct un_ack *ack);

/* ---- rack.c: loss detection by time, RFC 8985 ---- */

/* `length` bytes of a record arrived. */
void un_rack_delivered(const struct un_tcp *tcp, struct un_tcb *tcb, const struct un_ack *ack,
                       const struct un_sent *sent, uint32_t length);
void un_rack_widen(struct un_tcb *tcb);  /* D-SACK said that something was resent too early */
void un_rack_recovered(struct un_tcb *tcb); /* a recovery is over */
/* Mark what is lost; returns in how many microseconds something else may be, 0: nothing. *is_congestion becomes true
 * when anything but a probe of the path MTU is lost (RFC 8899 section 3). */
uint32_t un_rack_detect(struct un_tcp *tcp, struct un_tcb *tcb, bool *is_congestion);

/* ---- probe.c: tail loss probes, RFC 8985 section 7 ---- */

bool un_probe_is_possible(const struct un_tcb *tcb);
void un_probe_arm(struct un_tcp *tcp, struct un_tcb *tcb);
void un_probe_due(struct un_tcp *tcp, struct un_tcb *tcb); /* the timer fired: let dispatch send one */
void un_probe_sent(struct un_tcb *tcb, uint32_t end, bool is_resent);
void un_probe_cancel(struct un_tcb *tcb);
/* Is this D-SACK about the probe? */
bool un_probe_is_dsack(const struct un_tcb *tcb, const struct un_ack *ack);
void un_probe_acked(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_ack *ack);
/* The record to send as the probe; UN_NONE: new data is to be the probe, or there is none any more. */
uint32_t un_probe_next(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t most);

/* ---- undo.c: recoveries that were needless ---- */

void un_undo_begin(struct un_tcb *tcb);
void un_undo_resent(struct un_tcb *tcb, const struct un_sent *sent);
/* Did this ACK show that all that was resent had arrived the first time? Then all is as it was before. */
bool un_undo_acked(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_ack *ack);
void un_undo_frto(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_ack *ack);

/* ---- prr.c: proportional rate reduction, RFC 6937bis ---- */

void un_prr_begin(struct un_tcb *tcb, uint32_t flight);
/* After detection: cwnd for what is in flight and may be added. is_safe: snd_una moved and nothing else is lost. */
void un_prr_update(struct un_tcb *tcb, uint32_t delivered, bool is_safe);

static inline void un_prr_sent(struct un_tcb *tcb, uint32_t bytes)
{
    if (tcb->flags & UN_TCB_RECOVERY)
        tcb->prr_out += bytes;
}

/* ---- rtt.c ---- */

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

/* What was sent then has arrived. */
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

/* Of what is acknowledged in order the oldest was sent at the one time, the newest at the other. */
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

/* ---- congestion.c ---- */

uint32_t un_congestion_initial(const struct un_tcp *tcp, const struct un_tcb *tcb); /* initial window: RFC 6928 */
/* Was nothing sent for so long that cwnd says nothing any more (RFC 5681 section 4.1)? Then it is the restart
 * window. */
static inline bool un_congestion_is_stale(const struct un_tcp *tcp, const struct un_tcb *tcb)
{
    return tcb->sent_head == UN_NONE && tcp->now_us - tcb->sent_at_us > tcb->rto_us;
}

static inline uint32_t un_congestion_window(const struct un_tcp *tcp, const struct un_tcb *tcb)
{
    if (!un_congestion_is_stale(tcp, tcb))
        return tcb->cwnd;
    uint32_t initial = un_congestion_initial(tcp, tcb);
    return initial < tcb->cwnd ? initial : tcb->cwnd;
}

void un_congestion_reduce(struct un_tcp *tcp, struct un_tcb *tcb); /* a new ssthresh, by the connection's algorithm */
/* Was this done for the window that ends after `una` already? */
bool un_congestion_is_reduced(const struct un_tcb *tcb, uint32_t una);
/* Congestion that no retransmission repairs: ECN, or a loss that a probe has repaired. */
void un_congestion_react(struct un_tcp *tcp, struct un_tcb *tcb);
/* The window that a reduction starts from: what was used of cwnd. */
uint32_t un_congestion_used(const struct un_tcb *tcb);
/* By how much one ACK of so many bytes may let cwnd grow in slow start. */
uint32_t un_congestion_slow_start(const struct un_tcb *tcb, uint32_t acked);
void un_congestion_grow(struct un_tcb *tcb, uint32_t bytes);

/* Is cwnd used up? In slow start half of it is enough, since the other half is what the last round trip has added. */
static inline void un_congestion_sent(struct un_tcb *tcb)
{
    bool is_limited = tcb->cwnd < tcb->ssthresh ? 2 * tcb->in_flight >= tcb->cwnd
                                                : tcb->in_flight + tcb->snd_mss > tcb->cwnd;
    tcb->recovery = (uint8_t)((tcb->recovery & ~UN_RECOVERY_LIMITED) | (is_limited ? UN_RECOVERY_LIMITED : 0));
}

static inline const struct un_congestion *un_congestion_of(const struct un_tcb *tcb)
{
    return un_congestions[tcb->congestion];
}

/* ---- the short way ---- */

/* All that was in flight is one record, sent once, and this acknowledges it while nothing special goes on:
 * un_recovery_ack. */
static inline void un_recovery_ack_of_one(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t ack)
{
    uint32_t index = tcb->sent_head, acked = tcb->in_flight, sent_us = tcp->sents[index].sent_us;
    tcp->sents[index].next = tcp->sent_pool->free_head;
    tcp->sent_pool->free_head = index;
    tcp->sent_pool->free_count++;
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

/* Nothing is in flight: what was measured before may be old, and no ACK can be about it. */
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

extern const struct un_congestion un_congestion_reno;  /* reno.c */
extern const struct un_congestion un_congestion_cubic; /* cubic.c */

/* ---- hystart.c: when to leave the first slow start, RFC 9406; its state lies in cc_state meanwhile ---- */

void un_hystart_init(struct un_tcb *tcb);
/* An ACK of so many bytes in slow start lets cwnd grow; sets ssthresh when slow start is over. */
void un_hystart_acked(struct un_tcb *tcb, uint32_t acked);

#endif
