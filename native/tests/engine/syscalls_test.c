/* What becomes of system calls that an engine has no use for. Each test runs in a child, as a filter is for good. Under
 * the sanitizers calls are only logged, and made. */
#include "engine/syscalls.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "device/netmap_abi.h"
#include "engine/control.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define REFUSES false
#else
#define REFUSES true
#endif

#define KILLED 1000 /* and the number of the signal, in place of an exit status */

static un_shared64 refused;
static int words[2]; /* to the supervisor */

static int in_a_child(int (*test)(void))
{
    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, words), 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        un_syscalls_tell(&refused, words[1]);
        _exit(test());
    }
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    close(words[0]);
    close(words[1]);
    return WIFSIGNALED(status) ? KILLED + WTERMSIG(status) : WEXITSTATUS(status);
}

static bool can_dup(void)
{
    int fd = dup(STDOUT_FILENO);
    if (fd < 0)
        CHECK_EQ(errno, EPERM);
    return fd >= 0;
}

static bool can_make_sockets(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0)
        CHECK_EQ(errno, EPERM);
    return fd >= 0;
}

static int refuse(void)
{
    CHECK_EQ(un_syscalls_restrict(UN_SYSCALLS_REFUSE, UN_SYSCALLS_ALWAYS | UN_SYSCALLS_OF_SOCKETS), 0);
    CHECK_EQ(can_dup(), !REFUSES);
    CHECK_EQ(can_make_sockets(), !REFUSES);
    CHECK_EQ(un_load(&refused), REFUSES ? 2 : 0);
    CHECK_EQ(getpid(), syscall(SYS_getpid));
    CHECK_EQ(write(words[1], "", 1), 1);
    return 0;
}

static int tell(void)
{
    struct {
        struct un_control head;
        char text[UN_CONTROL_TEXT_MAX];
    } message = {0};
    CHECK_EQ(un_syscalls_restrict(UN_SYSCALLS_REFUSE, UN_SYSCALLS_ALWAYS), 0);
    can_dup();
    can_dup();
    CHECK(recv(words[0], &message, sizeof message, MSG_DONTWAIT) > 0);
    CHECK_EQ(message.head.type, UN_CONTROL_SAYS);
    char expected[UN_CONTROL_TEXT_MAX];
    snprintf(expected, sizeof expected, "system call %d was refused", SYS_dup);
    CHECK(strncmp(message.text, expected, strlen(expected)) == 0);
    CHECK(recv(words[0], &message, sizeof message, MSG_DONTWAIT) < 0); /* the second one is counted only */
    return 0;
}

static int start_and_go_on(void)
{
    CHECK_EQ(un_syscalls_restrict(UN_SYSCALLS_REFUSE, UN_SYSCALLS_ALWAYS | UN_SYSCALLS_TO_START), 0);
    CHECK(can_make_sockets());
    CHECK_EQ(un_syscalls_restrict(UN_SYSCALLS_REFUSE, UN_SYSCALLS_ALWAYS), 0);
    CHECK_EQ(can_make_sockets(), !REFUSES);
    CHECK_EQ(un_syscalls_restrict(UN_SYSCALLS_REFUSE, UN_SYSCALLS_ALWAYS), REFUSES ? -EPERM : 0);
    return 0;
}

/* Of a descriptor that there is not: whether the kernel was asked at all. */
static bool can_request(unsigned long request)
{
    CHECK(syscall(SYS_ioctl, -1, request, 0) < 0);
    CHECK(errno == EBADF || errno == EPERM);
    return errno == EBADF;
}

