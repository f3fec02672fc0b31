/* The end of a connection: FIN in all orders, TIME-WAIT, half-close, close and abort (RFC 9293 sections 3.6, 3.10). */
#include "harness.h"

static void close_it(void)
{
    un_tcp_close(&bench->tcp, &bench->tcb);
    bench_dispatch();
}

static void shut_down(void)
{
    un_tcp_shutdown(&bench->tcp, &bench->tcb);
    bench_dispatch();
}

static void peer_closes_first(void)
{
    bench_establish();
    SEND(.flags = ACK | FIN, .seq = 1, .ack = 1);
    EXPECT(.flags = ACK, .seq = 1, .ack = 2);
    CHECK_EQ(bench->tcb.state, UN_TCP_CLOSE_WAIT);
    CHECK_EQ(bench_take_events(), UN_TCP_EVENT_EOF);
    CHECK(un_tcp_is_eof(&bench->tcb));
    bench_write(10);
    EXPECT(.flags = ACK | PSH, .seq = 1, .ack = 2, .length = 10);
    SEND(.flags = ACK, .seq = 2, .ack = 11);
    shut_down();
    EXPECT(.flags = ACK | FIN, .seq = 11, .ack = 2);
    CHECK_EQ(bench->tcb.state, UN_TCP_LAST_ACK);
    SEND(.flags = ACK, .seq = 2, .ack = 12);
    CHECK_EQ(bench->tcb.state, UN_TCP_DEAD);
    CHECK_EQ(bench_take_events(), UN_TCP_EVENT_CLOSED);
    CHECK_EQ(un_tcp_reason(&bench->tcb), UN_TCP_REASON_CLOSED);
}

static void we_close_first(void)
{
    bench_establish();
    shut_down();
    EXPECT(.flags = ACK | FIN, .seq = 1, .ack = 1);
    CHECK_EQ(bench->tcb.state, UN_TCP_FIN_WAIT_1);
    SEND(.flags = ACK, .seq = 1, .ack = 2);
    CHECK_EQ(bench->tcb.state, UN_TCP_FIN_WAIT_2);
    CHECK_EQ(bench_take_events(), 0);
    SEND(.flags = ACK | FIN, .seq = 1, .ack = 2);
    EXPECT(.flags = ACK, .seq = 2, .ack = 2);
    CHECK_EQ(bench->tcb.state, UN_TCP_TIME_WAIT);
    CHECK_EQ(bench_take_events(), UN_TCP_EVENT_EOF | UN_TCP_EVENT_CLOSED);
    ADVANCE_MS(59900);
    CHECK_EQ(bench->tcb.state, UN_TCP_TIME_WAIT);
    ADVANCE_MS(200);
    CHECK_EQ(bench->tcb.state, UN_TCP_DEAD);
    CHECK_EQ(bench_take_events(), 0); /* told before */
    CHECK_EQ(un_tcp_reason(&bench->tcb), UN_TCP_REASON_CLOSED);
}

static void fin_with_the_ack_of_ours(void)
{
    bench_establish();
    shut_down();
    EXPECT(.flags = ACK | FIN, .seq = 1, .ack = 1);
    SEND(.flags = ACK | FIN, .seq = 1, .ack = 2);
    EXPECT(.flags = ACK, .seq = 2, .ack = 2);
    CHECK_EQ(bench->tcb.state, UN_TCP_TIME_WAIT);
}

static void both_close_at_once(void)
{
    bench_establish();
    shut_down();
    EXPECT(.flags = ACK | FIN, .seq = 1, .ack = 1);
    SEND(.flags = ACK | FIN, .seq = 1, .ack = 1);
    EXPECT(.flags = ACK, .seq = 2, .ack = 2);
    CHECK_EQ(bench->tcb.state, UN_TCP_CLOSING);
    SEND(.flags = ACK, .seq = 2, .ack = 2);
    NOTHING();
    CHECK_EQ(bench->tcb.state, UN_TCP_TIME_WAIT);
}

