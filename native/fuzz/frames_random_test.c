/* The invariant of fuzz_frames without a fuzzer: seeded random scripts. */
#include "../tests/check.h"
#include "frames.h"

enum { SCRIPTS = 1000 };

static void run_a_script(uint64_t seed)
{
    uint8_t script[FRAMES_SCRIPT_MAX];
    uint64_t random = seed;
    uint32_t length = 1 + random_below(&random, FRAMES_SCRIPT_MAX);
    for (uint32_t i = 0; i < length; i++)
        script[i] = (uint8_t)(random_next(&random) >> 32);
    frames_run(script, length);
}

static void whatever_an_attacker_sends(void)
{
    for_each_seed(SCRIPTS, run_a_script);
}

int main(void)
{
    RUN(whatever_an_attacker_sends);
    return 0;
}
