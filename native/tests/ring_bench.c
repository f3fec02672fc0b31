/* Nanoseconds to hand a descriptor over from one core to another, in batches of 32: a benchmark, not a test.
 *
 * A consumer process is pinned to the second of two cores; the ring and its two indices lie in shared memory, laid out
 * as in a segment. Each run hands over a number of 32-byte descriptors; the median of the runs is what counts. With one
 * core only there is nothing to measure, and the program
 * says so. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/barrier.h"
#include "base/ring.h"
#include "check.h"
#include "shard/segment.h"

enum { SLOTS = 4096, BATCH = 32, RUNS = 15, DESCRIPTORS = 1 << 22 };

struct channel {
    un_shared32 produced __attribute__((aligned(UN_CACHE_LINE)));
    un_shared32 consumed __attribute__((aligned(UN_CACHE_LINE)));
    struct un_command slots[SLOTS] __attribute__((aligned(UN_CACHE_LINE)));
};

static void pin(int core)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    CHECK_EQ(sched_setaffinity(0, sizeof set, &set), 0);
}

static void produce(struct channel *channel, struct un_ring *ring, uint32_t descriptors)
{
    for (uint32_t sent = 0; sent < descriptors; sent += BATCH) {
        while (un_ring_reserve(ring) < BATCH) {
            CHECK(un_ring_producer_saw(ring, un_observe(&channel->consumed)));
            un_relax();
        }
        for (uint32_t i = 0; i < BATCH; i++) {
            channel->slots[un_ring_slot(ring, ring->own)] =
                (struct un_command){.op = UN_COMMAND_SEND, .length = 60, .conn = sent + i, .frame = i, .offset = sent};
            un_ring_submit(ring, 1);
        }
        un_publish(&channel->produced, ring->own);
    }
    while (un_observe(&channel->consumed) != ring->own)
        un_relax();
}

static uint64_t consume(struct channel *channel, struct un_ring *ring, uint32_t descriptors)
{
    uint64_t sum = 0;
    for (uint32_t got = 0; got < descriptors;) {
        while (un_ring_peek(ring) == 0) {
            CHECK(un_ring_consumer_saw(ring, un_observe(&channel->produced)));
            un_relax();
        }
        uint32_t count = un_ring_peek(ring) < BATCH ? un_ring_peek(ring) : BATCH;
        for (uint32_t i = 0; i < count; i++) {
            const struct un_command *command = &channel->slots[un_ring_slot(ring, ring->own)];
            sum += command->conn + command->length + command->frame;
            un_ring_release(ring, 1);
        }
        un_publish(&channel->consumed, ring->own);
        got += count;
    }
    return sum;
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int by_value(const void *left, const void *right)
{
    double difference = *(const double *)left - *(const double *)right;
    return (difference > 0) - (difference < 0);
}

static double run_once(struct channel *channel, struct un_ring *ring)
{
    uint64_t start = now_ns();
    produce(channel, ring, DESCRIPTORS);
    return (double)(now_ns() - start) / DESCRIPTORS;
}

int main(void)
{
    double runs[RUNS];
    struct un_ring ring;
    if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
        puts("ring hand-off: needs two cores");
        return 0;
    }
    struct channel *channel = mmap(NULL, sizeof *channel, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(channel != MAP_FAILED);
    un_ring_init(&ring, SLOTS, 0, 0);
    pid_t consumer = fork();
    CHECK(consumer >= 0);
    if (consumer == 0) {
        pin(1);
        _exit(consume(channel, &ring, (RUNS + 1u) * DESCRIPTORS) == 0);
    }
    pin(0);
    run_once(channel, &ring); /* warm */
    for (int run = 0; run < RUNS; run++)
        runs[run] = run_once(channel, &ring);
    int status;
    CHECK_EQ(waitpid(consumer, &status, 0), consumer);
    CHECK_EQ(status, 0);
    qsort(runs, RUNS, sizeof *runs, by_value);
    printf("ring hand-off, batches of %d: median %.1f ns per descriptor (%.1f to %.1f in %d runs)\n", BATCH,
           runs[RUNS / 2], runs[0], runs[RUNS - 1], RUNS);
    return 0;
}
