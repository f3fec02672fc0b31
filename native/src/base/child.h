/* The end of a child process, and of its parent. */
#ifndef UN_CHILD_H
#define UN_CHILD_H

#include <signal.h>
#include <sys/types.h>

/* Wait for the end of a child: 0 and its status. -EINTR when a signal handler has set `*stop` meanwhile, -ECHILD when
 * the kernel knows no such child: it was waited for elsewhere, and asking again would never end. */
int un_child_wait(pid_t pid, const volatile sig_atomic_t *stop, int *status);

/* Get `signal_number` when the thread that spawned this process ends. 0, or -errno; -ESRCH: `parent`, to whom the
 * thread belonged, is gone already, so the signal will not come. */
int un_child_die_with_parent(int signal_number, pid_t parent);

#endif
