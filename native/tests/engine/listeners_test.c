/* The table of listeners: numbers stay while listeners come and go (engine/listeners.h). */
#include "engine/listeners.h"

#include <errno.h>
#include <stdlib.h>

#include "check.h"

static struct un_private own;
static struct un_engine_options options;
static struct un_engine engine = {.own = &own, .options = &options};

static void start(const int *fds, uint32_t count)
{
    engine.setup.listener_count = count;
    for (uint32_t i = 0; i < count; i++)
        engine.setup.listeners[i] = fds[i];
    un_listeners_start(&engine);
}

static void empty(void)
{
    for (uint32_t number = 0; number < UN_LISTENERS_MAX; number++)
        own.listeners[number].fd = UN_NO_LISTENER;
}

static void numbers_are_kept_from_one_engine_to_the_next(void)
{
    empty();
    start((const int[]){10, 11, 12}, 3);
    CHECK_EQ(own.listeners[1].fd, 11);
    start((const int[]){12, 13, 11}, 3);
    CHECK_EQ(own.listeners[0].fd, 13);
    CHECK_EQ(own.listeners[1].fd, 11);
    CHECK_EQ(own.listeners[2].fd, 12);
    CHECK_EQ(own.listeners[3].fd, UN_NO_LISTENER);
}

static void a_full_table_takes_no_more(void)
{
    empty();
    for (int fd = 0; fd < (int)UN_LISTENERS_MAX; fd++)
        CHECK_EQ(un_listeners_add(&engine, fd), fd);
    CHECK_EQ(un_listeners_add(&engine, 100), -ENOSPC);
    un_listeners_remove(&engine, 7);
    CHECK_EQ(un_listeners_add(&engine, 100), 7);
}

int main(void)
{
    RUN(numbers_are_kept_from_one_engine_to_the_next);
    RUN(a_full_table_takes_no_more);
    return 0;
}
