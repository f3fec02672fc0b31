/* A frame that is anything, through every parser of wire/, driven by a string of bytes: see wire.c. */
#ifndef UN_FUZZ_WIRE_H
#define UN_FUZZ_WIRE_H

#include <stddef.h>
#include <stdint.h>

#define WIRE_SCRIPT_MAX 2048u

/* Play it; what does not hold ends the process. */
void wire_run(const uint8_t *script, size_t length);

#endif
