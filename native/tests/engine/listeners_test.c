/* The table of listeners: numbers stay while listeners come and go (engine/listeners.h). */
#include "engine/listeners.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"

static struct un_private own;
static struct un_engine_options options;
static struct un_engine engine = {.own = &own, .options = &options};

static int listening(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    CHECK_EQ(bind(fd, &(struct sockaddr){.sa_family = AF_UNIX}, sizeof(sa_family_t)), 0); /* any abstract name */
    CHECK_EQ(listen(fd, 1), 0);
    return fd;
}

static void begin(uint32_t count)
{
    engine.setup.listener_count = count;
    for (uint32_t i = 0; i < count; i++)
        engine.setup.listeners[i] = listening();
    un_listeners_begin(&engine);
}

static void end(void)
{
    for (uint32_t number = 0; number < UN_LISTENERS_MAX; number++)
        if (own.listeners[number].fd != UN_NO_LISTENER)
            close(un_listeners_remove(&engine, number));
}

static bool is_open(int fd)
{
    return dup2(fd, fd) == fd;
}

static void the_first_engine_numbers_those_of_its_setup(void)
{
    begin(3);
    CHECK_EQ(own.listeners[2].fd, engine.setup.listeners[2]);
    CHECK_EQ(own.listeners[3].fd, UN_NO_LISTENER);
    end();
}

static void numbers_stay_while_others_go(void)
{
    begin(3);
    close(un_listeners_remove(&engine, 1));
    int fd = listening();
    CHECK_EQ(un_listeners_add(&engine, 7, fd), 0);
    CHECK_EQ(own.listeners[1].fd, UN_NO_LISTENER);
    CHECK_EQ(own.listeners[2].fd, engine.setup.listeners[2]);
    CHECK_EQ(own.listeners[7].fd, fd);
    end();
}

static void the_same_socket_once_more_is_no_error(void)
{
    begin(1);
    int again = dup(engine.setup.listeners[0]);
    CHECK_EQ(un_listeners_add(&engine, 0, again), 0);
    CHECK(!is_open(again));
    CHECK_EQ(own.listeners[0].fd, engine.setup.listeners[0]);
    end();
}

static void another_socket_does_not_take_the_number(void)
{
    begin(1);
    int other = listening();
    CHECK_EQ(un_listeners_add(&engine, 0, other), -EEXIST);
    CHECK_EQ(own.listeners[0].fd, engine.setup.listeners[0]);
    CHECK(is_open(other));
    close(other);
    end();
}

static void what_does_not_listen_is_refused(void)
{
    begin(0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQ(un_listeners_add(&engine, 0, fd), -EINVAL);
    CHECK_EQ(un_listeners_add(&engine, 0, STDIN_FILENO), -EINVAL);
    CHECK_EQ(own.listeners[0].fd, UN_NO_LISTENER);
    CHECK_EQ(un_listeners_remove(&engine, 0), UN_NO_LISTENER);
    close(fd);
}

int main(void)
{
    RUN(the_first_engine_numbers_those_of_its_setup);
    RUN(numbers_stay_while_others_go);
    RUN(the_same_socket_once_more_is_no_error);
    RUN(another_socket_does_not_take_the_number);
    RUN(what_does_not_listen_is_refused);
    return 0;
}
