/* See syscalls.h. */
#include "engine/syscalls.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/assert.h"
#include "device/kinds.h"
#include "engine/control.h"

#define ALWAYS UN_SYSCALLS_ALWAYS
#define SOCKETS UN_SYSCALLS_OF_SOCKETS
#define PACKETS UN_SYSCALLS_OF_PACKETS
#define START UN_SYSCALLS_TO_START

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED true
#else
#define IS_SANITIZED false
#endif

/* What was seen of engines on both transports, and what the C library uses instead on other machines or in other
 * versions. Frequent ones first: kernels before 5.11 look them up in this order. */
static const struct un_syscall {
    uint16_t number;
    uint16_t uses;
} syscalls[] = {
    /* A turn. */
#ifdef SYS_epoll_wait
    {SYS_epoll_wait, ALWAYS},
#endif
    {SYS_epoll_pwait, ALWAYS},
    {SYS_recvfrom, ALWAYS},
    {SYS_sendmsg, SOCKETS},
    {SYS_sendto, ALWAYS},
    {SYS_recvmmsg, SOCKETS},
    {SYS_sendmmsg, SOCKETS},
    {SYS_readv, PACKETS},
    {SYS_writev, PACKETS},
    {SYS_write, ALWAYS},
    {SYS_read, ALWAYS},
    {SYS_clock_gettime, ALWAYS},
    /* Connections. */
    {SYS_accept4, SOCKETS},
    {SYS_getsockname, SOCKETS},
    {SYS_getpeername, SOCKETS},
    {SYS_getsockopt, SOCKETS | PACKETS},
    {SYS_setsockopt, SOCKETS},
    {SYS_recvmsg, ALWAYS},
    {SYS_shutdown, SOCKETS},
    {SYS_ioctl, SOCKETS | START},
    {SYS_epoll_ctl, ALWAYS},
    {SYS_close, ALWAYS},
    /* Memory. */
    {SYS_brk, ALWAYS},
    {SYS_mmap, ALWAYS},
    {SYS_munmap, ALWAYS},
    {SYS_mremap, ALWAYS},
    {SYS_madvise, ALWAYS},
    {SYS_getrandom, ALWAYS},
    /* The end, by an assertion too. */
    {SYS_exit_group, ALWAYS},
    {SYS_getpid, ALWAYS},
    {SYS_gettid, ALWAYS},
    {SYS_tgkill, ALWAYS},
    {SYS_rt_sigprocmask, ALWAYS},
    {SYS_rt_sigaction, ALWAYS},
    {SYS_rt_sigreturn, ALWAYS},
    {SYS_futex, ALWAYS},
    {SYS_restart_syscall, ALWAYS},
    /* The start: a device's name and size, the memory between shards, descriptors of a dead engine, the next filter. */
#ifdef SYS_poll
    {SYS_poll, START},
#endif
    {SYS_ppoll, START},
    {SYS_ftruncate, START},
    {SYS_fcntl, START},
    {SYS_socket, START},
    {SYS_uname, START},
    {SYS_clock_nanosleep, START},
    {SYS_openat, START},
    {SYS_getdents64, START},
    {SYS_fstat, SOCKETS | START}, /* is it the same listener? */
    {SYS_newfstatat, SOCKETS | START},
    {SYS_seccomp, START},
};

#define SYSCALL_COUNT (sizeof syscalls / sizeof *syscalls)
#define AROUND 6 /* instructions of the filter besides one for each call */
#define FOR_RINGS 6 /* and those that look at an ioctl's request */
UN_STATIC_ASSERT(SYSCALL_COUNT + FOR_RINGS < UINT8_MAX, "a filter jumps so far at most");

static struct {
    un_shared64 *refused;
    int supervisor_fd;
    bool told;
} teller = {.supervisor_fd = -1};

void un_syscalls_tell(un_shared64 *refused, int supervisor_fd)
{
    teller.refused = refused;
    teller.supervisor_fd = supervisor_fd;
    teller.told = false;
}

