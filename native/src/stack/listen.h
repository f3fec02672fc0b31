/* Segments that belong to no connection. See listen.c. */
#ifndef UN_LISTEN_H
#define UN_LISTEN_H

#include "stack/arrival.h"

void un_listen_finish(struct un_stack *stack); /* the rest of an unlisten whose process died */
/* A segment that no connection takes. */
enum un_drop un_listen_input(struct un_stack *stack, struct un_arrival *arrival, const struct un_seg *seg);
/* A segment for a connection in TIME-WAIT. true: it was a SYN, and began a new connection in place of the old one. */
bool un_listen_reuse(struct un_stack *stack, struct un_arrival *arrival, struct un_tcb *tcb, const struct un_seg *seg);

#endif
