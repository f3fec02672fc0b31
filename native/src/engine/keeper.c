/* usnet-network: the keeper of a shard. It holds what has to outlive an engine and starts the next one.
 *
 * The keeper maps the segment and seals the public part against further writable mappings, makes the private memory and
 * the epoll instance, and clones engines that share its descriptor table: a connection that an engine accepts is open
 * in the keeper too, so it stays open when the engine is killed. The keeper itself does next to nothing, so there is
 * next to nothing it could die of. Engines come out of a file that can be replaced meanwhile (network.h). It ends when
 * the supervisor ends, and removes the socket files that it was given.
 *
 * With --guard (inline layout) it keeps no engine: it only waits for the supervisor's end and cleans up. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/child.h"
#include "base/inherited.h"
#include "base/privileges.h"
#include "engine/control.h"
#include "engine/crashes.h"
#include "engine/enginefile.h"
#include "engine/formats.h"
#include "engine/network.h"
#include "engine/stack_setup.h"
#include "engine/state.h"
#include "state_layout.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010 /* Linux 5.1; older C libraries do not name it */
#endif

#define CLEANUP_MAX 64
#define THREADS_END_MS 1000
#define QUICK_DEATH_NS UINT64_C(100000000) /* one that crashes sooner has not served */

struct cleanup {
    const char *path;
    dev_t device; /* as it was when we started: a file of the same name made later is somebody else's */
    ino_t inode;
};

struct keeper {
    struct un_engine_setup setup;
    struct un_stack_setup stack; /* in use when the options ask for it */
    uint32_t shard;
    pid_t parent;
    struct un_privileges privileges;
    int public_fd;
    int port_fds[UN_PORTS_MAX];
    uint32_t ports;
    uint32_t port_wakes;
    uint32_t wakes;
    uint32_t exchange_wakes;
    int arena_fd;
    int frames_fd;
    struct un_engine_file engine; /* that engines come out of (network.h) … */
    struct un_engine_file proven; /* … and the last of those that ran for a while; fd -1: none yet */
    int engine_name_fd;
    const struct un_engine_name *engine_name; /* of the file that was sent last; the supervisor alone can write it */
    int core;        /* of the engine, -1: any */
    int keeper_core;
    bool guard;
    struct cleanup cleanups[CLEANUP_MAX];
    uint32_t cleanup_count;
    char *title;
    size_t title_room;
};

static volatile sig_atomic_t stop_requested;
static int supervisor_fd = -1; /* where words for people go */

static _Noreturn void fail(const char *what)
{
    un_control_say(supervisor_fd, "%s: %s", what, strerror(errno));
    exit(UN_NETWORK_FAILED);
}

static _Noreturn void usage(const char *what)
{
    fprintf(stderr, "usnet-network: bad %s; this program is started by usnet-serve\n", what);
    exit(2);
}

static _Noreturn void refuse(const char *why)
{
    un_control_say(supervisor_fd, "the segment cannot be served: %s", why);
    exit(UN_NETWORK_FAILED);
}

static long number(const char *text, const char *what, long most)
{
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || end == text || *end || value < 0 || value > most)
        usage(what);
    return value;
}

static uint32_t numbers(char *text, int *values, uint32_t most, const char *what)
{
    uint32_t count = 0;
    for (char *rest = NULL, *item = strtok_r(text, ",", &rest); item; item = strtok_r(NULL, ",", &rest)) {
        if (count == most)
            usage(what);
        values[count++] = (int)number(item, what, 1 << 20);
    }
    return count;
}

static void add_cleanup(struct keeper *keeper, const char *path)
{
    struct stat status;
    if (keeper->cleanup_count == CLEANUP_MAX)
        usage("--cleanup");
    if (lstat(path, &status) == 0)
        keeper->cleanups[keeper->cleanup_count++] = (struct cleanup){path, status.st_dev, status.st_ino};
}

static void clean_up(const struct keeper *keeper)
{
    for (uint32_t i = 0; i < keeper->cleanup_count; i++) {
        const struct cleanup *cleanup = &keeper->cleanups[i];
        struct stat status;
        if (lstat(cleanup->path, &status) == 0 && status.st_dev == cleanup->device && status.st_ino == cleanup->inode)
            unlink(cleanup->path);
    }
}

