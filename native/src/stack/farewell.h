/* Resets that could not leave with the end of their connection: the device was full, the next hop is being asked for,
 * or the process died. The connection is gone by then, and does not repeat its reset as it repeats everything else; a
 * peer that did not hear it would wait for nothing.
 *
 * They wait in a ring of the arena and leave at the end of a turn (un_stack_send_farewells of output.h). When it is
 * full, more are lost and counted, as by a wire. */
#ifndef UN_FAREWELL_H
#define UN_FAREWELL_H

#include "stack/arena.h"

/* Keep a reset of this connection; false: there is no room. */
bool un_farewell_keep(struct un_stack *stack, const struct un_tcb *tcb, const struct un_seg *reset);

bool un_farewell_has_room(const struct un_stack *stack);
/* Behind the others. When there is no room, it has to be the first one, whose place it keeps. */
void un_farewell_put(struct un_farewells *farewells, const struct un_farewell *farewell);
/* The change that kept resets, if it did, is over; or it is undone, and so are they. */
void un_farewell_settle(struct un_stack *stack, bool is_undone);

#endif
