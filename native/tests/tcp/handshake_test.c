/* The handshake: RFC 9293 sections 3.5 and 3.10.7.2 to 4, options, refusals, limits. */
#include "harness.h"

#define ALL_OPTIONS (UN_SEG_MSS | UN_SEG_WSCALE | UN_SEG_SACK_PERMITTED | UN_SEG_TIMESTAMP)

static void passive_open(void)
{
    bench_listen((struct un_seg){.options = UN_SEG_MSS, .mss = MSS});
    struct un_seg *answer = EXPECT(.flags = SYN | ACK, .seq = 0, .ack = 1, .wnd = 65535);
    CHECK_EQ(answer->options, UN_SEG_MSS);
    CHECK_EQ(answer->mss, MTU - 40);
    CHECK_EQ(bench_take_events(), 0);
    SEND(.flags = ACK, .seq = 1, .ack = 1);
    NOTHING();
    CHECK_EQ(bench->tcb.state, UN_TCP_ESTABLISHED);
    CHECK_EQ(bench_take_events(), UN_TCP_EVENT_ACCEPTED);
    CHECK_EQ(bench->tcb.snd_wnd, PEER_WINDOW);
    CHECK_EQ(bench->counters.passive_opens, 1);
}

static void all_options_are_agreed_on(void)
{
    bench->config.rcv_limit = 1 << 17;
    bench_listen((struct un_seg){.options = ALL_OPTIONS, .mss = 1400, .wscale = 7, .tsval = 5000});
    struct un_seg *answer = EXPECT(.flags = SYN | ACK, .seq = 0, .ack = 1, .wnd = 65535);
    CHECK_EQ(answer->options, ALL_OPTIONS);
    CHECK_EQ(answer->wscale, 2);
    CHECK_EQ(answer->tsecr, 5000);
    SEND(.flags = ACK, .seq = 1, .ack = 1, .wnd = 1000, .options = UN_SEG_TIMESTAMP, .tsval = 5001,
         .tsecr = answer->tsval);
    CHECK_EQ(bench->tcb.state, UN_TCP_ESTABLISHED);
    CHECK_EQ(bench->tcb.snd_wnd, 1000 << 7);
    CHECK_EQ(bench->tcb.snd_mss, 1400);
    bench_write(3000);
    answer = EXPECT(.flags = ACK, .seq = 1, .ack = 1, .length = 1388, .wnd = (1 << 17) >> 2);
    CHECK_EQ(answer->options, UN_SEG_TIMESTAMP);
    CHECK_EQ(answer->tsecr, 5001);
    bench_ignore();
}

static void scale_beyond_14_is_14(void)
{
    bench_listen((struct un_seg){.options = ALL_OPTIONS, .mss = 1400, .wscale = 15});
    bench_ignore();
    CHECK_EQ(bench->tcb.snd_wscale, 14);
}

static void options_that_are_off_are_not_offered(void)
{
    bench->config.window_scaling = bench->config.timestamps = bench->config.sack = false;
    bench->config.rcv_limit = 1 << 20;
    bench_listen((struct un_seg){.options = ALL_OPTIONS, .mss = 1400, .wscale = 7, .tsval = 5000});
    CHECK_EQ(EXPECT(.flags = SYN | ACK, .seq = 0, .ack = 1, .wnd = 65535)->options, UN_SEG_MSS);
    CHECK_EQ(bench->tcb.rcv_wscale, 0);
    CHECK_EQ(bench->tcb.snd_wscale, 0);
}

static void without_mss_segments_are_of_536(void)
{
    bench_establish_with(0);
    bench_write(2000);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1, .length = 536);
    EXPECT(.flags = ACK, .seq = 537, .ack = 1, .length = 536);
    EXPECT(.flags = ACK, .seq = 1073, .ack = 1, .length = 536);
    EXPECT(.flags = ACK | PSH, .seq = 1609, .ack = 1, .length = 392);
}

