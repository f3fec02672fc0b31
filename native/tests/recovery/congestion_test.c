/* Congestion windows: initial, slow start, avoidance, reduction, restart, ECN (rows 59 to 62 and 64 of the RFC
 * checklist: RFC 6928, 5681, 3465, 7661, 9406, 9438, 3168). */
#include <math.h>

#include "sender.h"

#define ROUND_US 100000u

static uint32_t acked_to;

static void begin(uint32_t flags, uint32_t congestion)
{
    open_sender(flags, congestion);
    measure_us(ROUND_US);
    acked_to = 0;
}

/* Fill cwnd, wait a round trip, and have it all acknowledged, a segment at a time. */
static void full_round(uint32_t us)
{
    uint32_t end;
    write_bytes(sender.tcb.cwnd - sender.tcb.in_flight);
    end = relative(sender.tcb.snd_nxt);
    wait_us(us);
    while (acked_to < end) {
        acked_to = acked_to + MSS < end ? acked_to + MSS : end;
        receive_ack(acked_to, NO_SACK);
    }
    forget_log();
}

static uint32_t initial_window(uint16_t mss)
{
    open_sender_at(0, UN_CONGESTION_RENO, 1, mss);
    return sender.tcb.cwnd;
}

static void the_initial_window_is_that_of_rfc_6928(void)
{
    CHECK_EQ(initial_window(536), 5360);
    CHECK_EQ(initial_window(1460), 14600);
    CHECK_EQ(initial_window(2190), 14600);
    CHECK_EQ(initial_window(8960), 17920);
    open_sender(0, UN_CONGESTION_RENO);
    write_bytes(20 * MSS);
    for (uint32_t i = 0; i < 10; i++)
        EXPECT_SENT(i * MSS, MSS);
    EXPECT_NOTHING();
}

static void a_handshake_of_three_tries_gets_one_segment(void)
{
    open_sender(0, UN_CONGESTION_RENO);
    sender.tcb.retransmitted = 2;
    un_recovery_established(&sender.tcp, &sender.tcb);
    CHECK_EQ(sender.tcb.cwnd, MSS);
}

static void slow_start_doubles_in_a_round_trip(uint32_t congestion)
{
    begin(0, congestion);
    full_round(ROUND_US);
    CHECK_EQ(sender.tcb.cwnd, 20 * MSS);
    full_round(ROUND_US);
    CHECK_EQ(sender.tcb.cwnd, 40 * MSS);
}

static void slow_start_doubles(void)
{
    slow_start_doubles_in_a_round_trip(UN_CONGESTION_RENO);
    slow_start_doubles_in_a_round_trip(UN_CONGESTION_CUBIC);
}

static void many_acks_of_little_are_worth_as_much_as_one(void)
{
    begin(0, UN_CONGESTION_RENO);
    write_bytes(10 * MSS);
    wait_us(ROUND_US);
    for (uint32_t i = 1; i <= 100; i++)
        receive_ack(i * MSS / 100, NO_SACK);
    CHECK_EQ(sender.tcb.cwnd, 11 * MSS);
}

static void one_ack_of_much_is_worth_eight_segments_at_most(void)
{
    begin(0, UN_CONGESTION_RENO);
    write_bytes(10 * MSS);
    wait_us(ROUND_US);
    receive_ack(10 * MSS, NO_SACK);
    CHECK_EQ(sender.tcb.cwnd, 18 * MSS);
}

static void an_unused_window_does_not_grow(void)
{
    for (uint32_t congestion = 0; congestion < UN_CONGESTIONS; congestion++) {
        begin(0, congestion);
        for (uint32_t i = 1; i <= 50; i++) {
            write_bytes(2 * MSS);
            wait_us(ROUND_US);
            receive_ack(2 * i * MSS, NO_SACK);
        }
        CHECK_EQ(sender.tcb.cwnd, 10 * MSS);
    }
}

static void reno_adds_a_segment_in_a_round_trip(void)
{
    begin(0, UN_CONGESTION_RENO);
    sender.tcb.ssthresh = 10 * MSS;
    for (uint32_t i = 1; i <= 20; i++) {
        full_round(ROUND_US);
        CHECK_EQ(sender.tcb.cwnd, (10 + i) * MSS);
    }
}

