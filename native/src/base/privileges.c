/* See privileges.h. */
#include "base/privileges.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/child.h"

static int change_user(const struct un_privileges *privileges)
{
    uid_t uid = privileges->uid;
    gid_t gid = privileges->gid;
    if (setgroups(privileges->group_count, privileges->groups) < 0 || setresgid(gid, gid, gid) < 0 ||
        setresuid(uid, uid, uid) < 0)
        return -errno;
    return 0;
}

/* Ambient ones go with the inheritable ones. With no_new_privs neither set-user-ID programs nor the user 0 bring any
 * back. */
static int drop_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};
    if (syscall(SYS_capset, &header, none) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    return 0;
}

int un_privileges_drop(const struct un_privileges *privileges, int death_signal, pid_t parent)
{
    int status = privileges->change_user ? change_user(privileges) : 0;
    if (status == 0 && privileges->drop_capabilities)
        status = drop_capabilities();
    if (status < 0)
        return status;
    if (prctl(PR_SET_DUMPABLE, privileges->debuggable ? 1 : 0) < 0)
        return -errno;
    return un_child_die_with_parent(death_signal, parent);
}
