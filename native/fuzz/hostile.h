/* One life of a shard whose first worker has gone mad, driven by a string of bytes: see hostile.c. */
#ifndef UN_FUZZ_HOSTILE_H
#define UN_FUZZ_HOSTILE_H

#include <stddef.h>
#include <stdint.h>

/* Play it; a broken promise ends the process. */
void hostile_run(const uint8_t *script, size_t length);

/* The same without a script, with a mad worker that is a process and writes while the engine reads. */
void hostile_race(uint64_t seed, uint32_t turns);

#endif