static void half_close_goes_on_receiving(void)
{
    bench_establish();
    shut_down();
    EXPECT(.flags = ACK | FIN, .seq = 1, .ack = 1);
    SEND(.flags = ACK, .seq = 1, .ack = 2);
    for (uint32_t i = 0; i < 10; i++)
        QUEUE(.flags = ACK, .seq = 1 + i * 1000, .ack = 2, .length = 1000);
    bench_dispatch();
    EXPECT(.flags = ACK, .seq = 2, .ack = 10001);
    CHECK_EQ(bench_read(20000), 10000);
    SEND(.flags = ACK | FIN, .seq = 10001, .ack = 2, .length = 5);
    EXPECT(.flags = ACK, .seq = 2, .ack = 10007);
    CHECK_EQ(bench_read(20000), 5);
    CHECK(un_tcp_is_eof(&bench->tcb));
}

static void fin_out_of_order_is_held(void)
{
    bench_establish();
    SEND(.flags = ACK | FIN, .seq = 101, .ack = 1, .length = 50);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1);
    CHECK_EQ(bench->tcb.state, UN_TCP_ESTABLISHED);
    SEND(.flags = ACK, .seq = 1, .ack = 1, .length = 100);
    EXPECT(.flags = ACK, .seq = 1, .ack = 152);
    CHECK_EQ(bench->tcb.state, UN_TCP_CLOSE_WAIT);
    CHECK_EQ(bench_read(1000), 150);
}

static void fin_alone_out_of_order_is_held(void)
{
    bench_establish();
    SEND(.flags = ACK | FIN, .seq = 101, .ack = 1);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1);
    SEND(.flags = ACK, .seq = 1, .ack = 1, .length = 100);
    EXPECT(.flags = ACK, .seq = 1, .ack = 102);
    CHECK_EQ(bench_take_events(), UN_TCP_EVENT_READABLE | UN_TCP_EVENT_EOF);
}

static void payload_behind_a_fin_is_no_payload(void)
{
    bench_establish();
    SEND(.flags = ACK | FIN, .seq = 101, .ack = 1);
    bench_ignore();
    SEND(.flags = ACK, .seq = 1, .ack = 1, .length = 200);
    CHECK_EQ(bench->drop, UN_DROP_tcp_window);
    bench_ignore();
    SEND(.flags = ACK, .seq = 1, .ack = 1, .length = 100);
    EXPECT(.flags = ACK, .seq = 1, .ack = 102);
    SEND(.flags = ACK, .seq = 102, .ack = 1, .length = 100);
    CHECK_EQ(bench_read(1000), 100);
    bench_ignore();
}

static void payload_that_came_before_a_fin_in_front_of_it(void)
{
    bench_establish();
    SEND(.flags = ACK, .seq = 201, .ack = 1, .length = 100);
    bench_ignore();
    SEND(.flags = ACK | FIN, .seq = 101, .ack = 1);
    bench_ignore();
    SEND(.flags = ACK, .seq = 1, .ack = 1, .length = 100);
    EXPECT(.flags = ACK, .seq = 1, .ack = 102);
    CHECK_EQ(bench->tcb.rcv_ooo_frames, 0);
    CHECK_EQ(bench->tcb.state, UN_TCP_CLOSE_WAIT);
}

static void repeated_fin_is_acknowledged_again(void)
{
    bench_establish();
    SEND(.flags = ACK | FIN, .seq = 1, .ack = 1);
    EXPECT(.flags = ACK, .seq = 1, .ack = 2);
    SEND(.flags = ACK | FIN, .seq = 1, .ack = 1);
    EXPECT(.flags = ACK, .seq = 1, .ack = 2);
    CHECK_EQ(bench_take_events(), UN_TCP_EVENT_EOF);
}

/* ---- TIME-WAIT ---- */

static void enter_time_wait_with(uint8_t options)
{
    bench_establish_with(options);
    uint8_t ts = options & UN_SEG_TIMESTAMP;
    shut_down();
    EXPECT(.flags = ACK | FIN, .seq = 1, .ack = 1);
    SEND(.flags = ACK | FIN, .seq = 1, .ack = 2, .options = ts, .tsval = 200);
    EXPECT(.flags = ACK, .seq = 2, .ack = 2);
    CHECK_EQ(bench->tcb.state, UN_TCP_TIME_WAIT);
}

