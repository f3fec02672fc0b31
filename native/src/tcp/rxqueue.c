/* Payload that arrived, in the frames it arrived in.
 *
 * There are two queues of frames: rcv holds what is in order and waits for the application; rcv_ooo holds what waits
 * for a gap to be filled, by sequence number, without overlaps, all of it beyond rcv_nxt. Nothing is copied, with two
 * exceptions:
 *   - When frames are short, or this connection has very many, payload is copied into the free room of the frame before
 *     it, if it fits and nobody else refers to that frame. Bytes that the application was shown do not move.
 *   - A frame that covers others out of order takes their place, with their bytes. What came first wins: overlaps must
 *     not let a peer say one thing to us and another to a listener on the way (RFC 9293 leaves it open).
 *
 * Out of order, a connection holds at most ooo_frames_max frames and its share of the pool. Beyond that the highest
 * payload gives way, because the peer resends it last (RFC 2018 section 8 lets us forget what was SACKed). Payload in
 * order is refused only when the pool is nearly empty, or scarce and the connection holds several unread frames; the
 * peer sends it again.
 * A gap is always filled, if need be in the place of the highest payload behind it, because that sets the frames behind
 * it free.
 *
 * Work per frame: O(1) for payload in order and for payload behind all that waits; else a walk over rcv_ooo. */
#include "tcp/keep.h"
#include "tcp/receive_fast.h"
#include "tcp/rxblocks.h"

#include <string.h>

/* One call of un_rx_insert. */
struct arrival {
    struct un_tcp *tcp;
    struct un_tcb *tcb;
    struct un_frame *frames;
    enum un_drop drop;
    bool is_queued; /* some of it, out of order */
    bool is_refused; /* a frame of it was one too many: what is behind would be of no use before it comes again */
};

static void lost(struct arrival *arrival, uint32_t frame, enum un_drop reason)
{
    un_pool_drop(&arrival->tcp->pool, frame);
    arrival->drop = reason;
}

/* There is no room for the frame, nor, now that it has gone, for those behind it in its segment. */
static void refuse(struct arrival *arrival, uint32_t frame, enum un_drop reason)
{
    lost(arrival, frame, reason);
    arrival->is_refused = true;
}

static void duplicate(struct arrival *arrival, uint32_t start, uint32_t end)
{
    un_rx_blocks_duplicate(arrival->tcb, start, end);
    if (arrival->drop == UN_DROP_NONE)
        arrival->drop = UN_DROP_tcp_duplicate;
}

static void skip(struct un_frame *record, uint32_t bytes)
{
    record->seq += bytes;
    record->offset = (uint16_t)(record->offset + bytes);
    record->length = (uint16_t)(record->length - bytes);
}

/* Is there room for the payload of a frame behind that of another one? */
static bool fits(const struct un_tcp *tcp, uint32_t into, uint32_t frame)
{
    const struct un_frame *target = &tcp->pool.frames[into];
    uint32_t end = (uint32_t)target->offset + target->length;
    return target->references == 1 && tcp->pool.frames[frame].length <= tcp->pool.own->frame_bytes - end;
}

/* Copy it there, and let go of the frame. */
static bool compact(struct un_tcp *tcp, uint32_t into, uint32_t frame)
{
    struct un_frame *target = &tcp->pool.frames[into];
    const struct un_frame *source = &tcp->pool.frames[frame];
    uint32_t end = (uint32_t)target->offset + target->length;
    if (!fits(tcp, into, frame))
        return false;
    un_keep_frame(tcp, into);
    memcpy(un_pool_bytes(&tcp->pool, into) + end, un_pool_bytes(&tcp->pool, frame) + source->offset, source->length);
    target->length = (uint16_t)(target->length + source->length);
    un_pool_drop(&tcp->pool, frame);
    tcp->counters->compacted++;
    return true;
}

static bool may_copy(const struct un_tcp *tcp, const struct un_tcb *tcb)
{
    return tcb->rcv.head != UN_NONE && un_rx_is_crowded(tcp, tcb->rcv_frames, tcp->config->rcv_frames_max);
}

/* Payload that begins at rcv_nxt takes no frame of its own, where frames are short and the last one has room for it. */
static bool append_by_copy(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t frame)
{
    uint32_t length = tcp->pool.frames[frame].length;
    if (!may_copy(tcp, tcb) || !compact(tcp, tcb->rcv.tail, frame))
        return false;
    tcb->rcv_nxt += length;
    tcb->rcv_bytes += length;
    return true;
}

/* May this connection, which holds so many frames already, keep one more? */
static bool may_keep(const struct un_tcp *tcp, uint32_t frames)
{
    if (!un_pool_is_scarce(&tcp->pool))
        return true;
    return frames < UN_POOL_FEW && !un_pool_is_nearly_empty(&tcp->pool);
}