enum option_code {
    OPTION_SHARD = 256, OPTION_PARENT, OPTION_PUBLIC, OPTION_PORTS, OPTION_PORT_WAKES, OPTION_WAKES, OPTION_CONTROL,
    OPTION_LISTENERS, OPTION_CORE, OPTION_KEEPER_CORE, OPTION_CLEANUP, OPTION_GUARD, OPTION_DEVICE, OPTION_EXCHANGE,
    OPTION_EXCHANGE_WAKES, OPTION_ARENA, OPTION_FRAMES, OPTION_DEVICE_FDS, OPTION_ENGINE, OPTION_ENGINE_NAME,
    OPTION_USER, OPTION_GROUP,
};

static const struct option long_options[] = {
    {"shard", required_argument, NULL, OPTION_SHARD},
    {"parent", required_argument, NULL, OPTION_PARENT},
    {"public", required_argument, NULL, OPTION_PUBLIC},
    {"ports", required_argument, NULL, OPTION_PORTS},
    {"port-wakes", required_argument, NULL, OPTION_PORT_WAKES},
    {"wakes", required_argument, NULL, OPTION_WAKES},
    {"control", required_argument, NULL, OPTION_CONTROL},
    {"listeners", required_argument, NULL, OPTION_LISTENERS},
    {"engine", required_argument, NULL, OPTION_ENGINE},
    {"engine-name", required_argument, NULL, OPTION_ENGINE_NAME},
    {"user", required_argument, NULL, OPTION_USER},
    {"group", required_argument, NULL, OPTION_GROUP},
    {"core", required_argument, NULL, OPTION_CORE},
    {"keeper-core", required_argument, NULL, OPTION_KEEPER_CORE},
    {"cleanup", required_argument, NULL, OPTION_CLEANUP},
    {"guard", no_argument, NULL, OPTION_GUARD},
    {"device", required_argument, NULL, OPTION_DEVICE},
    {"device-fds", required_argument, NULL, OPTION_DEVICE_FDS},
    {"exchange", required_argument, NULL, OPTION_EXCHANGE},
    {"exchange-wakes", required_argument, NULL, OPTION_EXCHANGE_WAKES},
    {"arena", required_argument, NULL, OPTION_ARENA},
    {"frames", required_argument, NULL, OPTION_FRAMES},
    {NULL, 0, NULL, 0},
};

static void set_option(struct keeper *keeper, int code, char *value)
{
    struct un_engine_setup *setup = &keeper->setup;
    struct un_stack_setup *stack = &keeper->stack;
    switch (code) {
    case OPTION_SHARD: keeper->shard = (uint32_t)number(value, "--shard", UN_SHARD_MAX - 1); break;
    case OPTION_PARENT: keeper->parent = (pid_t)number(value, "--parent", INT32_MAX); break;
    case OPTION_PUBLIC: keeper->public_fd = (int)number(value, "--public", INT32_MAX); break;
    case OPTION_PORTS: keeper->ports = numbers(value, keeper->port_fds, UN_PORTS_MAX, "--ports"); break;
    case OPTION_PORT_WAKES:
        keeper->port_wakes = numbers(value, setup->port_wake_fds, UN_PORTS_MAX, "--port-wakes");
        break;
    case OPTION_WAKES: keeper->wakes = numbers(value, setup->wake_fds, UN_PORTS_MAX, "--wakes"); break;
    case OPTION_CONTROL: supervisor_fd = setup->control_fd = (int)number(value, "--control", INT32_MAX); break;
    case OPTION_LISTENERS:
        setup->listener_count = numbers(value, setup->listeners, UN_LISTENERS_MAX, "--listeners");
        break;
    case OPTION_ENGINE: keeper->engine.fd = (int)number(value, "--engine", INT32_MAX); break;
    case OPTION_ENGINE_NAME: keeper->engine_name_fd = (int)number(value, "--engine-name", INT32_MAX); break;
    case OPTION_USER:
        keeper->privileges.change_user = true;
        keeper->privileges.uid = (uid_t)number(value, "--user", UINT32_MAX - 1);
        break;
    case OPTION_GROUP: keeper->privileges.gid = (gid_t)number(value, "--group", UINT32_MAX - 1); break;
    case OPTION_CORE: keeper->core = (int)number(value, "--core", CPU_SETSIZE - 1); break;
    case OPTION_KEEPER_CORE: keeper->keeper_core = (int)number(value, "--keeper-core", CPU_SETSIZE - 1); break;
    case OPTION_CLEANUP: add_cleanup(keeper, value); break;
    case OPTION_GUARD: keeper->guard = true; break;
    case OPTION_DEVICE:
        stack->kind = un_device_kind(value);
        if (!stack->kind)
            usage("--device");
        break;
    case OPTION_DEVICE_FDS:
        stack->parts.fd_count = numbers(value, stack->parts.fds, UN_DEVICE_FDS_MAX, "--device-fds");
        break;
    case OPTION_EXCHANGE: stack->exchange_fd = (int)number(value, "--exchange", INT32_MAX); break;
    case OPTION_EXCHANGE_WAKES:
        keeper->exchange_wakes =
            numbers(value, stack->exchange_wake_fds, UN_EXCHANGE_SHARDS_MAX, "--exchange-wakes");
        break;
    case OPTION_ARENA: keeper->arena_fd = (int)number(value, "--arena", INT32_MAX); break;
    case OPTION_FRAMES: keeper->frames_fd = (int)number(value, "--frames", INT32_MAX); break;
    default: exit(2); /* getopt has said why */
    }
}

