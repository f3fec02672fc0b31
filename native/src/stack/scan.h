/* What the queues hold, counted into the scratch tables: for adoption, and for checks. */
#ifndef UN_SCAN_H
#define UN_SCAN_H

#include "stack/arena.h"

void un_scan_begin(struct un_stack *stack);
/* Queues that are not damaged: no index beyond a table, no bytes beyond a frame, no frame or record in two places. */
bool un_scan_conn(struct un_stack *stack, const struct un_tcb *tcb);
bool un_scan_frames(struct un_stack *stack, uint32_t head, uint32_t *frames, uint32_t *bytes, uint32_t *tail);

#endif
