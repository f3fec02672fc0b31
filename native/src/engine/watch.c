/* See watch.h. */
#include "engine/watch.h"

#include <errno.h>
#include <sys/epoll.h>

UN_STATIC_ASSERT(UN_ENGINE_WATCH_OTHER == UN_WATCHED(UN_WATCHED_OTHER, 0), "one number, two names");

int un_watch(struct un_engine *engine, int fd, uint32_t events, uint64_t what)
{
    struct epoll_event event = {.events = events, .data.u64 = what};
    int status = epoll_ctl(engine->setup.epoll_fd, EPOLL_CTL_ADD, fd, &event);
    return status < 0 && errno != EEXIST ? -errno : 0;
}

int un_watch_start(struct un_engine *engine)
{
    int status = 0;
    if (engine->setup.wake_fd >= 0)
        status = un_watch(engine, engine->setup.wake_fd, EPOLLIN | EPOLLET, UN_WATCHED(UN_WATCHED_WAKE, 0));
    if (status == 0 && engine->setup.control_fd >= 0)
        status = un_watch(engine, engine->setup.control_fd, EPOLLIN, UN_WATCHED(UN_WATCHED_CONTROL, 0));
    return status;
}
