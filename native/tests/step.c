/* See step.h. */
#include "step.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { MEMORIES_MAX = 8 };

struct memory {
    void *start;
    uint64_t bytes;
    uint8_t *last; /* as it was when it was last looked at */
};

static struct memory memories[MEMORIES_MAX];
static uint32_t memory_count;

void step_watch(void *start, uint64_t bytes)
{
    CHECK(memory_count < MEMORIES_MAX);
    uint8_t *last = malloc(bytes);
    CHECK(last != NULL);
    memcpy(last, start, bytes);
    memories[memory_count++] = (struct memory){start, bytes, last};
}

void step_forget(void)
{
    while (memory_count > 0)
        free(memories[--memory_count].last);
}

static bool memories_changed(void)
{
    bool changed = false;
    for (uint32_t i = 0; i < memory_count; i++) {
        if (memcmp(memories[i].last, memories[i].start, memories[i].bytes) == 0)
            continue;
        changed = true;
        memcpy(memories[i].last, memories[i].start, memories[i].bytes);
    }
    return changed;
}

/* No hold on the descriptors: what check() does to them is the checker's own affair. */
void step_judge(void (*check)(void))
{
    pid_t judge = fork();
    int status;
    CHECK(judge >= 0);
    if (judge == 0) {
        for (uint32_t i = 0; i < memory_count; i++) {
            /* Shared as the original is, since engines punch it; but with nobody. */
            void *copy = mmap(memories[i].start, memories[i].bytes, PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
            CHECK(copy == memories[i].start);
            memcpy(copy, memories[i].last, memories[i].bytes);
        }
        check();
        _exit(0);
    }
    CHECK_EQ(waitpid(judge, &status, 0), judge);
    CHECK_EQ(status, 0);
}

static _Noreturn void be_stepped(void (*act)(void))
{
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    syscall(SYS_kill, syscall(SYS_getpid), SIGSTOP);
    act();
    syscall(SYS_kill, syscall(SYS_getpid), SIGSTOP);
    _exit(1);
}

static bool step(pid_t stepped)
{
    int status;
    CHECK_EQ(ptrace(PTRACE_SINGLESTEP, stepped, NULL, NULL), 0);
    CHECK_EQ(waitpid(stepped, &status, 0), stepped);
    CHECK(WIFSTOPPED(status));
    CHECK(WSTOPSIG(status) == SIGTRAP || WSTOPSIG(status) == SIGSTOP);
    return WSTOPSIG(status) == SIGTRAP;
}

uint64_t step_descriptors(void)
{
    uint64_t open = 0;
    for (int fd = 0; fd < 64; fd++)
        open |= (uint64_t)(fcntl(fd, F_GETFD) >= 0) << fd;
    return open;
}

static bool descriptors_changed(uint64_t *last)
{
    uint64_t now = step_descriptors();
    bool changed = now != *last;
    *last = now;
    return changed;
}

static void step_with(unsigned long flags, void (*act)(void), void (*look)(void))
{
    int status;
    uint64_t states = 0, descriptors = step_descriptors();
    fflush(stdout);
    pid_t stepped = flags ? (pid_t)syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL) : fork();
    CHECK(stepped >= 0);
    if (stepped == 0)
        be_stepped(act);
    CHECK_EQ(waitpid(stepped, &status, 0), stepped);
    CHECK_EQ(ptrace(PTRACE_SETOPTIONS, stepped, NULL, PTRACE_O_EXITKILL), 0);
    while (step(stepped)) {
        bool changed = memories_changed();
        if (!(flags && descriptors_changed(&descriptors)) && !changed)
            continue;
        look();
        states++;
    }
    CHECK_EQ(kill(stepped, SIGKILL), 0);
    CHECK_EQ(waitpid(stepped, &status, 0), stepped);
    CHECK(states > 0);
    printf("# %" PRIu64 " states\n", states);
}

void step_through(void (*act)(void), void (*look)(void))
{
    step_with(0, act, look);
}

void step_through_sharing(void (*act)(void), void (*look)(void))
{
    step_with(CLONE_FILES, act, look);
}
