/* The life of sockets: made, bound, listening, connecting, accepted, closed. See usnet.h. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "api/context.h"

#define BACKLOG_MAX 65535

int usnet_socket(struct usnet *context, int domain, int type, int protocol)
{
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
    static const uint8_t zero[4];
    socket->domain = (uint8_t)domain;
    if (domain == AF_INET)
        socket->local.ip = un_ip_from_v4(zero);
    return fd;
}

static int open_datagram(struct usnet *context, int fd)
{
    struct un_socket *socket = &context->sockets[fd];
    int number = un_stack_udp_open(un_context_stack(context), &socket->local, (uint64_t)fd);
    if (number < 0)
        return number;
    socket->number = (uint32_t)number;
    return 0;
}

int usnet_bind(struct usnet *context, int fd, const struct sockaddr *address, uint32_t length)
{
    struct un_socket *socket = un_socket_at(context, fd);
    struct un_stack_peer local;
    if (!socket)
        return -EBADF;
    if ((socket->kind != UN_SOCKET_STREAM && socket->kind != UN_SOCKET_DATAGRAM) || socket->bound)
        return -EINVAL;
    int status = un_peer_from_sockaddr(&local, socket->domain, address, length);
    if (status < 0)
        return status;
    struct un_stack_peer before = socket->local;
    socket->local = local;
    if (socket->kind == UN_SOCKET_DATAGRAM && (status = open_datagram(context, fd)) < 0) {
        socket->local = before;
        return status;
    }
    socket->bound = true;
    return 0;
}

int usnet_listen(struct usnet *context, int fd, int backlog)
{
    struct un_socket *socket = un_socket_at(context, fd);
    if (!socket)
        return -EBADF;
    if (socket->kind != UN_SOCKET_STREAM)
        return socket->kind == UN_SOCKET_DATAGRAM ? -EOPNOTSUPP : -EINVAL;
    if (!socket->bound || socket->local.port == 0)
        return -EDESTADDRREQ;
    uint32_t size = backlog < 1 ? 1 : backlog > BACKLOG_MAX ? BACKLOG_MAX : (uint32_t)backlog;
    uint64_t *pending = calloc(size, sizeof *pending);
    if (!pending)
        return -ENOMEM;
    int number = un_stack_listen(un_context_stack(context), &socket->local.ip, socket->local.port, size, (uint64_t)fd);
    if (number < 0) {
        free(pending);
        return number;
    }
    socket->kind = UN_SOCKET_LISTENER;
    socket->number = (uint32_t)number;
    socket->pending = pending;
    socket->pending_size = size;
    return 0;
}

/* The next connection that is still there, 0 when none is. */
static uint64_t next_pending(struct usnet *context, struct un_socket *listener)
{
    while (listener->pending_count > 0) {
        uint64_t conn = listener->pending[listener->pending_first];
        listener->pending_first = (listener->pending_first + 1) % listener->pending_size;
        listener->pending_count--;
        if (un_stack_conn(un_context_stack(context), conn))
            return conn;
    }
    return 0;
}

int usnet_accept(struct usnet *context, int fd, struct sockaddr *address, uint32_t *length)
{
    struct un_socket *listener = un_socket_at(context, fd);
    if (!listener)
        return -EBADF;
    if (listener->kind != UN_SOCKET_LISTENER)
        return -EINVAL;
    if (listener->pending_count > 0 && context->free_first == UN_NONE)
        return -EMFILE;
    uint64_t conn = next_pending(context, listener);
    if (conn == 0)
        return -EAGAIN;
    int accepted = un_socket_new(context, UN_SOCKET_CONN);
    struct un_socket *socket = &context->sockets[accepted];
    socket->domain = listener->domain;
    socket->conn = conn;
    socket->resets = listener->resets;
    un_stack_accept(un_context_stack(context), conn, (uint64_t)accepted);
    un_stack_names(un_context_stack(context), conn, &socket->local, &socket->remote);
    un_socket_apply_options(context, listener, conn);
    un_peer_to_sockaddr(&socket->remote, socket->domain, address, length);
    return accepted;
}

