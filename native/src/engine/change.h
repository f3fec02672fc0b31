/* The change in progress, and the connection as it was before.
 *
 * All that is done to a connection is done between un_enter and un_leave. An engine may die at any instruction between
 * them: its successor puts back what un_enter kept (rollback.h), so the change did not happen. What cannot be put back
 * happened outside: bytes that the transport gave or took, a connection that it closed or opened. Of bytes it is asked
 * afterwards (transport.h: counts), and they are accounted for as if the engine had come to it; that a connection is
 * to be closed is noted before anything is done for it (un_change_ends), and done by the successor.
 *
 * Kept are the private part of the connection, what changes of the public part, the index of its event ring, and what a
 * received slice changes. Lists, sums and free lists are made anew by every takeover. Events that a change puts into
 * the ring may be taken back because they are published by nobody before it is over. */
#ifndef UN_CHANGE_H
#define UN_CHANGE_H

#include <string.h>

#include "engine/state.h"

/* For a connection that is about to be opened the port is not known from the slot. slot UN_NONE: no connection. */
static inline void un_enter_at(struct un_engine *engine, uint32_t slot, uint32_t port)
{
    struct un_busy *busy = &engine->own->busy;
    un_assert(busy->slot == 0);
    busy->port = port;
    busy->events = engine->own->ports[port].events.own;
    busy->transfer = busy->slice = busy->ends = 0;
    if (slot != UN_NONE) {
        busy->work = engine->works[slot];
        memcpy(busy->conn, (const void *)un_slot(engine, slot), sizeof busy->conn);
    }
    un_compiler_fence();
    busy->slot = slot + 1;
    un_compiler_fence();
}

static inline void un_enter(struct un_engine *engine, uint32_t slot)
{
    un_enter_at(engine, slot, un_port_of(un_slot(engine, slot)));
}

static inline void un_leave(struct un_engine *engine)
{
    un_compiler_fence();
    engine->own->busy.slot = 0;
}

/* What was done so far stays; the connection is as it ought to be. */
static inline void un_change_stays(struct un_engine *engine)
{
    uint32_t slot = engine->own->busy.slot - 1, port = engine->own->busy.port;
    un_leave(engine);
    un_enter_at(engine, slot, port);
}

/* From here on the connection ends, whoever completes that. `how`: UN_ENDS_… */
static inline void un_change_ends(struct un_engine *engine, enum un_reason reason, uint32_t how)
{
    if (engine->own->busy.ends == 0)
        engine->own->busy.ends = UN_ENDS | (uint32_t)reason | how;
    un_compiler_fence();
}

/* Bytes may be on their way between the transport and us, not accounted for. */
static inline void un_change_transfers(struct un_engine *engine, enum un_transfer which)
{
    engine->own->busy.told.msg_len = 0;
    un_compiler_fence();
    engine->own->busy.transfer = which;
    un_compiler_fence();
}

#endif
