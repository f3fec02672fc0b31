/* See listeners.h. */
#include "engine/listeners.h"

#include <errno.h>

static int32_t *fds(struct un_engine *engine)
{
    return engine->own->listener_fds;
}

int un_listeners_add(struct un_engine *engine, int fd)
{
    un_assert(fd >= 0);
    for (int number = 0; number < UN_LISTENERS_MAX; number++) {
        if (fds(engine)[number] != UN_NO_LISTENER)
            continue;
        fds(engine)[number] = fd;
        return number;
    }
    return -ENOSPC;
}

void un_listeners_remove(struct un_engine *engine, uint32_t number)
{
    un_assert(number < UN_LISTENERS_MAX && fds(engine)[number] != UN_NO_LISTENER);
    fds(engine)[number] = UN_NO_LISTENER;
}

static bool is_given(const struct un_engine *engine, int fd)
{
    for (uint32_t i = 0; i < engine->setup.listener_count; i++)
        if (engine->setup.listeners[i] == fd)
            return true;
    return false;
}

static bool is_known(struct un_engine *engine, int fd)
{
    for (uint32_t number = 0; number < UN_LISTENERS_MAX; number++)
        if (fds(engine)[number] == fd)
            return true;
    return false;
}

void un_listeners_start(struct un_engine *engine)
{
    for (uint32_t number = 0; number < UN_LISTENERS_MAX; number++)
        if (fds(engine)[number] != UN_NO_LISTENER && !is_given(engine, fds(engine)[number]))
            un_listeners_remove(engine, number);
    for (uint32_t i = 0; i < engine->setup.listener_count; i++)
        if (!is_known(engine, engine->setup.listeners[i]))
            un_assert(un_listeners_add(engine, engine->setup.listeners[i]) >= 0); /* the table has room for a setup */
}
