/* What forgers, confused peers and broken paths do: RFC 5961, RFC 5927, RFC 1191; keepalive and timeouts; SYN cookies.
 */
#include "harness.h"
#include "tcp/cookie.h"

/* ---- RFC 5961 ---- */

static void reset_must_be_exact(void)
{
    bench_establish();
    SEND(.flags = RST, .seq = 2);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1);
    SEND(.flags = RST, .seq = 1 + 65535); /* a peer that has filled the window */
    EXPECT(.flags = ACK, .seq = 1, .ack = 1);
    SEND(.flags = RST, .seq = 0);
    SEND(.flags = RST, .seq = 2 + 65535);
    NOTHING();
    CHECK_EQ(bench->tcb.state, UN_TCP_ESTABLISHED);
    SEND(.flags = RST | ACK, .seq = 1, .ack = 999999); /* its ACK does not matter */
    NOTHING();
    CHECK_EQ(bench->tcb.state, UN_TCP_DEAD);
}

static void syn_is_challenged(void)
{
    bench_establish();
    SEND(.flags = SYN, .seq = 1);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1);
    SEND(.flags = SYN, .seq = 900000);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1);
    SEND(.flags = SYN | ACK, .seq = 0, .ack = 1);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1);
    CHECK_EQ(bench->tcb.state, UN_TCP_ESTABLISHED);
    CHECK_EQ(bench->counters.challenge_acks, 3);
}

static void ack_must_be_in_range(void)
{
    bench_establish();
    SEND(.flags = ACK, .seq = 1, .ack = 2, .length = 10); /* of what was never sent */
    EXPECT(.flags = ACK, .seq = 1, .ack = 1);
    CHECK_EQ(bench->drop, UN_DROP_tcp_bad_ack);
    SEND(.flags = ACK, .seq = 1, .ack = 1u - PEER_WINDOW, .length = 10); /* old, and still possible */
    NOTHING();
    SEND(.flags = ACK, .seq = 11, .ack = 0u - PEER_WINDOW, .length = 10);
    EXPECT(.flags = ACK, .seq = 1, .ack = 11);
    CHECK_EQ(bench_read(100), 10);
}

static void challenges_are_bounded(void)
{
    bench_establish();
    for (uint32_t i = 0; i < 1000; i++) {
        QUEUE(.flags = RST, .seq = 2 + i);
        bench_dispatch();
    }
    CHECK_EQ(bench->out_tail - bench->out_head, 10);
    CHECK_EQ(bench->drops[UN_DROP_tcp_challenge_rate], 990);
    bench_ignore();
    SEND(.flags = ACK, .seq = 1, .ack = 1, .length = 10); /* nothing else is bounded */
    SEND(.flags = ACK, .seq = 1, .ack = 1, .length = 10);
    EXPECT(.flags = ACK, .seq = 1, .ack = 11);
    ADVANCE_MS(1000);
    SEND(.flags = RST, .seq = 20);
    EXPECT(.flags = ACK, .seq = 1, .ack = 11);
}

/* ---- ICMP ---- */

static void icmp(bool is_hard, uint32_t mtu, uint32_t seq)
{
    enum un_tcp_reason why = is_hard ? UN_TCP_REASON_REFUSED : UN_TCP_REASON_NONE;
    un_tcp_icmp(&bench->tcp, &bench->tcb, why, mtu, bench_base + seq);
    bench_dispatch();
}

static void errors_do_not_end_a_connection(void)
{
    bench_establish();
    bench_write(10);
    bench_ignore();
    icmp(true, 0, 1);
    icmp(false, 0, 1);
    NOTHING();
    CHECK_EQ(bench->tcb.state, UN_TCP_ESTABLISHED);
}

static void packet_too_big_is_sent_smaller(void)
{
    bench_establish();
    bench_write(2 * MSS);
    bench_ignore();
    icmp(false, 1400, 0);            /* of what is acknowledged */
    icmp(false, 1400, 1 + 2 * MSS);  /* of what was never sent */
    CHECK_EQ(bench->tcb.snd_mss, MSS);
    CHECK_EQ(bench->drops[UN_DROP_icmp_unmatched], 2);
    icmp(false, 1400, 1);
    CHECK_EQ(bench->tcb.snd_mss, 1360);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1, .length = 1360);
    EXPECT(.flags = ACK, .seq = 1361, .ack = 1, .length = 100);
    EXPECT(.flags = ACK, .seq = 1461, .ack = 1, .length = 1360);
    EXPECT(.flags = ACK | PSH, .seq = 2821, .ack = 1, .length = 100);
    icmp(false, 1450, 1); /* a path does not grow this way */
    CHECK_EQ(bench->tcb.path_mtu, 1400);
    icmp(false, 68, 1);
    CHECK_EQ(bench->tcb.path_mtu, 552);
    bench_ignore();
}

