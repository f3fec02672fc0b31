/* Round trips and retransmission timeouts (rows 57 and 58 of the RFC checklist: RFC 6298, 7323). */
#include "sender.h"

static uint64_t rto_us(void)
{
    return un_recovery_rto_ns(&sender.tcp, &sender.tcb) / UN_US_NS;
}

/* Send a segment, and have it acknowledged after so long. */
static void round_trip(uint32_t us)
{
    uint32_t end = relative(sender.tcb.snd_nxt) + MSS;
    write_bytes(MSS);
    wait_us(us);
    receive_ack(end, NO_SACK);
}

static void the_first_sample_sets_everything(void)
{
    open_sender(0, UN_CONGESTION_RENO);
    CHECK_EQ(rto_us(), 1000000);
    round_trip(100000);
    CHECK_EQ(sender.tcb.srtt_us, 100000);
    CHECK_EQ(sender.tcb.rttvar_us, 50000);
    CHECK_EQ(rto_us(), 300000);
}

static void later_samples_are_smoothed(void)
{
    open_sender(0, UN_CONGESTION_RENO);
    uint32_t samples[] = {100000, 180000, 60000, 100000};
    double srtt = 0, rttvar = 0;
    for (unsigned i = 0; i < sizeof samples / sizeof *samples; i++) {
        double sample = samples[i], error = sample > srtt ? sample - srtt : srtt - sample;
        rttvar = i == 0 ? sample / 2 : 0.75 * rttvar + 0.25 * error;
        srtt = i == 0 ? sample : 0.875 * srtt + 0.125 * sample;
        round_trip(samples[i]);
        CHECK(sender.tcb.srtt_us + 2 >= (uint32_t)srtt && sender.tcb.srtt_us <= (uint32_t)srtt + 2);
        CHECK(sender.tcb.rttvar_us + 2 >= (uint32_t)rttvar && sender.tcb.rttvar_us <= (uint32_t)rttvar + 2);
    }
}

static void there_is_one_sample_in_a_round_trip(void)
{
    open_sender(0, UN_CONGESTION_RENO);
    measure_us(100000);
    write_bytes(10 * MSS);
    wait_us(180000);
    for (uint32_t end = 1; end <= 10; end++)
        receive_ack(end * MSS, NO_SACK);
    CHECK_EQ(sender.tcb.srtt_us, 110000);
    round_trip(110000);
    CHECK_EQ(sender.tcb.rttvar_us, 43125); /* 50, 57.5, and a deviation of nothing */
}

static void the_minimum_and_the_maximum_hold(void)
{
    open_sender(0, UN_CONGESTION_RENO);
    round_trip(100);
    CHECK_EQ(rto_us(), 200000);
    un_rtt_sample(&sender.tcp, &sender.tcb, 59000000);
    CHECK_EQ(rto_us(), 60000000);
}

static void each_timeout_doubles_it_up_to_the_maximum(void)
{
    open_sender(0, UN_CONGESTION_RENO);
    measure_us(100000);
    write_bytes(MSS);
    forget_log();
    uint64_t wait = 300000;
    for (int i = 0; i < 12; i++) {
        CHECK_EQ(timer_us(UN_TIMER_RETRANSMIT), wait);
        wait_us(wait);
        EXPECT_RESENT(0, MSS);
        wait = wait * 2 < 60000000 ? wait * 2 : 60000000;
    }
    CHECK_EQ(sender.counters.timeouts, 12);
}

static void the_timer_runs_while_something_is_in_flight_and_starts_anew_with_progress(void)
{
    open_sender(0, UN_CONGESTION_RENO);
    measure_us(100000);
    CHECK_EQ(timer_us(UN_TIMER_RETRANSMIT), UINT64_MAX);
    write_bytes(3 * MSS);
    CHECK_EQ(timer_us(UN_TIMER_RETRANSMIT), 300000);
    wait_us(50000);
    receive_ack(0, NO_SACK);
    CHECK_EQ(timer_us(UN_TIMER_RETRANSMIT), 250000);
    wait_us(50000);
    receive_ack(MSS, NO_SACK);
    CHECK_EQ(timer_us(UN_TIMER_RETRANSMIT), rto_us());
    receive_ack(3 * MSS, NO_SACK);
    CHECK_EQ(timer_us(UN_TIMER_RETRANSMIT), UINT64_MAX);
}

