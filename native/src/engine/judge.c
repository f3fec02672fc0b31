/* See judge.h. */
#include "engine/judge.h"

#include <string.h>

#include "engine/conns.h"
#include "engine/poisoners.h"
#include "engine/suspects.h"
#include "engine/unread.h"

/* The event that was being handled, or NULL. Later events of the ring are none of the dead worker's business. One that
 * wrote nonsense may have written over this word too: then it is the first that was not committed, which is the right
 * one from the second death on, because events are committed one by one after an attach. */
static struct un_event *handled_event(struct un_engine *engine, uint32_t port, uint32_t *index)
{
    const struct un_port_end *state = &engine->own->ports[port];
    uint64_t word = un_load(&un_port_memory(engine, port)->handling);
    uint32_t waiting = state->events.own - state->events.seen;
    bool known = UN_HANDLING_WHAT(word) == UN_RUNNING_EVENT && (uint32_t)word - state->events.seen < waiting;
    bool is_nothing = word == 0 || UN_HANDLING_WHAT(word) == UN_RUNNING_TASK;
    *index = known ? (uint32_t)word : state->events.seen;
    if (!known && (waiting == 0 || (is_nothing && !state->bad)))
        return NULL;
    return un_unread_event(engine, port, *index);
}

/* The slot of the connection whose task was running, or UN_NONE. */
static uint32_t slot_of_task(struct un_engine *engine, uint32_t port)
{
    uint64_t word = un_load(&un_port_memory(engine, port)->handling);
    uint32_t slot = (uint32_t)word;
    if (UN_HANDLING_WHAT(word) != UN_RUNNING_TASK || slot >= engine->own->conn_high)
        return UN_NONE;
    const struct un_conn *conn = un_slot(engine, slot);
    return conn->state != UN_CONN_FREE && un_port_of(conn) == port ? slot : UN_NONE;
}

/* For one more death by what this peer sent, or asked for; `for_sure`: and nothing else. */
static void blame_peer(struct un_engine *engine, uint32_t slot, bool for_sure)
{
    if (slot == UN_NONE)
        return;
    un_poisoners_suspect(engine, &un_slot(engine, slot)->peer);
    if (for_sure)
        un_poisoners_count(engine, &un_slot(engine, slot)->peer);
}

static void quarantine(struct un_engine *engine, uint32_t port, const struct un_event *event)
{
    struct un_quarantine *found = un_quarantine_at(engine->setup.public, port);
    uint32_t slot = un_unread_slot(engine, event);
    found->event_type = event->type;
    found->conn = event->conn;
    memset(&found->peer, 0, sizeof found->peer);
    if (slot != UN_NONE)
        found->peer = un_slot(engine, slot)->peer;
    found->length = event->type == UN_EVENT_DATA ? event->length : 0;
    if (found->length)
        memcpy(found + 1, un_rx_frame(engine->setup.public, port, event->frame) + event->offset, found->length);
    un_publish(&found->valid, 1);
}

/* Keep its bytes, reset its connection. */
static void condemn(struct un_engine *engine, uint32_t port, uint32_t index)
{
    struct un_event *event = un_unread_event(engine, port, index);
    uint32_t slot = un_unread_slot(engine, event);
    quarantine(engine, port, event);
    un_suspects_acquit(engine, port, index, index + 1);
    if (slot != UN_NONE && un_is_alive(un_slot(engine, slot))) {
        un_unread_reset(engine, slot, UN_REASON_POISONED, engine->own->ports[port].resumes);
    } else if (event->type == UN_EVENT_CLOSE && slot != UN_NONE) {
        un_unread_skip(engine, port, event);
        un_engine_conn_free_slot(engine, slot);
    } else {
        un_unread_skip(engine, port, event);
    }
}

static bool judge(struct un_engine *engine, uint32_t port, bool hung)
{
    uint32_t index, first = engine->own->ports[port].events.seen;
    const struct un_event *event = handled_event(engine, port, &index);
    if (!event) {
        blame_peer(engine, slot_of_task(engine, port), true);
        un_count(&engine->counters->task_deaths, slot_of_task(engine, port) != UN_NONE);
        return false;
    }
    un_count(&engine->counters->redelivered, index - first + 1);
    un_suspects_acquit(engine, port, first, index);
    if (event->type == UN_EVENT_SKIP)
        return false;
    bool for_sure = hung || *un_suspect_at(engine, port, index);
    blame_peer(engine, un_unread_slot(engine, event), for_sure);
    if (!for_sure) {
        un_suspect_mark(engine, port, index);
        return false;
    }
    condemn(engine, port, index);
    return true;
}

/* An engine that is killed over it is asked again. One death counts once: rather not at all than twice. */
bool un_judge_death(struct un_engine *engine, uint32_t port, bool hung)
{
    struct un_port_end *state = &engine->own->ports[port];
    if (state->judged == state->serial)
        return un_load(&un_quarantine_at(engine->setup.public, port)->valid);
    state->judged = state->serial;
    un_compiler_fence();
    return judge(engine, port, hung);
}
