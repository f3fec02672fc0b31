/* Payload comes in: acceptability, order, acknowledgements, the window we offer (RFC 9293
 * sections 3.4, 3.8.6, 3.10.7.4). */
#include "harness.h"

#define SACK_OPTIONS (UN_SEG_MSS | UN_SEG_SACK_PERMITTED)
#define TS_OPTIONS (UN_SEG_MSS | UN_SEG_TIMESTAMP)

/* ---- when ACKs leave ---- */

static void one_segment_is_acknowledged_later(void)
{
    bench_establish();
    SEND(.flags = ACK, .seq = 1, .ack = 1, .length = MSS);
    NOTHING();
    CHECK_EQ(bench_take_events(), UN_TCP_EVENT_READABLE);
    ADVANCE_MS(39);
    NOTHING();
    ADVANCE_MS(1);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1 + MSS, .wnd = 65535 - MSS);
    CHECK_EQ(bench->counters.delayed_acks, 1);
    CHECK_EQ(bench_read(10000), MSS);
    ADVANCE_MS(1000);
    NOTHING();
}

static void two_full_segments_are_acknowledged_at_once(void)
{
    bench_establish();
    bench->tcb.rcv_mss = MSS;
    SEND(.flags = ACK, .seq = 1, .ack = 1, .length = MSS);
    SEND(.flags = ACK, .seq = 1 + MSS, .ack = 1, .length = MSS);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1 + 2 * MSS);
}

static void coalesced_segment_is_acknowledged_at_once(void)
{
    bench_establish();
    bench->tcb.rcv_mss = MSS;
    SEND(.flags = ACK, .seq = 1, .ack = 1, .length = 3 * MSS);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1 + 3 * MSS);
    CHECK_EQ(bench->tcb.rcv_mss, MSS); /* one packet is no measure of a segment when it is larger than any */
}

static void first_full_segments_are_acknowledged_at_once(void)
{
    bench_establish();
    bench->tcb.quickacks = 1;
    SEND(.flags = ACK, .seq = 1, .ack = 1, .length = 100);
    NOTHING();
    SEND(.flags = ACK, .seq = 101, .ack = 1, .length = MSS);
    EXPECT(.flags = ACK, .seq = 1, .ack = 101 + MSS);
    SEND(.flags = ACK, .seq = 101 + MSS, .ack = 1, .length = MSS);
    NOTHING();
}

static void quickack_option(void)
{
    bench_establish();
    bench->tcb.flags |= UN_TCB_QUICKACK;
    SEND(.flags = ACK, .seq = 1, .ack = 1, .length = 1);
    EXPECT(.flags = ACK, .seq = 1, .ack = 2);
}

static void ack_rides_on_data(void)
{
    bench_establish();
    SEND(.flags = ACK | PSH, .seq = 1, .ack = 1, .length = 60);
    bench_write(60);
    EXPECT(.flags = ACK | PSH, .seq = 1, .ack = 61, .length = 60);
    SEND(.flags = ACK, .seq = 61, .ack = 61);
    ADVANCE_MS(1000);
    NOTHING();
}

static void one_ack_for_a_turn(void)
{
    bench_establish();
    bench->tcb.rcv_mss = MSS;
    for (uint32_t i = 0; i < 5; i++)
        QUEUE(.flags = ACK, .seq = 1 + i * MSS, .ack = 1, .length = MSS);
    bench_dispatch();
    EXPECT(.flags = ACK, .seq = 1, .ack = 1 + 5 * MSS);
    NOTHING();
}

/* ---- order ---- */

static void out_of_order_is_acknowledged_at_once_each(void)
{
    bench_establish();
    QUEUE(.flags = ACK, .seq = 201, .ack = 1, .length = 100);
    QUEUE(.flags = ACK, .seq = 301, .ack = 1, .length = 100);
    bench_dispatch();
    EXPECT(.flags = ACK, .seq = 1, .ack = 1);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1);
    CHECK_EQ(bench_take_events(), 0);
    SEND(.flags = ACK, .seq = 101, .ack = 1, .length = 100);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1);
    SEND(.flags = ACK, .seq = 1, .ack = 1, .length = 100);
    EXPECT(.flags = ACK, .seq = 1, .ack = 401);
    CHECK_EQ(bench_read(1000), 400);
}

