/* A test in a process of its own, where it may spoil that. */
#ifndef UN_TEST_CHILD_H
#define UN_TEST_CHILD_H

#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static inline void in_a_child(void (*test)(void))
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        test();
        _exit(0);
    }
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
}

#endif
