/* Reassembly, one rule at a time; rxqueue_random_test.c has the oracle. */
#include "fixture.h"

#define NXT 0xfffffff0u /* so that the numbers wrap around at once */
#define FRAME_BYTES 256u
#define OFFSET 20u

static struct fixture fixture;
static struct un_tcp *const tcp = &fixture.tcp;
static struct un_tcb *const tcb = &fixture.tcb;

static void start_with(uint32_t frames)
{
    fixture_start(&fixture, frames, FRAME_BYTES);
    tcb->rcv_nxt = NXT;
    tcb->rcv_edge = NXT + 1000;
}

static void start(void)
{
    start_with(64);
}

static void finish(void)
{
    un_rx_drop_all(tcp, tcb);
    fixture_check_whole(&fixture);
}

/* A frame with the text as payload. */
static uint32_t frame_of(const char *text)
{
    uint32_t frame = un_pool_take(&tcp->pool);
    CHECK(frame != UN_NONE);
    fixture.frames[frame].offset = OFFSET;
    fixture.frames[frame].length = (uint16_t)strlen(text);
    memcpy(un_pool_bytes(&tcp->pool, frame) + OFFSET, text, strlen(text));
    return frame;
}

static enum un_drop drop;

/* Payload that begins `at` bytes behind the start of the stream; returns the bytes by which rcv_nxt moved. */
static uint32_t arrive(uint32_t at, const char *text)
{
    return un_rx_insert(tcp, tcb, NXT + at, frame_of(text), &drop);
}

static void expect_readable(const char *text)
{
    struct un_piece pieces[16];
    char got[1001];
    uint32_t length = 0;
    int count = un_rx_peek(tcp, tcb, pieces, 16);
    CHECK_EQ(count, tcb->rcv_frames);
    for (int i = 0; i < count; i++) {
        memcpy(got + length, pieces[i].bytes, pieces[i].length);
        length += pieces[i].length;
    }
    CHECK_EQ(length, strlen(text));
    CHECK_EQ(length, tcb->rcv_bytes);
    CHECK(memcmp(got, text, length) == 0);
}

/* Blocks as an ACK would say them, as offsets into the stream: "4-8 12-16". */
static void expect_blocks(uint32_t most, const char *text)
{
    struct un_seg seg = {.sack_count = 9};
    char got[100] = "";
    un_rx_sack_blocks(tcp, tcb, &seg, most);
    for (uint32_t i = 0; i < seg.sack_count; i++)
        snprintf(got + strlen(got), sizeof got - strlen(got), "%s%d-%d", i ? " " : "", (int)(seg.sacks[i].start - NXT),
                 (int)(seg.sacks[i].end - NXT));
    if (strcmp(got, text) != 0)
        fprintf(stderr, "blocks: %s, not %s\n", got, text);
    CHECK(strcmp(got, text) == 0);
}

static void in_order(void)
{
    start();
    CHECK_EQ(arrive(0, "abcd"), 4);
    CHECK_EQ(arrive(4, "efgh"), 4);
    CHECK_EQ(drop, UN_DROP_NONE);
    CHECK_EQ(tcb->rcv_nxt, NXT + 8);
    expect_readable("abcdefgh");
    un_rx_consume(tcp, tcb, 3);
    expect_readable("defgh");
    un_rx_consume(tcp, tcb, 5);
    expect_readable("");
    fixture_check_whole(&fixture);
    finish();
}

static void chain(void)
{
    start();
    uint32_t head = frame_of("abcd"), empty = frame_of(""), tail = frame_of("ef");
    fixture.frames[head].next = empty;
    fixture.frames[empty].next = tail;
    CHECK_EQ(un_rx_insert(tcp, tcb, NXT - 2, head, &drop), 4);
    CHECK_EQ(drop, UN_DROP_tcp_duplicate);
    expect_readable("cdef");
    expect_blocks(4, "-2-0");
    finish();
}

static void gaps(void)
{
    start();
    CHECK_EQ(arrive(8, "ij"), 0);
    CHECK_EQ(arrive(4, "ef"), 0);
    CHECK_EQ(arrive(12, "mn"), 0);
    CHECK_EQ(drop, UN_DROP_NONE);
    CHECK_EQ(tcb->rcv_ooo_bytes, 6);
    CHECK_EQ(fixture.counters.out_of_order, 3);
    expect_readable("");
    expect_blocks(4, "12-14 4-6 8-10");
    expect_blocks(2, "12-14 4-6");
    CHECK_EQ(arrive(6, "gh"), 0); /* joins two runs */
    expect_blocks(4, "4-10 12-14");
    CHECK_EQ(arrive(0, "abcd"), 10);
    expect_readable("abcdefghij");
    expect_blocks(4, "12-14");
    CHECK_EQ(arrive(10, "kl"), 4);
    expect_blocks(4, "");
    CHECK_EQ(tcb->rcv_ooo_frames, 0);
    finish();
}