/* A loss while cwnd is so many segments. */
static void lose(uint32_t segments)
{
    sender.tcb.cwnd = segments * MSS;
    write_bytes(segments * MSS);
    wait_us(ROUND_US);
    receive_ack(acked_to, SACK(acked_to + MSS, acked_to + 4 * MSS));
    CHECK(sender.tcb.flags & UN_TCB_RECOVERY);
    acked_to += segments * MSS;
    receive_ack(acked_to, NO_SACK);
    CHECK(!(sender.tcb.flags & UN_TCB_RECOVERY));
}

static void a_loss_halves_renos_window_and_leaves_cubic_seven_tenths(void)
{
    begin(UN_TCB_SACK, UN_CONGESTION_RENO);
    lose(100);
    CHECK_EQ(sender.tcb.cwnd, 50 * MSS);
    CHECK_EQ(sender.tcb.ssthresh, 50 * MSS);
    begin(UN_TCB_SACK, UN_CONGESTION_CUBIC);
    lose(100);
    CHECK_EQ(sender.tcb.cwnd, 70 * MSS);
    CHECK_EQ(sender.tcb.ssthresh, 70 * MSS);
}

static void a_window_that_was_not_used_is_not_what_is_halved(void)
{
    begin(UN_TCB_SACK, UN_CONGESTION_RENO);
    sender.tcb.cwnd = 100 * MSS;
    write_bytes(20 * MSS);
    wait_us(ROUND_US);
    receive_ack(0, SACK(MSS, 4 * MSS));
    CHECK_EQ(sender.tcb.ssthresh, 10 * MSS);
}

static void a_timeout_leaves_one_segment(void)
{
    begin(0, UN_CONGESTION_CUBIC);
    write_bytes(20 * MSS);
    forget_log();
    wait_us(300000);
    EXPECT_RESENT(0, MSS);
    EXPECT_NOTHING();
    CHECK_EQ(sender.tcb.ssthresh, 7 * MSS);
    wait_us(600000);
    EXPECT_RESENT(0, MSS);
    EXPECT_NOTHING();
    CHECK_EQ(sender.tcb.ssthresh, 7 * MSS); /* the same segment */
    wait_us(ROUND_US);
    receive_ack(10 * MSS, NO_SACK); /* it had all arrived: worth one segment */
    CHECK_EQ(sender.tcb.cwnd, 2 * MSS);
}

static void silence_brings_back_the_initial_window(void)
{
    for (uint32_t congestion = 0; congestion < UN_CONGESTIONS; congestion++) {
        begin(0, congestion);
        for (int i = 0; i < 4; i++)
            full_round(ROUND_US);
        CHECK(sender.tcb.cwnd >= 100 * MSS);
        wait_us(10000000);
        write_bytes(200 * MSS);
        CHECK_EQ(sender.tcb.in_flight, 10 * MSS);
    }
}

static void ecn_reduces_once_in_a_round_trip(void)
{
    begin(UN_TCB_ECN | UN_TCB_SACK, UN_CONGESTION_RENO);
    sender.tcb.cwnd = 20 * MSS;
    write_bytes(20 * MSS);
    wait_us(ROUND_US);
    un_recovery_congestion(&sender.tcp, &sender.tcb);
    CHECK_EQ(sender.tcb.cwnd, 10 * MSS);
    CHECK(sender.tcb.flags & UN_TCB_CWR);
    un_recovery_congestion(&sender.tcp, &sender.tcb);
    receive_ack(5 * MSS, NO_SACK);
    un_recovery_congestion(&sender.tcp, &sender.tcb);
    CHECK_EQ(sender.tcb.ssthresh, 10 * MSS);
    receive_ack(5 * MSS, SACK(6 * MSS, 12 * MSS)); /* a loss in the same window */
    CHECK(sender.tcb.flags & UN_TCB_RECOVERY);
    CHECK_EQ(sender.tcb.ssthresh, 10 * MSS);
    receive_ack(20 * MSS, NO_SACK);
    write_bytes(20 * MSS);
    un_recovery_congestion(&sender.tcp, &sender.tcb);
    CHECK_EQ(sender.tcb.ssthresh, 5 * MSS);
}

/* ---- CUBIC ---- */

static double cubic_window(double w_max, double cwnd, double seconds)
{
    double k = cbrt((w_max - cwnd) / 0.4), at = seconds - k;
    return 0.4 * at * at * at + w_max;
}

