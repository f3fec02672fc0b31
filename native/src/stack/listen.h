/* Segments that no connection takes. */
#ifndef UN_LISTEN_H
#define UN_LISTEN_H

#include "stack/arrival.h"

void un_listen_finish(struct un_stack *stack); /* an unlisten that its process did not live to finish */
/* A segment that no connection takes. */
enum un_drop un_listen_input(struct un_stack *stack, struct un_arrival *arrival, const struct un_seg *seg);
/* A segment for a connection in TIME-WAIT: true when it was a SYN by which a new one took its place. */
bool un_listen_reuse(struct un_stack *stack, struct un_arrival *arrival, struct un_tcb *tcb, const struct un_seg *seg);

#endif
