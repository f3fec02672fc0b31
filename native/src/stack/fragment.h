/* Datagrams that come in fragments. */
#ifndef UN_FRAGMENT_H
#define UN_FRAGMENT_H

#include "stack/arrival.h"

/* A datagram that is complete is a packet again, in *whole: its frames are the caller's. Else whole->frame is
 * UN_NONE. */
enum un_drop un_fragment_input(struct un_stack *stack, struct un_arrival *arrival, struct un_rx *whole);
void un_fragments_run(struct un_stack *stack);

#endif
