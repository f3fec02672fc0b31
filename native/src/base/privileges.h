/* What a process of a server gives up for good, before it looks at anything that peers or applications wrote.
 *
 * The order matters. Groups and user can be changed only with capabilities, so capabilities go behind them. The kernel
 * forgets the death signal when the user changes, so it is asked for once more, and the parent may have died meanwhile.
 * A process that is not dumpable is closed to others of the same user: they can neither attach to it nor open its
 * memory or descriptors through /proc.
 *
 * Limits are raised before by the supervisor and inherited. Capabilities are those of the calling thread, so there
 * should be no other yet. */
#ifndef UN_PRIVILEGES_H
#define UN_PRIVILEGES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct un_privileges {
    bool change_user; /* to the following; else they stay what they are */
    uid_t uid;
    gid_t gid;
    const gid_t *groups; /* besides gid */
    size_t group_count;
    bool drop_capabilities; /* all, and no program that it executes gets any */
    bool debuggable;        /* open to others of the same user, as an ordinary process is */
};

/* Keep to `privileges` from now on; `death_signal` comes when the thread that spawned this process ends, whose process
 * is `parent`. 0 or -errno; -ESRCH: the parent is gone already, the signal will not come. */
int un_privileges_drop(const struct un_privileges *privileges, int death_signal, pid_t parent);

#endif
