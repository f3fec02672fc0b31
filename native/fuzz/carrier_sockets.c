/* Peers over unix sockets (carrier.h): the kernel transport. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../tests/check.h"
#include "arena.h"
#include "carrier.h"

static socklen_t listener_address(struct sockaddr_un *address)
{
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    int length = snprintf(address->sun_path + 1, sizeof address->sun_path - 1, "usnet-hostile-%d", getpid());
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
}

static void open_listener(void)
{
    struct sockaddr_un address;
    socklen_t length = listener_address(&address);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK(listener >= 0);
    CHECK_EQ(bind(listener, (struct sockaddr *)&address, length), 0);
    CHECK_EQ(listen(listener, 16), 0);
    arena.setup.listeners[0] = listener;
    arena.setup.listener_count = 1;
}

static int connect_peer(void)
{
    struct sockaddr_un address;
    int peer = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK(peer >= 0);
    CHECK_EQ(connect(peer, (struct sockaddr *)&address, listener_address(&address)), 0);
    return peer;
}

static ssize_t receive(int peer, void *bytes, size_t most)
{
    return recv(peer, bytes, most, MSG_DONTWAIT);
}

static ssize_t send_bytes(int peer, const void *bytes, size_t length)
{
    return send(peer, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void half_close(int peer)
{
    shutdown(peer, SHUT_WR);
}

static void disconnect(int peer)
{
    close(peer);
}

static void turn(void)
{
}

static void close_listener(void)
{
    close(arena.setup.listeners[0]);
}

const struct carrier carrier_sockets = {
    .open = open_listener,
    .connect = connect_peer,
    .receive = receive,
    .send = send_bytes,
    .half_close = half_close,
    .disconnect = disconnect,
    .turn = turn,
    .close = close_listener,
};
