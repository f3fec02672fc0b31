/* libFuzzer target. Invariant: whatever frames an attacker sends and whatever the application does meanwhile, the stack
 * does not crash, reads and writes nothing but its arena, is whole after every step (un_stack_check) and empty after
 * all ended, and a connection between two honest ends, whose sequence numbers he does not know, loses no byte. */
#include "frames.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    frames_run(data, size);
    return 0;
}
