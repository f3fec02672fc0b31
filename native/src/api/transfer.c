/* Bytes in and out of sockets. See usnet.h. */
#include <errno.h>

#include "api/context.h"

#define TRANSFER_MAX (1u << 30)

static uint32_t capped(uint64_t length)
{
    return length < TRANSFER_MAX ? (uint32_t)length : TRANSFER_MAX;
}

static bool is_opening(const struct un_socket *socket)
{
    return socket->connecting && !socket->over;
}

/* ---- connections ---- */

/* The error that the socket has not told yet, or what is so from then on. */
static int told_once(struct un_socket *socket, int usual)
{
    int error = un_socket_take_error(socket);
    return error ? -error : -usual;
}

/* What came before the end can still be read; then the error is told, once, and then the end of input. */
static int64_t read_stream(struct usnet *context, struct un_socket *socket, void *bytes, uint64_t most)
{
    if (is_opening(socket))
        return -EAGAIN;
    if (most == 0)
        return 0;
    int64_t status = un_stack_read(un_context_stack(context), socket->conn, bytes, capped(most));
    if (status >= 0)
        return status;
    if (socket->over)
        return -un_socket_take_error(socket);
    return socket->read_shut ? 0 : status;
}

static int64_t write_stream(struct usnet *context, struct un_socket *socket, const void *bytes, uint64_t length)
{
    if (is_opening(socket))
        return -EAGAIN;
    if (socket->over)
        return told_once(socket, EPIPE);
    struct un_piece piece = {.bytes = bytes, .length = capped(length), .frame = UN_NONE};
    return un_stack_write(un_context_stack(context), socket->conn, &piece, 1);
}

/* ---- datagrams ---- */

static int64_t send_datagram(struct usnet *context, int fd, const void *bytes, uint64_t length,
                             const struct sockaddr *address, uint32_t address_length)
{
    struct un_socket *socket = &context->sockets[fd];
    if (socket->write_shut)
        return -EPIPE;
    if (!address && !socket->has_remote)
        return -EDESTADDRREQ;
    struct un_stack_peer to = socket->remote;
    int status = address ? un_peer_from_sockaddr(&to, socket->domain, address, address_length) : 0;
    if (status == 0)
        status = un_datagram_open(context, fd);
    if (status < 0)
        return status;
    int error = un_stack_udp_take_error(un_context_stack(context), socket->number);
    if (error)
        return -error;
    return un_stack_udp_send(un_context_stack(context), socket->number, &to, bytes, capped(length));
}

static bool is_welcome(const struct un_socket *socket, const struct un_stack_peer *from)
{
    return !socket->has_remote ||
           (from->port == socket->remote.port && un_ip_equal(&from->ip, &socket->remote.ip));
}

static int64_t receive_datagram(struct usnet *context, struct un_socket *socket, void *bytes, uint64_t most,
                                struct sockaddr *address, uint32_t *address_length)
{
    struct un_stack_peer from;
    int64_t got;
    int error = un_stack_udp_take_error(un_context_stack(context), socket->number);
    if (error)
        return -error;
    do {
        got = un_stack_udp_receive(un_context_stack(context), socket->number, &from, bytes, capped(most));
    } while (got >= 0 && !is_welcome(socket, &from));
    if (got >= 0 && address)
        un_peer_to_sockaddr(&from, socket->domain, address, address_length);
    return got;
}

/* ---- the calls ---- */

int64_t usnet_recvfrom(struct usnet *context, int fd, void *bytes, uint64_t most, struct sockaddr *address,
                       uint32_t *address_length)
{
    struct un_socket *socket;
    uint8_t nothing;
    int status = un_socket_find(context, fd, &socket);
    if (status < 0)
        return status;
    if ((!bytes && most > 0) || (address && !address_length))
        return -EFAULT;
    bytes = bytes ? bytes : &nothing;
    if (socket->kind == UN_SOCKET_CONN) {
        int64_t got = read_stream(context, socket, bytes, most);
        if (got >= 0 && address)
            *address_length = 0; /* who it came from is known */
        return got;
    }
    if (socket->kind != UN_SOCKET_DATAGRAM)
        return told_once(socket, ENOTCONN);
    return socket->number == UN_NONE ? -EAGAIN
                                     : receive_datagram(context, socket, bytes, most, address, address_length);
}

int64_t usnet_sendto(struct usnet *context, int fd, const void *bytes, uint64_t length, const struct sockaddr *address,
                     uint32_t address_length)
{
    struct un_socket *socket;
    int status = un_socket_find(context, fd, &socket);
    if (status < 0)
        return status;
    if (!bytes && length > 0)
        return -EFAULT;
    bytes = bytes ? bytes : "";
    if (socket->kind == UN_SOCKET_DATAGRAM)
        return send_datagram(context, fd, bytes, length, address, address_length);
    if (socket->kind != UN_SOCKET_CONN)
        return told_once(socket, EPIPE);
    return address ? -EISCONN : write_stream(context, socket, bytes, length);
}

int64_t usnet_read(struct usnet *context, int fd, void *bytes, uint64_t most)
{
    return usnet_recvfrom(context, fd, bytes, most, NULL, NULL);
}

int64_t usnet_write(struct usnet *context, int fd, const void *bytes, uint64_t length)
{
    return usnet_sendto(context, fd, bytes, length, NULL, 0);
}