/* A packet device's start, and what it may do later. */
static int rings_take_calls(void)
{
    const uint32_t uses = UN_SYSCALLS_ALWAYS | UN_SYSCALLS_OF_PACKETS | UN_SYSCALLS_OF_RINGS;
    CHECK_EQ(un_syscalls_restrict(UN_SYSCALLS_REFUSE, uses | UN_SYSCALLS_TO_START), 0);
    CHECK(can_request(UN_NETMAP_SYNC_TX) && can_request(UN_NETMAP_CONTROL) && can_request(FIONREAD));
    CHECK_EQ(un_syscalls_restrict(UN_SYSCALLS_REFUSE, uses), 0);
    CHECK(can_request(UN_NETMAP_SYNC_TX) && can_request(UN_NETMAP_SYNC_RX));
    CHECK_EQ(un_load(&refused), 0);
    const unsigned long others[] = {
        UN_NETMAP_CONTROL, FIONREAD, 0, UN_NETMAP_SYNC_TX - 1, UN_NETMAP_SYNC_RX + 1,
        UN_NETMAP_SYNC_TX | 1ul << 32, UN_NETMAP_SYNC_RX | 1ul << 63,
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        CHECK_EQ(can_request(others[i]), !REFUSES);
    CHECK_EQ(un_load(&refused), REFUSES ? sizeof others / sizeof *others : 0);
    CHECK(!can_dup() || !REFUSES);
    CHECK_EQ(write(words[1], "", 1), 1);
    return 0;
}

static int packets_alone_take_none(void)
{
    CHECK_EQ(un_syscalls_restrict(UN_SYSCALLS_REFUSE, UN_SYSCALLS_ALWAYS | UN_SYSCALLS_OF_PACKETS), 0);
    CHECK_EQ(can_request(UN_NETMAP_SYNC_TX), !REFUSES);
    return 0;
}

static int sockets_take_any(void)
{
    const uint32_t uses = UN_SYSCALLS_ALWAYS | UN_SYSCALLS_OF_SOCKETS | UN_SYSCALLS_OF_RINGS;
    CHECK_EQ(un_syscalls_restrict(UN_SYSCALLS_REFUSE, uses), 0);
    CHECK(can_request(FIONREAD) && can_request(UN_NETMAP_SYNC_RX));
    return 0;
}

static int be_killed(void)
{
    CHECK_EQ(un_syscalls_restrict(UN_SYSCALLS_KILL, UN_SYSCALLS_ALWAYS), 0);
    return can_dup() ? 0 : 1;
}

static int fail_an_assertion(void)
{
    CHECK_EQ(un_syscalls_restrict(UN_SYSCALLS_KILL, UN_SYSCALLS_ALWAYS), 0);
    raise(SIGABRT);
    return 0;
}

static int make_any(void)
{
    CHECK_EQ(un_syscalls_restrict(UN_SYSCALLS_ANY, 0), 0);
    return can_dup() && can_make_sockets() ? 0 : 1;
}

static void what_is_of_no_use_fails_and_is_counted(void)
{
    CHECK_EQ(in_a_child(refuse), 0);
}

static void the_first_one_is_told(void)
{
    if (REFUSES)
        CHECK_EQ(in_a_child(tell), 0);
}

static void what_a_start_takes_is_given_up(void)
{
    CHECK_EQ(in_a_child(start_and_go_on), 0);
}

static void a_device_may_call_for_its_rings(void)
{
    CHECK_EQ(in_a_child(rings_take_calls), 0);
    CHECK_EQ(in_a_child(packets_alone_take_none), 0);
    CHECK_EQ(in_a_child(sockets_take_any), 0);
}

static void what_is_of_no_use_may_kill(void)
{
    CHECK_EQ(in_a_child(be_killed), REFUSES ? KILLED + SIGSYS : 0);
}

static void an_assertion_ends_as_ever(void)
{
    CHECK_EQ(in_a_child(fail_an_assertion), KILLED + SIGABRT);
}

static void any_may_be_made(void)
{
    CHECK_EQ(in_a_child(make_any), 0);
}

int main(void)
{
    RUN(what_is_of_no_use_fails_and_is_counted);
    RUN(the_first_one_is_told);
    RUN(what_a_start_takes_is_given_up);
    RUN(a_device_may_call_for_its_rings);
    RUN(what_is_of_no_use_may_kill);
    RUN(an_assertion_ends_as_ever);
    RUN(any_may_be_made);
    return 0;
}
