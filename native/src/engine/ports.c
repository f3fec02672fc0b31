/* See ports.h. */
#include "engine/ports.h"

#include "engine/receive.h"
#include "engine/sendqueue.h"

void un_port_use(struct un_engine *engine, uint32_t port)
{
    struct un_port_end *state = &engine->own->ports[port];
    if (state->used)
        return;
    un_ring_init(&state->events, engine->config->event_slots, 0, 0);
    un_ring_init(&state->commands, engine->config->command_slots, 0, 0);
    un_ring_init(&state->releases, (uint32_t)un_layout(engine->setup.public)->release_ring.items, 0, 0);
    state->rx_open = UN_NONE;
    state->receive = UN_LIST_EMPTY;
    state->line = port;
    state->cursor = UN_NONE;
    un_rx_rebuild_free(engine, port);
    un_sendqueue_begin(engine, port);
    un_compiler_fence();
    state->used = true;
}

void un_ports_begin(struct un_engine *engine)
{
    for (uint32_t seat = 0; seat < engine->config->seats; seat++) {
        un_port_use(engine, un_port_of_seat(seat, 0));
        un_port_make_current(engine, un_port_of_seat(seat, 0));
    }
    un_ports_look(engine);
}

void un_ports_look(struct un_engine *engine)
{
    uint32_t count = 0;
    for (uint32_t port = 0; port < un_port_count(engine->config); port++) {
        const struct un_port_end *state = &engine->own->ports[port];
        if (state->used && (un_is_current(engine, port) || state->attached || !state->vacant))
            engine->live[count++] = (uint8_t)port;
    }
    engine->live_count = count;
    engine->handing_over = count > engine->config->seats;
}

void un_port_make_current(struct un_engine *engine, uint32_t port)
{
    if (!un_is_current(engine, port))
        engine->own->ports[un_port_beside(port)].vacant = false;
    engine->own->seats[un_seat_of(port)].current = port;
    un_store(&un_port_public(engine->setup.public, un_port_beside(port))->current, 0);
    un_store(&un_port_public(engine->setup.public, port)->current, 1);
}
