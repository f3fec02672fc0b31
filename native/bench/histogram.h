/* Counts of 64-bit values in log-linear buckets (as HdrHistogram does it): every power of two is cut into
 * HISTOGRAM_STEPS equal buckets, so a value is known to one part in HISTOGRAM_STEPS over the whole range, in a fixed
 * amount of memory and with a handful of instructions to add one.
 *
 * histogram_percentile answers with the upper edge of the bucket that holds the value of that rank: never less than
 * the true percentile and at most 1/HISTOGRAM_STEPS more. Extremes and mean
 * are exact. */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BITS 7
#define HISTOGRAM_STEPS (1u << HISTOGRAM_BITS)
#define HISTOGRAM_BUCKETS ((64 - HISTOGRAM_BITS + 1) * HISTOGRAM_STEPS)

struct histogram {
    uint64_t count;
    uint64_t max;
    double sum; /* nanoseconds times requests leaves 64 bits within hours */
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *histogram, uint64_t value);

/* percent in (0, 100]; 0 when nothing was added. */
uint64_t histogram_percentile(const struct histogram *histogram, double percent);

/* The upper edge of a bucket: the largest value that it counts. */
uint64_t histogram_edge(uint32_t bucket);

double histogram_mean(const struct histogram *histogram);

#endif
