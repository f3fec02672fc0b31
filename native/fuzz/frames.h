/* Frames into a stack with live connections, driven by a string of bytes: see frames.c. */
#ifndef UN_FUZZ_FRAMES_H
#define UN_FUZZ_FRAMES_H

#include <stddef.h>
#include <stdint.h>

#define FRAMES_SCRIPT_MAX 1024u

/* Play it; what does not hold ends the process. */
void frames_run(const uint8_t *script, size_t length);

#endif