/* Take the frame behind `before` (UN_NONE: the first one) out of the out-of-order queue. */
static uint32_t unlink_behind(const struct arrival *arrival, uint32_t before)
{
    struct un_frame *frames = arrival->frames;
    struct un_tcb *tcb = arrival->tcb;
    if (before != UN_NONE)
        un_keep_frame(arrival->tcp, before);
    uint32_t *link = before == UN_NONE ? &tcb->rcv_ooo.head : &frames[before].next;
    uint32_t frame = *link;
    un_assert(frame != UN_NONE && tcb->rcv_ooo_frames > 0 && frames[frame].length <= tcb->rcv_ooo_bytes);
    *link = frames[frame].next;
    if (*link == UN_NONE)
        tcb->rcv_ooo.tail = before;
    tcb->rcv_ooo_frames--;
    tcb->rcv_ooo_bytes -= frames[frame].length;
    return frame;
}

static void append(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t frame)
{
    tcp->pool.frames[frame].next = UN_NONE;
    un_rx_append(tcp, tcb, frame, tcp->pool.frames[frame].length);
}

static void move_in_order(struct arrival *arrival)
{
    uint32_t frame = unlink_behind(arrival, UN_NONE);
    un_keep_frame(arrival->tcp, frame);
    if (!append_by_copy(arrival->tcp, arrival->tcb, frame))
        append(arrival->tcp, arrival->tcb, frame);
}

/* What waited for the gap that has been filled. */
static void drain(struct arrival *arrival)
{
    struct un_tcb *tcb = arrival->tcb;
    while (tcb->rcv_ooo.head != UN_NONE && arrival->frames[tcb->rcv_ooo.head].seq == tcb->rcv_nxt)
        move_in_order(arrival);
    un_rx_blocks_pass(arrival->tcp, tcb);
}

/* Cut off what lies before rcv_nxt and beyond rcv_edge; false: that is all of it. */
static bool trim_to_window(struct arrival *arrival, uint32_t frame)
{
    struct un_frame *record = &arrival->frames[frame];
    const struct un_tcb *tcb = arrival->tcb;
    uint32_t end = un_frame_end(record);
    if (un_seq_lt(record->seq, tcb->rcv_nxt)) {
        uint32_t new_from = un_seq_min(tcb->rcv_nxt, end);
        duplicate(arrival, record->seq, new_from);
        skip(record, new_from - record->seq);
    }
    if (record->length > 0 && un_seq_lt(tcb->rcv_edge, end)) {
        uint32_t edge = un_seq_max(tcb->rcv_edge, record->seq);
        record->length = (uint16_t)(edge - record->seq);
        arrival->drop = UN_DROP_tcp_window;
    }
    return record->length > 0;
}

/* The last frame of the out-of-order queue that begins at or before seq. */
static uint32_t find_before(const struct arrival *arrival, uint32_t seq)
{
    const struct un_frame *frames = arrival->frames;
    const struct un_queue *queue = &arrival->tcb->rcv_ooo;
    if (queue->head == UN_NONE || un_seq_lt(seq, frames[queue->head].seq))
        return UN_NONE;
    if (un_seq_le(frames[queue->tail].seq, seq))
        return queue->tail;
    uint32_t at = queue->head; /* the tail begins behind seq: the walk ends before it */
    while (un_seq_le(frames[frames[at].next].seq, seq))
        at = frames[at].next;
    return at;
}

/* Cut off what the frame before it holds, and those that follow that one without a gap (*before becomes the last of
 * them); false: that is all of it. */
static bool trim_left(struct arrival *arrival, uint32_t *before, uint32_t frame)
{
    const struct un_frame *frames = arrival->frames;
    struct un_frame *record = &arrival->frames[frame];
    while (*before != UN_NONE && un_seq_lt(record->seq, un_frame_end(&frames[*before]))) {
        uint32_t start = record->seq;
        uint32_t end = un_seq_min(un_frame_end(&frames[*before]), un_frame_end(record));
        duplicate(arrival, start, end);
        skip(record, end - start);
        if (record->length == 0) { /* RFC 2883: behind the D-SACK, the run that holds it */
            un_rx_blocks_note(arrival->tcp, arrival->tcb, start, end, true, true);
            return false;
        }
        uint32_t behind = frames[*before].next;
        if (behind != UN_NONE && frames[behind].seq == end)
            *before = behind;
    }
    return true;
}

/* Settle overlaps with the frames behind: the place of those it covers is taken, with their bytes, and it ends where
 * the first of the others begins. true: it took at least one place. */
