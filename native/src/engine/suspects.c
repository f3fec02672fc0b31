/* See suspects.h. */
#include "engine/suspects.h"

uint8_t *un_suspect_at(const struct un_engine *engine, uint32_t port, uint32_t index)
{
    return &engine->suspects[port][un_ring_slot(&engine->own->ports[port].events, index)];
}

void un_suspect_mark(struct un_engine *engine, uint32_t port, uint32_t index)
{
    engine->own->ports[port].suspects++;
    un_compiler_fence(); /* rather too many than too few */
    *un_suspect_at(engine, port, index) = 1;
}

void un_suspects_acquit(struct un_engine *engine, uint32_t port, uint32_t first, uint32_t end)
{
    for (uint32_t i = first; i != end; i++) {
        if (!*un_suspect_at(engine, port, i))
            continue;
        *un_suspect_at(engine, port, i) = 0;
        un_compiler_fence();
        engine->own->ports[port].suspects--;
    }
}

void un_suspect_moved(struct un_engine *engine, uint32_t from, uint32_t from_index, uint32_t to, uint32_t to_index)
{
    if (engine->own->ports[from].suspects > 0 && *un_suspect_at(engine, from, from_index))
        un_suspect_mark(engine, to, to_index);
}

void un_suspects_recount(struct un_engine *engine, uint32_t port)
{
    struct un_port_end *state = &engine->own->ports[port];
    uint32_t count = 0, waiting = state->events.own - state->events.seen;
    if (state->suspects == 0)
        return;
    for (uint32_t i = 0; i < state->events.size; i++) {
        uint8_t *suspect = un_suspect_at(engine, port, state->events.seen + i);
        *suspect = *suspect && i < waiting; /* the last engine may not have come to acquit what was consumed */
        count += *suspect;
    }
    state->suspects = count;
}
