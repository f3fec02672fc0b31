/* The end of a child process. */
#ifndef UN_CHILD_H
#define UN_CHILD_H

#include <signal.h>
#include <sys/types.h>

/* Wait for the end of a child: 0 and its status. -EINTR when a signal handler has set `*stop` meanwhile, -ECHILD when
 * the kernel knows no such child: it was waited for elsewhere, and asking again would never end. */
int un_child_wait(pid_t pid, const volatile sig_atomic_t *stop, int *status);

#endif
