/* The send queue against a string of bytes: sent, sent again and acknowledged, in frames of our own and of others, and
 * where a lender has them.
 *
 * A device that reads late is part of it: it refers to the frames of what was sent, and their bytes must still be the
 * same when it lets go. */
#include "fixture.h"

#include <stdbool.h>

#define STREAM 60000u
#define RECORDS 64u
#define DEVICE 32u
#define PIECES 8
#define LENT 16u

static struct fixture fixture;
static struct un_tcp *const tcp = &fixture.tcp;
static struct un_tcb *const tcb = &fixture.tcb;

static struct {
    uint64_t random;
    uint32_t iss;
    uint32_t acked, sent, queued; /* positions in the stream */
    uint8_t bytes[STREAM];
} model;

/* What is in flight, as the sender's records would say it. */
static struct {
    uint32_t position, length, frame, offset;
} records[RECORDS];
static uint32_t record_count;

static struct {
    struct un_piece piece;
    uint32_t position;
} device[DEVICE];
static uint32_t device_count;

/* The last frame that was queued as it is: what its owner has around the bytes that were queued is left alone. */
static struct {
    uint32_t frame; /* UN_NONE: none */
    uint32_t offset, length;
} lent;

/* The string itself is lent; so many pieces of it are out. */
static const uint8_t *const lenders[] = {model.bytes};
static uint32_t borrowed;

static uint32_t below(uint32_t bound)
{
    return random_below(&model.random, bound);
}

static void start(uint64_t seed)
{
    static const uint32_t frame_bytes[] = {64, 128, 512, 2048};
    memset(&model, 0, sizeof model);
    model.random = seed;
    model.iss = (uint32_t)-below(2 * STREAM);
    record_count = device_count = 0;
    lent.frame = UN_NONE;
    fixture_start(&fixture, 8 + below(200), frame_bytes[below(4)]);
    un_pool_format_lending(&tcp->pool, fixture.memory.count, fixture.memory.frame_bytes, LENT);
    tcp->pool.lenders = lenders;
    borrowed = 0;
    tcb->snd_una = tcb->snd_nxt = model.iss;
    tcb->snd_limit = below(3) ? below(20000) : UINT32_MAX;
    for (uint32_t i = 0; i < STREAM; i++)
        model.bytes[i] = (uint8_t)random_next(&model.random);
}

static void check_queue(void)
{
    CHECK_EQ(tcb->snd_bytes, model.queued - model.acked);
    CHECK_EQ(un_tx_unsent(tcb), model.queued - model.sent);
    CHECK_EQ(tcb->unsent_frame == UN_NONE, model.queued == model.sent);
    CHECK_EQ(tcb->snd.head == UN_NONE, model.queued == model.acked);
    uint32_t at = model.acked - tcb->snd_head_offset;
    for (uint32_t frame = tcb->snd.head; frame != UN_NONE; frame = fixture.frames[frame].next) {
        const struct un_frame *record = &fixture.frames[frame];
        if (frame == tcb->unsent_frame) {
            CHECK(tcb->unsent_offset < record->length);
            CHECK_EQ(at + tcb->unsent_offset, model.sent);
        }
        CHECK(frame != tcb->snd.head || tcb->snd_head_offset < record->length);
        at += record->length;
    }
    CHECK_EQ(at, model.queued);
}

static void write_copied(void)
{
    uint32_t length = below(3) ? below(200) : below(8000);
    length = length < STREAM - model.queued ? length : STREAM - model.queued;
    uint8_t bytes[8000];
    memcpy(bytes, model.bytes + model.queued, length);
    uint32_t room = tcb->snd_limit > tcb->snd_bytes ? tcb->snd_limit - tcb->snd_bytes : 0;
    uint32_t taken = un_tx_append(tcp, tcb, bytes, length);
    CHECK(taken <= length && taken <= room);
    bool is_short = fixture.memory.free_count == 0 || un_pool_is_scarce(&tcp->pool);
    CHECK(is_short || taken == (length < room ? length : room));
    memset(bytes, 0xee, sizeof bytes); /* they were only lent */
    model.queued += taken;
}

static void owner_lets_go(void)
{
    if (lent.frame == UN_NONE)
        return;
    const uint8_t *bytes = un_pool_bytes(&tcp->pool, lent.frame);
    for (uint32_t at = 0; at < fixture.memory.frame_bytes; at++)
        CHECK((at >= lent.offset && at < lent.offset + lent.length) || bytes[at] == 0xbb);
    un_pool_drop(&tcp->pool, lent.frame);
    lent.frame = UN_NONE;
}

