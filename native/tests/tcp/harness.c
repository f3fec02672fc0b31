/* See harness.h. */
#include "harness.h"

struct bench *bench;
uint32_t bench_base;

#define START_NS (1000 * UN_SECOND_NS)

static struct bench *of(struct un_tcp *tcp)
{
    return (struct bench *)tcp;
}

static uint32_t iss(void)
{
    return bench_base;
}

static uint32_t irs(void)
{
    return bench_base + 77;
}

uint8_t bench_pattern(uint32_t position)
{
    return (uint8_t)(position * 7 + position / 251);
}

/* ---- operations ---- */

static void verify_payload(const struct un_seg *seg, const struct un_piece *pieces, int count)
{
    uint32_t position = seg->seq - iss() - 1;
    uint32_t length = 0;
    for (int i = 0; i < count; i++) {
        for (uint32_t at = 0; at < pieces[i].length; at++)
            CHECK_EQ(pieces[i].bytes[at], bench_pattern(position + length + at));
        length += pieces[i].length;
    }
    CHECK_EQ(length, seg->length);
}

static int on_emit(struct un_tcp *tcp, struct un_tcb *tcb, struct un_seg *seg, const struct un_piece *pieces, int count,
                   uint32_t segment_bytes)
{
    struct bench *b = of(tcp);
    CHECK(tcb == &b->tcb);
    if (b->is_blocked)
        return -11;
    verify_payload(seg, pieces, count);
    CHECK(b->out_tail < SENT_MAX);
    struct sent_segment *sent = &b->out[b->out_tail++];
    sent->seg = *seg;
    sent->seg.seq -= iss();
    if (seg->flags & ACK)
        sent->seg.ack -= irs();
    sent->segment_bytes = segment_bytes;
    return 0;
}

static void on_event(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t events)
{
    CHECK(!(tcb->flags & UN_TCB_DETACHED));
    CHECK(!(tcb->events & UN_TCP_EVENT_CLOSED)); /* it is the last one */
    tcb->events |= events;
    of(tcp)->events |= events;
}

static void on_arm(struct un_tcp *tcp, struct un_tcb *tcb, uint64_t deadline_ns)
{
    (void)tcp;
    if (tcb->wheel_at != UN_NONE && tcb->wheel_ns <= deadline_ns)
        return;
    tcb->wheel_at = 0;
    tcb->wheel_ns = deadline_ns;
}

static void on_output(struct un_tcp *tcp, struct un_tcb *tcb)
{
    (void)tcb;
    of(tcp)->wants_output = true;
}

static void on_ended(struct un_tcp *tcp, struct un_tcb *tcb)
{
    CHECK_EQ(tcb->state, UN_TCP_CLOSED);
    tcb->wheel_at = UN_NONE;
    of(tcp)->is_ended = true;
}

static const struct un_tcp_operations operations = {
    .emit = on_emit,
    .event = on_event,
    .arm = on_arm,
    .output = on_output,
    .ended = on_ended,
};

/* ---- life of a bench ---- */

static const struct un_tcp_config default_config = {
    .rcv_limit = 65535,
    .snd_limit = 1 << 20,
    .rto_min_us = 200000,
    .rto_max_us = 120000000,
    .rto_initial_us = 1000000,
    .delayed_ack_us = 40000,
    .msl_ms = 30000,
    .user_timeout_ms = 120000,
    .fin_wait_2_ms = 60000,
    .persist_max_us = 60000000,
    .keep_idle_s = 7200,
    .keep_interval_s = 75,
    .keep_count = 9,
    .syn_retries = 6,
    .syn_ack_retries = 5,
    .initial_window = 10,
    .congestion = UN_CONGESTION_RENO,
    .ecn = true,
    .timestamps = true,
    .sack = true,
    .window_scaling = true,
    .path_mtu_probing = true,
    .ooo_frames_max = 256,
    .rcv_frames_max = 512,
    .challenge_acks_per_s = 10,
    .tx_segments_max = 44,
};

void bench_begin(void)
{
    bench = calloc(1, sizeof *bench);
    CHECK(bench);
    bench->bytes = calloc(FRAMES, FRAME_BYTES);
    bench->config = default_config;
    struct un_tcp *tcp = &bench->tcp;
    tcp->pool = (struct un_pool){.own = &bench->pool_memory, .frames = bench->frames, .bytes = bench->bytes};
    un_pool_format(&tcp->pool, FRAMES, FRAME_BYTES);
    tcp->tcbs = &bench->tcb;
    tcp->sents = bench->sents;
    tcp->sent_pool = &bench->sent_pool;
    bench->sent_pool.count = SENTS;
    un_recovery_rebuild(tcp, NULL);
    tcp->config = &bench->config;
    tcp->counters = &bench->counters;
    tcp->drops = bench->drops;
    tcp->operations = &operations;
    un_tcp_set_now(tcp, START_NS);
    const uint8_t peer[4] = {10, 0, 0, 2};
    bench->tcb.peer = un_ip_from_v4(peer);
    bench->tcb.peer_port = 4000;
    bench->tcb.local_port = 80;
    bench->tcb.listener = UINT16_MAX;
    bench->tcb.wheel_at = UN_NONE;
    bench->tcb.generation = 1;
}

