/* See requests.h. */
#include "engine/requests.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/capture.h"
#include "engine/conns.h"
#include "engine/control.h"
#include "engine/hand.h"
#include "engine/look.h"

struct request {
    struct un_control body;
    int fd;    /* that came with it, and is in hand; -1: none, or somebody took it */
    int fault; /* 0, or -errno: it is longer than a request, more descriptors came, or there was no room for one */
};

/* By somebody who has noted it. */
static void leave_to_taker(struct un_engine *engine, struct request *request)
{
    request->fd = -1;
    un_hand_leave(engine);
}

static int listen_as_asked(struct un_engine *engine, struct request *request)
{
    struct un_listening what = {.fd = request->fd, .port = (uint16_t)request->body.flags};
    memcpy(what.ip, request->body.arg, sizeof what.ip);
    int status = request->fault ? request->fault : un_engine_listen(engine, request->body.port, &what);
    if (status == 0)
        leave_to_taker(engine, request);
    return status;
}

/* Says itself how it went. */
static void look(struct un_engine *engine, const struct request *request)
{
    const struct un_control *body = &request->body;
    uint64_t position = body->arg[0];
    int found = request->fault ? request->fault : un_look(engine, body->port, request->fd, &position);
    uint32_t count = found < 0 ? 0 : (uint32_t)found;
    uint64_t error = found < 0 ? (uint64_t)-found : 0;
    un_control_tell(engine, UN_CONTROL_LOOK, body->port, body->serial, count, error, position);
}

/* The keeper has every descriptor that we have, and takes this one before another engine starts: so it is not in hand
 * any more when it is named. In between the keeper finds it (close_leftovers). */
static int upgrade(struct un_engine *engine, struct request *request)
{
    if (request->fault || request->fd < 0)
        return request->fault ? request->fault : -EINVAL;
    if (engine->own->succession.wanted) /* an engine died before it made room */
        close((int)engine->own->succession.wanted - 1);
    uint32_t wanted = (uint32_t)request->fd + 1;
    leave_to_taker(engine, request);
    un_compiler_fence();
    engine->own->succession.wanted = wanted;
    engine->exit = engine->upgrade = true;
    return 0;
}

static int capture_as_asked(struct un_engine *engine, struct request *request)
{
    if (!request->fault && request->fd < 0) {
        un_capture_stop(engine);
        return 0;
    }
    int status = request->fault ? request->fault : un_capture_start(engine, request->body.serial, request->fd,
                                                                    request->body.arg[0]);
    if (status == 0)
        leave_to_taker(engine, request);
    return status == -EALREADY ? 0 : status;
}

static bool has_port(const struct un_control *body)
{
    return body->type == UN_CONTROL_ATTACH || body->type == UN_CONTROL_LOST || body->type == UN_CONTROL_DIVERT;
}

static enum un_loss loss_of(const struct un_control *body)
{
    if (body->flags & UN_CONTROL_HUNG)
        return UN_LOSS_HUNG;
    return body->flags & UN_CONTROL_LEFT ? UN_LOSS_LEFT : UN_LOSS_DIED;
}

static void obey(struct un_engine *engine, struct request *request)
{
    const struct un_control *body = &request->body;
    if (has_port(body) && (body->port >= un_port_count(engine->config) || !engine->setup.ports[body->port]))
        return;
    uint32_t flags = 0;
    int status = 0;
    switch (body->type) {
    case UN_CONTROL_ATTACH:
        status = un_engine_attach_worker(engine, body->port, body->serial, body->flags & UN_CONTROL_RESUMES);
        break;
    case UN_CONTROL_LOST:
        flags = un_engine_lost_worker(engine, body->port, loss_of(body)) ? UN_CONTROL_POISONED : 0;
        break;
    case UN_CONTROL_DIVERT:
        engine->own->ports[body->port].diverted = body->flags != 0;
        break;
    case UN_CONTROL_DRAIN:
        un_engine_stop_accepting(engine);
        flags = un_engine_owes_output(engine) ? UN_CONTROL_OWES : 0;
        break;
    case UN_CONTROL_LISTEN:
        status = listen_as_asked(engine, request);
        break;
    case UN_CONTROL_UNLISTEN:
        status = un_engine_unlisten(engine, body->port);
        break;
    case UN_CONTROL_LOOK:
        look(engine, request);
        return;
    case UN_CONTROL_UPGRADE:
        status = upgrade(engine, request);
        break;
    case UN_CONTROL_CAPTURE:
        status = capture_as_asked(engine, request);
        break;
    case UN_CONTROL_QUIT:
        un_engine_end_all(engine, UN_REASON_SHUTDOWN);
        engine->exit = true;
        break;
    default:
        return;
    }
    un_control_tell(engine, body->type, body->port, body->serial, flags, (uint64_t)-status, 0);
}

static int descriptor_in(const struct msghdr *message, const struct un_hand *hand)
{
    struct cmsghdr part;
    if (message->msg_controllen < CMSG_LEN(sizeof(int)))
        return -1;
    memcpy(&part, hand->header, sizeof part);
    return part.cmsg_level == SOL_SOCKET && part.cmsg_type == SCM_RIGHTS ? hand->fd : -1;
}

static int fault_of(const struct msghdr *message, int fd)
{
    if (message->msg_flags & MSG_TRUNC)
        return -EINVAL;
    if (message->msg_flags & MSG_CTRUNC)
        return fd < 0 ? -EMFILE : -EINVAL;
    return 0;
}

/* There is room for one descriptor: the kernel keeps what else came from being ours. It notes the number before that
 * is one. */
static ssize_t receive(struct un_engine *engine, struct request *request)
{
    struct un_hand *hand = &engine->own->hand;
    struct iovec piece = {&request->body, sizeof request->body};
    struct msghdr message = {
        .msg_iov = &piece, .msg_iovlen = 1, .msg_control = hand, .msg_controllen = CMSG_LEN(sizeof(int))};
    request->fd = -1;
    ssize_t length = recvmsg(engine->setup.control_fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (length < 0)
        return length;
    request->fd = descriptor_in(&message, hand);
    request->fault = fault_of(&message, request->fd);
    return length;
}

void un_requests_read(struct un_engine *engine)
{
    struct request request;
    engine->requests_wait = false;
    for (;;) {
        ssize_t length = receive(engine, &request);
        if (length == sizeof request.body)
            obey(engine, &request);
        else if (length == 0)
            engine->exit = true; /* the supervisor is gone */
        else if (length < 0 && errno == EINTR)
            continue;
        if (request.fd >= 0)
            un_hand_close(engine);
        if (length <= 0 || engine->exit)
            return;
    }
}
