/* How losses are found and repaired: fast retransmit, NewReno, RACK, tail loss probes, limited transmit, PRR (rows
 * 52 to 56 of the RFC checklist). MSS is 1000, round trips are 100 ms unless said. */
#include "sender.h"

#define ROUND_US 100000u

/* So many segments in flight, sent a round trip ago. */
static void in_flight(uint32_t flags, uint32_t segments)
{
    open_sender(flags, UN_CONGESTION_RENO);
    measure_us(ROUND_US);
    sender.tcb.cwnd = segments * MSS;
    write_bytes(segments * MSS);
    forget_log();
    wait_us(ROUND_US);
}

/* ---- without SACK: RFC 5681, 6582, 3042 ---- */

static void the_third_duplicate_ack_resends_one_segment(void)
{
    in_flight(0, 10);
    receive_ack(0, NO_SACK);
    receive_ack(0, NO_SACK);
    EXPECT_NOTHING();
    receive_ack(0, NO_SACK);
    EXPECT_RESENT(0, MSS);
    EXPECT_NOTHING();
    CHECK_EQ(sender.tcb.ssthresh, 5 * MSS);
    CHECK_EQ(sender.tcb.cwnd, 8 * MSS); /* inflated by three */
    CHECK_EQ(sender.counters.fast_recoveries, 1);
}

static void limited_transmit_sends_new_data_for_the_first_two_duplicate_acks(void)
{
    in_flight(0, 10);
    write_bytes(20 * MSS);
    EXPECT_NOTHING();
    receive_ack(0, NO_SACK);
    EXPECT_SENT(10 * MSS, MSS);
    receive_ack(0, NO_SACK);
    EXPECT_SENT(11 * MSS, MSS);
    EXPECT_NOTHING();
    CHECK_EQ(sender.tcb.cwnd, 10 * MSS);
}

static void more_duplicate_acks_inflate_the_window_and_do_not_reduce_it_again(void)
{
    in_flight(0, 10);
    write_bytes(20 * MSS);
    for (int i = 0; i < 9; i++)
        receive_ack(0, NO_SACK);
    CHECK_EQ(sender.tcb.ssthresh, 5 * MSS);
    CHECK_EQ(sender.tcb.cwnd, (5 + 9) * MSS);
    EXPECT_SENT(10 * MSS, MSS);
    EXPECT_SENT(11 * MSS, MSS);
    EXPECT_RESENT(0, MSS);
    EXPECT_SENT(12 * MSS, MSS);
    EXPECT_SENT(13 * MSS, MSS);
    EXPECT_NOTHING();
    CHECK_EQ(sender.counters.fast_recoveries, 1);
}

static void a_partial_ack_resends_the_next_hole_at_once(void)
{
    in_flight(0, 10);
    for (int i = 0; i < 3; i++)
        receive_ack(0, NO_SACK);
    EXPECT_RESENT(0, MSS);
    wait_us(ROUND_US);
    receive_ack(4 * MSS, NO_SACK);
    EXPECT_RESENT(4 * MSS, MSS);
    EXPECT_NOTHING();
    CHECK(sender.tcb.flags & UN_TCB_RECOVERY);
    CHECK_EQ(sender.tcb.cwnd, 5 * MSS); /* 8 - 4 acknowledged + 1 */
}

static void a_full_ack_ends_recovery_without_a_burst(void)
{
    in_flight(0, 10);
    for (int i = 0; i < 3; i++)
        receive_ack(0, NO_SACK);
    forget_log();
    wait_us(ROUND_US);
    write_bytes(20 * MSS);
    receive_ack(10 * MSS, NO_SACK);
    CHECK(!(sender.tcb.flags & UN_TCB_RECOVERY));
    CHECK_EQ(sender.tcb.cwnd, 2 * MSS); /* nothing was in flight: one, and one more */
    EXPECT_SENT(10 * MSS, MSS);
    EXPECT_SENT(11 * MSS, MSS);
    EXPECT_NOTHING();
}

static void duplicates_right_after_recovery_begin_no_other(void)
{
    in_flight(0, 10);
    for (int i = 0; i < 3; i++)
        receive_ack(0, NO_SACK);
    receive_ack(10 * MSS, NO_SACK);
    write_bytes(5 * MSS);
    for (int i = 0; i < 3; i++)
        receive_ack(10 * MSS, NO_SACK);
    CHECK_EQ(sender.counters.fast_recoveries, 1);
    CHECK_EQ(sender.counters.retransmitted, 1);
}

