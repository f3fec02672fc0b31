/* The list of an epoll instance: sockets that may be ready. A socket stands in it at most once. */
#include "api/context.h"

void un_socket_unlist(struct usnet *context, uint32_t fd)
{
    struct un_socket *socket = &context->sockets[fd];
    struct un_socket *epoll = &context->sockets[socket->epoll];
    if (!socket->listed)
        return;
    *(socket->previous == UN_NONE ? &epoll->first : &context->sockets[socket->previous].next) = socket->next;
    *(socket->next == UN_NONE ? &epoll->last : &context->sockets[socket->next].previous) = socket->previous;
    epoll->count--;
    socket->listed = false;
}

static void list(struct usnet *context, uint32_t fd)
{
    struct un_socket *socket = &context->sockets[fd];
    struct un_socket *epoll = &context->sockets[socket->epoll];
    socket->next = UN_NONE;
    socket->previous = epoll->last;
    *(epoll->last == UN_NONE ? &epoll->first : &context->sockets[epoll->last].next) = fd;
    epoll->last = fd;
    epoll->count++;
    socket->listed = true;
}

void un_socket_may_be_ready(struct usnet *context, uint32_t fd, uint32_t bits)
{
    const struct un_socket *socket = &context->sockets[fd];
    bool is_wanted = bits & (socket->interest | UN_READY_ALWAYS);
    if (socket->epoll != UN_NONE && is_wanted && !socket->listed && !socket->disarmed)
        list(context, fd);
}

void un_socket_unwatch(struct usnet *context, uint32_t fd)
{
    if (context->sockets[fd].epoll == UN_NONE)
        return;
    un_socket_unlist(context, fd);
    context->sockets[fd].epoll = UN_NONE;
}

void un_epoll_forget_all(struct usnet *context, uint32_t epoll)
{
    for (uint32_t fd = 0; fd < context->socket_count; fd++)
        if (context->sockets[fd].kind != UN_SOCKET_FREE && context->sockets[fd].epoll == epoll)
            un_socket_unwatch(context, fd);
}