static bool trim_right(struct arrival *arrival, uint32_t before, uint32_t frame)
{
    struct un_frame *record = &arrival->frames[frame];
    struct un_pool *pool = &arrival->tcp->pool;
    bool took_place = false;
    for (;;) {
        uint32_t behind = before == UN_NONE ? arrival->tcb->rcv_ooo.head : arrival->frames[before].next;
        uint32_t end = un_frame_end(record);
        if (behind == UN_NONE || un_seq_le(end, arrival->frames[behind].seq))
            return took_place;
        const struct un_frame *old = &arrival->frames[behind];
        uint32_t at = old->seq - record->seq;
        duplicate(arrival, old->seq, un_seq_min(end, un_frame_end(old)));
        if (un_seq_le(end, un_frame_end(old)) || record->references != 1) {
            if (un_seq_lt(un_frame_end(old), end))
                arrival->drop = UN_DROP_tcp_out_of_order; /* others read this frame: it cannot take in older bytes */
            record->length = (uint16_t)at;
            return took_place;
        }
        memcpy(un_pool_bytes(pool, frame) + record->offset + at, un_pool_bytes(pool, behind) + old->offset,
               old->length);
        un_keep_drop(arrival->tcp, unlink_behind(arrival, before));
        took_place = true;
    }
}

/* The highest payload gives way to what comes behind `before`; false: that would be the highest. */
static bool prune(struct arrival *arrival, uint32_t before)
{
    struct un_tcb *tcb = arrival->tcb;
    const struct un_frame *frames = arrival->frames;
    uint32_t tail = tcb->rcv_ooo.tail;
    if (tcb->rcv_ooo.head == UN_NONE || before == tail)
        return false;
    uint32_t behind = before == UN_NONE ? tcb->rcv_ooo.head : frames[before].next;
    for (; behind != tail; behind = frames[behind].next)
        before = behind;
    un_rx_blocks_prune(tcb, frames[tail].seq, un_frame_end(&frames[tail]));
    lost(arrival, unlink_behind(arrival, before), UN_DROP_tcp_out_of_order);
    return true;
}

static bool may_queue(struct arrival *arrival, uint32_t before)
{
    const struct un_tcb *tcb = arrival->tcb;
    if (!may_keep(arrival->tcp, (uint32_t)tcb->rcv_frames + tcb->rcv_ooo_frames))
        return false;
    uint32_t share = un_pool_share(&arrival->tcp->pool), most = arrival->tcp->config->ooo_frames_max;
    return tcb->rcv_ooo_frames < (share < most ? share : most) || prune(arrival, before);
}

/* Put a frame, trimmed, behind `before` into the out-of-order queue. */
static void queue(struct arrival *arrival, uint32_t before, uint32_t frame, bool took_place)
{
    struct un_tcp *tcp = arrival->tcp;
    struct un_tcb *tcb = arrival->tcb;
    struct un_frame *frames = arrival->frames;
    uint32_t start = frames[frame].seq, end = un_frame_end(&frames[frame]);
    bool joins_left = before != UN_NONE && un_frame_end(&frames[before]) == start;
    bool may_compact = joins_left && un_rx_is_crowded(tcp, tcb->rcv_ooo_frames, tcp->config->ooo_frames_max);
    if (!may_compact || !compact(tcp, before, frame)) {
        if (!took_place && !may_queue(arrival, before)) {
            refuse(arrival, frame, UN_DROP_tcp_out_of_order);
            return;
        }
        if (before != UN_NONE)
            un_keep_frame(tcp, before);
        uint32_t *link = before == UN_NONE ? &tcb->rcv_ooo.head : &frames[before].next;
        frames[frame].next = *link;
        *link = frame;
        if (frames[frame].next == UN_NONE)
            tcb->rcv_ooo.tail = frame;
        tcb->rcv_ooo_frames++;
        before = frame;
    }
    tcb->rcv_ooo_bytes += end - start;
    arrival->is_queued = true;
    uint32_t behind = frames[before].next;
    un_rx_blocks_note(tcp, tcb, start, end, joins_left, behind != UN_NONE && frames[behind].seq == end);
}

/* Payload that begins at rcv_nxt needs no frame of its own, may keep it, or has that of the highest payload. This is
 * asked before overlaps are settled: what has given way is none any more. */
static bool has_room_in_order(struct arrival *arrival, uint32_t frame)
{
    const struct un_tcp *tcp = arrival->tcp;
    const struct un_tcb *tcb = arrival->tcb;
    return may_keep(tcp, tcb->rcv_frames) || (may_copy(tcp, tcb) && fits(tcp, tcb->rcv.tail, frame)) ||
           prune(arrival, UN_NONE);
}

static void take_in_order(struct arrival *arrival, uint32_t frame)
{
    if (!append_by_copy(arrival->tcp, arrival->tcb, frame))
        append(arrival->tcp, arrival->tcb, frame);
    drain(arrival);
}

