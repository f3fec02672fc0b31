/* Two connections on a simulated wire that loses, repeats, delays and reorders, with applications that write, read
 * slowly, shut down and close; in virtual time. Every byte arrives exactly once and in order, both ends come to their
 * end within bounded time, and nothing is left over. A super-segment is cut by the wire, or arrives whole. */
#include <string.h>

#include "../check.h"
#include "tcp/internal.h"

enum { FRAMES = 2048, FRAME_BYTES = 2048, SENTS = 512, FLIGHT_MAX = 4096, MTU = 1500 };

struct end {
    struct un_tcp tcp; /* first: operations find the end by it */
    struct un_tcb tcb;
    struct un_tcp_config config;
    struct un_tcp_counters counters;
    uint64_t drops[UN_DROP_COUNT];
    struct un_sent_pool sent_pool;
    struct un_sent sents[SENTS];
    struct un_pool_memory pool_memory;
    struct un_frame frames[FRAMES];
    uint8_t *bytes;
    struct end *other;

    uint32_t to_write; /* in all, then shutdown */
    uint32_t written;
    uint32_t read;
    uint32_t read_most; /* at a time */
    uint64_t read_every_ns;
    uint64_t read_next_ns;
    bool has_shut;
    bool has_eof;
    bool wants_output;
    bool is_ended;
    bool is_told; /* CLOSED */
};

struct packet {
    uint64_t arrival_ns;
    struct end *to;
    struct un_seg seg;
    uint8_t *payload;
};

struct network {
    struct end ends[2];
    struct packet flight[FLIGHT_MAX];
    uint32_t count;
    uint64_t now_ns;
    uint64_t random;
    uint32_t loss; /* of 1,000 */
    uint32_t repeat;
    uint64_t delay_ns;
    uint64_t jitter_ns;
};

static struct network *network;

static uint8_t pattern(uint32_t position)
{
    return (uint8_t)(position * 13 + position / 509);
}

static uint32_t below(uint32_t bound)
{
    return random_below(&network->random, bound);
}

/* ---- the wire ---- */

static void put_on_wire(struct end *to, const struct un_seg *seg, const uint8_t *payload)
{
    if (below(1000) < network->loss || network->count == FLIGHT_MAX)
        return;
    struct packet *packet = &network->flight[network->count++];
    packet->arrival_ns = network->now_ns + network->delay_ns;
    packet->arrival_ns += network->jitter_ns ? random_next(&network->random) % network->jitter_ns : 0;
    packet->to = to;
    packet->seg = *seg;
    packet->payload = malloc(seg->length + 1);
    CHECK(packet->payload);
    if (seg->length > 0)
        memcpy(packet->payload, payload, seg->length);
}

static void transmit(struct end *to, const struct un_seg *seg, const uint8_t *payload)
{
    put_on_wire(to, seg, payload);
    if (below(1000) < network->repeat)
        put_on_wire(to, seg, payload);
}

/* As a device does it: flags of the end on the last part only. */
static void transmit_parts(struct end *to, const struct un_seg *seg, const uint8_t *payload, uint32_t segment_bytes)
{
    for (uint32_t at = 0; at < seg->length; at += segment_bytes) {
        struct un_seg part = *seg;
        bool is_last = seg->length - at <= segment_bytes;
        part.seq += at;
        part.length = is_last ? seg->length - at : segment_bytes;
        if (!is_last)
            part.flags &= (uint8_t)~(UN_TCP_FIN | UN_TCP_PSH);
        transmit(to, &part, payload + at);
    }
}