/* A fifth run drives out the oldest block; it comes back when it grows, or when all that is remembered is filled in. */
static void more_runs_than_blocks(void)
{
    start_with(256);
    arrive(50, "xy");
    for (uint32_t at = 10; at < 50; at += 10)
        arrive(at, "xy");
    expect_blocks(4, "40-42 30-32 20-22 10-12");
    arrive(52, "z");
    expect_blocks(4, "50-53 40-42 30-32 20-22");
    arrive(60, "xy");
    arrive(70, "xy");
    arrive(80, "xy");
    arrive(90, "xy");
    expect_blocks(4, "90-92 80-82 70-72 60-62");
    un_rx_drop_out_of_order(tcp, tcb);
    expect_blocks(4, "");
    finish();
}

static void forgotten_runs_come_back(void)
{
    start();
    for (uint32_t at = 50; at > 0; at -= 10)
        arrive(at, "xy"); /* 50 is forgotten */
    arrive(0, "0123456789");
    arrive(12, "01234567");
    arrive(22, "01234567");
    expect_blocks(4, "40-42");
    arrive(32, "01234567");
    expect_blocks(4, "50-52");
    finish();
}

static void duplicates(void)
{
    start();
    arrive(0, "abcd");
    CHECK_EQ(arrive(0, "abcd"), 0);
    CHECK_EQ(drop, UN_DROP_tcp_duplicate);
    expect_blocks(4, "0-4");
    expect_blocks(4, ""); /* once */
    arrive(8, "ijkl");
    arrive(20, "uv");
    CHECK_EQ(arrive(9, "jk"), 0);
    CHECK_EQ(drop, UN_DROP_tcp_duplicate);
    expect_blocks(4, "9-11 8-12 20-22"); /* RFC 2883: then the run that holds it */
    CHECK_EQ(arrive(2, "cdef"), 2);
    expect_blocks(1, "2-4");
    finish();
}

static void first_copy_wins(void)
{
    start();
    arrive(4, "EF");
    arrive(8, "IJ");
    CHECK_EQ(arrive(0, "abcdefghi"), 10);
    CHECK_EQ(drop, UN_DROP_tcp_duplicate);
    expect_readable("abcdEFghIJ");
    arrive(12, "MN");
    arrive(11, "lmno");
    arrive(14, "OP");
    CHECK_EQ(arrive(10, "k"), 6);
    expect_readable("abcdEFghIJklMNoP");
    finish();
}

/* A frame that others read is not written to: what cannot be kept comes again. */
static void shared_frame(void)
{
    start();
    arrive(2, "CD");
    uint32_t frame = frame_of("abcdef");
    un_pool_keep(&tcp->pool, frame);
    CHECK_EQ(un_rx_insert(tcp, tcb, NXT, frame, &drop), 4);
    CHECK_EQ(drop, UN_DROP_tcp_out_of_order);
    expect_readable("abCD");
    CHECK(memcmp(un_pool_bytes(&tcp->pool, frame) + OFFSET, "abcdef", 6) == 0);
    un_pool_drop(&tcp->pool, frame);
    finish();
}

static void window(void)
{
    start();
    tcb->rcv_edge = NXT + 6;
    CHECK_EQ(arrive(5, "fg"), 0);
    CHECK_EQ(drop, UN_DROP_tcp_window);
    CHECK_EQ(arrive(0, "abcdefgh"), 6);
    expect_readable("abcdef");
    CHECK_EQ(arrive(6, "gh"), 0);
    CHECK_EQ(drop, UN_DROP_tcp_window);
    expect_readable("abcdef");
    finish();
}

static void out_of_order_limit(void)
{
    start();
    fixture.config.ooo_frames_max = 2;
    arrive(10, "a");
    arrive(20, "b");
    arrive(30, "c"); /* the highest: refused */
    CHECK_EQ(drop, UN_DROP_tcp_out_of_order);
    expect_blocks(4, "20-21 10-11");
    arrive(5, "x"); /* the highest gives way */
    CHECK_EQ(drop, UN_DROP_tcp_out_of_order);
    expect_blocks(4, "5-6 10-11");
    arrive(11, "k"); /* fits behind its predecessor */
    CHECK_EQ(drop, UN_DROP_NONE);
    CHECK_EQ(fixture.counters.compacted, 1);
    expect_blocks(4, "10-12 5-6");
    CHECK_EQ(arrive(0, "abcde"), 6);
    finish();
}

