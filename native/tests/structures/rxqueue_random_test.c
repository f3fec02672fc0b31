/* Reassembly against an array of bytes: random segments of random frames, contradicting each other, with gaps,
 * overlaps, limits, short pools, frames that others hold, and an application that reads now and then.
 *
 * The array knows of each position whether it was kept and which byte came first. Where the queue may refuse or give up
 * payload, what it holds afterwards is read from it, held against the rules, and taken over. */
#include "fixture.h"

#include <stdbool.h>

#define STREAM 6000u
#define HELD 8u

static struct fixture fixture;
static struct un_tcp *const tcp = &fixture.tcp;
static struct un_tcb *const tcb = &fixture.tcb;

static struct {
    uint64_t random;
    uint32_t base;         /* sequence number of position 0 */
    uint32_t consumed;     /* positions */
    bool is_kept[STREAM];
    uint8_t bytes[STREAM]; /* as kept */
    bool was_kept[STREAM]; /* before the segment */
    uint8_t sent[STREAM];  /* the segment */
    uint32_t segment_max;
    bool is_limited;       /* the queue may refuse payload */
    bool may_forget;       /* it gave some up, perhaps before the segment brought it again */
} model;

/* A frame that somebody else refers to, too, and the bytes it had when they began to. */
static struct {
    uint32_t frame; /* UN_NONE: none */
    uint32_t offset;
    uint32_t length;
    uint8_t bytes[2048];
} held[HELD];

static uint32_t below(uint32_t bound)
{
    return random_below(&model.random, bound);
}

static uint32_t position(uint32_t seq)
{
    return seq - model.base;
}

static void start(uint64_t seed)
{
    static const uint32_t frame_bytes[] = {64, 128, 512, 2048};
    memset(&model, 0, sizeof model);
    model.random = seed;
    uint32_t bytes = frame_bytes[below(4)];
    fixture_start(&fixture, 64 + below(400), bytes);
    model.is_limited = below(2);
    if (model.is_limited) {
        fixture.config.ooo_frames_max = (uint16_t)below(20);
        fixture.config.rcv_frames_max = (uint16_t)below(20);
    }
    model.base = (uint32_t)-below(2 * STREAM);
    model.segment_max = 1 + (below(2) ? below(10) : below(3 * bytes));
    tcb->rcv_nxt = tcb->rcv_edge = model.base;
    for (uint32_t i = 0; i < HELD; i++)
        held[i].frame = UN_NONE;
}

static void let_go(uint32_t i)
{
    if (held[i].frame == UN_NONE)
        return;
    CHECK(memcmp(un_pool_bytes(&tcp->pool, held[i].frame) + held[i].offset, held[i].bytes, held[i].length) == 0);
    un_pool_drop(&tcp->pool, held[i].frame);
    held[i].frame = UN_NONE;
}

static void hold(uint32_t frame)
{
    uint32_t i = below(HELD);
    let_go(i);
    held[i].frame = frame;
    held[i].offset = fixture.frames[frame].offset;
    held[i].length = fixture.frames[frame].length;
    memcpy(held[i].bytes, un_pool_bytes(&tcp->pool, frame) + held[i].offset, held[i].length);
    un_pool_keep(&tcp->pool, frame);
}

/* Positions [start, start + length) as a chain; UN_NONE: the pool does not suffice. *is_shared: others hold a frame. */
static uint32_t make_chain(uint32_t start, uint32_t length, bool *is_shared)
{
    uint32_t head = UN_NONE, *link = &head, frame_bytes = fixture.memory.frame_bytes;
    while (length > 0 || below(20) == 0) {
        uint32_t frame = un_pool_take(&tcp->pool);
        if (frame == UN_NONE) {
            un_pool_drop_chain(&tcp->pool, head);
            return UN_NONE;
        }
        struct un_frame *record = &fixture.frames[frame];
        record->offset = (uint16_t)below(frame_bytes / 2);
        uint32_t most = below(4) ? frame_bytes - record->offset : below(frame_bytes - record->offset);
        record->length = (uint16_t)(length < most ? length : most);
        memset(un_pool_bytes(&tcp->pool, frame), 0xee, frame_bytes);
        memcpy(un_pool_bytes(&tcp->pool, frame) + record->offset, model.sent + start, record->length);
        if (below(12) == 0) {
            hold(frame);
            *is_shared = true;
        }
        start += record->length;
        length -= record->length;
        *link = frame;
        link = &record->next;
    }
    return head;
}

/* The payload of a frame against the array; marks the positions as kept. */
static void compare(const struct un_frame *record, uint32_t frame, uint32_t start)
{
    const uint8_t *bytes = un_pool_bytes(&tcp->pool, frame) + record->offset;
    CHECK(record->length > 0 && record->offset + record->length <= fixture.memory.frame_bytes);
    for (uint32_t i = 0; i < record->length; i++) {
        bool is_first = bytes[i] == (model.was_kept[start + i] ? model.bytes[start + i] : model.sent[start + i]);
        CHECK(is_first || (model.may_forget && bytes[i] == model.sent[start + i]));
        model.bytes[start + i] = bytes[i];
        model.is_kept[start + i] = true;
    }
}