#if defined(__x86_64__)
#define MACHINE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define MACHINE AUDIT_ARCH_AARCH64
#else
#define MACHINE 0
#endif

static void set_result(ucontext_t *context, int result)
{
#if defined(__x86_64__)
    context->uc_mcontext.gregs[REG_RAX] = result;
#elif defined(__aarch64__)
    context->uc_mcontext.regs[0] = (uint64_t)result;
#else
    (void)context;
    (void)result;
#endif
}

/* In the thread that made the call, and between two of its instructions: anything may be called here. */
static void refuse(int signal_number, siginfo_t *info, void *context)
{
    (void)signal_number;
    if (teller.refused)
        un_count(teller.refused, 1);
    if (!teller.told) {
        teller.told = true;
        un_control_say(teller.supervisor_fd, "system call %d was refused: an engine should have no use for it",
                       info->si_syscall);
    }
    set_result(context, -EPERM);
}

static uint32_t action_of(uint64_t mode)
{
    if (IS_SANITIZED)
        return SECCOMP_RET_LOG;
    return mode == UN_SYSCALLS_KILL ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_TRAP;
}

/* The descriptor of a device's rings takes requests of more rights too, so its calls are named. Behind these
 * instructions stand the one that refuses and the one that allows. */
static void write_for_rings(struct sock_filter *filter)
{
    const uint32_t request = offsetof(struct seccomp_data, args[1]); /* both machines are little-endian */
    const struct sock_filter rings[] = {
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, FOR_RINGS - 1),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, request + 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, FOR_RINGS - 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, request),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, UN_RINGS_SEND, FOR_RINGS - 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, UN_RINGS_RECEIVE, FOR_RINGS - 5, 0),
    };
    UN_STATIC_ASSERT(sizeof rings / sizeof *rings == FOR_RINGS, "its jumps go behind its end");
    memcpy(filter, rings, sizeof rings);
}

/* How many instructions. Calls of another machine's numbering are refused. */
static uint16_t write_filter(struct sock_filter *filter, uint32_t action, uint32_t uses)
{
    const bool any_request = uses & (SOCKETS | START); /* of ioctl, which is in the table then */
    const uint8_t for_rings = uses & UN_SYSCALLS_OF_RINGS && !any_request ? FOR_RINGS : 0;
    uint16_t at = 0;
    uint8_t to_allow = for_rings;
    for (size_t i = 0; i < SYSCALL_COUNT; i++)
        if (syscalls[i].uses & uses)
            to_allow++;
    const uint32_t machine = offsetof(struct seccomp_data, arch), number = offsetof(struct seccomp_data, nr);
    filter[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, machine);
    filter[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MACHINE, 1, 0);
    filter[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action);
    filter[at++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, number);
    for (size_t i = 0; i < SYSCALL_COUNT; i++)
        if (syscalls[i].uses & uses)
            filter[at++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, syscalls[i].number, to_allow--, 0);
    if (for_rings)
        write_for_rings(&filter[at]);
    at += for_rings;
    filter[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action);
    filter[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    return at;
}

int un_syscalls_restrict(uint64_t mode, uint32_t uses)
{
    struct sock_filter filter[SYSCALL_COUNT + FOR_RINGS + AROUND];
    struct sigaction handler = {.sa_sigaction = refuse, .sa_flags = SA_SIGINFO | SA_NODEFER};
    if (mode == UN_SYSCALLS_ANY)
        return 0;
    if (MACHINE == 0)
        return -ENOSYS;
    struct sock_fprog program = {.len = write_filter(filter, action_of(mode), uses), .filter = filter};
    /* No mitigations for programs that run code of others: there is none here, and each branch would cost. */
    unsigned long flags = SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    if (sigaction(SIGSYS, &handler, NULL) < 0 || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) < 0)
        return -errno;
    return 0;
}
