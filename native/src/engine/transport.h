/* What carries bytes for the engine: the kernel's sockets (kernel.c), later a stack of our own.
 *
 * A handle names an open connection to the transport. poll tells the engine what became possible by un_conn_can_receive
 * and un_conn_can_send (edges: told once, until the verb said EAGAIN or did less than it was asked for), and it opens
 * new connections with un_conn_take_slot and un_conn_opened. Verbs return bytes or -errno. */
#ifndef UN_TRANSPORT_H
#define UN_TRANSPORT_H

#include <sys/types.h>
#include <sys/uio.h>

#include "engine/state.h"

struct un_transport {
    int (*start)(struct un_engine *engine);
    uint32_t (*poll)(struct un_engine *engine, int timeout_ms);
    ssize_t (*receive)(int handle, void *bytes, size_t length);
    ssize_t (*send)(int handle, const struct iovec *pieces, int count);
    int (*send_eof)(int handle);
    void (*close)(int handle, bool reset);
    void (*listen)(struct un_engine *engine, bool on); /* take new connections or leave them in the backlog */
    void (*close_strangers)(struct un_engine *engine); /* handles that no connection owns, after a takeover */
};

extern const struct un_transport un_kernel_transport;

/* The engine's side. */
void un_conn_can_receive(struct un_engine *engine, uint64_t id, bool fin_seen);
void un_conn_can_send(struct un_engine *engine, uint64_t id);
void un_conn_failed(struct un_engine *engine, uint64_t id); /* after what can be read */

#endif
