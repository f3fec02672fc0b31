/* Connections that wait for their turn: a receive list per port, and one flush list.
 *
 * A connection stands at most once in each; a flag of it says that it does. The lists are caches: a takeover empties
 * them and lists every living connection. */
#ifndef UN_WORKLISTS_H
#define UN_WORKLISTS_H

#include "engine/state.h"

/* The receive list of its port: it has input to read, or an event that found the ring full. One that is withheld
 * (moving.h) is listed by who ends that. */
void un_receive_later(struct un_engine *engine, uint32_t slot);
uint32_t un_receive_next(struct un_engine *engine, uint32_t port); /* off the list; it must not be empty */
void un_receive_join(struct un_engine *engine, uint32_t from, uint32_t to); /* the list of one port behind another's */

/* The flush list: it has output, or its end may be due. */
void un_transmit_later(struct un_engine *engine, uint32_t slot);
uint32_t un_transmit_next(struct un_engine *engine); /* off the list, or UN_NONE */

#endif
