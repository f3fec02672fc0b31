/* A whole transfer over a link that loses, reorders and delays, in virtual time, to a naive receiver: every byte
 * arrives, nothing stalls, what is resent is little more than what was lost, and throughput is what the algorithm
 * promises. Lost retransmissions, lost ACKs and lost probes are among the random losses. */
#include <math.h>
#include <string.h>

#include "sender.h"

#define STREAM_MAX 4000000u
#define PACKETS_MAX 4096u
#define PER_MILLION 1000000u

struct link {
    uint64_t delay_us; /* one way */
    uint32_t loss;     /* of a million data packets */
    uint32_t ack_loss;
    uint32_t reordered;
    uint64_t reordering_us; /* at most so much later */
    uint64_t packet_us; /* on the wire; 0: no bottleneck */
    uint64_t queue_us;  /* how long a packet may wait for it */
};

struct flying {
    uint64_t at_us;
    uint64_t number; /* those that arrive at the same time arrive in order */
    bool is_ack;
    struct packet packet;
    struct un_seg ack;
};

static struct {
    struct link link;
    uint64_t random;
    uint64_t free_at_us; /* the bottleneck */
    uint32_t taken;      /* packets of the sender's log */
    uint32_t lost;
    struct flying flying[PACKETS_MAX];
    uint32_t count;
    uint64_t launched;
    /* The receiver. */
    uint8_t got[STREAM_MAX];
    uint32_t una;
    uint32_t last_acked;
    uint32_t ts_recent;
    uint32_t recent[UN_SACK_BLOCKS_MAX]; /* a byte in each of the runs heard of last, newest first */
} net;

static uint64_t now_us(void)
{
    return sender.tcp.now_ns / UN_US_NS;
}

static bool happens(uint32_t of_a_million)
{
    return random_below(&net.random, PER_MILLION) < of_a_million;
}

static struct flying *launch(uint64_t delay_us)
{
    CHECK(net.count < PACKETS_MAX);
    struct flying *flying = &net.flying[net.count++];
    if (happens(net.link.reordered))
        delay_us += random_below(&net.random, (uint32_t)net.link.reordering_us);
    *flying = (struct flying){.at_us = now_us() + delay_us, .number = net.launched++};
    return flying;
}

/* What the sender has logged goes on the link. */
static void take_packets(void)
{
    for (; net.taken < sender.logged; net.taken++) {
        uint64_t wait_us = net.free_at_us > now_us() ? net.free_at_us - now_us() : 0;
        if (happens(net.link.loss) || (net.link.packet_us && wait_us > net.link.queue_us)) {
            net.lost++;
            continue;
        }
        net.free_at_us = now_us() + wait_us + net.link.packet_us;
        launch(net.link.delay_us + wait_us + net.link.packet_us)->packet = sender.log[net.taken % SENDER_LOG];
    }
}

/* ---- the receiver ---- */

static void add_run(struct un_seg *ack, uint32_t at)
{
    uint32_t start = at, end = at;
    while (start > net.una && net.got[start - 1])
        start--;
    while (net.got[end])
        end++;
    for (uint32_t i = 0; i < ack->sack_count; i++)
        if (ack->sacks[i].start == start)
            return;
    if (ack->sack_count < UN_SACK_BLOCKS_MAX - 1)
        ack->sacks[ack->sack_count++] = (struct un_sack_block){start, end};
}

static void remember(uint32_t at)
{
    memmove(&net.recent[1], &net.recent[0], sizeof net.recent - sizeof *net.recent);
    net.recent[0] = at;
}

