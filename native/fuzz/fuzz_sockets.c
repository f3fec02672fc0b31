/* libFuzzer target. Invariant: whatever is called on two contexts, and on two stacks without sockets, with whatever
 * arguments, over a wire that loses, doubles, swaps and corrupts, nothing crashes, all stacks stay in order, also those
 * that go on in a copy of their memory, bytes arrive in order, level-triggered events are what is true, who asks a peer
 * that stands still gives up, and when all is closed and time has passed nothing is left. */
#include "sockets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sockets_run(data, size);
    return 0;
}
