/* See child.h. */
#include "base/child.h"

#include <errno.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

int un_child_wait(pid_t pid, const volatile sig_atomic_t *stop, int *status)
{
    while (waitpid(pid, status, 0) < 0)
        if (*stop || errno != EINTR)
            return *stop ? -EINTR : -errno;
    return 0;
}

int un_child_die_with_parent(int signal_number, pid_t parent)
{
    if (prctl(PR_SET_PDEATHSIG, signal_number) < 0)
        return -errno;
    return getppid() == parent ? 0 : -ESRCH;
}
