/* The life of sockets: made, bound, listening, connecting, accepted, closed. See usnet.h. */
#include <errno.h>
#include <netinet/in.h>

#include "api/context.h"

#define BACKLOG_MAX 65535

int usnet_socket(struct usnet *context, int domain, int type, int protocol)
{
    static const uint8_t zero[4];
    int plain = type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC); /* always, and without meaning */
    if (domain != AF_INET && domain != AF_INET6)
        return -EAFNOSUPPORT;
    if ((plain != SOCK_STREAM || (protocol != 0 && protocol != IPPROTO_TCP)) &&
        (plain != SOCK_DGRAM || (protocol != 0 && protocol != IPPROTO_UDP)))
        return -EPROTONOSUPPORT;
    int fd = un_socket_new(context, plain == SOCK_STREAM ? UN_SOCKET_STREAM : UN_SOCKET_DATAGRAM);
    if (fd < 0)
        return fd;
    struct un_socket *socket = &context->sockets[fd];
    socket->domain = (uint8_t)domain;
    if (domain == AF_INET)
        socket->local.ip = un_ip_from_v4(zero);
    un_socket_default_options(context, socket);
    return fd;
}

int un_datagram_open(struct usnet *context, int fd)
{
    struct un_socket *socket = &context->sockets[fd];
    if (socket->number != UN_NONE)
        return 0;
    int number = un_stack_udp_open(un_context_stack(context), &socket->local, (uint64_t)fd);
    if (number < 0)
        return number;
    socket->number = (uint32_t)number;
    socket->bound = true;
    return 0;
}

int usnet_bind(struct usnet *context, int fd, const struct sockaddr *address, uint32_t length)
{
    struct un_socket *socket;
    struct un_stack_peer local;
    int status = un_socket_find(context, fd, &socket);
    if (status < 0)
        return status;
    if ((socket->kind != UN_SOCKET_STREAM && socket->kind != UN_SOCKET_DATAGRAM) || socket->bound)
        return -EINVAL;
    status = un_peer_from_sockaddr(&local, socket->domain, address, length);
    if (status < 0)
        return status;
    if (!un_ip_is_any(&local.ip) && !un_stack_has_address(un_context_stack(context), &local.ip))
        return -EADDRNOTAVAIL;
    struct un_stack_peer before = socket->local;
    socket->local = local;
    status = socket->kind == UN_SOCKET_DATAGRAM ? un_datagram_open(context, fd) : 0;
    if (status < 0)
        socket->local = before;
    socket->bound = status == 0;
    return status;
}

/* ---- listeners ---- */

/* At the port of the socket, or at one that is free. */
static int listen_somewhere(struct usnet *context, int fd, uint32_t backlog)
{
    struct un_socket *socket = &context->sockets[fd];
    struct un_stack *stack = un_context_stack(context);
    uint32_t low = stack->config->port_low;
    uint32_t range = stack->config->port_high - low + 1;
    bool is_chosen = socket->local.port == 0;
    int number = -EADDRINUSE;
    for (uint32_t tries = 0; number == -EADDRINUSE && tries < (is_chosen ? range : 1); tries++) {
        uint16_t port = socket->local.port;
        if (is_chosen)
            port = (uint16_t)(low + context->port_next++ % range);
        number = un_stack_listen(stack, &socket->local.ip, port, backlog, (uint64_t)fd);
        if (number >= 0)
            socket->local.port = port;
    }
    return number;
}

int usnet_listen(struct usnet *context, int fd, int backlog)
{
    struct un_socket *socket;
    int status = un_socket_find(context, fd, &socket);
    if (status < 0)
        return status;
    if (socket->kind == UN_SOCKET_LISTENER)
        return 0;
    if (socket->kind != UN_SOCKET_STREAM)
        return socket->kind == UN_SOCKET_DATAGRAM ? -EOPNOTSUPP : -EINVAL;
    uint32_t most = backlog < 1 ? 1 : backlog > BACKLOG_MAX ? BACKLOG_MAX : (uint32_t)backlog;
    int number = listen_somewhere(context, fd, most);
    if (number < 0)
        return number;
    socket->kind = UN_SOCKET_LISTENER;
    socket->number = (uint32_t)number;
    un_socket_apply_to_listener(context, socket);
    un_socket_may_be_ready(context, (uint32_t)fd, UN_READY_ANY);
    return 0;
}

static void give_peer_name(struct usnet *context, int fd, struct sockaddr *address, uint32_t *length)
{
    const struct un_socket *socket = &context->sockets[fd];
    struct un_stack_peer local, remote = socket->remote;
    if (socket->kind == UN_SOCKET_CONN)
        un_stack_names(un_context_stack(context), socket->conn, &local, &remote);
    un_peer_to_sockaddr(&remote, socket->domain, address, length);
}

