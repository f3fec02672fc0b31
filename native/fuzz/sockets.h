/* Any calls of the sockets with any arguments, on two contexts with a bad wire between them, driven by a string of
 * bytes: see sockets.c. */
#ifndef UN_FUZZ_SOCKETS_H
#define UN_FUZZ_SOCKETS_H

#include <stddef.h>
#include <stdint.h>

#define SOCKETS_SCRIPT_MAX 2048u

/* Play it; what does not hold ends the process. */
void sockets_run(const uint8_t *script, size_t length);

#endif