static void time_wait_repeats_the_last_ack(void)
{
    enter_time_wait_with(UN_SEG_MSS);
    ADVANCE_MS(50000);
    SEND(.flags = ACK | FIN, .seq = 1, .ack = 2);
    EXPECT(.flags = ACK, .seq = 2, .ack = 2);
    ADVANCE_MS(50000); /* it began anew */
    CHECK_EQ(bench->tcb.state, UN_TCP_TIME_WAIT);
    SEND(.flags = ACK, .seq = 1, .ack = 2, .length = 0);
    EXPECT(.flags = ACK, .seq = 2, .ack = 2);
    ADVANCE_MS(10001); /* an old ACK did not do that */
    CHECK_EQ(bench->tcb.state, UN_TCP_DEAD);
}

static void time_wait_is_ended_by_an_exact_reset_alone(void)
{
    enter_time_wait_with(UN_SEG_MSS);
    SEND(.flags = RST, .seq = 1);
    SEND(.flags = RST, .seq = 3);
    NOTHING();
    SEND(.flags = ACK, .seq = 1, .ack = 1, .length = 1);
    EXPECT(.flags = ACK, .seq = 2, .ack = 2);
    SEND(.flags = ACK, .seq = 2, .ack = 2);
    NOTHING();
    CHECK_EQ(bench->tcb.state, UN_TCP_TIME_WAIT);
    SEND(.flags = RST, .seq = 2);
    NOTHING();
    CHECK_EQ(bench->tcb.state, UN_TCP_DEAD);
    CHECK_EQ(un_tcp_reason(&bench->tcb), UN_TCP_REASON_CLOSED);
}

static bool is_reusable(uint32_t seq, uint8_t flags, uint8_t options, uint32_t tsval)
{
    uint32_t iss = bench->tcb.snd_nxt - 1;
    struct un_seg syn = {.flags = flags, .seq = bench->tcb.irs + seq, .options = options, .tsval = tsval};
    bool result = un_tcp_is_reusable(&bench->tcb, &syn, &iss);
    CHECK_EQ(result, un_seq_lt(bench->tcb.snd_nxt, iss)); /* what the new one sends is beyond the old one's */
    return result;
}

static void newer_syn_may_reuse(void)
{
    enter_time_wait_with(UN_SEG_MSS);
    CHECK(!is_reusable(2, SYN, 0, 0));
    CHECK(is_reusable(3, SYN, 0, 0));
    CHECK(!is_reusable(3, SYN | ACK, 0, 0));
    CHECK(!is_reusable(3, SYN | FIN, 0, 0));
    SEND(.flags = SYN, .seq = 1); /* an old duplicate */
    EXPECT(.flags = ACK, .seq = 2, .ack = 2);
}

static void newer_timestamp_may_reuse(void)
{
    enter_time_wait_with(UN_SEG_MSS | UN_SEG_TIMESTAMP);
    CHECK(is_reusable(0, SYN, UN_SEG_TIMESTAMP, 201));
    CHECK(!is_reusable(3, SYN, UN_SEG_TIMESTAMP, 199));
    CHECK(is_reusable(3, SYN, UN_SEG_TIMESTAMP, 200));
    CHECK(!is_reusable(2, SYN, UN_SEG_TIMESTAMP, 200));
    CHECK(is_reusable(3, SYN, 0, 0));
}

/* ---- unread data at the end ---- */

static void unread_data_outlives_the_connection(void)
{
    bench_establish();
    SEND(.flags = ACK | FIN, .seq = 1, .ack = 1, .length = 100);
    bench_ignore();
    shut_down();
    bench_ignore();
    SEND(.flags = ACK, .seq = 102, .ack = 2);
    CHECK_EQ(bench->tcb.state, UN_TCP_DEAD);
    CHECK_EQ(bench_take_events(), UN_TCP_EVENT_READABLE | UN_TCP_EVENT_EOF);
    CHECK_EQ(bench_read(99), 99);
    CHECK_EQ(bench_take_events(), 0);
    CHECK_EQ(bench_read(1), 1);
    CHECK_EQ(bench_take_events(), UN_TCP_EVENT_CLOSED);
    CHECK(un_tcp_is_eof(&bench->tcb));
}

