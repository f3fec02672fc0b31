/* Distrust (P4), without a fuzzer: seeded random scripts for the mad worker of ../fuzz/hostile.c. */
#include "check.h"
#include "../fuzz/hostile.h"

enum { SCRIPT_MAX = 3000, SCRIPTS = 5000 };

static void scribble(uint64_t seed)
{
    uint8_t script[SCRIPT_MAX];
    uint64_t random = seed;
    uint32_t length = random_below(&random, SCRIPT_MAX);
    for (uint32_t i = 0; i < length; i++)
        script[i] = (uint8_t)random_next(&random);
    hostile_run(script, length);
}

static void a_mad_worker_hurts_its_own_connections_only(void)
{
    for_each_seed(SCRIPTS, scribble);
}

int main(void)
{
    RUN(a_mad_worker_hurts_its_own_connections_only);
    return 0;
}