static void timestamps_shorten_segments(void)
{
    bench_establish_with(UN_SEG_TIMESTAMP);
    bench_write(536);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1, .length = 524);
    EXPECT(.flags = ACK | PSH, .seq = 525, .ack = 1, .length = 12);
}

static void addresses_of_ipv6_leave_less_room(void)
{
    const uint8_t peer[16] = {0xfe, 0x80, [15] = 2};
    bench->tcb.peer = un_ip_from_v6(peer);
    bench_listen((struct un_seg){.flags = 0});
    CHECK_EQ(EXPECT(.flags = SYN | ACK, .seq = 0, .ack = 1)->mss, MTU - 60);
    CHECK_EQ(bench->tcb.snd_mss, 1220);
}

static void tiny_mss_is_raised(void)
{
    bench_listen((struct un_seg){.options = UN_SEG_MSS, .mss = 1});
    bench_ignore();
    CHECK_EQ(bench->tcb.snd_mss, 64);
}

static void active_open(void)
{
    bench_connect();
    struct un_seg *syn = EXPECT(.flags = SYN | ECE | CWR, .seq = 0, .ack = 0, .wnd = 65535);
    CHECK_EQ(syn->options, ALL_OPTIONS);
    SEND(.flags = SYN | ACK, .seq = 0, .ack = 1, .options = UN_SEG_MSS, .mss = 1000);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1);
    CHECK_EQ(bench->tcb.state, UN_TCP_ESTABLISHED);
    CHECK_EQ(bench_take_events(), UN_TCP_EVENT_CONNECTED);
    CHECK_EQ(bench->tcb.snd_mss, 1000);
    CHECK_EQ(bench->tcb.flags & (UN_TCB_WSCALE | UN_TCB_SACK | UN_TCB_TIMESTAMP | UN_TCB_ECN), 0);
}

static void syn_ack_may_carry_payload_and_fin(void)
{
    bench_connect();
    bench_ignore();
    SEND(.flags = SYN | ACK | FIN, .seq = 0, .ack = 1, .length = 0);
    EXPECT(.flags = ACK, .seq = 1, .ack = 2);
    CHECK_EQ(bench->tcb.state, UN_TCP_CLOSE_WAIT);
    CHECK_EQ(bench_take_events(), UN_TCP_EVENT_CONNECTED | UN_TCP_EVENT_EOF);
}

static void syn_ack_may_carry_payload(void)
{
    bench_connect();
    bench_ignore();
    struct un_seg seg = {.flags = SYN | ACK, .seq = bench_base + 77, .ack = bench_base + 1, .length = 1, .wnd = 1000};
    uint32_t frame = un_pool_take(&bench->tcp.pool);
    bench->frames[frame].length = 1; /* the first byte, which the bench's peer would place before the SYN */
    CHECK_EQ(un_tcp_process(&bench->tcp, &bench->tcb, &seg, frame), UN_DROP_NONE);
    bench_dispatch();
    EXPECT(.flags = ACK, .seq = 1, .ack = 2);
    CHECK_EQ(bench_read(10), 1);
}

static void answer_to_a_syn_sent_again(void)
{
    bench_connect();
    bench_ignore();
    ADVANCE_MS(1100);
    EXPECT(.flags = SYN, .seq = 0);
    SEND(.flags = SYN | ACK, .seq = 0, .ack = 1, .options = UN_SEG_MSS, .mss = MSS);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1);
    CHECK_EQ(bench->tcb.rto_us, 3000000); /* RFC 6298 (5.7) */
    CHECK_EQ(bench->tcb.backoff, 0);
}