/* A frame of which only its sequence number is known. */
static void place(struct arrival *arrival, uint32_t frame)
{
    uint32_t before = UN_NONE;
    bool is_new = trim_to_window(arrival, frame);
    if (is_new) {
        before = find_before(arrival, arrival->frames[frame].seq);
        is_new = trim_left(arrival, &before, frame);
    }
    if (!is_new) {
        un_pool_drop(&arrival->tcp->pool, frame);
        return;
    }
    bool is_in_order = arrival->frames[frame].seq == arrival->tcb->rcv_nxt;
    if (is_in_order && !has_room_in_order(arrival, frame)) {
        refuse(arrival, frame, UN_DROP_no_frame);
        return;
    }
    bool took_place = trim_right(arrival, before, frame);
    if (is_in_order)
        take_in_order(arrival, frame);
    else
        queue(arrival, before, frame, took_place);
}

/* The next payload, within the window, and nothing waits behind it. */
static inline bool is_next(const struct un_tcb *tcb, uint32_t seq, uint32_t length)
{
    return seq == tcb->rcv_nxt && tcb->rcv_ooo.head == UN_NONE && (int32_t)length <= un_seq_diff(tcb->rcv_edge, seq);
}

uint32_t un_rx_insert(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t seq, uint32_t frame, enum un_drop *drop)
{
    struct arrival arrival = {tcp, tcb, tcp->pool.frames, UN_DROP_NONE, false, false};
    uint32_t rcv_nxt = tcb->rcv_nxt;
    while (frame != UN_NONE) {
        struct un_frame *record = &arrival.frames[frame];
        uint32_t next = record->next, length = record->length;
        record->seq = seq;
        if (length == 0 || arrival.is_refused)
            un_pool_drop(&tcp->pool, frame);
        else if (is_next(tcb, seq, length) && has_room_in_order(&arrival, frame))
            take_in_order(&arrival, frame);
        else
            place(&arrival, frame);
        seq += length;
        frame = next;
    }
    tcp->counters->out_of_order += arrival.is_queued;
    *drop = arrival.drop;
    return tcb->rcv_nxt - rcv_nxt;
}

int un_rx_peek(const struct un_tcp *tcp, const struct un_tcb *tcb, struct un_piece *pieces, int most)
{
    int count = 0;
    for (uint32_t frame = tcb->rcv.head; frame != UN_NONE && count < most; frame = tcp->pool.frames[frame].next) {
        const struct un_frame *record = &tcp->pool.frames[frame];
        pieces[count++] = (struct un_piece){un_pool_bytes(&tcp->pool, frame) + record->offset, record->length, frame};
    }
    return count;
}

void un_rx_consume(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t bytes)
{
    un_assert(bytes <= tcb->rcv_bytes);
    tcb->rcv_bytes -= bytes;
    while (bytes > 0) {
        uint32_t frame = tcb->rcv.head;
        struct un_frame *record = &tcp->pool.frames[frame];
        if (bytes < record->length) {
            un_keep_frame(tcp, frame);
            skip(record, bytes);
            return;
        }
        bytes -= record->length;
        tcb->rcv.head = record->next;
        tcb->rcv_frames--;
        un_keep_drop(tcp, frame);
    }
}

uint32_t un_rx_read(struct un_tcp *tcp, struct un_tcb *tcb, void *bytes, uint32_t most)
{
    uint8_t *to = bytes;
    uint32_t left = most < tcb->rcv_bytes ? most : tcb->rcv_bytes, done = left;
    tcb->rcv_bytes -= left;
    while (left > 0) {
        uint32_t frame = tcb->rcv.head;
        struct un_frame *record = &tcp->pool.frames[frame];
        uint32_t part = left < record->length ? left : record->length;
        memcpy(to, un_pool_bytes(&tcp->pool, frame) + record->offset, part);
        if (part < record->length) {
            un_keep_frame(tcp, frame);
            skip(record, part);
            break;
        }
        to += part;
        left -= part;
        tcb->rcv.head = record->next;
        tcb->rcv_frames--;
        un_keep_drop(tcp, frame);
    }
    return done;
}

void un_rx_drop_out_of_order(struct un_tcp *tcp, struct un_tcb *tcb)
{
    un_keep_drop_chain(tcp, tcb->rcv_ooo.head);
    tcb->rcv_ooo.head = UN_NONE;
    tcb->rcv_ooo_frames = 0;
    tcb->rcv_ooo_bytes = 0;
    tcb->sack_count = 0;
}

void un_rx_drop_all(struct un_tcp *tcp, struct un_tcb *tcb)
{
    un_rx_drop_out_of_order(tcp, tcb);
    un_keep_drop_chain(tcp, tcb->rcv.head);
    tcb->rcv.head = UN_NONE;
    tcb->rcv_frames = 0;
    tcb->rcv_bytes = 0;
}
