/* Connections from the stack's backlog into the engine's table.
 *
 * Each stands in the line from its ACCEPTED event, which may be told twice, until it is taken or found to be gone. The
 * line has twice the room of the stack's table, so when it is full at least half of it waits no more, and leaves it all
 * at once. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/accept.h"
#include "engine/conns.h"
#include "engine/link.h"
#include "engine/receive.h"

int un_link_make_line(struct un_link *link)
{
    uint32_t room = 2;
    while (room < 2 * link->stack.config->conn_max)
        room *= 2;
    link->waiting_mask = room - 1;
    link->waiting = calloc(room, sizeof *link->waiting);
    return link->waiting ? 0 : -ENOMEM;
}

static uint64_t *at(struct un_link *link, uint32_t index)
{
    return &link->waiting[index & link->waiting_mask];
}

static bool waits(struct un_link *link, uint64_t conn)
{
    const struct un_tcb *tcb = un_stack_conn_find(&link->stack, conn);
    return tcb && !(tcb->flags & UN_TCB_ACCEPTED);
}

static void leave_gone_out(struct un_link *link)
{
    uint32_t end = link->waiting_first;
    for (uint32_t i = link->waiting_first; i != link->waiting_end; i++)
        if (waits(link, *at(link, i)))
            *at(link, end++) = *at(link, i);
    link->waiting_end = end;
}

void un_link_wait_in_line(struct un_link *link, uint64_t conn)
{
    if (link->waiting_end - link->waiting_first > link->waiting_mask)
        leave_gone_out(link);
    *at(link, link->waiting_end++) = conn;
}

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
    for (uint32_t number = 0; number < UN_LISTENERS_MAX; number++)
        if (link->head->listeners[number] == tcb->listener + 1u)
            return number;
    return 0; /* it is listened to no more, and was the only one that can have this one's address */
}

/* What came before it was accepted has no event any more: everything is tried. */
static void accept_into(struct un_engine *engine, uint32_t slot, uint64_t conn)
{
    struct un_link *link = engine->link;
    struct un_stack_peer local, remote;
    un_assert(un_stack_names(&link->stack, conn, &local, &remote) == 0);
    struct un_accepted accepted = {.handle = (int)(uint32_t)conn,
                                   .listener = listener_of(link, un_stack_conn_find(&link->stack, conn)),
                                   .seat = un_engine_seat_choose(engine)};
    set_endpoint(&accepted.peer, &remote);
    set_endpoint(&accepted.local, &local);
    un_enter(engine, slot);
    un_engine_conn_opened(engine, slot, &accepted);
    uint64_t id = un_load(&un_slot(engine, slot)->id);
    un_assert(un_stack_accept(&link->stack, conn, id) == 0);
    un_stack_set_option(&link->stack, conn, UN_OPTION_NODELAY, 1);
    un_leave(engine);
    un_engine_conn_can_receive(engine, id, true);
}

void un_link_accept(struct un_engine *engine)
{
    struct un_link *link = engine->link;
    while (link->waiting_first != link->waiting_end) {
        uint64_t conn = *at(link, link->waiting_first);
        if (!waits(link, conn)) {
            link->waiting_first++;
            continue;
        }
        if (!un_accept_is_allowed(engine))
            return;
        uint32_t slot = un_engine_conn_take_slot(engine);
        if (slot == UN_NONE) {
            un_accept_pause(engine, ENOMEM);
            return;
        }
        link->waiting_first++;
        accept_into(engine, slot, conn);
    }
}
