/* Output that waits: each connection's queue of nodes, one node for each SEND of its worker.
 *
 * A node names bytes in a send frame of a port. Nodes come from a pool per port, so a worker can exhaust its own
 * only; then its commands wait (P5). The queue of a connection that has changed its port may begin in the pool of the
 * one that it left. A frame's account tells the worker when all of its descriptors are done, which is
 * later where the transport keeps the bytes in their frame until the peer has them. */
#ifndef UN_SENDQUEUE_H
#define UN_SENDQUEUE_H

#include <sys/uio.h>

#include "engine/state.h"

/* False when no node is free. */
bool un_sendqueue_append(struct un_engine *engine, uint32_t slot, const struct un_command *command);

/* The first pieces of a queue that is not empty, UN_IOV_MAX at most, which all lie in the send frames of *port; returns
 * how many. */
int un_sendqueue_gather(struct un_engine *engine, uint32_t slot, uint32_t *port, struct iovec *pieces);

/* The transport took so many bytes, and that stays; bit i of lent: it keeps those of the node i behind the head where
 * they are. */
void un_sendqueue_took(struct un_engine *engine, uint32_t slot, size_t bytes, uint64_t lent);
void un_sendqueue_done(struct un_engine *engine, uint32_t port, uint32_t frame); /* a piece that was lent came back */

void un_sendqueue_drop(struct un_engine *engine, uint32_t slot);
void un_sendqueue_begin(struct un_engine *engine, uint32_t port); /* of a port that was never used */
void un_sendqueue_rebuild(struct un_engine *engine, uint32_t port);

#endif