static uint32_t path_mtu_after_silence(uint32_t written)
{
    bench_write(written);
    for (uint32_t i = 0; i < 40; i++) {
        bench_ignore();
        ADVANCE_MS(100);
    }
    bench_ignore();
    return bench->tcb.path_mtu;
}

static void black_hole_is_found(void)
{
    bench_establish();
    CHECK_EQ(path_mtu_after_silence(MSS), 1280);
}

/* Large enough not to be carried, though no full segment. */
static void black_hole_is_found_by_what_is_left(void)
{
    bench_establish();
    CHECK_EQ(path_mtu_after_silence(1241), 1280);
}

static void small_segments_suspect_nothing(void)
{
    bench_establish();
    CHECK_EQ(path_mtu_after_silence(1240), 1500);
}

/* ---- a larger path: RFC 1191 section 6.3, RFC 8899 ---- */

static void narrow_path(uint8_t options, uint32_t mtu)
{
    bench_establish_with(options);
    bench_write(MSS);
    bench_ignore();
    icmp(false, mtu, 1);
    bench_ignore();
    SEND(.flags = ACK, .seq = 1, .ack = 1 + MSS);
    CHECK_EQ(bench->tcb.path_mtu, mtu);
}

static void after_ten_minutes_a_larger_segment_is_tried(void)
{
    narrow_path(UN_SEG_MSS | UN_SEG_SACK_PERMITTED, 1400);
    ADVANCE_MS(9 * 60000);
    bench_write(5 * 1360);
    for (uint32_t at = 0; at < 5; at++)
        EXPECT(.flags = ACK | (at == 4 ? PSH : 0), .seq = 1461 + 1360 * at, .ack = 1, .length = 1360);
    SEND(.flags = ACK, .seq = 1, .ack = 8261);
    ADVANCE_MS(2 * 60000);
    bench_write(1000); /* too little */
    EXPECT(.flags = ACK | PSH, .seq = 8261, .ack = 1, .length = 1000);
    SEND(.flags = ACK, .seq = 1, .ack = 9261);
    bench_write(6000);
    EXPECT(.flags = ACK, .seq = 9261, .ack = 1, .length = 1420);
    EXPECT(.flags = ACK, .seq = 10681, .ack = 1, .length = 1360);
    bench_ignore();
    SEND(.flags = ACK, .seq = 1, .ack = 15261);
    CHECK_EQ(bench->tcb.path_mtu, 1460);
    CHECK_EQ(bench->tcb.snd_mss, 1420);
    bench_write(6000); /* and the next size at once */
    EXPECT(.flags = ACK, .seq = 15261, .ack = 1, .length = 1440);
    EXPECT(.flags = ACK, .seq = 16701, .ack = 1, .length = 1420);
    bench_ignore();
    SEND(.flags = ACK, .seq = 1, .ack = 21261);
    for (uint32_t ack = 21261; bench->tcb.path_mtu < 1500; ack += 6000) {
        bench_write(6000);
        bench_ignore();
        SEND(.flags = ACK, .seq = 1, .ack = ack + 6000);
    }
    CHECK_EQ(bench->tcb.snd_mss, MSS);
    CHECK_EQ(bench->counters.path_mtu_probes, 4); /* 1460, 1480, 1492, 1500 */
    CHECK_EQ(bench->counters.path_mtu_raised, 4);
    bench_write(6000);
    EXPECT(.flags = ACK, .seq = bench->tcb.snd_una - bench->tcb.iss, .ack = 1, .length = MSS);
    bench_ignore();
}

