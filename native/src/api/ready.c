/* What a socket is ready for at this moment: the bits that the kernel's poll gives in the same situation. */
#include <errno.h>

#include "api/context.h"

static uint32_t readable(struct usnet *context, const struct un_socket *socket, const struct un_tcb *tcb)
{
    if ((tcb->flags & UN_TCB_FIN_RECEIVED) || socket->read_shut)
        return USN_EPOLLIN | USN_EPOLLRDHUP;
    struct un_piece piece;
    return un_stack_peek(un_context_stack(context), socket->conn, &piece, 1) > 0 ? USN_EPOLLIN : 0;
}

/* Also true where a write would fail at once. After a write that was taken in part there is no room until the stack
 * says so; otherwise each byte of room would wake the waiters. */
static uint32_t writable(struct usnet *context, const struct un_socket *socket, struct un_tcb *tcb)
{
    if (!(tcb->state & UN_TCP_CAN_SEND) || socket->write_shut)
        return USN_EPOLLOUT;
    if (tcb->flags & UN_TCB_WANT_WRITE)
        return 0;
    if (un_tcp_write_room(&un_context_stack(context)->tcp, tcb) > 0)
        return USN_EPOLLOUT;
    tcb->flags |= UN_TCB_WANT_WRITE;
    return 0;
}

static uint32_t conn_ready(struct usnet *context, const struct un_socket *socket)
{
    struct un_tcb *tcb = un_stack_conn_find(un_context_stack(context), socket->conn);
    uint32_t error = socket->error ? USN_EPOLLERR : 0;
    if (socket->over)
        return error | USN_EPOLLHUP | USN_EPOLLRDHUP | USN_EPOLLIN | USN_EPOLLOUT;
    if (socket->connecting)
        return 0;
    uint32_t ready = readable(context, socket, tcb) | writable(context, socket, tcb);
    return (ready & USN_EPOLLRDHUP) && socket->write_shut ? ready | USN_EPOLLHUP : ready;
}

static uint32_t datagram_ready(struct usnet *context, const struct un_socket *socket)
{
    struct un_stack *stack = un_context_stack(context);
    uint32_t ended = socket->read_shut ? USN_EPOLLIN | USN_EPOLLRDHUP | (socket->write_shut ? USN_EPOLLHUP : 0u) : 0;
    if (socket->number == UN_NONE)
        return USN_EPOLLOUT;
    return ended | (un_stack_udp_error(stack, socket->number) ? USN_EPOLLERR : 0u) |
           (un_stack_udp_may_send(stack, socket->number) ? USN_EPOLLOUT : 0u) |
           (un_stack_udp_waiting(stack, socket->number) ? USN_EPOLLIN : 0u);
}

uint32_t un_socket_ready(struct usnet *context, const struct un_socket *socket)
{
    switch (socket->kind) {
    case UN_SOCKET_CONN:
        return conn_ready(context, socket);
    case UN_SOCKET_LISTENER:
        return un_stack_accept_next(un_context_stack(context), socket->number) ? USN_EPOLLIN : 0;
    case UN_SOCKET_DATAGRAM:
        return datagram_ready(context, socket);
    default:
        return USN_EPOLLHUP | USN_EPOLLOUT | (socket->error ? USN_EPOLLERR : 0u); /* not connected */
    }
}
