/* Where connections come from, over a stack of our own: which of the stack's listeners has which number.
 *
 * The table lies in front of the arena, as old as the stack. A listener is noted after the stack listens, and forgotten
 * before it stops. So an engine that dies in between leaves the stack a listener that is nobody's; its successor ends
 * that one, and the supervisor asks again. */
#include <errno.h>
#include <string.h>

#include "engine/link.h"
#include "stack/arena.h"

static void note(struct un_link_head *head, uint32_t number, int listener)
{
    if (number >= head->listener_high)
        head->listener_high = number + 1;
    un_compiler_fence();
    head->listeners[number] = (uint32_t)listener + 1;
}

static int listen_on(struct un_engine *engine, uint32_t number, const struct un_ip *ip, uint16_t port)
{
    int listener = un_stack_listen(&engine->link->stack, ip, port, (uint32_t)engine->options->backlog, 0);
    if (listener < 0)
        return listener;
    un_compiler_fence();
    note(engine->link->head, number, listener);
    return 0;
}

int un_link_listen_first(struct un_engine *engine)
{
    int status = 0;
    for (uint32_t number = 0; status == 0 && number < engine->options->listeners.count; number++) {
        const struct un_option_address *address = &engine->options->listeners.at[number];
        struct un_ip ip = un_ip_from_v6(address->ip);
        status = listen_on(engine, number, &ip, (uint16_t)address->number);
    }
    return status;
}

static bool is_there(const struct un_link *link, uint32_t number, const struct un_ip *ip, uint16_t port)
{
    const struct un_listener *listener = &link->stack.own->listeners[link->head->listeners[number] - 1];
    return un_ip_equal(&listener->ip, ip) && listener->port == port;
}

int un_link_listen(struct un_engine *engine, uint32_t number, const struct un_listening *what)
{
    struct un_link *link = engine->link;
    struct un_ip ip = un_ip_from_v6(what->ip);
    if (what->fd >= 0)
        return -EINVAL;
    if (!engine->own->accepting)
        return 0;
    if (link->head->listeners[number])
        return is_there(link, number, &ip, what->port) ? 0 : -EEXIST;
    un_stack_follow(&link->stack); /* the address may be a new one */
    return listen_on(engine, number, &ip, what->port);
}

static void unlisten(struct un_link *link, uint32_t number)
{
    uint32_t listener = link->head->listeners[number];
    link->head->listeners[number] = 0;
    un_compiler_fence();
    if (listener)
        un_stack_unlisten(&link->stack, listener - 1);
}

void un_link_unlisten(struct un_engine *engine, uint32_t number)
{
    un_link_accept(engine);
    unlisten(engine->link, number);
}

void un_link_unlisten_all(struct un_engine *engine)
{
    for (uint32_t number = 0; number < engine->link->head->listener_high; number++)
        unlisten(engine->link, number);
}

static bool is_noted(const struct un_link_head *head, uint32_t listener)
{
    for (uint32_t number = 0; number < head->listener_high; number++)
        if (head->listeners[number] == listener + 1)
            return true;
    return false;
}

void un_link_forget_unknown(struct un_engine *engine)
{
    struct un_link *link = engine->link;
    for (uint32_t listener = 0; listener < UN_STACK_LISTENERS_MAX; listener++)
        if (!is_noted(link->head, listener))
            un_stack_unlisten(&link->stack, listener); /* of one that is not open nothing comes of it */
}
