/* Data goes out: segments, Nagle and silly windows, the peer's window, super-segments (RFC 9293 section 3.8.6, RFC
 * 896). */
#include "harness.h"

static void segments_and_push(void)
{
    bench_establish();
    CHECK_EQ(bench_write(3000), 3000);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1, .length = MSS);
    EXPECT(.flags = ACK, .seq = 1 + MSS, .ack = 1, .length = MSS);
    EXPECT(.flags = ACK | PSH, .seq = 1 + 2 * MSS, .ack = 1, .length = 80);
}

static void small_writes_wait_for_the_ack(void)
{
    bench_establish();
    bench_write(10);
    EXPECT(.flags = ACK | PSH, .seq = 1, .ack = 1, .length = 10);
    bench_write(10);
    bench_write(10);
    NOTHING();
    SEND(.flags = ACK, .seq = 1, .ack = 11);
    EXPECT(.flags = ACK | PSH, .seq = 11, .ack = 1, .length = 20);
}

static void full_segments_do_not_hold_back_a_small_one(void)
{
    bench_establish();
    bench_write(MSS + 10);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1, .length = MSS);
    EXPECT(.flags = ACK | PSH, .seq = 1 + MSS, .ack = 1, .length = 10);
    bench_write(10); /* but a small one does */
    NOTHING();
    SEND(.flags = ACK, .seq = 1, .ack = 1 + MSS);
    NOTHING();
    SEND(.flags = ACK, .seq = 1, .ack = 11 + MSS);
    EXPECT(.flags = ACK | PSH, .seq = 11 + MSS, .ack = 1, .length = 10);
}

static void nodelay(void)
{
    bench_establish();
    bench->tcb.flags |= UN_TCB_NODELAY;
    bench_write(10);
    EXPECT(.flags = ACK | PSH, .seq = 1, .ack = 1, .length = 10);
    bench_write(10);
    EXPECT(.flags = ACK | PSH, .seq = 11, .ack = 1, .length = 10);
}

static void cork_holds_small_segments(void)
{
    bench_establish();
    bench->tcb.flags |= UN_TCB_CORK;
    bench_write(MSS + 10);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1, .length = MSS);
    NOTHING();
    bench->tcb.flags &= ~(uint32_t)UN_TCB_CORK;
    bench->wants_output = true;
    bench_dispatch();
    EXPECT(.flags = ACK | PSH, .seq = 1 + MSS, .ack = 1, .length = 10);
}

static void fin_goes_with_the_last_segment(void)
{
    bench_establish();
    bench_write(10);
    EXPECT(.flags = ACK | PSH, .seq = 1, .ack = 1, .length = 10);
    bench_write(10);
    NOTHING();
    un_tcp_shutdown(&bench->tcp, &bench->tcb);
    bench_dispatch();
    EXPECT(.flags = ACK | PSH | FIN, .seq = 11, .ack = 1, .length = 10);
    CHECK_EQ(bench_write(1), -32);
    SEND(.flags = ACK, .seq = 1, .ack = 22);
    CHECK_EQ(bench->tcb.state, UN_TCP_FIN_WAIT_2);
}

static void window_limits(void)
{
    bench_listen((struct un_seg){.options = UN_SEG_MSS, .mss = MSS, .wnd = 2000});
    bench_ignore();
    SEND(.flags = ACK, .seq = 1, .ack = 1, .wnd = 2000);
    bench_write(4000);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1, .length = MSS);
    NOTHING(); /* 540 of 2000 is a silly window */
    SEND(.flags = ACK, .seq = 1, .ack = 1 + MSS, .wnd = 2000);
    EXPECT(.flags = ACK, .seq = 1 + MSS, .ack = 1, .length = MSS);
    SEND(.flags = ACK, .seq = 1, .ack = 1 + 2 * MSS, .wnd = 1000);
    EXPECT(.flags = ACK, .seq = 1 + 2 * MSS, .ack = 1, .length = 1000); /* half of the largest is not */
}

static void silly_window_gives_way_to_time(void)
{
    bench_establish();
    SEND(.flags = ACK, .seq = 1, .ack = 1, .wnd = 100);
    bench_write(4000);
    NOTHING();
    ADVANCE_MS(99);
    NOTHING();
    ADVANCE_MS(150);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1, .length = 100);
}

