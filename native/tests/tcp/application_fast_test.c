/* What the application reads and writes at once (tcp/application_fast.h) leaves everything as the long way does. */
#include "harness.h"

#include "tcp/application_fast.h"

enum { STEPS = 3000, MESSAGE_MAX = 600 };

static struct bench before, after;
static uint32_t compared;

static void compare(void)
{
    CHECK(memcmp(&bench->tcb, &after.tcb, sizeof after.tcb) == 0);
    CHECK(memcmp(&bench->counters, &after.counters, sizeof after.counters) == 0);
    CHECK(memcmp(&bench->pool_memory, &after.pool_memory, sizeof after.pool_memory) == 0);
    CHECK(memcmp(bench->frames, after.frames, sizeof after.frames) == 0);
    CHECK(bench->events == after.events && bench->wants_output == after.wants_output);
    compared++;
}

static void both_write(const struct un_piece *piece)
{
    uint8_t fast[MESSAGE_MAX];
    before = *bench;
    un_tcp_write_fast(&bench->tcp, &bench->tcb, piece);
    un_tcp_want_output(&bench->tcp, &bench->tcb);
    uint8_t *bytes = un_pool_bytes(&bench->tcp.pool, bench->tcb.snd.head);
    memcpy(fast, bytes, piece->length);
    memset(bytes, 0, piece->length);
    after = *bench;
    *bench = before;
    CHECK_EQ(un_tcp_write(&bench->tcp, &bench->tcb, piece, 1), piece->length);
    CHECK(memcmp(fast, bytes, piece->length) == 0);
    compare();
}

static void write_some(uint64_t *random)
{
    uint8_t message[MESSAGE_MAX];
    struct un_piece piece = {message, 1 + random_below(random, MESSAGE_MAX), UN_NONE};
    for (uint32_t i = 0; i < piece.length; i++)
        message[i] = bench_pattern(bench->written + i);
    if (un_tcp_write_is_fast(&bench->tcp, &bench->tcb, &piece))
        both_write(&piece);
    else
        CHECK_EQ(un_tcp_write(&bench->tcp, &bench->tcb, &piece, 1), piece.length);
    bench->written += piece.length;
}

static void read_all(void)
{
    uint32_t bytes = bench->tcb.rcv_bytes;
    if (!un_tcp_consume_is_fast(&bench->tcp, &bench->tcb, bytes)) {
        un_tcp_consume(&bench->tcp, &bench->tcb, bytes);
        return;
    }
    before = *bench;
    un_tcp_consume_fast(&bench->tcp, &bench->tcb);
    after = *bench;
    *bench = before;
    un_tcp_consume(&bench->tcp, &bench->tcb, bytes);
    compare();
}

/* With an ACK of all there is. */
static void receive(uint32_t length, uint64_t *random)
{
    const struct un_tcb *tcb = &bench->tcb;
    uint32_t frame = un_pool_take(&bench->tcp.pool);
    bench->frames[frame].length = (uint16_t)length;
    const struct un_seg seg = {
        .flags = ACK | PSH,
        .seq = tcb->rcv_nxt,
        .ack = tcb->snd_nxt,
        .wnd = (uint16_t)(30000 + random_below(random, 30000)),
        .length = length,
        .options = tcb->flags & UN_TCB_TIMESTAMP ? UN_SEG_TIMESTAMP : 0,
        .tsval = tcb->ts_recent,
        .tsecr = bench->tcp.now_ms + tcb->ts_offset,
    };
    un_tcp_process(&bench->tcp, &bench->tcb, &seg, frame);
}

/* One message or two before they are read, or not; one or two are written. */
static void step(uint64_t *random)
{
    for (uint32_t messages = 1 + random_below(random, 8) / 7; messages > 0; messages--)
        receive(1 + random_below(random, MESSAGE_MAX), random);
    if (random_below(random, 8) > 0)
        read_all();
    for (uint32_t writes = 1 + random_below(random, 8) / 7; writes > 0; writes--)
        write_some(random);
    bench_dispatch();
    bench_ignore();
    bench_advance_us(__FILE__, __LINE__, random_below(random, 5000));
    bench_ignore();
}

static void exchange(uint32_t rcv_limit)
{
    uint64_t random = rcv_limit;
    bench_establish_with(UN_SEG_TIMESTAMP | UN_SEG_SACK_PERMITTED | UN_SEG_WSCALE);
    bench->tcb.flags |= UN_TCB_NODELAY;
    bench->tcb.rcv_limit = rcv_limit;
    compared = 0;
    for (uint32_t i = 0; i < STEPS; i++)
        step(&random);
    CHECK(compared > STEPS / 2);
    bench_take_events();
}

static void with_much_room(void)
{
    exchange(65536);
}

/* The window has to be opened again and again. */
static void with_little_room(void)
{
    exchange(3000);
}

int main(void)
{
    TEST(with_much_room);
    TEST(with_little_room);
    return 0;
}