static void write_frame(void)
{
    uint32_t frame = un_pool_take(&tcp->pool), frame_bytes = fixture.memory.frame_bytes;
    if (frame == UN_NONE)
        return;
    uint32_t offset = below(frame_bytes / 2), length = 1 + below(frame_bytes - offset);
    if (length > STREAM - model.queued || length > 5000) {
        un_pool_drop(&tcp->pool, frame);
        return;
    }
    memset(un_pool_bytes(&tcp->pool, frame), 0xbb, frame_bytes);
    memcpy(un_pool_bytes(&tcp->pool, frame) + offset, model.bytes + model.queued, length);
    un_tx_append_frame(tcp, tcb, frame, offset, length);
    model.queued += length;
    owner_lets_go();
    lent.frame = frame;
    lent.offset = offset;
    lent.length = length;
    un_pool_keep(&tcp->pool, frame);
}

static void write_lent(void)
{
    uint32_t length = 1 + below(4000), room = tcb->snd_limit > tcb->snd_bytes ? tcb->snd_limit - tcb->snd_bytes : 0;
    if (length > STREAM - model.queued)
        return;
    struct un_piece piece = {model.bytes + model.queued, length, 0};
    uint32_t taken = un_tx_append_lent(tcp, tcb, 0, &piece);
    bool may_stay = length >= UN_LEND_LEAST && room > 0 && borrowed < LENT;
    CHECK_EQ(piece.frame != UN_NONE, may_stay);
    CHECK(taken == length || !may_stay);
    CHECK(taken <= room || may_stay);
    borrowed += may_stay;
    model.queued += taken;
}

/* Nobody gives back what was not acknowledged. */
static void lender_takes_note(void)
{
    uint16_t lender;
    uint32_t offset;
    while (un_pool_given_back(&tcp->pool, &lender, &offset)) {
        CHECK_EQ(lender, 0);
        CHECK(offset < model.acked);
        CHECK(borrowed-- > 0);
    }
}

static void expect_stream(const struct un_piece *pieces, int count, uint32_t position)
{
    for (int i = 0; i < count; i++) {
        CHECK(pieces[i].length > 0);
        CHECK(memcmp(pieces[i].bytes, model.bytes + position, pieces[i].length) == 0);
        position += pieces[i].length;
    }
}

static void device_lets_go(void)
{
    if (device_count == 0)
        return;
    uint32_t i = below(device_count);
    expect_stream(&device[i].piece, 1, device[i].position);
    un_pool_drop(&tcp->pool, device[i].piece.frame);
    device[i] = device[--device_count];
}

static void device_keeps(const struct un_piece *piece, uint32_t position)
{
    if (device_count == DEVICE)
        device_lets_go();
    un_pool_keep(&tcp->pool, piece->frame);
    device[device_count].piece = *piece;
    device[device_count++].position = position;
}

/* Gather from a cursor, as far as the pieces reach. */
static uint32_t gather(uint32_t frame, uint32_t offset, uint32_t length, uint32_t position)
{
    struct un_piece pieces[PIECES];
    uint32_t got, sum = 0;
    int most = 1 + (int)below(PIECES);
    int count = un_tx_pieces(tcp, frame, offset, length, pieces, most, &got);
    CHECK(count <= most && got <= length && (got == length || count == most));
    for (int i = 0; i < count; i++)
        sum += pieces[i].length;
    CHECK_EQ(sum, got);
    expect_stream(pieces, count, position);
    if (count > 0 && below(4) == 0)
        device_keeps(&pieces[0], position);
    return got;
}

static void send(void)
{
    if (record_count == RECORDS || model.sent == model.queued)
        return;
    uint32_t length = 1 + below(below(2) ? 3000 : 100);
    length = length < model.queued - model.sent ? length : model.queued - model.sent;
    length = gather(tcb->unsent_frame, tcb->unsent_offset, length, model.sent);
    records[record_count].position = model.sent;
    records[record_count].length = length;
    records[record_count].frame = tcb->unsent_frame;
    records[record_count++].offset = tcb->unsent_offset;
    un_tx_advance(tcp, &tcb->unsent_frame, &tcb->unsent_offset, length);
    model.sent += length;
    tcb->snd_nxt += length;
}

static void send_again(void)
{
    if (record_count == 0)
        return;
    uint32_t i = below(record_count);
    gather(records[i].frame, records[i].offset, records[i].length, records[i].position);
}

/* The rest of a record becomes one of its own. */
static void split(void)
{
    if (record_count == 0 || record_count == RECORDS)
        return;
    uint32_t i = below(record_count);
    if (records[i].length < 2)
        return;
    uint32_t length = 1 + below(records[i].length - 1);
    memmove(&records[i + 1], &records[i], (record_count++ - i) * sizeof records[0]);
    records[i].length = length;
    records[i + 1].position += length;
    records[i + 1].length -= length;
    un_tx_advance(tcp, &records[i + 1].frame, &records[i + 1].offset, length);
}

