/* See judge.h. */
#include "engine/judge.h"

#include <string.h>

#include "engine/conns.h"
#include "engine/unread.h"

/* The event that was being handled, or NULL. Later events of the ring are none of the dead worker's business. One that
 * wrote nonsense may have written over this word too: then it is the first that was not committed, which is the right
 * one from the second death on, because events are committed one by one after an attach. */
static struct un_event *handled_event(struct un_engine *engine, uint32_t port, uint32_t *index)
{
    const struct un_port_end *state = &engine->own->ports[port];
    uint64_t word = un_load(&un_port_memory(engine, port)->handling);
    uint32_t waiting = state->events.own - state->events.seen;
    bool known = word >> 32 == 1 && (uint32_t)word - state->events.seen < waiting;
    *index = known ? (uint32_t)word : state->events.seen;
    if (!known && (waiting == 0 || (word == 0 && !state->bad)))
        return NULL;
    return un_unread_event(engine, port, *index);
}

static void quarantine(struct un_engine *engine, uint32_t port, const struct un_event *event)
{
    struct un_quarantine *record = un_quarantine_at(engine->setup.public, port);
    uint32_t slot = un_unread_slot(engine, event);
    record->event_type = event->type;
    record->conn = event->conn;
    record->length = event->type == UN_EVENT_DATA ? event->length : 0;
    memset(&record->peer, 0, sizeof record->peer);
    if (slot != UN_NONE)
        record->peer = un_slot(engine, slot)->peer;
    if (record->length)
        memcpy(record + 1, un_rx_frame(engine->setup.public, port, event->frame) + event->offset, record->length);
    un_publish(&record->valid, 1);
}

/* Two deaths in a row over one event: keep its bytes, reset its connection. */
static bool judge_suspect(struct un_engine *engine, uint32_t port)
{
    struct un_port_end *state = &engine->own->ports[port];
    uint32_t index;
    struct un_event *event = handled_event(engine, port, &index);
    if (event)
        un_count(&engine->counters->redelivered, index - state->events.seen + 1);
    bool again = event && state->suspect_known && state->suspect == index && event->type != UN_EVENT_SKIP;
    state->suspect_known = event != NULL;
    state->suspect = index;
    if (!again)
        return false;
    quarantine(engine, port, event);
    state->suspect_known = false;
    uint32_t slot = un_unread_slot(engine, event);
    if (slot != UN_NONE && un_is_alive(un_slot(engine, slot)))
        un_unread_reset(engine, slot, UN_REASON_POISONED, state->resumes);
    else if (event->type == UN_EVENT_CLOSE && slot != UN_NONE) {
        un_unread_skip(engine, port, event);
        un_engine_conn_free_slot(engine, slot);
    } else {
        un_unread_skip(engine, port, event);
    }
    return true;
}

/* An engine that is killed over it is asked again. One death counts once: rather not at all than twice. */
bool un_judge_death(struct un_engine *engine, uint32_t port)
{
    struct un_port_end *state = &engine->own->ports[port];
    if (state->judged == state->serial)
        return un_load(&un_quarantine_at(engine->setup.public, port)->valid);
    state->judged = state->serial;
    un_compiler_fence();
    return judge_suspect(engine, port);
}

void un_judge_moved(struct un_engine *engine, uint32_t port, uint32_t index, uint32_t to, uint32_t index_there)
{
    const struct un_port_end *state = &engine->own->ports[port];
    struct un_port_end *there = &engine->own->ports[to];
    if (!state->suspect_known || state->suspect != index)
        return;
    there->suspect_known = true;
    there->suspect = index_there;
}
