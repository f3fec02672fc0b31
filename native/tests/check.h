/* Checks for the native tests: the first failure says where, what and with which seed, and ends the program. */
#ifndef UN_TEST_CHECK_H
#define UN_TEST_CHECK_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            check_failed(__FILE__, __LINE__, #condition);                                                              \
    } while (0)

#define CHECK_EQ(left, right) check_equal(__FILE__, __LINE__, #left " == " #right, (uint64_t)(left), (uint64_t)(right))

/* Run a test function; its name is the test's. */
#define RUN(test)                                                                                                      \
    do {                                                                                                               \
        check_test = #test;                                                                                            \
        test();                                                                                                        \
        printf("ok %s\n", #test);                                                                                      \
        fflush(stdout);                                                                                                \
    } while (0)

/* Weak: one of each for all files of a test program. */
__attribute__((weak)) const char *check_test = "";
__attribute__((weak)) uint64_t check_seed; /* of the random test that runs; 0: none */

static inline _Noreturn void check_failed(const char *file, int line, const char *text)
{
    fprintf(stderr, "%s:%d: %s: not true: %s\n", file, line, check_test, text);
    if (check_seed)
        fprintf(stderr, "replay with USNET_TEST_SEED=%" PRIu64 "\n", check_seed);
    exit(1);
}

static inline void check_equal(const char *file, int line, const char *text, uint64_t left, uint64_t right)
{
    if (left == right)
        return;
    fprintf(stderr, "%s:%d: %" PRIu64 " is not %" PRIu64 "\n", file, line, left, right);
    check_failed(file, line, text);
}

/* xorshift64*: seeded, so that a failure can be replayed. */
static inline uint64_t random_next(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(2685821657736338717);
}

static inline uint32_t random_below(uint64_t *state, uint32_t bound)
{
    return (uint32_t)((random_next(state) >> 33) % bound);
}

/* Call test(seed) for each of the seeds 1 to count, or for the one that the environment names. */
static inline void for_each_seed(uint64_t count, void (*test)(uint64_t seed))
{
    const char *one = getenv("USNET_TEST_SEED");
    for (uint64_t seed = 1; !one && seed <= count; seed++) {
        check_seed = seed;
        test(seed);
    }
    if (one) {
        check_seed = strtoull(one, NULL, 10);
        test(check_seed);
    }
    check_seed = 0;
}

#if defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define UN_TEST_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define UN_TEST_SANITIZED 1
#endif
#ifndef UN_TEST_SANITIZED
#define UN_TEST_SANITIZED 0
#endif

#endif