static void an_ack_with_payload_or_another_window_is_no_duplicate(void)
{
    in_flight(0, 10);
    struct un_seg seg = {.ack = sender.tcb.snd_una, .flags = UN_TCP_ACK, .length = 1};
    for (int i = 0; i < 5; i++)
        receive_segment(&seg);
    seg.length = 0;
    for (int i = 0; i < 5; i++)
        un_recovery_ack(&sender.tcp, &sender.tcb, &seg, true);
    CHECK_EQ(sender.tcb.dup_acks, 0);
    EXPECT_NOTHING();
}

/* ---- with SACK: RFC 6675, 8985 ---- */

static void three_sacked_segments_say_that_the_one_before_is_lost(void)
{
    in_flight(UN_TCB_SACK, 10);
    receive_ack(0, SACK(MSS, 2 * MSS));
    receive_ack(0, SACK(MSS, 3 * MSS));
    EXPECT_NOTHING();
    receive_ack(0, SACK(MSS, 4 * MSS));
    EXPECT_RESENT(0, MSS);
    EXPECT_NOTHING();
    CHECK_EQ(sender.tcb.ssthresh, 5 * MSS);
    CHECK_EQ(sender.counters.fast_recoveries, 1);
}

static void three_small_segments_do_as_well(void)
{
    open_sender(UN_TCB_SACK, UN_CONGESTION_RENO);
    measure_us(ROUND_US);
    for (int i = 0; i < 5; i++)
        write_bytes(10);
    forget_log();
    wait_us(ROUND_US);
    receive_ack(0, SACK(10, 20));
    receive_ack(0, SACK(10, 30));
    EXPECT_NOTHING();
    receive_ack(0, SACK(10, 40));
    EXPECT_RESENT(0, 10);
    EXPECT_NOTHING();
}

static void all_holes_below_are_lost_and_nothing_above(void)
{
    in_flight(UN_TCB_SACK, 20);
    receive_ack(MSS, SACK2(2 * MSS, 3 * MSS, 5 * MSS, 9 * MSS));
    CHECK_EQ(sender.tcb.lost_bytes + sender.tcb.prr_out, 3 * MSS); /* 1, 3 and 4; not 9 and up */
    EXPECT_RESENT(MSS, MSS);
}

static void recovery_does_not_reduce_twice(void)
{
    in_flight(UN_TCB_SACK, 20);
    receive_ack(0, SACK(MSS, 4 * MSS));
    CHECK_EQ(sender.tcb.ssthresh, 10 * MSS);
    receive_ack(0, SACK2(5 * MSS, 9 * MSS, MSS, 4 * MSS));
    receive_ack(0, SACK2(10 * MSS, 15 * MSS, 5 * MSS, 9 * MSS));
    CHECK_EQ(sender.tcb.ssthresh, 10 * MSS);
    CHECK_EQ(sender.counters.fast_recoveries, 1);
    wait_us(ROUND_US);
    receive_ack(20 * MSS, NO_SACK);
    CHECK(!(sender.tcb.flags & UN_TCB_RECOVERY));
    CHECK_EQ(sender.tcb.cwnd, 10 * MSS);
}

static void one_sacked_segment_is_given_a_quarter_of_a_round_trip(void)
{
    in_flight(UN_TCB_SACK, 10);
    receive_ack(0, SACK(MSS, 2 * MSS));
    EXPECT_NOTHING();
    CHECK_EQ(timer_us(UN_TIMER_REORDER), ROUND_US / 4);
    wait_us(ROUND_US / 4 - 1);
    EXPECT_NOTHING();
    wait_us(1);
    EXPECT_RESENT(0, MSS);
    EXPECT_NOTHING();
}

static void mild_reordering_resends_nothing(void)
{
    in_flight(UN_TCB_SACK, 10);
    receive_ack(0, SACK(MSS, 2 * MSS));
    wait_us(ROUND_US / 10);
    receive_ack(2 * MSS, NO_SACK);
    CHECK(sender.tcb.flags & UN_TCB_RACK_REORDER);
    wait_us(ROUND_US / 10);
    receive_ack(2 * MSS, SACK(3 * MSS, 8 * MSS)); /* five SACKed, but reordering is known of */
    EXPECT_NOTHING();
    wait_us(ROUND_US / 20);
    receive_ack(10 * MSS, NO_SACK);
    EXPECT_NOTHING();
    CHECK_EQ(sender.counters.retransmitted, 0);
}

