/* One shard of three gone mad over the memory that they share, driven by a string of bytes: see exchange.c. */
#ifndef UN_FUZZ_EXCHANGE_H
#define UN_FUZZ_EXCHANGE_H

#include <stddef.h>
#include <stdint.h>

#define EXCHANGE_SCRIPT_MAX 2048u

/* Play it; what does not hold ends the process. */
void exchange_run(const uint8_t *script, size_t length);

#endif