/* Read both queues into the array, checking their invariants. */
static void take_over(void)
{
    uint32_t at = model.consumed, frames = 0, bytes = 0;
    memset(model.is_kept + model.consumed, 0, STREAM - model.consumed);
    for (uint32_t frame = tcb->rcv.head; frame != UN_NONE; frame = fixture.frames[frame].next) {
        compare(&fixture.frames[frame], frame, at);
        at += fixture.frames[frame].length;
        frames++;
        CHECK(fixture.frames[frame].next != UN_NONE || tcb->rcv.tail == frame);
    }
    CHECK_EQ(at, position(tcb->rcv_nxt));
    CHECK_EQ(at - model.consumed, tcb->rcv_bytes);
    CHECK_EQ(frames, tcb->rcv_frames);
    frames = 0;
    for (uint32_t frame = tcb->rcv_ooo.head; frame != UN_NONE; frame = fixture.frames[frame].next) {
        const struct un_frame *record = &fixture.frames[frame];
        CHECK(frames > 0 ? position(record->seq) >= at : position(record->seq) > at);
        compare(record, frame, position(record->seq));
        at = position(record->seq) + record->length;
        bytes += record->length;
        frames++;
        CHECK(record->next != UN_NONE || tcb->rcv_ooo.tail == frame);
    }
    CHECK(at <= position(tcb->rcv_edge));
    CHECK_EQ(bytes, tcb->rcv_ooo_bytes);
    CHECK_EQ(frames, tcb->rcv_ooo_frames);
    CHECK(frames <= fixture.config.ooo_frames_max);
}

/* Every block is a run: kept, as large as it can be, beyond rcv_nxt, and said once; there is one if anything waits. */
static void check_blocks(const struct un_sack_block *blocks, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t start = position(blocks[i].start), end = position(blocks[i].end);
        CHECK(start > position(tcb->rcv_nxt) && start < end && end <= position(tcb->rcv_edge));
        CHECK(!model.is_kept[start - 1] && (end == STREAM || !model.is_kept[end]));
        for (uint32_t at = start; at < end; at++)
            CHECK(model.is_kept[at]);
        for (uint32_t j = 0; j < i; j++)
            CHECK(blocks[j].start != blocks[i].start);
    }
    CHECK(count > 0 || tcb->rcv_ooo.head == UN_NONE);
}

/* What an ACK says after segment [start, end): a D-SACK for what came twice, then the run that holds the segment. */
static void check_sack(uint32_t start, uint32_t end, uint32_t most, enum un_drop drop)
{
    struct un_seg seg = {0};
    bool has_duplicate = false, is_queued = false;
    for (uint32_t at = start; at < end; at++) {
        has_duplicate |= model.was_kept[at];
        is_queued |= model.is_kept[at] && !model.was_kept[at] && at > position(tcb->rcv_nxt);
    }
    if (drop == UN_DROP_NONE || drop == UN_DROP_tcp_duplicate) /* else it may have been given up before it came again */
        CHECK_EQ(tcb->has_dsack, has_duplicate);
    uint32_t first = tcb->has_dsack && most > 0;
    un_rx_sack_blocks(tcp, tcb, &seg, most);
    CHECK(seg.sack_count <= most);
    if (first) {
        for (uint32_t at = position(seg.sacks[0].start); at < position(seg.sacks[0].end); at++)
            CHECK(at >= start && at < end && model.was_kept[at]);
        CHECK(seg.sacks[0].start != seg.sacks[0].end);
    }
    if (most == UN_SACK_BLOCKS_MAX)
        check_blocks(seg.sacks + first, seg.sack_count - first);
    if (is_queued && seg.sack_count > first) {
        const struct un_sack_block *newest = &seg.sacks[first];
        CHECK(position(newest->start) < end && position(newest->end) > start);
    }
    tcb->has_dsack = 0;
}

/* As far as one can tell afterwards: what was refused, and what came with it, has left frames. */
static bool had_its_share(void)
{
    return tcb->rcv_ooo_frames + 8 >= un_pool_share(&tcp->pool);
}