static void window_of_an_older_segment_does_not_count(void)
{
    bench_establish();
    SEND(.flags = ACK, .seq = 11, .ack = 1, .length = 10, .wnd = 5000);
    bench_ignore();
    SEND(.flags = ACK, .seq = 1, .ack = 1, .length = 10, .wnd = 100);
    bench_ignore();
    CHECK_EQ(bench->tcb.snd_wnd, 5000);
}

static void window_of_an_older_ack_does_not_count(void)
{
    bench_establish();
    bench_write(10);
    bench_ignore();
    SEND(.flags = ACK, .seq = 1, .ack = 11, .wnd = 5000);
    SEND(.flags = ACK, .seq = 1, .ack = 1, .wnd = 100);
    CHECK_EQ(bench->tcb.snd_wnd, 5000);
}

static void peer_may_shrink_its_window(void)
{
    bench_establish();
    bench_write(4 * MSS);
    for (uint32_t i = 0; i < 4; i++)
        EXPECT(.flags = i == 3 ? ACK | PSH : ACK, .seq = 1 + i * MSS, .ack = 1, .length = MSS);
    SEND(.flags = ACK, .seq = 1, .ack = 1 + MSS, .wnd = 200);
    bench_write(4 * MSS);
    NOTHING();
    SEND(.flags = ACK, .seq = 1, .ack = 1 + 4 * MSS);
    EXPECT(.flags = ACK, .seq = 1 + 4 * MSS, .ack = 1, .length = MSS);
    bench_ignore();
}

/* ---- shut window ---- */

static void shut_window_with(uint32_t bytes)
{
    bench_establish();
    SEND(.flags = ACK, .seq = 1, .ack = 1, .wnd = UINT16_MAX);
    CHECK_EQ(bench->tcb.snd_wnd, 0);
    bench_write(bytes);
    NOTHING();
}

static void shut_window_is_probed_for_ever(void)
{
    shut_window_with(3000);
    uint32_t probes = 0;
    for (uint32_t tenth = 0; tenth < 2 * 3600 * 10; tenth++) {
        ADVANCE_MS(100);
        if (!bench_has_sent())
            continue;
        EXPECT(.flags = ACK, .seq = 1, .ack = 1, .length = 1);
        probes++;
        SEND(.flags = ACK, .seq = 1, .ack = 1, .wnd = UINT16_MAX);
    }
    CHECK(probes > 110 && probes < 135); /* they come every minute in the end */
    CHECK_EQ(bench->counters.window_probes, probes);
    SEND(.flags = ACK, .seq = 1, .ack = 1);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1, .length = MSS);
    EXPECT(.flags = ACK, .seq = 1 + MSS, .ack = 1, .length = MSS);
    EXPECT(.flags = ACK | PSH, .seq = 1 + 2 * MSS, .ack = 1, .length = 80);
}

static void probes_back_off(void)
{
    shut_window_with(3000);
    uint32_t wait_ms = (uint32_t)(un_recovery_rto_ns(&bench->tcp, &bench->tcb) / UN_MS_NS);
    ADVANCE_MS(wait_ms + 1);
    for (uint32_t i = 0; i < 5; i++) {
        EXPECT(.flags = ACK, .seq = 1, .ack = 1, .length = 1);
        wait_ms *= 2;
        ADVANCE_MS(wait_ms - 5);
        NOTHING();
        ADVANCE_MS(5);
    }
    bench_ignore();
}

static void probe_that_is_taken_counts_as_sent(void)
{
    shut_window_with(3000);
    ADVANCE_MS(250);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1, .length = 1);
    SEND(.flags = ACK, .seq = 1, .ack = 2);
    EXPECT(.flags = ACK, .seq = 2, .ack = 1, .length = MSS);
    EXPECT(.flags = ACK, .seq = 2 + MSS, .ack = 1, .length = MSS);
    EXPECT(.flags = ACK | PSH, .seq = 2 + 2 * MSS, .ack = 1, .length = 79);
    SEND(.flags = ACK, .seq = 1, .ack = 3001);
    CHECK_EQ(bench->tcb.snd_bytes, 0);
    CHECK_EQ(bench->tcb.bytes_out, 3000);
}