static void a_lost_retransmission_is_found_by_what_was_sent_after_it(void)
{
    in_flight(UN_TCB_SACK, 10);
    write_bytes(10 * MSS);
    receive_ack(0, SACK(MSS, 9 * MSS));
    EXPECT_RESENT(0, MSS); /* lost again */
    EXPECT_SENT(10 * MSS, MSS);
    EXPECT_SENT(11 * MSS, MSS);
    EXPECT_SENT(12 * MSS, MSS);
    wait_us(1000);
    receive_ack(0, SACK(MSS, 10 * MSS)); /* sent before it */
    EXPECT_SENT(13 * MSS, MSS);
    wait_us(ROUND_US - 1000);
    receive_ack(0, SACK(MSS, 13 * MSS)); /* sent with it, who knows in which order */
    forget_log();
    wait_us(1000);
    receive_ack(0, SACK(MSS, 14 * MSS));
    EXPECT_RESENT(0, MSS);
    CHECK_EQ(sender.counters.timeouts, 0);
}

static void dsack_widens_the_reordering_window_and_sixteen_recoveries_narrow_it(void)
{
    in_flight(UN_TCB_SACK, 10);
    receive_ack(0, SACK(MSS, 4 * MSS));
    EXPECT_RESENT(0, MSS);
    receive_ack(4 * MSS, NO_SACK);
    receive_ack(4 * MSS, SACK(0, MSS)); /* it had only been late: the end of the first recovery */
    CHECK_EQ(sender.tcb.rack_mult, 2);
    receive_ack(10 * MSS, NO_SACK);
    uint32_t at = 10 * MSS;
    for (int recovery = 1; recovery < 16; recovery++) {
        CHECK_EQ(sender.tcb.rack_mult, 2);
        sender.tcb.cwnd = 10 * MSS;
        write_bytes(10 * MSS);
        wait_us(ROUND_US);
        receive_ack(at, SACK(at + MSS, at + 10 * MSS));
        wait_us(ROUND_US);
        at += 10 * MSS;
        receive_ack(at, NO_SACK);
    }
    CHECK_EQ(sender.tcb.rack_mult, 1);
}

/* ---- PRR: RFC 6937bis ---- */

static void sending_is_proportional_while_too_much_is_in_flight(void)
{
    in_flight(UN_TCB_SACK, 30);
    write_bytes(60 * MSS);
    uint32_t sent_before = sender.logged;
    for (uint32_t end = 5; end <= 30; end++) { /* 0 to 3 are lost */
        receive_ack(0, SACK(4 * MSS, end * MSS));
        uint32_t delivered = (end - 4) * MSS, sent = (sender.logged - sent_before) * MSS;
        if (end >= 7) {
            CHECK(sender.tcb.ssthresh == 15 * MSS);
            CHECK(sent <= 3 * MSS + delivered / 2 + MSS); /* limited transmit, and one for every two */
            CHECK(sent + 4 * MSS >= delivered / 2);
        }
    }
    CHECK_EQ(sender.tcb.in_flight, 15 * MSS);
    wait_us(ROUND_US);
    receive_ack(30 * MSS, NO_SACK);
    CHECK_EQ(sender.tcb.cwnd, 15 * MSS);
}

static void little_in_flight_grows_like_slow_start_up_to_ssthresh(void)
{
    in_flight(UN_TCB_SACK, 20);
    receive_ack(0, SACK(17 * MSS, 20 * MSS)); /* 0 to 16 are lost */
    EXPECT_RESENT(0, MSS);
    EXPECT_RESENT(MSS, MSS);
    EXPECT_RESENT(2 * MSS, MSS); /* as many as were delivered */
    EXPECT_NOTHING();
    wait_us(ROUND_US);
    receive_ack(MSS, SACK(17 * MSS, 20 * MSS));
    EXPECT_RESENT(3 * MSS, MSS);
    EXPECT_RESENT(4 * MSS, MSS); /* one, and one because snd_una moved */
    EXPECT_NOTHING();
}

