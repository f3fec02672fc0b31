/* Payload that is next in order: how it is queued, and when it is acknowledged.
 *
 * The fast path, un_tcp_receive_next, takes a single frame that lies within the window while nothing waits out of order
 * and frames are not short. Its result must be that of receive.c and rxqueue.c, which take all other payload and share
 * these parts. */
#ifndef UN_TCP_RECEIVE_FAST_H
#define UN_TCP_RECEIVE_FAST_H

#include "base/attributes.h"
#include "tcp/keep.h"
#include "tcp/internal.h"

/* ---- the queue ---- */

/* Is it better to copy the payload than to hold one more frame? */
static inline bool un_rx_is_crowded(const struct un_tcp *tcp, uint32_t frames, uint32_t most)
{
    return frames >= most || un_pool_is_short(&tcp->pool);
}

/* Append a frame whose payload begins at rcv_nxt, and whose `next` is UN_NONE. */
static inline void un_rx_append(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t frame, uint32_t length)
{
    if (tcb->rcv.head == UN_NONE)
        tcb->rcv.head = frame;
    else
        tcp->pool.frames[tcb->rcv.tail].next = frame;
    tcb->rcv.tail = frame;
    tcb->rcv_frames++;
    tcb->rcv_nxt += length;
    tcb->rcv_bytes += length;
}

/* ---- acknowledging ---- */

/* The peer's full segment is the largest that was seen; coalesced ones do not count. */
static inline void un_rx_measure_segment(struct un_tcb *tcb, uint32_t length)
{
    if (length > tcb->rcv_mss && length <= tcb->path_mtu - UN_TCP_IPV4_HEADERS)
        tcb->rcv_mss = (uint16_t)length;
}

static inline bool un_tcp_is_ack_due(struct un_tcb *tcb, uint32_t length)
{
    if (tcb->rcv_nxt - tcb->rcv_acked >= 2u * tcb->rcv_mss || (tcb->flags & UN_TCB_QUICKACK))
        return true;
    if (length < tcb->rcv_mss || tcb->quickacks == 0)
        return false;
    tcb->quickacks--;
    return true;
}

static inline void un_tcp_acknowledge_in_order(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t length)
{
    if (tcb->flags & UN_TCB_ACK_NOW)
        return;
    if (un_tcp_is_ack_due(tcb, length)) {
        un_tcp_ack_now(tcp, tcb);
    } else if (!(tcb->flags & UN_TCB_ACK_LATER)) {
        tcb->flags |= UN_TCB_ACK_LATER;
        un_tcp_arm(tcp, tcb, UN_TIMER_ACK, tcp->now_ns + tcp->config->delayed_ack_us * UN_US_NS);
    }
}

static inline void un_tcp_count_received(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t bytes)
{
    tcb->bytes_in += bytes;
    tcp->counters->bytes_in += bytes;
}

/* `bytes` more can be read. */
static inline void un_tcp_received(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t bytes)
{
    un_tcp_count_received(tcp, tcb, bytes);
    un_tcp_raise(tcp, tcb, UN_TCP_EVENT_READABLE);
}

/* ---- the fast path ---- */

/* Takes payload from rcv_nxt on that does not go beyond rcv_edge. is_chain: it may be in several frames, and the
 * application is told here that it can be read; otherwise the caller tells, when the result is UN_DROP_NONE. */
UN_ALWAYS_INLINE enum un_drop un_tcp_receive_next(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t length,
                                                  uint32_t frame, bool is_chain)
{
    bool is_plain = (!is_chain || tcp->pool.frames[frame].next == UN_NONE) && tcb->rcv_ooo.head == UN_NONE &&
                    !un_rx_is_crowded(tcp, tcb->rcv_frames, tcp->config->rcv_frames_max);
    if (__builtin_expect(!is_plain, 0)) {
        un_keep_all(tcp, tcb);
        return un_tcp_receive(tcp, tcb, tcb->rcv_nxt, length, frame);
    }
    un_rx_append(tcp, tcb, frame, length);
    un_rx_measure_segment(tcb, length);
    un_tcp_count_received(tcp, tcb, length);
    if (is_chain)
        un_tcp_raise(tcp, tcb, UN_TCP_EVENT_READABLE);
    un_tcp_acknowledge_in_order(tcp, tcb, length);
    return UN_DROP_NONE;
}

#endif
