/* The application's fast paths: all that can be read lies in one frame, and is taken as a whole; what is written finds
 * the queue empty, and fits into one frame. Must leave the connection as un_tcp_read, un_tcp_consume and un_tcp_write
 * do. Inline, so that the compiler makes one function of them and the stack's. */
#ifndef UN_APPLICATION_FAST_H
#define UN_APPLICATION_FAST_H

#include <string.h>

#include "base/attributes.h"
#include "tcp/internal.h"

/* So many bytes are all there is, and the window need not move when they are gone: most of it is left. */
UN_ALWAYS_INLINE bool un_tcp_consume_is_fast(const struct un_tcp *tcp, const struct un_tcb *tcb, uint32_t bytes)
{
    int32_t left = un_seq_diff(tcb->rcv_edge, tcb->rcv_nxt);
    return bytes > 0 && bytes == tcb->rcv_bytes && tcp->pool.frames[tcb->rcv.head].length == bytes &&
           left >= (int32_t)tcb->rcv_mss && (uint32_t)left > tcb->rcv_limit / 2 &&
           tcb->reason == UN_TCP_REASON_NONE && !tcp->is_slow;
}

UN_ALWAYS_INLINE void un_tcp_consume_fast(struct un_tcp *tcp, struct un_tcb *tcb)
{
    uint32_t frame = tcb->rcv.head;
    tcb->rcv.head = UN_NONE;
    tcb->rcv_frames = 0;
    tcb->rcv_bytes = 0;
    un_pool_drop_frame(&tcp->pool, frame);
}

/* The piece is copied. */
UN_ALWAYS_INLINE bool un_tcp_write_is_fast(const struct un_tcp *tcp, const struct un_tcb *tcb,
                                           const struct un_piece *piece)
{
    return (tcb->state & UN_TCP_CAN_SEND) && !(tcb->flags & UN_TCB_FIN_QUEUED) && tcb->snd.head == UN_NONE &&
           piece->frame == UN_NONE && piece->length > 0 && piece->length <= tcb->snd_limit &&
           piece->length <= tcp->pool.own->frame_bytes &&
           !un_pool_is_at_its_end(&tcp->pool) && tcp->pool.own->free_count > 0 && !tcp->is_slow;
}

/* The caller has it dispatched. */
UN_ALWAYS_INLINE void un_tcp_write_fast(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_piece *piece)
{
    uint32_t frame = un_pool_take(&tcp->pool);
    tcp->pool.frames[frame].seq = tcp->pool.own->frame_bytes;
    tcp->pool.frames[frame].length = (uint16_t)piece->length;
    memcpy(un_pool_bytes(&tcp->pool, frame), piece->bytes, piece->length);
    tcb->snd = (struct un_queue){frame, frame};
    tcb->unsent_frame = frame;
    tcb->unsent_offset = 0;
    tcb->snd_bytes = piece->length;
}

#endif
