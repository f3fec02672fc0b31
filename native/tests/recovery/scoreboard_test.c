/* The scoreboard: what peers say in SACK blocks, honestly or not (rows 50 and 51 of the RFC checklist). */
#include <string.h>

#include "sender.h"

#define ROUND_US 100000u

static void in_flight(uint32_t segments, uint32_t burst)
{
    open_sender(UN_TCB_SACK, UN_CONGESTION_RENO);
    measure_us(ROUND_US);
    sender.burst = burst;
    sender.tcb.cwnd = segments * MSS;
    write_bytes(segments * MSS);
    forget_log();
    wait_us(ROUND_US);
}

static uint32_t records(void)
{
    return SENDER_SENTS - sender.sent_pool.free_count;
}

static void what_is_sacked_is_kept_until_it_is_acknowledged(void)
{
    in_flight(10, 1);
    receive_ack(0, SACK(MSS, 10 * MSS));
    CHECK_EQ(sender.tcb.snd_bytes, 10 * MSS);
    wait_us(2000000); /* the retransmission is lost as well */
    CHECK(sender.counters.timeouts > 0);
    CHECK_EQ(sender.tcb.sacked_bytes, 0); /* and so is what was known */
    for (uint32_t end = 1; end <= 10; end++)
        receive_ack(end * MSS, NO_SACK);
    CHECK_EQ(sender.tcb.snd_bytes, 0);
    CHECK_EQ(records(), 0);
}

static void a_receiver_that_threw_data_away_gets_it_again(void)
{
    in_flight(10, 1);
    receive_ack(0, SACK(MSS, 10 * MSS));
    EXPECT_RESENT(0, MSS);
    wait_us(ROUND_US);
    receive_ack(MSS, NO_SACK); /* not 10000 */
    EXPECT_RESENT(MSS, MSS);
    forget_log();
    wait_us(ROUND_US);
    receive_ack(5500, NO_SACK);
    EXPECT_RESENT(6 * MSS, MSS); /* 5500:6000 is on its way */
    receive_ack(10 * MSS, NO_SACK);
    CHECK_EQ(records(), 0);
}

static void neighbours_that_are_sacked_are_one_record(void)
{
    in_flight(100, 1);
    CHECK_EQ(records(), 100);
    receive_ack(0, SACK(MSS, 100 * MSS));
    CHECK_EQ(records(), 2);
    in_flight(100, 1);
    for (uint32_t at = 99; at >= 1; at--)
        receive_ack(0, SACK(at * MSS, (at + 1) * MSS));
    CHECK_EQ(records(), 2);
}

static void blocks_that_make_no_sense_change_nothing(void)
{
    const struct un_sack_block blocks[] = {
        {5 * MSS, 5 * MSS},         /* empty */
        {6 * MSS, 5 * MSS},         /* inverted */
        {9 * MSS, 11 * MSS},        /* beyond what was sent */
        {20 * MSS, 21 * MSS},
        {3 * MSS, 8 * MSS + (1u << 31)},
        {2 * MSS, 4 * MSS},         /* from what is acknowledged */
        {3 * MSS, 4 * MSS},
    };
    for (unsigned i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        in_flight(10, 1);
        receive_ack(3 * MSS, NO_SACK);
        receive_ack(3 * MSS, SACK(blocks[i].start, blocks[i].end));
        CHECK_EQ(sender.tcb.sacked_bytes, 0);
        CHECK_EQ(sender.tcb.in_flight, 7 * MSS);
        EXPECT_NOTHING();
    }
}

static void overlapping_blocks_count_once(void)
{
    in_flight(10, 1);
    receive_ack(0, SACK2(2 * MSS, 5 * MSS, 3 * MSS, 7 * MSS));
    CHECK_EQ(sender.tcb.sacked_bytes, 5 * MSS);
}

static void blocks_are_ignored_where_sack_was_not_agreed_on(void)
{
    in_flight(10, 1);
    sender.tcb.flags &= ~(uint32_t)UN_TCB_SACK;
    receive_ack(0, SACK(MSS, 5 * MSS));
    CHECK_EQ(sender.tcb.sacked_bytes, 0);
}

/* What a peer can make us hold does not grow with what it writes. */
static void single_bytes_do_not_make_a_record_each(void)
{
    in_flight(100, 10);
    for (uint32_t at = 1; at < 100 * MSS; at += 2)
        receive_ack(0, SACK(at, at + 1));
    CHECK(records() <= 2 * 100 + 10);
    receive_ack(100 * MSS, NO_SACK);
    CHECK_EQ(records(), 0);
}