static void sack_blocks_newest_first(void)
{
    bench_establish_with(SACK_OPTIONS);
    SEND(.flags = ACK, .seq = 201, .ack = 1, .length = 100);
    CHECK_EQ(EXPECT(.flags = ACK, .seq = 1, .ack = 1)->sack_count, 1);
    SEND(.flags = ACK, .seq = 401, .ack = 1, .length = 100);
    bench_ignore();
    SEND(.flags = ACK, .seq = 601, .ack = 1, .length = 100);
    const struct un_seg *seg = EXPECT(.flags = ACK, .seq = 1, .ack = 1);
    CHECK_EQ(seg->sack_count, 3);
    for (uint32_t i = 0; i < 3; i++)
        CHECK_EQ(seg->sacks[i].end - bench->tcb.irs, 701 - 200 * i);
}

static void duplicate_is_reported(void)
{
    bench_establish_with(SACK_OPTIONS);
    SEND(.flags = ACK, .seq = 1, .ack = 1, .length = 100);
    SEND(.flags = ACK, .seq = 1, .ack = 1, .length = 100);
    const struct un_seg *seg = EXPECT(.flags = ACK, .seq = 1, .ack = 101);
    CHECK_EQ(bench->drop, UN_DROP_tcp_duplicate);
    CHECK_EQ(seg->sack_count, 1);
    CHECK_EQ(seg->sacks[0].start - bench->tcb.irs, 1);
    CHECK_EQ(seg->sacks[0].end - bench->tcb.irs, 101);
    CHECK_EQ(bench_read(1000), 100);
}

static void unsent_report_of_a_duplicate_is_kept(void)
{
    bench_establish_with(SACK_OPTIONS);
    SEND(.flags = ACK, .seq = 1, .ack = 1, .length = 100);
    bench->is_blocked = true;
    SEND(.flags = ACK, .seq = 1, .ack = 1, .length = 100);
    NOTHING();
    bench->is_blocked = false;
    bench_dispatch();
    CHECK_EQ(EXPECT(.flags = ACK, .seq = 1, .ack = 101)->sack_count, 1);
}

static void overlap_is_delivered_once(void)
{
    bench_establish();
    SEND(.flags = ACK, .seq = 1, .ack = 1, .length = 100);
    SEND(.flags = ACK, .seq = 51, .ack = 1, .length = 100);
    EXPECT(.flags = ACK, .seq = 1, .ack = 151);
    CHECK_EQ(bench_read(1000), 150);
}

/* ---- acceptability ---- */

static void segment_before_the_window(void)
{
    bench_establish();
    SEND(.flags = ACK, .seq = 0, .ack = 1); /* a keepalive probe */
    EXPECT(.flags = ACK, .seq = 1, .ack = 1);
    SEND(.flags = ACK, .seq = 0, .ack = 1, .length = 1);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1);
    CHECK_EQ(bench_take_events(), 0);
}

static void segment_beyond_the_window(void)
{
    bench_establish();
    SEND(.flags = ACK, .seq = 1 + 65535, .ack = 1, .length = 10);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1);
    CHECK_EQ(bench->drop, UN_DROP_tcp_window);
    SEND(.flags = ACK, .seq = 65535, .ack = 1, .length = 10); /* one byte of it lies within */
    EXPECT(.flags = ACK, .seq = 1, .ack = 1);
    CHECK_EQ(bench->tcb.rcv_ooo_bytes, 1);
}

static void pure_ack_at_the_edge_counts(void)
{
    bench_establish();
    bench_write(10);
    EXPECT(.flags = ACK | PSH, .seq = 1, .ack = 1, .length = 10);
    SEND(.flags = ACK, .seq = 1 + 65535, .ack = 11);
    NOTHING();
    CHECK_EQ(bench->tcb.snd_una, bench->tcb.snd_nxt);
}

static void segment_without_ack_is_dropped(void)
{
    bench_establish();
    SEND(.flags = 0, .seq = 1, .length = 10);
    NOTHING();
    CHECK_EQ(bench->drop, UN_DROP_tcp_no_ack);
}

static void urgent_data_is_payload(void)
{
    bench_establish();
    SEND(.flags = ACK | URG, .seq = 1, .ack = 1, .length = 10, .urgent = 65535);
    SEND(.flags = ACK | URG, .seq = 11, .ack = 1, .length = 10, .urgent = 0);
    NOTHING();
    CHECK_EQ(bench_read(100), 20);
}

/* ---- our window ---- */

