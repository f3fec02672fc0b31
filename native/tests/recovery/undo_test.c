/* Recoveries that were needless are undone (row 63 of the RFC checklist: RFC 5682, 3522, 4015, 3708), and those that
 * were not are not. */
#include "sender.h"

#define ROUND_US 100000u

static void in_flight(uint32_t flags, uint32_t segments)
{
    open_sender(flags, UN_CONGESTION_CUBIC);
    measure_us(ROUND_US);
    sender.tcb.cwnd = segments * MSS;
    write_bytes(segments * (flags & UN_TCB_TIMESTAMP ? MSS - 12 : MSS));
    forget_log();
}

/* The retransmission timer has fired, and the first segment was sent again. */
static void timed_out(uint32_t flags)
{
    in_flight(flags, 10);
    wait_us(ROUND_US * 2);
    if (flags & UN_TCB_SACK)
        wait_us(300000);
    else
        wait_us(100000);
    CHECK_EQ(sender.counters.timeouts, 1);
    CHECK_EQ(sender.tcb.cwnd, MSS);
    CHECK(sender.tcb.flags & UN_TCB_LOSS);
    forget_log();
}

static void check_undone(void)
{
    CHECK_EQ(sender.counters.spurious, 1);
    CHECK(sender.tcb.cwnd >= 10 * MSS);
    CHECK_EQ(sender.tcb.ssthresh, UINT32_MAX);
    CHECK(!(sender.tcb.flags & (UN_TCB_LOSS | UN_TCB_RECOVERY | UN_TCB_FRTO)));
    CHECK_EQ(sender.tcb.lost_bytes, 0);
    CHECK_EQ(sender.tcb.backoff, 0);
}

static void new_data_is_sent_to_find_out(void)
{
    timed_out(0);
    write_bytes(10 * MSS);
    EXPECT_NOTHING();
    receive_ack(MSS, NO_SACK);
    EXPECT_SENT(10 * MSS, MSS); /* and not 1000 again */
    EXPECT_SENT(11 * MSS, MSS);
    EXPECT_NOTHING();
}

static void acks_of_what_was_not_resent_undo_a_timeout(void)
{
    new_data_is_sent_to_find_out();
    receive_ack(2 * MSS, NO_SACK);
    check_undone();
    EXPECT_SENT(12 * MSS, MSS); /* nothing is to be sent again, and the ACK lets the window grow */
    EXPECT_NOTHING();
}

static void duplicate_acks_confirm_a_timeout(void)
{
    new_data_is_sent_to_find_out();
    receive_ack(MSS, NO_SACK);
    EXPECT_NOTHING(); /* two in flight, cwnd is two */
    CHECK(!(sender.tcb.flags & UN_TCB_FRTO));
    sender.tcb.cwnd = 4 * MSS;
    dispatch();
    EXPECT_RESENT(MSS, MSS);
    EXPECT_RESENT(2 * MSS, MSS);
    EXPECT_NOTHING();
    CHECK_EQ(sender.counters.spurious, 0);
}

static void without_new_data_recovery_is_conventional(void)
{
    timed_out(0);
    receive_ack(MSS, NO_SACK);
    EXPECT_RESENT(MSS, MSS);
    EXPECT_RESENT(2 * MSS, MSS);
    EXPECT_NOTHING();
}

static void an_ack_that_covers_resent_data_as_well_proves_nothing(void)
{
    timed_out(0);
    write_bytes(10 * MSS);
    receive_ack(5 * MSS, NO_SACK); /* the peer may have kept 1000:5000 */
    CHECK_EQ(sender.counters.spurious, 0);
    EXPECT_SENT(10 * MSS, MSS);
    EXPECT_SENT(11 * MSS, MSS);
}

static void a_sack_of_what_was_not_resent_undoes_a_timeout(void)
{
    timed_out(UN_TCB_SACK);
    receive_ack(0, SACK(2 * MSS, 3 * MSS));
    CHECK_EQ(sender.counters.spurious, 1);
    CHECK(sender.tcb.flags & UN_TCB_SACK);
    CHECK(!(sender.tcb.flags & UN_TCB_LOSS));
}