/* A loss at so many segments, and then the curve for so long. */
static void follow_cubic(uint32_t segments, uint32_t rtt_us, double seconds)
{
    begin(UN_TCB_SACK, UN_CONGESTION_CUBIC);
    lose(segments);
    uint64_t start_ns = 0;
    for (;;) {
        full_round(rtt_us);
        if (start_ns == 0)
            start_ns = sender.tcp.now_ns;
        double at = (double)(sender.tcp.now_ns - start_ns) / 1e9;
        double formula = cubic_window(segments, 0.7 * segments, at + rtt_us / 1e6), is = sender.tcb.cwnd / (double)MSS;
        if (at > seconds)
            return;
        CHECK(is >= 0.95 * formula && is <= 1.05 * formula);
    }
}

static void cubic_grows_as_the_formula_says(void)
{
    follow_cubic(200, 100000, 8); /* K is 5.3 s */
    follow_cubic(400, 60000, 9);  /* 6.7 s */
}

static void short_round_trips_make_it_grow_like_reno(void)
{
    begin(UN_TCB_SACK, UN_CONGESTION_CUBIC);
    lose(50);
    for (int round = 0; round < 28; round++)
        full_round(5000);
    /* 9/17 of a segment in a round trip until 50; the cubic function would be at 35.3 after 0.14 s */
    CHECK(sender.tcb.cwnd >= 48 * MSS && sender.tcb.cwnd <= 52 * MSS);
}

static void fast_convergence_gives_way(void)
{
    begin(UN_TCB_SACK, UN_CONGESTION_CUBIC);
    lose(100);
    CHECK_EQ(sender.tcb.cc_state[1], 100 * MSS);
    lose(80);
    CHECK_EQ(sender.tcb.cc_state[1], 68 * MSS); /* 0.85 of 80 */
}

static void nothing_jumps_after_a_pause(void)
{
    begin(UN_TCB_SACK, UN_CONGESTION_CUBIC);
    sender.config.initial_window = 200;
    lose(100);
    full_round(ROUND_US);
    uint32_t before = sender.tcb.cwnd;
    wait_us(60000000);
    full_round(ROUND_US);
    CHECK(sender.tcb.cwnd >= before && sender.tcb.cwnd <= before + 5 * MSS);
}

static void slow_start_ends_when_round_trips_grow(void)
{
    begin(0, UN_CONGESTION_CUBIC);
    full_round(ROUND_US);
    full_round(ROUND_US);
    CHECK_EQ(sender.tcb.cwnd, 40 * MSS);
    full_round(ROUND_US + 20000);
    CHECK(sender.tcb.cwnd < 60 * MSS); /* a quarter of the growth, after the eighth sample */
    CHECK_EQ(sender.tcb.ssthresh, UINT32_MAX);
    for (int round = 0; round < 5; round++)
        full_round(ROUND_US + 20000);
    CHECK(sender.tcb.ssthresh < 250 * MSS);
}

static void a_false_alarm_is_forgotten(void)
{
    begin(0, UN_CONGESTION_CUBIC);
    full_round(ROUND_US);
    full_round(ROUND_US);
    full_round(ROUND_US + 20000);
    uint32_t before = sender.tcb.cwnd;
    full_round(ROUND_US);
    CHECK(sender.tcb.cwnd > before + before / 2);
}

int main(void)
{
    RUN(the_initial_window_is_that_of_rfc_6928);
    RUN(a_handshake_of_three_tries_gets_one_segment);
    RUN(slow_start_doubles);
    RUN(many_acks_of_little_are_worth_as_much_as_one);
    RUN(one_ack_of_much_is_worth_eight_segments_at_most);
    RUN(an_unused_window_does_not_grow);
    RUN(reno_adds_a_segment_in_a_round_trip);
    RUN(a_loss_halves_renos_window_and_leaves_cubic_seven_tenths);
    RUN(a_window_that_was_not_used_is_not_what_is_halved);
    RUN(a_timeout_leaves_one_segment);
    RUN(silence_brings_back_the_initial_window);
    RUN(ecn_reduces_once_in_a_round_trip);
    RUN(cubic_grows_as_the_formula_says);
    RUN(short_round_trips_make_it_grow_like_reno);
    RUN(fast_convergence_gives_way);
    RUN(nothing_jumps_after_a_pause);
    RUN(slow_start_ends_when_round_trips_grow);
    RUN(a_false_alarm_is_forgotten);
    return 0;
}
