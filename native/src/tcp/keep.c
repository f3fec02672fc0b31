/* See keep.h. */
#include "tcp/keep.h"

void un_keep_all(struct un_tcp *tcp, const struct un_tcb *tcb)
{
    struct un_keep_memory *own = tcp->change.own;
    if (!own || own->to - own->from == sizeof *tcb)
        return;
    uint8_t *kept = (uint8_t *)&own->tcb;
    memcpy(kept, tcb, own->from);
    memcpy(kept + own->to, (const uint8_t *)tcb + own->to, sizeof *tcb - own->to);
    un_compiler_fence();
    own->from = 0;
    own->to = sizeof *tcb; /* in between, the part from the beginning on is good as well */
    un_compiler_fence();
}

void un_keep_frame(struct un_tcp *tcp, uint32_t frame)
{
    struct un_keep *change = &tcp->change;
    if (!change->own)
        return;
    uint32_t at = change->frame_at[frame], end = change->own->frames;
    if (at < end && change->frames[at].index == frame)
        return;
    change->frames[end] = (struct un_kept_frame){frame, tcp->pool.frames[frame]};
    change->frame_at[frame] = end;
    un_compiler_fence();
    change->own->frames = end + 1;
    un_compiler_fence();
}

void un_keep_sent(struct un_tcp *tcp, uint32_t index)
{
    struct un_keep *change = &tcp->change;
    if (!change->own)
        return;
    uint32_t at = change->sent_at[index], end = change->own->sents;
    if (at < end && change->sents[at].index == index)
        return;
    change->sents[end] = (struct un_kept_sent){index, tcp->sents[index]};
    change->sent_at[index] = end;
    un_compiler_fence();
    change->own->sents = end + 1;
    un_compiler_fence();
}

static void cut_queue(const struct un_tcp *tcp, const struct un_queue *queue)
{
    if (queue->head != UN_NONE)
        tcp->pool.frames[queue->tail].next = UN_NONE;
}

void un_keep_undo(struct un_tcp *tcp, struct un_tcb *tcb)
{
    const struct un_keep *change = &tcp->change;
    const struct un_keep_memory *own = change->own;
    for (uint32_t i = 0; i < own->frames; i++)
        tcp->pool.frames[change->frames[i].index] = change->frames[i].record;
    for (uint32_t i = 0; i < own->sents; i++)
        tcp->sents[change->sents[i].index] = change->sents[i].record;
    memcpy((uint8_t *)tcb + own->from, (const uint8_t *)&own->tcb + own->from, own->to - own->from);
    if (tcb->state == 0 || tcb->state == UN_TCP_CLOSED)
        return;
    cut_queue(tcp, &tcb->rcv);
    cut_queue(tcp, &tcb->rcv_ooo);
    cut_queue(tcp, &tcb->snd);
    if (tcb->sent_head != UN_NONE)
        tcp->sents[tcb->sent_tail].next = UN_NONE;
}
