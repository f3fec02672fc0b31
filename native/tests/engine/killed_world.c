/* See killed_world.h. */
#include "killed_world.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "engine/engine.h"

enum { BYTES_MAX = 1 << 16 };

struct killed_world world;

static int orders[2], reports[2]; /* to the keeper, from it */
static pid_t keeper;
static int listener;
static uint32_t *shared_steps; /* what the keeper recorded */
static uint32_t shared_most;

struct order {
    char what; /* Do, Record, Kill */
    enum killed_act act;
    uint32_t steps;
    uint32_t serial; /* of a worker that comes */
};

/* The keeper's side. */

static struct un_engine *engine;

static void do_act(const struct order *order)
{
    switch (order->act) {
    case ACT_TURN: un_engine_turn(engine, 0); break;
    case ACT_TAKEOVER: CHECK((engine = un_engine_start(&world.setup)) != NULL); break;
    case ACT_ATTACH_LEFT: CHECK_EQ(un_engine_attach_worker(engine, LEFT, order->serial, true), 0); break;
    case ACT_ATTACH_RIGHT: CHECK_EQ(un_engine_attach_worker(engine, RIGHT, order->serial, true), 0); break;
    case ACT_LOSE_LEFT: un_engine_lost_worker(engine, LEFT, UN_LOSS_DIED); break;
    case ACT_END_ALL: un_engine_end_all(engine, UN_REASON_SHUTDOWN); break;
    case ACT_LOSE_RIGHT: un_engine_lost_worker(engine, RIGHT, UN_LOSS_DIED); break;
    }
}

static pid_t start_stepped(const struct order *order)
{
    int status;
    pid_t pid = (pid_t)syscall(SYS_clone, (unsigned long)(CLONE_FILES | SIGCHLD), NULL, NULL, NULL, NULL);
    CHECK(pid >= 0);
    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        syscall(SYS_kill, syscall(SYS_getpid), SIGSTOP);
        do_act(order);
        syscall(SYS_kill, syscall(SYS_getpid), SIGSTOP);
        syscall(SYS_exit_group, 1);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_EXITKILL), 0);
    return pid;
}

static void end_stepped(pid_t pid)
{
    int status;
    CHECK_EQ(kill(pid, SIGKILL), 0);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
}

/* False: it came to its end. */
static bool step(pid_t pid)
{
    int status;
    CHECK_EQ(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFSTOPPED(status));
    CHECK(WSTOPSIG(status) == SIGTRAP || WSTOPSIG(status) == SIGSTOP);
    return WSTOPSIG(status) == SIGTRAP;
}

static bool is_at_system_call(pid_t pid)
{
#if defined(__x86_64__)
    struct user_regs_struct registers;
    CHECK_EQ(ptrace(PTRACE_GETREGS, pid, NULL, &registers), 0);
    return (ptrace(PTRACE_PEEKTEXT, pid, (void *)(uintptr_t)registers.rip, NULL) & 0xffff) == 0x050f;
#else
    (void)pid;
    return false; /* what they do to memory is seen */
#endif
}

static struct {
    void *start;
    uint64_t bytes;
    uint8_t *last;
} watched[2 + UN_PORTS];

static void watch(uint32_t which, void *start, uint64_t bytes)
{
    watched[which].start = start;
    watched[which].bytes = bytes;
    watched[which].last = malloc(bytes);
    CHECK(watched[which].last != NULL);
    memcpy(watched[which].last, start, bytes);
}

static bool memory_changed(void)
{
    bool changed = false;
    for (uint32_t i = 0; i < 2 + UN_PORTS; i++) {
        if (memcmp(watched[i].last, watched[i].start, watched[i].bytes) == 0)
            continue;
        changed = true;
        memcpy(watched[i].last, watched[i].start, watched[i].bytes);
    }
    return changed;
}

static uint32_t record(const struct order *order)
{
    uint32_t count = 0;
    watch(0, world.setup.private, un_engine_private_bytes(&world.config));
    watch(1, world.setup.public, world.layout.public_bytes);
    for (uint32_t port = 0; port < UN_PORTS; port++)
        watch(2 + port, world.setup.ports[port], world.layout.port_bytes);
    pid_t pid = start_stepped(order);
    for (uint32_t steps = 1;; steps++) {
        bool is_call = is_at_system_call(pid);
        if (!step(pid))
            break;
        if (memory_changed() || is_call) {
            CHECK(count < shared_most);
            shared_steps[count++] = steps;
        }
    }
    end_stepped(pid);
    return count;
}

