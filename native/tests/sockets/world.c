/* See world.h. */
#include "world.h"

#include <arpa/inet.h>

#include "api/context.h"
#include "stack/arena.h"

#define TURNS_MAX 10000

struct world world;

static uint64_t world_clock(void *argument)
{
    return ((struct world *)argument)->now_ns;
}

struct usnet_setup_options world_options(uint32_t sockets)
{
    struct usnet_setup_options options;
    usnet_setup_defaults(&options, sockets);
    options.clock_ns = world_clock;
    options.argument = &world;
    options.stack.seed = 1;
    memset(options.stack.secret, 7, sizeof options.stack.secret);
    options.stack.conn_max = 64;
    options.stack.frames = 512;
    options.stack.sents = 512;
    options.stack.neighbours = 16;
    options.stack.rcv_limit = options.stack.snd_limit = 65536;
    return options;
}

struct usnet_link world_link(void)
{
    return (struct usnet_link){.mac = {2, 0, 0, 0, 0, 1}, .mtu = 1500, .slots = 256};
}

static struct usnet *open_side(int side, const struct usnet_setup_options *options, struct usnet_device *device)
{
    char address[2][16] = {"10.0.0.?/24", "fd00::?/64"};
    const char *why = NULL;
    struct usnet *context = usnet_setup(options, device, &why);
    if (!context)
        fprintf(stderr, "%s\n", why);
    CHECK(context != NULL);
    for (int i = 0; i < 2; i++) {
        *strchr(address[i], '?') = (char)('1' + side);
        CHECK_EQ(usnet_add_address(context, address[i]), 0);
    }
    return context;
}

void world_open_with(const struct usnet_setup_options *options, const struct usnet_faults *faults)
{
    struct usnet_link link = world_link();
    struct usnet_device *ends[2];
    world.now_ns = 1000 * WORLD_SECOND;
    world.has_faults = faults != NULL;
    CHECK_EQ(usnet_device_memory(ends, &link), 0);
    for (int side = 0; side < 2; side++) {
        if (faults)
            ends[side] = usnet_device_fault(ends[side], faults);
        CHECK(ends[side] != NULL);
        world.sides[side] = open_side(side, options, ends[side]);
        world.epolls[side] = usnet_epoll_create(world.sides[side]);
        CHECK(world.epolls[side] >= 0);
    }
    world_settle();
}

void world_open(void)
{
    struct usnet_setup_options options = world_options(32);
    world_open_with(&options, NULL);
}

static void check_stack(int side)
{
    const char *wrong = usnet_stack_check(usnet_stack_of(world.sides[side]));
    if (wrong)
        fprintf(stderr, "side %d: %s\n", side, wrong);
    CHECK(wrong == NULL);
}

void world_settle(void)
{
    for (int turns = 0; usnet_poll(world.sides[0]) + usnet_poll(world.sides[1]) > 0; turns++) {
        CHECK(turns < TURNS_MAX);
        check_stack(0);
        check_stack(1);
    }
}

void world_run(uint64_t duration_ns)
{
    uint64_t end_ns = world.now_ns + duration_ns;
    world_settle();
    while (world.now_ns < end_ns) {
        uint64_t next = end_ns;
        for (int side = 0; side < 2; side++) {
            uint64_t deadline = usnet_deadline_ns(world.sides[side]);
            next = deadline < next ? deadline : next;
        }
        world.now_ns = next > world.now_ns ? next : world.now_ns + 1;
        world_settle();
    }
}

/* But what the wire holds back until more comes. */
static void check_nothing_is_left(int side)
{
    struct un_stack *stack = un_context_stack(world.sides[side]);
    uint32_t elsewhere = un_stack_frames_elsewhere(stack);
    CHECK(world.has_faults || elsewhere == 0);
    CHECK_EQ(stack->own->conn_count, 0);
    CHECK_EQ(stack->tcp.pool.own->free_count + elsewhere, stack->tcp.pool.own->count);
    CHECK_EQ(stack->own->sent_pool.free_count, stack->own->sent_pool.count);
}

void world_close(void)
{
    for (int side = 0; side < 2; side++)
        for (int fd = 0; fd < (int)world.sides[side]->socket_count; fd++)
            usnet_close(world.sides[side], fd);
    world_run(1000 * WORLD_SECOND);
    for (int side = 0; side < 2; side++) {
        check_stack(side);
        check_nothing_is_left(side);
    }
    for (int side = 0; side < 2; side++)
        usnet_teardown(world.sides[side]);
}

struct sockaddr_in ipv4(int side, uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(0x0a000001u + (uint32_t)side)};
}

struct sockaddr_in6 ipv6(int side, uint16_t port)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    address.sin6_addr.s6_addr[0] = 0xfd;
    address.sin6_addr.s6_addr[15] = (uint8_t)(1 + side);
    return address;
}

int world_listen(uint16_t port, int backlog)
{
    struct usnet *server = world.sides[SERVER];
    struct sockaddr_in address = ipv4(SERVER, port);
    int fd = usnet_socket(server, AF_INET, SOCK_STREAM, 0);
    CHECK(fd >= 0);
    CHECK_EQ(usnet_bind(server, fd, ADDRESS(address)), 0);
    CHECK_EQ(usnet_listen(server, fd, backlog), 0);
    return fd;
}

int world_accept(int listener)
{
    int fd = usnet_accept(world.sides[SERVER], listener, NULL, NULL);
    CHECK(fd >= 0);
    return fd;
}

struct ends world_connect(int listener, uint16_t port)
{
    struct sockaddr_in address = ipv4(SERVER, port);
    struct ends ends = {.client = usnet_socket(world.sides[CLIENT], AF_INET, SOCK_STREAM, 0)};
    CHECK(ends.client >= 0);
    CHECK_EQ(usnet_connect(world.sides[CLIENT], ends.client, ADDRESS(address)), -EINPROGRESS);
    world_settle();
    ends.server = world_accept(listener);
    return ends;
}

void world_watch(int side, int fd, uint32_t events)
{
    struct usnet_epoll_event event = {.events = events, .data.fd = fd};
    CHECK_EQ(usnet_epoll_ctl(world.sides[side], world.epolls[side], USN_EPOLL_CTL_ADD, fd, &event), 0);
}

uint32_t world_ready(int side, int fd)
{
    struct usnet_epoll_event events[2] = {0};
    world_settle();
    int found = usnet_epoll_wait(world.sides[side], world.epolls[side], events, 2, 0);
    CHECK(found == 0 || found == 1);
    CHECK(found == 0 || events[0].data.fd == fd);
    return found ? events[0].events : 0;
}

int world_error(int side, int fd)
{
    int error = -1;
    uint32_t length = sizeof error;
    CHECK_EQ(usnet_getsockopt(world.sides[side], fd, SOL_SOCKET, SO_ERROR, &error, &length), 0);
    CHECK_EQ(length, sizeof error);
    return error;
}

int64_t world_write(int side, int fd, const char *text)
{
    return usnet_write(world.sides[side], fd, text, strlen(text));
}

void world_expect(int side, int fd, const char *text)
{
    char got[256];
    int64_t length = usnet_read(world.sides[side], fd, got, sizeof got);
    CHECK_EQ(length, strlen(text));
    CHECK(memcmp(got, text, strlen(text)) == 0);
}
