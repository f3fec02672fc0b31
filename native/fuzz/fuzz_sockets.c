/* libFuzzer target. Invariant: whatever is called on two contexts with whatever arguments, over a wire that loses, doubles,
 * swaps and corrupts, nothing crashes, both stacks stay in order, bytes arrive in order, level-triggered events are what
 * is true, and when all is closed and time has passed nothing is left. */
#include "sockets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sockets_run(data, size);
    return 0;
}