static void a_path_that_is_still_narrow_costs_one_segment_in_ten_minutes(void)
{
    narrow_path(UN_SEG_MSS | UN_SEG_SACK_PERMITTED, 1400);
    ADVANCE_MS(11 * 60000);
    bench_write(6000);
    uint32_t cwnd = bench->tcb.cwnd;
    EXPECT(.flags = ACK, .seq = 1461, .ack = 1, .length = 1420);
    bench_ignore();
    ADVANCE_MS(1);
    SEND(.flags = ACK, .seq = 1, .ack = 1461, .sack_count = 1,
         .sacks = {{bench->tcb.iss + 2881, bench->tcb.iss + 7461}});
    EXPECT(.flags = ACK, .seq = 1461, .ack = 1, .length = 1360); /* again, in pieces that arrive */
    EXPECT(.flags = ACK, .seq = 2821, .ack = 1, .length = 60);
    SEND(.flags = ACK, .seq = 1, .ack = 7461);
    CHECK_EQ(bench->tcb.path_mtu, 1400);
    CHECK(bench->tcb.cwnd >= cwnd); /* no sign of congestion */
    CHECK_EQ(bench->counters.fast_recoveries, 0);
    bench_write(6000);
    EXPECT(.flags = ACK, .seq = 7461, .ack = 1, .length = 1360);
    bench_ignore();
    SEND(.flags = ACK, .seq = 1, .ack = 13461);
    ADVANCE_MS(11 * 60000);
    bench_write(6000);
    EXPECT(.flags = ACK, .seq = 13461, .ack = 1, .length = 1420);
    bench_ignore();
    CHECK_EQ(bench->counters.path_mtu_probes, 2);
    CHECK_EQ(bench->counters.path_mtu_raised, 0);
}

static void without_sack_a_lost_probe_is_repaired_too(void)
{
    narrow_path(UN_SEG_MSS, 1400);
    ADVANCE_MS(11 * 60000);
    bench_write(6000);
    EXPECT(.flags = ACK, .seq = 1461, .ack = 1, .length = 1420);
    bench_ignore();
    for (uint32_t i = 0; i < 3; i++)
        SEND(.flags = ACK, .seq = 1, .ack = 1461);
    EXPECT(.flags = ACK, .seq = 1461, .ack = 1, .length = 1360);
    SEND(.flags = ACK, .seq = 1, .ack = 2821);
    EXPECT(.flags = ACK, .seq = 2821, .ack = 1, .length = 60);
    SEND(.flags = ACK, .seq = 1, .ack = 7461);
    CHECK_EQ(bench->tcb.path_mtu, 1400);
}

/* One that arrives in part, for whoever cuts it on its way, raises the size once. */
static void a_probe_counts_once(void)
{
    narrow_path(UN_SEG_MSS | UN_SEG_SACK_PERMITTED, 1400);
    ADVANCE_MS(11 * 60000);
    bench_write(6000);
    bench_ignore();
    SEND(.flags = ACK, .seq = 1, .ack = 2161);
    CHECK_EQ(bench->counters.path_mtu_raised, 1);
    bench_ignore();
    SEND(.flags = ACK, .seq = 1, .ack = 2881);
    CHECK_EQ(bench->counters.path_mtu_raised, 1);
    CHECK_EQ(bench->tcb.path_mtu, 1460);
    bench_ignore();
}

static void what_the_application_made_small_stays_small(void)
{
    bench_establish();
    bench->tcb.path_mtu = bench->tcb.path_mtu_max = 1000; /* as the option for the MSS does */
    ADVANCE_MS(11 * 60000);
    bench_write(6000);
    bench_ignore();
    CHECK_EQ(bench->counters.path_mtu_probes, 0);
}

/* ---- time ---- */

static void silent_peer_is_given_up(void)
{
    bench_establish();
    bench_write(10);
    bench_ignore();
    uint64_t begin = bench->tcp.now_ns;
    while (bench->tcb.state != UN_TCP_DEAD) {
        bench_ignore();
        ADVANCE_MS(1000);
    }
    CHECK(bench->tcp.now_ns - begin >= 120 * UN_SECOND_NS && bench->tcp.now_ns - begin < 300 * UN_SECOND_NS);
    EXPECT(.flags = RST | ACK, .seq = 11, .ack = 1);
    CHECK_EQ(un_tcp_reason(&bench->tcb), UN_TCP_REASON_TIMEOUT);
    CHECK_EQ(bench_write(1), -110);
}

static void user_timeout(void)
{
    bench_establish();
    bench->tcb.user_timeout_ms = 5000;
    bench_write(10);
    for (uint32_t i = 0; i < 15 && bench->tcb.state != UN_TCP_DEAD; i++) {
        bench_ignore();
        ADVANCE_MS(1000);
    }
    CHECK_EQ(un_tcp_reason(&bench->tcb), UN_TCP_REASON_TIMEOUT);
    bench_ignore();
}

