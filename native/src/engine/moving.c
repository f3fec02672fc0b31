/* See moving.h. */
#include "engine/moving.h"

#include "engine/conns.h"
#include "engine/events.h"
#include "engine/worklists.h"

bool un_moving_is_possible(const struct un_engine *engine, uint32_t port)
{
    const struct un_port_end *state = un_end_of(engine, port), *heir = un_end_of(engine, un_heir_of(engine, port));
    return state != heir && state->attached && !state->bad && state->resumes && heir->attached && heir->resumes &&
           !heir->diverted;
}

bool un_moving_ask(struct un_engine *engine, uint32_t slot)
{
    struct un_conn *conn = un_slot(engine, slot);
    struct un_event event = {.type = UN_EVENT_MOVE, .conn = un_load(&conn->id), .time_ns = engine->now_ns};
    if (!un_is_alive(conn) || !un_moving_is_possible(engine, un_port_of(conn))) {
        un_engine_conn_set_move(engine, slot, UN_MOVE_NONE);
        engine->own->ports[un_port_of(conn)].cursor = 0; /* when it is possible again it is asked anew */
        return true;
    }
    if (un_event_push(engine, un_port_of(conn), &event))
        un_engine_conn_set_move(engine, slot, UN_MOVE_ASKED);
    return false;
}

/* Who comes to the current port could not go on with it, and never knew it. */
static void forget(struct un_engine *engine, uint32_t slot)
{
    engine->works[slot].flags &= (uint16_t)~UN_WORK_POSTS;
    if (un_is_alive(un_slot(engine, slot)))
        un_engine_conn_discard(engine, slot, UN_REASON_WORKER_LOST);
    else
        un_engine_conn_free_slot(engine, slot);
}

bool un_moving_release(struct un_engine *engine, uint32_t slot)
{
    struct un_conn *conn = un_slot(engine, slot);
    struct un_work *work = &engine->works[slot];
    uint32_t heir = un_heir_of(engine, un_port_of(conn));
    if (work->move != UN_MOVE_ASKED || work->rx_waiting > 0)
        return false;
    un_engine_conn_set_move(engine, slot, UN_MOVE_NONE);
    if (heir != un_port_of(conn))
        un_engine_conn_change_port(engine, slot, heir);
    if (un_end_of(engine, heir)->attached && !un_end_of(engine, heir)->resumes)
        forget(engine, slot);
    else
        un_receive_later(engine, slot);
    return true;
}

bool un_moving_keep(struct un_engine *engine, uint32_t slot)
{
    if (engine->works[slot].move != UN_MOVE_ASKED)
        return false;
    un_engine_conn_set_move(engine, slot, UN_MOVE_KEPT);
    un_receive_later(engine, slot);
    return true;
}

bool un_moving_settled(struct un_engine *engine, uint32_t slot)
{
    if (engine->works[slot].move != UN_MOVE_KEPT)
        return false;
    un_engine_conn_set_move(engine, slot, UN_MOVE_DUE);
    un_receive_later(engine, slot);
    return true;
}

void un_moving_go_on(struct un_engine *engine, uint32_t slot)
{
    const struct un_work *work = &engine->works[slot];
    if (work->flags & (UN_WORK_READABLE | UN_WORK_POSTS))
        un_receive_later(engine, slot);
}

void un_moving_follow(struct un_engine *engine, uint32_t slot)
{
    uint32_t port = un_port_of(un_slot(engine, slot)), heir = un_end_of(engine, port)->line;
    if (heir == port || engine->works[slot].move == UN_MOVE_HELD)
        return;
    un_engine_conn_set_move(engine, slot, UN_MOVE_NONE);
    un_engine_conn_change_port(engine, slot, heir);
}
