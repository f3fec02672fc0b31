/* Contexts: made and not made, descriptors, the caller's mistakes, clocks and sleep. */
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "api/context.h"
#include "world.h"

static void refused_setup(const struct usnet_setup_options *options, bool has_device, const char *text)
{
    struct usnet_link link = world_link();
    const char *why = NULL;
    CHECK(usnet_setup(options, has_device ? usnet_device_hand(&link) : NULL, &why) == NULL);
    CHECK_EQ(errno, EINVAL);
    if (!why || !strstr(why, text))
        fprintf(stderr, "%s\n", why ? why : "nothing");
    CHECK(why && strstr(why, text));
    CHECK(usnet_setup(options, NULL, NULL) == NULL);
}

static void what_makes_no_sense_is_said(void)
{
    struct usnet_setup_options options = world_options(8);
    refused_setup(&options, false, "no device");
    refused_setup(NULL, true, "options");
    options.sockets = 0;
    refused_setup(&options, true, "sockets must lie between");
    options = world_options(8);
    options.stack.frame_bytes = 100;
    refused_setup(&options, true, "frame_bytes");
    options = world_options(8);
    options.stack.congestion = 77;
    refused_setup(&options, true, "congestion");
    options = world_options(8);
    options.stack.rcv_limit = 0;
    refused_setup(&options, true, "rcv_limit");
    usnet_teardown(NULL);
    usnet_device_close(NULL);
}

static void defaults_are_drawn_at_random(void)
{
    struct usnet_setup_options one, other;
    usnet_setup_defaults(&one, 100);
    usnet_setup_defaults(&other, 100);
    CHECK(memcmp(one.stack.secret, other.stack.secret, sizeof one.stack.secret) != 0);
    CHECK(one.stack.seed != other.stack.seed);
    CHECK(one.stack.conn_max > 100);
}

static void addresses_are_written_as_everywhere(void)
{
    static const char *const wrong[] = {"",
                                        "/",
                                        "10.0.0.1/33",
                                        "10.0.0/8",
                                        "fd00::1/129",
                                        "10.0.0.1/",
                                        "10.0.0.1/x",
                                        NULL,
                                        "10.0.0.1/-1",
                                        "10.0.0.1/8 ",
                                        "1111111111111111111111111111111111111111111111111111111111111111111111111"};
    world_open();
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        CHECK_EQ(usnet_add_address(world.sides[0], wrong[i]), -EINVAL);
        CHECK_EQ(usnet_add_route(world.sides[0], wrong[i], "10.0.0.9"), -EINVAL);
        CHECK_EQ(usnet_add_route(world.sides[0], "0.0.0.0/0", wrong[i]), -EINVAL);
    }
    CHECK_EQ(usnet_add_address(world.sides[0], "192.168.7.1"), 0);
    CHECK_EQ(usnet_add_route(world.sides[0], "0.0.0.0/0", "10.0.0.2"), 0);
    CHECK_EQ(usnet_add_route(world.sides[0], "0.0.0.0/0", "fd00::2"), -EINVAL);
    CHECK_EQ(usnet_add_route(world.sides[0], "::/0", "fd00::2"), 0);
    CHECK_EQ(usnet_add_route(world.sides[0], "0.0.0.0/0", "192.168.7.254"), -ENETUNREACH);
    CHECK_EQ(usnet_add_route(world.sides[0], "::/0", "fd01::2"), -ENETUNREACH);
    world_close();
}

