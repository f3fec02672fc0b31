/* What an ACK says about payload that waits out of order (RFC 2018) and about payload that came twice (RFC 2883).
 *
 * A run is a maximal part of the out-of-order queue without a gap. sack_recent remembers the runs that changed last,
 * newest first. A new segment nearly always continues one of them, so neither its arrival nor the ACK that it causes
 * walks the queue; only a segment that joins a forgotten run does.
 *
 * Invariants: every remembered block is exactly a run; while the queue holds anything, at least one is remembered. */
#ifndef UN_RXBLOCKS_H
#define UN_RXBLOCKS_H

#include "tcp/tcp.h"

static inline uint32_t un_frame_end(const struct un_frame *frame)
{
    return frame->seq + frame->length;
}

/* Payload [start, end) stands in the queue; its run becomes the newest. joins_left, joins_right: the queue holds (or
 * may hold) the byte before, the byte behind. */
void un_rx_blocks_note(const struct un_tcp *tcp, struct un_tcb *tcb, uint32_t start, uint32_t end, bool joins_left,
                       bool joins_right);
/* Payload [start, end), the last of the queue, is no longer in it. */
void un_rx_blocks_prune(struct un_tcb *tcb, uint32_t start, uint32_t end);
/* rcv_nxt has moved, and the runs before it have left the queue. */
void un_rx_blocks_pass(const struct un_tcp *tcp, struct un_tcb *tcb);
/* Payload [start, end) came again. */
void un_rx_blocks_duplicate(struct un_tcb *tcb, uint32_t start, uint32_t end);

#endif
