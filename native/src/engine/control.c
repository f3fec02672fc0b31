/* The engine's end of the control socket: see control.h. */
#include "engine/control.h"

#include <errno.h>
#include <sys/socket.h>

#include "engine/state.h"

void un_control_tell(struct un_engine *engine, uint32_t type, uint32_t seat, uint32_t serial, uint32_t flags,
                     uint64_t arg0, uint64_t arg1)
{
    struct un_control message = {.type = type, .seat = seat, .serial = serial, .flags = flags, .arg = {arg0, arg1}};
    if (engine->setup.control_fd < 0)
        return;
    while (send(engine->setup.control_fd, &message, sizeof message, MSG_NOSIGNAL) < 0 && errno == EINTR)
        continue;
}
