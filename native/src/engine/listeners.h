/* The listening sockets that the engine accepts from.
 *
 * The table lies in private memory, because an engine's successor has the same sockets. A listener keeps its number
 * while it exists, and each connection notes the number of its own. The listeners of a stack have such numbers, too, in
 * a table of the transport.
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

int un_listeners_add(struct un_engine *engine, int fd);  /* its number, or -ENOSPC */
void un_listeners_remove(struct un_engine *engine, uint32_t number);

/* At start: those that the setup names, under the numbers that they had before. */
void un_listeners_start(struct un_engine *engine);

#endif
