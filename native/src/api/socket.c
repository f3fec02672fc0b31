/* The exported symbols of what an application does with a stack: listeners, connections, UDP. See usnet.h. */
#include <errno.h>

#include "api/view.h"

UN_API_SAME(USNET_EVENT_ACCEPTED, UN_TCP_EVENT_ACCEPTED);
UN_API_SAME(USNET_EVENT_CONNECTED, UN_TCP_EVENT_CONNECTED);
UN_API_SAME(USNET_EVENT_READABLE, UN_TCP_EVENT_READABLE);
UN_API_SAME(USNET_EVENT_EOF, UN_TCP_EVENT_EOF);
UN_API_SAME(USNET_EVENT_WRITABLE, UN_TCP_EVENT_WRITABLE);
UN_API_SAME(USNET_EVENT_CLOSED, UN_TCP_EVENT_CLOSED);
UN_API_SAME(USNET_OPTION_NODELAY, UN_OPTION_NODELAY);
UN_API_SAME(USNET_OPTION_TOS, UN_OPTIONS - 1);

#define PIECES_MAX 64u

int usnet_stack_listen(struct usnet_stack *stack, const struct usnet_endpoint *local, uint32_t backlog, uint64_t user)
{
    if (!stack || !local)
        return -EFAULT;
    struct un_ip ip = un_api_ip(local);
    return un_stack_listen(&stack->inner, &ip, local->port, backlog, user);
}

int usnet_stack_unlisten(struct usnet_stack *stack, uint32_t listener)
{
    if (!stack)
        return -EFAULT;
    return un_stack_unlisten(&stack->inner, listener);
}

int usnet_stack_pause_listener(struct usnet_stack *stack, uint32_t listener, bool paused)
{
    if (!stack)
        return -EFAULT;
    return un_stack_pause_listener(&stack->inner, listener, paused);
}

int usnet_stack_accept(struct usnet_stack *stack, uint64_t conn, uint64_t user)
{
    if (!stack)
        return -EFAULT;
    return un_stack_accept(&stack->inner, conn, user);
}

int usnet_stack_connect(struct usnet_stack *stack, const struct usnet_endpoint *remote,
                        const struct usnet_endpoint *local, uint64_t user, uint64_t *conn)
{
    if (!stack || !remote || !conn)
        return -EFAULT;
    static const struct usnet_endpoint any;
    struct un_stack_peer to = un_api_peer(remote);
    struct un_stack_peer from = un_api_peer(local ? local : &any);
    return un_stack_connect(&stack->inner, &to, &from, user, conn);
}

int64_t usnet_stack_write(struct usnet_stack *stack, uint64_t conn, const void *bytes, uint32_t length)
{
    if (!stack || (!bytes && length > 0))
        return -EFAULT;
    struct un_piece piece = {.bytes = bytes, .length = length, .frame = UN_NONE};
    return un_stack_write(&stack->inner, conn, &piece, 1);
}

int64_t usnet_stack_read(struct usnet_stack *stack, uint64_t conn, void *bytes, uint32_t most)
{
    if (!stack || (!bytes && most > 0))
        return -EFAULT;
    return un_stack_read(&stack->inner, conn, bytes, most);
}

int usnet_stack_peek(struct usnet_stack *stack, uint64_t conn, struct usnet_piece *pieces, uint32_t most)
{
    if (!stack || (!pieces && most > 0))
        return -EFAULT;
    struct un_piece found[PIECES_MAX];
    int count = un_stack_peek(&stack->inner, conn, found, (int)(most < PIECES_MAX ? most : PIECES_MAX));
    for (int i = 0; i < count; i++)
        pieces[i] = (struct usnet_piece){.bytes = found[i].bytes, .length = found[i].length};
    return count;
}

int usnet_stack_consume(struct usnet_stack *stack, uint64_t conn, uint32_t bytes)
{
    if (!stack)
        return -EFAULT;
    return un_stack_consume(&stack->inner, conn, bytes);
}

int usnet_stack_shutdown(struct usnet_stack *stack, uint64_t conn)
{
    if (!stack)
        return -EFAULT;
    return un_stack_shutdown(&stack->inner, conn);
}

int usnet_stack_close(struct usnet_stack *stack, uint64_t conn)
{
    if (!stack)
        return -EFAULT;
    return un_stack_close(&stack->inner, conn);
}

int usnet_stack_abort(struct usnet_stack *stack, uint64_t conn)
{
    if (!stack)
        return -EFAULT;
    return un_stack_abort(&stack->inner, conn);
}

int usnet_stack_set_user(struct usnet_stack *stack, uint64_t conn, uint64_t user)
{
    if (!stack)
        return -EFAULT;
    return un_stack_set_user(&stack->inner, conn, user);
}

int usnet_stack_set_option(struct usnet_stack *stack, uint64_t conn, uint32_t option, uint32_t value)
{
    if (!stack)
        return -EFAULT;
    if (option >= UN_OPTIONS)
        return -ENOPROTOOPT;
    return un_stack_set_option(&stack->inner, conn, (enum un_stack_option)option, value);
}

int usnet_stack_get_option(struct usnet_stack *stack, uint64_t conn, uint32_t option, uint32_t *value)
{
    if (!stack || !value)
        return -EFAULT;
    if (option >= UN_OPTIONS)
        return -ENOPROTOOPT;
    return un_stack_get_option(&stack->inner, conn, (enum un_stack_option)option, value);
}

/* UDP. */

int usnet_stack_udp_open(struct usnet_stack *stack, const struct usnet_endpoint *local, uint64_t user)
{
    if (!stack || !local)
        return -EFAULT;
    struct un_stack_peer at = un_api_peer(local);
    return un_stack_udp_open(&stack->inner, &at, user);
}

int usnet_stack_udp_close(struct usnet_stack *stack, uint32_t endpoint)
{
    if (!stack)
        return -EFAULT;
    return un_stack_udp_close(&stack->inner, endpoint);
}

int64_t usnet_stack_udp_send(struct usnet_stack *stack, uint32_t endpoint, const struct usnet_endpoint *to,
                             const void *bytes, uint32_t length)
{
    if (!stack || !to || (!bytes && length > 0))
        return -EFAULT;
    struct un_stack_peer peer = un_api_peer(to);
    return un_stack_udp_send(&stack->inner, endpoint, &peer, bytes, length);
}

int64_t usnet_stack_udp_receive(struct usnet_stack *stack, uint32_t endpoint, struct usnet_endpoint *from, void *bytes,
                                uint32_t most)
{
    if (!stack || (!bytes && most > 0))
        return -EFAULT;
    struct un_stack_peer peer;
    int64_t length = un_stack_udp_receive(&stack->inner, endpoint, &peer, bytes, most);
    if (length >= 0 && from)
        *from = un_api_endpoint(&peer);
    return length;
}