static void fin_probes_a_shut_window(void)
{
    bench_establish();
    SEND(.flags = ACK, .seq = 1, .ack = 1, .wnd = UINT16_MAX);
    un_tcp_shutdown(&bench->tcp, &bench->tcb);
    bench_dispatch();
    NOTHING();
    ADVANCE_MS(250);
    EXPECT(.flags = ACK | FIN, .seq = 1, .ack = 1);
    SEND(.flags = ACK, .seq = 1, .ack = 2, .wnd = UINT16_MAX);
    CHECK_EQ(bench->tcb.state, UN_TCP_FIN_WAIT_2);
    ADVANCE_MS(200000);
    NOTHING();
}

static void silent_peer_with_a_shut_window_is_given_up(void)
{
    bench->config.user_timeout_ms = 100000;
    shut_window_with(3000);
    for (uint32_t second = 0; second < 300 && bench->tcb.state != UN_TCP_DEAD; second++) {
        ADVANCE_MS(1000);
        bench_ignore();
    }
    CHECK_EQ(un_tcp_reason(&bench->tcb), UN_TCP_REASON_TIMEOUT);
}

static void shut_window_of_a_left_connection_is_not_probed_for_ever(void)
{
    shut_window_with(3000);
    un_tcp_close(&bench->tcp, &bench->tcb);
    bench_dispatch();
    for (uint32_t second = 0; second < 300 && !bench->is_ended; second++) {
        ADVANCE_MS(1000);
        if (!bench_has_sent() || bench->is_ended)
            continue;
        bench_ignore();
        SEND(.flags = ACK, .seq = 1, .ack = 1, .wnd = UINT16_MAX);
    }
    CHECK(bench->is_ended);
    bench_ignore();
}

static void shut_window_with_data_in_flight(void)
{
    bench_establish();
    bench_write(MSS);
    bench_ignore();
    for (uint32_t tenth = 0; tenth < 3600 * 10; tenth++) {
        ADVANCE_MS(100);
        if (!bench_has_sent())
            continue;
        EXPECT(.flags = ACK | PSH, .seq = 1, .ack = 1, .length = MSS);
        SEND(.flags = ACK, .seq = 1, .ack = 1, .wnd = UINT16_MAX);
    }
    CHECK_EQ(bench->tcb.state, UN_TCP_ESTABLISHED);
}

/* ---- the application ---- */

static void full_queue_tells_when_there_is_room(void)
{
    bench->config.snd_limit = 4 * MSS;
    bench_establish();
    CHECK_EQ(bench_write(5 * MSS), 4 * MSS);
    bench_ignore();
    CHECK_EQ(bench_write(1), 0);
    CHECK_EQ(bench_take_events(), 0);
    SEND(.flags = ACK, .seq = 1, .ack = 1 + MSS);
    CHECK_EQ(bench_take_events(), UN_TCP_EVENT_WRITABLE);
    SEND(.flags = ACK, .seq = 1, .ack = 1 + 2 * MSS);
    CHECK_EQ(bench_take_events(), 0);
}

static void shortage_of_frames_is_over_some_time(void)
{
    bench_establish();
    uint32_t held[FRAMES + 1], count = 0;
    while ((held[count] = un_pool_take(&bench->tcp.pool)) != UN_NONE)
        count++;
    CHECK_EQ(bench_write(100), 0);
    NOTHING();
    while (count > 0)
        un_pool_drop(&bench->tcp.pool, held[--count]);
    ADVANCE_MS(1100);
    NOTHING();
    CHECK_EQ(bench_take_events(), UN_TCP_EVENT_WRITABLE);
    CHECK_EQ(bench_write(100), 100);
    EXPECT(.flags = ACK | PSH, .seq = 1, .ack = 1, .length = 100);
}

static void frames_are_sent_from_where_they_lie(void)
{
    bench_establish();
    struct un_pool *pool = &bench->tcp.pool;
    uint32_t frame = un_pool_take(pool);
    for (uint32_t i = 0; i < 100; i++)
        un_pool_bytes(pool, frame)[8 + i] = (uint8_t)(i * 7);
    struct un_piece piece = {un_pool_bytes(pool, frame) + 8, 100, frame};
    CHECK_EQ(un_tcp_write(&bench->tcp, &bench->tcb, &piece, 1), 100);
    bench_dispatch();
    EXPECT(.flags = ACK | PSH, .seq = 1, .ack = 1, .length = 100);
    SEND(.flags = ACK, .seq = 1, .ack = 101);
    CHECK_EQ(bench->pool_memory.free_count, FRAMES);
}

