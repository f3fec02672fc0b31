/* See worklists.h. */
#include "engine/worklists.h"

#define NEXT_RECEIVE(engine) &(engine)->works->next_receive, sizeof(struct un_work)
#define NEXT_FLUSH(engine) &(engine)->works->next_flush, sizeof(struct un_work)

void un_receive_later(struct un_engine *engine, uint32_t slot)
{
    struct un_work *work = &engine->works[slot];
    if (work->flags & UN_WORK_RECEIVE_LISTED || un_is_withheld(work))
        return;
    un_assert(un_slot(engine, slot)->state != UN_CONN_FREE);
    work->flags |= UN_WORK_RECEIVE_LISTED;
    uint32_t line = engine->own->ports[un_port_of(un_slot(engine, slot))].line;
    un_list_append(&engine->own->ports[line].receive, NEXT_RECEIVE(engine), slot);
}

uint32_t un_receive_next(struct un_engine *engine, uint32_t port)
{
    uint32_t slot = un_list_take(&engine->own->ports[port].receive, NEXT_RECEIVE(engine));
    un_assert(engine->works[slot].flags & UN_WORK_RECEIVE_LISTED);
    engine->works[slot].flags &= (uint16_t)~UN_WORK_RECEIVE_LISTED;
    return slot;
}

void un_receive_join(struct un_engine *engine, uint32_t from, uint32_t to)
{
    struct un_list *front = &engine->own->ports[to].receive, *behind = &engine->own->ports[from].receive;
    un_list_join(front, behind, NEXT_RECEIVE(engine));
}

void un_transmit_later(struct un_engine *engine, uint32_t slot)
{
    struct un_work *work = &engine->works[slot];
    if (work->flags & UN_WORK_FLUSH_LISTED)
        return;
    work->flags |= UN_WORK_FLUSH_LISTED;
    un_list_append(&engine->own->flush, NEXT_FLUSH(engine), slot);
}

uint32_t un_transmit_next(struct un_engine *engine)
{
    if (un_list_is_empty(&engine->own->flush))
        return UN_NONE;
    uint32_t slot = un_list_take(&engine->own->flush, NEXT_FLUSH(engine));
    un_assert(engine->works[slot].flags & UN_WORK_FLUSH_LISTED);
    engine->works[slot].flags &= (uint16_t)~UN_WORK_FLUSH_LISTED;
    return slot;
}