static void send_ack(const struct un_sack_block *duplicate)
{
    uint32_t first = sender.tcb.iss + 1;
    struct un_seg ack = {.flags = UN_TCP_ACK, .options = UN_SEG_TIMESTAMP, .tsecr = net.ts_recent};
    ack.ack = net.una + first;
    if (duplicate)
        ack.sacks[ack.sack_count++] = *duplicate;
    for (uint32_t i = 0; i < UN_SACK_BLOCKS_MAX; i++)
        if (net.recent[i] > net.una && net.got[net.recent[i]])
            add_run(&ack, net.recent[i]);
    for (uint32_t i = 0; i < ack.sack_count; i++) {
        ack.sacks[i].start += first;
        ack.sacks[i].end += first;
    }
    if (!(sender.tcb.flags & UN_TCB_SACK))
        ack.sack_count = 0;
    net.last_acked = net.una;
    if (happens(net.link.ack_loss))
        return;
    struct flying *flying = launch(net.link.delay_us);
    flying->is_ack = true;
    flying->ack = ack;
}

static void receive(const struct packet *packet)
{
    struct un_sack_block all = {packet->seq, packet->seq + packet->length};
    bool is_duplicate = true;
    for (uint32_t at = all.start; at < all.end; at++) {
        is_duplicate &= net.got[at];
        net.got[at] = 1;
    }
    if (packet->seq <= net.last_acked && un_seq_lt(net.ts_recent, packet->tsval))
        net.ts_recent = packet->tsval;
    if (!is_duplicate)
        remember(all.start);
    while (net.got[net.una])
        net.una++;
    send_ack(is_duplicate ? &all : NULL);
}

/* ---- the run ---- */

static bool is_earlier(const struct flying *left, const struct flying *right)
{
    return left->at_us < right->at_us || (left->at_us == right->at_us && left->number < right->number);
}

static uint32_t earliest(void)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < net.count; i++)
        if (is_earlier(&net.flying[i], &net.flying[best]))
            best = i;
    return best;
}

static void step(void)
{
    uint64_t timer = timer_us(UN_TIMER_RETRANSMIT), reorder = timer_us(UN_TIMER_REORDER);
    uint32_t next = earliest();
    timer = now_us() + (reorder < timer ? reorder : timer);
    CHECK(net.count > 0 || timer_us(UN_TIMER_RETRANSMIT) != UINT64_MAX); /* else nothing would ever happen */
    if (net.count == 0 || timer < net.flying[next].at_us) {
        wait_us(timer - now_us());
    } else {
        struct flying flying = net.flying[next];
        net.flying[next] = net.flying[--net.count];
        wait_us(flying.at_us - now_us());
        if (!flying.is_ack)
            receive(&flying.packet);
        else if (un_seq_le(sender.tcb.snd_una, flying.ack.ack))
            receive_segment(&flying.ack);
    }
    take_packets();
}

/* How long the transfer of so many bytes took. */
static uint64_t transfer_us(const struct link *link, uint64_t seed, uint32_t bytes)
{
    uint64_t start_us = now_us();
    memset(&net, 0, sizeof net);
    net.link = *link;
    net.random = seed;
    net.ts_recent = (uint32_t)(sender.tcp.now_ns / UN_MS_NS);
    CHECK(bytes < STREAM_MAX);
    for (uint32_t written = 0; relative(sender.tcb.snd_una) < bytes;) {
        uint32_t room = 1000000 - sender.tcb.snd_bytes, part = bytes - written < room ? bytes - written : room;
        if (part >= 50000 || part == bytes - written)
            write_bytes(part), written += part;
        take_packets();
        step();
        CHECK(now_us() - start_us < UINT64_C(3600) * 1000000);
    }
    CHECK_EQ(sender.tcb.snd_bytes, 0);
    CHECK_EQ(sender.sent_pool.free_count, SENDER_SENTS);
    return now_us() - start_us;
}

static const uint32_t agreements[] = {0, UN_TCB_TIMESTAMP, UN_TCB_SACK, UN_TCB_SACK | UN_TCB_TIMESTAMP};