/* ---- tail loss probes ---- */

static void the_last_segment_is_probed_after_two_round_trips(void)
{
    in_flight(UN_TCB_SACK, 10);
    sender.tcb.rto_us = 1000000;
    receive_ack(5 * MSS, NO_SACK);
    CHECK_EQ(timer_us(UN_TIMER_REORDER), 2 * ROUND_US);
    wait_us(2 * ROUND_US - 1);
    EXPECT_NOTHING();
    wait_us(1);
    EXPECT_RESENT(9 * MSS, MSS);
    EXPECT_NOTHING();
    CHECK_EQ(sender.counters.tail_probes, 1);
    CHECK_EQ(timer_us(UN_TIMER_RETRANSMIT), sender.tcb.rto_us);
    wait_us(ROUND_US);
    receive_ack(5 * MSS, SACK(9 * MSS, 10 * MSS)); /* the probe shows what is lost */
    EXPECT_RESENT(5 * MSS, MSS);
    CHECK_EQ(sender.counters.timeouts, 0);
}

static void new_data_is_the_better_probe_and_ignores_cwnd(void)
{
    in_flight(UN_TCB_SACK, 10);
    write_bytes(5 * MSS);
    EXPECT_NOTHING();
    wait_us(2 * ROUND_US);
    EXPECT_SENT(10 * MSS, MSS);
    EXPECT_NOTHING();
}

static void one_segment_in_flight_waits_for_a_delayed_ack_but_not_beyond_the_timeout(void)
{
    open_sender(UN_TCB_SACK, UN_CONGESTION_RENO);
    measure_us(ROUND_US);
    write_bytes(MSS);
    CHECK_EQ(timer_us(UN_TIMER_RETRANSMIT), 300000);
    CHECK_EQ(timer_us(UN_TIMER_REORDER), 300000);
    sender.tcb.rto_us = 2000000;
    receive_ack(MSS, NO_SACK);
    sender.tcb.rto_us = 2000000;
    write_bytes(MSS);
    CHECK_EQ(timer_us(UN_TIMER_REORDER), 2 * sender.tcb.srtt_us + 200000);
}

static void a_probe_due_with_the_timeout_goes_first(void)
{
    open_sender(UN_TCB_SACK, UN_CONGESTION_RENO);
    measure_us(ROUND_US);
    write_bytes(MSS);
    forget_log();
    wait_us(300000);
    EXPECT_RESENT(0, MSS);
    CHECK_EQ(sender.counters.timeouts, 0);
    CHECK_EQ(sender.counters.tail_probes, 1);
    wait_us(299999);
    EXPECT_NOTHING();
    wait_us(1);
    EXPECT_RESENT(0, MSS);
    CHECK_EQ(sender.counters.timeouts, 1);
}

/* A probe of a resent segment, acknowledged. */
static void probed(void)
{
    in_flight(UN_TCB_SACK, 10);
    wait_us(2 * ROUND_US);
    EXPECT_RESENT(9 * MSS, MSS);
    wait_us(ROUND_US);
    receive_ack(10 * MSS, NO_SACK);
    CHECK(sender.tcb.flags & UN_TCB_PROBE_OUT);
    CHECK_EQ(sender.tcb.ssthresh, UINT32_MAX);
    sender.tcb.cwnd = 10 * MSS;
}

static void a_loss_that_the_probe_repaired_reduces_cwnd(void)
{
    probed();
    write_bytes(10 * MSS);
    wait_us(ROUND_US);
    receive_ack(11 * MSS, NO_SACK);
    CHECK_EQ(sender.tcb.ssthresh, 5 * MSS);
    CHECK_EQ(sender.tcb.cwnd, 5 * MSS);
}

static void a_needless_probe_does_not(void)
{
    probed();
    receive_ack(10 * MSS, SACK(9 * MSS, 10 * MSS));
    CHECK(!(sender.tcb.flags & UN_TCB_PROBE_OUT));
    CHECK_EQ(sender.tcb.rack_mult, 1);
    probed();
    receive_ack(10 * MSS, NO_SACK); /* a peer without D-SACK */
    CHECK(!(sender.tcb.flags & UN_TCB_PROBE_OUT));
    CHECK_EQ(sender.tcb.ssthresh, UINT32_MAX);
}