static void fill(uint32_t bytes)
{
    for (uint32_t at = 0; at < bytes;) {
        uint32_t part = bytes - at < MSS ? bytes - at : MSS;
        QUEUE(.flags = ACK, .seq = 1 + at, .ack = 1, .length = part);
        bench_dispatch();
        at += part;
    }
}

static void window_closes_and_opens_by_a_segment(void)
{
    bench->config.rcv_limit = 10 * MSS;
    bench_establish();
    fill(10 * MSS);
    bench_ignore();
    ADVANCE_MS(100);
    bench_ignore();
    SEND(.flags = ACK, .seq = 1 + 10 * MSS, .ack = 1, .length = 1); /* the peer's probe */
    struct un_seg *seg = EXPECT(.flags = ACK, .seq = 1, .ack = 1 + 10 * MSS);
    CHECK_EQ(seg->wnd, 0);
    for (uint32_t i = 1; i < MSS; i++)
        bench_read(1);
    NOTHING();
    bench_read(1);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1 + 10 * MSS, .wnd = MSS);
    bench_read(MSS);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1 + 10 * MSS, .wnd = 2 * MSS);
    bench_read(MSS);
    NOTHING();
    bench_read(MSS);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1 + 10 * MSS, .wnd = 4 * MSS);
}

static void small_buffer_opens_by_half(void)
{
    bench->config.rcv_limit = 1000;
    bench_establish();
    SEND(.flags = ACK, .seq = 1, .ack = 1, .length = 1000);
    ADVANCE_MS(40);
    CHECK_EQ(EXPECT(.flags = ACK, .seq = 1, .ack = 1001)->wnd, 0);
    bench_read(499);
    NOTHING();
    bench_read(1);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1001, .wnd = 500);
}

static void shut_window_takes_ack_fin_and_reset(void)
{
    bench->config.rcv_limit = 1000;
    bench_establish();
    SEND(.flags = ACK, .seq = 1, .ack = 1, .length = 1000);
    bench_write(10);
    CHECK_EQ(EXPECT(.flags = ACK | PSH, .seq = 1, .ack = 1001, .length = 10)->wnd, 0);
    SEND(.flags = ACK, .seq = 1001, .ack = 11, .length = 5); /* of which only the ACK counts */
    CHECK_EQ(EXPECT(.flags = ACK, .seq = 11, .ack = 1001)->wnd, 0);
    CHECK_EQ(bench->tcb.snd_una, bench->tcb.snd_nxt);
    SEND(.flags = ACK | FIN, .seq = 1001, .ack = 11);
    CHECK_EQ(EXPECT(.flags = ACK, .seq = 11, .ack = 1002)->wnd, 0);
    CHECK_EQ(bench_read(5000), 1000);
    CHECK(un_tcp_is_eof(&bench->tcb));
    SEND(.flags = RST, .seq = 1002);
    CHECK_EQ(un_tcp_reason(&bench->tcb), UN_TCP_REASON_RESET);
}

/* Whatever the sizes of segments, with a scale: the edge as the peer sees it never moves left, and the buffer holds
 * little more than its limit. */
static void edge_is_monotone(uint64_t seed)
{
    bench_begin();
    bench->config.rcv_limit = 1 << 20;
    bench->config.snd_limit = 1000;
    bench_establish_with(UN_SEG_MSS | UN_SEG_WSCALE);
    uint64_t random = seed;
    uint32_t next = 1, edge = 1 + 65535;
    while (bench->tcb.rcv_bytes < (1 << 20) - MSS) {
        uint32_t length = 1 + random_below(&random, MSS);
        QUEUE(.flags = ACK, .seq = next, .ack = 1, .length = length);
        un_tcp_ack_now(&bench->tcp, &bench->tcb);
        bench_dispatch();
        next += length;
        struct un_seg *seg = &bench->out[bench->out_tail - 1].seg;
        uint32_t now = seg->ack + ((uint32_t)seg->wnd << bench->tcb.rcv_wscale);
        CHECK(un_seq_le(edge, now));
        edge = now;
        bench_ignore();
        if (bench->pool_memory.free_count < 100 || random_below(&random, 100) == 0)
            bench_read(random_below(&random, 1 << 20));
        bench_ignore();
        if (next > 20 << 20)
            break;
    }
    bench_finish();
}

static void edge_never_moves_left(void)
{
    bench_base = 0xffffff00;
    for_each_seed(3, edge_is_monotone);
}