static void init(void)
{
    un_tcp_init(&bench->tcp, &bench->tcb, iss(), 0, MTU, MTU);
}

void bench_finish(void)
{
    CHECK_EQ(bench->out_head, bench->out_tail);
    if (!bench->is_ended && bench->tcb.state != UN_TCP_DEAD)
        un_tcp_abort(&bench->tcp, &bench->tcb, UN_TCP_REASON_ABORTED);
    if (bench->tcb.state == UN_TCP_DEAD)
        un_tcp_forget(&bench->tcp, &bench->tcb);
    CHECK(bench->is_ended);
    CHECK_EQ(bench->pool_memory.free_count, FRAMES);
    CHECK_EQ(bench->sent_pool.free_count, SENTS);
    CHECK_EQ(un_tcp_deadline_ns(&bench->tcb), 0);
    free(bench->bytes);
    free(bench);
    bench = NULL;
}

void bench_run(const char *name, void (*test)(void))
{
    static const uint32_t bases[] = {0x30000000, 0xfffffe00};
    check_test = name;
    for (uint32_t i = 0; i < 2; i++) {
        bench_base = bases[i];
        bench_begin();
        test();
        bench_finish();
    }
    printf("ok %s\n", name);
    fflush(stdout);
}

/* ---- segments in and out ---- */

void bench_nothing(const char *file, int line)
{
    if (!bench_has_sent())
        return;
    const struct un_seg *seg = &bench->out[bench->out_head].seg;
    fprintf(stderr, "sent: flags %02x seq %u ack %u length %u wnd %u\n", seg->flags, seg->seq, seg->ack, seg->length,
            seg->wnd);
    check_failed(file, line, "nothing else was sent");
}

static uint32_t payload(const struct un_seg *seg)
{
    uint32_t first = UN_NONE;
    uint32_t *link = &first;
    uint32_t position = seg->seq - irs() - 1;
    for (uint32_t at = 0; at < seg->length;) {
        uint32_t part = seg->length - at < MSS ? seg->length - at : MSS;
        uint32_t frame = un_pool_take(&bench->tcp.pool);
        CHECK(frame != UN_NONE);
        for (uint32_t i = 0; i < part; i++)
            un_pool_bytes(&bench->tcp.pool, frame)[60 + i] = bench_pattern(position + at + i);
        bench->frames[frame].offset = 60;
        bench->frames[frame].length = (uint16_t)part;
        *link = frame;
        link = &bench->frames[frame].next;
        at += part;
    }
    return first;
}

void bench_queue(struct un_seg seg)
{
    seg.seq += irs();
    if (seg.flags & ACK)
        seg.ack += iss();
    if (seg.wnd == 0)
        seg.wnd = PEER_WINDOW;
    else if (seg.wnd == UINT16_MAX)
        seg.wnd = 0; /* how a test writes a shut window */
    uint32_t frame = payload(&seg);
    bench->drop = un_tcp_process(&bench->tcp, &bench->tcb, &seg, frame);
}

void bench_dispatch(void)
{
    if (!bench->wants_output || bench->is_ended)
        return;
    bench->wants_output = false;
    if (un_tcp_dispatch(&bench->tcp, &bench->tcb) < 0)
        bench->wants_output = true;
    const char *wrong = un_tcp_check(&bench->tcp, &bench->tcb);
    if (wrong)
        check_failed(__FILE__, __LINE__, wrong);
}

void bench_send(const char *file, int line, struct un_seg seg)
{
    bench_nothing(file, line);
    bench_queue(seg);
    bench_dispatch();
}

static void compare(const char *file, int line, const char *what, uint32_t got, uint32_t want)
{
    if (got == want)
        return;
    fprintf(stderr, "%s: %u (0x%x) instead of %u (0x%x)\n", what, got, got, want, want);
    check_failed(file, line, "the segment is as expected");
}

