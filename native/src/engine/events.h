/* Events into the rings, and what waits for space there.
 *
 * A ring is full when a worker is behind; nothing is dropped then (P5). Input stays in the transport, and an event that
 * must come (connect, drain, end of file, close) is a bit in its connection's flags, so waiting costs no memory. Such
 * connections stand once in their port's receive list and get their turn when the worker has consumed something. */
#ifndef UN_EVENTS_H
#define UN_EVENTS_H

#include "engine/state.h"

/* Slots that are free. None where the events of a port go to another one instead: seats.h. */
static inline uint32_t un_event_room(const struct un_engine *engine, uint32_t port)
{
    const struct un_port_end *state = &engine->own->ports[port];
    return state->line == port ? un_ring_reserve(&state->events) : 0;
}

bool un_event_push(struct un_engine *engine, uint32_t port, const struct un_event *event); /* false: the ring is full */
void un_event_post(struct un_engine *engine, uint32_t slot, uint16_t posts); /* now, or when the ring has space */

/* All that is due, in the order in which the handler expects it; false when the ring is full, or it is withheld. */
bool un_event_push_posts(struct un_engine *engine, uint32_t slot);
void un_events_publish(struct un_engine *engine, uint32_t port);

void un_wake_worker(struct un_engine *engine, uint32_t port);
void un_tell_space(struct un_engine *engine, uint32_t port); /* to a worker that sleeps for want of it */

#endif