/* Rounding up the window does not let a peer fill us by single bytes for ever. */
static void single_bytes_close_a_scaled_window(void)
{
    bench->config.rcv_limit = 1 << 17;
    bench_establish_with(UN_SEG_MSS | UN_SEG_WSCALE);
    bench->tcb.flags |= UN_TCB_QUICKACK;
    uint32_t window = UINT16_MAX;
    for (uint32_t at = 0; window > 0; at++) {
        CHECK(at <= bench->config.rcv_limit / 16 * 17 + 4);
        QUEUE(.flags = ACK, .seq = 1 + at, .ack = 1, .length = 1);
        bench_dispatch();
        window = EXPECT(.flags = ACK, .seq = 1, .ack = 2 + at)->wnd;
        NOTHING();
    }
    CHECK(bench->tcb.rcv_bytes >= bench->config.rcv_limit);
    CHECK_EQ(bench_read(UINT32_MAX), bench->tcb.bytes_in);
    bench_ignore();
}

/* ---- timestamps ---- */

static void timestamp_of_the_earliest_segment_is_echoed(void)
{
    bench_establish_with(TS_OPTIONS);
    SEND(.flags = ACK, .seq = 1, .ack = 1, .length = 100, .options = UN_SEG_TIMESTAMP, .tsval = 200);
    SEND(.flags = ACK, .seq = 101, .ack = 1, .length = 100, .options = UN_SEG_TIMESTAMP, .tsval = 210);
    ADVANCE_MS(40);
    CHECK_EQ(EXPECT(.flags = ACK, .seq = 1, .ack = 201)->tsecr, 200);
    SEND(.flags = ACK, .seq = 301, .ack = 1, .length = 100, .options = UN_SEG_TIMESTAMP, .tsval = 220);
    CHECK_EQ(EXPECT(.flags = ACK, .seq = 1, .ack = 201)->tsecr, 200); /* out of order: it says nothing */
}

static void old_timestamp_is_refused(void)
{
    bench_establish_with(TS_OPTIONS);
    SEND(.flags = ACK, .seq = 1, .ack = 1, .length = 100, .options = UN_SEG_TIMESTAMP, .tsval = 200);
    SEND(.flags = ACK, .seq = 101, .ack = 1, .length = 100, .options = UN_SEG_TIMESTAMP, .tsval = 199);
    EXPECT(.flags = ACK, .seq = 1, .ack = 101);
    CHECK_EQ(bench->drop, UN_DROP_tcp_old_timestamp);
    CHECK_EQ(bench_read(1000), 100);
    ADVANCE_MS(UINT64_C(25) * 24 * 3600 * 1000); /* what was remembered is worth nothing any more */
    SEND(.flags = ACK, .seq = 101, .ack = 1, .length = 100, .options = UN_SEG_TIMESTAMP, .tsval = 5);
    ADVANCE_MS(40);
    CHECK_EQ(EXPECT(.flags = ACK, .seq = 1, .ack = 201)->tsecr, 5);
}

static void timestamp_wraps(void)
{
    bench_establish_with(TS_OPTIONS);
    bench->tcb.ts_recent = 0xffffffff;
    SEND(.flags = ACK, .seq = 1, .ack = 1, .length = 100, .options = UN_SEG_TIMESTAMP, .tsval = 0);
    CHECK_EQ(bench->tcb.rcv_bytes, 100);
    NOTHING();
}

static void missing_timestamp_is_no_reason_to_refuse(void)
{
    bench_establish_with(TS_OPTIONS);
    uint32_t recent = bench->tcb.ts_recent;
    SEND(.flags = ACK, .seq = 1, .ack = 1, .length = 100);
    bench_ignore();
    CHECK_EQ(bench->tcb.rcv_bytes, 100);
    CHECK_EQ(bench->tcb.ts_recent, recent);
    CHECK_EQ(bench->counters.no_timestamp, 1);
    SEND(.flags = RST, .seq = 101); /* a reset needs none */
    CHECK_EQ(bench->tcb.state, UN_TCP_DEAD);
}

/* ---- ECN ---- */

