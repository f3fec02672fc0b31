/* TCP options that are anything, into the stack as server and as client: see options.c. */
#ifndef UN_FUZZ_OPTIONS_H
#define UN_FUZZ_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

#define OPTIONS_SCRIPT_MAX 512u

/* Play it; what does not hold ends the process. */
void options_run(const uint8_t *script, size_t length);

#endif
