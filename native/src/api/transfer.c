/* Bytes in and out of sockets, and whether they are ready for it. See usnet.h. */
#include <errno.h>

#include "api/context.h"

#define TRANSFER_MAX (1u << 30)

static uint32_t capped(uint64_t length)
{
    return length < TRANSFER_MAX ? (uint32_t)length : TRANSFER_MAX;
}

/* The socket as one that bytes can go through, or NULL with the reason in *status. */
static struct un_socket *connected(struct usnet *context, int fd, int64_t *status)
{
    struct un_socket *socket = un_socket_at(context, fd);
    *status = -EBADF;
    if (!socket)
        return NULL;
    *status = socket->kind == UN_SOCKET_EPOLL ? -EINVAL : -ENOTCONN;
    if (socket->kind == UN_SOCKET_CONN)
        *status = socket->connecting ? -EAGAIN : 0;
    return *status == 0 ? socket : NULL;
}

/* A pending error is told once; after it, what the stack says of a connection that is over. */
static int64_t told(struct un_socket *socket, int64_t status)
{
    if (status >= 0 || status == -EAGAIN || socket->error == 0)
        return status;
    status = -socket->error;
    socket->error = 0;
    return status;
}

int64_t usnet_read(struct usnet *context, int fd, void *bytes, uint64_t most)
{
    int64_t status;
    struct un_socket *socket = connected(context, fd, &status);
    if (!socket) {
        const struct un_socket *datagram = un_socket_at(context, fd);
        if (datagram && datagram->kind == UN_SOCKET_DATAGRAM)
            return usnet_recvfrom(context, fd, bytes, most, NULL, NULL);
        return status;
    }
    if (socket->read_shut || most == 0)
        return 0;
    return told(socket, un_stack_read(un_context_stack(context), socket->conn, bytes, capped(most)));
}

int64_t usnet_write(struct usnet *context, int fd, const void *bytes, uint64_t length)
{
    int64_t status;
    struct un_socket *socket = connected(context, fd, &status);
    if (!socket) {
        const struct un_socket *datagram = un_socket_at(context, fd);
        if (datagram && datagram->kind == UN_SOCKET_DATAGRAM)
            return usnet_sendto(context, fd, bytes, length, NULL, 0);
        return status;
    }
    struct un_piece piece = {.bytes = bytes, .length = capped(length), .frame = UN_NONE};
    return length == 0 ? 0 : told(socket, un_stack_write(un_context_stack(context), socket->conn, &piece, 1));
}

/* A datagram socket, with an endpoint of the stack. */
static struct un_socket *datagram(struct usnet *context, int fd, int64_t *status)
{
    struct un_socket *socket = un_socket_at(context, fd);
    *status = socket ? -EOPNOTSUPP : -EBADF;
    if (!socket || socket->kind != UN_SOCKET_DATAGRAM)
        return NULL;
    *status = 0;
    if (socket->number == UN_NONE) {
        int number = un_stack_udp_open(un_context_stack(context), &socket->local, (uint64_t)fd);
        *status = number < 0 ? number : 0;
        socket->number = number < 0 ? UN_NONE : (uint32_t)number;
        socket->bound = number >= 0;
    }
    return *status == 0 ? socket : NULL;
}

int64_t usnet_sendto(struct usnet *context, int fd, const void *bytes, uint64_t length, const struct sockaddr *address,
                     uint32_t address_length)
{
    int64_t status;
    const struct un_socket *stream = un_socket_at(context, fd);
    if (stream && stream->kind != UN_SOCKET_DATAGRAM)
        return address ? -EISCONN : usnet_write(context, fd, bytes, length);
    struct un_socket *socket = datagram(context, fd, &status);
    if (!socket)
        return status;
    struct un_stack_peer to = socket->remote;
    if (address && (status = un_peer_from_sockaddr(&to, socket->domain, address, address_length)) < 0)
        return status;
    if (!address && !socket->has_remote)
        return -EDESTADDRREQ;
    return un_stack_udp_send(un_context_stack(context), socket->number, &to, bytes, capped(length));
}

int64_t usnet_recvfrom(struct usnet *context, int fd, void *bytes, uint64_t most, struct sockaddr *address,
                       uint32_t *address_length)
{
    int64_t status;
    const struct un_socket *stream = un_socket_at(context, fd);
    if (stream && stream->kind != UN_SOCKET_DATAGRAM)
        return usnet_read(context, fd, bytes, most);
    struct un_socket *socket = datagram(context, fd, &status);
    if (!socket)
        return status;
    struct un_stack_peer from;
    do {
        status = un_stack_udp_receive(un_context_stack(context), socket->number, &from, bytes, capped(most));
        if (status < 0)
            return status;
    } while (socket->has_remote && (from.port != socket->remote.port || !un_ip_equal(&from.ip, &socket->remote.ip)));
    un_peer_to_sockaddr(&from, socket->domain, address, address_length);
    return (uint64_t)status < most ? status : (int64_t)most;
}

/* Readiness. */

static uint32_t readable(struct usnet *context, const struct un_socket *socket, const struct un_tcb *tcb)
{
    struct un_piece piece;
    int found = un_stack_peek(un_context_stack(context), socket->conn, &piece, 1);
    uint32_t ready = found >= 0 || found != -EAGAIN || socket->read_shut ? USN_EPOLLIN : 0;
    if ((tcb->flags & UN_TCB_FIN_RECEIVED) || socket->read_shut)
        ready |= USN_EPOLLRDHUP;
    return ready;
}

static uint32_t writable(struct usnet *context, struct un_tcb *tcb)
{
    bool may_write = (tcb->state & UN_TCP_CAN_SEND) && !(tcb->flags & UN_TCB_FIN_QUEUED);
    if (!may_write || un_tcp_write_room(&un_context_stack(context)->tcp, tcb) > 0)
        return USN_EPOLLOUT; /* also where a write would fail at once */
    tcb->flags |= UN_TCB_WANT_WRITE;
    return 0;
}

static bool is_shut_both_ways(const struct un_tcb *tcb)
{
    return (tcb->flags & UN_TCB_FIN_RECEIVED) && (tcb->flags & UN_TCB_FIN_QUEUED);
}

static uint32_t conn_ready(struct usnet *context, const struct un_socket *socket)
{
    struct un_tcb *tcb = un_stack_conn(un_context_stack(context), socket->conn);
    uint32_t error = socket->error ? USN_EPOLLERR : 0;
    if (!tcb || socket->over)
        return error | USN_EPOLLHUP | USN_EPOLLRDHUP | USN_EPOLLIN | USN_EPOLLOUT;
    if (socket->connecting)
        return error;
    uint32_t ready = error | readable(context, socket, tcb) | writable(context, tcb);
    return is_shut_both_ways(tcb) ? ready | USN_EPOLLHUP : ready;
}

uint32_t un_socket_ready(struct usnet *context, const struct un_socket *socket)
{
    switch (socket->kind) {
    case UN_SOCKET_CONN:
        return conn_ready(context, socket);
    case UN_SOCKET_LISTENER:
        return socket->pending_count > 0 ? USN_EPOLLIN : 0;
    case UN_SOCKET_DATAGRAM:
        return USN_EPOLLOUT |
               (un_stack_udp_waiting(un_context_stack(context), socket->number) ? USN_EPOLLIN : 0);
    default:
        return USN_EPOLLHUP | USN_EPOLLOUT; /* as the system says of a socket that was never connected */
    }
}