static void what_was_sacked_before_the_timeout_proves_nothing(void)
{
    in_flight(UN_TCB_SACK, 10);
    wait_us(ROUND_US);
    receive_ack(0, SACK(MSS, 10 * MSS));
    EXPECT_RESENT(0, MSS);
    wait_us(2000000);
    CHECK(sender.counters.timeouts > 0);
    receive_ack(10 * MSS, NO_SACK);
    CHECK_EQ(sender.counters.spurious, 0);
}

static void an_old_timestamp_undoes_a_timeout_at_the_first_ack(void)
{
    timed_out(UN_TCB_TIMESTAMP);
    uint32_t original = sender.log[0].tsval;
    receive_ack_echo(988, NO_SACK, original);
    check_undone();
    CHECK(sender.tcb.srtt_us > ROUND_US); /* and it was a sample */
}

static void the_timestamp_of_the_retransmission_does_not(void)
{
    timed_out(UN_TCB_TIMESTAMP);
    receive_ack(988, NO_SACK);
    CHECK_EQ(sender.counters.spurious, 0);
}

static void an_old_timestamp_undoes_a_fast_recovery(void)
{
    in_flight(UN_TCB_TIMESTAMP | UN_TCB_SACK, 10);
    uint32_t original = sender.log[0].tsval;
    wait_us(ROUND_US);
    receive_ack_echo(0, SACK(988, 4 * 988), original);
    EXPECT_RESENT(0, 988);
    CHECK_EQ(sender.tcb.ssthresh, 7 * MSS);
    wait_us(2000);
    receive_ack_echo(4 * 988, NO_SACK, original);
    check_undone();
    CHECK(sender.tcb.flags & UN_TCB_RACK_REORDER);
}

static void dsack_of_all_that_was_resent_undoes_a_recovery_that_is_over(void)
{
    in_flight(UN_TCB_SACK, 10);
    wait_us(ROUND_US);
    receive_ack(0, SACK2(MSS, 2 * MSS, 3 * MSS, 6 * MSS));
    EXPECT_RESENT(0, MSS);
    EXPECT_RESENT(2 * MSS, MSS);
    receive_ack(10 * MSS, NO_SACK);
    CHECK_EQ(sender.tcb.cwnd, 7 * MSS);
    receive_ack(10 * MSS, SACK(0, MSS));
    CHECK_EQ(sender.counters.spurious, 0);
    receive_ack(10 * MSS, SACK(2 * MSS, 3 * MSS));
    check_undone();
}

static void dsack_of_a_part_undoes_nothing(void)
{
    in_flight(UN_TCB_SACK, 10);
    wait_us(ROUND_US);
    receive_ack(0, SACK2(MSS, 2 * MSS, 3 * MSS, 6 * MSS));
    receive_ack(10 * MSS, SACK(0, MSS));
    receive_ack(10 * MSS, SACK(20 * MSS, 21 * MSS));
    CHECK_EQ(sender.counters.spurious, 0);
    CHECK_EQ(sender.tcb.cwnd, 7 * MSS);
}

int main(void)
{
    RUN(new_data_is_sent_to_find_out);
    RUN(acks_of_what_was_not_resent_undo_a_timeout);
    RUN(duplicate_acks_confirm_a_timeout);
    RUN(without_new_data_recovery_is_conventional);
    RUN(an_ack_that_covers_resent_data_as_well_proves_nothing);
    RUN(a_sack_of_what_was_not_resent_undoes_a_timeout);
    RUN(what_was_sacked_before_the_timeout_proves_nothing);
    RUN(an_old_timestamp_undoes_a_timeout_at_the_first_ack);
    RUN(the_timestamp_of_the_retransmission_does_not);
    RUN(an_old_timestamp_undoes_a_fast_recovery);
    RUN(dsack_of_all_that_was_resent_undoes_a_recovery_that_is_over);
    RUN(dsack_of_a_part_undoes_nothing);
    return 0;
}