static void descriptors_run_out(void)
{
    struct usnet_setup_options options = world_options(4);
    world_open_with(&options, NULL);
    int listener = world_listen(PORT, 8);
    struct sockaddr_in to = ipv4(SERVER, PORT);
    struct usnet *client = world.sides[CLIENT], *server = world.sides[SERVER];
    int fds[3], accepted[2];
    for (int i = 0; i < 3; i++) {
        fds[i] = usnet_socket(client, AF_INET, SOCK_STREAM, 0);
        CHECK(fds[i] >= 0);
        CHECK_EQ(usnet_connect(client, fds[i], ADDRESS(to)), -EINPROGRESS);
    }
    CHECK_EQ(usnet_socket(client, AF_INET, SOCK_DGRAM, 0), -EMFILE);
    CHECK_EQ(usnet_epoll_create(client), -EMFILE);
    world_settle();
    world_watch(SERVER, listener, IN);
    for (int i = 0; i < 2; i++)
        accepted[i] = world_accept(listener);
    CHECK_EQ(usnet_accept(server, listener, NULL, NULL), -EMFILE);
    CHECK_EQ(world_ready(SERVER, listener), IN);
    CHECK_EQ(usnet_close(server, accepted[0]), 0);
    CHECK_EQ(world_accept(listener), accepted[0]);
    CHECK_EQ(world_ready(SERVER, listener), 0);
    CHECK_EQ(usnet_accept(server, listener, NULL, NULL), -EAGAIN);
    world_close();
}

static void a_closed_descriptor_is_nobody(void)
{
    char byte;
    world_open();
    int listener = world_listen(PORT, 8);
    struct ends ends = world_connect(listener, PORT);
    struct usnet *server = world.sides[SERVER];
    world_watch(SERVER, ends.server, IN | ET);
    world_write(CLIENT, ends.client, "news");
    world_settle();
    CHECK_EQ(usnet_close(server, ends.server), 0); /* it stands in the list of its instance */
    CHECK_EQ(usnet_close(server, ends.server), -EBADF);
    CHECK_EQ(usnet_read(server, ends.server, &byte, 1), -EBADF);
    CHECK_EQ(usnet_conn_of(server, ends.server), 0);
    int next = usnet_socket(server, AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(next, ends.server);
    CHECK_EQ(world_ready(SERVER, next), 0);
    CHECK_EQ(usnet_epoll_ctl(server, world.epolls[SERVER], USN_EPOLL_CTL_DEL, next, NULL), -ENOENT);
    world_watch(SERVER, next, IN);
    CHECK_EQ(world_ready(SERVER, next), HUP);
    world_close();
}

static void descriptors_that_are_none(void)
{
    static const int none[] = {-1, -1000000, 32, 1 << 30, 5};
    struct sockaddr_in address = ipv4(SERVER, PORT);
    struct usnet_epoll_event event = {.events = IN};
    char byte;
    world_open();
    struct usnet *context = world.sides[CLIENT];
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        int fd = none[i];
        uint32_t length = sizeof address;
        CHECK_EQ(usnet_bind(context, fd, ADDRESS(address)), -EBADF);
        CHECK_EQ(usnet_listen(context, fd, 1), -EBADF);
        CHECK_EQ(usnet_accept(context, fd, NULL, NULL), -EBADF);
        CHECK_EQ(usnet_connect(context, fd, ADDRESS(address)), -EBADF);
        CHECK_EQ(usnet_read(context, fd, &byte, 1), -EBADF);
        CHECK_EQ(usnet_write(context, fd, &byte, 1), -EBADF);
        CHECK_EQ(usnet_shutdown(context, fd, SHUT_WR), -EBADF);
        CHECK_EQ(usnet_close(context, fd), -EBADF);
        CHECK_EQ(usnet_getsockname(context, fd, (struct sockaddr *)&address, &length), -EBADF);
        CHECK_EQ(usnet_getpeername(context, fd, (struct sockaddr *)&address, &length), -EBADF);
        CHECK_EQ(usnet_getsockopt(context, fd, SOL_SOCKET, SO_ERROR, &byte, &length), -EBADF);
        CHECK_EQ(usnet_setsockopt(context, fd, SOL_SOCKET, SO_KEEPALIVE, &byte, 1), -EBADF);
        CHECK_EQ(usnet_epoll_ctl(context, world.epolls[CLIENT], USN_EPOLL_CTL_ADD, fd, &event), -EBADF);
        CHECK_EQ(usnet_epoll_ctl(context, fd, USN_EPOLL_CTL_ADD, world.epolls[CLIENT], &event), -EBADF);
        CHECK_EQ(usnet_epoll_wait(context, fd, &event, 1, 0), -EBADF);
    }
    world_close();
}