static void simultaneous_open(void)
{
    bench_connect();
    EXPECT(.flags = SYN | ECE | CWR, .seq = 0);
    SEND(.flags = SYN, .seq = 0, .options = UN_SEG_MSS, .mss = MSS);
    EXPECT(.flags = SYN | ACK, .seq = 0, .ack = 1);
    CHECK_EQ(bench->tcb.state, UN_TCP_SYN_RECEIVED);
    SEND(.flags = ACK, .seq = 1, .ack = 1);
    NOTHING();
    CHECK_EQ(bench->tcb.state, UN_TCP_ESTABLISHED);
    CHECK_EQ(bench_take_events(), UN_TCP_EVENT_CONNECTED);
}

static void simultaneous_open_ends_with_the_other_syn_ack(void)
{
    bench_connect();
    bench_ignore();
    SEND(.flags = SYN, .seq = 0);
    EXPECT(.flags = SYN | ACK, .seq = 0, .ack = 1);
    SEND(.flags = SYN | ACK, .seq = 0, .ack = 1);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1);
    CHECK_EQ(bench->tcb.state, UN_TCP_ESTABLISHED);
}

static void refused(void)
{
    bench_connect();
    bench_ignore();
    SEND(.flags = RST | ACK, .seq = 0, .ack = 2); /* not of this SYN */
    CHECK_EQ(bench->tcb.state, UN_TCP_SYN_SENT);
    SEND(.flags = RST, .seq = 0);
    CHECK_EQ(bench->tcb.state, UN_TCP_SYN_SENT);
    SEND(.flags = RST | ACK, .seq = 0, .ack = 1);
    NOTHING();
    CHECK_EQ(bench->tcb.state, UN_TCP_DEAD);
    CHECK_EQ(un_tcp_reason(&bench->tcb), UN_TCP_REASON_REFUSED);
    CHECK_EQ(bench_take_events(), UN_TCP_EVENT_CLOSED);
    CHECK_EQ(bench_write(1), -111);
}

static void wrong_ack_in_syn_sent_is_reset(void)
{
    bench_connect();
    bench_ignore();
    SEND(.flags = SYN | ACK, .seq = 0, .ack = 2);
    EXPECT(.flags = RST, .seq = 2);
    SEND(.flags = ACK, .seq = 0, .ack = 0);
    EXPECT(.flags = RST, .seq = 0);
    SEND(.flags = ACK, .seq = 0, .ack = 1); /* neither SYN nor RST */
    NOTHING();
    CHECK_EQ(bench->tcb.state, UN_TCP_SYN_SENT);
}

static void lost_syn_is_sent_again_and_given_up(void)
{
    bench_connect();
    EXPECT(.flags = SYN | ECE | CWR, .seq = 0);
    ADVANCE_MS(990);
    NOTHING();
    ADVANCE_MS(20);
    EXPECT(.flags = SYN, .seq = 0); /* without ECN: perhaps that was the reason */
    for (uint32_t wait_s = 2; wait_s <= 32; wait_s *= 2) {
        ADVANCE_MS(wait_s * 1000 - 20);
        NOTHING();
        ADVANCE_MS(20);
        EXPECT(.flags = SYN, .seq = 0);
    }
    ADVANCE_MS(63000);
    NOTHING();
    ADVANCE_MS(2000);
    NOTHING();
    CHECK_EQ(bench->tcb.state, UN_TCP_DEAD);
    CHECK_EQ(un_tcp_reason(&bench->tcb), UN_TCP_REASON_TIMEOUT);
    CHECK_EQ(bench->counters.attempt_fails, 1);
}

static void soft_errors_say_why_an_attempt_failed(void)
{
    bench_connect();
    bench_ignore();
    un_tcp_icmp(&bench->tcp, &bench->tcb, UN_TCP_REASON_NONE, 0, bench_base);
    CHECK_EQ(bench->tcb.state, UN_TCP_SYN_SENT);
    for (int i = 0; i < 7; i++) {
        ADVANCE_MS(70000);
        bench_ignore();
    }
    CHECK_EQ(un_tcp_reason(&bench->tcb), UN_TCP_REASON_UNREACHABLE);
}

