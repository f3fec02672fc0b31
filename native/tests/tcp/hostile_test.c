/* Whatever segments arrive, in whatever order, and whatever the application and the path do meanwhile: no assertion
 * fails, what is read is what stands at its position, records agree with their sums, the window edge never moves left
 * while the connection lasts, and in the end everything is given back. Segments are random around what the connection
 * expects. */
#include "harness.h"

static uint64_t state;

static uint32_t below(uint32_t bound)
{
    return random_below(&state, bound);
}

static uint32_t near_number(uint32_t number)
{
    static const uint32_t spreads[] = {1, 3, 1500, 70000, 1u << 20, UINT32_MAX};
    uint32_t spread = spreads[below(6)];
    return number + (spread == UINT32_MAX ? (uint32_t)random_next(&state) : below(spread) - spread / 2);
}

static uint8_t random_flags(void)
{
    static const uint8_t common[] = {ACK, ACK, ACK, ACK, ACK, ACK | PSH, ACK | PSH, ACK | ECE, ACK | CWR, ACK | FIN,
                                     SYN, SYN | ACK, RST, RST | ACK, 0, ACK | URG};
    return below(50) == 0 ? (uint8_t)random_next(&state) : common[below(below(10) ? 9 : 16)];
}

static void random_sacks(struct un_seg *seg)
{
    seg->sack_count = (uint8_t)below(UN_SACK_BLOCKS_MAX + 1);
    for (uint32_t i = 0; i < seg->sack_count; i++) {
        seg->sacks[i].start = near_number(bench->tcb.snd_una);
        seg->sacks[i].end = seg->sacks[i].start + below(5000);
    }
}

static void random_segment(void)
{
    const struct un_tcb *tcb = &bench->tcb;
    struct un_seg seg = {
        .flags = random_flags(),
        .seq = near_number(tcb->rcv_nxt) - tcb->irs,
        .ack = near_number(below(2) ? tcb->snd_nxt : tcb->snd_una) - tcb->iss,
        .length = below(3) ? 0 : below(below(4) ? MSS : 4 * MSS),
        .wnd = (uint16_t)(below(4) ? 10000 : random_next(&state)),
        .options = below(20) ? (tcb->flags & UN_TCB_TIMESTAMP ? UN_SEG_TIMESTAMP : 0) : (uint8_t)below(16),
        .tsval = below(10) ? tcb->ts_recent + below(3) : (uint32_t)random_next(&state),
        .tsecr = (uint32_t)(bench->tcp.now_ns / UN_MS_NS) - below(300),
        .mss = (uint16_t)below(2000),
        .wscale = (uint8_t)below(16),
        .ecn = (uint8_t)below(4),
    };
    if (tcb->state == UN_TCP_SYN_SENT) /* the position of payload is known by the test as well as by the peer */
        seg.seq = seg.length = 0;
    if (below(3) == 0)
        random_sacks(&seg);
    bench_queue(seg);
}

static void random_application(void)
{
    switch (below(40)) {
    case 0:
        un_tcp_shutdown(&bench->tcp, &bench->tcb);
        break;
    case 1:
        bench->tcb.flags ^= UN_TCB_NODELAY;
        break;
    case 2:
        bench->tcb.flags ^= UN_TCB_CORK;
        break;
    case 3:
        bench->tcb.flags ^= UN_TCB_KEEPALIVE;
        un_tcp_rearm_keepalive(&bench->tcp, &bench->tcb);
        break;
    case 4:
        un_tcp_icmp(&bench->tcp, &bench->tcb, below(2) ? UN_TCP_REASON_REFUSED : UN_TCP_REASON_NONE,
                    below(3) ? 0 : below(3000), near_number(bench->tcb.snd_una));
        break;
    case 5:
        if (below(20) == 0)
            un_tcp_close(&bench->tcp, &bench->tcb);
        break;
    default:
        if (below(2))
            bench_write(1 + below(below(5) ? 3000 : 60000));
        else
            bench_read(below(50000));
    }
}

static uint32_t payload_frames(void)
{
    uint32_t count = bench->tcb.rcv_frames + bench->tcb.rcv_ooo_frames;
    for (uint32_t frame = bench->tcb.snd.head; frame != UN_NONE; frame = bench->frames[frame].next)
        count++;
    return count;
}

static void check_invariants(void)
{
    const struct un_tcb *tcb = &bench->tcb;
    CHECK_EQ(bench->pool_memory.free_count + payload_frames(), FRAMES);
    CHECK(tcb->rcv_bytes <= tcb->rcv_limit + tcb->rcv_limit / 16 + (1u << tcb->rcv_wscale));
    CHECK(un_seq_le(tcb->snd_una, tcb->snd_nxt));
    if (tcb->state & UN_TCP_SYNCHRONIZED)
        CHECK(un_seq_le(tcb->rcv_nxt, tcb->rcv_edge));
    const char *wrong = un_tcp_check(&bench->tcp, &bench->tcb);
    if (wrong)
        check_failed(__FILE__, __LINE__, wrong);
}

static void open_somehow(void)
{
    const uint8_t options[] = {0, UN_SEG_MSS, UN_SEG_MSS | UN_SEG_SACK_PERMITTED, UN_SEG_MSS | UN_SEG_TIMESTAMP,
                               UN_SEG_MSS | UN_SEG_WSCALE | UN_SEG_SACK_PERMITTED | UN_SEG_TIMESTAMP};
    bench->config.rcv_limit = 1u << (10 + below(10));
    bench->config.snd_limit = 1u << (10 + below(10));
    bench->config.ooo_frames_max = (uint16_t)(1 + below(64));
    bench->tcp.tx_segment_bytes = below(2) ? 65000 : 0;
    bench->config.congestion = (uint8_t)below(UN_CONGESTIONS);
    switch (below(4)) {
    case 0:
        bench_connect();
        break;
    case 1:
        bench_listen((struct un_seg){.options = options[below(5)], .mss = (uint16_t)(below(2) ? MSS : below(3000))});
        break;
    default:
        bench_establish_with(options[below(5)]);
    }
    bench_ignore();
}

static void survive(uint64_t seed)
{
    state = seed * 0x9e3779b97f4a7c15u;
    bench_base = (uint32_t)random_next(&state);
    bench_begin();
    open_somehow();
    for (uint32_t step = 0; step < 300 && !bench->is_ended; step++) {
        bench->is_blocked = below(20) == 0;
        if (below(4))
            random_segment();
        else if (bench->tcb.state & UN_TCP_SYNCHRONIZED)
            random_application();
        if (!bench->is_ended && below(3))
            bench_dispatch();
        bench_ignore();
        if (below(6) == 0)
            bench_advance_us(__FILE__, __LINE__, below(below(5) ? 300000 : 100000000));
        bench_ignore();
        bench_take_events();
        check_invariants();
    }
    bench->is_blocked = false;
    if (!bench->is_ended && bench->tcb.state != UN_TCP_DEAD)
        un_tcp_abort(&bench->tcp, &bench->tcb, UN_TCP_REASON_ABORTED);
    bench_ignore();
    bench_finish();
}

static void random_segments(void)
{
    for_each_seed(UN_TEST_SANITIZED ? 1500 : 5000, survive);
}

int main(void)
{
    RUN(random_segments);
    return 0;
}
