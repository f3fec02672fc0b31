/* See child.h. */
#include "base/child.h"

#include <errno.h>
#include <sys/wait.h>

int un_child_wait(pid_t pid, const volatile sig_atomic_t *stop, int *status)
{
    while (waitpid(pid, status, 0) < 0)
        if (*stop || errno != EINTR)
            return *stop ? -EINTR : -errno;
    return 0;
}
