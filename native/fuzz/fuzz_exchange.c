/* libFuzzer target. Invariant: whatever a shard gone mad writes into the rings it shares with others and into the words
 * by which they wake each other, the others neither crash nor take anything for ever, the stack that gets its packets
 * stays in order, and what an honest shard gives comes out whole, in order, and once. */
#include "exchange.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    exchange_run(data, size);
    return 0;
}
