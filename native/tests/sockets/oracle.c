/* See oracle.h. The kernel's sockets are all on 127.0.0.1; each side has an epoll instance of its own. */
#include "oracle.h"

#include <arpa/inet.h>
#include <sys/epoll.h>
#include <unistd.h>

#define FDS_MAX 64


static struct {
    int epolls[2];
    int fds[FDS_MAX];
    int count;
} kernel;

static int64_t result(int64_t status)
{
    return status < 0 ? -errno : status;
}

static int remember(int fd)
{
    if (fd < 0)
        return -errno;
    CHECK(kernel.count < FDS_MAX);
    kernel.fds[kernel.count++] = fd;
    return fd;
}

static struct sockaddr_in loopback(uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void kernel_open(void)
{
    kernel.count = 0;
    for (int side = 0; side < 2; side++)
        kernel.epolls[side] = remember(epoll_create1(EPOLL_CLOEXEC));
}

static int kernel_close(int side, int fd)
{
    (void)side;
    for (int i = 0; i < kernel.count; i++)
        if (kernel.fds[i] == fd)
            kernel.fds[i] = kernel.fds[--kernel.count];
    return (int)result(close(fd));
}

static void kernel_close_all(void)
{
    while (kernel.count > 0)
        kernel_close(0, kernel.fds[kernel.count - 1]);
}

static int kernel_socket(int side, int type)
{
    (void)side;
    return remember(socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

static int kernel_bind_any(int side, int fd)
{
    struct sockaddr_in address = loopback(0);
    (void)side;
    return (int)result(bind(fd, ADDRESS(address)));
}

static int kernel_listen(int side, int fd)
{
    (void)side;
    return (int)result(listen(fd, 8));
}

static int kernel_accept(int side, int fd)
{
    (void)side;
    return remember(accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

static int kernel_connect(int side, int fd, uint16_t port)
{
    struct sockaddr_in address = loopback(port);
    (void)side;
    return (int)result(connect(fd, ADDRESS(address)));
}

/* A listener whose backlog is full answers no SYN. */
static int kernel_attempt(int side, int fd)
{
    struct sockaddr_in address = loopback(0);
    socklen_t length = sizeof address;
    int listener = kernel_socket(side, SOCK_STREAM);
    CHECK_EQ(bind(listener, ADDRESS(address)), 0);
    CHECK_EQ(listen(listener, 0), 0);
    CHECK_EQ(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    for (int i = 0; i < 2; i++)
        connect(kernel_socket(side, SOCK_STREAM), ADDRESS(address));
    return (int)result(connect(fd, ADDRESS(address)));
}

static int kernel_leave(int side, int fd)
{
    struct sockaddr_in nobody = {.sin_family = AF_UNSPEC};
    (void)side;
    return (int)result(connect(fd, ADDRESS(nobody)));
}

static int kernel_peer(int side, int fd)
{
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    (void)side;
    return (int)result(getpeername(fd, (struct sockaddr *)&address, &length));
}

static int64_t kernel_read(int side, int fd, void *bytes, size_t most)
{
    (void)side;
    return result(read(fd, bytes, most));
}

static int64_t kernel_write(int side, int fd, const void *bytes, size_t length)
{
    (void)side;
    return result(send(fd, bytes, length, MSG_NOSIGNAL));
}

static int kernel_shutdown(int side, int fd, int how)
{
    (void)side;
    return (int)result(shutdown(fd, how));
}

static int kernel_error(int side, int fd)
{
    int error = -1;
    socklen_t length = sizeof error;
    (void)side;
    CHECK_EQ(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length), 0);
    return error;
}

static int kernel_set(int side, int fd, int level, int name, const void *value, socklen_t length)
{
    (void)side;
    return (int)result(setsockopt(fd, level, name, value, length));
}

static int kernel_get(int side, int fd, int level, int name)
{
    int value = -1;
    socklen_t length = sizeof value;
    (void)side;
    int64_t status = result(getsockopt(fd, level, name, &value, &length));
    return status < 0 ? (int)status : value;
}

static uint16_t kernel_port(int side, int fd)
{
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    (void)side;
    CHECK_EQ(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    return ntohs(address.sin_port);
}

static int kernel_control(int side, int operation, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    return (int)result(epoll_ctl(kernel.epolls[side], operation, fd, &event));
}

static uint32_t kernel_ready(int side, int fd)
{
    struct epoll_event events[2];
    int found = epoll_wait(kernel.epolls[side], events, 2, 0);
    CHECK(found == 0 || (found == 1 && events[0].data.fd == fd));
    return found ? events[0].events : 0;
}

static void kernel_settle(void)
{
}

const struct calls kernel_calls = {
    "the kernel",    kernel_open,    kernel_close_all, kernel_socket,  kernel_bind_any, kernel_listen,
    kernel_accept,   kernel_connect, kernel_attempt,   kernel_leave,   kernel_peer,     kernel_read,
    kernel_write,    kernel_shutdown, kernel_close,    kernel_error,   kernel_set,      kernel_get,
    kernel_port,     kernel_control, kernel_ready,     kernel_settle,
};

/* ---- ours ---- */

static int our_socket(int side, int type)
{
    return usnet_socket(world.sides[side], AF_INET, type, 0);
}

static int our_bind_any(int side, int fd)
{
    struct sockaddr_in address = ipv4(side, 0);
    return usnet_bind(world.sides[side], fd, ADDRESS(address));
}

static int our_listen(int side, int fd)
{
    return usnet_listen(world.sides[side], fd, 8);
}

static int our_accept(int side, int fd)
{
    return usnet_accept(world.sides[side], fd, NULL, NULL);
}

static int our_connect(int side, int fd, uint16_t port)
{
    struct sockaddr_in address = ipv4(SERVER, port);
    return usnet_connect(world.sides[side], fd, ADDRESS(address));
}

static int our_attempt(int side, int fd)
{
    struct sockaddr_in address = ipv4(side, 9);
    address.sin_addr.s_addr = inet_addr("10.0.0.77");
    return usnet_connect(world.sides[side], fd, ADDRESS(address));
}

static int our_leave(int side, int fd)
{
    struct sockaddr_in nobody = {.sin_family = AF_UNSPEC};
    return usnet_connect(world.sides[side], fd, ADDRESS(nobody));
}

static int our_peer(int side, int fd)
{
    struct sockaddr_in address;
    uint32_t length = sizeof address;
    return usnet_getpeername(world.sides[side], fd, (struct sockaddr *)&address, &length);
}

static int64_t our_read(int side, int fd, void *bytes, size_t most)
{
    return usnet_read(world.sides[side], fd, bytes, most);
}

static int64_t our_write(int side, int fd, const void *bytes, size_t length)
{
    return usnet_write(world.sides[side], fd, bytes, length);
}

static int our_shutdown(int side, int fd, int how)
{
    return usnet_shutdown(world.sides[side], fd, how);
}

static int our_close(int side, int fd)
{
    return usnet_close(world.sides[side], fd);
}

static int our_set(int side, int fd, int level, int name, const void *value, socklen_t length)
{
    return usnet_setsockopt(world.sides[side], fd, level, name, value, length);
}

static int our_get(int side, int fd, int level, int name)
{
    int value = -1;
    uint32_t length = sizeof value;
    int status = usnet_getsockopt(world.sides[side], fd, level, name, &value, &length);
    return status < 0 ? status : value;
}

static uint16_t our_port(int side, int fd)
{
    struct sockaddr_in address;
    uint32_t length = sizeof address;
    CHECK_EQ(usnet_getsockname(world.sides[side], fd, (struct sockaddr *)&address, &length), 0);
    return ntohs(address.sin_port);
}

static int our_control(int side, int operation, int fd, uint32_t events)
{
    struct usnet_epoll_event event = {.events = events, .data.fd = fd};
    return usnet_epoll_ctl(world.sides[side], world.epolls[side], operation, fd, &event);
}

const struct calls our_calls = {
    "ours",    world_open, world_close, our_socket, our_bind_any, our_listen, our_accept,  our_connect, our_attempt,
    our_leave, our_peer,   our_read,    our_write,  our_shutdown, our_close,  world_error, our_set,     our_get,
    our_port,  our_control, world_ready, world_settle,
};
