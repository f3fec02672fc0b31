/* The timer wheel against a list of deadlines that is searched from one end to the other. */
#include "../check.h"

#include <stdbool.h>
#include <string.h>

#include "stack/wheel.h"

#define CONNS 1000
#define TICK_NS (UINT64_C(1) << UN_WHEEL_TICK_BITS)
#define SECOND_NS UINT64_C(1000000000)

static struct un_tcb tcbs[CONNS];
static uint64_t deadlines[CONNS]; /* of the list; 0: none */
static struct un_wheel_memory wheel;

static void start(uint64_t now_ns)
{
    un_wheel_init(&wheel, now_ns);
    memset(deadlines, 0, sizeof deadlines);
    for (uint32_t i = 0; i < CONNS; i++)
        tcbs[i].wheel_at = UN_NONE;
}

static uint64_t rounded_up(uint64_t ns)
{
    return (ns + TICK_NS - 1) / TICK_NS * TICK_NS;
}

static uint64_t earliest(void)
{
    uint64_t first = UINT64_MAX;
    for (uint32_t i = 0; i < CONNS; i++)
        if (deadlines[i] && deadlines[i] < first)
            first = deadlines[i];
    return first;
}

static void arm(uint32_t index, uint64_t deadline_ns)
{
    if (!deadlines[index] || deadline_ns < deadlines[index])
        deadlines[index] = deadline_ns;
    un_wheel_arm(&wheel, tcbs, index, deadline_ns);
    CHECK_EQ(tcbs[index].wheel_ns, deadlines[index]);
}

static void cancel(uint32_t index)
{
    deadlines[index] = 0;
    un_wheel_cancel(&wheel, tcbs, index);
}

/* Fire what is due; every call must bring the sweep forward. */
static void sweep(uint64_t now_ns)
{
    for (uint32_t calls = 0;; calls++) {
        CHECK(calls < 8 * CONNS);
        uint32_t index = un_wheel_expired(&wheel, tcbs, now_ns);
        if (index == UN_NONE && un_wheel_next_ns(&wheel) > now_ns)
            break;
        if (index == UN_NONE)
            continue; /* a large slot is on its way down */
        CHECK(deadlines[index] && deadlines[index] <= now_ns);
        deadlines[index] = 0;
    }
    for (uint32_t i = 0; i < CONNS; i++)
        CHECK(!deadlines[i] || rounded_up(deadlines[i]) > now_ns);
    if (earliest() == UINT64_MAX)
        CHECK_EQ(un_wheel_next_ns(&wheel), UINT64_MAX);
    else
        CHECK(un_wheel_next_ns(&wheel) <= rounded_up(earliest()));
}

/* From a tick to years. */
static uint64_t any_span(uint64_t *random)
{
    return random_next(random) >> (8 + random_below(random, 48));
}

static void against_list(uint64_t seed)
{
    uint64_t random = seed;
    uint64_t now = any_span(&random);
    uint32_t conns = 1 + random_below(&random, seed % 8 ? 40 : CONNS);
    start(now);
    for (uint32_t step = 0; step < 1500 && now < UINT64_MAX / 4; step++) {
        uint32_t index = random_below(&random, conns);
        switch (random_below(&random, 8)) {
        case 0:
            cancel(index);
            break;
        case 1:
            now += any_span(&random) >> random_below(&random, 20);
            sweep(now);
            break;
        case 2: /* sleep until it says so */
            if (un_wheel_next_ns(&wheel) != UINT64_MAX)
                now = un_wheel_next_ns(&wheel) > now ? un_wheel_next_ns(&wheel) : now;
            sweep(now);
            break;
        case 3: /* long past, or now */
            arm(index, now - (random_below(&random, 2) ? now / 2 : 0) + 1);
            break;
        default:
            arm(index, now + any_span(&random) + 1);
        }
    }
    while (earliest() != UINT64_MAX) {
        now = rounded_up(earliest()) > now ? rounded_up(earliest()) : now;
        sweep(now);
    }
    CHECK_EQ(un_wheel_next_ns(&wheel), UINT64_MAX);
}

