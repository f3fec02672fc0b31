/* See server.h. */
#include "server.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "stack/neighbour.h"
#include "step.h"

struct server server;

static void *map(uint64_t bytes, int kind)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, kind | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}

static void *shared(uint64_t bytes)
{
    return map(bytes, MAP_SHARED);
}

static struct un_ip ip_of(const char *text)
{
    uint8_t four[4];
    CHECK_EQ(inet_pton(AF_INET, text, four), 1);
    return un_ip_from_v4(four);
}

static void open_wire(void)
{
    struct un_device_capabilities ends[2] = {{.mac = {2, 0, 0, 0, 0, 1}, .mtu = 1500, .queues = 1,
                                              .tx_alone = server.tx_alone},
                                             {.mac = {2, 0, 0, 0, 0, 2}, .mtu = 1500, .queues = 1}};
    CHECK_EQ(un_memory_pair(server.wire, ends, 64), 0);
}

static void shrink(struct un_stack_config *config, uint32_t conn_max)
{
    un_stack_defaults(config, conn_max);
    config->frames = 64;
    config->frame_bytes = 2048;
    config->sents = 64;
    config->lent = 2;
    config->udp_max = 0;
    config->neighbours = 8;
    config->time_wait_max = 4;
}

static void set_options(void)
{
    struct un_engine_options *options = &server.options;
    options->connection_limit = SERVER_CONN_MAX;
    options->linger_ns = 1000000000;
    options->max_connections_per_peer = SERVER_CONN_MAX;
    options->send_timeout_ns = UINT64_C(60000000000);
    options->keep_idle_s = 60;
    options->keep_interval_s = options->keep_count = 6;
    options->poll_mode = server.poll_mode;
    options->queues = 1;
    options->backlog = 4;
    options->addresses.count = !server.is_shared;
    options->shared = server.is_shared;
    options->listeners.count = 1;
    options->addresses.at[0] = (struct un_option_address){{[10] = 0xff, 0xff, 10, 0, 0, 1}, 24};
    options->listeners.at[0] = (struct un_option_address){{[10] = 0xff, 0xff}, SERVER_PORT}; /* 0.0.0.0 */
}

static void open_segment(void)
{
    const char *why;
    server.config = (struct un_segment_config){.seats = 1,
                                               .conn_max = SERVER_CONN_MAX,
                                               .state_bytes = 64,
                                               .event_slots = 16,
                                               .command_slots = 16,
                                               .rx_frame_bytes = 2048,
                                               .rx_frames = 8,
                                               .tx_frame_bytes = 2048,
                                               .tx_frames = 4,
                                               .rx_budget = 4096,
                                               .tx_budget = 4096,
                                               .hold_max = 2};
    CHECK_EQ(un_segment_plan(&server.config, &server.layout, &why), 0);
    server.setup.private = shared(un_engine_private_bytes(&server.config));
    server.setup.public = shared(server.layout.public_bytes);
    for (uint32_t port = 0; port < UN_PORTS; port++)
        server.setup.ports[port] = shared(server.layout.port_bytes);
    un_segment_format(server.setup.public, &server.config, &server.layout, &server.options);
}

void server_tell(const uint8_t *mac)
{
    const struct un_kernel_address address = {.ip = ip_of("10.0.0.1"), .prefix = 24};
    const struct un_kernel_route route = {.network = ip_of("10.0.0.0"), .prefix = 24};
    struct un_kernel_neighbour neighbour = {.ip = ip_of("10.0.0.2")};
    if (mac)
        memcpy(neighbour.mac, mac, UN_MAC_BYTES);
    const struct un_kernel_news news = {&address, &route, &neighbour, 1, 1, mac != NULL};
    un_kernel_write(server.kernel, &news);
}