static void read_options(struct keeper *keeper, int argc, char **argv)
{
    int code;
    while ((code = getopt_long(argc, argv, "", long_options, NULL)) != -1)
        set_option(keeper, code, optarg);
    if (optind != argc)
        usage(argv[optind]);
    if (keeper->setup.control_fd < 0)
        usage("--control");
    if (!keeper->guard && (keeper->engine.fd < 0 || keeper->engine_name_fd < 0))
        usage("--engine or --engine-name");
    if (!keeper->guard && (keeper->public_fd < 0 || keeper->ports == 0 || keeper->port_wakes != keeper->ports ||
                           keeper->wakes != keeper->ports))
        usage("--public, --ports, --port-wakes or --wakes");
}

/* What ps shows. The words of argv lie in one piece of memory; the title overwrites them. */
static void set_title(const struct keeper *keeper, const char *role)
{
    memset(keeper->title, 0, keeper->title_room);
    snprintf(keeper->title, keeper->title_room, "usnet: %s %u", role, keeper->shard);
    prctl(PR_SET_NAME, role);
}

/* Network processes need no capability: whatever takes one, the supervisor does and hands down. */
static void drop_privileges(struct keeper *keeper)
{
    keeper->privileges.drop_capabilities = true;
    int status = un_privileges_drop(&keeper->privileges, SIGTERM, keeper->parent);
    if (status == -ESRCH)
        raise(SIGTERM);
    errno = -status;
    if (status < 0 && status != -ESRCH)
        fail("cannot drop privileges");
}

static void pin(int core)
{
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(core, &cores);
    if (core >= 0 && sched_setaffinity(0, sizeof cores, &cores) < 0)
        un_control_say(supervisor_fd, "cannot run on core %d: %s", core, strerror(errno));
}