static void congestion_is_echoed_until_cwr(void)
{
    bench_listen((struct un_seg){.flags = ECE | CWR, .options = UN_SEG_MSS, .mss = MSS});
    bench_ignore();
    SEND(.flags = ACK, .seq = 1, .ack = 1);
    bench->tcb.quickacks = 0;
    SEND(.flags = ACK, .seq = 1, .ack = 1, .length = 100, .ecn = 3);
    ADVANCE_MS(40);
    EXPECT(.flags = ACK | ECE, .seq = 1, .ack = 101);
    SEND(.flags = ACK, .seq = 101, .ack = 1, .length = 100, .ecn = 2);
    ADVANCE_MS(40);
    EXPECT(.flags = ACK | ECE, .seq = 1, .ack = 201);
    SEND(.flags = ACK | CWR, .seq = 201, .ack = 1, .length = 100, .ecn = 2);
    ADVANCE_MS(40);
    CHECK_EQ(EXPECT(.flags = ACK, .seq = 1, .ack = 301)->ecn, 0);
    CHECK_EQ(bench->counters.ecn_marks, 1);
}

/* ---- frames are short ---- */

static uint32_t hoard(uint32_t leave)
{
    uint32_t chain = UN_NONE;
    while (bench->pool_memory.free_count > leave) {
        uint32_t frame = un_pool_take(&bench->tcp.pool);
        bench->frames[frame].next = chain;
        chain = frame;
    }
    return chain;
}

static void window_follows_the_pool(void)
{
    bench->config.rcv_limit = 1 << 17;
    bench_establish_with(UN_SEG_MSS | UN_SEG_WSCALE);
    uint32_t edge = bench->tcb.rcv_edge;
    uint32_t hoarded = hoard(FRAMES / 4 + 16); /* a few frames are left to everybody: less than was promised */
    SEND(.flags = ACK, .seq = 1, .ack = 1, .length = 2 * MSS);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1 + 2 * MSS);
    CHECK(bench->tcb.rcv_edge - edge < 1u << bench->tcb.rcv_wscale); /* rounded up */
    un_pool_drop_chain(&bench->tcp.pool, hoarded);
    CHECK_EQ(bench_read(2 * MSS), 2 * MSS);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1 + 2 * MSS, .wnd = (1 << 17) >> 2);
}

/* Half of them are free beyond the last quarter: of these a fourth is for one connection, and each frame is sure to
 * hold half of its bytes. */
static void window_is_a_share_of_the_pool(void)
{
    bench->config.rcv_limit = 1 << 20;
    bench_establish_with(UN_SEG_MSS | UN_SEG_WSCALE);
    uint32_t hoarded = hoard(3 * FRAMES / 4);
    SEND(.flags = ACK | PSH, .seq = 1, .ack = 1, .length = MSS);
    ADVANCE_MS(40);
    bench_ignore();
    uint32_t share = (3 * FRAMES / 4 - FRAMES / 4) / 4 - 2; /* one is taken, and the part is rounded */
    CHECK(bench->tcb.rcv_edge - bench->tcb.rcv_nxt <= share * FRAME_BYTES / 2 + 32);
    CHECK(bench->tcb.rcv_edge - bench->tcb.rcv_nxt >= (share - 2) * FRAME_BYTES / 2);
    un_pool_drop_chain(&bench->tcp.pool, hoarded);
}

/* Shut when the application had not read, and then because there are no frames; returns those. */
static uint32_t starve(void)
{
    bench->config.rcv_limit = 2 * MSS;
    bench_establish();
    SEND(.flags = ACK, .seq = 1, .ack = 1, .length = MSS);
    SEND(.flags = ACK, .seq = 1 + MSS, .ack = 1, .length = MSS);
    bench_ignore();
    CHECK_EQ(bench->tcb.rcv_edge, bench->tcb.rcv_nxt);
    uint32_t hoarded = hoard(FRAMES / 16 - 4);
    CHECK_EQ(bench_read(2 * MSS), 2 * MSS);
    NOTHING();
    return hoarded;
}

static void frames_that_become_free_open_the_window(void)
{
    uint32_t hoarded = starve();
    ADVANCE_MS(5000);
    NOTHING();
    un_pool_drop_chain(&bench->tcp.pool, hoarded);
    ADVANCE_MS(200);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1 + 2 * MSS, .wnd = 2 * MSS);
    CHECK_EQ(un_tcp_deadline_ns(&bench->tcb), 0);
    ADVANCE_MS(5000);
    NOTHING();
}

