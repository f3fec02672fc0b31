/* See listeners.h. */
#include "engine/listeners.h"

#include <errno.h>
#include <sys/socket.h>

/* UN_NO_LISTENER where the number is free. */
static int32_t fd_of(const struct un_engine *engine, uint32_t number)
{
    return engine->own->listeners[number].fd;
}

static int option_of(int fd, int option)
{
    int value = 0;
    socklen_t length = sizeof value;
    getsockopt(fd, SOL_SOCKET, option, &value, &length);
    return value;
}

static bool resets_on_close(int fd)
{
    struct linger linger = {0};
    socklen_t length = sizeof linger;
    getsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, &length);
    return linger.l_onoff && linger.l_linger == 0;
}

static uint32_t lacks(const struct un_engine *engine, int fd)
{
    bool keeps = engine->options->keep_idle_s == 0 || option_of(fd, SO_KEEPALIVE);
    if (option_of(fd, SO_DOMAIN) == AF_UNIX)
        return UN_LACKS_URGENT_INLINE; /* and cannot reset */
    return (resets_on_close(fd) ? 0 : UN_LACKS_RESET_ON_CLOSE) |
           (option_of(fd, SO_OOBINLINE) ? 0 : UN_LACKS_URGENT_INLINE) | (keeps ? 0 : UN_LACKS_KEEPALIVE);
}

int un_listeners_add(struct un_engine *engine, int fd)
{
    un_assert(fd >= 0);
    for (uint32_t number = 0; number < UN_LISTENERS_MAX; number++) {
        if (fd_of(engine, number) != UN_NO_LISTENER)
            continue;
        engine->own->listeners[number].lacks = lacks(engine, fd);
        un_compiler_fence(); /* what is found in the table is whole */
        engine->own->listeners[number].fd = fd;
        return (int)number;
    }
    return -ENOSPC;
}

void un_listeners_remove(struct un_engine *engine, uint32_t number)
{
    un_assert(number < UN_LISTENERS_MAX && fd_of(engine, number) != UN_NO_LISTENER);
    engine->own->listeners[number].fd = UN_NO_LISTENER;
}

static bool is_given(const struct un_engine *engine, int fd)
{
    for (uint32_t i = 0; i < engine->setup.listener_count; i++)
        if (engine->setup.listeners[i] == fd)
            return true;
    return false;
}

static bool is_known(const struct un_engine *engine, int fd)
{
    for (uint32_t number = 0; number < UN_LISTENERS_MAX; number++)
        if (fd_of(engine, number) == fd)
            return true;
    return false;
}

void un_listeners_start(struct un_engine *engine)
{
    for (uint32_t number = 0; number < UN_LISTENERS_MAX; number++)
        if (fd_of(engine, number) != UN_NO_LISTENER && !is_given(engine, fd_of(engine, number)))
            un_listeners_remove(engine, number);
    for (uint32_t i = 0; i < engine->setup.listener_count; i++)
        if (!is_known(engine, engine->setup.listeners[i]))
            un_assert(un_listeners_add(engine, engine->setup.listeners[i]) >= 0); /* the table has room for a setup */
}
