/* See listeners.h. */
#include "engine/listeners.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

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

static void put(struct un_engine *engine, uint32_t number, int fd)
{
    engine->own->listeners[number].lacks = lacks(engine, fd);
    un_compiler_fence(); /* what is found in the table is whole */
    engine->own->listeners[number].fd = fd;
}

void un_listeners_begin(struct un_engine *engine)
{
    for (uint32_t number = 0; number < UN_LISTENERS_MAX; number++)
        engine->own->listeners[number].fd = UN_NO_LISTENER;
    for (uint32_t number = 0; number < engine->setup.listener_count; number++)
        put(engine, number, engine->setup.listeners[number]);
}

static bool is_one_socket(int fd, int other)
{
    struct stat one, two;
    return fstat(fd, &one) == 0 && fstat(other, &two) == 0 && one.st_dev == two.st_dev && one.st_ino == two.st_ino;
}

int un_listeners_add(struct un_engine *engine, uint32_t number, int fd)
{
    un_assert(number < UN_LISTENERS_MAX);
    if (!option_of(fd, SO_ACCEPTCONN))
        return -EINVAL;
    if (fd_of(engine, number) == UN_NO_LISTENER) {
        put(engine, number, fd);
        return 0;
    }
    if (!is_one_socket(fd_of(engine, number), fd))
        return -EEXIST;
    close(fd);
    return 0;
}

int un_listeners_remove(struct un_engine *engine, uint32_t number)
{
    un_assert(number < UN_LISTENERS_MAX);
    int fd = fd_of(engine, number);
    engine->own->listeners[number].fd = UN_NO_LISTENER;
    return fd;
}