static void an_epoll_instance_is_no_socket(void)
{
    struct sockaddr_in address = ipv4(SERVER, PORT);
    uint32_t length = sizeof address;
    char byte;
    world_open();
    struct usnet *context = world.sides[CLIENT];
    int fd = world.epolls[CLIENT];
    CHECK_EQ(usnet_bind(context, fd, ADDRESS(address)), -ENOTSOCK);
    CHECK_EQ(usnet_listen(context, fd, 1), -ENOTSOCK);
    CHECK_EQ(usnet_accept(context, fd, NULL, NULL), -ENOTSOCK);
    CHECK_EQ(usnet_connect(context, fd, ADDRESS(address)), -ENOTSOCK);
    CHECK_EQ(usnet_read(context, fd, &byte, 1), -ENOTSOCK);
    CHECK_EQ(usnet_write(context, fd, &byte, 1), -ENOTSOCK);
    CHECK_EQ(usnet_shutdown(context, fd, SHUT_WR), -ENOTSOCK);
    CHECK_EQ(usnet_getsockname(context, fd, (struct sockaddr *)&address, &length), -ENOTSOCK);
    CHECK_EQ(usnet_setsockopt(context, fd, SOL_SOCKET, SO_KEEPALIVE, &length, 4), -ENOTSOCK);
    world_close();
}

static void null_is_a_fault(void)
{
    char bytes[64] = "";
    uint32_t length = sizeof bytes;
    world_open();
    struct ends ends = world_connect(world_listen(PORT, 4), PORT);
    struct usnet *context = world.sides[CLIENT];
    struct sockaddr *address = (struct sockaddr *)bytes;
    CHECK_EQ(usnet_read(context, ends.client, NULL, 1), -EFAULT);
    CHECK_EQ(usnet_write(context, ends.client, NULL, 1), -EFAULT);
    CHECK_EQ(usnet_read(context, ends.client, NULL, 0), 0);
    CHECK_EQ(usnet_write(context, ends.client, NULL, 0), 0);
    CHECK_EQ(usnet_recvfrom(context, ends.client, bytes, 1, address, NULL), -EFAULT);
    CHECK_EQ(usnet_getsockname(context, ends.client, NULL, &length), -EFAULT);
    CHECK_EQ(usnet_getpeername(context, ends.client, address, NULL), -EFAULT);
    CHECK_EQ(usnet_getsockopt(context, ends.client, SOL_SOCKET, SO_ERROR, NULL, &length), -EFAULT);
    CHECK_EQ(usnet_getsockopt(context, ends.client, SOL_SOCKET, SO_ERROR, bytes, NULL), -EFAULT);
    CHECK_EQ(usnet_setsockopt(context, ends.client, SOL_SOCKET, SO_KEEPALIVE, NULL, 4), -EFAULT);
    CHECK_EQ(usnet_epoll_ctl(context, world.epolls[CLIENT], USN_EPOLL_CTL_ADD, ends.client, NULL), -EFAULT);
    CHECK_EQ(usnet_epoll_wait(context, world.epolls[CLIENT], NULL, 1, 0), -EFAULT);
    int fd = usnet_socket(context, AF_INET, SOCK_DGRAM, 0);
    CHECK_EQ(usnet_bind(context, fd, NULL, 16), -EFAULT);
    CHECK_EQ(usnet_connect(context, fd, NULL, 16), -EFAULT);
    CHECK_EQ(usnet_sendto(context, fd, NULL, 5, address, 16), -EFAULT);
    CHECK_EQ(usnet_accept(world.sides[SERVER], 1, address, NULL), -EFAULT);
    world_close();
}