static uint32_t kill_after(const struct order *order)
{
    pid_t pid = start_stepped(order);
    bool is_before_end = true;
    for (uint32_t i = 0; is_before_end && i < order->steps; i++)
        is_before_end = step(pid);
    end_stepped(pid);
    return is_before_end;
}

static uint32_t obey(const struct order *order)
{
    switch (order->what) {
    case 'R': return record(order);
    case 'K': return kill_after(order);
    default: do_act(order); return 0;
    }
}

static _Noreturn void keep(void)
{
    struct order order;
    close(orders[1]);
    close(reports[0]);
    CHECK((engine = un_engine_start(&world.setup)) != NULL);
    while (read(orders[0], &order, sizeof order) == sizeof order) {
        uint32_t report = obey(&order);
        CHECK_EQ(write(reports[1], &report, sizeof report), sizeof report);
    }
    _exit(0);
}

/* The other side. */

static uint32_t ask(struct order order)
{
    uint32_t report;
    CHECK_EQ(write(orders[1], &order, sizeof order), sizeof order);
    CHECK_EQ(read(reports[0], &report, sizeof report), sizeof report); /* else it failed, and said why */
    return report;
}

void world_turn(void)
{
    ask((struct order){.what = 'D', .act = ACT_TURN});
}

uint32_t world_record(enum killed_act act, uint32_t *steps, uint32_t most)
{
    CHECK(most <= shared_most);
    uint32_t count = ask((struct order){.what = 'R', .act = act, .serial = world.serials + 1});
    memcpy(steps, shared_steps, count * sizeof *steps);
    return count;
}

bool world_kill(enum killed_act act, uint32_t steps)
{
    return ask((struct order){.what = 'K', .act = act, .steps = steps, .serial = world.serials + 1});
}

void world_take_over(void)
{
    ask((struct order){.what = 'D', .act = ACT_TAKEOVER});
}

static void *map(uint64_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}

static void open_memories(void)
{
    const char *why;
    world.config = (struct un_segment_config){
        .seats = 1, .conn_max = 8, .state_bytes = 64, .event_slots = 16, .command_slots = 16,
        .rx_frame_bytes = 4096, .rx_frames = 8, .tx_frame_bytes = 4096, .tx_frames = 8, .rx_budget = 16384,
        .tx_budget = 16384, .hold_max = 2,
    };
    world.options = (struct un_engine_options){.connection_limit = 8, .linger_ns = UINT64_C(10000000000)};
    CHECK_EQ(un_segment_plan(&world.config, &world.layout, &why), 0);
    world.setup.private = map(un_engine_private_bytes(&world.config));
    world.setup.public = map(world.layout.public_bytes);
    for (uint32_t port = 0; port < UN_PORTS; port++)
        world.setup.ports[port] = map(world.layout.port_bytes);
    un_segment_format(world.setup.public, &world.config, &world.layout, &world.options);
    shared_most = 1 << 14;
    shared_steps = map(shared_most * sizeof *shared_steps);
}

static socklen_t listener_address(struct sockaddr_storage *address)
{
    memset(address, 0, sizeof *address);
    if (!world.is_unix) {
        struct sockaddr_in *ipv4 = (struct sockaddr_in *)address;
        ipv4->sin_family = AF_INET;
        ipv4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return sizeof *ipv4;
    }
    address->ss_family = AF_UNIX;
    return sizeof(sa_family_t); /* the kernel names it */
}

static struct sockaddr_storage address_now;
static socklen_t address_length;

