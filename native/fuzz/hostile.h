/* One life of a shard whose first worker has gone mad, driven by a string of bytes: see hostile.c. */
#ifndef UN_FUZZ_HOSTILE_H
#define UN_FUZZ_HOSTILE_H

#include <stddef.h>
#include <stdint.h>

/* Play it; a broken promise ends the process. */
void hostile_run(const uint8_t *script, size_t length);

#endif