static void sockets_of_other_kinds(void)
{
    world_open();
    struct usnet *context = world.sides[CLIENT];
    CHECK_EQ(usnet_socket(context, AF_UNIX, SOCK_STREAM, 0), -EAFNOSUPPORT);
    CHECK_EQ(usnet_socket(context, AF_INET, SOCK_RAW, 0), -EPROTONOSUPPORT);
    CHECK_EQ(usnet_socket(context, AF_INET, SOCK_STREAM, IPPROTO_UDP), -EPROTONOSUPPORT);
    CHECK(usnet_socket(context, AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP) >= 0);
    world_close();
}

static void frames_by_hand(void)
{
    struct usnet_link link = world_link();
    struct usnet_setup_options options = world_options(4);
    struct usnet_device *device = usnet_device_hand(&link), *ends[2];
    uint8_t frame[2048] = {0};
    CHECK_EQ(usnet_device_memory(ends, &link), 0);
    CHECK_EQ(usnet_device_input(ends[0], frame, 60, 0, 0), -EINVAL);
    CHECK_EQ(usnet_device_output(ends[0], frame, sizeof frame, NULL), -EINVAL);
    CHECK_EQ(usnet_device_input(NULL, frame, 60, 0, 0), -EINVAL);
    usnet_device_close(ends[0]);
    usnet_device_close(ends[1]);
    struct usnet *context = usnet_setup(&options, device, NULL);
    CHECK(context != NULL);
    CHECK_EQ(usnet_fd(context), -1);
    CHECK_EQ(usnet_add_address(context, "10.0.0.1/24"), 0);
    while (usnet_device_output(device, frame, sizeof frame, NULL) > 0)
        ;
    struct sockaddr_in to = ipv4(SERVER, PORT);
    int fd = usnet_socket(context, AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(usnet_connect(context, fd, ADDRESS(to)), -EINPROGRESS);
    CHECK(usnet_poll(context) > 0);
    struct usnet_output output;
    do { /* until ARP asks for 10.0.0.2; what else a new host says may come before */
        CHECK(usnet_device_output(device, frame, sizeof frame, &output) > 0);
    } while (frame[12] != 0x08 || frame[13] != 0x06 || frame[41] != 2);
    CHECK_EQ(output.flags, 0);
    CHECK_EQ(usnet_device_input(device, frame, 60, 0, 0), 0);
    CHECK_EQ(usnet_deadline_ns(context) > world.now_ns, true);
    usnet_teardown(context);
}

/* 10.0.0.9 connects to us, in the stack's own turns; the socket that it came to is accepted and ready. */
static void handshake(struct usnet *context, struct usnet_stack *stack, uint8_t frame[2048])
{
    uint8_t segment[54] = {
        2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 0,                                         /* Ethernet */
        0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0x66, 0xc7, 10, 0, 0, 9, 10, 0, 0, 1,          /* IPv4 */
        0x10, 0, PORT >> 8, PORT & 255, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 255, 255, 0, 0}; /* SYN, number 1 */
    struct sockaddr_in any = ipv4(SERVER, PORT);
    any.sin_addr.s_addr = 0;
    int listener = usnet_socket(context, AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(usnet_bind(context, listener, ADDRESS(any)), 0);
    CHECK_EQ(usnet_listen(context, listener, 4), 0);
    CHECK_EQ(usnet_stack_input(stack, segment, sizeof segment, USNET_INPUT_CHECKSUM_GOOD, 0), 0);
    CHECK(usnet_stack_poll(stack, world.now_ns) > 0);
    do { /* until SYN and ACK come */
        CHECK(usnet_stack_output(stack, frame, 2048, NULL) > 0);
    } while (frame[12] != 0x08 || frame[13] != 0x00 || frame[23] != 6);
    CHECK_EQ(usnet_accept(context, listener, NULL, NULL), -EAGAIN);
    segment[41] = 2; /* number 2, ACK of the one behind its SYN */
    memcpy(segment + 42, frame + 38, 4);
    for (int i = 45; ++segment[i] == 0; i--)
        continue;
    segment[47] = 0x10;
    CHECK_EQ(usnet_stack_input(stack, segment, sizeof segment, USNET_INPUT_CHECKSUM_GOOD, 0), 0);
    CHECK(usnet_stack_poll(stack, world.now_ns) > 0);
    struct usnet_event event;
    CHECK_EQ(usnet_stack_event(stack, &event), 0); /* they are the context's */
    CHECK(usnet_accept(context, listener, NULL, NULL) >= 0);
}

/* Packets are played to the stack itself, and sockets are called beside it. */
static void frames_of_the_stack_of_a_context(void)
{
    static const uint8_t asks[42] = {
        255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 9, 8, 6, /* who has 10.0.0.1? tell 10.0.0.9 */
        0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 10, 0, 0, 9, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1};
    struct usnet_link link = world_link();
    struct usnet_setup_options options = world_options(4);
    uint8_t frame[2048] = {0};
    struct usnet *context = usnet_setup(&options, usnet_device_hand(&link), NULL);
    CHECK(context != NULL);
    CHECK_EQ(usnet_add_address(context, "10.0.0.1/24"), 0);
    struct usnet_stack *stack = usnet_stack_of(context);
    CHECK_EQ(usnet_stack_input(stack, asks, sizeof asks, 0, 0), 0);
    CHECK_EQ(usnet_stack_input(stack, frame, 70000, 0, 0), -EMSGSIZE);
    CHECK(usnet_poll(context) > 0);
    do { /* until ARP answers */
        CHECK(usnet_stack_output(stack, frame, sizeof frame, NULL) > 0);
    } while (frame[12] != 0x08 || frame[13] != 0x06 || frame[21] != 2);
    handshake(context, stack, frame);
    usnet_teardown(context);
    world_open();
    CHECK_EQ(usnet_stack_input(usnet_stack_of(world.sides[0]), asks, sizeof asks, 0, 0), -EINVAL); /* on a wire */
    CHECK_EQ(usnet_stack_output(usnet_stack_of(world.sides[0]), frame, sizeof frame, NULL), -EINVAL);
    world_close();
}

static uint64_t no_clock(void *argument)
{
    return *(uint64_t *)argument;
}

static void what_passes_is_captured(void)
{
    struct usnet_setup_options options = world_options(4);
    struct usnet_link link = world_link();
    char path[] = "/tmp/usnet-pcap-XXXXXX";
    int file = mkstemp(path);
    uint64_t now_ns = 1;
    const char *why = NULL;
    CHECK(file >= 0);
    struct usnet_device *inner = usnet_device_hand(&link);
    CHECK(usnet_device_pcap(inner, "/nowhere/at/all", NULL, NULL, &why) == NULL);
    CHECK(why && strstr(why, "/nowhere/at/all"));
    struct usnet *context = usnet_setup(&options, usnet_device_pcap(inner, path, no_clock, &now_ns, NULL), NULL);
    CHECK(context != NULL);
    CHECK_EQ(usnet_add_address(context, "10.0.0.1/24"), 0);
    usnet_poll(context); /* the address is announced */
    usnet_teardown(context);
    CHECK(lseek(file, 0, SEEK_END) > 24 + 16 + 42);
    close(file);
    unlink(path);
}

/* ---- a call happens at its time, not at that of the last turn ---- */

static struct un_tcb *tcb_of(int side, int fd)
{
    return un_stack_conn_find(un_context_stack(world.sides[side]), usnet_conn_of(world.sides[side], fd));
}

static void a_timer_runs_from_the_call_that_starts_it(void)
{
    const int on = 1, idle_s = 1;
    world_open();
    struct ends ends = world_connect(world_listen(PORT, 8), PORT);
    struct usnet *client = world.sides[CLIENT];
    world_run(WORLD_SECOND);
    world.now_ns += WORLD_SECOND / 10; /* and nobody takes a turn */
    CHECK_EQ(usnet_setsockopt(client, ends.client, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s), 0);
    CHECK_EQ(usnet_setsockopt(client, ends.client, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on), 0);
    CHECK_EQ(tcb_of(CLIENT, ends.client)->timers[UN_TIMER_LIFE], world.now_ns + WORLD_SECOND);
    world_close();
}

static struct usnet *open_captured(struct usnet_device *device, const char *path, const char *address)
{
    static uint64_t now_ns = 1;
    struct usnet_setup_options options = world_options(4);
    if (path)
        device = usnet_device_pcap(device, path, no_clock, &now_ns, NULL);
    struct usnet *context = usnet_setup(&options, device, NULL);
    CHECK(context != NULL);
    CHECK_EQ(usnet_add_address(context, address), 0);
    return context;
}

/* TSval of the last segment in a file that has a timestamp. */
static uint32_t last_timestamp(int file)
{
    static const uint8_t option[4] = {1, 1, 8, 10};
    static uint8_t bytes[1 << 16];
    ssize_t length = pread(file, bytes, sizeof bytes, 0);
    for (ssize_t at = length - 8; at >= 0; at--)
        if (memcmp(bytes + at, option, sizeof option) == 0)
            return (uint32_t)bytes[at + 4] << 24 | bytes[at + 5] << 16 | bytes[at + 6] << 8 | bytes[at + 7];
    return 0;
}

static void a_reset_has_the_time_of_the_call(void)
{
    struct usnet_link link = world_link();
    struct usnet_device *ends[2];
    struct linger at_once = {.l_onoff = 1};
    struct sockaddr_in to = ipv4(SERVER, PORT);
    char path[] = "/tmp/usnet-pcap-XXXXXX";
    int file = mkstemp(path);
    CHECK_EQ(usnet_device_memory(ends, &link), 0);
    struct usnet *client = open_captured(ends[0], path, "10.0.0.1/24");
    struct usnet *server = open_captured(ends[1], NULL, "10.0.0.2/24");
    int listener = usnet_socket(server, AF_INET, SOCK_STREAM, 0), fd = usnet_socket(client, AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(usnet_bind(server, listener, ADDRESS(to)), 0);
    CHECK_EQ(usnet_listen(server, listener, 4), 0);
    CHECK_EQ(usnet_connect(client, fd, ADDRESS(to)), -EINPROGRESS);
    for (int turn = 0; turn < 20; turn++) {
        usnet_poll(client);
        usnet_poll(server);
    }
    const struct un_tcb *tcb = un_stack_conn_find(un_context_stack(client), usnet_conn_of(client, fd));
    CHECK_EQ(tcb->state, UN_TCP_ESTABLISHED);
    world.now_ns += WORLD_SECOND / 10;
    uint32_t now = (uint32_t)(world.now_ns / 1000000) + tcb->ts_offset;
    CHECK_EQ(usnet_setsockopt(client, fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
    CHECK_EQ(usnet_close(client, fd), 0);
    usnet_teardown(client);
    usnet_teardown(server);
    CHECK_EQ(last_timestamp(file), now);
    close(file);
    unlink(path);
}

static void interrupted(int signal)
{
    (void)signal;
}

static struct usnet *open_alone(void)
{
    struct usnet_setup_options options = world_options(4);
    struct usnet_link link = world_link();
    options.clock_ns = NULL;
    options.stack.accept_router_advertisements = false;
    struct usnet *context = usnet_setup(&options, usnet_device_hand(&link), NULL);
    CHECK(context != NULL);
    CHECK_EQ(usnet_add_address(context, "10.0.0.1/32"), 0);
    CHECK_EQ(usnet_add_route(context, "10.0.0.2/32", "0.0.0.0"), 0);
    return context;
}

static int connect_to_nobody(struct usnet *context)
{
    struct sockaddr_in to = ipv4(SERVER, PORT);
    int fd = usnet_socket(context, AF_INET, SOCK_STREAM, 0);
    CHECK(fd >= 0);
    CHECK_EQ(usnet_connect(context, fd, ADDRESS(to)), -EINPROGRESS);
    return fd;
}

static uint64_t monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void it_sleeps_until_time_is_over(void)
{
    struct usnet *context = open_alone();
    struct usnet_epoll_event event;
    int epoll = usnet_epoll_create(context);
    connect_to_nobody(context);
    uint64_t start_ms = monotonic_ms();
    CHECK_EQ(usnet_epoll_wait(context, epoll, &event, 1, 20), 0);
    CHECK(monotonic_ms() - start_ms >= 19);
    usnet_teardown(context);
}

/* Timers of the stack wake it: the peer stands still after it has answered ARP, so that the attempt fails. */
static void it_wakes_for_a_timer(void)
{
    struct usnet_setup_options options = world_options(4);
    struct usnet_link link = world_link();
    struct usnet_device *ends[2];
    options.clock_ns = NULL;
    options.stack.rto_initial_us = 20000;
    options.stack.syn_retries = 1;
    CHECK_EQ(usnet_device_memory(ends, &link), 0);
    struct usnet *context = usnet_setup(&options, ends[0], NULL), *peer = usnet_setup(&options, ends[1], NULL);
    CHECK_EQ(usnet_add_address(context, "10.0.0.1/24"), 0);
    CHECK_EQ(usnet_add_address(peer, "10.0.0.2/24"), 0);
    struct usnet_epoll_event event = {.events = OUT, .data.u64 = 77};
    int epoll = usnet_epoll_create(context), fd = connect_to_nobody(context);
    CHECK_EQ(usnet_epoll_ctl(context, epoll, USN_EPOLL_CTL_ADD, fd, &event), 0);
    usnet_poll(context);
    usnet_poll(peer);
    event.data.u64 = 0;
    CHECK_EQ(usnet_epoll_wait(context, epoll, &event, 1, -1), 1);
    CHECK_EQ(event.data.u64, 77);
    CHECK_EQ(event.events, OUT | HUP | ERR);
    CHECK_EQ(usnet_connect(context, fd, NULL, 0), -ETIMEDOUT);
    usnet_teardown(peer);
    usnet_teardown(context);
}

static void a_signal_ends_the_wait(void)
{
    struct usnet *context = open_alone();
    struct usnet_epoll_event event;
    struct sigaction action = {.sa_handler = interrupted}, before;
    struct itimerval often = {{0, 5000}, {0, 5000}}, never = {{0, 0}, {0, 0}};
    int epoll = usnet_epoll_create(context);
    connect_to_nobody(context);
    CHECK_EQ(sigaction(SIGALRM, &action, &before), 0);
    CHECK_EQ(setitimer(ITIMER_REAL, &often, NULL), 0);
    CHECK_EQ(usnet_epoll_wait(context, epoll, &event, 1, 60000), -EINTR);
    CHECK_EQ(setitimer(ITIMER_REAL, &never, NULL), 0);
    CHECK_EQ(sigaction(SIGALRM, &before, NULL), 0);
    usnet_teardown(context);
}

static void with_nothing_to_wait_for_it_returns(void)
{
    struct usnet *context = open_alone();
    struct usnet_epoll_event event;
    int epoll = usnet_epoll_create(context);
    for (int i = 0; i < 10 && usnet_deadline_ns(context) != UINT64_MAX; i++)
        usnet_epoll_wait(context, epoll, &event, 1, 10000); /* announcements */
    CHECK_EQ(usnet_epoll_wait(context, epoll, &event, 1, -1), 0);
    usnet_teardown(context);
}

int main(void)
{
    RUN(what_makes_no_sense_is_said);
    RUN(defaults_are_drawn_at_random);
    RUN(addresses_are_written_as_everywhere);
    RUN(descriptors_run_out);
    RUN(a_closed_descriptor_is_nobody);
    RUN(descriptors_that_are_none);
    RUN(an_epoll_instance_is_no_socket);
    RUN(null_is_a_fault);
    RUN(sockets_of_other_kinds);
    RUN(frames_by_hand);
    RUN(frames_of_the_stack_of_a_context);
    RUN(what_passes_is_captured);
    RUN(a_timer_runs_from_the_call_that_starts_it);
    RUN(a_reset_has_the_time_of_the_call);
    RUN(it_sleeps_until_time_is_over);
    RUN(it_wakes_for_a_timer);
    RUN(a_signal_ends_the_wait);
    RUN(with_nothing_to_wait_for_it_returns);
    return 0;
}