static void a_pool_without_records_means_no_marks_and_no_harm(void)
{
    in_flight(20, 10);
    struct un_sent_pool kept = sender.sent_pool;
    sender.sent_pool.free_head = UN_NONE;
    sender.sent_pool.free_count = 0;
    CHECK(!un_recovery_can_record(&sender.tcp, &sender.tcb));
    un_recovery_ack(&sender.tcp, &sender.tcb,
                    &(struct un_seg){.ack = sender.tcb.snd_una, .flags = UN_TCP_ACK, .sack_count = 1,
                                     .sacks = {{sender.tcb.snd_una + MSS, sender.tcb.snd_una + 2 * MSS}}},
                    false);
    CHECK_EQ(sender.tcb.sacked_bytes, 0);
    sender.sent_pool = kept;
    check_sender();
}

static void syn_and_fin_take_a_number_each(void)
{
    open_sender(UN_TCB_SACK, UN_CONGESTION_RENO);
    struct un_tcb *tcb = &sender.tcb;
    tcb->state = UN_TCP_SYN_SENT;
    tcb->snd_una = tcb->snd_nxt = tcb->iss;
    un_recovery_init(&sender.tcp, tcb);
    un_recovery_sent(&sender.tcp, tcb, 1, UN_NONE, 0, UN_SENT_SYN, 0);
    tcb->snd_nxt++;
    check_sender();
    CHECK_EQ(un_recovery_next(&sender.tcp, tcb, MSS), UN_NONE);
    un_tcp_set_now(&sender.tcp, tcb->timers[UN_TIMER_RETRANSMIT]);
    un_recovery_timeout(&sender.tcp, tcb);
    uint32_t syn = un_recovery_next(&sender.tcp, tcb, MSS);
    CHECK_EQ(syn, tcb->sent_head);
    un_recovery_resent(&sender.tcp, tcb, syn, 0);
    CHECK_EQ(timer_us(UN_TIMER_RETRANSMIT), 2000000);
    un_recovery_ack(&sender.tcp, tcb, &(struct un_seg){.ack = tcb->snd_nxt, .flags = UN_TCP_ACK}, true);
    tcb->snd_una++;
    CHECK_EQ(records(), 0);
    tcb->state = UN_TCP_ESTABLISHED;
    un_recovery_established(&sender.tcp, tcb);
    CHECK_EQ(tcb->cwnd, 10 * MSS);
    /* 2500 bytes and the FIN, as one super-segment */
    un_recovery_sent(&sender.tcp, tcb, 2501, 0, 0, UN_SENT_FIN, 0);
    uint8_t zeros[2500] = {0};
    un_tx_append(&sender.tcp, tcb, zeros, sizeof zeros);
    tcb->snd_nxt += 2501;
    tcb->unsent_frame = UN_NONE;
    receive_ack(0, SACK(MSS, 2 * MSS));
    CHECK_EQ(sender.sents[tcb->sent_head].length, MSS);
    CHECK_EQ(sender.sents[tcb->sent_tail].length, 501);
    CHECK(sender.sents[tcb->sent_tail].flags & UN_SENT_FIN);
    un_recovery_end(&sender.tcp, tcb);
    CHECK_EQ(records(), 0);
}

static void the_free_list_is_made_anew(void)
{
    static bool used[SENDER_SENTS];
    in_flight(20, 1);
    memset(used, 0, sizeof used);
    for (uint32_t index = sender.tcb.sent_head; index != UN_NONE; index = sender.sents[index].next)
        used[index] = true;
    un_recovery_rebuild(&sender.tcp, used);
    check_sender();
    receive_ack(20 * MSS, NO_SACK);
    CHECK_EQ(records(), 0);
}

/* ---- an oracle: what is SACKed, segment by segment ---- */

#define ORACLE_SEGMENTS 64u

static uint32_t marked(const bool *oracle)
{
    uint32_t bytes = 0;
    for (uint32_t at = 0; at < ORACLE_SEGMENTS; at++)
        bytes += oracle[at] ? MSS : 0;
    return bytes;
}

static void check_against(const bool *oracle)
{
    CHECK_EQ(sender.tcb.sacked_bytes, marked(oracle));
    for (uint32_t index = sender.tcb.sent_head; index != UN_NONE; index = sender.sents[index].next) {
        const struct un_sent *sent = &sender.sents[index];
        bool is_sacked = sent->flags & UN_SENT_SACKED;
        for (uint32_t at = relative(sent->seq); at != relative(sent->seq + sent->length); at += MSS)
            CHECK(oracle[at / MSS] == is_sacked);
    }
}

/* Some runs of what was received beyond `una`, in any order; the oracle learns of them. */
static struct blocks report(uint64_t *random, const bool *received, bool *oracle, uint32_t una)
{
    struct blocks blocks = {.count = 0};
    for (uint32_t at = una, end; at < ORACLE_SEGMENTS && blocks.count < UN_SACK_BLOCKS_MAX; at = end + 1) {
        while (at < ORACLE_SEGMENTS && !received[at])
            at++;
        for (end = at; end < ORACLE_SEGMENTS && received[end];)
            end++;
        if (end == at || random_below(random, 2))
            continue;
        for (uint32_t told = at; told < end; told++)
            oracle[told] = true;
        uint32_t place = random_below(random, blocks.count + 1);
        blocks.at[blocks.count++] = blocks.at[place];
        blocks.at[place] = (struct un_sack_block){at * MSS, end * MSS};
    }
    return blocks;
}

