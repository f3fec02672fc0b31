/* Connections from the accept queues of the stack's listeners into the engine's table: one of each listener in turn, so
 * that none has to wait until another one's queue is empty. */
#include <errno.h>
#include <string.h>

#include "engine/accept.h"
#include "engine/change.h"
#include "engine/conns.h"
#include "engine/link.h"
#include "engine/receive.h"

static void set_endpoint(struct un_endpoint *endpoint, const struct un_stack_peer *peer)
{
    memset(endpoint, 0, sizeof *endpoint);
    endpoint->port = peer->port;
    endpoint->family = un_ip_is_v4(&peer->ip) ? UN_FAMILY_IPV4 : UN_FAMILY_IPV6;
    if (un_ip_is_v4(&peer->ip))
        memcpy(endpoint->ip, un_ip_v4(&peer->ip), 4);
    else
        memcpy(endpoint->ip, peer->ip.bytes, 16);
}

static uint32_t listener_of(const struct un_link *link, const struct un_tcb *tcb)
{
    for (uint32_t number = 0; number < link->head->listener_high; number++)
        if (link->head->listeners[number] == tcb->listener + 1u)
            return number;
    return 0; /* it is listened to no more, and was the only one that can have this one's address */
}

static void keep_alive(struct un_engine *engine, uint64_t conn)
{
    struct un_stack *stack = &engine->link->stack;
    const struct un_engine_options *options = engine->options;
    if (options->keep_idle_s == 0)
        return;
    un_stack_set_option(stack, conn, UN_OPTION_KEEP_IDLE_S, (uint32_t)options->keep_idle_s);
    un_stack_set_option(stack, conn, UN_OPTION_KEEP_INTERVAL_S, (uint32_t)options->keep_interval_s);
    un_stack_set_option(stack, conn, UN_OPTION_KEEP_COUNT, (uint32_t)options->keep_count);
    un_stack_set_option(stack, conn, UN_OPTION_KEEPALIVE, 1);
}

static bool is_refused(struct un_engine *engine, uint64_t conn)
{
    struct un_stack *stack = &engine->link->stack;
    struct un_stack_peer local, remote;
    struct un_endpoint peer;
    un_assert(un_stack_names(stack, conn, &local, &remote) == 0);
    set_endpoint(&peer, &remote);
    if (!un_accept_refuses(engine, &peer))
        return false;
    un_stack_abort(stack, conn);
    return true;
}

/* What came before it was accepted has no event any more: everything is tried. */
static void accept_into(struct un_engine *engine, uint32_t slot, uint64_t conn)
{
    struct un_link *link = engine->link;
    struct un_stack_peer local, remote;
    un_assert(un_stack_names(&link->stack, conn, &local, &remote) == 0);
    struct un_accepted accepted = {.handle = (int)(uint32_t)conn,
                                   .listener = listener_of(link, un_stack_conn_find(&link->stack, conn)),
                                   .port = un_engine_port_choose(engine)};
    set_endpoint(&accepted.peer, &remote);
    set_endpoint(&accepted.local, &local);
    un_enter_at(engine, slot, accepted.port);
    un_engine_conn_opened(engine, slot, &accepted);
    uint64_t id = un_load(&un_slot(engine, slot)->id);
    un_assert(un_stack_accept(&link->stack, conn, id) == 0);
    un_stack_set_option(&link->stack, conn, UN_OPTION_NODELAY, 1);
    keep_alive(engine, conn);
    un_leave(engine);
    un_engine_conn_can_receive(engine, id, true);
}

/* The connection that has waited longest at the listener whose turn it is; 0: none. */
static uint64_t next_conn(const struct un_link *link)
{
    uint32_t listener = link->head->listeners[link->accept_turn % link->head->listener_high];
    return listener ? un_stack_accept_next(&link->stack, listener - 1) : 0;
}

void un_link_accept(struct un_engine *engine)
{
    struct un_link *link = engine->link;
    uint32_t empty = 0; /* listeners in a row */
    for (; empty < link->head->listener_high; link->accept_turn++) {
        uint64_t conn = next_conn(link);
        empty = conn ? 0 : empty + 1;
        if (!conn || is_refused(engine, conn))
            continue;
        if (!un_accept_is_allowed(engine))
            return;
        uint32_t slot = un_engine_conn_take_slot(engine);
        if (slot == UN_NONE) {
            un_accept_pause(engine, ENOMEM);
            return;
        }
        accept_into(engine, slot, conn);
    }
}
