/* See network.h. */
#include "engine/network.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "engine/control.h"
#include "engine/stack_setup.h"
#include "engine/state.h"
#include "engine/syscalls.h"
#include "state_layout.h"

#define SLEEP_MAX_MS 1000

/* A machine without filters is served on, and `usnet-ctl doctor` says so. */
static void restrict_syscalls(const struct un_engine_setup *setup, uint32_t uses)
{
    uses |= UN_SYSCALLS_ALWAYS | (setup->stack ? UN_SYSCALLS_OF_PACKETS : UN_SYSCALLS_OF_SOCKETS);
    if (setup->stack && setup->stack->kind->has_calls)
        uses |= UN_SYSCALLS_OF_RINGS;
    int status = un_syscalls_restrict(un_header(setup->public)->options.syscalls, uses);
    if (status < 0)
        un_control_say(setup->control_fd, "system calls cannot be restricted: %s", strerror(-status));
}

static int status_of(const struct un_engine *engine)
{
    if (engine->upgrade)
        return UN_NETWORK_UPGRADE;
    return un_engine_has_failed(engine) ? UN_NETWORK_FAILED : UN_NETWORK_DONE;
}

/* A turn a second at least, so that who watches `polls` can tell an engine that sleeps from one that is stopped. */
static int sleep_ms(const struct un_engine *engine)
{
    int deadline_ms = un_engine_deadline_ms(engine);
    return deadline_ms < 0 || deadline_ms > SLEEP_MAX_MS ? SLEEP_MAX_MS : deadline_ms;
}

static int run(const struct un_engine_setup *given)
{
    struct un_engine_setup setup = *given;
    struct un_stack_setup stack;
    if (given->stack) { /* kinds of devices are this file's, as their code is */
        stack = *given->stack;
        stack.kind = un_device_kind(stack.kind->name);
        setup.stack = &stack;
    }
    un_syscalls_tell(&un_engine_public(setup.public)->counters.syscalls_refused, setup.control_fd);
    restrict_syscalls(&setup, UN_SYSCALLS_TO_START);
    struct un_engine *engine = un_engine_start(&setup);
    if (!engine) {
        un_control_say(setup.control_fd, "the engine cannot start: %s", strerror(errno));
        return UN_NETWORK_FAILED;
    }
    un_store(&engine->counters->engine_pid, (uint64_t)getpid());
    strncpy(engine->published->version, USNET_VERSION, UN_VERSION_BYTES - 1);
    uint32_t flags = engine->own->succession.refused ? UN_CONTROL_REFUSED : 0;
    un_control_tell(engine, UN_CONTROL_READY, 0, 0, flags, (uint64_t)getpid(), engine->own->epoch);
    engine->own->succession.refused = 0;
    restrict_syscalls(&setup, 0);
    while (!engine->exit)
        un_engine_turn(engine, sleep_ms(engine));
    return status_of(engine);
}

extern const struct un_network un_network;
__attribute__((visibility("default"))) const struct un_network un_network = {
    .state_layout = UN_STATE_LAYOUT, .version = USNET_VERSION, .run = run};
