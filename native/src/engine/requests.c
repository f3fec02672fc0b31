/* See requests.h. */
#include "engine/requests.h"

#include <errno.h>
#include <sys/socket.h>

#include "engine/control.h"

static void confirm(struct un_engine *engine, const struct un_control *request, uint32_t flags)
{
    un_control_tell(engine, request->type, request->seat, request->serial, flags, 0, 0);
}

static void obey(struct un_engine *engine, const struct un_control *request)
{
    bool has_seat = request->type == UN_CONTROL_ATTACH || request->type == UN_CONTROL_LOST;
    if (has_seat && request->seat >= engine->config->seats)
        return;
    uint32_t flags = 0;
    switch (request->type) {
    case UN_CONTROL_ATTACH:
        un_engine_attach_worker(engine, request->seat, request->serial, request->flags & UN_CONTROL_RESUMES);
        break;
    case UN_CONTROL_LOST:
        flags = un_engine_lost_worker(engine, request->seat) ? UN_CONTROL_POISONED : 0;
        break;
    case UN_CONTROL_DRAIN:
        un_engine_stop_accepting(engine);
        break;
    case UN_CONTROL_QUIT:
        un_engine_reset_all(engine, UN_REASON_SHUTDOWN);
        engine->exit = true;
        break;
    default:
        return;
    }
    confirm(engine, request, flags);
}

void un_requests_read(struct un_engine *engine)
{
    struct un_control request;
    engine->requests_wait = false;
    for (;;) {
        ssize_t length = recv(engine->setup.control_fd, &request, sizeof request, MSG_DONTWAIT);
        if (length == sizeof request)
            obey(engine, &request);
        else if (length == 0)
            engine->exit = true; /* the supervisor is gone */
        else if (length < 0 && errno == EINTR)
            continue;
        if (length <= 0 || engine->exit)
            return;
    }
}
