/* usnet-echo-epoll: the C peer of the comparison. An echo server as an ordinary, well-written C program has it: one
 * thread, level-triggered epoll, non-blocking sockets, TCP_NODELAY, one recv and one send per readiness. What a slow
 * peer does not take is kept, and nothing more is read from that connection until it has gone.
 *
 *   usnet-echo-epoll HOST:PORT [--core N] [--exchange]      port 0: the system chooses; the address is printed
 *
 * With --exchange it answers as exchange.h says instead, so that a load may go
 * one way. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "address.h"
#include "base/assert.h"
#include "base/inherited.h"
#include "exchange.h"
#include "process.h"

#define BUFFER_BYTES 65536
#define BACKLOG 4096
#define EVENTS_MAX 256
#define ANSWER_BYTES (256 * 1024) /* one send: what a socket's buffer takes at once */

struct peer {
    int fd;
    struct exchange_reader reader;
    uint64_t owed; /* bytes of answers not yet sent */
    bool is_blocked;
    char *waiting; /* bytes from the last recv that the socket did not take; NULL: none */
    size_t waiting_from, waiting_bytes;
};

static int epoll_fd;
static bool exchanges;
static char buffer[BUFFER_BYTES];
static const char answers[ANSWER_BYTES];

static void watch(struct peer *peer, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = peer};
    int failed = epoll_ctl(epoll_fd, operation, peer->fd, &event);
    un_assert(failed == 0);
}

static void drop(struct peer *peer)
{
    close(peer->fd);
    free(peer->waiting);
    free(peer);
}

static void keep(struct peer *peer, size_t sent, size_t count)
{
    peer->waiting = malloc(count - sent);
    un_assert(peer->waiting);
    memcpy(peer->waiting, buffer + sent, count - sent);
    peer->waiting_from = 0;
    peer->waiting_bytes = count - sent;
    watch(peer, EPOLL_CTL_MOD, EPOLLOUT);
}

static void echo(struct peer *peer)
{
    ssize_t count = recv(peer->fd, buffer, sizeof buffer, 0);
    if (count < 0 && errno == EAGAIN)
        return;
    if (count <= 0) {
        drop(peer);
        return;
    }
    ssize_t sent = send(peer->fd, buffer, (size_t)count, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        drop(peer);
        return;
    }
    if (sent < count)
        keep(peer, sent < 0 ? 0 : (size_t)sent, (size_t)count);
}

static void send_waiting(struct peer *peer)
{
    ssize_t sent = send(peer->fd, peer->waiting + peer->waiting_from, peer->waiting_bytes, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN)
            drop(peer);
        return;
    }
    peer->waiting_from += (size_t)sent;
    peer->waiting_bytes -= (size_t)sent;
    if (peer->waiting_bytes > 0)
        return;
    free(peer->waiting);
    peer->waiting = NULL;
    watch(peer, EPOLL_CTL_MOD, EPOLLIN);
}

/* --exchange: one send of what is owed; no more is read while the socket does not take it. */
static void send_owed(struct peer *peer)
{
    size_t count = peer->owed < ANSWER_BYTES ? (size_t)peer->owed : ANSWER_BYTES;
    ssize_t sent = count ? send(peer->fd, answers, count, MSG_NOSIGNAL) : 0;
    if (sent < 0 && errno != EAGAIN) {
        drop(peer);
        return;
    }
    peer->owed -= sent > 0 ? (uint64_t)sent : 0;
    bool is_blocked = peer->owed > 0;
    if (is_blocked != peer->is_blocked)
        watch(peer, EPOLL_CTL_MOD, is_blocked ? EPOLLOUT : EPOLLIN);
    peer->is_blocked = is_blocked;
}

static void exchange(struct peer *peer)
{
    if (peer->is_blocked) {
        send_owed(peer);
        return;
    }
    ssize_t count = recv(peer->fd, buffer, sizeof buffer, 0);
    if (count < 0 && errno == EAGAIN)
        return;
    if (count <= 0) {
        drop(peer);
        return;
    }
    peer->owed += exchange_take(&peer->reader, buffer, (size_t)count);
    if (peer->owed > 0)
        send_owed(peer);
}

static void accept_all(int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct peer *peer = calloc(1, sizeof *peer);
        un_assert(peer);
        peer->fd = fd;
        watch(peer, EPOLL_CTL_ADD, EPOLLIN);
    }
}

static int listen_on(const struct address *address)
{
    static const struct sources anywhere;
    int on = 1;
    int fd = socket_open(address, &anywhere, 0); /* sets TCP_NODELAY, which accepted sockets inherit */
    if (fd < 0)
        return fd;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (const struct sockaddr *)&address->socket, address->length) < 0 || listen(fd, BACKLOG) < 0)
        return -errno;
    return fd;
}

static void serve(int listener)
{
    struct epoll_event events[EVENTS_MAX];
    for (;;) {
        int count = epoll_wait(epoll_fd, events, EVENTS_MAX, -1);
        for (int i = 0; i < count; i++) {
            struct peer *peer = events[i].data.ptr;
            if (peer->fd == listener)
                accept_all(listener);
            else if (exchanges)
                exchange(peer);
            else if (peer->waiting)
                send_waiting(peer);
            else
                echo(peer);
        }
    }
}

static void announce(int listener)
{
    struct address bound = {.length = sizeof bound.socket};
    char text[ADDRESS_TEXT_MAX] = "";
    if (getsockname(listener, (struct sockaddr *)&bound.socket, &bound.length) == 0)
        address_format(&bound, text);
    printf("listening on %s\n", text);
    fflush(stdout);
}

static _Noreturn void usage(void)
{
    fprintf(stderr, "usage: usnet-echo-epoll HOST:PORT [--core N] [--exchange]\n");
    exit(2);
}

/* The core, or -1. */
static int read_options(int argc, char **argv)
{
    int core = -1;
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--exchange") == 0)
            exchanges = true;
        else if (strcmp(argv[i], "--core") == 0 && i + 1 < argc)
            core = atoi(argv[++i]);
        else
            usage();
    }
    return core;
}

int main(int argc, char **argv)
{
    struct address address;
    un_inherited_reset();
    if (argc < 2 || address_parse(argv[1], &address) != NULL)
        usage();
    int core = read_options(argc, argv);
    int error = core >= 0 ? process_pin(core) : 0;
    if (error < 0) {
        fprintf(stderr, "usnet-echo-epoll: --core %d: %s\n", core, strerror(-error));
        return 2;
    }
    process_raise_descriptor_limit();
    struct peer listener = {.fd = listen_on(&address)};
    if (listener.fd < 0) {
        fprintf(stderr, "usnet-echo-epoll: %s: %s\n", argv[1], strerror(-listener.fd));
        return 3;
    }
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    un_assert(epoll_fd >= 0);
    watch(&listener, EPOLL_CTL_ADD, EPOLLIN);
    announce(listener.fd);
    serve(listener.fd);
}