static void open_table(void)
{
    struct un_device_parts *parts = &server.stack.parts;
    CHECK((parts->fds[0] = memfd_create("kernel", MFD_CLOEXEC)) >= 0);
    CHECK_EQ(ftruncate(parts->fds[0], sizeof *server.kernel), 0);
    parts->fd_count = 1;
    server.kernel = mmap(NULL, sizeof *server.kernel, PROT_READ | PROT_WRITE, MAP_SHARED, parts->fds[0], 0);
    CHECK(server.kernel != MAP_FAILED);
    server_tell(NULL);
}

static void open_stack(void)
{
    struct un_stack_setup *stack = &server.stack;
    stack->device = server.wire[0];
    shrink(&stack->config, SERVER_CONN_MAX);
    stack->config.shared = server.is_shared;
    if (server.is_shared)
        open_table();
    stack->arena = shared(un_stack_setup_arena_bytes(stack));
    stack->frames = shared(un_stack_setup_frames_bytes(stack));
    CHECK((stack->exchange_fd = memfd_create("exchange", MFD_CLOEXEC)) >= 0);
    CHECK((stack->exchange_wake_fds[0] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) >= 0);
    server.setup.stack = stack;
}

static void open_engine(void)
{
    int ends[2] = {-1, -1};
    if (server.is_shared)
        CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    server.setup.control_fd = ends[0];
    server.control_fd = ends[1];
    for (uint32_t port = 0; port < UN_PORTS; port++)
        server.setup.port_wake_fds[port] = server.setup.wake_fds[port] = -1;
    server.setup.wake_fds[LEFT] = server.wake_fd;
    CHECK((server.setup.epoll_fd = epoll_create1(EPOLL_CLOEXEC)) >= 0);
    server.engine = un_engine_start(&server.setup);
    CHECK(server.engine != NULL);
    un_engine_attach_worker(server.engine, LEFT, 1, true);
    CHECK_EQ(un_port_attach(&server.worker, server.setup.public, server.setup.ports[LEFT], LEFT, -1), 0);
}

static void introduce_server(void)
{
    const struct un_ip ip = ip_of("10.0.0.1");
    struct un_neighbour *neighbour = un_neighbour_make(&server.far, &ip);
    un_neighbour_learn(&server.far, neighbour, server.wire[0]->capabilities.mac, true);
}

static void open_clients(void)
{
    struct un_stack_config config;
    struct un_ip ip = ip_of("10.0.0.2");
    const char *why;
    shrink(&config, CLIENTS + 2);
    config.seed = 7;
    int64_t bytes = un_stack_bytes(&config, &why);
    CHECK(bytes > 0);
    server.far_bytes = (uint64_t)bytes;
    server.far_memory = map(server.far_bytes, MAP_PRIVATE);
    struct un_stack_place place = {.arena = server.far_memory, .arena_bytes = (uint64_t)bytes};
    CHECK_EQ(un_stack_create(&server.far, &place, &config), 0);
    un_stack_set_device(&server.far, server.wire[1]);
    CHECK(un_stack_add_address(&server.far, &ip, 24) >= 0);
    if (server.is_shared)
        introduce_server();
}

void server_turn(void)
{
    un_engine_turn(server.engine, 0);
}

void clients_turn(void)
{
    struct un_stack_event event;
    un_stack_poll(&server.far, un_clock_ns());
    while (un_stack_next_event(&server.far, &event))
        ;
}

uint64_t client_connect(void)
{
    struct un_stack_peer remote = {ip_of("10.0.0.1"), SERVER_PORT};
    uint64_t client;
    CHECK_EQ(un_stack_connect(&server.far, &remote, NULL, 0, &client), 0);
    return client;
}

static bool has_events(void)
{
    return un_port_peek(&server.worker) > 0;
}

static void open_connection(uint32_t number)
{
    server.clients[number] = client_connect();
    for (int i = 0; i < 100 && !has_events(); i++) {
        clients_turn();
        server_turn();
    }
    CHECK(has_events());
    server.conns[number] = un_port_event(&server.worker, 0)->conn;
    worker_take();
    server_turn();
    clients_turn();
}

static void open_all(const struct server *how)
{
    server = *how;
    set_options();
    open_wire();
    open_segment();
    open_stack();
    open_clients();
    open_engine();
    for (uint32_t i = 0; i < CLIENTS; i++)
        open_connection(i);
}

