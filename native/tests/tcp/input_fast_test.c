/* The ACK of all there is (tcp/input_fast.h), taken the short way, leaves everything as the long way does. */
#include "harness.h"

#include "tcp/input_fast.h"

enum { STEPS = 3000 };

static struct bench before, after;
static uint32_t compared;

static struct un_seg next_ack(uint64_t *random)
{
    const struct un_tcb *tcb = &bench->tcb;
    return (struct un_seg){
        .flags = ACK,
        .seq = tcb->rcv_nxt,
        .ack = tcb->snd_nxt,
        .wnd = (uint16_t)(30000 + random_below(random, 30000)),
        .options = tcb->flags & UN_TCB_TIMESTAMP ? UN_SEG_TIMESTAMP : 0,
        .tsval = tcb->ts_recent + random_below(random, 3),
        .tsecr = bench->tcp.now_ms + tcb->ts_offset - random_below(random, 3),
    };
}

static void compare(const struct un_seg *seg)
{
    before = *bench;
    un_tcp_take_ack_of_all(&bench->tcp, &bench->tcb, seg);
    after = *bench;
    *bench = before;
    un_tcp_process_ack(&bench->tcp, &bench->tcb, seg);
    CHECK(memcmp(&bench->tcb, &after.tcb, sizeof after.tcb) == 0);
    CHECK(memcmp(&bench->counters, &after.counters, sizeof after.counters) == 0);
    CHECK(memcmp(&bench->sent_pool, &after.sent_pool, sizeof after.sent_pool) == 0);
    CHECK(memcmp(bench->sents, after.sents, sizeof after.sents) == 0);
    CHECK(memcmp(&bench->pool_memory, &after.pool_memory, sizeof after.pool_memory) == 0);
    CHECK(memcmp(bench->frames, after.frames, sizeof after.frames) == 0);
    CHECK(bench->events == after.events && bench->wants_output == after.wants_output);
    compared++;
}

/* One or two packets in flight, some of them lost for a while. */
static void step(uint64_t *random)
{
    for (uint32_t writes = 1 + random_below(random, 8) / 7; writes > 0; writes--)
        bench_write(1 + random_below(random, 500)); /* one segment, without an MSS option */
    bench_ignore();
    bench_advance_us(__FILE__, __LINE__, random_below(random, 50) ? random_below(random, 5000) : 400000);
    bench_ignore(); /* after the longer time, a tail loss probe, or a timeout */
    struct un_seg seg = next_ack(random);
    if (bench->tcb.snd_una != bench->tcb.snd_nxt && un_tcp_is_ack_of_all(&bench->tcp, &bench->tcb, &seg))
        compare(&seg);
    else
        un_tcp_process(&bench->tcp, &bench->tcb, &seg, UN_NONE);
    bench_dispatch();
    bench_ignore();
}

static void exchange(uint8_t options)
{
    uint64_t random = options + 1u;
    bench_establish_with(options);
    bench->tcb.flags |= UN_TCB_NODELAY;
    compared = 0;
    for (uint32_t i = 0; i < STEPS; i++)
        step(&random);
    CHECK(compared > STEPS / 2);
    bench_take_events();
}

static void with_timestamps(void)
{
    exchange(UN_SEG_TIMESTAMP | UN_SEG_SACK_PERMITTED | UN_SEG_WSCALE);
}

static void without_options(void)
{
    exchange(0);
}

int main(void)
{
    TEST(with_timestamps);
    TEST(without_options);
    return 0;
}