static void keep_alive(void)
{
    bench->config.keep_idle_s = 60;
    bench->config.keep_interval_s = 10;
    bench->config.keep_count = 3;
    bench_establish();
    bench->tcb.flags |= UN_TCB_KEEPALIVE;
    un_tcp_rearm_keepalive(&bench->tcp, &bench->tcb);
}

static void keepalive_asks_and_hears(void)
{
    keep_alive();
    ADVANCE_MS(59000);
    NOTHING();
    ADVANCE_MS(1001);
    EXPECT(.flags = ACK, .seq = 0, .ack = 1);
    ADVANCE_MS(10000);
    EXPECT(.flags = ACK, .seq = 0, .ack = 1); /* one may be lost */
    SEND(.flags = ACK, .seq = 1, .ack = 1);
    ADVANCE_MS(59000);
    NOTHING();
    ADVANCE_MS(1001);
    EXPECT(.flags = ACK, .seq = 0, .ack = 1);
    CHECK_EQ(bench->counters.keepalives, 3);
}

static void keepalive_gives_up(void)
{
    keep_alive();
    ADVANCE_MS(60001);
    EXPECT(.flags = ACK, .seq = 0, .ack = 1);
    ADVANCE_MS(10000);
    EXPECT(.flags = ACK, .seq = 0, .ack = 1);
    ADVANCE_MS(10000);
    EXPECT(.flags = ACK, .seq = 0, .ack = 1);
    ADVANCE_MS(10000);
    EXPECT(.flags = RST | ACK, .seq = 1, .ack = 1);
    CHECK_EQ(un_tcp_reason(&bench->tcb), UN_TCP_REASON_KEEPALIVE);
}

static void keepalive_leaves_the_asking_to_data(void)
{
    keep_alive();
    SEND(.flags = ACK, .seq = 1, .ack = 1, .wnd = UINT16_MAX);
    bench_write(10);
    for (uint32_t i = 0; i < 1000; i++) {
        ADVANCE_MS(100);
        while (bench_has_sent())
            EXPECT(.flags = ACK, .seq = 1, .ack = 1, .length = 1);
    }
    CHECK_EQ(bench->counters.keepalives, 0);
}

static void without_keepalive_silence_is_eternal(void)
{
    bench_establish();
    ADVANCE_MS(UINT64_C(40) * 24 * 3600 * 1000);
    NOTHING();
    CHECK_EQ(un_tcp_deadline_ns(&bench->tcb), 0);
    CHECK_EQ(bench->tcb.state, UN_TCP_ESTABLISHED);
}

static void keepalive_that_is_switched_off_is_off(void)
{
    keep_alive();
    bench->tcb.flags &= ~(uint32_t)UN_TCB_KEEPALIVE;
    un_tcp_rearm_keepalive(&bench->tcp, &bench->tcb);
    ADVANCE_MS(100000);
    NOTHING();
}

/* The peer takes the FIN as a window probe, and its window stays shut. */
static void keepalive_gives_up_behind_a_window_probe(void)
{
    keep_alive();
    un_tcp_set_user_timeout(&bench->tcp, &bench->tcb, 65000);
    SEND(.flags = ACK, .seq = 1, .ack = 1, .wnd = UINT16_MAX);
    un_tcp_shutdown(&bench->tcp, &bench->tcb);
    bench_dispatch();
    ADVANCE_MS(250);
    EXPECT(.flags = FIN | ACK, .seq = 1, .ack = 1);
    SEND(.flags = ACK, .seq = 1, .ack = 2, .wnd = UINT16_MAX);
    CHECK_EQ(bench->tcb.state, UN_TCP_FIN_WAIT_2);
    ADVANCE_MS(60001);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1);
    ADVANCE_MS(10000);
    EXPECT(.flags = RST | ACK, .seq = 2, .ack = 1);
    CHECK_EQ(un_tcp_reason(&bench->tcb), UN_TCP_REASON_KEEPALIVE);
}

static void keepalive_hears_while_frames_are_short(void)
{
    uint32_t taken = UN_NONE;
    keep_alive();
    for (uint32_t frame; (frame = un_pool_take(&bench->tcp.pool)) != UN_NONE; taken = frame)
        bench->frames[frame].next = taken;
    CHECK_EQ(bench_write(10), 0);
    for (uint32_t i = 0; i < 10; i++) {
        ADVANCE_MS(60001);
        EXPECT(.flags = ACK, .seq = 0, .ack = 1);
        SEND(.flags = ACK, .seq = 1, .ack = 1);
    }
    CHECK_EQ(un_tcp_reason(&bench->tcb), UN_TCP_REASON_NONE);
    un_pool_drop_chain(&bench->tcp.pool, taken);
}

