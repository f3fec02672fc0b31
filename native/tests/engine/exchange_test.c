/* Packets between shards: each that is given to a shard comes out there once, whole and in order, or was refused
 * because the ring was full; against a naive queue, and between threads that sleep. */
#include "engine/exchange_memory.h"

#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"

enum { SHARDS = 3, FRAMES = 256, FRAME_BYTES = 2048, PACKET_MAX = 65536, QUEUE = 8192 };

static int memory_fd;
static int wakes[SHARDS];
static struct un_exchange shards[SHARDS];

struct memory {
    struct un_pool_memory own;
    struct un_frame frames[FRAMES];
    uint8_t bytes[FRAMES * FRAME_BYTES];
};

static struct un_pool new_pool(void)
{
    struct memory *memory = calloc(1, sizeof *memory);
    CHECK(memory != NULL);
    struct un_pool pool = {.own = &memory->own, .frames = memory->frames, .bytes = memory->bytes};
    un_pool_format(&pool, FRAMES, FRAME_BYTES);
    return pool;
}

static void free_pool(struct un_pool *pool)
{
    CHECK_EQ(pool->own->free_count, FRAMES); /* nothing leaked */
    free(pool->own);
}

static void open_shards(void)
{
    memory_fd = memfd_create("exchange", MFD_CLOEXEC);
    CHECK(memory_fd >= 0);
    for (uint32_t i = 0; i < SHARDS; i++)
        CHECK((wakes[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) >= 0);
    for (uint32_t i = 0; i < SHARDS; i++)
        CHECK_EQ(un_exchange_open(&shards[i], memory_fd, i, SHARDS, wakes), 0);
}

static void close_shards(void)
{
    for (uint32_t i = 0; i < SHARDS; i++) {
        un_exchange_close(&shards[i]);
        close(wakes[i]);
    }
    close(memory_fd);
}

/* The bytes of a packet follow from its number. */
static uint8_t byte_of(uint32_t number, uint32_t at)
{
    return (uint8_t)(number * 31 + at * 7 + at / 251);
}

static struct un_rx make_packet(struct un_pool *pool, uint32_t number, uint32_t length)
{
    struct un_rx packet = {UN_NONE, length, (uint16_t)(number & 3), (uint16_t)number};
    uint32_t *link = &packet.frame;
    for (uint32_t at = 0; at < length;) {
        uint32_t frame = un_pool_take(pool);
        CHECK(frame != UN_NONE);
        uint32_t part = length - at < FRAME_BYTES - 64 ? length - at : FRAME_BYTES - 64;
        pool->frames[frame].offset = 64;
        pool->frames[frame].length = (uint16_t)part;
        for (uint32_t i = 0; i < part; i++)
            un_pool_bytes(pool, frame)[64 + i] = byte_of(number, at++);
        *link = frame;
        link = &pool->frames[frame].next;
    }
    return packet;
}

static void check_packet(struct un_pool *pool, const struct un_rx *packet, uint32_t number, uint32_t length)
{
    uint32_t at = 0;
    CHECK_EQ(packet->length, length);
    CHECK_EQ(packet->flags, number & 3);
    CHECK_EQ(packet->segment_bytes, (uint16_t)number);
    for (uint32_t frame = packet->frame; frame != UN_NONE; frame = pool->frames[frame].next)
        for (uint32_t i = 0; i < pool->frames[frame].length; i++)
            CHECK_EQ(un_pool_bytes(pool, frame)[pool->frames[frame].offset + i], byte_of(number, at++));
    CHECK_EQ(at, length);
    un_pool_drop_chain(pool, packet->frame);
}

/* The oracle: what was given from 0 and 1 to 2 and not taken yet. */
struct expected {
    uint32_t numbers[QUEUE], lengths[QUEUE];
    uint32_t first, end;
};
static struct expected expected[2];

static uint32_t bytes_waiting(const struct expected *queue)
{
    uint32_t bytes = 0;
    for (uint32_t i = queue->first; i != queue->end; i++)
        bytes += queue->lengths[i % QUEUE];
    return bytes;
}

static void give_one(struct un_pool *pool, uint64_t *state, uint32_t number)
{
    uint32_t from = random_below(state, 2);
    uint32_t length = random_below(state, 8) ? 1 + random_below(state, 1514) : 1 + random_below(state, PACKET_MAX);
    struct un_rx packet = make_packet(pool, number, length);
    if (un_exchange_give(&shards[from], pool, 2, &packet) == 0) {
        struct expected *queue = &expected[from];
        queue->numbers[queue->end % QUEUE] = number;
        queue->lengths[queue->end++ % QUEUE] = length;
    } else {
        CHECK(bytes_waiting(&expected[from]) + length > 100000); /* refused only when it is full */
    }
    un_pool_drop_chain(pool, packet.frame);
}

static bool take_one(struct un_pool *pool)
{
    struct un_rx packet;
    if (!un_exchange_take(&shards[2], pool, &packet)) {
        CHECK_EQ(expected[0].first, expected[0].end);
        CHECK_EQ(expected[1].first, expected[1].end);
        return false;
    }
    for (uint32_t from = 0; from < 2; from++) {
        struct expected *queue = &expected[from];
        if (queue->first == queue->end || (uint16_t)queue->numbers[queue->first % QUEUE] != packet.segment_bytes)
            continue;
        check_packet(pool, &packet, queue->numbers[queue->first % QUEUE], queue->lengths[queue->first % QUEUE]);
        queue->first++;
        return true;
    }
    check_failed(__FILE__, __LINE__, "a packet that is next in no queue");
}

static void packets_come_out_as_they_went_in(uint64_t seed)
{
    uint64_t state = seed;
    struct un_pool pool = new_pool();
    memset(expected, 0, sizeof expected);
    open_shards();
    for (uint32_t number = 1; number < 3000; number++) {
        if (random_below(&state, 5) < 3)
            give_one(&pool, &state, number);
        else
            take_one(&pool);
    }
    while (take_one(&pool))
        ;
    close_shards();
    free_pool(&pool);
}

static void all_others_get_a_copy(void)
{
    struct un_pool pool = new_pool();
    struct un_rx got, packet = make_packet(&pool, 5, 100);
    open_shards();
    CHECK_EQ(un_exchange_give(&shards[1], &pool, UN_NONE, &packet), 0);
    un_pool_drop_chain(&pool, packet.frame);
    for (uint32_t shard = 0; shard < SHARDS; shard++) {
        CHECK_EQ(un_exchange_take(&shards[shard], &pool, &got), shard != 1);
        if (shard != 1)
            check_packet(&pool, &got, 5, 100);
    }
    close_shards();
    free_pool(&pool);
}

static void without_frames_a_packet_is_lost_and_the_next_one_comes(void)
{
    struct un_pool pool = new_pool(), small = new_pool();
    struct un_rx got, big = make_packet(&pool, 1, 3 * FRAME_BYTES), next = make_packet(&pool, 2, 60);
    uint32_t held[FRAMES];
    open_shards();
    CHECK_EQ(un_exchange_give(&shards[0], &pool, 1, &big) + un_exchange_give(&shards[0], &pool, 1, &next), 0);
    for (uint32_t i = 0; i < FRAMES - 1; i++)
        held[i] = un_pool_take(&small);
    CHECK(un_exchange_take(&shards[1], &small, &got));
    CHECK_EQ(got.frame, UN_NONE);
    CHECK(un_exchange_take(&shards[1], &small, &got));
    check_packet(&small, &got, 2, 60);
    for (uint32_t i = 0; i < FRAMES - 1; i++)
        un_pool_drop(&small, held[i]);
    un_pool_drop_chain(&pool, big.frame);
    un_pool_drop_chain(&pool, next.frame);
    close_shards();
    free_pool(&pool);
    free_pool(&small);
}

static void a_successor_goes_on_with_what_waits(void)
{
    struct un_pool pool = new_pool();
    struct un_rx got, packet = make_packet(&pool, 9, 1000);
    open_shards();
    CHECK_EQ(un_exchange_give(&shards[0], &pool, 1, &packet), 0);
    un_pool_drop_chain(&pool, packet.frame);
    un_exchange_close(&shards[1]);
    CHECK_EQ(un_exchange_open(&shards[1], memory_fd, 1, SHARDS, wakes), 0);
    CHECK(!un_exchange_sleep(&shards[1]));
    CHECK(un_exchange_take(&shards[1], &pool, &got));
    check_packet(&pool, &got, 9, 1000);
    close_shards();
    free_pool(&pool);
}

/* A shard gone mad writes what it likes: it is passed over, and the next that makes sense comes. */
static void a_length_that_no_packet_has_is_passed_over(void)
{
    static const uint32_t lengths[] = {0, PACKET_MAX + 1, 1u << 20, UINT32_MAX - 72, UINT32_MAX - 60, UINT32_MAX};
    struct un_pool pool = new_pool();
    struct un_rx got;
    open_shards();
    struct un_exchange_ring *ring = &shards[0].memory->rings[1];
    for (uint32_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct un_rx packet = make_packet(&pool, i, 100);
        uint32_t at = un_load(&ring->produced) * UN_EXCHANGE_CELL_BYTES;
        CHECK_EQ(un_exchange_give(&shards[0], &pool, 1, &packet), 0);
        memcpy(ring->cells + at, &lengths[i], sizeof lengths[i]);
        CHECK(!un_exchange_take(&shards[1], &pool, &got));
        CHECK_EQ(un_exchange_give(&shards[0], &pool, 1, &packet), 0);
        un_pool_drop_chain(&pool, packet.frame);
        CHECK(un_exchange_take(&shards[1], &pool, &got));
        check_packet(&pool, &got, i, 100);
        CHECK(!un_exchange_take(&shards[1], &pool, &got));
    }
    close_shards();
    free_pool(&pool);
}

/* Two threads. */

enum { PACKETS = 3000 };

static void *give_all(void *unused)
{
    struct un_pool pool = new_pool();
    for (uint32_t number = 1; number <= PACKETS; number++) {
        struct un_rx packet = make_packet(&pool, number, 1 + number % 3000);
        while (un_exchange_give(&shards[0], &pool, 1, &packet))
            usleep(10);
        un_pool_drop_chain(&pool, packet.frame);
        if (number % 64 == 0)
            usleep(50); /* lets the other side fall asleep */
    }
    free_pool(&pool);
    return unused;
}

static void sleep_until_told(void)
{
    struct pollfd wake = {.fd = wakes[1], .events = POLLIN};
    uint64_t count;
    if (un_exchange_sleep(&shards[1])) {
        CHECK_EQ(poll(&wake, 1, 10000), 1); /* a wake-up that was lost would never come */
        CHECK_EQ(read(wakes[1], &count, sizeof count), (ssize_t)sizeof count);
    }
    un_exchange_awake(&shards[1]);
}

static void a_sleeper_is_woken(void)
{
    pthread_t giver;
    struct un_pool pool = new_pool();
    struct un_rx packet;
    open_shards();
    CHECK_EQ(pthread_create(&giver, NULL, give_all, NULL), 0);
    for (uint32_t number = 1; number <= PACKETS;) {
        if (un_exchange_take(&shards[1], &pool, &packet)) {
            check_packet(&pool, &packet, number, 1 + number % 3000);
            number++;
        } else {
            sleep_until_told();
        }
    }
    CHECK_EQ(pthread_join(giver, NULL), 0);
    close_shards();
    free_pool(&pool);
}

/* A shard may die between the note that another one sleeps no more and the write that wakes it. */
static void a_successor_wakes_whom_nobody_woke(void)
{
    uint64_t count;
    open_shards();
    CHECK_EQ(read(wakes[1], &count, sizeof count), (ssize_t)sizeof count);
    un_store(&shards[1].memory->inboxes[1].sleeping, 0);
    un_exchange_close(&shards[0]);
    CHECK_EQ(un_exchange_open(&shards[0], memory_fd, 0, SHARDS, wakes), 0);
    CHECK_EQ(read(wakes[1], &count, sizeof count), (ssize_t)sizeof count);
    close_shards();
}

int main(void)
{
    check_test = "packets_come_out_as_they_went_in";
    for_each_seed(5, packets_come_out_as_they_went_in);
    RUN(all_others_get_a_copy);
    RUN(without_frames_a_packet_is_lost_and_the_next_one_comes);
    RUN(a_successor_goes_on_with_what_waits);
    RUN(a_length_that_no_packet_has_is_passed_over);
    RUN(a_sleeper_is_woken);
    RUN(a_successor_wakes_whom_nobody_woke);
    return 0;
}
