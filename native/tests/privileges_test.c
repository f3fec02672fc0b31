/* What un_privileges_drop leaves of a process, and that a death signal is left. Each test runs in a child. As an
 * ordinary user there is less to lose; the user is changed only as root. */
#include "base/privileges.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"

#define OTHER 65534u

static pid_t parent;

static bool has_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    CHECK_EQ(syscall(SYS_capget, &header, data), 0);
    return data[0].effective | data[0].permitted | data[0].inheritable | data[1].effective | data[1].permitted |
           data[1].inheritable;
}

static int death_signal(void)
{
    int number;
    CHECK_EQ(prctl(PR_GET_PDEATHSIG, &number), 0);
    return number;
}

static void drop_nothing(void)
{
    struct un_privileges privileges = {.debuggable = false};
    bool had = has_capabilities();
    CHECK_EQ(un_privileges_drop(&privileges, SIGUSR1, parent), 0);
    CHECK_EQ(has_capabilities(), had);
    CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0);
    CHECK_EQ(prctl(PR_GET_DUMPABLE), 0);
    CHECK_EQ(death_signal(), SIGUSR1);
}

static void drop_capabilities(void)
{
    struct un_privileges privileges = {.drop_capabilities = true, .debuggable = true};
    uid_t uid = getuid();
    CHECK_EQ(un_privileges_drop(&privileges, SIGUSR1, parent), 0);
    CHECK(!has_capabilities());
    CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
    CHECK_EQ(prctl(PR_GET_DUMPABLE), 1);
    CHECK_EQ(death_signal(), SIGUSR1);
    CHECK_EQ(getuid(), uid);
}

static void change_user(void)
{
    const gid_t groups[] = {OTHER - 1};
    const struct un_privileges privileges = {.change_user = true, .uid = OTHER, .gid = OTHER, .groups = groups,
                                             .group_count = 1, .drop_capabilities = true};
    uid_t uids[3];
    gid_t gids[3], others[2];
    CHECK_EQ(un_privileges_drop(&privileges, SIGUSR1, parent), 0);
    CHECK_EQ(getresuid(&uids[0], &uids[1], &uids[2]) | getresgid(&gids[0], &gids[1], &gids[2]), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(uids[i], OTHER);
        CHECK_EQ(gids[i], OTHER);
    }
    CHECK_EQ(getgroups(2, others), 1);
    CHECK_EQ(others[0], OTHER - 1);
    CHECK(!has_capabilities());
    CHECK(setuid(0) < 0);
    CHECK_EQ(prctl(PR_GET_DUMPABLE), 0);
    CHECK_EQ(death_signal(), SIGUSR1);
}

static void lose_the_parent(void)
{
    struct un_privileges privileges = {.drop_capabilities = true};
    CHECK_EQ(un_privileges_drop(&privileges, SIGUSR1, parent + 1), -ESRCH);
}

static void become_another_without_privilege(void)
{
    struct un_privileges first = {.drop_capabilities = true};
    const struct un_privileges second = {.change_user = true, .uid = OTHER - 1, .gid = OTHER - 1};
    CHECK_EQ(un_privileges_drop(&first, SIGUSR1, parent), 0);
    CHECK_EQ(un_privileges_drop(&second, SIGUSR1, parent), -EPERM);
}

static void nothing_is_dropped_unasked(void)
{
    in_a_child(drop_nothing);
}

static void capabilities_are_dropped(void)
{
    in_a_child(drop_capabilities);
}

static void the_user_is_changed(void)
{
    in_a_child(change_user);
}

static void a_parent_that_is_gone_is_reported(void)
{
    in_a_child(lose_the_parent);
}

static void a_refusal_is_reported(void)
{
    in_a_child(become_another_without_privilege);
}

int main(void)
{
    parent = getpid();
    RUN(nothing_is_dropped_unasked);
    RUN(capabilities_are_dropped);
    if (geteuid() == 0)
        RUN(the_user_is_changed);
    RUN(a_parent_that_is_gone_is_reported);
    RUN(a_refusal_is_reported);
    return 0;
}