void server_open(void)
{
    server_open_polling(UN_POLL_SLEEP, -1);
}

void server_open_polling(enum un_poll_mode mode, int wake_fd)
{
    const struct server how = {.poll_mode = mode, .wake_fd = wake_fd};
    open_all(&how);
}

void server_open_alone(void)
{
    const struct server how = {.poll_mode = UN_POLL_ADAPTIVE, .wake_fd = -1, .tx_alone = true};
    open_all(&how);
}

void server_open_shared(void)
{
    const struct server how = {.is_shared = true, .wake_fd = -1};
    open_all(&how);
}

void server_forget_packets(void)
{
    un_device_attach(server.wire[0], &server.engine->link->stack.tcp.pool);
}

void server_close(void)
{
    un_port_close(&server.worker);
    un_engine_free(server.engine);
    server.wire[1]->operations->close(server.wire[1]);
    close(server.setup.epoll_fd);
    if (server.is_shared) {
        close(server.setup.control_fd);
        close(server.control_fd);
        munmap(server.kernel, sizeof *server.kernel);
    }
    close(server.stack.exchange_fd);
    close(server.stack.exchange_wake_fds[0]);
    munmap(server.setup.private, un_engine_private_bytes(&server.config));
    munmap(server.setup.public, server.layout.public_bytes);
    for (uint32_t port = 0; port < UN_PORTS; port++)
        munmap(server.setup.ports[port], server.layout.port_bytes);
    munmap(server.stack.arena, un_stack_setup_arena_bytes(&server.stack));
    munmap(server.stack.frames, un_stack_setup_frames_bytes(&server.stack));
    munmap(server.far_memory, server.far_bytes);
}

void client_send(uint64_t client, uint32_t length)
{
    uint8_t bytes[2048] = {0};
    struct un_piece piece = {bytes, length, UN_NONE};
    CHECK_EQ(un_stack_write(&server.far, client, &piece, 1), length);
    clients_turn();
}

bool client_is_open(uint64_t client)
{
    const struct un_tcb *tcb = un_stack_conn_find(&server.far, client);
    return tcb && tcb->state == UN_TCP_ESTABLISHED;
}

static void take(const struct un_event *event)
{
    if (event->type == UN_EVENT_DATA)
        un_port_free_frame(&server.worker, event->frame);
    if (event->type == UN_EVENT_MOVE)
        CHECK(un_port_command(&server.worker, UN_COMMAND_RELEASE, event->conn, 0));
}

void worker_take(void)
{
    uint32_t ready;
    while ((ready = un_port_peek(&server.worker)) > 0) {
        for (uint32_t i = 0; i < ready; i++)
            take(un_port_event(&server.worker, i));
        un_port_release(&server.worker, ready);
    }
    un_port_commit(&server.worker);
}

void worker_send(uint64_t conn, uint32_t length)
{
    uint8_t bytes[2048] = {0};
    CHECK_EQ(un_port_send(&server.worker, conn, bytes, length), length);
    un_port_commit(&server.worker);
}

static void step_watched(void (*through)(void (*act)(void), void (*look)(void)), void (*act)(void),
                         void (*look)(void))
{
    step_watch(server.setup.private, un_engine_private_bytes(&server.config));
    step_watch(server.setup.public, server.layout.public_bytes);
    for (uint32_t port = 0; port < UN_PORTS; port++)
        step_watch(server.setup.ports[port], server.layout.port_bytes);
    step_watch(server.stack.arena, un_stack_setup_arena_bytes(&server.stack));
    step_watch(server.stack.frames, un_stack_setup_frames_bytes(&server.stack));
    through(act, look);
    server_forget_packets();
    server_close();
}

void server_step(void (*act)(void), void (*look)(void))
{
    step_watched(step_through, act, look);
}

void server_step_sharing(void (*act)(void), void (*look)(void))
{
    step_watched(step_through_sharing, act, look);
}