/* Records go before their frames do: a cursor is valid until its byte is acknowledged. */
static void acknowledge(void)
{
    uint32_t length = below(3) ? below(model.sent - model.acked + 1) : model.sent - model.acked;
    model.acked += length;
    uint32_t gone = 0;
    while (gone < record_count && records[gone].position + records[gone].length <= model.acked)
        gone++;
    record_count -= gone;
    memmove(records, records + gone, record_count * sizeof records[0]);
    if (record_count > 0 && records[0].position < model.acked) { /* acknowledged in part */
        uint32_t part = model.acked - records[0].position;
        records[0].position += part;
        records[0].length -= part;
        un_tx_advance(tcp, &records[0].frame, &records[0].offset, part);
    }
    tcb->snd_una += length;
    un_tx_acked(tcp, tcb, length);
}

static void run(uint64_t seed)
{
    static void (*const steps[])(void) = {write_copied, write_copied, write_frame, write_lent,  write_lent,
                                          send,         send,         send,        send_again,  split,
                                          acknowledge,  acknowledge,  device_lets_go, lender_takes_note};
    start(seed);
    for (uint32_t step = 0; step < 2000; step++) {
        if (below(200) == 0)
            tcb->snd_limit = below(20000);
        steps[below(sizeof steps / sizeof steps[0])]();
        check_queue();
    }
    un_tx_drop_all(tcp, tcb);
    CHECK_EQ(un_tx_unsent(tcb), 0);
    while (device_count > 0)
        device_lets_go();
    owner_lets_go();
    model.acked = model.queued; /* nobody waits for it any more */
    lender_takes_note();
    CHECK_EQ(borrowed, 0);
    fixture_check_whole(&fixture);
}

static void against_string(void)
{
    for_each_seed(150, run);
}

static uint32_t write_text(const char *text)
{
    return un_tx_append(tcp, tcb, text, (uint32_t)strlen(text));
}

/* Where the cursor stands when all is sent, and what appending makes of it. */
static void cursor_at_the_end(void)
{
    start(1);
    tcb->snd_limit = 1000;
    CHECK_EQ(write_text("abc"), 3);
    uint32_t frame = tcb->unsent_frame, offset = tcb->unsent_offset;
    un_tx_advance(tcp, &tcb->unsent_frame, &tcb->unsent_offset, 3);
    tcb->snd_nxt += 3;
    CHECK_EQ(tcb->unsent_frame, UN_NONE);
    CHECK_EQ(un_tx_unsent(tcb), 0);
    CHECK_EQ(write_text("de"), 2); /* into the same frame */
    CHECK_EQ(tcb->unsent_frame, frame);
    CHECK_EQ(tcb->unsent_offset, 3);
    CHECK_EQ(un_tx_unsent(tcb), 2);
    un_tx_acked(tcp, tcb, 3); /* the frame stays: it holds what was not sent */
    tcb->snd_una += 3;
    CHECK_EQ(tcb->snd_head_offset, 3);
    un_tx_advance(tcp, &tcb->unsent_frame, &tcb->unsent_offset, 2);
    tcb->snd_nxt += 2;
    uint32_t late = un_pool_take(&tcp->pool);
    un_tx_append_frame(tcp, tcb, late, 7, 9);
    CHECK_EQ(tcb->unsent_frame, late);
    CHECK_EQ(tcb->unsent_offset, 0);
    un_tx_advance(tcp, &frame, &offset, 5); /* the end of a frame is the start of the next */
    CHECK_EQ(frame, late);
    CHECK_EQ(offset, 0);
    un_tx_drop_all(tcp, tcb);
    fixture_check_whole(&fixture);
}

/* SYN and FIN take sequence numbers and are no payload. */
static void unsent_beside_flags(void)
{
    start(1);
    tcb->snd_limit = 1000;
    tcb->state = UN_TCP_SYN_RECEIVED;
    tcb->snd_nxt++;
    CHECK_EQ(write_text("abc"), 3);
    CHECK_EQ(un_tx_unsent(tcb), 3);
    tcb->state = UN_TCP_ESTABLISHED;
    tcb->snd_una++;
    CHECK_EQ(un_tx_unsent(tcb), 3);
    un_tx_advance(tcp, &tcb->unsent_frame, &tcb->unsent_offset, 3);
    tcb->snd_nxt += 4; /* with FIN */
    CHECK_EQ(un_tx_unsent(tcb), 0);
    un_tx_acked(tcp, tcb, 3);
    CHECK_EQ(tcb->snd_bytes, 0);
    fixture_check_whole(&fixture);
}

int main(void)
{
    RUN(cursor_at_the_end);
    RUN(unsent_beside_flags);
    RUN(against_string);
    return 0;
}