static int on_emit(struct un_tcp *tcp, struct un_tcb *tcb, struct un_seg *seg, const struct un_piece *pieces, int count,
                   uint32_t segment_bytes)
{
    struct end *end = (struct end *)tcp;
    (void)tcb;
    if (below(100) == 0)
        return -11;
    uint8_t *payload = malloc(seg->length + 1);
    CHECK(payload);
    uint32_t length = 0;
    for (int i = 0; i < count; length += pieces[i++].length)
        memcpy(payload + length, pieces[i].bytes, pieces[i].length);
    CHECK_EQ(length, seg->length);
    CHECK(segment_bytes || seg->length + un_tcp_option_bytes(seg) <= MTU - 40);
    CHECK(!segment_bytes || segment_bytes + un_tcp_option_bytes(seg) <= MTU - 40);
    if (segment_bytes && below(2))
        transmit_parts(end->other, seg, payload, segment_bytes);
    else
        transmit(end->other, seg, payload);
    free(payload);
    return 0;
}

static uint32_t frames_of(struct end *end, const struct packet *packet, bool *is_short)
{
    uint32_t first = UN_NONE;
    uint32_t *link = &first;
    for (uint32_t at = 0; at < packet->seg.length;) {
        uint32_t room = 200 + below(FRAME_BYTES - 200);
        uint32_t part = packet->seg.length - at < room ? packet->seg.length - at : room;
        uint32_t frame = un_pool_take(&end->tcp.pool);
        *is_short = frame == UN_NONE;
        if (*is_short)
            break;
        memcpy(un_pool_bytes(&end->tcp.pool, frame), packet->payload + at, part);
        end->frames[frame].length = (uint16_t)part;
        *link = frame;
        link = &end->frames[frame].next;
        at += part;
    }
    return first;
}

static void deliver(uint32_t index)
{
    struct packet packet = network->flight[index];
    network->flight[index] = network->flight[--network->count];
    bool is_short = false;
    uint32_t frame = frames_of(packet.to, &packet, &is_short);
    if (packet.to->is_ended || is_short)
        un_pool_drop_chain(&packet.to->tcp.pool, frame);
    else
        un_tcp_process(&packet.to->tcp, &packet.to->tcb, &packet.seg, frame);
    free(packet.payload);
}

/* ---- the ends ---- */

static void on_event(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t events)
{
    (void)tcb;
    if (events & UN_TCP_EVENT_CLOSED)
        ((struct end *)tcp)->is_told = true;
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
    ((struct end *)tcp)->wants_output = true;
}

static void on_ended(struct un_tcp *tcp, struct un_tcb *tcb)
{
    tcb->wheel_at = UN_NONE;
    ((struct end *)tcp)->is_ended = true;
}

static const struct un_tcp_operations operations = {
    .emit = on_emit, .event = on_event, .arm = on_arm, .output = on_output, .ended = on_ended};

static void begin_end(struct end *end, struct end *other)
{
    end->config = (struct un_tcp_config){
        .rcv_limit = 1u << (12 + below(8)),
        .snd_limit = 1u << (12 + below(8)),
        .rto_min_us = 200000,
        .rto_max_us = 60000000,
        .rto_initial_us = 1000000,
        .delayed_ack_us = 40000,
        .msl_ms = 300000,
        .user_timeout_ms = 600000,
        .fin_wait_2_ms = 60000,
        .persist_max_us = 60000000,
        .keep_idle_s = 10,
        .keep_interval_s = 10,
        .keep_count = 20,
        .syn_retries = 10,
        .syn_ack_retries = 10,
        .initial_window = 10,
        .congestion = (uint8_t)below(UN_CONGESTIONS),
        .ecn = (uint8_t)below(3),
        .timestamps = below(4),
        .sack = below(4),
        .window_scaling = below(4),
        .ooo_frames_max = (uint16_t)(8 + below(256)),
        .rcv_frames_max = 256,
        .challenge_acks_per_s = 100,
        .tx_segments_max = 44,
    };
    struct un_tcp *tcp = &end->tcp;
    end->bytes = calloc(FRAMES, FRAME_BYTES);
    end->other = other;
    end->to_write = below(4) ? below(300000) : below(20);
    end->read_most = below(3) ? UINT32_MAX : 1 + below(5000);
    end->read_every_ns = below(3) ? 0 : (1 + below(50)) * UN_MS_NS;
    tcp->pool = (struct un_pool){.own = &end->pool_memory, .frames = end->frames, .bytes = end->bytes};
    un_pool_format(&tcp->pool, FRAMES, FRAME_BYTES);
    tcp->tcbs = &end->tcb;
    tcp->sents = end->sents;
    tcp->sent_pool = &end->sent_pool;
    end->sent_pool.count = SENTS;
    un_recovery_rebuild(tcp, NULL);
    tcp->config = &end->config;
    tcp->counters = &end->counters;
    tcp->drops = end->drops;
    tcp->operations = &operations;
    tcp->tx_segment_bytes = below(2) ? 65000 : 0;
    un_tcp_set_now(tcp, network->now_ns);
    const uint8_t peer[4] = {10, 0, 0, 2};
    end->tcb.peer = un_ip_from_v4(peer);
    end->tcb.listener = UINT16_MAX;
    end->tcb.wheel_at = UN_NONE;
    un_tcp_init(tcp, &end->tcb, (uint32_t)random_next(&network->random), (uint32_t)random_next(&network->random), MTU,
                MTU);
    if (below(2))
        end->tcb.flags |= UN_TCB_NODELAY;
}

