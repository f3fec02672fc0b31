/* The invariant of fuzz_sockets without a fuzzer: seeded random scripts. */
#include "../tests/check.h"
#include "sockets.h"

enum { SCRIPTS = UN_TEST_SANITIZED ? 600 : 5000 };

static void run_a_script(uint64_t seed)
{
    uint8_t script[SOCKETS_SCRIPT_MAX];
    uint64_t random = seed;
    uint32_t length = random_below(&random, sizeof script);
    for (uint32_t i = 0; i < length; i++)
        script[i] = (uint8_t)(random_next(&random) >> 32);
    sockets_run(script, length);
}

static void whatever_is_called(void)
{
    for_each_seed(SCRIPTS, run_a_script);
}

int main(void)
{
    RUN(whatever_is_called);
    return 0;
}
