/* The listening sockets that the engine accepts from.
 *
 * The table lies in private memory, because an engine's successor has the same sockets; the first engine begins it with
 * those of its setup, numbered in their order, and from then on the supervisor's requests change it. A listener keeps
 * its number while it is there, and each connection notes the number of its own. A stack's listeners have numbers
 * alike, in a table of the transport's.
 *
 * Connections inherit the options of their listener, which the supervisor sets when it opens one. A listener that was
 * opened elsewhere (fd:N) may lack them, and connections of unix sockets inherit nothing. */
#ifndef UN_LISTENERS_H
#define UN_LISTENERS_H

#include "engine/state.h"

enum un_lacking {
    UN_LACKS_RESET_ON_CLOSE = 1 << 0, /* SO_LINGER, at once */
    UN_LACKS_URGENT_INLINE = 1 << 1,  /* SO_OOBINLINE */
    UN_LACKS_KEEPALIVE = 1 << 2,      /* SO_KEEPALIVE, where it is asked for */
};

/* Of a first engine: none but those that the setup names. */
void un_listeners_begin(struct un_engine *engine);

/* The descriptor is the table's from now on. What stands there by this number already, by another descriptor, counts as
 * added: the new one is closed. -EEXIST: another socket has the number; -EINVAL: it is no socket that listens. */
int un_listeners_add(struct un_engine *engine, uint32_t number, int fd);

/* Its descriptor, which is the caller's to close; UN_NO_LISTENER where the number was free. */
int un_listeners_remove(struct un_engine *engine, uint32_t number);

#endif