static void open_listener(void)
{
    address_length = listener_address(&address_now);
    listener = socket(address_now.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK(listener >= 0);
    CHECK_EQ(bind(listener, (struct sockaddr *)&address_now, address_length), 0);
    CHECK_EQ(listen(listener, 16), 0);
    address_length = sizeof address_now;
    CHECK_EQ(getsockname(listener, (struct sockaddr *)&address_now, &address_length), 0);
    world.setup.listeners[0] = listener;
    world.setup.listener_count = 1;
}

static int to_engine[UN_PORTS], from_engine[UN_PORTS];

static void open_wakes(uint32_t port)
{
    int from_worker[2], to_worker[2];
    CHECK_EQ(pipe2(from_worker, O_NONBLOCK | O_CLOEXEC), 0);
    CHECK_EQ(pipe2(to_worker, O_NONBLOCK | O_CLOEXEC), 0);
    world.setup.wake_fds[port] = from_worker[0];
    world.setup.port_wake_fds[port] = to_worker[1];
    to_engine[port] = from_worker[1];
    from_engine[port] = to_worker[0];
}

static void open_descriptors(void)
{
    world.setup.control_fd = -1;
    CHECK((world.setup.epoll_fd = epoll_create1(EPOLL_CLOEXEC)) >= 0);
    for (uint32_t port = 0; port < UN_PORTS; port++)
        open_wakes(port);
    CHECK_EQ(pipe2(orders, O_CLOEXEC), 0);
    CHECK_EQ(pipe2(reports, O_CLOEXEC), 0);
}

/* What the keeper alone has to have. */
static void close_keepers_ends(void)
{
    close(orders[0]);
    close(reports[1]);
    close(listener);
    close(world.setup.epoll_fd);
    for (uint32_t port = 0; port < UN_PORTS; port++) {
        close(world.setup.wake_fds[port]);
        close(world.setup.port_wake_fds[port]);
    }
}

static bool knows_all(void)
{
    for (uint32_t i = 0; i < KILLED_CLIENTS; i++)
        if (world.clients[i].fd >= 0 && world.clients[i].conn == 0)
            return false;
    return true;
}

void world_open(bool is_unix, uint32_t connected)
{
    memset(&world, 0, sizeof world);
    world.is_unix = is_unix;
    for (uint32_t i = 0; i < KILLED_CLIENTS; i++)
        world.clients[i].fd = -1;
    open_memories();
    open_listener();
    open_descriptors();
    fflush(stdout);
    CHECK((keeper = fork()) >= 0);
    if (keeper == 0)
        keep();
    close_keepers_ends();
    world_do(ACT_ATTACH_LEFT);
    for (uint32_t i = 0; i < connected; i++) {
        client_connect(i);
        world_until(knows_all, "the worker hears of a connection");
    }
}

void world_close(void)
{
    int status;
    for (uint32_t port = 0; port < UN_PORTS; port++)
        if (world.workers[port].sits)
            un_port_close(&world.workers[port].end);
    close(orders[1]);
    CHECK_EQ(waitpid(keeper, &status, 0), keeper);
    CHECK_EQ(status, 0);
    close(reports[0]);
    for (uint32_t port = 0; port < UN_PORTS; port++) {
        close(to_engine[port]);
        close(from_engine[port]);
        munmap(world.setup.ports[port], world.layout.port_bytes);
    }
    for (uint32_t i = 0; i < KILLED_CLIENTS; i++)
        if (world.clients[i].fd >= 0)
            close(world.clients[i].fd);
    munmap(world.setup.private, un_engine_private_bytes(&world.config));
    munmap(world.setup.public, world.layout.public_bytes);
    munmap(shared_steps, shared_most * sizeof *shared_steps);
}

/* Clients and the worker. */

static uint8_t byte_at(uint32_t client, bool is_answer, uint64_t position)
{
    return (uint8_t)(position * 31 + position / 251 + client * 97 + is_answer * 13);
}

void client_connect(uint32_t client)
{
    int fd = socket(address_now.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    CHECK_EQ(connect(fd, (struct sockaddr *)&address_now, address_length), 0);
    world.clients[client].fd = fd;
}

void client_write(uint32_t client, uint32_t length)
{
    static uint8_t bytes[BYTES_MAX];
    struct killed_client *end = &world.clients[client];
    CHECK(length <= sizeof bytes);
    for (uint32_t i = 0; i < length; i++)
        bytes[i] = byte_at(client, false, end->wrote + i);
    CHECK_EQ(send(end->fd, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL), length);
    end->wrote += length;
}

void client_read(uint32_t client)
{
    uint8_t bytes[4096];
    struct killed_client *end = &world.clients[client];
    while (end->fd >= 0 && !end->got_eof && !end->got_reset) {
        ssize_t length = recv(end->fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (length < 0 && errno == EAGAIN)
            return;
        end->got_eof = length == 0;
        end->got_reset = length < 0;
        for (ssize_t i = 0; i < length; i++)
            CHECK_EQ(bytes[i], byte_at(client, true, end->got++));
    }
}

static struct killed_client *client_of(uint64_t conn)
{
    for (uint32_t i = 0; i < KILLED_CLIENTS; i++)
        if (world.clients[i].conn == conn)
            return &world.clients[i];
    check_failed(__FILE__, __LINE__, "an event of a connection that the worker knows");
}

static struct un_port *end_of(int worker)
{
    return &world.workers[worker].end;
}

/* Nobody hears of a connection that another one has. */
static struct killed_client *known_to(int worker, const struct un_event *event)
{
    struct killed_client *end = client_of(event->conn);
    CHECK(end->owner == worker || end->owner < 0);
    end->owner = worker;
    return end;
}

static void hear_data(int worker, const struct un_event *event)
{
    struct killed_client *end = known_to(worker, event);
    const uint8_t *bytes = un_port_bytes(end_of(worker), event);
    CHECK(!end->heard_eof && !end->heard_close);
    for (uint32_t i = 0; i < event->length; i++)
        CHECK_EQ(bytes[i], byte_at((uint32_t)(end - world.clients), false, end->heard++));
    CHECK(end->heard <= end->wrote);
    un_port_free_frame(end_of(worker), event->frame);
}

/* Clients connect one by one. */
static void hear_connect(int worker, const struct un_event *event)
{
    CHECK(world.known < KILLED_CLIENTS);
    world.clients[world.known].owner = worker;
    world.clients[world.known++].conn = event->conn;
}

static void hear(int worker, const struct un_event *event)
{
    struct killed_client *end;
    switch (event->type) {
    case UN_EVENT_CONNECT: hear_connect(worker, event); break;
    case UN_EVENT_DATA: hear_data(worker, event); break;
    case UN_EVENT_EOF:
        end = known_to(worker, event);
        CHECK(!end->heard_eof);
        end->heard_eof = true;
        break;
    case UN_EVENT_CLOSE:
        end = known_to(worker, event);
        CHECK(!end->heard_close);
        end->heard_close = true;
        end->reason = event->reason;
        break;
    case UN_EVENT_MOVE:
        end = known_to(worker, event);
        CHECK(worker != world.current);
        CHECK(un_port_command(end_of(worker), UN_COMMAND_RELEASE, event->conn, 0));
        end->owner = -1;
        break;
    default: break;
    }
}

void worker_serve(int worker)
{
    uint32_t ready = un_port_peek(end_of(worker));
    for (uint32_t i = 0; i < ready; i++)
        hear(worker, un_port_event(end_of(worker), i));
    un_port_release(end_of(worker), ready);
    un_port_commit(end_of(worker));
}

void workers_serve(void)
{
    for (int worker = LEFT; worker <= RIGHT; worker++)
        if (world.workers[worker].sits)
            worker_serve(worker);
}

static struct un_port *end_for(const struct killed_client *client)
{
    return end_of(client->owner < 0 ? world.current : client->owner);
}

void worker_answer(uint32_t client, uint32_t length)
{
    uint8_t bytes[4096];
    struct killed_client *end = &world.clients[client];
    CHECK(length <= sizeof bytes);
    for (uint32_t i = 0; i < length; i++)
        bytes[i] = byte_at(client, true, end->answered + i);
    CHECK_EQ(un_port_send(end_for(end), end->conn, bytes, length), length);
    un_port_commit(end_for(end));
    end->answered += length;
}

void worker_order(uint32_t client, enum un_command_op op, uint64_t arg)
{
    CHECK(un_port_command(end_for(&world.clients[client]), op, world.clients[client].conn, arg));
    un_port_commit(end_for(&world.clients[client]));
}

void worker_dies(int worker)
{
    un_port_close(end_of(worker));
    world.workers[worker].sits = false;
    for (uint32_t i = 0; i < KILLED_CLIENTS; i++)
        if (world.clients[i].owner == worker)
            world.clients[i].owner = -1;
}

void world_do(enum killed_act act)
{
    ask((struct order){.what = 'D', .act = act, .serial = world.serials + 1});
    if (act != ACT_ATTACH_LEFT && act != ACT_ATTACH_RIGHT)
        return;
    int worker = act == ACT_ATTACH_LEFT ? LEFT : RIGHT;
    world.serials++;
    world.current = worker;
    world.workers[worker].sits = true;
    CHECK_EQ(un_port_attach(end_of(worker), world.setup.public, world.setup.ports[worker], (uint32_t)worker,
                            to_engine[worker]),
             0);
}

void world_until(bool (*condition)(void), const char *what)
{
    for (uint32_t i = 0; i < 20000; i++) {
        world_turn();
        workers_serve();
        for (uint32_t client = 0; client < KILLED_CLIENTS; client++)
            client_read(client);
        if (condition())
            return;
        if (i > 100)
            usleep(500);
    }
    check_failed(__FILE__, __LINE__, what);
}
