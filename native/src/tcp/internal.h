/* What the files of the state machine share. Others include it only by way of input_fast.h, output_fast.h and
 * application_fast.h.
 *
 *   input.c         a segment arrives: the steps    handshake.c    SYN-SENT, SYN-RECEIVED, options
 *   input_fast.h    the next one in order arrives   receive_fast.h its payload
 *   ack.c           what its ACK and window change  receive.c      what its payload and FIN change
 *   output.c        dispatch: resend, send, probe   output_fast.h  the usual data segment
 *   segment.c       one segment is built, emitted   window.c       the window we offer
 *   path.c          segment size, path MTU, ICMP    timers.c       deadlines
 *   state.c         states, beginning and end
 *   application_fast.h what is read or written at once
 *
 * A function that may end the connection says so in its comment, its name or its result. When it has, its caller must
 * not touch the block any more: the slot may belong to another connection. */
#ifndef UN_TCP_INTERNAL_H
#define UN_TCP_INTERNAL_H

#include "tcp/tcp.h"

#define UN_TCP_IPV4_HEADERS 40u /* IP and TCP, without options */
#define UN_TCP_IPV6_HEADERS 60u
#define UN_TCP_TIMESTAMP_BYTES 12u /* with padding */
#define UN_TCP_SACK_BYTES(blocks) (4u + 8u * (blocks))
#define UN_TCP_WSCALE_MAX 14u /* RFC 7323 section 2.3 */

/* So many full segments after the handshake are acknowledged at once. RFC 5681 lets ACKs wait, but a peer in slow start
 * grows more slowly then. 16 are an initial window of 10 and the beginning of the next one. */
#define UN_TCP_QUICKACKS 16u

/* A smaller segment is never taken for a full one: a stream of small messages is no bulk transfer. */
#define UN_TCP_RCV_MSS_MIN 536u

static inline uint32_t un_min32(uint32_t left, uint32_t right)
{
    return left < right ? left : right;
}

static inline uint32_t un_max32(uint32_t left, uint32_t right)
{
    return left < right ? right : left;
}

static inline uint8_t un_tcp_clock_minute(const struct un_tcp *tcp)
{
    return (uint8_t)(tcp->now_ns / (60 * UN_SECOND_NS));
}

/* Our timestamp clock: milliseconds from an offset of the connection's own (RFC 7323 section 5.4). */
static inline uint32_t un_tcp_timestamp(const struct un_tcp *tcp, const struct un_tcb *tcb)
{
    return tcp->now_ms + tcb->ts_offset;
}

static inline enum un_drop un_tcp_drop(struct un_tcp *tcp, enum un_drop why)
{
    tcp->drops[why] += why != UN_DROP_NONE;
    return why;
}

static inline void un_tcp_want_output(struct un_tcp *tcp, struct un_tcb *tcb)
{
    tcp->operations->output(tcp, tcb);
}

static inline void un_tcp_ack_now(struct un_tcp *tcp, struct un_tcb *tcb)
{
    tcb->flags |= UN_TCB_ACK_NOW;
    un_tcp_want_output(tcp, tcb);
}

/* Tell the application, unless it has let go, or has not yet fetched the same events. */
static inline void un_tcp_raise(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t events)
{
    if (!(tcb->flags & UN_TCB_DETACHED) && (tcb->events & events) != events)
        tcp->operations->event(tcp, tcb, events);
}

static inline bool un_tcp_is_over(const struct un_tcb *tcb)
{
    return tcb->state & (UN_TCP_CLOSED | UN_TCP_DEAD);
}

/* FIN is to be sent for the first time. */
static inline bool un_tcp_fin_pending(const struct un_tcb *tcb)
{
    return (tcb->flags & (UN_TCB_FIN_QUEUED | UN_TCB_FIN_SENT)) == UN_TCB_FIN_QUEUED;
}

static inline bool un_tcp_fin_acked(const struct un_tcb *tcb)
{
    return (tcb->flags & UN_TCB_FIN_SENT) && tcb->snd_una == tcb->snd_nxt;
}

static inline bool un_tcp_has_unsent(const struct un_tcb *tcb)
{
    return tcb->unsent_frame != UN_NONE || un_tcp_fin_pending(tcb);
}

/* Something is to be sent, or to be written, as soon as that is possible: what the persist timer runs for. */
static inline bool un_tcp_waits(const struct un_tcb *tcb)
{
    return un_tcp_has_unsent(tcb) || tcb->snd_nxt == tcb->iss || (tcb->flags & UN_TCB_WANT_WRITE);
}

/* What every step relies on. */
static inline void un_tcp_assert_order(const struct un_tcb *tcb)
{
    un_assert(un_seq_le(tcb->snd_una, tcb->snd_nxt));
    un_assert(un_seq_le(tcb->rcv_nxt, tcb->rcv_edge));
}