/* ---- a segment of no connection ---- */

static void refusals(void)
{
    struct un_seg reset;
    CHECK(un_tcp_refuse(&(struct un_seg){.flags = ACK, .seq = 5, .ack = 77}, &reset));
    CHECK(reset.flags == RST && reset.seq == 77 && reset.ack == 0);
    CHECK(un_tcp_refuse(&(struct un_seg){.flags = SYN, .seq = 5}, &reset));
    CHECK(reset.flags == (RST | ACK) && reset.seq == 0 && reset.ack == 6);
    CHECK(un_tcp_refuse(&(struct un_seg){.flags = 0, .seq = 5, .length = 10}, &reset));
    CHECK(reset.flags == (RST | ACK) && reset.ack == 15);
    CHECK(!un_tcp_refuse(&(struct un_seg){.flags = RST, .seq = 5}, &reset));
    CHECK(!un_tcp_refuse(&(struct un_seg){.flags = RST | ACK, .seq = 5}, &reset));
}

/* ---- SYN cookies ---- */

static const uint8_t secret[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

static struct un_cookie_flow flow(void)
{
    const uint8_t local[4] = {10, 0, 0, 1};
    return (struct un_cookie_flow){
        .secret = secret,
        .peer = bench->tcb.peer,
        .local = un_ip_from_v4(local),
        .peer_port = 4000,
        .local_port = 80,
        .link_mtu = MTU,
        .rcv_limit = bench->config.rcv_limit,
        .ts_offset = 0xfffffff0,
    };
}

static struct un_seg cookie_ack(const struct un_seg *syn, const struct un_seg *answer)
{
    return (struct un_seg){
        .flags = ACK,
        .seq = syn->seq + 1,
        .ack = answer->seq + 1,
        .wnd = 500,
        .options = answer->options & UN_SEG_TIMESTAMP,
        .tsval = syn->tsval + 10,
        .tsecr = answer->tsval,
    };
}

static void cookie_remembers(uint8_t options, uint8_t flags, uint16_t mss, uint16_t remembered)
{
    struct un_cookie_flow who = flow();
    struct un_seg syn = {.flags = SYN | flags, .seq = 5000, .options = options, .mss = mss, .wscale = 9, .tsval = 77};
    struct un_seg answer, found;
    un_cookie_answer(&bench->tcp, &who, &syn, &answer);
    CHECK_EQ(answer.flags & (SYN | ACK), SYN | ACK);
    CHECK_EQ(answer.ack, 5001);
    uint32_t clock = (uint32_t)(bench->tcp.now_ns / UN_MS_NS) + who.ts_offset;
    bool has_timestamp = options & UN_SEG_TIMESTAMP;
    CHECK(!has_timestamp || (un_seq_le(answer.tsval, clock) && clock - answer.tsval < 64));
    struct un_seg ack = cookie_ack(&syn, &answer);
    un_tcp_set_now(&bench->tcp, bench->tcp.now_ns + 60 * UN_SECOND_NS);
    CHECK(un_cookie_check(&bench->tcp, &who, &ack, &found));
    CHECK_EQ(found.seq, 5000);
    CHECK_EQ(found.mss, remembered);
    CHECK_EQ(found.options, has_timestamp ? options | UN_SEG_MSS : UN_SEG_MSS);
    CHECK_EQ(found.options, answer.options | UN_SEG_MSS);
    CHECK_EQ(found.flags, has_timestamp ? SYN | flags : SYN);
    CHECK(!has_timestamp || !(options & UN_SEG_WSCALE) || found.wscale == 9);
    un_tcp_set_now(&bench->tcp, bench->tcp.now_ns + 128 * UN_SECOND_NS);
    CHECK(!un_cookie_check(&bench->tcp, &who, &ack, &found)); /* too old */
}

static void cookies_remember(void)
{
    const uint8_t all = UN_SEG_MSS | UN_SEG_WSCALE | UN_SEG_SACK_PERMITTED | UN_SEG_TIMESTAMP;
    cookie_remembers(all, 0, 1460, 1460);
    cookie_remembers(all, ECE | CWR, 9000, 8960);
    cookie_remembers(UN_SEG_MSS | UN_SEG_TIMESTAMP, 0, 1459, 1452);
    cookie_remembers(UN_SEG_MSS | UN_SEG_TIMESTAMP | UN_SEG_SACK_PERMITTED, 0, 100, 64);
    cookie_remembers(UN_SEG_MSS | UN_SEG_WSCALE | UN_SEG_SACK_PERMITTED, ECE | CWR, 1460, 1460);
    cookie_remembers(0, 0, 0, 536);
    bench_connect(); /* a test ends with a connection */
    bench_ignore();
}

static void wrong_cookies_are_refused(void)
{
    struct un_cookie_flow who = flow();
    struct un_seg syn = {.flags = SYN, .seq = 5000, .options = UN_SEG_MSS, .mss = 1460};
    struct un_seg answer, found;
    un_cookie_answer(&bench->tcp, &who, &syn, &answer);
    struct un_seg right = cookie_ack(&syn, &answer);
    CHECK(un_cookie_check(&bench->tcp, &who, &right, &found));
    for (uint32_t bit = 0; bit < 32; bit++) {
        struct un_seg wrong = right;
        wrong.ack = ((right.ack - 1) ^ 1u << bit) + 1;
        CHECK(!un_cookie_check(&bench->tcp, &who, &wrong, &found));
        wrong = right;
        wrong.seq ^= 1u << bit;
        CHECK(!un_cookie_check(&bench->tcp, &who, &wrong, &found));
    }
    who.peer_port++;
    CHECK(!un_cookie_check(&bench->tcp, &who, &right, &found));
    bench_connect();
    bench_ignore();
}

static void cookie_makes_a_connection(void)
{
    struct un_cookie_flow who = flow();
    struct un_seg syn = {
        .flags = SYN,
        .seq = bench_base + 77,
        .options = UN_SEG_MSS | UN_SEG_WSCALE | UN_SEG_SACK_PERMITTED | UN_SEG_TIMESTAMP,
        .mss = MSS,
        .wscale = 3,
        .tsval = 77,
    };
    struct un_seg answer, found;
    un_cookie_answer(&bench->tcp, &who, &syn, &answer);
    struct un_seg ack = cookie_ack(&syn, &answer);
    CHECK(un_cookie_check(&bench->tcp, &who, &ack, &found));
    un_tcp_init(&bench->tcp, &bench->tcb, ack.ack - 1, who.ts_offset, MTU, MTU);
    un_tcp_accept_cookie(&bench->tcp, &bench->tcb, &found);
    CHECK_EQ(un_tcp_process(&bench->tcp, &bench->tcb, &ack, UN_NONE), UN_DROP_NONE);
    CHECK_EQ(bench->tcb.state, UN_TCP_ESTABLISHED);
    CHECK_EQ(bench_take_events(), UN_TCP_EVENT_ACCEPTED);
    CHECK_EQ(bench->tcb.snd_wnd, 500 << 3);
    CHECK_EQ(bench->tcb.ts_recent, 87);
    CHECK_EQ(bench->counters.syn_cookies_received, 1);
    CHECK(bench->tcb.flags & UN_TCB_SACK);
    bench_base = bench->tcb.iss; /* what is sent is relative to the cookie */
    bench_write(10);
    bench_ignore();
    bench->tcb.flags |= UN_TCB_DETACHED;
}

int main(void)
{
    TEST(reset_must_be_exact);
    TEST(syn_is_challenged);
    TEST(ack_must_be_in_range);
    TEST(challenges_are_bounded);
    TEST(errors_do_not_end_a_connection);
    TEST(packet_too_big_is_sent_smaller);
    TEST(black_hole_is_found);
    TEST(black_hole_is_found_by_what_is_left);
    TEST(small_segments_suspect_nothing);
    TEST(after_ten_minutes_a_larger_segment_is_tried);
    TEST(a_path_that_is_still_narrow_costs_one_segment_in_ten_minutes);
    TEST(without_sack_a_lost_probe_is_repaired_too);
    TEST(a_probe_counts_once);
    TEST(what_the_application_made_small_stays_small);
    TEST(silent_peer_is_given_up);
    TEST(user_timeout);
    TEST(keepalive_asks_and_hears);
    TEST(keepalive_gives_up);
    TEST(keepalive_leaves_the_asking_to_data);
    TEST(without_keepalive_silence_is_eternal);
    TEST(keepalive_that_is_switched_off_is_off);
    TEST(keepalive_gives_up_behind_a_window_probe);
    TEST(keepalive_hears_while_frames_are_short);
    RUN(refusals);
    TEST(cookies_remember);
    TEST(wrong_cookies_are_refused);
    TEST(cookie_makes_a_connection);
    return 0;
}
