/* See accept.h. */
#include "engine/accept.h"

#include <errno.h>

#include "engine/control.h"
#include "engine/peers.h"
#include "engine/poisoners.h"
#include "engine/transport.h"

#define UN_ACCEPT_RETRY_NS UINT64_C(100000000) /* after descriptors or slots ran out */
#define UN_LIMIT_REPORTED_NS UINT64_C(60000000000) /* a full server says so once a minute, not with every connection */

bool un_accept_is_allowed(struct un_engine *engine)
{
    if (!engine->own->accepting || engine->own->paused)
        return false;
    if (engine->own->active < engine->options->connection_limit)
        return true;
    un_accept_pause(engine, 0);
    return false;
}

bool un_accept_refuses(struct un_engine *engine, const struct un_endpoint *peer)
{
    bool is_full = un_peers_is_full(engine, peer), is_poisoner = !is_full && un_poisoners_refused(engine, peer);
    un_count(&engine->counters->peer_limits, is_full);
    un_count(&engine->counters->refused_poisoners, is_poisoner);
    return is_full || is_poisoner;
}

void un_accept_pause(struct un_engine *engine, int error)
{
    engine->own->paused = true;
    engine->own->accept_again_ns = error ? engine->now_ns + UN_ACCEPT_RETRY_NS : 0;
    engine->transport->admit(engine, false);
    un_count(&engine->counters->accepts_paused, 1);
    if (engine->now_ns >= engine->own->limit_reported_ns + UN_LIMIT_REPORTED_NS) {
        engine->own->limit_reported_ns = engine->now_ns;
        un_control_tell(engine, UN_CONTROL_LIMIT, 0, 0, 0, (uint64_t)error, engine->own->active);
    }
}

void un_accept_resume(struct un_engine *engine)
{
    struct un_private *own = engine->own;
    if (!own->paused || !own->accepting || own->active >= engine->options->connection_limit)
        return;
    if (own->accept_again_ns > un_engine_now_ns(engine))
        return;
    own->paused = false;
    engine->transport->admit(engine, true);
}

void un_engine_stop_accepting(struct un_engine *engine)
{
    engine->own->accepting = false;
    engine->transport->admit(engine, false);
}

int un_engine_listen(struct un_engine *engine, uint32_t number, const struct un_listening *what)
{
    return number < UN_LISTENERS_MAX ? engine->transport->listen(engine, number, what) : -ERANGE;
}

int un_engine_unlisten(struct un_engine *engine, uint32_t number)
{
    if (number >= UN_LISTENERS_MAX)
        return -ERANGE;
    engine->transport->unlisten(engine, number);
    return 0;
}
