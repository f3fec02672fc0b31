/* The ring, both ends, against a naive oracle.
 *
 * The model check visits every state that any interleaving of the two sides can reach, up to three rounds of the ring:
 * the producer fills slots, looks and publishes, the consumer uses slots, looks and publishes, each at any time. In
 * every state it tries every index that the opposite side could show, sane or not. It runs for indices that wrap at
 * 2^32 in each possible place. What a slot holds is its index, so reading in order is reading the
 * right numbers. */
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "base/barrier.h"
#include "base/ring.h"
#include "check.h"

enum { SIZE_MAX_MODEL = 4, ROUNDS = 3, SPAN = SIZE_MAX_MODEL * ROUNDS + 1, BITS = 4 };

struct model {
    struct un_ring producer;
    struct un_ring consumer;
    uint32_t produced; /* as published */
    uint32_t consumed; /* as published */
};

static uint32_t base;    /* index at which the ring starts */
static uint8_t *visited; /* by the six indices, relative to base */
static uint64_t states;

static uint32_t key_of(const struct model *model)
{
    const uint32_t indices[] = {model->producer.own, model->producer.seen, model->consumer.own,
                                model->consumer.seen, model->produced,     model->consumed};
    uint32_t key = 0;
    for (int i = 0; i < 6; i++) {
        CHECK(indices[i] - base < SPAN);
        key = key << BITS | (indices[i] - base);
    }
    return key;
}

/* What the slot for `index` holds: the youngest index written there. */
static uint32_t slot_holds(const struct model *model, uint32_t index)
{
    uint32_t written = model->producer.own - 1;
    while (un_ring_slot(&model->producer, written) != un_ring_slot(&model->producer, index))
        written--;
    return written;
}

static void check_state(const struct model *model)
{
    const struct un_ring *producer = &model->producer, *consumer = &model->consumer;
    uint32_t unused = producer->own - consumer->own;
    CHECK(unused <= producer->size);
    CHECK(un_ring_reserve(producer) <= producer->size - unused); /* free slots are really free */
    CHECK(un_ring_peek(consumer) <= unused);                     /* filled slots are really filled */
    CHECK_EQ(un_ring_reserve(producer) + un_ring_used(producer), producer->size);
    for (uint32_t i = 0; i < un_ring_peek(consumer); i++)
        CHECK_EQ(slot_holds(model, consumer->own + i), consumer->own + i);
}

static bool lies_between(uint32_t first, uint32_t value, uint32_t last)
{
    for (uint32_t index = first; index != last; index++)
        if (index == value)
            return true;
    return value == last;
}

static void check_producer_saw(const struct model *model, uint32_t consumed)
{
    struct un_ring end = model->producer;
    bool sane = lies_between(end.seen, consumed, end.own);
    CHECK_EQ(un_ring_producer_saw(&end, consumed), sane);
    CHECK_EQ(end.seen, sane ? consumed : model->producer.seen);
    CHECK_EQ(end.own, model->producer.own);
}

static void check_consumer_saw(const struct model *model, uint32_t produced)
{
    struct un_ring end = model->consumer;
    bool sane = lies_between(end.seen, produced, end.own + end.size);
    CHECK_EQ(un_ring_consumer_saw(&end, produced), sane);
    CHECK_EQ(end.seen, sane ? produced : model->consumer.seen);
    CHECK_EQ(end.own, model->consumer.own);
}

/* Every index near the ring, and some far away: believed exactly when it can be true. */
static void check_any_opposite(const struct model *model)
{
    static const uint32_t far[] = {1u << 16, 1u << 30, (1u << 31) - 1, 1u << 31, (1u << 31) + 1, 3u << 30};
    for (uint32_t delta = 0; delta < 4 * SPAN; delta++) {
        check_producer_saw(model, base - 2 * SPAN + delta);
        check_consumer_saw(model, base - 2 * SPAN + delta);
    }
    for (size_t i = 0; i < sizeof far / sizeof *far; i++) {
        check_producer_saw(model, base + far[i]);
        check_consumer_saw(model, base + far[i]);
    }
}

static void visit(struct model model);

static void step_producer(const struct model *model)
{
    uint32_t left = base + model->producer.size * ROUNDS - model->producer.own;
    for (uint32_t count = 1; count <= un_ring_reserve(&model->producer) && count <= left; count++) {
        struct model next = *model;
        un_ring_submit(&next.producer, count);
        visit(next);
    }
    struct model published = *model, looked = *model;
    published.produced = model->producer.own;
    visit(published);
    CHECK(un_ring_producer_saw(&looked.producer, model->consumed));
    CHECK_EQ(un_ring_reserve(&looked.producer), model->producer.size - (model->producer.own - model->consumed));
    visit(looked);
}