static void hard_error_refuses(void)
{
    bench_connect();
    bench_ignore();
    enum un_tcp_reason why = UN_TCP_REASON_REFUSED;
    un_tcp_icmp(&bench->tcp, &bench->tcb, why, 0, bench_base + 1); /* of a sequence number never sent */
    CHECK_EQ(bench->tcb.state, UN_TCP_SYN_SENT);
    un_tcp_icmp(&bench->tcp, &bench->tcb, why, 0, bench_base);
    CHECK_EQ(un_tcp_reason(&bench->tcb), UN_TCP_REASON_REFUSED);
}

static void user_timeout_ends_an_attempt(void)
{
    un_tcp_init(&bench->tcp, &bench->tcb, bench_base, 0, MTU, MTU);
    un_tcp_connect(&bench->tcp, &bench->tcb);
    un_tcp_set_user_timeout(&bench->tcp, &bench->tcb, 5000);
    bench_dispatch();
    bench_ignore();
    ADVANCE_MS(1100);
    bench_ignore();
    ADVANCE_MS(3700);
    bench_ignore();
    CHECK_EQ(bench->tcb.state, UN_TCP_SYN_SENT);
    ADVANCE_MS(300);
    CHECK_EQ(un_tcp_reason(&bench->tcb), UN_TCP_REASON_TIMEOUT);
}

static void lost_syn_ack_is_sent_again_and_given_up(void)
{
    bench->config.syn_ack_retries = 3;
    bench_listen((struct un_seg){.options = UN_SEG_MSS, .mss = MSS});
    EXPECT(.flags = SYN | ACK, .seq = 0, .ack = 1);
    ADVANCE_MS(10);
    for (uint32_t wait_s = 1; wait_s <= 4; wait_s *= 2) {
        ADVANCE_MS(wait_s * 1000 - 20);
        NOTHING();
        ADVANCE_MS(20);
        EXPECT(.flags = SYN | ACK, .seq = 0, .ack = 1);
    }
    ADVANCE_MS(9000);
    NOTHING();
    CHECK(bench->is_ended);
    CHECK_EQ(bench_take_events(), 0); /* the application never knew */
}

static void repeated_syn_has_the_same_answer(void)
{
    bench_listen((struct un_seg){.options = UN_SEG_MSS, .mss = MSS});
    EXPECT(.flags = SYN | ACK, .seq = 0, .ack = 1);
    SEND(.flags = SYN, .seq = 0, .options = UN_SEG_MSS, .mss = MSS);
    EXPECT(.flags = SYN | ACK, .seq = 0, .ack = 1);
}

static void wrong_ack_in_syn_received_is_reset(void)
{
    bench_listen((struct un_seg){.options = UN_SEG_MSS, .mss = MSS});
    bench_ignore();
    SEND(.flags = ACK, .seq = 1, .ack = 5);
    EXPECT(.flags = RST, .seq = 5);
    CHECK_EQ(bench->tcb.state, UN_TCP_SYN_RECEIVED);
    SEND(.flags = 0, .seq = 1, .length = 10);
    NOTHING();
    CHECK_EQ(bench->drop, UN_DROP_tcp_no_ack);
}

static void reset_in_syn_received_is_silent(void)
{
    bench_listen((struct un_seg){.options = UN_SEG_MSS, .mss = MSS});
    bench_ignore();
    SEND(.flags = RST, .seq = 2);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1);
    SEND(.flags = RST, .seq = 1);
    NOTHING();
    CHECK(bench->is_ended);
    CHECK_EQ(bench_take_events(), 0);
}

static void last_ack_of_the_handshake_may_carry_payload_and_fin(void)
{
    bench_listen((struct un_seg){.options = UN_SEG_MSS, .mss = MSS});
    bench_ignore();
    SEND(.flags = ACK | FIN, .seq = 1, .ack = 1, .length = 20);
    EXPECT(.flags = ACK, .seq = 1, .ack = 22);
    CHECK_EQ(bench->tcb.state, UN_TCP_CLOSE_WAIT);
    CHECK_EQ(bench_take_events(), UN_TCP_EVENT_ACCEPTED | UN_TCP_EVENT_READABLE | UN_TCP_EVENT_EOF);
    CHECK_EQ(bench_read(100), 20);
}