/* The peer has shrunk its window: it has no room for even one segment of what is outstanding. */
static inline bool un_tcp_window_is_short(const struct un_tcb *tcb)
{
    uint32_t outstanding = tcb->snd_nxt - tcb->snd_una;
    return tcb->snd_wnd < un_min32(outstanding, tcb->snd_mss);
}

static inline uint32_t un_tcp_option_bytes(const struct un_seg *seg)
{
    return (seg->options & UN_SEG_TIMESTAMP ? UN_TCP_TIMESTAMP_BYTES : 0) +
           (seg->sack_count ? UN_TCP_SACK_BYTES(seg->sack_count) : 0);
}

/* ---- handshake.c ---- */
uint8_t un_tcp_window_scale(const struct un_tcp_config *config, uint32_t limit); /* what we offer */
enum un_drop un_tcp_process_syn_sent(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg, uint32_t frame);
/* Our SYN is acknowledged; `window` is what the segment means, which with SYN is not scaled. */
void un_tcp_process_syn_acked(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg, uint32_t window);

/* ---- ack.c ---- */
/* snd_una <= seg->ack <= snd_nxt. May end the connection. */
void un_tcp_process_ack(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg);
/* Does this ACK take the byte, or the FIN, of a window probe? It counts as sent only then. */
bool un_tcp_acks_probe(const struct un_tcb *tcb, uint32_t ack);

/* ---- receive.c ---- */
/* Payload [seq, seq + length) that is at least in part within the window; the chain is taken. */
enum un_drop un_tcp_receive(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t seq, uint32_t length, uint32_t frame);
/* A segment had a FIN, at fin_seq. May end the connection. */
void un_tcp_receive_fin(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t fin_seq);
/* Payload came: a FIN seen earlier may be next in order now. May end the connection. */
void un_tcp_take_fin(struct un_tcp *tcp, struct un_tcb *tcb);

/* ---- window.c ---- */
uint16_t un_tcp_window_syn(const struct un_tcp *tcp, const struct un_tcb *tcb);  /* of SYN and SYN-ACK: never scaled */
uint16_t un_tcp_window_next(const struct un_tcp *tcp, const struct un_tcb *tcb); /* of all other segments */
/* There may be more room than before: send a window update, if it is worth a segment of its own. */
bool un_tcp_open_window(struct un_tcp *tcp, struct un_tcb *tcb);
/* After a window was offered, or left as it is: if it is shut for want of frames, arm a timer to look again. */
void un_tcp_watch_window(struct un_tcp *tcp, struct un_tcb *tcb);

/* ---- tune.c ---- */
/* The application has read, and rcv_limit is below rcv_limit_max. */
void un_tcp_grow_receive(const struct un_tcp *tcp, struct un_tcb *tcb);

/* ---- segment.c: what is emitted; 0 or -EAGAIN, and then nothing has changed ---- */
/* Fill in all but payload; seq is snd_nxt. */
void un_tcp_segment(struct un_tcp *tcp, struct un_tcb *tcb, struct un_seg *seg, uint8_t flags);
/* Emit a segment that un_tcp_segment began: it acknowledges whatever was to be acknowledged. */
int un_tcp_emit(struct un_tcp *tcp, struct un_tcb *tcb, struct un_seg *seg, const struct un_piece *pieces, int count,
                uint32_t segment_bytes);
int un_tcp_send_ack(struct un_tcp *tcp, struct un_tcb *tcb);
int un_tcp_send_syn(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t *tsval); /* or SYN-ACK, by the state */
void un_tcp_send_reset(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t seq, bool has_ack);
/* An ACK that a forger may have provoked: bounded per second (RFC 5961 section 7). */
void un_tcp_challenge(struct un_tcp *tcp, struct un_tcb *tcb);

/* ---- path.c ---- */
uint16_t un_tcp_announced_mss(const struct un_ip *peer, uint16_t link_mtu);
void un_tcp_set_peer_mss(struct un_tcb *tcb, const struct un_seg *syn);
/* By how many bytes a segment may be larger than others, to search for a larger path MTU; 0: not now. */
uint32_t un_tcp_path_probe(const struct un_tcp *tcp, const struct un_tcb *tcb);
void un_tcp_path_probe_sent(struct un_tcp *tcp, struct un_tcb *tcb); /* the last record is of one */
/* Full segments were lost again and again: perhaps they are too big (RFC 8899 section 4.3). */
void un_tcp_suspect_black_hole(struct un_tcp *tcp, struct un_tcb *tcb);

/* ---- state.c ---- */
/* The handshake is over. */
void un_tcp_establish(struct un_tcp *tcp, struct un_tcb *tcb);
void un_tcp_enter_time_wait(struct un_tcp *tcp, struct un_tcb *tcb);
void un_tcp_enter_fin_wait_2(struct un_tcp *tcp, struct un_tcb *tcb);

/* ---- timers.c ---- */
/* Nothing is in flight, and something waits: look again, at growing intervals. */
void un_tcp_arm_persist(struct un_tcp *tcp, struct un_tcb *tcb);
void un_tcp_leave_persist(struct un_tcb *tcb);

#endif