int usnet_accept(struct usnet *context, int fd, struct sockaddr *address, uint32_t *length)
{
    struct un_socket *listener;
    struct un_stack *stack = un_context_stack(context);
    int status = un_socket_find(context, fd, &listener);
    if (status < 0)
        return status;
    if (listener->kind != UN_SOCKET_LISTENER)
        return listener->kind == UN_SOCKET_DATAGRAM ? -EOPNOTSUPP : -EINVAL;
    if (address && !length)
        return -EFAULT;
    uint64_t conn = un_stack_accept_next(stack, listener->number);
    if (!conn)
        return -EAGAIN;
    int accepted = un_socket_new(context, UN_SOCKET_CONN);
    if (accepted < 0)
        return accepted;
    struct un_socket *socket = &context->sockets[accepted];
    socket->domain = listener->domain;
    socket->linger = listener->linger;
    socket->connected = true;
    socket->conn = conn;
    un_stack_accept(stack, socket->conn, (uint64_t)accepted);
    un_socket_apply_options(context, listener, socket->conn);
    if (un_stack_conn_find(stack, socket->conn)->state == UN_TCP_DEAD)
        un_socket_end(context, socket);
    if (address)
        give_peer_name(context, accepted, address, length);
    return accepted;
}

/* ---- connecting ---- */

static int connect_datagram(struct usnet *context, int fd, const struct un_stack_peer *remote)
{
    struct un_socket *socket = &context->sockets[fd];
    int status = un_datagram_open(context, fd);
    if (status < 0)
        return status;
    un_stack_udp_connect(un_context_stack(context), socket->number, remote);
    socket->remote = *remote;
    socket->has_remote = true;
    return 0;
}

/* The socket is as it was before connect; of what was there the peer hears by a reset. */
static void disconnect(struct usnet *context, int fd)
{
    struct un_socket *socket = &context->sockets[fd];
    un_stack_abort(un_context_stack(context), socket->conn);
    socket->kind = UN_SOCKET_STREAM;
    socket->conn = 0;
    socket->error = 0;
    socket->connecting = socket->over = socket->connected = socket->read_shut = socket->write_shut = false;
    un_socket_may_be_ready(context, (uint32_t)fd, UN_READY_ANY);
}

/* An attempt has failed, or what came of it, and is told now if it was not before. */
static int give_up_attempt(struct usnet *context, int fd)
{
    int error = un_socket_take_error(&context->sockets[fd]);
    disconnect(context, fd);
    return error ? -error : -ECONNABORTED;
}

/* The outcome of an attempt is told once. */
static int connect_again(struct usnet *context, int fd)
{
    struct un_socket *socket = &context->sockets[fd];
    if (socket->connected)
        return -EISCONN;
    if (socket->over)
        return give_up_attempt(context, fd);
    socket->connected = !socket->connecting;
    return socket->connected ? 0 : -EALREADY;
}

/* It may listen again, or connect, as with the kernel's sockets. */
static int stop_listening(struct usnet *context, int fd)
{
    struct un_socket *socket = &context->sockets[fd];
    un_stack_unlisten(un_context_stack(context), socket->number);
    socket->kind = UN_SOCKET_STREAM;
    socket->number = UN_NONE;
    un_socket_may_be_ready(context, (uint32_t)fd, UN_READY_ANY);
    return 0;
}

/* AF_UNSPEC: connected to nobody. */
static int connect_nowhere(struct usnet *context, int fd)
{
    struct un_socket *socket = &context->sockets[fd];
    if (socket->kind == UN_SOCKET_CONN)
        disconnect(context, fd);
    if (socket->has_remote)
        un_stack_udp_connect(un_context_stack(context), socket->number, &(struct un_stack_peer){0});
    socket->has_remote = false;
    return 0;
}

static int connect_stream(struct usnet *context, int fd, const struct un_stack_peer *remote)
{
    struct un_socket *socket = &context->sockets[fd];
    uint64_t conn;
    int status = un_stack_connect(un_context_stack(context), remote, &socket->local, (uint64_t)fd, &conn);
    if (status < 0)
        return status;
    socket->kind = UN_SOCKET_CONN;
    socket->conn = conn;
    socket->error = 0;
    socket->connecting = true;
    un_socket_apply_options(context, socket, conn);
    return -EINPROGRESS;
}