static void shutdown_before_the_connection_is_there(void)
{
    bench_connect();
    bench_ignore();
    CHECK_EQ(bench_write(1), -107);
    un_tcp_shutdown(&bench->tcp, &bench->tcb);
    bench_dispatch();
    NOTHING();
    SEND(.flags = SYN | ACK, .seq = 0, .ack = 1);
    EXPECT(.flags = ACK | FIN, .seq = 1, .ack = 1);
    CHECK_EQ(bench->tcb.state, UN_TCP_FIN_WAIT_1);
}

static void close_while_connecting_is_silent(void)
{
    bench_connect();
    bench_ignore();
    un_tcp_close(&bench->tcp, &bench->tcb);
    NOTHING();
    CHECK(bench->is_ended);
}

static void ecn_is_negotiated(void)
{
    bench_listen((struct un_seg){.flags = ECE | CWR});
    EXPECT(.flags = SYN | ACK | ECE, .seq = 0, .ack = 1);
    CHECK(bench->tcb.flags & UN_TCB_ECN);
}

static void ecn_needs_both_flags(void)
{
    bench_listen((struct un_seg){.flags = ECE});
    EXPECT(.flags = SYN | ACK, .seq = 0, .ack = 1);
    CHECK(!(bench->tcb.flags & UN_TCB_ECN));
}

static void blocked_syn_leaves_later(void)
{
    bench->is_blocked = true;
    bench_connect();
    CHECK(bench->wants_output);
    NOTHING();
    bench->is_blocked = false;
    bench_dispatch();
    EXPECT(.flags = SYN | ECE | CWR, .seq = 0);
}

static void without_records_the_syn_waits(void)
{
    uint32_t free_count = bench->sent_pool.free_count;
    bench->sent_pool.free_count = 0;
    bench_connect();
    NOTHING();
    bench->sent_pool.free_count = free_count;
    ADVANCE_MS(1100);
    EXPECT(.flags = SYN | ECE | CWR, .seq = 0);
}

int main(void)
{
    TEST(passive_open);
    TEST(all_options_are_agreed_on);
    TEST(scale_beyond_14_is_14);
    TEST(options_that_are_off_are_not_offered);
    TEST(without_mss_segments_are_of_536);
    TEST(timestamps_shorten_segments);
    TEST(addresses_of_ipv6_leave_less_room);
    TEST(tiny_mss_is_raised);
    TEST(active_open);
    TEST(syn_ack_may_carry_payload_and_fin);
    TEST(syn_ack_may_carry_payload);
    TEST(answer_to_a_syn_sent_again);
    TEST(simultaneous_open);
    TEST(simultaneous_open_ends_with_the_other_syn_ack);
    TEST(refused);
    TEST(wrong_ack_in_syn_sent_is_reset);
    TEST(lost_syn_is_sent_again_and_given_up);
    TEST(soft_errors_say_why_an_attempt_failed);
    TEST(hard_error_refuses);
    TEST(user_timeout_ends_an_attempt);
    TEST(lost_syn_ack_is_sent_again_and_given_up);
    TEST(repeated_syn_has_the_same_answer);
    TEST(wrong_ack_in_syn_received_is_reset);
    TEST(reset_in_syn_received_is_silent);
    TEST(last_ack_of_the_handshake_may_carry_payload_and_fin);
    TEST(shutdown_before_the_connection_is_there);
    TEST(close_while_connecting_is_silent);
    TEST(ecn_is_negotiated);
    TEST(ecn_needs_both_flags);
    TEST(blocked_syn_leaves_later);
    TEST(without_records_the_syn_waits);
    return 0;
}