static void a_transfer_survives_whatever_the_link_does(uint64_t seed)
{
    uint64_t random = seed * 31;
    struct link link = {
        .delay_us = 100 + random_below(&random, 60000),
        .loss = random_below(&random, 2) ? random_below(&random, 150000) : random_below(&random, 10000),
        .ack_loss = random_below(&random, 2) ? random_below(&random, 100000) : 0,
        .reordered = random_below(&random, 3) ? 0 : random_below(&random, 300000),
        .reordering_us = 1 + random_below(&random, 40000),
        .packet_us = random_below(&random, 3) ? 0 : 1 + random_below(&random, 1000),
        .queue_us = random_below(&random, 50000),
    };
    open_sender_at(agreements[random_below(&random, 4)], random_below(&random, UN_CONGESTIONS),
                   (uint32_t)random_next(&random), MSS);
    sender.burst = 1 + random_below(&random, 4) * random_below(&random, 8);
    transfer_us(&link, seed, 150000 + random_below(&random, 100000));
}

/* One packet in twenty is lost, and so are retransmissions; SACK and RACK do without timeouts almost always. */
static void timeouts_are_rare_with_sack(void)
{
    const struct link link = {.delay_us = 20000, .loss = 50000};
    uint64_t timeouts = 0, resent = 0, lost = 0;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        open_sender(UN_TCB_SACK | UN_TCB_TIMESTAMP, UN_CONGESTION_CUBIC);
        transfer_us(&link, seed, 300000);
        timeouts += sender.counters.timeouts;
        resent += sender.counters.retransmitted;
        lost += net.lost;
    }
    CHECK(timeouts <= 10);
    CHECK(resent <= lost + lost / 5);
}

/* Packets overtake each other by up to a third of a round trip, and none is lost. */
static void reordering_is_learnt(void)
{
    const struct link link = {.delay_us = 20000, .reordered = 200000, .reordering_us = 8000};
    open_sender(UN_TCB_SACK | UN_TCB_TIMESTAMP, UN_CONGESTION_CUBIC);
    transfer_us(&link, 7, 1000000);
    CHECK(sender.counters.retransmitted <= 10);
    CHECK(sender.counters.timeouts == 0);
    CHECK(sender.tcb.cwnd >= 40 * MSS);
}

/* A pipe of 80 packets with a queue of 80: full use, and few losses. */
static void a_bottleneck_is_filled(void)
{
    const struct link link = {.delay_us = 20000, .packet_us = 500, .queue_us = 40000};
    for (uint32_t congestion = 0; congestion < UN_CONGESTIONS; congestion++) {
        open_sender(UN_TCB_SACK | UN_TCB_TIMESTAMP, congestion);
        uint64_t us = transfer_us(&link, 1, 2000000);
        uint64_t least_us = 2000000 / (MSS - 12) * 500;
        CHECK(us < least_us + least_us / 5);
        CHECK_EQ(sender.counters.timeouts, 0);
    }
}

/* Segments per second against the response functions: RFC 5681's sqrt(3/2p) for Reno, of which CUBIC in its
 * Reno-friendly region is no slower (RFC 9438 section 5.1). */
static void throughput_is_what_the_response_function_says(void)
{
    const struct link link = {.delay_us = 10000, .loss = 10000};
    double expected = sqrt(1.5 / 0.01) / 0.020 * (MSS - 12);
    for (uint32_t congestion = 0; congestion < UN_CONGESTIONS; congestion++) {
        double bytes = 0, seconds = 0;
        for (uint64_t seed = 1; seed <= 4; seed++) {
            open_sender(UN_TCB_SACK | UN_TCB_TIMESTAMP, congestion);
            sender.tcb.ssthresh = 10 * MSS; /* the first slow start is not in the formula */
            un_congestions[congestion]->init(&sender.tcp, &sender.tcb);
            seconds += (double)transfer_us(&link, seed, 1000000) / 1e6;
            bytes += 1000000;
        }
        CHECK(bytes / seconds > 0.8 * expected && bytes / seconds < 1.25 * expected);
    }
}

static void any_link(void)
{
    for_each_seed(UN_TEST_SANITIZED ? 20 : 150, a_transfer_survives_whatever_the_link_does);
}

int main(void)
{
    RUN(any_link);
    RUN(timeouts_are_rare_with_sack);
    RUN(reordering_is_learnt);
    RUN(a_bottleneck_is_filled);
    RUN(throughput_is_what_the_response_function_says);
    return 0;
}
