/* The invariant of fuzz_wire without a fuzzer: seeded random scripts, of few changes (which get far) and of many. */
#include <string.h>

#include "../tests/check.h"
#include "wire.h"

enum { SCRIPTS = 60000, CHANGES = 12 };

static void put(uint8_t *script, uint64_t *random, uint32_t from, uint32_t length)
{
    for (uint32_t i = from; i < length; i++)
        script[i] = (uint8_t)(random_next(random) >> 32);
}

static void run_a_script(uint64_t seed)
{
    uint8_t script[256];
    uint64_t random = seed;
    uint32_t length = 4 + 3 * random_below(&random, CHANGES);
    if (seed % 16 == 0)
        length = random_below(&random, sizeof script);
    put(script, &random, 0, sizeof script);
    if (seed % 4 > 0)
        script[1] = 0x40; /* one piece */
    else
        script[1] = 0;
    if (seed % 8 > 0)
        script[3] = 0; /* all of it */
    for (uint32_t i = 4; i + 3 <= length && seed % 16 > 0; i += 3)
        script[i] = 0; /* changes in what the frame begins with */
    wire_run(script, length);
}

static void whatever_a_frame_is(void)
{
    for_each_seed(SCRIPTS, run_a_script);
}

int main(void)
{
    RUN(whatever_a_frame_is);
    return 0;
}