/* ---- when the device is full, or records are ---- */

static void blocked_data_leaves_later(void)
{
    bench_establish();
    bench->is_blocked = true;
    bench_write(2 * MSS);
    NOTHING();
    CHECK_EQ(bench->tcb.snd_nxt, bench->tcb.snd_una);
    bench->is_blocked = false;
    bench_dispatch();
    EXPECT(.flags = ACK, .seq = 1, .ack = 1, .length = MSS);
    EXPECT(.flags = ACK | PSH, .seq = 1 + MSS, .ack = 1, .length = MSS);
}

static void without_records_data_waits(void)
{
    bench_establish();
    uint32_t free_count = bench->sent_pool.free_count;
    bench->sent_pool.free_count = 0;
    bench_write(100);
    NOTHING();
    bench->sent_pool.free_count = free_count;
    ADVANCE_MS(250);
    EXPECT(.flags = ACK | PSH, .seq = 1, .ack = 1, .length = 100);
}

/* ---- super-segments ---- */

static void device_that_segments_gets_many_at_once(void)
{
    bench->tcp.tx_segment_bytes = 65000;
    bench_establish();
    bench_write(11 * MSS + 10);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1, .length = 5 * MSS);
    CHECK_EQ(bench->out[bench->out_head - 1].segment_bytes, MSS);
    EXPECT(.flags = ACK, .seq = 1 + 5 * MSS, .ack = 1, .length = 5 * MSS);
    NOTHING(); /* initial window */
    SEND(.flags = ACK, .seq = 1, .ack = 1 + 10 * MSS);
    EXPECT(.flags = ACK | PSH, .seq = 1 + 10 * MSS, .ack = 1, .length = MSS + 10);
    CHECK_EQ(bench->out[bench->out_head - 1].segment_bytes, MSS);
    SEND(.flags = ACK, .seq = 1, .ack = 11 + 11 * MSS);
    bench_write(10);
    EXPECT(.flags = ACK | PSH, .seq = 11 + 11 * MSS, .ack = 1, .length = 10);
    CHECK_EQ(bench->out[bench->out_head - 1].segment_bytes, 0);
}

static void tail_of_a_super_segment_waits_as_a_small_one_does(void)
{
    bench->tcp.tx_segment_bytes = 65000;
    bench_establish();
    bench_write(10);
    bench_ignore();
    bench_write(3 * MSS + 10);
    EXPECT(.flags = ACK, .seq = 11, .ack = 1, .length = 3 * MSS);
    NOTHING();
    SEND(.flags = ACK, .seq = 1, .ack = 11);
    EXPECT(.flags = ACK | PSH, .seq = 11 + 3 * MSS, .ack = 1, .length = 10);
}

static void many_small_frames_end_a_super_segment(void)
{
    bench->tcp.tx_segment_bytes = 65000;
    bench_establish();
    struct un_pool *pool = &bench->tcp.pool;
    for (uint32_t i = 0; i < 100; i++) {
        uint32_t frame = un_pool_take(pool);
        for (uint32_t at = 0; at < 100; at++)
            un_pool_bytes(pool, frame)[at] = (uint8_t)((i * 100 + at) * 7 + (i * 100 + at) / 251);
        struct un_piece piece = {un_pool_bytes(pool, frame), 100, frame};
        CHECK_EQ(un_tcp_write(&bench->tcp, &bench->tcb, &piece, 1), 100);
    }
    bench_dispatch();
    uint32_t total = 0;
    while (bench->out_head < bench->out_tail) {
        CHECK_EQ(bench->out[bench->out_head].seg.seq, 1 + total);
        total += bench->out[bench->out_head++].seg.length;
    }
    CHECK_EQ(total, 10000);
}

/* ---- loss, as far as dispatch is concerned ---- */

