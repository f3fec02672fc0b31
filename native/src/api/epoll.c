/* epoll over sockets of the stack: level and edge triggered, one-shot. See usnet.h.
 *
 * An instance has a list of those that may be ready. An event of the stack puts a socket there; waiting asks each what
 * is true now. A level-triggered one that was ready stays, at the end, so that all have their turn; an edge-triggered
 * one leaves until the next event. */
#include <errno.h>
#include <poll.h>
#include <time.h>

#include "api/context.h"

#define BITS ((uint32_t)USN_EPOLLIN | USN_EPOLLOUT | USN_EPOLLRDHUP | UN_READY_ALWAYS)

int usnet_epoll_create(struct usnet *context)
{
    return un_socket_new(context, UN_SOCKET_EPOLL);
}

static int watch(struct usnet *context, uint32_t epoll, uint32_t fd, const struct usnet_epoll_event *event)
{
    struct un_socket *socket = &context->sockets[fd];
    if (!event)
        return -EFAULT;
    if (event->events & ~(BITS | USN_EPOLLONESHOT | (uint32_t)USN_EPOLLET))
        return -EINVAL;
    if (socket->listed)
        un_socket_unlist(context, fd);
    socket->epoll = epoll;
    socket->interest = event->events;
    socket->data = event->data;
    socket->disarmed = false;
    un_socket_may_be_ready(context, fd, UN_READY_ANY);
    return 0;
}

int usnet_epoll_ctl(struct usnet *context, int epoll_fd, int operation, int fd, const struct usnet_epoll_event *event)
{
    const struct un_socket *epoll = un_socket_at(context, epoll_fd);
    const struct un_socket *socket = un_socket_at(context, fd);
    if (!epoll || !socket)
        return -EBADF;
    if (epoll->kind != UN_SOCKET_EPOLL || socket->kind == UN_SOCKET_EPOLL)
        return -EINVAL;
    bool is_watched = socket->epoll == (uint32_t)epoll_fd;
    switch (operation) {
    case USN_EPOLL_CTL_ADD:
        return socket->epoll == UN_NONE ? watch(context, (uint32_t)epoll_fd, (uint32_t)fd, event) : -EEXIST;
    case USN_EPOLL_CTL_MOD:
        return is_watched ? watch(context, (uint32_t)epoll_fd, (uint32_t)fd, event) : -ENOENT;
    case USN_EPOLL_CTL_DEL:
        if (is_watched)
            un_socket_unwatch(context, (uint32_t)fd);
        return is_watched ? 0 : -ENOENT;
    default:
        return -EINVAL;
    }
}

/* Ask each that may be ready, once. */
static int collect(struct usnet *context, uint32_t epoll, struct usnet_epoll_event *events, int most)
{
    int found = 0;
    for (uint32_t left = context->sockets[epoll].count; left > 0 && found < most; left--) {
        uint32_t fd = context->sockets[epoll].first;
        struct un_socket *socket = &context->sockets[fd];
        uint32_t ready = un_socket_ready(context, socket) & ((socket->interest & BITS) | UN_READY_ALWAYS);
        un_socket_unlist(context, fd);
        if (ready == 0)
            continue;
        events[found++] = (struct usnet_epoll_event){.events = ready, .data = socket->data};
        socket->disarmed = socket->interest & USN_EPOLLONESHOT;
        if (!(socket->interest & (uint32_t)USN_EPOLLET))
            un_socket_may_be_ready(context, fd, UN_READY_ANY);
    }
    return found;
}

/* Sleep for frames, for a timer of the stack, or until timeout_ns have passed. 1: look again; 0: nothing can come;
 * -EINTR. */
static int sleep_for(struct usnet *context, uint64_t now_ns, uint64_t timeout_ns)
{
    struct un_device *device = context->stack.device;
    if (!device->operations->sleep(device))
        return 1;
    uint64_t deadline_ns = un_stack_deadline_ns(un_context_stack(context));
    uint64_t wait_ns = deadline_ns <= now_ns ? 0 : deadline_ns - now_ns;
    bool has_timer = deadline_ns != UINT64_MAX;
    int wait_fd = un_device_wait_fd(device);
    if (wait_fd < 0 && !has_timer)
        return 0;
    wait_ns = wait_ns < timeout_ns ? wait_ns : timeout_ns;
    struct timespec wait = {.tv_sec = (time_t)(wait_ns / UN_SECOND_NS), .tv_nsec = (long)(wait_ns % UN_SECOND_NS)};
    if (wait_fd < 0)
        return nanosleep(&wait, NULL) < 0 ? -EINTR : 1;
    struct pollfd watched = {.fd = wait_fd, .events = POLLIN};
    bool endless = !has_timer && timeout_ns == UINT64_MAX;
    return ppoll(&watched, 1, endless ? NULL : &wait, NULL) < 0 && errno == EINTR ? -EINTR : 1;
}

int usnet_epoll_wait(struct usnet *context, int epoll_fd, struct usnet_epoll_event *events, int most, int timeout_ms)
{
    const struct un_socket *epoll = un_socket_at(context, epoll_fd);
    if (!epoll)
        return -EBADF;
    if (epoll->kind != UN_SOCKET_EPOLL || most <= 0)
        return -EINVAL;
    if (!events)
        return -EFAULT;
    uint64_t end_ns = 0;
    for (bool is_first = true;; is_first = false) {
        usnet_poll(context);
        int found = collect(context, (uint32_t)epoll_fd, events, most);
        if (found > 0 || timeout_ms == 0 || context->clock_ns)
            return found;
        uint64_t now_ns = un_context_stack(context)->tcp.now_ns;
        if (is_first)
            end_ns = timeout_ms < 0 ? UINT64_MAX : now_ns + (uint64_t)timeout_ms * UN_MS_NS;
        if (now_ns >= end_ns)
            return 0;
        int status = sleep_for(context, now_ns, end_ns == UINT64_MAX ? UINT64_MAX : end_ns - now_ns);
        if (status <= 0)
            return status;
    }
}