static void there_is_one_probe_at_a_time(void)
{
    in_flight(UN_TCB_SACK, 10);
    wait_us(2 * ROUND_US);
    EXPECT_RESENT(9 * MSS, MSS);
    wait_us(50000);
    receive_ack(2 * MSS, NO_SACK);
    CHECK_EQ(timer_us(UN_TIMER_REORDER), UINT64_MAX);
}

static void without_sack_there_is_none(void)
{
    in_flight(0, 10);
    wait_us(190000);
    EXPECT_NOTHING();
    CHECK_EQ(sender.counters.tail_probes, 0);
}

/* ---- super-segments ---- */

static void a_super_segment_is_cut_where_sack_says(void)
{
    open_sender(UN_TCB_SACK, UN_CONGESTION_RENO);
    measure_us(ROUND_US);
    sender.burst = 10;
    write_bytes(10 * MSS);
    EXPECT_SENT(0, 10 * MSS);
    wait_us(ROUND_US);
    receive_ack(2 * MSS, SACK2(7 * MSS, 8 * MSS, 3 * MSS, 5 * MSS));
    EXPECT_RESENT(2 * MSS, MSS);
    receive_ack(2 * MSS, SACK2(8 * MSS, 9 * MSS, 3 * MSS, 5 * MSS));
    EXPECT_RESENT(5 * MSS, MSS);
    receive_ack(5 * MSS, SACK(7 * MSS, 9 * MSS));
    EXPECT_RESENT(6 * MSS, MSS);
    receive_ack(10 * MSS, NO_SACK);
    CHECK_EQ(sender.sent_pool.free_count, SENDER_SENTS);
}

static void segments_that_became_too_big_are_sent_again_and_cwnd_stays(void)
{
    in_flight(UN_TCB_SACK, 5);
    sender.tcb.snd_mss = 700;
    un_recovery_resegment(&sender.tcp, &sender.tcb);
    dispatch();
    EXPECT_RESENT(0, 700);
    EXPECT_RESENT(700, 300);
    EXPECT_RESENT(1000, 700);
    EXPECT_RESENT(1700, 300);
    EXPECT_RESENT(2000, 700);
    CHECK_EQ(sender.tcb.cwnd, 5 * MSS);
    CHECK(!(sender.tcb.flags & UN_TCB_RECOVERY));
}

int main(void)
{
    RUN(the_third_duplicate_ack_resends_one_segment);
    RUN(limited_transmit_sends_new_data_for_the_first_two_duplicate_acks);
    RUN(more_duplicate_acks_inflate_the_window_and_do_not_reduce_it_again);
    RUN(a_partial_ack_resends_the_next_hole_at_once);
    RUN(a_full_ack_ends_recovery_without_a_burst);
    RUN(duplicates_right_after_recovery_begin_no_other);
    RUN(an_ack_with_payload_or_another_window_is_no_duplicate);
    RUN(three_sacked_segments_say_that_the_one_before_is_lost);
    RUN(three_small_segments_do_as_well);
    RUN(all_holes_below_are_lost_and_nothing_above);
    RUN(recovery_does_not_reduce_twice);
    RUN(one_sacked_segment_is_given_a_quarter_of_a_round_trip);
    RUN(mild_reordering_resends_nothing);
    RUN(a_lost_retransmission_is_found_by_what_was_sent_after_it);
    RUN(dsack_widens_the_reordering_window_and_sixteen_recoveries_narrow_it);
    RUN(sending_is_proportional_while_too_much_is_in_flight);
    RUN(little_in_flight_grows_like_slow_start_up_to_ssthresh);
    RUN(the_last_segment_is_probed_after_two_round_trips);
    RUN(new_data_is_the_better_probe_and_ignores_cwnd);
    RUN(one_segment_in_flight_waits_for_a_delayed_ack_but_not_beyond_the_timeout);
    RUN(a_probe_due_with_the_timeout_goes_first);
    RUN(a_loss_that_the_probe_repaired_reduces_cwnd);
    RUN(a_needless_probe_does_not);
    RUN(there_is_one_probe_at_a_time);
    RUN(without_sack_there_is_none);
    RUN(a_super_segment_is_cut_where_sack_says);
    RUN(segments_that_became_too_big_are_sent_again_and_cwnd_stays);
    return 0;
}