struct un_seg *bench_expect(const char *file, int line, struct un_seg want)
{
    if (!bench_has_sent())
        check_failed(file, line, "something was sent");
    struct un_seg *got = &bench->out[bench->out_head++].seg;
    if (!bench_has_sent() && bench->out_tail > SENT_MAX / 2)
        bench_ignore();
    compare(file, line, "flags", got->flags, want.flags);
    compare(file, line, "seq", got->seq, want.seq);
    compare(file, line, "ack", got->ack, want.ack);
    compare(file, line, "length", got->length, want.length);
    if (want.wnd)
        compare(file, line, "wnd", got->wnd, want.wnd);
    return got;
}

bool bench_has_sent(void)
{
    return bench->out_head != bench->out_tail;
}

void bench_ignore(void)
{
    bench->out_head = bench->out_tail = 0;
}

void bench_advance_us(const char *file, int line, uint64_t us)
{
    bench_nothing(file, line);
    uint64_t end = bench->tcp.now_ns + us * UN_US_NS;
    while (!bench->is_ended && bench->tcb.wheel_at != UN_NONE && bench->tcb.wheel_ns <= end) {
        un_tcp_set_now(&bench->tcp, bench->tcb.wheel_ns);
        bench->tcb.wheel_at = UN_NONE;
        un_tcp_expire(&bench->tcp, &bench->tcb);
        bench_dispatch();
    }
    un_tcp_set_now(&bench->tcp, end);
}

uint32_t bench_take_events(void)
{
    uint32_t events = bench->events;
    bench->events = 0;
    bench->tcb.events = 0;
    return events;
}

/* ---- the application ---- */

int64_t bench_write(uint32_t bytes)
{
    uint8_t *buffer = malloc(bytes);
    CHECK(buffer);
    for (uint32_t i = 0; i < bytes; i++)
        buffer[i] = bench_pattern(bench->written + i);
    struct un_piece piece = {buffer, bytes, UN_NONE};
    int64_t taken = un_tcp_write(&bench->tcp, &bench->tcb, &piece, 1);
    if (taken > 0)
        bench->written += (uint32_t)taken;
    free(buffer);
    bench_dispatch();
    return taken;
}

uint32_t bench_read(uint32_t most)
{
    uint32_t total = 0;
    struct un_piece piece;
    while (total < most && un_tcp_peek(&bench->tcp, &bench->tcb, &piece, 1) == 1) {
        uint32_t bytes = piece.length < most - total ? piece.length : most - total;
        for (uint32_t i = 0; i < bytes; i++)
            CHECK_EQ(piece.bytes[i], bench_pattern(bench->read + i));
        un_tcp_consume(&bench->tcp, &bench->tcb, bytes);
        bench->read += bytes;
        total += bytes;
    }
    bench_dispatch();
    return total;
}

/* ---- ways to a state ---- */

void bench_listen(struct un_seg syn)
{
    syn.flags |= SYN;
    syn.seq = irs();
    if (syn.wnd == 0)
        syn.wnd = PEER_WINDOW;
    init();
    un_tcp_accept_syn(&bench->tcp, &bench->tcb, &syn);
    bench_dispatch();
    CHECK_EQ(bench->tcb.state, UN_TCP_SYN_RECEIVED);
}

void bench_connect(void)
{
    init();
    un_tcp_connect(&bench->tcp, &bench->tcb);
    bench_dispatch();
    CHECK_EQ(bench->tcb.state, UN_TCP_SYN_SENT);
}

void bench_establish(void)
{
    bench_establish_with(UN_SEG_MSS);
}

void bench_establish_with(uint8_t options)
{
    bench_listen((struct un_seg){.options = options, .mss = MSS, .wscale = 0, .tsval = 100});
    EXPECT(.flags = SYN | ACK, .seq = 0, .ack = 1);
    uint32_t tsecr = (uint32_t)(bench->tcp.now_ns / UN_MS_NS);
    SEND(.flags = ACK, .seq = 1, .ack = 1, .options = options & UN_SEG_TIMESTAMP, .tsval = 101, .tsecr = tsecr);
    CHECK_EQ(bench->tcb.state, UN_TCP_ESTABLISHED);
    CHECK_EQ(bench_take_events(), UN_TCP_EVENT_ACCEPTED);
    bench->tcb.quickacks = 0; /* tests of delayed ACKs begin where the start is over */
}

void bench_establish_active(void)
{
    bench_connect();
    bench_ignore();
    SEND(.flags = SYN | ACK, .seq = 0, .ack = 1, .options = UN_SEG_MSS, .mss = MSS);
    EXPECT(.flags = ACK, .seq = 1, .ack = 1);
    CHECK_EQ(bench->tcb.state, UN_TCP_ESTABLISHED);
    CHECK_EQ(bench_take_events(), UN_TCP_EVENT_CONNECTED);
    bench->tcb.quickacks = 0;
}
