/* See hand.h. */
#include "engine/hand.h"

#include <unistd.h>

UN_STATIC_ASSERT(offsetof(struct un_hand, fd) == CMSG_LEN(0) && sizeof(struct un_hand) >= CMSG_SPACE(sizeof(int)),
                 "the kernel puts the number there");

void un_hand_take(struct un_engine *engine, int fd)
{
    un_assert(engine->own->hand.fd == 0);
    engine->own->hand.fd = fd;
    un_compiler_fence();
}

void un_hand_leave(struct un_engine *engine)
{
    un_compiler_fence();
    engine->own->hand.fd = 0;
}

void un_hand_close(struct un_engine *engine)
{
    close(engine->own->hand.fd);
    un_hand_leave(engine);
}

static bool is_noted(const struct un_private *own, int fd)
{
    if (own->capturing.fd == (uint32_t)fd + 1)
        return true;
    for (uint32_t number = 0; number < UN_LISTENERS_MAX; number++)
        if (own->listeners[number].fd == fd)
            return true;
    return false;
}

void un_hand_settle(struct un_engine *engine)
{
    int fd = engine->own->hand.fd;
    if (fd > STDERR_FILENO && !is_noted(engine->own, fd))
        close(fd);
    un_hand_leave(engine);
}