static void step_consumer(const struct model *model)
{
    for (uint32_t count = 1; count <= un_ring_peek(&model->consumer); count++) {
        struct model next = *model;
        un_ring_release(&next.consumer, count);
        visit(next);
    }
    struct model published = *model, looked = *model;
    published.consumed = model->consumer.own;
    visit(published);
    CHECK(un_ring_consumer_saw(&looked.consumer, model->produced));
    CHECK_EQ(un_ring_peek(&looked.consumer), model->produced - model->consumer.own);
    visit(looked);
}

static void visit(struct model model)
{
    uint32_t key = key_of(&model);
    if (visited[key / 8] >> key % 8 & 1)
        return;
    visited[key / 8] |= (uint8_t)(1 << key % 8);
    states++;
    check_state(&model);
    check_any_opposite(&model);
    step_producer(&model);
    step_consumer(&model);
}

static void explore(uint32_t size, uint32_t start)
{
    struct model model;
    base = start;
    memset(visited, 0, (1u << 6 * BITS) / 8);
    un_ring_init(&model.producer, size, start, start);
    un_ring_init(&model.consumer, size, start, start);
    model.produced = model.consumed = start;
    visit(model);
}

static void every_interleaving_agrees_with_the_oracle(void)
{
    visited = malloc((1u << 6 * BITS) / 8);
    CHECK(visited != NULL);
    for (uint32_t size = 1; size <= SIZE_MAX_MODEL; size *= 2)
        for (uint32_t before_wrap = 0; before_wrap <= size * ROUNDS; before_wrap++)
            explore(size, 0u - before_wrap);
    free(visited);
    CHECK(states > 10000);
    printf("# %" PRIu64 " states\n", states);
}

static void largest_ring_wraps(void)
{
    struct un_ring producer, consumer;
    un_ring_init(&producer, 1u << 31, 5, 5);
    un_ring_init(&consumer, 1u << 31, 5, 5);
    un_ring_submit(&producer, 1u << 31);
    CHECK_EQ(un_ring_reserve(&producer), 0);
    CHECK(un_ring_consumer_saw(&consumer, producer.own));
    CHECK_EQ(un_ring_peek(&consumer), 1u << 31);
    CHECK(!un_ring_consumer_saw(&consumer, producer.own + 1));
    un_ring_release(&consumer, 1u << 31);
    CHECK(un_ring_producer_saw(&producer, consumer.own));
    CHECK(!un_ring_producer_saw(&producer, consumer.own + 1));
    CHECK_EQ(un_ring_reserve(&producer), 1u << 31);
}

/* Two threads, for ThreadSanitizer and for real reordering: every number once, in order. */

enum { STRESS_SIZE = 64, STRESS_ITEMS = UN_TEST_SANITIZED ? 200000 : 3000000 };

static uint64_t stress_slots[STRESS_SIZE];
static un_shared32 stress_produced __attribute__((aligned(UN_CACHE_LINE)));
static un_shared32 stress_consumed __attribute__((aligned(UN_CACHE_LINE)));
static const uint32_t stress_start = 0u - STRESS_ITEMS / 2; /* wraps half way */

static void *produce(void *unused)
{
    struct un_ring ring;
    uint64_t random = 1, item = 0;
    un_ring_init(&ring, STRESS_SIZE, stress_start, stress_start);
    while (item < STRESS_ITEMS) {
        uint32_t batch = 1 + random_below(&random, 40);
        while (un_ring_reserve(&ring) == 0) {
            CHECK(un_ring_producer_saw(&ring, un_observe(&stress_consumed)));
            un_relax();
        }
        for (; batch > 0 && item < STRESS_ITEMS && un_ring_reserve(&ring) > 0; batch--) {
            stress_slots[un_ring_slot(&ring, ring.own)] = item++;
            un_ring_submit(&ring, 1);
        }
        un_publish(&stress_produced, ring.own);
    }
    return unused;
}

static void two_threads_hand_over_every_item_in_order(void)
{
    pthread_t producer;
    struct un_ring ring;
    uint64_t random = 2, expected = 0;
    un_store(&stress_produced, stress_start);
    un_store(&stress_consumed, stress_start);
    un_ring_init(&ring, STRESS_SIZE, stress_start, stress_start);
    CHECK_EQ(pthread_create(&producer, NULL, produce, NULL), 0);
    while (expected < STRESS_ITEMS) {
        while (un_ring_peek(&ring) == 0) {
            CHECK(un_ring_consumer_saw(&ring, un_observe(&stress_produced)));
            un_relax();
        }
        uint32_t batch = 1 + random_below(&random, 40);
        for (; batch > 0 && un_ring_peek(&ring) > 0; batch--) {
            CHECK_EQ(stress_slots[un_ring_slot(&ring, ring.own)], expected++);
            un_ring_release(&ring, 1);
        }
        un_publish(&stress_consumed, ring.own);
    }
    CHECK_EQ(pthread_join(producer, NULL), 0);
}

int main(void)
{
    RUN(every_interleaving_agrees_with_the_oracle);
    RUN(largest_ring_wraps);
    RUN(two_threads_hand_over_every_item_in_order);
    return 0;
}