static void at_random(void)
{
    for_each_seed(60, against_list);
}

/* Whoever sleeps until the wheel says so wakes a few times for a deadline, however far. */
static void few_wakes(void)
{
    uint64_t now = 12345;
    for (uint64_t span = 1; span < UINT64_MAX / 8; span *= 3) {
        start(now);
        arm(0, now + span);
        uint32_t wakes = 0;
        for (uint64_t at = now; deadlines[0]; wakes++) {
            CHECK(un_wheel_next_ns(&wheel) > at || wakes == 0);
            at = un_wheel_next_ns(&wheel) > at ? un_wheel_next_ns(&wheel) : at;
            sweep(at);
        }
        CHECK(wakes <= UN_WHEEL_LEVELS);
    }
}

/* As many as one call moves: the slot is empty, and the next call finds that out. */
static void slot_of_one_call(void)
{
    start(0);
    for (uint32_t i = 0; i < UN_WHEEL_CASCADE_MAX; i++)
        arm(i, SECOND_NS + i);
    uint64_t enters = un_wheel_next_ns(&wheel);
    CHECK(enters < SECOND_NS);
    CHECK_EQ(un_wheel_expired(&wheel, tcbs, enters), UN_NONE);
    CHECK(un_wheel_next_ns(&wheel) > enters && un_wheel_next_ns(&wheel) <= rounded_up(SECOND_NS));
    sweep(SECOND_NS + TICK_NS);
    CHECK_EQ(earliest(), UINT64_MAX);
}

/* A slot with very many is moved down in parts, and nothing is late or lost. */
static void large_slot(void)
{
    start(0);
    for (uint32_t i = 0; i < CONNS; i++)
        arm(i, 7200 * SECOND_NS + i * UINT64_C(1000000));
    uint64_t now = un_wheel_next_ns(&wheel);
    CHECK(now < 7199 * SECOND_NS);
    CHECK_EQ(un_wheel_expired(&wheel, tcbs, now), UN_NONE);
    uint32_t calls = 1;
    for (; un_wheel_next_ns(&wheel) <= now; calls++) {
        cancel(random_below(&(uint64_t){calls}, CONNS)); /* in the middle of it */
        CHECK_EQ(un_wheel_expired(&wheel, tcbs, now), UN_NONE);
    }
    CHECK(calls > CONNS / UN_WHEEL_CASCADE_MAX);
    for (; earliest() != UINT64_MAX; now += SECOND_NS / 7)
        sweep(now);
}

/* The end of time has a slot and does not come. */
static void never(void)
{
    start(5);
    arm(3, UINT64_MAX);
    CHECK_EQ(un_wheel_expired(&wheel, tcbs, UINT64_MAX / 2), UN_NONE);
    CHECK(un_wheel_next_ns(&wheel) > UINT64_MAX / 2);
    cancel(3);
    CHECK_EQ(un_wheel_next_ns(&wheel), UINT64_MAX);
}

/* Standing earlier than it is armed for, a connection stays where it is. */
static void lazily(void)
{
    start(0);
    arm(1, 10 * SECOND_NS);
    uint32_t at = tcbs[1].wheel_at;
    un_wheel_arm(&wheel, tcbs, 1, 20 * SECOND_NS);
    CHECK_EQ(tcbs[1].wheel_at, at);
    CHECK_EQ(tcbs[1].wheel_ns, 10 * SECOND_NS);
    arm(1, SECOND_NS);
    sweep(SECOND_NS + TICK_NS);
    CHECK_EQ(deadlines[1], 0);
}

int main(void)
{
    RUN(lazily);
    RUN(few_wakes);
    RUN(slot_of_one_call);
    RUN(large_slot);
    RUN(never);
    RUN(at_random);
    return 0;
}
