/* An echo server on a TCP/IP stack of its own: `echo tap0 10.0.0.1/24 7000`, with netmap:vale0:us instead of tap0 for a
 * port of netmap's. It is written as any edge-triggered epoll server is; only the calls are usnet's, and take the
 * context first. What comes from a client goes back to it; while the client does not read, nothing more is read from
 * it. SIGINT and SIGTERM end it. */
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "usnet.h"
#include "usnet_netmap.h"

enum { SOCKETS = 1024, EVENTS = 64, BUFFER_BYTES = 16384, LOOK_UP_MS = 500 };

static struct conn {
    int64_t length; /* bytes that were read … */
    int64_t done;   /* … and written back */
    char bytes[BUFFER_BYTES];
} conns[SOCKETS]; /* by descriptor */

static volatile sig_atomic_t stopped;

static void stop(int signal)
{
    (void)signal;
    stopped = 1;
}

static int fail(const char *what, const char *why)
{
    fprintf(stderr, "echo: %s: %s\n", what, why);
    return 1;
}

static int open_listener(struct usnet *context, uint16_t port)
{
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(port)}; /* IPv4 as well */
    int fd = usnet_socket(context, AF_INET6, SOCK_STREAM, 0);
    int status = usnet_bind(context, fd, (const struct sockaddr *)&any, sizeof any);
    if (status == 0)
        status = usnet_listen(context, fd, SOCKETS / 4);
    return status < 0 ? status : fd;
}

static int watch(struct usnet *context, int epoll, int fd, uint32_t events)
{
    struct usnet_epoll_event event = {.events = events, .data.fd = fd};
    return usnet_epoll_ctl(context, epoll, USN_EPOLL_CTL_ADD, fd, &event);
}

static void accept_all(struct usnet *context, int epoll, int listener)
{
    int fd;
    while ((fd = usnet_accept(context, listener, NULL, NULL)) >= 0) {
        conns[fd].length = conns[fd].done = 0;
        watch(context, epoll, fd, USN_EPOLLIN | USN_EPOLLOUT | USN_EPOLLET);
    }
}

/* One read, or one write of what was read: how far it came, 0 at the end, or -errno. */
static int64_t echo_some(struct usnet *context, int fd)
{
    struct conn *conn = &conns[fd];
    if (conn->done == conn->length) {
        conn->done = conn->length = 0;
        int64_t got = usnet_read(context, fd, conn->bytes, sizeof conn->bytes);
        conn->length = got > 0 ? got : 0;
        return got;
    }
    int64_t taken = usnet_write(context, fd, conn->bytes + conn->done, (uint64_t)(conn->length - conn->done));
    conn->done += taken > 0 ? taken : 0;
    return taken;
}

static void echo(struct usnet *context, int fd)
{
    int64_t status;
    while ((status = echo_some(context, fd)) > 0)
        ;
    if (status != -EAGAIN)
        usnet_close(context, fd);
}

static struct usnet_device *open_device(const char *name, const char **why)
{
    static const char prefix[] = "netmap:";
    if (strncmp(name, prefix, strlen(prefix)) == 0)
        return usnet_device_netmap(name + strlen(prefix), why);
    return usnet_device_tap(name, why);
}

static int serve(struct usnet *context, uint16_t port)
{
    struct usnet_epoll_event events[EVENTS];
    int listener = open_listener(context, port), epoll = usnet_epoll_create(context);
    if (listener < 0)
        return fail("cannot listen", strerror(-listener));
    watch(context, epoll, listener, USN_EPOLLIN);
    while (!stopped) {
        int count = usnet_epoll_wait(context, epoll, events, EVENTS, LOOK_UP_MS); /* for `stopped`, too */
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == listener)
                accept_all(context, epoll, listener);
            else
                echo(context, events[i].data.fd);
        }
    }
    return 0;
}

int main(int count, char **arguments)
{
    struct usnet_setup_options options;
    const char *why = NULL;
    long port = count == 4 ? atol(arguments[3]) : 0;
    if (port < 1 || port > UINT16_MAX) {
        fprintf(stderr, "usage: %s TAP|netmap:PORT ADDRESS/PREFIX PORT\n", arguments[0]);
        return 2;
    }
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    usnet_setup_defaults(&options, SOCKETS);
    struct usnet_device *device = open_device(arguments[1], &why);
    struct usnet *context = device ? usnet_setup(&options, device, &why) : NULL;
    if (!context)
        return fail(arguments[1], why);
    int status = usnet_add_address(context, arguments[2]);
    status = status < 0 ? fail(arguments[2], strerror(-status)) : serve(context, (uint16_t)port);
    usnet_teardown(context);
    return status;
}
