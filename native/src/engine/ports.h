/* Which ports a turn looks at, and what a port has before its first worker comes.
 *
 * A seat has two ports, of which one is enough most of the time. The other one costs nothing then: no turn looks at it,
 * and none of its memory was touched before its first use. */
#ifndef UN_ENGINE_PORTS_H
#define UN_ENGINE_PORTS_H

#include "engine/state.h"

void un_ports_begin(struct un_engine *engine); /* of a first engine: side 0 of each seat is current */
void un_port_use(struct un_engine *engine, uint32_t port);
void un_ports_look(struct un_engine *engine); /* find the live ones anew, after one came, left or became vacant */

void un_port_make_current(struct un_engine *engine, uint32_t port);

#endif