static int connect_datagram(struct un_socket *socket, const struct un_stack_peer *remote)
{
    socket->remote = *remote;
    socket->has_remote = true;
    return 0;
}

/* What a second connect on a socket says. */
static int connect_again(struct un_socket *socket)
{
    if (socket->connecting)
        return -EALREADY;
    if (!socket->over)
        return -EISCONN;
    int error = socket->error;
    socket->error = 0;
    return error ? -error : -EISCONN;
}

int usnet_connect(struct usnet *context, int fd, const struct sockaddr *address, uint32_t length)
{
    struct un_socket *socket = un_socket_at(context, fd);
    struct un_stack_peer remote;
    if (!socket)
        return -EBADF;
    if (socket->kind == UN_SOCKET_CONN)
        return connect_again(socket);
    if (socket->kind != UN_SOCKET_STREAM && socket->kind != UN_SOCKET_DATAGRAM)
        return -EOPNOTSUPP;
    int status = un_peer_from_sockaddr(&remote, socket->domain, address, length);
    if (status < 0)
        return status;
    if (socket->kind == UN_SOCKET_DATAGRAM)
        return connect_datagram(socket, &remote);
    status = un_stack_connect(un_context_stack(context), &remote, &socket->local, (uint64_t)fd, &socket->conn);
    if (status < 0)
        return status;
    socket->kind = UN_SOCKET_CONN;
    socket->connecting = true;
    un_stack_names(un_context_stack(context), socket->conn, &socket->local, &socket->remote);
    un_socket_apply_options(context, socket, socket->conn);
    return -EINPROGRESS;
}

int usnet_shutdown(struct usnet *context, int fd, int how)
{
    struct un_socket *socket = un_socket_at(context, fd);
    if (!socket)
        return -EBADF;
    if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR)
        return -EINVAL;
    if (socket->kind != UN_SOCKET_CONN || socket->connecting)
        return -ENOTCONN;
    if (how != SHUT_WR) {
        socket->read_shut = true;
        un_socket_may_be_ready(context, (uint32_t)fd);
    }
    return how == SHUT_RD ? 0 : un_stack_shutdown(un_context_stack(context), socket->conn);
}

static void close_stack_side(struct usnet *context, const struct un_socket *socket)
{
    struct un_stack *stack = un_context_stack(context);
    if (socket->kind == UN_SOCKET_CONN && socket->resets)
        un_stack_abort(stack, socket->conn);
    else if (socket->kind == UN_SOCKET_CONN)
        un_stack_close(stack, socket->conn);
    else if (socket->kind == UN_SOCKET_LISTENER)
        un_stack_unlisten(stack, socket->number);
    else if (socket->kind == UN_SOCKET_DATAGRAM && socket->number != UN_NONE)
        un_stack_udp_close(stack, socket->number);
}

int usnet_close(struct usnet *context, int fd)
{
    struct un_socket *socket = un_socket_at(context, fd);
    if (!socket)
        return -EBADF;
    if (socket->kind == UN_SOCKET_EPOLL)
        un_epoll_forget_all(context, (uint32_t)fd);
    else
        un_socket_unwatch(context, (uint32_t)fd);
    close_stack_side(context, socket);
    un_socket_free(context, fd);
    un_context_take_events(context); /* what is in the list may still name this descriptor */
    return 0;
}

int usnet_getsockname(struct usnet *context, int fd, struct sockaddr *address, uint32_t *length)
{
    const struct un_socket *socket = un_socket_at(context, fd);
    if (!socket || socket->kind == UN_SOCKET_EPOLL)
        return socket ? -ENOTSOCK : -EBADF;
    return un_peer_to_sockaddr(&socket->local, socket->domain, address, length);
}

int usnet_getpeername(struct usnet *context, int fd, struct sockaddr *address, uint32_t *length)
{
    const struct un_socket *socket = un_socket_at(context, fd);
    if (!socket || socket->kind == UN_SOCKET_EPOLL)
        return socket ? -ENOTSOCK : -EBADF;
    if ((socket->kind != UN_SOCKET_CONN || socket->connecting) && !socket->has_remote)
        return -ENOTCONN;
    return un_peer_to_sockaddr(&socket->remote, socket->domain, address, length);
}