static void write_some(struct end *end)
{
    uint8_t buffer[5000];
    uint32_t left = end->to_write - end->written;
    uint32_t length = left < sizeof buffer ? left : 1 + below(sizeof buffer);
    for (uint32_t i = 0; i < length; i++)
        buffer[i] = pattern(end->written + i);
    struct un_piece piece = {buffer, length, UN_NONE};
    if (length > 0) {
        int64_t taken = un_tcp_write(&end->tcp, &end->tcb, &piece, 1);
        CHECK(taken >= 0);
        end->written += (uint32_t)taken;
    }
    if (end->written == end->to_write && !end->has_shut) {
        end->has_shut = true;
        un_tcp_shutdown(&end->tcp, &end->tcb);
    }
}

static void read_some(struct end *end)
{
    struct un_piece piece;
    uint32_t most = end->read_most;
    while (most > 0 && un_tcp_peek(&end->tcp, &end->tcb, &piece, 1) == 1) {
        uint32_t length = piece.length < most ? piece.length : most;
        for (uint32_t i = 0; i < length; i++)
            CHECK_EQ(piece.bytes[i], pattern(end->read + i));
        un_tcp_consume(&end->tcp, &end->tcb, length);
        end->read += length;
        most -= length;
    }
    end->read_next_ns = network->now_ns + end->read_every_ns;
    end->has_eof = end->has_eof || un_tcp_is_eof(&end->tcb);
}

static void run_application(struct end *end)
{
    if (end->is_ended || !(end->tcb.state & (UN_TCP_SYNCHRONIZED | UN_TCP_DEAD)))
        return;
    if (network->now_ns >= end->read_next_ns)
        read_some(end);
    if ((end->tcb.state & UN_TCP_CAN_SEND) && !end->has_shut)
        write_some(end);
    if (end->is_told) {
        CHECK_EQ(end->tcb.reason, UN_TCP_REASON_CLOSED);
        un_tcp_close(&end->tcp, &end->tcb);
    }
}

static void turn(struct end *end)
{
    un_tcp_set_now(&end->tcp, network->now_ns);
    if (!end->is_ended && end->tcb.wheel_at != UN_NONE && end->tcb.wheel_ns <= network->now_ns) {
        end->tcb.wheel_at = UN_NONE;
        un_tcp_expire(&end->tcp, &end->tcb);
    }
    run_application(end);
    for (uint32_t i = 0; i < 3 && end->wants_output && !end->is_ended; i++) {
        end->wants_output = false;
        if (un_tcp_dispatch(&end->tcp, &end->tcb) < 0)
            end->wants_output = true;
    }
    const char *wrong = end->is_ended ? NULL : un_tcp_check(&end->tcp, &end->tcb);
    if (wrong)
        check_failed(__FILE__, __LINE__, wrong);
}

/* ---- a run ---- */

static bool is_over(void)
{
    return network->ends[0].is_ended && network->ends[1].is_ended;
}

