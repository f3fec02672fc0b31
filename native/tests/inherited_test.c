/* What a careless parent leaves behind, and what is left of it after un_inherited_reset. Each test runs in a child. */
#include "base/inherited.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/child.h"
#include "child.h"

#define FAILED 1 /* what check_failed exits with */

static bool is_null(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 && S_ISCHR(status.st_mode) && status.st_rdev == makedev(1, 3);
}

static unsigned closed; /* bit n: descriptor n */

/* Exits by itself where a failed check could not be written. */
static void begin_with_closed_descriptors(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (closed & 1u << fd)
            close(fd);
    if (un_inherited_reset() != 0)
        _exit(FAILED);
    for (int fd = 0; fd <= 2; fd++)
        if (closed & 1u << fd && !is_null(fd))
            _exit(FAILED);
    int next = open("/proc/self/stat", O_RDONLY);
    if (next <= 2)
        _exit(FAILED);
}

static void closed_descriptors_lead_to_null(void)
{
    for (closed = 0; closed < 8; closed++)
        in_a_child(begin_with_closed_descriptors);
}

/* nohup ignores SIGHUP, a shell that starts something in the background the others. */
static bool is_meant(int number)
{
    bool stops = number == SIGTSTP || number == SIGTTIN || number == SIGTTOU;
    return number == SIGHUP || number == SIGINT || number == SIGQUIT || stops;
}

static void begin_with_ignored_signals(void)
{
    for (int number = 1; number <= SIGRTMAX; number++)
        signal(number, SIG_IGN);
    CHECK_EQ(un_inherited_reset(), 0);
    for (int number = 1; number <= SIGRTMAX; number++) {
        struct sigaction action;
        CHECK(sigaction(number, NULL, &action) < 0 || (action.sa_handler == SIG_IGN) == is_meant(number));
    }
}

static void ignored_signals_get_their_default(void)
{
    in_a_child(begin_with_ignored_signals);
}

static void begin_with_blocked_signals(void)
{
    sigset_t all, left;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    CHECK_EQ(un_inherited_reset(), 0);
    sigprocmask(SIG_SETMASK, NULL, &left);
    CHECK(sigisemptyset(&left));
}

static void no_signal_stays_blocked(void)
{
    in_a_child(begin_with_blocked_signals);
}

static void begin_with_umasks(void)
{
    const mode_t cases[][2] = {{0, 0}, {0777, 0077}, {0027, 0027}, {0277, 0077}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        umask(cases[i][0]);
        CHECK_EQ(un_inherited_reset(), 0);
        CHECK_EQ(umask(0), cases[i][1]);
    }
}

static void the_owner_keeps_his_rights(void)
{
    in_a_child(begin_with_umasks);
}

static volatile sig_atomic_t stop;

static void the_end_of_a_child_is_waited_for(void)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0)
        _exit(7);
    CHECK_EQ(un_child_wait(pid, &stop, &status), 0);
    CHECK_EQ(WEXITSTATUS(status), 7);
}

static void wait_for_a_child_that_cannot_be_waited_for(void)
{
    int status;
    signal(SIGCHLD, SIG_IGN); /* the kernel forgets children at their end */
    pid_t pid = fork();
    if (pid == 0)
        _exit(7);
    CHECK_EQ(un_child_wait(pid, &stop, &status), -ECHILD);
}

static void a_child_that_cannot_be_waited_for_is_an_error(void)
{
    in_a_child(wait_for_a_child_that_cannot_be_waited_for);
}

static void set_stop(int number)
{
    (void)number;
    stop = 1;
}

static void wait_until_stopped(void)
{
    int status;
    struct sigaction action = {.sa_handler = set_stop};
    sigaction(SIGTERM, &action, NULL);
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        while (getppid() == parent) { /* a signal that comes before the wait would be missed */
            kill(parent, SIGTERM);
            usleep(1000);
        }
        _exit(0);
    }
    CHECK_EQ(un_child_wait(pid, &stop, &status), -EINTR);
}

static void a_signal_ends_the_wait(void)
{
    in_a_child(wait_until_stopped);
}

int main(void)
{
    RUN(closed_descriptors_lead_to_null);
    RUN(ignored_signals_get_their_default);
    RUN(no_signal_stays_blocked);
    RUN(the_owner_keeps_his_rights);
    RUN(the_end_of_a_child_is_waited_for);
    RUN(a_child_that_cannot_be_waited_for_is_an_error);
    RUN(a_signal_ends_the_wait);
    return 0;
}