static void lost_segment_is_sent_again(void)
{
    bench_establish();
    bench_write(100);
    EXPECT(.flags = ACK | PSH, .seq = 1, .ack = 1, .length = 100);
    ADVANCE_MS(250);
    EXPECT(.flags = ACK | PSH, .seq = 1, .ack = 1, .length = 100);
    SEND(.flags = ACK, .seq = 1, .ack = 101);
    CHECK_EQ(bench->counters.retransmitted, 1);
}

static void lost_fin_is_sent_again(void)
{
    bench_establish();
    bench_write(100);
    un_tcp_shutdown(&bench->tcp, &bench->tcb);
    bench_dispatch();
    EXPECT(.flags = ACK | PSH, .seq = 1, .ack = 1, .length = 100);
    EXPECT(.flags = ACK | FIN, .seq = 101, .ack = 1);
    SEND(.flags = ACK, .seq = 1, .ack = 101);
    ADVANCE_MS(3000);
    EXPECT(.flags = ACK | FIN, .seq = 101, .ack = 1);
    bench_ignore();
    SEND(.flags = ACK, .seq = 1, .ack = 102);
    CHECK_EQ(bench->tcb.state, UN_TCP_FIN_WAIT_2);
}

static void establish_with_ecn(void)
{
    bench_listen((struct un_seg){.flags = ECE | CWR, .options = UN_SEG_MSS, .mss = MSS});
    bench_ignore();
    SEND(.flags = ACK, .seq = 1, .ack = 1);
}

static void ecn_marks_new_data_only(void)
{
    establish_with_ecn();
    bench_write(100);
    CHECK_EQ(EXPECT(.flags = ACK | PSH, .seq = 1, .ack = 1, .length = 100)->ecn, 2);
    ADVANCE_MS(250);
    CHECK_EQ(EXPECT(.flags = ACK | PSH, .seq = 1, .ack = 1, .length = 100)->ecn, 0);
}

static void new_data_says_that_congestion_was_heard_of(void)
{
    establish_with_ecn();
    bench_write(4 * MSS);
    bench_ignore();
    uint32_t before = bench->tcb.cwnd;
    SEND(.flags = ACK | ECE, .seq = 1, .ack = 1 + 3 * MSS);
    CHECK(bench->tcb.cwnd < before);
    bench_write(10);
    EXPECT(.flags = ACK | PSH | CWR, .seq = 1 + 4 * MSS, .ack = 1, .length = 10);
    before = bench->tcb.cwnd;
    SEND(.flags = ACK | ECE, .seq = 1, .ack = 1 + 4 * MSS); /* of the same round trip */
    CHECK(bench->tcb.cwnd >= before);
}

int main(void)
{
    TEST(segments_and_push);
    TEST(small_writes_wait_for_the_ack);
    TEST(full_segments_do_not_hold_back_a_small_one);
    TEST(nodelay);
    TEST(cork_holds_small_segments);
    TEST(fin_goes_with_the_last_segment);
    TEST(window_limits);
    TEST(silly_window_gives_way_to_time);
    TEST(window_of_an_older_segment_does_not_count);
    TEST(window_of_an_older_ack_does_not_count);
    TEST(peer_may_shrink_its_window);
    TEST(shut_window_is_probed_for_ever);
    TEST(probes_back_off);
    TEST(probe_that_is_taken_counts_as_sent);
    TEST(fin_probes_a_shut_window);
    TEST(silent_peer_with_a_shut_window_is_given_up);
    TEST(shut_window_of_a_left_connection_is_not_probed_for_ever);
    TEST(shut_window_with_data_in_flight);
    TEST(full_queue_tells_when_there_is_room);
    TEST(shortage_of_frames_is_over_some_time);
    TEST(frames_are_sent_from_where_they_lie);
    TEST(blocked_data_leaves_later);
    TEST(without_records_data_waits);
    TEST(device_that_segments_gets_many_at_once);
    TEST(tail_of_a_super_segment_waits_as_a_small_one_does);
    TEST(many_small_frames_end_a_super_segment);
    TEST(lost_segment_is_sent_again);
    TEST(lost_fin_is_sent_again);
    TEST(ecn_marks_new_data_only);
    TEST(new_data_says_that_congestion_was_heard_of);
    return 0;
}