static void what_was_resent_gives_no_sample(void)
{
    open_sender(0, UN_CONGESTION_RENO);
    measure_us(100000);
    write_bytes(MSS);
    wait_us(300000);
    wait_us(10000);
    receive_ack(MSS, NO_SACK);
    CHECK_EQ(sender.tcb.srtt_us, 100000);
    CHECK_EQ(rto_us(), 600000); /* backed off until there is a sample */
    round_trip(100000);
    CHECK_EQ(sender.tcb.backoff, 0);
    CHECK(rto_us() <= 300000);
}

static void a_timestamp_gives_one_even_then(void)
{
    open_sender(UN_TCB_TIMESTAMP, UN_CONGESTION_RENO);
    measure_us(100000);
    write_bytes(900);
    wait_us(300000);
    wait_us(180000);
    receive_ack(900, NO_SACK);
    CHECK_EQ(sender.tcb.srtt_us, 110000); /* 180 ms after the retransmission */
    CHECK_EQ(sender.tcb.backoff, 0);
}

static void a_sacked_segment_gives_one(void)
{
    open_sender(UN_TCB_SACK, UN_CONGESTION_RENO);
    write_bytes(3 * MSS);
    wait_us(70000);
    receive_ack(0, SACK(MSS, 2 * MSS));
    CHECK_EQ(sender.tcb.srtt_us, 70000);
    CHECK_EQ(sender.tcb.min_rtt_us, 70000);
}

static void a_handshake_that_timed_out_means_three_seconds(void)
{
    open_sender(0, UN_CONGESTION_RENO);
    un_recovery_spurious_syn(&sender.tcp, &sender.tcb);
    CHECK_EQ(rto_us(), 3000000);
    open_sender(0, UN_CONGESTION_RENO);
    measure_us(100000); /* a timestamp told */
    un_recovery_spurious_syn(&sender.tcp, &sender.tcb);
    CHECK_EQ(rto_us(), 300000);
}

static void the_smallest_round_trip_is_forgotten_after_a_while(void)
{
    open_sender(0, UN_CONGESTION_RENO);
    round_trip(20000);
    round_trip(50000);
    CHECK_EQ(sender.tcb.min_rtt_us, 20000);
    wait_us(61 * UINT64_C(1000000));
    round_trip(50000);
    CHECK_EQ(sender.tcb.min_rtt_us, 50000);
}

/* The clock in microseconds wraps after 71 minutes, and comparisons hold for half of that. */
static void silence_of_any_length_does_no_harm(void)
{
    for (uint64_t minutes = 1; minutes < 90; minutes += 7) {
        open_sender(UN_TCB_SACK, UN_CONGESTION_CUBIC);
        round_trip(50000);
        wait_us(minutes * 60 * UINT64_C(1000000));
        write_bytes(4 * MSS);
        forget_log();
        wait_us(50000);
        receive_ack(3 * MSS, NO_SACK);
        wait_us(20000);
        receive_ack(5 * MSS, NO_SACK);
        EXPECT_NOTHING();
        CHECK_EQ(sender.counters.fast_recoveries, 0);
        CHECK(sender.tcb.srtt_us <= 70000);
    }
}

int main(void)
{
    RUN(the_first_sample_sets_everything);
    RUN(later_samples_are_smoothed);
    RUN(there_is_one_sample_in_a_round_trip);
    RUN(the_minimum_and_the_maximum_hold);
    RUN(each_timeout_doubles_it_up_to_the_maximum);
    RUN(the_timer_runs_while_something_is_in_flight_and_starts_anew_with_progress);
    RUN(what_was_resent_gives_no_sample);
    RUN(a_timestamp_gives_one_even_then);
    RUN(a_sacked_segment_gives_one);
    RUN(a_handshake_that_timed_out_means_three_seconds);
    RUN(the_smallest_round_trip_is_forgotten_after_a_while);
    RUN(silence_of_any_length_does_no_harm);
    return 0;
}
