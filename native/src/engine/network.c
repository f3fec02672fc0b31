/* See network.h. */
#include "engine/network.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "engine/control.h"
#include "engine/state.h"

int un_network_run(const struct un_engine_setup *setup)
{
    struct un_engine *engine = un_engine_start(setup);
    if (!engine) {
        un_control_say(setup->control_fd, "the engine cannot start: %s", strerror(errno));
        return UN_NETWORK_FAILED;
    }
    un_store(&engine->counters->engine_pid, (uint64_t)getpid());
    un_control_tell(engine, UN_CONTROL_READY, 0, 0, 0, (uint64_t)getpid(), engine->own->epoch);
    while (!engine->exit)
        un_engine_turn(engine, un_engine_deadline_ms(engine));
    return un_engine_has_failed(engine) ? UN_NETWORK_FAILED : UN_NETWORK_DONE;
}
