/* Changes of a connection that can be undone (P10): whoever adopts an arena whose process died within one puts
 * everything back as it was before, and the connection goes on.
 *
 * Kept, in the arena, before it is overwritten:
 *   - the block: the parts that the fast path changes; all others before a slow path changes anything (un_keep_all)
 *   - the records of frames and of packets in flight that are changed while a queue of the block holds them, each when
 *     it is changed first. To drop one changes its link
 * The links of the last ones of queues need no copy: they end the queue, whatever was appended. The bytes of a frame
 * that is dropped stay as they are, as no change takes a frame after it has dropped one (nor does a device, which gets
 * nothing to send before the change is over). All that adoption makes anew
 * (references, free lists, links of blocks) is left to it.
 *
 * Stores go in the order of the program, and the name of the connection (`busy` of stack/) comes after the copies. A
 * change that is undone in part can be undone again. */
#ifndef UN_KEEP_H
#define UN_KEEP_H

#include <stddef.h>
#include <string.h>

#include "base/attributes.h"
#include "base/barrier.h"
#include "tcp/tcp.h"

/* Parts of the block, in pieces of 16 bytes. */
enum un_keep_part {
    UN_KEEP_RECEIVE, /* what reading changes */
    UN_KEEP_SEND,    /* what writing changes */
    UN_KEEP_HOT,     /* what a segment in order changes, and one that is sent for the first time */
    UN_KEEP_ALL,
};

static inline uint32_t un_keep_from(enum un_keep_part part)
{
    const uint32_t from[] = {offsetof(struct un_tcb, rcv_nxt), offsetof(struct un_tcb, rcv_mss),
                             offsetof(struct un_tcb, rcv_nxt), 0};
    return from[part];
}

static inline uint32_t un_keep_to(enum un_keep_part part)
{
    const uint32_t to[] = {offsetof(struct un_tcb, user), offsetof(struct un_tcb, timers),
                           offsetof(struct un_tcb, event_next), sizeof(struct un_tcb)};
    return to[part];
}
UN_STATIC_ASSERT(offsetof(struct un_tcb, rcv_nxt) % 16 == 0 && offsetof(struct un_tcb, rcv_mss) % 16 == 0 &&
                     offsetof(struct un_tcb, user) % 16 == 0 && offsetof(struct un_tcb, timers) % 16 == 0 &&
                     offsetof(struct un_tcb, event_next) % 16 == 0 && sizeof(struct un_tcb) % 16 == 0,
                 "parts consist of pieces of 16 bytes");

/* A change of these parts begins. Without one, as on a bench of tcp/ alone, the other verbs keep nothing. */
UN_ALWAYS_INLINE void un_keep_begin(struct un_tcp *tcp, const struct un_tcb *tcb, enum un_keep_part part)
{
    struct un_keep_memory *own = tcp->change.own;
    const uint32_t from = un_keep_from(part), to = un_keep_to(part);
    own->from = from;
    own->to = to;
    own->frames = own->sents = 0;
    if (part == UN_KEEP_ALL) {
        own->tcb = *tcb;
    } else {
#pragma GCC unroll 32
        for (uint32_t at = from; at < to; at += 16) /* each piece is one load and one store */
            memcpy((uint8_t *)&own->tcb + at, (const uint8_t *)tcb + at, 16);
    }
}

/* Before anything of the block is changed that the fast paths leave alone. */
void un_keep_all(struct un_tcp *tcp, const struct un_tcb *tcb);
/* Before a frame or a record is changed that the block's queues held when the change began. */
void un_keep_frame(struct un_tcp *tcp, uint32_t frame);
void un_keep_sent(struct un_tcp *tcp, uint32_t index);

/* Drop a frame, or frames, that stood in a queue of the block. */
static inline void un_keep_drop(struct un_tcp *tcp, uint32_t frame)
{
    if (tcp->pool.frames[frame].next != UN_NONE)
        un_keep_frame(tcp, frame);
    un_pool_drop(&tcp->pool, frame);
}

static inline void un_keep_drop_chain(struct un_tcp *tcp, uint32_t frame)
{
    while (frame != UN_NONE) {
        uint32_t next = tcp->pool.frames[frame].next;
        un_keep_drop(tcp, frame);
        frame = next;
    }
}

/* Put everything back. The block is live, or a free one that had been taken. */
void un_keep_undo(struct un_tcp *tcp, struct un_tcb *tcb);

#endif