static void *map_writable(int fd, uint64_t *bytes)
{
    struct stat status;
    if (fstat(fd, &status) < 0)
        fail("cannot read the size of a segment");
    *bytes = (uint64_t)status.st_size;
    void *memory = mmap(NULL, *bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        fail("cannot map a segment");
    close(fd);
    return memory;
}

/* Shared with the engines that are cloned; pages are taken when they are used. */
static void *map_private(uint64_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        fail("cannot make the private memory");
    return memory;
}

/* Nobody who has the mapping can make it writable: the descriptor is not. */
static const struct un_engine_name *map_engine_name(int fd)
{
    struct stat status;
    if (fstat(fd, &status) < 0 || status.st_size < (off_t)sizeof(struct un_engine_name))
        usage("--engine-name");
    const void *memory = mmap(NULL, sizeof(struct un_engine_name), PROT_READ, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        fail("cannot map the name of the engine");
    close(fd);
    return memory;
}

static void check_stack(const struct keeper *keeper, const struct un_engine_options *options)
{
    const struct un_stack_setup *stack = &keeper->stack;
    if (!stack->kind || !un_device_kind_takes(stack->kind, stack->parts.fd_count, options->shared))
        refuse("it asks for a stack of our own, and --device or one of its --device-fds is missing");
    if (stack->exchange_fd < 0 || keeper->arena_fd < 0 || keeper->frames_fd < 0)
        refuse("it asks for a stack of our own, and --exchange, --arena or --frames is missing");
}

/* The command line has descriptors; what stands in the segment has to fit to them. */
static void check_segment(const struct keeper *keeper, uint64_t bytes)
{
    const char *why;
    if (un_formats_check(keeper->setup.public, bytes, &why) < 0)
        refuse(why);
    const struct un_segment_header *header = un_header(keeper->setup.public);
    if (un_port_count(&header->config) != keeper->ports)
        refuse("--ports has more descriptors or fewer than it has ports");
    if (header->options.queues != keeper->exchange_wakes)
        refuse("--exchange-wakes has more descriptors or fewer than it has queues");
    if (header->options.queues > 0)
        check_stack(keeper, &header->options);
}

static void map_stack(struct keeper *keeper, const struct un_segment_header *header)
{
    struct un_stack_setup *stack = &keeper->stack;
    uint64_t arena_bytes, frames_bytes;
    un_stack_setup_sizes(stack, &header->options, header->config.tx_frames);
    stack->arena = map_writable(keeper->arena_fd, &arena_bytes);
    stack->frames = map_writable(keeper->frames_fd, &frames_bytes);
    if (arena_bytes < un_stack_setup_arena_bytes(stack) || frames_bytes < un_stack_setup_frames_bytes(stack))
        refuse("--arena or --frames is too small for its options");
    un_stack_setup_abandon(stack);
    keeper->setup.stack = stack;
}

static void map_memories(struct keeper *keeper)
{
    uint64_t bytes;
    int seal_fd = dup(keeper->public_fd);
    keeper->setup.public = map_writable(keeper->public_fd, &bytes);
    check_segment(keeper, bytes);
    if (fcntl(seal_fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW) < 0)
        fail("cannot seal the segment (Linux 5.1 or newer is needed)");
    close(seal_fd);
    const struct un_segment_header *header = un_header(keeper->setup.public);
    for (uint32_t port = 0; port < keeper->ports; port++) {
        keeper->setup.ports[port] = map_writable(keeper->port_fds[port], &bytes);
        if (bytes < header->layout.port_bytes)
            usage("--ports: memory too small");
    }
    keeper->setup.private = map_private(un_engine_private_bytes(&header->config));
    keeper->engine_name = map_engine_name(keeper->engine_name_fd);
    if (!un_engine_file_open(&keeper->engine, keeper->engine.fd))
        usage("--engine");
    if (header->options.queues > 0)
        map_stack(keeper, header);
}

static _Noreturn void refuse_engine(const char *why, const char *what)
{
    un_control_say(supervisor_fd, "the engine cannot be used: %s%s", why, what);
    _exit(UN_NETWORK_REFUSED);
}

/* In a clone: the keeper itself stays free of what it keeps. */
static const struct un_network *load_engine(const struct keeper *keeper)
{
    char path[32];
    if (!un_engine_file_is_same(&keeper->engine)) /* engines share our descriptors, and may do to them what they like */
        refuse_engine("its descriptor is another file's", "");
    snprintf(path, sizeof path, "/proc/self/fd/%d", keeper->engine.fd);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const struct un_network *network = library ? dlsym(library, "un_network") : NULL;
    if (!network)
        refuse_engine("it cannot be loaded: ", dlerror());
    if (network->state_layout != UN_STATE_LAYOUT)
        refuse_engine("its memory is laid out otherwise than that of " USNET_VERSION ", which runs; it is ",
                      network->version);
    return network;
}

static pid_t start_engine(const struct keeper *keeper)
{
    pid_t keeper_pid = getpid();
    pid_t pid = (pid_t)syscall(SYS_clone, (unsigned long)(CLONE_FILES | SIGCHLD), NULL, NULL, NULL, NULL);
    if (pid < 0)
        fail("cannot start an engine");
    if (pid > 0)
        return pid;
    if (un_child_die_with_parent(SIGKILL, keeper_pid) < 0)
        _exit(UN_NETWORK_DONE);
    signal(SIGTERM, SIG_DFL);
    set_title(keeper, "network");
    pin(keeper->core);
    _exit(load_engine(keeper)->run(&keeper->setup));
}

static void tell_died(const struct keeper *keeper, pid_t pid, int status)
{
    struct un_control message = {
        .type = UN_CONTROL_DIED, .arg = {(uint64_t)pid, (uint64_t)(uint32_t)status}};
    send(keeper->setup.control_fd, &message, sizeof message, MSG_NOSIGNAL);
}

static void stop(int signal_number)
{
    (void)signal_number;
    stop_requested = 1;
}

/* False: told to stop, and the engine is gone. An engine whose end cannot be seen could not be replaced either, so the
 * keeper ends, and its engine with it: the supervisor makes both anew. */
static bool wait_for_engine(pid_t pid, int *status)
{
    int waited = un_child_wait(pid, &stop_requested, status);
    if (waited == -EINTR) {
        kill(pid, SIGKILL);
        waitpid(pid, status, 0);
        return false;
    }
    errno = -waited;
    if (waited < 0)
        fail("cannot wait for an engine");
    return true;
}

static struct un_private *private_of(const struct keeper *keeper)
{
    return keeper->setup.private;
}

/* If another file was sent, engines come out of that from now on, however the one that took it ended. Which descriptor
 * it came by the engine says; which file it has to be, the supervisor. */
static void take_engine(struct keeper *keeper)
{
    struct un_succession *succession = &private_of(keeper)->succession;
    struct un_engine_file sent;
    if (succession->wanted == 0)
        return;
    int fd = (int)succession->wanted - 1;
    succession->wanted = 0;
    if (!un_engine_file_open(&sent, fd) || !un_engine_file_has_name(&sent, keeper->engine_name)) {
        close(fd);
        un_control_say(supervisor_fd, "the engine cannot be used: it is not the file that was named");
        succession->refused = 1;
        return;
    }
    if (keeper->proven.fd != keeper->engine.fd)
        close(keeper->engine.fd);
    keeper->engine = sent;
}

/* Back to the file that engines ran out of before. False: there was none. */
static bool take_engine_back(struct keeper *keeper)
{
    if (keeper->proven.fd < 0 || keeper->proven.fd == keeper->engine.fd)
        return false;
    close(keeper->engine.fd);
    keeper->engine = keeper->proven;
    private_of(keeper)->succession.refused = 1;
    return true;
}

static void prove_engine(struct keeper *keeper)
{
    if (keeper->proven.fd >= 0 && keeper->proven.fd != keeper->engine.fd)
        close(keeper->proven.fd);
    keeper->proven = keeper->engine;
}

/* An engine that dies in its first moments, or over a file that it was sent, may leave descriptors that nobody knows.
 * Looking for them takes a while where there are many, so it is done then alone. */
static void close_leftovers(const struct keeper *keeper, uint32_t epoch)
{
    bool was_sent = !un_engine_file_has_name(&keeper->engine, keeper->engine_name);
    if (private_of(keeper)->epoch == epoch || was_sent)
        un_engine_file_close_others(&keeper->engine, &keeper->proven, keeper->engine_name);
}

enum { GOES_ON = -1 };

/* The keeper's exit status, or GOES_ON: another engine is started, out of which file how this one ended says. */
static int after_engine(struct keeper *keeper, pid_t pid, int status, bool quick)
{
    int exited = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    if (exited == UN_NETWORK_DONE)
        return UN_NETWORK_DONE;
    if (exited == UN_NETWORK_FAILED || exited == UN_NETWORK_REFUSED)
        return take_engine_back(keeper) ? GOES_ON : UN_NETWORK_FAILED;
    if (!quick || exited == UN_NETWORK_UPGRADE) /* it has served */
        prove_engine(keeper);
    if (exited != UN_NETWORK_UPGRADE)
        tell_died(keeper, pid, status);
    take_engine(keeper);
    return GOES_ON;
}

static bool has_crashed(int status)
{
    if (WIFSIGNALED(status))
        return WTERMSIG(status) != SIGKILL && WTERMSIG(status) != SIGTERM;
    return WEXITSTATUS(status) < UN_NETWORK_FAILED || WEXITSTATUS(status) > UN_NETWORK_REFUSED;
}

static int keep_engines(struct keeper *keeper)
{
    struct un_crashes crashes = {.count = 0};
    for (bool too_often = false; !too_often;) {
        uint64_t started_ns = un_clock_ns();
        uint32_t epoch = private_of(keeper)->epoch;
        pid_t pid = start_engine(keeper);
        int status = 0;
        if (!wait_for_engine(pid, &status))
            return UN_NETWORK_DONE;
        bool quick = un_clock_ns() - started_ns < QUICK_DEATH_NS;
        int result = after_engine(keeper, pid, status, quick);
        if (result != GOES_ON)
            return result;
        close_leftovers(keeper, epoch);
        bool crashed = has_crashed(status);
        if (crashed && quick && take_engine_back(keeper))
            un_control_say(supervisor_fd, "the new engine crashed at once; the last one goes on");
        too_often = crashed && un_crashes_count(&crashes, un_clock_ns());
    }
    un_control_say(supervisor_fd, "%d engines crashed within %d s; giving up", UN_CRASHES_MAX, UN_CRASHES_WITHIN_S);
    return 1;
}

/* Until the supervisor closes its end, or dies. */
static int guard(const struct keeper *keeper)
{
    char byte;
    while (!stop_requested && recv(keeper->setup.control_fd, &byte, 1, 0) != 0 && errno == EINTR)
        continue;
    return UN_NETWORK_DONE;
}

/* A dying process closes its descriptors before it stops being our parent; either is a sign. Our SIGTERM may be sooner
 * than both: it comes when the thread that spawned us ends, and other threads may need a moment to follow. Until the
 * last one has, it may come once more for each. */
static bool supervisor_is_gone(const struct keeper *keeper)
{
    struct pollfd control = {.fd = keeper->setup.control_fd}; /* a hang-up is reported unasked */
    while (poll(&control, 1, stop_requested ? THREADS_END_MS : 0) < 0 && errno == EINTR)
        continue;
    return (control.revents & POLLHUP) || getppid() != keeper->parent;
}

static void handle_signals(void)
{
    struct sigaction action = {.sa_handler = stop}; /* no SA_RESTART: waitpid has to return */
    sigaction(SIGTERM, &action, NULL);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
}

int main(int argc, char **argv)
{
    struct keeper keeper = {
        .parent = getppid(), .public_fd = -1, .engine.fd = -1, .proven.fd = -1, .engine_name_fd = -1, .core = -1,
        .keeper_core = -1};
    keeper.setup.control_fd = -1;
    keeper.stack.exchange_fd = keeper.arena_fd = keeper.frames_fd = -1;
    char *words_end = argv[argc - 1] + strlen(argv[argc - 1]);
    errno = -un_inherited_reset();
    if (errno)
        fail("cannot open /dev/null for a standard descriptor that is closed");
    handle_signals();
    read_options(&keeper, argc, argv);
    for (uint32_t i = 0; i < keeper.cleanup_count; i++) /* argv is about to be overwritten */
        keeper.cleanups[i].path = strdup(keeper.cleanups[i].path);
    keeper.title = argv[0];
    keeper.title_room = (size_t)(words_end - argv[0]);
    drop_privileges(&keeper);
    set_title(&keeper, keeper.guard ? "guard" : "keeper");
    pin(keeper.keeper_core);
    int status;
    if (keeper.guard) {
        status = guard(&keeper);
    } else {
        map_memories(&keeper);
        keeper.setup.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        if (keeper.setup.epoll_fd < 0)
            fail("cannot make an epoll instance");
        status = keep_engines(&keeper);
    }
    if (supervisor_is_gone(&keeper))
        clean_up(&keeper);
    return status;
}
