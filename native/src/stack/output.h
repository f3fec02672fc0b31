/* Segments of connections, and packets of none whose next hop is looked for. */
#ifndef UN_STACK_OUTPUT_H
#define UN_STACK_OUTPUT_H

#include "stack/arrival.h"
#include "stack/packets.h"

int un_stack_emit(struct un_tcp *tcp, struct un_tcb *tcb, struct un_seg *seg, const struct un_piece *pieces, int count,
                  uint32_t segment_bytes);
/* Connections with something to send, each as much as it may; how many. */
uint32_t un_stack_run_outputs(struct un_stack *stack);
/* When the next hop's address is not known it is kept, and counts as sent. 0, -EAGAIN: the device is full,
 * -EHOSTUNREACH. */
int un_stack_send(struct un_stack *stack, struct un_datagram *datagram);
void un_stack_answer(struct un_stack *stack, const struct un_arrival *arrival, const struct un_seg *seg);

/* Those of farewell.h that can leave now. */
void un_stack_send_farewells(struct un_stack *stack);

#endif
