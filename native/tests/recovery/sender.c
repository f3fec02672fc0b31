/* See sender.h. */
#include "sender.h"

#include <string.h>

#define START_NS (1000 * UN_SECOND_NS)

struct sender sender;

static void on_event(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t events)
{
    (void)tcp, (void)tcb, (void)events;
}

static void on_arm(struct un_tcp *tcp, struct un_tcb *tcb, uint64_t deadline_ns)
{
    (void)tcp, (void)tcb, (void)deadline_ns;
}

static void on_output(struct un_tcp *tcp, struct un_tcb *tcb)
{
    (void)tcp, (void)tcb;
    sender.wants_output = true;
}

static const struct un_tcp_operations operations = {.event = on_event, .arm = on_arm, .output = on_output};

static void make_environment(uint32_t congestion)
{
    memset(&sender, 0, sizeof sender);
    sender.config = (struct un_tcp_config){
        .snd_limit = SENDER_FRAMES * 1024,
        .rto_min_us = 200000,
        .rto_max_us = 60000000,
        .rto_initial_us = 1000000,
        .initial_window = 10,
        .congestion = (uint8_t)congestion,
    };
    sender.burst = 1;
    sender.pool_memory = (struct un_pool_memory){.count = SENDER_FRAMES};
    sender.sent_pool.count = SENDER_SENTS;
    sender.tcp = (struct un_tcp){
        .pool = {&sender.pool_memory, sender.frames, sender.bytes},
        .tcbs = &sender.tcb,
        .sents = sender.sents,
        .sent_pool = &sender.sent_pool,
        .config = &sender.config,
        .counters = &sender.counters,
        .drops = sender.drops,
        .operations = &operations,
    };
    un_pool_format(&sender.tcp.pool, SENDER_FRAMES, 2048);
    un_recovery_rebuild(&sender.tcp, NULL);
    un_tcp_set_now(&sender.tcp, START_NS);
}

void open_sender_at(uint32_t flags, uint32_t congestion, uint32_t iss, uint16_t mss)
{
    make_environment(congestion);
    struct un_tcb *tcb = &sender.tcb;
    tcb->state = UN_TCP_ESTABLISHED;
    tcb->flags = flags;
    tcb->iss = iss;
    tcb->snd_una = tcb->snd_nxt = iss + 1;
    tcb->snd.head = tcb->unsent_frame = UN_NONE;
    tcb->snd_mss = mss;
    tcb->snd_wnd = 1u << 30;
    tcb->snd_limit = sender.config.snd_limit;
    tcb->sent_at_us = sender.tcp.now_us; /* the SYN */
    un_recovery_init(&sender.tcp, tcb);
    un_recovery_established(&sender.tcp, tcb);
}

void open_sender(uint32_t flags, uint32_t congestion)
{
    open_sender_at(flags, congestion, UINT32_C(0xfffffff0), MSS);
}

void measure_us(uint32_t rtt_us)
{
    un_rtt_sample(&sender.tcp, &sender.tcb, rtt_us);
    sender.tcb.min_rtt_us = rtt_us;
    sender.tcb.min_rtt_at_s = (uint32_t)(sender.tcp.now_ns / UN_SECOND_NS);
}

uint32_t relative(uint32_t seq)
{
    return seq - sender.tcb.iss - 1;
}

uint8_t payload_at(uint32_t relative_seq)
{
    return (uint8_t)(relative_seq * 7 + (relative_seq >> 8));
}

void check_sender(void)
{
    const char *wrong = un_recovery_check(&sender.tcp, &sender.tcb);
    if (wrong) {
        fprintf(stderr, "%s\n", wrong);
        check_failed(__FILE__, __LINE__, "the records are sound");
    }
    uint32_t used = 0;
    for (uint32_t index = sender.tcb.sent_head; index != UN_NONE; index = sender.sents[index].next)
        used++;
    CHECK_EQ(used + sender.sent_pool.free_count, SENDER_SENTS);
}