/* Whatever leaves meanwhile says that the window is shut: somebody has to say more later. */
static void a_shut_window_is_watched_whatever_else_is_sent(void)
{
    uint32_t hoarded = starve();
    bench_write(10);
    EXPECT(.flags = ACK | PSH, .seq = 1, .ack = 1 + 2 * MSS, .length = 10);
    SEND(.flags = ACK, .seq = 1 + 2 * MSS, .ack = 11, .length = 1); /* the peer probes */
    CHECK_EQ(EXPECT(.flags = ACK, .seq = 11, .ack = 1 + 2 * MSS)->wnd, 0);
    ADVANCE_MS(1000);
    bench_write(10);
    EXPECT(.flags = ACK | PSH, .seq = 11, .ack = 1 + 2 * MSS, .length = 10);
    SEND(.flags = ACK, .seq = 1 + 2 * MSS, .ack = 21);
    un_pool_drop_chain(&bench->tcp.pool, hoarded);
    ADVANCE_MS(200);
    EXPECT(.flags = ACK, .seq = 21, .ack = 1 + 2 * MSS, .wnd = 2 * MSS);
}

static void a_window_that_the_application_keeps_shut_is_not_watched(void)
{
    bench->config.rcv_limit = 2 * MSS;
    bench_establish();
    SEND(.flags = ACK, .seq = 1, .ack = 1, .length = MSS);
    SEND(.flags = ACK, .seq = 1 + MSS, .ack = 1, .length = MSS);
    bench_ignore();
    ADVANCE_MS(1000);
    CHECK_EQ(un_tcp_deadline_ns(&bench->tcb), 0);
}

static void nobody_watches_the_window_of_a_peer_that_has_finished(void)
{
    uint32_t hoarded = starve();
    SEND(.flags = ACK | FIN, .seq = 1 + 2 * MSS, .ack = 1);
    EXPECT(.flags = ACK, .seq = 1, .ack = 2 + 2 * MSS);
    un_pool_drop_chain(&bench->tcp.pool, hoarded);
    ADVANCE_MS(1000);
    NOTHING();
    CHECK_EQ(un_tcp_deadline_ns(&bench->tcb), 0);
}

/* Nothing is taken in any more, and nothing is promised; whoever asks before it is looked again hears of room. */
static void an_empty_pool_keeps_the_window_shut(void)
{
    uint32_t hoarded = starve();
    SEND(.flags = ACK, .seq = 1 + 2 * MSS, .ack = 1, .length = 1); /* the peer probes */
    struct un_seg *answer = EXPECT(.flags = ACK, .seq = 1, .ack = 1 + 2 * MSS);
    CHECK_EQ(answer->wnd, 0);
    un_pool_drop_chain(&bench->tcp.pool, hoarded);
    SEND(.flags = ACK, .seq = 1 + 2 * MSS, .ack = 1, .length = 1);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1 + 2 * MSS, .wnd = 2 * MSS);
}

int main(void)
{
    TEST(one_segment_is_acknowledged_later);
    TEST(two_full_segments_are_acknowledged_at_once);
    TEST(coalesced_segment_is_acknowledged_at_once);
    TEST(first_full_segments_are_acknowledged_at_once);
    TEST(quickack_option);
    TEST(ack_rides_on_data);
    TEST(one_ack_for_a_turn);
    TEST(out_of_order_is_acknowledged_at_once_each);
    TEST(sack_blocks_newest_first);
    TEST(duplicate_is_reported);
    TEST(unsent_report_of_a_duplicate_is_kept);
    TEST(overlap_is_delivered_once);
    TEST(segment_before_the_window);
    TEST(segment_beyond_the_window);
    TEST(pure_ack_at_the_edge_counts);
    TEST(segment_without_ack_is_dropped);
    TEST(urgent_data_is_payload);
    TEST(window_closes_and_opens_by_a_segment);
    TEST(small_buffer_opens_by_half);
    TEST(shut_window_takes_ack_fin_and_reset);
    RUN(edge_never_moves_left);
    TEST(single_bytes_close_a_scaled_window);
    TEST(timestamp_of_the_earliest_segment_is_echoed);
    TEST(old_timestamp_is_refused);
    TEST(timestamp_wraps);
    TEST(missing_timestamp_is_no_reason_to_refuse);
    TEST(congestion_is_echoed_until_cwr);
    TEST(window_follows_the_pool);
    TEST(window_is_a_share_of_the_pool);
    TEST(frames_that_become_free_open_the_window);
    TEST(a_shut_window_is_watched_whatever_else_is_sent);
    TEST(a_window_that_the_application_keeps_shut_is_not_watched);
    TEST(nobody_watches_the_window_of_a_peer_that_has_finished);
    TEST(an_empty_pool_keeps_the_window_shut);
    return 0;
}
