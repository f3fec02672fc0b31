/* See watch.h. */
#include "engine/watch.h"

#include <errno.h>
#include <sys/epoll.h>

#include "base/wake.h"

UN_STATIC_ASSERT(UN_ENGINE_WATCH_OTHER == UN_WATCHED(UN_WATCHED_OTHER, 0), "one number, two names");

int un_watch(struct un_engine *engine, int fd, uint32_t events, uint64_t what)
{
    struct epoll_event event = {.events = events, .data.u64 = what};
    int status = epoll_ctl(engine->setup.epoll_fd, EPOLL_CTL_ADD, fd, &event);
    return status < 0 && errno != EEXIST ? -errno : 0;
}

int un_watch_for(struct un_engine *engine, int fd, uint32_t events, uint64_t what)
{
    struct epoll_event event = {.events = events, .data.u64 = what};
    return epoll_ctl(engine->setup.epoll_fd, EPOLL_CTL_MOD, fd, &event) < 0 ? -errno : 0;
}

void un_watch_handle(struct un_engine *engine, uint64_t what)
{
    uint32_t port = UN_WATCHED_NUMBER(what);
    if (UN_WATCHED_KIND(what) == UN_WATCHED_CONTROL)
        engine->requests_wait = true;
    else if (UN_WATCHED_KIND(what) == UN_WATCHED_WAKE)
        un_wake_heard(engine->setup.wake_fds[port], &engine->heard[port]);
}

int un_watch_start(struct un_engine *engine)
{
    int status = 0;
    for (uint32_t port = 0; port < un_port_count(engine->config) && status == 0; port++) {
        if (engine->setup.wake_fds[port] < 0 || !engine->setup.ports[port])
            continue;
        un_wake_drain(engine->setup.wake_fds[port]);
        status = un_watch(engine, engine->setup.wake_fds[port], EPOLLIN | EPOLLET, UN_WATCHED(UN_WATCHED_WAKE, port));
    }
    if (status == 0 && engine->setup.control_fd >= 0)
        status = un_watch(engine, engine->setup.control_fd, EPOLLIN, UN_WATCHED(UN_WATCHED_CONTROL, 0));
    return status;
}
