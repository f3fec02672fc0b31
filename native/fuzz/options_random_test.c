/* The invariant of fuzz_options without a fuzzer: seeded random scripts, most of small numbers, as kinds and lengths
 * are. */
#include "../tests/check.h"
#include "options.h"

enum { SCRIPTS = 1000 };

static void run_a_script(uint64_t seed)
{
    uint8_t script[OPTIONS_SCRIPT_MAX];
    uint64_t random = seed;
    uint32_t length = 1 + random_below(&random, OPTIONS_SCRIPT_MAX);
    for (uint32_t i = 0; i < length; i++) {
        script[i] = (uint8_t)(random_next(&random) >> 32);
        if (i > 1 && random_below(&random, 4) > 0)
            script[i] %= 12;
    }
    options_run(script, length);
}

static void whatever_options_a_peer_has(void)
{
    for_each_seed(SCRIPTS, run_a_script);
}

int main(void)
{
    RUN(whatever_options_a_peer_has);
    return 0;
}