static uint64_t next_ns(void)
{
    uint64_t next = UINT64_MAX;
    for (uint32_t i = 0; i < network->count; i++)
        next = network->flight[i].arrival_ns < next ? network->flight[i].arrival_ns : next;
    for (uint32_t i = 0; i < 2; i++) {
        struct end *end = &network->ends[i];
        if (end->is_ended)
            continue;
        if (end->tcb.wheel_at != UN_NONE && end->tcb.wheel_ns < next)
            next = end->tcb.wheel_ns;
        if ((end->wants_output || !end->has_shut) && network->now_ns + UN_MS_NS < next)
            next = network->now_ns + UN_MS_NS;
        if (end->tcb.rcv_bytes > 0 && end->read_next_ns < next)
            next = end->read_next_ns;
    }
    return next;
}

static void step(void)
{
    uint64_t next = next_ns();
    CHECK(next != UINT64_MAX); /* somebody always has something to wait for */
    network->now_ns = next > network->now_ns ? next : network->now_ns;
    for (uint32_t i = 0; i < 2; i++)
        un_tcp_set_now(&network->ends[i].tcp, network->now_ns);
    for (uint32_t i = 0; i < network->count;) {
        if (network->flight[i].arrival_ns <= network->now_ns)
            deliver(i);
        else
            i++;
    }
    turn(&network->ends[0]);
    turn(&network->ends[1]);
}

/* The SYN is taken by hand, as a listener would. */
static void open_both(void)
{
    struct end *client = &network->ends[0], *server = &network->ends[1];
    un_tcp_connect(&client->tcp, &client->tcb);
    struct un_seg syn = {
        .flags = UN_TCP_SYN,
        .seq = client->tcb.iss,
        .wnd = un_tcp_window_syn(&client->tcp, &client->tcb),
        .options = UN_SEG_MSS,
        .mss = MTU - 40,
    };
    syn.options |= client->config.window_scaling ? UN_SEG_WSCALE : 0;
    syn.options |= client->config.timestamps ? UN_SEG_TIMESTAMP : 0;
    syn.options |= client->config.sack ? UN_SEG_SACK_PERMITTED : 0;
    syn.wscale = client->tcb.rcv_wscale;
    syn.tsval = un_tcp_timestamp(&client->tcp, &client->tcb);
    un_tcp_accept_syn(&server->tcp, &server->tcb, &syn);
}

static void check_end(const struct end *end)
{
    CHECK_EQ(end->written, end->to_write);
    CHECK_EQ(end->read, end->other->to_write);
    CHECK(end->has_eof);
    CHECK_EQ(end->pool_memory.free_count, FRAMES);
    CHECK_EQ(end->sent_pool.free_count, SENTS);
}

static void exchange(uint64_t seed)
{
    network = calloc(1, sizeof *network);
    CHECK(network);
    network->random = seed * 0x9e3779b97f4a7c15u;
    network->now_ns = 1000 * UN_SECOND_NS;
    network->loss = below(3) ? below(60) : 0;
    network->repeat = below(3) ? 0 : below(60);
    network->delay_ns = below(100) * UN_MS_NS;
    network->jitter_ns = below(3) ? 0 : below(30) * UN_MS_NS;
    begin_end(&network->ends[0], &network->ends[1]);
    begin_end(&network->ends[1], &network->ends[0]);
    open_both();
    uint64_t limit_ns = network->now_ns + 4 * 3600 * UN_SECOND_NS;
    while (!is_over()) {
        step();
        CHECK(network->now_ns < limit_ns);
    }
    for (uint32_t i = 0; i < 2; i++) {
        check_end(&network->ends[i]);
        free(network->ends[i].bytes);
    }
    for (uint32_t i = 0; i < network->count; i++)
        free(network->flight[i].payload);
    free(network);
}

static void exchanges_at_random(void)
{
    for_each_seed(UN_TEST_SANITIZED ? 60 : 300, exchange);
}

int main(void)
{
    RUN(exchanges_at_random);
    return 0;
}
