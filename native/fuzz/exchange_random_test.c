/* The invariant of fuzz_exchange without a fuzzer: seeded random scripts. */
#include "../tests/check.h"
#include "exchange.h"

enum { SCRIPTS = 1000 };

static void run_a_script(uint64_t seed)
{
    uint8_t script[EXCHANGE_SCRIPT_MAX];
    uint64_t random = seed;
    uint32_t length = 1 + random_below(&random, EXCHANGE_SCRIPT_MAX);
    for (uint32_t i = 0; i < length; i++)
        script[i] = (uint8_t)(random_next(&random) >> 32);
    exchange_run(script, length);
}

static void whatever_a_mad_shard_writes(void)
{
    for_each_seed(SCRIPTS, run_a_script);
}

int main(void)
{
    RUN(whatever_a_mad_shard_writes);
    return 0;
}
