/* Walks over everything that holds frames and records, marking what is found: the truth from which free lists are made
 * again, and against which they are checked. Walks are bounded by the marks: what is met twice is damage. */
#include "stack/scan.h"

void un_scan_begin(struct un_stack *stack)
{
    memset(stack->frame_scratch, 0, (stack->config->frames + stack->config->lent) * sizeof(bool));
    memset(stack->sent_scratch, 0, stack->config->sents * sizeof(bool));
}

static bool is_sound(const struct un_stack *stack, uint32_t at)
{
    const struct un_frame *frame = &stack->tcp.pool.frames[at];
    if (at >= stack->config->frames)
        return at < stack->config->frames + stack->config->lent;
    return (uint32_t)frame->offset + frame->length <= stack->config->frame_bytes;
}

bool un_scan_frames(struct un_stack *stack, uint32_t head, uint32_t *count, uint32_t *bytes, uint32_t *tail)
{
    const struct un_frame *frames = stack->tcp.pool.frames;
    *count = *bytes = 0;
    *tail = UN_NONE;
    for (uint32_t at = head; at != UN_NONE; at = frames[at].next) {
        if (!is_sound(stack, at) || stack->frame_scratch[at])
            return false;
        stack->frame_scratch[at] = true;
        *bytes += frames[at].length;
        *tail = at;
        ++*count;
    }
    return true;
}

static bool scan_sents(struct un_stack *stack, const struct un_tcb *tcb)
{
    uint32_t tail = UN_NONE;
    for (uint32_t at = tcb->sent_head; at != UN_NONE; at = stack->tcp.sents[at].next) {
        if (at >= stack->config->sents || stack->sent_scratch[at])
            return false;
        stack->sent_scratch[at] = true;
        tail = at;
    }
    return tail == UN_NONE || tail == tcb->sent_tail;
}

static bool scan_queue(struct un_stack *stack, const struct un_queue *queue, uint32_t *count, uint32_t *bytes)
{
    uint32_t tail;
    return un_scan_frames(stack, queue->head, count, bytes, &tail) && (tail == UN_NONE || tail == queue->tail);
}

bool un_scan_conn(struct un_stack *stack, const struct un_tcb *tcb)
{
    uint32_t count, bytes;
    if (!scan_queue(stack, &tcb->rcv, &count, &bytes) || count != tcb->rcv_frames || bytes != tcb->rcv_bytes)
        return false;
    if (!scan_queue(stack, &tcb->rcv_ooo, &count, &bytes) || count != tcb->rcv_ooo_frames ||
        bytes != tcb->rcv_ooo_bytes)
        return false;
    if (!scan_queue(stack, &tcb->snd, &count, &bytes) || bytes - tcb->snd_head_offset != tcb->snd_bytes)
        return false;
    return scan_sents(stack, tcb);
}