static void compacted_in_order(void)
{
    start();
    fixture.config.rcv_frames_max = 1;
    arrive(0, "ab");
    struct un_piece shown;
    CHECK_EQ(un_rx_peek(tcp, tcb, &shown, 1), 1);
    arrive(2, "c");
    arrive(4, "e");
    arrive(3, "d");
    CHECK_EQ(tcb->rcv_frames, 1);
    CHECK_EQ(fixture.counters.compacted, 3);
    expect_readable("abcde");
    struct un_piece now;
    un_rx_peek(tcp, tcb, &now, 1);
    CHECK(now.bytes == shown.bytes); /* what was shown stays */
    un_pool_keep(&tcp->pool, now.frame);
    arrive(5, "f"); /* not into a frame that somebody else has */
    CHECK_EQ(tcb->rcv_frames, 2);
    expect_readable("abcdef");
    un_pool_drop(&tcp->pool, now.frame);
    finish();
}

/* Take frames until so many are free; give them back. */
static uint32_t hoard(uint32_t leave)
{
    uint32_t chain = UN_NONE;
    while (fixture.memory.free_count > leave) {
        uint32_t frame = un_pool_take(&tcp->pool);
        fixture.frames[frame].next = chain;
        chain = frame;
    }
    return chain;
}

static void frames_are_short(void)
{
    start();
    uint32_t hoarded = hoard(17);
    arrive(0, "a");
    arrive(1, "b"); /* 15 of 64 are free when it arrives */
    CHECK_EQ(tcb->rcv_frames, 1);
    arrive(10, "k");
    arrive(11, "l");
    CHECK_EQ(tcb->rcv_ooo_frames, 1);
    un_pool_drop_chain(&tcp->pool, hoarded);
    arrive(2, "c");
    CHECK_EQ(tcb->rcv_frames, 2);
    hoarded = hoard(4);
    arrive(20, "u"); /* 3 are free: refused */
    CHECK_EQ(drop, UN_DROP_tcp_out_of_order);
    arrive(12, "m"); /* needs no frame */
    CHECK_EQ(drop, UN_DROP_NONE);
    expect_blocks(4, "10-13");
    CHECK_EQ(arrive(3, "d"), 1);
    un_pool_drop_chain(&tcp->pool, hoarded);
    expect_readable("abcd");
    finish();
}

#define HALF 130u /* bytes: two of them do not fit into one frame */

static uint32_t arrive_half(uint32_t number)
{
    char text[HALF + 1];
    memset(text, 'x', HALF);
    text[HALF] = 0;
    return arrive(number * HALF, text);
}

/* It gets no more until somebody reads, which leaves an eighth of the frames to others. */
static void an_unread_connection_holds_no_last_frames(void)
{
    start();
    tcb->rcv_edge = NXT + 100 * HALF;
    uint32_t hoarded = hoard(13), count = 0;
    while (arrive_half(count) == HALF)
        count++;
    CHECK_EQ(drop, UN_DROP_no_frame);
    CHECK_EQ(count, 5);
    CHECK_EQ(fixture.memory.free_count, 8);
    un_rx_consume(tcp, tcb, 4 * HALF);
    CHECK_EQ(arrive_half(count), HALF);
    un_pool_drop_chain(&tcp->pool, hoarded);
    finish();
}

static void little_is_kept_until_a_sixteenth_is_left(void)
{
    start();
    uint32_t hoarded = hoard(6);
    CHECK_EQ(arrive_half(0), HALF);
    CHECK_EQ(arrive_half(1), HALF);
    CHECK_EQ(arrive_half(2), 0);
    CHECK_EQ(drop, UN_DROP_no_frame);
    CHECK_EQ(fixture.memory.free_count, 4);
    un_pool_drop_chain(&tcp->pool, hoarded);
    finish();
}

static void a_gap_is_filled_in_the_place_of_what_is_behind(void)
{
    start();
    arrive_half(1);
    arrive_half(2);
    uint32_t hoarded = hoard(3);
    CHECK_EQ(arrive_half(0), 2 * HALF);
    CHECK_EQ(drop, UN_DROP_tcp_out_of_order);
    CHECK_EQ(fixture.memory.free_count, 3);
    un_pool_drop_chain(&tcp->pool, hoarded);
    finish();
}

int main(void)
{
    RUN(in_order);
    RUN(chain);
    RUN(gaps);
    RUN(more_runs_than_blocks);
    RUN(forgotten_runs_come_back);
    RUN(duplicates);
    RUN(first_copy_wins);
    RUN(shared_frame);
    RUN(window);
    RUN(out_of_order_limit);
    RUN(compacted_in_order);
    RUN(frames_are_short);
    RUN(an_unread_connection_holds_no_last_frames);
    RUN(little_is_kept_until_a_sixteenth_is_left);
    RUN(a_gap_is_filled_in_the_place_of_what_is_behind);
    return 0;
}
