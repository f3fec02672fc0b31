/* libFuzzer target. Invariant: whatever a worker writes into its memory, the engine, and one that takes over, does not
 * crash, serves the connections of the other seat byte for byte, and sends no byte of one connection to another (P4,
 * P10). */
#include "hostile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hostile_run(data, size);
    return 0;
}
