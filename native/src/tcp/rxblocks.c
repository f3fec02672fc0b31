/* See rxblocks.h. */
#include "tcp/rxblocks.h"

#include <string.h>

static bool touch(const struct un_sack_block *left, const struct un_sack_block *right)
{
    return un_seq_le(left->start, right->end) && un_seq_le(right->start, left->end);
}

static bool contains(const struct un_sack_block *outer, const struct un_sack_block *inner)
{
    return un_seq_le(outer->start, inner->start) && un_seq_le(inner->end, outer->end);
}

/* The newest, in place of all that it touches. */
static void remember(struct un_tcb *tcb, struct un_sack_block block)
{
    struct un_sack_block older[UN_SACK_BLOCKS_MAX];
    uint32_t count = tcb->sack_count;
    memcpy(older, tcb->sack_recent, sizeof older);
    tcb->sack_recent[0] = block;
    tcb->sack_count = 1;
    for (uint32_t i = 0; i < count && tcb->sack_count < UN_SACK_BLOCKS_MAX; i++)
        if (!touch(&older[i], &block))
            tcb->sack_recent[tcb->sack_count++] = older[i];
}

/* The run that begins with this frame; *next: the frame behind it. */
static struct un_sack_block run_from(const struct un_tcp *tcp, uint32_t frame, uint32_t *next)
{
    const struct un_frame *frames = tcp->pool.frames;
    struct un_sack_block run = {frames[frame].seq, un_frame_end(&frames[frame])};
    for (*next = frames[frame].next; *next != UN_NONE && frames[*next].seq == run.end; *next = frames[*next].next)
        run.end = un_frame_end(&frames[*next]);
    return run;
}

static struct un_sack_block find_run(const struct un_tcp *tcp, const struct un_tcb *tcb,
                                     const struct un_sack_block *part)
{
    uint32_t frame = tcb->rcv_ooo.head;
    for (;;) {
        un_assert(frame != UN_NONE); /* it is in the queue */
        struct un_sack_block run = run_from(tcp, frame, &frame);
        if (contains(&run, part))
            return run;
    }
}

void un_rx_blocks_note(const struct un_tcp *tcp, struct un_tcb *tcb, uint32_t start, uint32_t end, bool joins_left,
                       bool joins_right)
{
    const struct un_sack_block part = {start, end};
    struct un_sack_block run = part;
    for (uint32_t i = 0; i < tcb->sack_count; i++) {
        const struct un_sack_block *block = &tcb->sack_recent[i];
        if (!touch(block, &part))
            continue;
        run.start = un_seq_min(run.start, block->start);
        run.end = un_seq_max(run.end, block->end);
        if (contains(block, &part))
            joins_left = joins_right = false; /* that is the run */
    }
    bool is_known = (!joins_left || run.start != start) && (!joins_right || run.end != end);
    remember(tcb, is_known ? run : find_run(tcp, tcb, &part));
}

void un_rx_blocks_prune(struct un_tcb *tcb, uint32_t start, uint32_t end)
{
    for (uint32_t i = 0; i < tcb->sack_count; i++) {
        struct un_sack_block *block = &tcb->sack_recent[i];
        if (block->end != end)
            continue;
        block->end = start;
        if (block->start == start)
            memmove(block, block + 1, (--tcb->sack_count - i) * sizeof *block);
        return;
    }
}

/* All remembered runs have been passed: the first ones of the queue take their place. */
static void refill(const struct un_tcp *tcp, struct un_tcb *tcb)
{
    for (uint32_t frame = tcb->rcv_ooo.head; frame != UN_NONE && tcb->sack_count < UN_SACK_BLOCKS_MAX;)
        tcb->sack_recent[tcb->sack_count++] = run_from(tcp, frame, &frame);
}

void un_rx_blocks_pass(const struct un_tcp *tcp, struct un_tcb *tcb)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < tcb->sack_count; i++)
        if (un_seq_lt(tcb->rcv_nxt, tcb->sack_recent[i].start))
            tcb->sack_recent[count++] = tcb->sack_recent[i];
    tcb->sack_count = (uint8_t)count;
    if (count == 0)
        refill(tcp, tcb);
}

void un_rx_blocks_duplicate(struct un_tcb *tcb, uint32_t start, uint32_t end)
{
    if (!(tcb->flags & UN_TCB_SACK))
        return;
    if (!tcb->has_dsack)
        tcb->dsack = (struct un_sack_block){start, end};
    else if (tcb->dsack.end == start)
        tcb->dsack.end = end; /* the next frame of the same segment */
    tcb->has_dsack = 1;
}

void un_rx_sack_blocks(const struct un_tcp *tcp, struct un_tcb *tcb, struct un_seg *seg, uint32_t most)
{
    (void)tcp;
    uint32_t count = 0;
    if (tcb->has_dsack && most > 0) {
        seg->sacks[count++] = tcb->dsack;
        tcb->has_dsack = 0;
    }
    for (uint32_t i = 0; i < tcb->sack_count && count < most && count < UN_SACK_BLOCKS_MAX; i++)
        seg->sacks[count++] = tcb->sack_recent[i];
    seg->sack_count = (uint8_t)count;
}