/* ---- output, as the state machine does it ---- */

static uint32_t segment_bytes(void)
{
    return sender.tcb.snd_mss - (sender.tcb.flags & UN_TCB_TIMESTAMP ? 12 : 0);
}

static uint32_t timestamp(void)
{
    return (uint32_t)(sender.tcp.now_ns / UN_MS_NS);
}

/* The packet goes into the log; its payload must be that of its place in the stream. */
static void emit(uint32_t seq, uint32_t length, uint32_t frame, uint32_t offset, bool is_resent)
{
    struct un_piece pieces[64];
    uint32_t got = 0, at = relative(seq);
    int count = un_tx_pieces(&sender.tcp, frame, offset, length, pieces, 64, &got);
    CHECK_EQ(got, length);
    for (int i = 0; i < count; i++)
        for (uint32_t byte = 0; byte < pieces[i].length; byte++)
            CHECK_EQ(pieces[i].bytes[byte], payload_at(at++));
    sender.log[sender.logged++ % SENDER_LOG] = (struct packet){relative(seq), length, timestamp(), is_resent};
}

static void send_again(void)
{
    uint32_t index;
    while ((index = un_recovery_next(&sender.tcp, &sender.tcb, segment_bytes())) != UN_NONE) {
        const struct un_sent *sent = &sender.sents[index];
        CHECK(sent->length <= segment_bytes());
        emit(sent->seq, sent->length, sent->frame, sent->offset, true);
        un_recovery_resent(&sender.tcp, &sender.tcb, index, timestamp());
    }
    check_sender();
}

static uint32_t next_length(void)
{
    const struct un_tcb *tcb = &sender.tcb;
    uint32_t flight = tcb->snd_nxt - tcb->snd_una, unsent = un_tx_unsent(tcb);
    uint32_t most = un_recovery_allowance(&sender.tcp, tcb);
    uint32_t window = tcb->snd_wnd > flight ? tcb->snd_wnd - flight : 0;
    most = window < most ? window : most;
    uint32_t length = unsent < sender.burst * segment_bytes() ? unsent : sender.burst * segment_bytes();
    if (length <= most)
        return length;
    return most - most % segment_bytes();
}

void dispatch(void)
{
    struct un_tcb *tcb = &sender.tcb;
    uint32_t length;
    sender.wants_output = false;
    send_again();
    while (un_recovery_can_record(&sender.tcp, &sender.tcb) && (length = next_length()) > 0) {
        emit(tcb->snd_nxt, length, tcb->unsent_frame, tcb->unsent_offset, false);
        un_recovery_sent(&sender.tcp, tcb, length, tcb->unsent_frame, tcb->unsent_offset, 0, timestamp());
        un_tx_advance(&sender.tcp, &tcb->unsent_frame, &tcb->unsent_offset, length);
        tcb->snd_nxt += length;
    }
    check_sender();
}

void write_bytes(uint32_t length)
{
    uint32_t at = relative(sender.tcb.snd_una) + sender.tcb.snd_bytes;
    for (uint8_t piece[512]; length > 0;) {
        uint32_t part = length < sizeof piece ? length : (uint32_t)sizeof piece;
        for (uint32_t i = 0; i < part; i++)
            piece[i] = payload_at(at++);
        CHECK_EQ(un_tx_append(&sender.tcp, &sender.tcb, piece, part), part);
        length -= part;
    }
    dispatch();
}

/* ---- time ---- */

static void fire(void)
{
    struct un_tcb *tcb = &sender.tcb;
    for (enum un_timer timer = UN_TIMER_RETRANSMIT; timer <= UN_TIMER_REORDER; timer++) {
        if (tcb->timers[timer] == 0 || tcb->timers[timer] > sender.tcp.now_ns)
            continue;
        tcb->timers[timer] = 0;
        if (timer == UN_TIMER_RETRANSMIT)
            un_recovery_timeout(&sender.tcp, tcb);
        else
            un_recovery_reorder_timeout(&sender.tcp, tcb);
        check_sender();
    }
    if (sender.wants_output)
        dispatch();
}

