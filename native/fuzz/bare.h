/* Two stacks without sockets, for the script of sockets.c: created, adopted and called as usnet.h says, with any
 * arguments.
 *
 * What streams carry is the low byte of its position here, too. The frames of either go to the other, some of them
 * damaged, some lost, and some that nobody sent. */
#ifndef UN_FUZZ_BARE_H
#define UN_FUZZ_BARE_H

#include <stdint.h>

void bare_begin(void);
void bare_call(uint64_t now_ns); /* one call, on one of them */
void bare_end(void);

#endif
