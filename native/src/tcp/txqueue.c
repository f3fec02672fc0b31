/* Payload that waits to be sent, or to be acknowledged.
 *
 * One queue of frames, from the byte snd_una on. Bytes are copied into the tail frame while it has room, so that
 * several small writes share a frame; otherwise into frames from the pool. Bytes that lie in a frame already are queued
 * as they are. What has been queued never moves and is never rewritten, since a device may read it after submit has
 * returned. So acknowledged bytes stay in their frame until it holds nothing else (snd_head_offset says how many), and
 * cursors stay valid.
 *
 * `seq` of a frame here is its capacity. Frames that were queued as they are have no more than `length`: the rest of
 * the frame is not ours. Of lent pieces `seq` says where their bytes are (base/pool.h); nothing is added to them. */
#include "tcp/keep.h"

#include <string.h>

/* The frame becomes the tail. */
static void push(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t frame)
{
    tcp->pool.frames[frame].next = UN_NONE;
    if (tcb->snd.head == UN_NONE)
        tcb->snd.head = frame;
    else
        tcp->pool.frames[tcb->snd.tail].next = frame;
    tcb->snd.tail = frame;
}

/* The tail, with room in it: as it is, or a new one; NULL: no frame may be taken. */
static struct un_frame *tail_with_room(struct un_tcp *tcp, struct un_tcb *tcb)
{
    if (tcb->snd.head != UN_NONE) {
        struct un_frame *tail = &tcp->pool.frames[tcb->snd.tail];
        if (!un_pool_is_lent(&tcp->pool, tcb->snd.tail) && tail->length < tail->seq) {
            un_keep_frame(tcp, tcb->snd.tail);
            return tail;
        }
    }
    if (un_pool_is_at_its_end(&tcp->pool) ||
        (un_pool_is_scarce(&tcp->pool) && tcb->snd_bytes >= UN_POOL_FEW * tcp->pool.own->frame_bytes))
        return NULL;
    uint32_t frame = un_pool_take(&tcp->pool);
    if (frame == UN_NONE)
        return NULL;
    tcp->pool.frames[frame].seq = tcp->pool.own->frame_bytes;
    push(tcp, tcb, frame);
    return &tcp->pool.frames[frame];
}

/* What begins at (tail, offset) is new. */
static void queued(struct un_tcb *tcb, uint32_t offset, uint32_t length)
{
    if (tcb->unsent_frame == UN_NONE) {
        tcb->unsent_frame = tcb->snd.tail;
        tcb->unsent_offset = offset;
    }
    tcb->snd_bytes += length;
}

uint32_t un_tx_append(struct un_tcp *tcp, struct un_tcb *tcb, const void *bytes, uint32_t length)
{
    const uint8_t *from = bytes;
    uint32_t limit = un_tcp_send_limit(tcp, tcb);
    uint32_t room = limit > tcb->snd_bytes ? limit - tcb->snd_bytes : 0;
    uint32_t left = length < room ? length : room;
    uint32_t taken = left;
    while (left > 0) {
        struct un_frame *tail = tail_with_room(tcp, tcb);
        if (!tail)
            break;
        uint32_t part = tail->seq - tail->length;
        part = left < part ? left : part;
        memcpy(un_pool_bytes(&tcp->pool, tcb->snd.tail) + tail->offset + tail->length, from, part);
        queued(tcb, tail->length, part);
        tail->length = (uint16_t)(tail->length + part);
        from += part;
        left -= part;
    }
    return taken - left;
}

void un_tx_append_frame(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t frame, uint32_t offset, uint32_t length)
{
    un_assert(length > 0 && offset + length <= tcp->pool.own->frame_bytes);
    struct un_frame *record = &tcp->pool.frames[frame];
    record->seq = length;
    record->offset = (uint16_t)offset;
    record->length = (uint16_t)length;
    push(tcp, tcb, frame);
    queued(tcb, 0, length);
}

uint32_t un_tx_append_lent(struct un_tcp *tcp, struct un_tcb *tcb, uint16_t lender, struct un_piece *piece)
{
    uint64_t offset = (uint64_t)(piece->bytes - tcp->pool.lenders[lender]);
    bool fits = piece->length >= UN_LEND_LEAST && piece->length <= UINT16_MAX && offset <= UINT32_MAX;
    piece->frame = UN_NONE;
    if (fits && tcb->snd_bytes < un_tcp_send_limit(tcp, tcb))
        piece->frame = un_pool_lend(&tcp->pool, lender, (uint32_t)offset, (uint16_t)piece->length);
    if (piece->frame == UN_NONE)
        return un_tx_append(tcp, tcb, piece->bytes, piece->length);
    push(tcp, tcb, piece->frame);
    queued(tcb, 0, piece->length);
    tcp->counters->lent++;
    return piece->length;
}

int un_tx_pieces(const struct un_tcp *tcp, uint32_t frame, uint32_t offset, uint32_t length, struct un_piece *pieces,
                 int most, uint32_t *got)
{
    int count = 0;
    uint32_t left = length;
    for (; frame != UN_NONE && left > 0 && count < most; frame = tcp->pool.frames[frame].next) {
        const struct un_frame *record = &tcp->pool.frames[frame];
        uint32_t part = record->length - offset;
        part = left < part ? left : part;
        pieces[count++] = (struct un_piece){un_pool_content(&tcp->pool, frame) + offset, part, frame};
        left -= part;
        offset = 0;
    }
    *got = length - left;
    return count;
}

void un_tx_advance(const struct un_tcp *tcp, uint32_t *frame, uint32_t *offset, uint32_t length)
{
    uint32_t at = *offset + length;
    while (*frame != UN_NONE && at >= tcp->pool.frames[*frame].length) {
        at -= tcp->pool.frames[*frame].length;
        *frame = tcp->pool.frames[*frame].next;
    }
    un_assert(*frame != UN_NONE || at == 0);
    *offset = at;
}

uint32_t un_tx_unsent(const struct un_tcb *tcb)
{
    if (tcb->unsent_frame == UN_NONE)
        return 0; /* whatever is between snd_una and snd_nxt: a FIN may be */
    if (tcb->state & (UN_TCP_SYN_SENT | UN_TCP_SYN_RECEIVED))
        return tcb->snd_bytes; /* no payload travels with a SYN */
    return tcb->snd_bytes - (tcb->snd_nxt - tcb->snd_una);
}

void un_tx_acked(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t bytes)
{
    un_assert(bytes <= tcb->snd_bytes);
    tcb->snd_bytes -= bytes;
    bytes += tcb->snd_head_offset;
    while (tcb->snd.head != UN_NONE && bytes >= tcp->pool.frames[tcb->snd.head].length) {
        uint32_t frame = tcb->snd.head;
        bytes -= tcp->pool.frames[frame].length;
        tcb->snd.head = tcp->pool.frames[frame].next;
        un_assert(frame != tcb->unsent_frame); /* acknowledged, and never sent? */
        un_keep_drop(tcp, frame);
    }
    un_assert(tcb->snd.head != UN_NONE || bytes == 0);
    tcb->snd_head_offset = bytes;
}

void un_tx_drop_all(struct un_tcp *tcp, struct un_tcb *tcb)
{
    uint32_t unsent = un_tx_unsent(tcb);
    un_keep_drop_chain(tcp, tcb->snd.head);
    tcb->snd.head = UN_NONE;
    if (tcb->unsent_frame != UN_NONE)
        tcb->unsent_offset = unsent;
    tcb->unsent_frame = UN_NONE;
    tcb->snd_head_offset = 0;
    tcb->snd_bytes = 0;
}