int usnet_connect(struct usnet *context, int fd, const struct sockaddr *address, uint32_t length)
{
    struct un_socket *socket;
    struct un_stack_peer remote;
    int status = un_socket_find(context, fd, &socket);
    if (status < 0)
        return status;
    if (un_is_unspecified(address, length))
        return socket->kind == UN_SOCKET_LISTENER ? stop_listening(context, fd) : connect_nowhere(context, fd);
    if (socket->kind == UN_SOCKET_LISTENER)
        return -EISCONN;
    if (socket->kind == UN_SOCKET_CONN)
        return connect_again(context, fd);
    status = un_peer_from_sockaddr(&remote, socket->domain, address, length);
    if (status < 0)
        return status;
    return socket->kind == UN_SOCKET_DATAGRAM ? connect_datagram(context, fd, &remote)
                                              : connect_stream(context, fd, &remote);
}

/* ---- the end ---- */

static bool is_connected(const struct un_socket *socket)
{
    return (socket->kind == UN_SOCKET_CONN && !socket->connecting && !socket->over) || socket->has_remote;
}

/* Ends a connection attempt; whoever waits for it gets an error. */
static int shutdown_attempt(struct usnet *context, int fd)
{
    disconnect(context, fd);
    context->sockets[fd].error = ECONNRESET;
    return 0;
}

int usnet_shutdown(struct usnet *context, int fd, int how)
{
    struct un_socket *socket;
    int status = un_socket_find(context, fd, &socket);
    if (status < 0)
        return status;
    if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR)
        return -EINVAL;
    if (socket->kind == UN_SOCKET_LISTENER)
        return how == SHUT_WR ? 0 : stop_listening(context, fd);
    if (socket->kind == UN_SOCKET_CONN && socket->connecting && !socket->over)
        return shutdown_attempt(context, fd);
    if (!is_connected(socket))
        return -ENOTCONN;
    socket->read_shut |= how != SHUT_WR;
    socket->write_shut |= how != SHUT_RD;
    if (socket->kind == UN_SOCKET_CONN && how != SHUT_WR)
        un_stack_shutdown_input(un_context_stack(context), socket->conn);
    if (socket->kind == UN_SOCKET_CONN && how != SHUT_RD)
        un_stack_shutdown(un_context_stack(context), socket->conn);
    un_socket_may_be_ready(context, (uint32_t)fd, UN_READY_ANY);
    return 0;
}

static bool resets(const struct un_socket *socket)
{
    return socket->linger.l_onoff && socket->linger.l_linger == 0;
}

static void close_stack_side(struct usnet *context, const struct un_socket *socket)
{
    struct un_stack *stack = un_context_stack(context);
    if (socket->kind == UN_SOCKET_CONN && resets(socket))
        un_stack_abort(stack, socket->conn);
    else if (socket->kind == UN_SOCKET_CONN)
        un_stack_close(stack, socket->conn);
    else if (socket->kind == UN_SOCKET_LISTENER)
        un_stack_unlisten(stack, socket->number);
    else if (socket->kind == UN_SOCKET_DATAGRAM && socket->number != UN_NONE)
        un_stack_udp_close(stack, socket->number);
}

/* The stack has no events for what was closed, so none will name this descriptor before it is another socket's. */
int usnet_close(struct usnet *context, int fd)
{
    const struct un_socket *socket = un_socket_at(context, fd);
    if (!socket)
        return -EBADF;
    un_context_look_at_clock(context);
    if (socket->kind == UN_SOCKET_EPOLL)
        un_epoll_forget_all(context, (uint32_t)fd);
    else
        un_socket_unwatch(context, (uint32_t)fd);
    close_stack_side(context, socket);
    un_socket_free(context, fd);
    return 0;
}

/* ---- names ---- */

int usnet_getsockname(struct usnet *context, int fd, struct sockaddr *address, uint32_t *length)
{
    struct un_socket *socket;
    int status = un_socket_find(context, fd, &socket);
    if (status < 0)
        return status;
    if (!address || !length)
        return -EFAULT;
    struct un_stack_peer local = socket->local, remote;
    if (socket->kind == UN_SOCKET_CONN)
        un_stack_names(un_context_stack(context), socket->conn, &local, &remote);
    else if (socket->kind == UN_SOCKET_DATAGRAM && socket->number != UN_NONE)
        un_stack_udp_name(un_context_stack(context), socket->number, &local);
    un_peer_to_sockaddr(&local, socket->domain, address, length);
    return 0;
}

int usnet_getpeername(struct usnet *context, int fd, struct sockaddr *address, uint32_t *length)
{
    struct un_socket *socket;
    int status = un_socket_find(context, fd, &socket);
    if (status < 0)
        return status;
    if (!address || !length)
        return -EFAULT;
    if (!is_connected(socket))
        return -ENOTCONN;
    give_peer_name(context, fd, address, length);
    return 0;
}
