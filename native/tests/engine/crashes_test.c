/* When a keeper gives up engines that crash (engine/crashes.h). */
#include "engine/crashes.h"

#include "check.h"

#define MS UINT64_C(1000000)

/* How many crashes, so far apart, until these are too many; 0: never. */
static uint32_t crashes_until(uint64_t apart_ns)
{
    struct un_crashes crashes = {0};
    for (uint32_t count = 1; count <= 1000; count++)
        if (un_crashes_count(&crashes, 1000 * MS + count * apart_ns))
            return count;
    return 0;
}

static void engines_that_crash_soon_are_given_up(void)
{
    CHECK_EQ(crashes_until(0), UN_CRASHES_MAX);
    CHECK_EQ(crashes_until(99 * MS), UN_CRASHES_MAX);
}

static void engines_that_serve_for_a_while_each_are_given_up(void)
{
    CHECK_EQ(crashes_until(120 * MS), UN_CRASHES_MAX);
    CHECK_EQ(crashes_until(1100 * MS), UN_CRASHES_MAX);
}

static void engines_that_crash_now_and_then_are_not(void)
{
    CHECK_EQ(crashes_until(1200 * MS), 0);
}

static void crashes_of_long_ago_do_not_count(void)
{
    struct un_crashes crashes = {0};
    for (uint32_t count = 1; count < UN_CRASHES_MAX; count++)
        CHECK(!un_crashes_count(&crashes, 1 + count));
    for (uint32_t count = 1; count < UN_CRASHES_MAX; count++)
        CHECK(!un_crashes_count(&crashes, 3600000 * MS + count));
    CHECK(un_crashes_count(&crashes, 3600000 * MS + UN_CRASHES_MAX));
}

int main(void)
{
    RUN(engines_that_crash_soon_are_given_up);
    RUN(engines_that_serve_for_a_while_each_are_given_up);
    RUN(engines_that_crash_now_and_then_are_not);
    RUN(crashes_of_long_ago_do_not_count);
    return 0;
}
