/* The engine's clock: CLOCK_MONOTONIC in nanoseconds. */
#ifndef UN_CLOCK_H
#define UN_CLOCK_H

#include <stdint.h>

uint64_t un_clock_ns(void);

#endif