static void unread_data_outlives_time_wait(void)
{
    bench_establish();
    shut_down();
    bench_ignore();
    SEND(.flags = ACK | FIN, .seq = 1, .ack = 2, .length = 100);
    bench_ignore();
    CHECK_EQ(bench_take_events(), UN_TCP_EVENT_READABLE | UN_TCP_EVENT_EOF);
    ADVANCE_MS(61000);
    CHECK_EQ(bench->tcb.state, UN_TCP_DEAD);
    CHECK_EQ(bench_take_events(), 0);
    CHECK_EQ(bench_read(1000), 100);
    CHECK_EQ(bench_take_events(), UN_TCP_EVENT_CLOSED);
}

static void unread_data_outlives_a_reset(void)
{
    bench_establish();
    SEND(.flags = ACK, .seq = 1, .ack = 1, .length = 100);
    bench_take_events();
    SEND(.flags = RST, .seq = 101);
    CHECK_EQ(bench_take_events(), UN_TCP_EVENT_CLOSED);
    CHECK_EQ(un_tcp_reason(&bench->tcb), UN_TCP_REASON_RESET);
    CHECK_EQ(bench_read(1000), 100);
    CHECK_EQ(bench_take_events(), 0);
    CHECK_EQ(bench_write(1), -104);
    CHECK_EQ(bench->counters.established_resets, 1);
}

/* ---- close and abort ---- */

static void close_sends_what_was_written(void)
{
    bench_establish();
    bench_write(3 * MSS);
    bench_ignore();
    bench_write(10);
    close_it();
    bench_ignore();
    SEND(.flags = ACK, .seq = 1, .ack = 12 + 3 * MSS);
    CHECK_EQ(bench->tcb.state, UN_TCP_FIN_WAIT_2);
    SEND(.flags = ACK | FIN, .seq = 1, .ack = 12 + 3 * MSS);
    EXPECT(.flags = ACK, .seq = 12 + 3 * MSS, .ack = 2);
    CHECK_EQ(bench_take_events(), 0);
    ADVANCE_MS(60001);
    CHECK(bench->is_ended);
}

static void close_with_unread_data_resets(void)
{
    bench_establish();
    SEND(.flags = ACK, .seq = 1, .ack = 1, .length = 100);
    bench_take_events();
    close_it();
    EXPECT(.flags = RST | ACK, .seq = 1, .ack = 101);
    CHECK(bench->is_ended);
    CHECK_EQ(bench_take_events(), 0);
}

static void data_after_close_is_reset(void)
{
    bench_establish();
    close_it();
    EXPECT(.flags = ACK | FIN, .seq = 1, .ack = 1);
    SEND(.flags = ACK, .seq = 1, .ack = 2);
    SEND(.flags = ACK, .seq = 1, .ack = 2, .length = 10);
    EXPECT(.flags = RST | ACK, .seq = 2, .ack = 1);
    CHECK(bench->is_ended);
    CHECK_EQ(bench->drop, UN_DROP_tcp_after_close);
}

static void peer_that_never_closes_is_left(void)
{
    bench_establish();
    close_it();
    EXPECT(.flags = ACK | FIN, .seq = 1, .ack = 1);
    SEND(.flags = ACK, .seq = 1, .ack = 2);
    ADVANCE_MS(59000);
    CHECK(!bench->is_ended);
    ADVANCE_MS(1001);
    NOTHING();
    CHECK(bench->is_ended);
}

static void closing_in_fin_wait_2_bounds_it(void)
{
    bench_establish();
    shut_down();
    bench_ignore();
    SEND(.flags = ACK, .seq = 1, .ack = 2);
    ADVANCE_MS(3600000);
    CHECK_EQ(bench->tcb.state, UN_TCP_FIN_WAIT_2);
    close_it();
    ADVANCE_MS(60001);
    CHECK(bench->is_ended);
}

