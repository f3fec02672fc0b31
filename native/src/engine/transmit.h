/* Output: from the send queues to the transport.
 *
 * Connections with output stand in the flush list and are flushed after all commands of a turn were taken, so several
 * sends of a batch leave in one gathering call. What the transport does not take waits for un_engine_conn_can_send. */
#ifndef UN_TRANSMIT_H
#define UN_TRANSMIT_H

#include "engine/state.h"

void un_transmit_listed(struct un_engine *engine);

/* From the transport: it may take output of this connection again. */
void un_engine_conn_can_send(struct un_engine *engine, uint64_t id);

#endif
