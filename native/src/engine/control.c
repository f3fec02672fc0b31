/* The engine's end of the control socket: see control.h. */
#include "engine/control.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>

#include "engine/state.h"

void un_control_tell(struct un_engine *engine, uint32_t type, uint32_t port, uint32_t serial, uint32_t flags,
                     uint64_t arg0, uint64_t arg1)
{
    struct un_control message = {.type = type, .port = port, .serial = serial, .flags = flags, .arg = {arg0, arg1}};
    if (engine->setup.control_fd < 0)
        return;
    while (send(engine->setup.control_fd, &message, sizeof message, MSG_NOSIGNAL) < 0 && errno == EINTR)
        continue;
}

bool un_control_offer(const struct un_engine *engine, uint32_t type, uint64_t arg0, uint64_t arg1)
{
    const struct un_control message = {.type = type, .arg = {arg0, arg1}};
    ssize_t sent = 0;
    if (engine->setup.control_fd < 0)
        return true;
    do
        sent = send(engine->setup.control_fd, &message, sizeof message, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    return sent >= 0 || errno != EAGAIN;
}

void un_control_say(int fd, const char *format, ...)
{
    struct {
        struct un_control head;
        char text[UN_CONTROL_TEXT_MAX];
    } message = {.head = {.type = UN_CONTROL_SAYS}};
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(message.text, sizeof message.text, format, arguments);
    va_end(arguments);
    if (length < 0)
        return;
    size_t bytes = (size_t)length < sizeof message.text ? (size_t)length : sizeof message.text - 1;
    if (fd < 0)
        fprintf(stderr, "usnet: %s\n", message.text);
    while (fd >= 0 && send(fd, &message, sizeof message.head + bytes, MSG_NOSIGNAL) < 0 && errno == EINTR)
        continue;
}