/* Was it right to keep what is kept, and to say why not? */
static void check_kept(uint32_t start, uint32_t end, uint32_t old_nxt, bool is_shared, enum un_drop drop)
{
    uint32_t highest = 0, given_up = STREAM;
    bool is_lost = false, has_duplicate = false;
    for (uint32_t at = 0; at < STREAM; at++) {
        bool is_new = at >= start && at < end && !model.was_kept[at];
        if (model.is_kept[at]) {
            CHECK(model.was_kept[at] || is_new);
            highest = at >= start && at < end ? highest : at;
        } else if (model.was_kept[at] && given_up == STREAM) {
            given_up = at;
        }
        is_lost |= !model.is_kept[at] && (model.was_kept[at] || is_new);
        has_duplicate |= at >= start && at < end && model.was_kept[at];
    }
    CHECK(given_up == STREAM || highest < given_up); /* of what waited, only the highest gave way */
    uint32_t edge = position(tcb->rcv_edge);
    bool is_free = !model.is_limited && !is_shared && !un_pool_is_short(&tcp->pool) && !had_its_share();
    if (is_free) {
        for (uint32_t at = start; at < end && at < edge; at++)
            CHECK(model.is_kept[at] || at < model.consumed);
    }
    if (start <= old_nxt && end > old_nxt && !is_shared && !un_pool_is_short(&tcp->pool))
        CHECK(position(tcb->rcv_nxt) >= (end < edge ? end : edge));
    if (drop == UN_DROP_tcp_window)
        CHECK(end > edge);
    else if (drop == UN_DROP_no_frame)
        CHECK(un_pool_is_short(&tcp->pool));
    else if (drop == UN_DROP_tcp_out_of_order)
        CHECK(!is_free);
    else
        CHECK(!is_lost && drop == (has_duplicate ? UN_DROP_tcp_duplicate : UN_DROP_NONE));
}

static void arrive(void)
{
    uint32_t old_nxt = position(tcb->rcv_nxt), edge = position(tcb->rcv_edge);
    uint32_t from = below(3) ? old_nxt : old_nxt + below(edge - old_nxt + 1);
    from = from > model.segment_max / 2 && below(3) == 0 ? from - below(model.segment_max / 2 + 1) : from;
    uint32_t length = 1 + below(model.segment_max);
    if (from + length > STREAM)
        return;
    for (uint32_t at = from; at < from + length; at++)
        model.sent[at] = (uint8_t)random_next(&model.random);
    bool is_shared = false;
    uint32_t chain = make_chain(from, length, &is_shared);
    if (chain == UN_NONE)
        return;
    memcpy(model.was_kept, model.is_kept, sizeof model.was_kept);
    enum un_drop drop;
    uint32_t moved = un_rx_insert(tcp, tcb, model.base + from, chain, &drop);
    CHECK_EQ(moved, position(tcb->rcv_nxt) - old_nxt);
    model.may_forget = drop != UN_DROP_NONE && drop != UN_DROP_tcp_duplicate;
    take_over();
    model.may_forget = false;
    check_kept(from, from + length, old_nxt, is_shared, drop);
    check_sack(from, from + length, below(4) ? UN_SACK_BLOCKS_MAX : below(UN_SACK_BLOCKS_MAX), drop);
}

static void read_some(void)
{
    struct un_piece pieces[8];
    int most = 1 + (int)below(8);
    int count = un_rx_peek(tcp, tcb, pieces, most);
    CHECK((uint32_t)count == (tcb->rcv_frames < (uint32_t)most ? tcb->rcv_frames : (uint32_t)most));
    uint32_t at = model.consumed;
    for (int i = 0; i < count; i++) {
        CHECK(memcmp(pieces[i].bytes, model.bytes + at, pieces[i].length) == 0);
        at += pieces[i].length;
        if (below(10) == 0)
            hold(pieces[i].frame);
    }
    uint32_t bytes = below(2) ? at - model.consumed : below(at - model.consumed + 1);
    un_rx_consume(tcp, tcb, bytes);
    model.consumed += bytes;
}

static void open_window(void)
{
    uint32_t at = position(tcb->rcv_edge) + below(4 * model.segment_max);
    tcb->rcv_edge = model.base + (at < STREAM ? at : STREAM);
}

/* Take or give back frames, so that the pool is short now and then. */
static void squeeze(uint32_t *hoarded)
{
    un_pool_drop_chain(&tcp->pool, *hoarded);
    *hoarded = UN_NONE;
    uint32_t leave = below(2) ? fixture.memory.count : below(fixture.memory.count / 3);
    while (fixture.memory.free_count > leave) {
        uint32_t frame = un_pool_take(&tcp->pool);
        fixture.frames[frame].next = *hoarded;
        *hoarded = frame;
    }
}

static void run(uint64_t seed)
{
    start(seed);
    uint32_t hoarded = UN_NONE;
    for (uint32_t step = 0; step < 600 && position(tcb->rcv_nxt) < STREAM; step++) {
        uint32_t what = below(20);
        if (what < 12)
            arrive();
        else if (what < 14)
            read_some();
        else if (what < 18)
            open_window();
        else if (what == 18)
            let_go(below(HELD));
        else if (model.is_limited && below(4) == 0)
            squeeze(&hoarded);
        else if (below(20) == 0)
            un_rx_drop_out_of_order(tcp, tcb);
        memset(model.was_kept, 1, sizeof model.was_kept); /* nothing was sent: what is there was there */
        take_over();
    }
    un_rx_drop_all(tcp, tcb);
    un_pool_drop_chain(&tcp->pool, hoarded);
    for (uint32_t i = 0; i < HELD; i++)
        let_go(i);
    fixture_check_whole(&fixture);
}

static void against_array(void)
{
    for_each_seed(UN_TEST_SANITIZED ? 100 : 1000, run);
}

int main(void)
{
    RUN(against_array);
    return 0;
}
