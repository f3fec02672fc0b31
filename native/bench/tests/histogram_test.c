/* The histogram against sorted arrays: a percentile is never below the true one and at most 1/HISTOGRAM_STEPS above. */
#include "histogram.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

#define VALUES 5000

static int by_value(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Percents here are whole thousandths, so the oracle's rank needs no floating point. */
static uint64_t oracle(const uint64_t *sorted, uint64_t count, uint64_t thousandths)
{
    uint64_t rank = (count * thousandths + 99999) / 100000;
    return sorted[rank == 0 ? 0 : rank - 1];
}

static void compare(uint64_t *values, uint64_t count)
{
    static struct histogram histogram;
    memset(&histogram, 0, sizeof histogram);
    double sum = 0;
    for (uint64_t i = 0; i < count; i++) {
        histogram_add(&histogram, values[i]);
        sum += (double)values[i];
    }
    qsort(values, count, sizeof *values, by_value);
    un_assert(histogram.count == count);
    un_assert(histogram.max == values[count - 1]);
    un_assert(histogram_mean(&histogram) == sum / (double)count);
    static const uint64_t thousandths[] = {1, 1000, 25000, 50000, 90000, 99000, 99900, 99999, 100000};
    for (size_t i = 0; i < sizeof thousandths / sizeof *thousandths; i++) {
        uint64_t expected = oracle(values, count, thousandths[i]);
        uint64_t found = histogram_percentile(&histogram, (double)thousandths[i] / 1000.0);
        un_assert(found >= expected);
        un_assert(found - expected <= expected / HISTOGRAM_STEPS);
    }
}

static void test_spread_of_sizes(void)
{
    static uint64_t values[VALUES];
    uint64_t state = 88172645463325252u;
    for (int bits = 1; bits <= 64; bits++) { /* from one bit to all of them */
        for (int i = 0; i < VALUES; i++)
            values[i] = next_random(&state) >> (64 - bits);
        compare(values, VALUES);
    }
    for (int i = 0; i < VALUES; i++)
        values[i] = next_random(&state) >> (next_random(&state) % 64);
    compare(values, VALUES);
}

static void test_edges(void)
{
    uint64_t edges[] = {0, 1, 127, 128, 255, 256, 257, 511, 512, 1u << 31, UINT32_MAX, UINT64_MAX - 1, UINT64_MAX};
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++)
        compare(&edges[i], 1); /* one value is every percentile */
    compare(edges, sizeof edges / sizeof *edges);
}

static void test_empty(void)
{
    static const struct histogram empty;
    un_assert(histogram_percentile(&empty, 50) == 0);
    un_assert(histogram_mean(&empty) == 0);
}

int main(void)
{
    test_spread_of_sizes();
    test_edges();
    test_empty();
    return 0;
}