static void close_in_close_wait(void)
{
    bench_establish();
    SEND(.flags = ACK | FIN, .seq = 1, .ack = 1);
    bench_ignore();
    close_it();
    EXPECT(.flags = ACK | FIN, .seq = 1, .ack = 2);
    SEND(.flags = ACK, .seq = 2, .ack = 2);
    CHECK(bench->is_ended);
}

static void abort_resets(void)
{
    bench_establish();
    bench_write(100);
    bench_ignore();
    un_tcp_abort(&bench->tcp, &bench->tcb, UN_TCP_REASON_ABORTED);
    EXPECT(.flags = RST | ACK, .seq = 101, .ack = 1);
    CHECK(bench->is_ended);
    CHECK_EQ(bench_take_events(), 0);
    CHECK_EQ(bench->counters.out_resets, 1);
}

static void abort_behind_a_window_that_was_taken_back(void)
{
    bench_establish();
    bench_write(100);
    bench_ignore();
    SEND(.flags = ACK, .seq = 1, .ack = 41, .wnd = UINT16_MAX);
    un_tcp_abort(&bench->tcp, &bench->tcb, UN_TCP_REASON_ABORTED);
    EXPECT(.flags = RST | ACK, .seq = 41, .ack = 1);
}

static void abort_for_another_reason_is_told(void)
{
    bench_establish();
    un_tcp_abort(&bench->tcp, &bench->tcb, UN_TCP_REASON_TIMEOUT);
    EXPECT(.flags = RST | ACK, .seq = 1, .ack = 1);
    CHECK_EQ(bench->tcb.state, UN_TCP_DEAD);
    CHECK_EQ(bench_take_events(), UN_TCP_EVENT_CLOSED);
    CHECK_EQ(un_tcp_reason(&bench->tcb), UN_TCP_REASON_TIMEOUT);
}

static void dead_one_answers_as_closed_does(void)
{
    bench_establish();
    un_tcp_abort(&bench->tcp, &bench->tcb, UN_TCP_REASON_TIMEOUT);
    bench_ignore();
    SEND(.flags = ACK, .seq = 1, .ack = 1, .length = 10);
    EXPECT(.flags = RST, .seq = 1);
    SEND(.flags = RST, .seq = 1);
    NOTHING();
}

static void unreachable_peer_is_given_up_while_closing(void)
{
    bench_establish();
    close_it();
    for (uint32_t i = 0; i < 600 && !bench->is_ended; i++) {
        bench_ignore();
        ADVANCE_MS(1000);
    }
    EXPECT(.flags = RST | ACK, .seq = 2, .ack = 1);
    CHECK(bench->is_ended);
}

int main(void)
{
    TEST(peer_closes_first);
    TEST(we_close_first);
    TEST(fin_with_the_ack_of_ours);
    TEST(both_close_at_once);
    TEST(half_close_goes_on_receiving);
    TEST(fin_out_of_order_is_held);
    TEST(fin_alone_out_of_order_is_held);
    TEST(payload_behind_a_fin_is_no_payload);
    TEST(payload_that_came_before_a_fin_in_front_of_it);
    TEST(repeated_fin_is_acknowledged_again);
    TEST(time_wait_repeats_the_last_ack);
    TEST(time_wait_is_ended_by_an_exact_reset_alone);
    TEST(newer_syn_may_reuse);
    TEST(newer_timestamp_may_reuse);
    TEST(unread_data_outlives_the_connection);
    TEST(unread_data_outlives_time_wait);
    TEST(unread_data_outlives_a_reset);
    TEST(close_sends_what_was_written);
    TEST(close_with_unread_data_resets);
    TEST(data_after_close_is_reset);
    TEST(peer_that_never_closes_is_left);
    TEST(closing_in_fin_wait_2_bounds_it);
    TEST(close_in_close_wait);
    TEST(abort_resets);
    TEST(abort_behind_a_window_that_was_taken_back);
    TEST(abort_for_another_reason_is_told);
    TEST(dead_one_answers_as_closed_does);
    TEST(unreachable_peer_is_given_up_while_closing);
    return 0;
}