uint64_t timer_us(enum un_timer timer)
{
    uint64_t at = sender.tcb.timers[timer];
    if (at == 0)
        return UINT64_MAX;
    return at > sender.tcp.now_ns ? (at - sender.tcp.now_ns) / UN_US_NS : 0;
}

void wait_us(uint64_t us)
{
    uint64_t end_ns = sender.tcp.now_ns + us * UN_US_NS;
    for (;;) {
        uint64_t next = timer_us(UN_TIMER_RETRANSMIT), reorder = timer_us(UN_TIMER_REORDER);
        next = reorder < next ? reorder : next;
        if (next == UINT64_MAX || sender.tcp.now_ns + next * UN_US_NS > end_ns)
            break;
        un_tcp_set_now(&sender.tcp, sender.tcp.now_ns + next * UN_US_NS);
        fire();
    }
    un_tcp_set_now(&sender.tcp, end_ns);
}

/* ---- input ---- */

void receive_segment(const struct un_seg *seg)
{
    struct un_tcb *tcb = &sender.tcb;
    un_recovery_ack(&sender.tcp, tcb, seg, false);
    if (seg->ack != tcb->snd_una) {
        un_tx_acked(&sender.tcp, tcb, seg->ack - tcb->snd_una);
        tcb->snd_una = seg->ack;
        sender.wants_output = true;
    }
    check_sender();
    if (sender.wants_output)
        dispatch();
}

void receive_ack_echo(uint32_t ack, struct blocks blocks, uint32_t tsecr)
{
    uint32_t first = sender.tcb.iss + 1;
    struct un_seg seg = {.ack = first + ack, .flags = UN_TCP_ACK, .tsecr = tsecr};
    seg.options = sender.tcb.flags & UN_TCB_TIMESTAMP ? UN_SEG_TIMESTAMP : 0;
    seg.sack_count = (uint8_t)blocks.count;
    for (uint32_t i = 0; i < blocks.count; i++)
        seg.sacks[i] = (struct un_sack_block){first + blocks.at[i].start, first + blocks.at[i].end};
    receive_segment(&seg);
}

void receive_ack(uint32_t ack, struct blocks blocks)
{
    uint32_t newest = sender.logged ? sender.log[(sender.logged - 1) % SENDER_LOG].tsval : 0;
    receive_ack_echo(ack, blocks, newest);
}

/* ---- expectations ---- */

void expect_sent(int line, uint32_t seq, uint32_t length, bool is_resent)
{
    const struct packet *packet = &sender.log[sender.seen % SENDER_LOG];
    if (sender.seen == sender.logged) {
        fprintf(stderr, "line %d: %u:%u was not sent\n", line, seq, seq + length);
        check_failed(__FILE__, __LINE__, "something was sent");
    }
    if (packet->seq != seq || packet->length != length || packet->is_resent != is_resent) {
        fprintf(stderr, "line %d: %u:%u%s was sent, not %u:%u%s\n", line, packet->seq, packet->seq + packet->length,
                packet->is_resent ? " again" : "", seq, seq + length, is_resent ? " again" : "");
        check_failed(__FILE__, __LINE__, "what was sent is what was expected");
    }
    sender.seen++;
}

void expect_nothing(int line)
{
    if (sender.seen == sender.logged)
        return;
    const struct packet *packet = &sender.log[sender.seen % SENDER_LOG];
    fprintf(stderr, "line %d: %u:%u%s was sent\n", line, packet->seq, packet->seq + packet->length,
            packet->is_resent ? " again" : "");
    check_failed(__FILE__, __LINE__, "nothing was sent");
}

void forget_log(void)
{
    sender.seen = sender.logged;
}