static void honest_blocks_mark_what_they_say(uint64_t seed)
{
    uint64_t random = seed;
    bool oracle[ORACLE_SEGMENTS] = {false}, received[ORACLE_SEGMENTS] = {false};
    in_flight(ORACLE_SEGMENTS, 1 + random_below(&random, 20));
    for (uint32_t una = 0; una < ORACLE_SEGMENTS;) {
        uint32_t arrived = random_below(&random, 4) ? random_below(&random, ORACLE_SEGMENTS) : una;
        received[arrived] = true;
        while (una < ORACLE_SEGMENTS && received[una])
            oracle[una++] = false;
        receive_ack(una * MSS, report(&random, received, oracle, una));
        check_against(oracle);
    }
    CHECK_EQ(records(), 0);
}

/* ---- anything at all ---- */

static struct un_seg random_ack(uint64_t *random)
{
    const struct un_tcb *tcb = &sender.tcb;
    uint32_t flight = tcb->snd_nxt - tcb->snd_una;
    struct un_seg seg = {.flags = UN_TCP_ACK, .options = UN_SEG_TIMESTAMP};
    bool advances = random_below(random, 3) == 0 && flight > 0;
    seg.ack = tcb->snd_una + (advances ? random_below(random, flight + 1) : 0);
    seg.tsecr = (uint32_t)(sender.tcp.now_ns / UN_MS_NS) - random_below(random, 3000);
    seg.sack_count = (uint8_t)random_below(random, 5);
    for (uint32_t i = 0; i < seg.sack_count; i++) {
        uint32_t around = flight + 4 * MSS;
        uint32_t start = tcb->snd_una - 2 * MSS + random_below(random, around);
        seg.sacks[i] = (struct un_sack_block){start, start + random_below(random, 8 * MSS)};
        if (random_below(random, 4) == 0)
            seg.sacks[i].start = (uint32_t)random_next(random);
        if (random_below(random, 4) == 0)
            seg.sacks[i].end = (uint32_t)random_next(random);
    }
    return seg;
}

static void no_ack_breaks_anything(uint64_t seed)
{
    uint64_t random = seed * 77;
    uint32_t flags = random_below(&random, 2) ? UN_TCB_SACK : 0;
    flags |= random_below(&random, 2) ? UN_TCB_TIMESTAMP : 0;
    open_sender_at(flags, random_below(&random, UN_CONGESTIONS), (uint32_t)random_next(&random), MSS);
    sender.burst = 1 + random_below(&random, 30);
    for (int step = 0; step < 400; step++) {
        uint32_t una = sender.tcb.snd_una;
        if (sender.tcb.snd_bytes < 100 * MSS)
            write_bytes(random_below(&random, 20 * MSS));
        struct un_seg seg = random_ack(&random);
        receive_segment(&seg);
        CHECK_EQ(sender.tcb.snd_una, seg.ack);
        CHECK(seg.ack != una || sender.tcb.snd_nxt - una <= (1u << 24));
        CHECK(sender.tcb.cwnd > 0 && sender.tcb.ssthresh >= 2 * MSS);
        if (random_below(&random, 4) == 0)
            wait_us(random_below(&random, 400000));
    }
    receive_ack(relative(sender.tcb.snd_nxt), NO_SACK); /* an end is always possible */
    for (int step = 0; step < 400 && sender.tcb.snd_bytes > 0; step++) {
        wait_us(100000);
        receive_ack(relative(sender.tcb.snd_nxt), NO_SACK);
    }
    CHECK_EQ(sender.tcb.snd_bytes, 0);
    CHECK_EQ(records(), 0);
}

static void honest_blocks(void)
{
    for_each_seed(50, honest_blocks_mark_what_they_say);
}

static void any_ack(void)
{
    for_each_seed(60, no_ack_breaks_anything);
}

int main(void)
{
    RUN(what_is_sacked_is_kept_until_it_is_acknowledged);
    RUN(a_receiver_that_threw_data_away_gets_it_again);
    RUN(neighbours_that_are_sacked_are_one_record);
    RUN(blocks_that_make_no_sense_change_nothing);
    RUN(overlapping_blocks_count_once);
    RUN(blocks_are_ignored_where_sack_was_not_agreed_on);
    RUN(single_bytes_do_not_make_a_record_each);
    RUN(a_pool_without_records_means_no_marks_and_no_harm);
    RUN(syn_and_fin_take_a_number_each);
    RUN(the_free_list_is_made_anew);
    RUN(honest_blocks);
    RUN(any_ack);
    return 0;
}
