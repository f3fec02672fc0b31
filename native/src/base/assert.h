/* Assertions that stay on in release: a mistake of ours stops the process, where its supervisor starts it again.
 * What a peer or a worker does wrong is never asserted; it is counted and dropped. */
#ifndef UN_ASSERT_H
#define UN_ASSERT_H

#include <stdio.h>
#include <stdlib.h>

#define UN_STATIC_ASSERT(condition, text) _Static_assert(condition, text)

#define un_assert(condition)                                                                                           \
    do {                                                                                                               \
        if (__builtin_expect(!(condition), 0))                                                                         \
            un_assert_failed(#condition, __FILE__, __LINE__);                                                          \
    } while (0)

static inline _Noreturn void un_assert_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "usnet: assertion failed: %s (%s:%d)\n", condition, file, line);
    abort();
}

#endif
