/* Which system calls an engine may make: those that it has a use for, in a table (syscalls.c). It makes the filter for
 * itself, as its keeper has to clone; an engine in a worker makes none, as the user's code runs there.
 *
 * A call that is not in the table fails with EPERM, is counted, and the first one is told to the supervisor; or the
 * process is killed, which tests ask for. The filter traps, and a handler of SIGSYS counts, because the kernel counts
 * nothing. Under the sanitizers, whose runtimes make calls of their own, the kernel only logs.
 *
 * A second filter adds to the first: what either refuses is refused. So an engine that has started takes away what only
 * its start had a use for. */
#ifndef UN_SYSCALLS_H
#define UN_SYSCALLS_H

#include <stdint.h>

#include "base/barrier.h"
#include "shard/options.h"

enum un_syscall_use {
    UN_SYSCALLS_ALWAYS = 1 << 0,
    UN_SYSCALLS_OF_SOCKETS = 1 << 1, /* of the kernel */
    UN_SYSCALLS_OF_PACKETS = 1 << 2, /* of a device under a stack of our own */
    UN_SYSCALLS_TO_START = 1 << 3,   /* to open the device, to take over, to make another filter */
    /* of a device whose rings are looked at by the kernel when it is called: those two calls, no other ioctl */
    UN_SYSCALLS_OF_RINGS = 1 << 4,
};

/* Who hears of refused calls from now on: a counter, and the supervisor (-1: standard error). */
void un_syscalls_tell(un_shared64 *refused, int supervisor_fd);

/* Allow calls of these uses and no others; `mode` is an enum un_syscall_mode. 0, or -errno: the kernel or this machine
 * has no filters. no_new_privs has to be set (base/privileges.h). */
int un_syscalls_restrict(uint64_t mode, uint32_t uses);

#endif
