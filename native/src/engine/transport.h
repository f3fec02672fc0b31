/* What carries bytes for the engine: the kernel's sockets (kernel.c) or a stack of our own (stack_transport.c).
 *
 * A handle names an open connection to the transport. poll tells the engine what became possible by
 * un_engine_conn_can_receive and un_engine_conn_can_send (edges: told once, until the verb said EAGAIN or did less than
 * it was asked for), and it opens new connections with un_engine_conn_take_slot and un_engine_conn_opened. Verbs return
 * bytes or -errno.
 *
 * send may keep a piece that it took where it is: bit i of *lent says so of pieces[i], of which it took all then. The
 * transport tells by un_transmit_done when it does not need the bytes any more. After a takeover count_lent adds to
 * waiting[] how many pieces it keeps in each send frame of a seat; it tells of no others that came before.
 *
 * start comes first, before a takeover too. What send took may wait in the transport; flush puts it on its way, once
 * after everything that a turn had to send, so that an answer leaves in the turn in which it was given. */
#ifndef UN_TRANSPORT_H
#define UN_TRANSPORT_H

#include <sys/types.h>
#include <sys/uio.h>

#include "engine/state.h"

struct un_transport {
    int (*start)(struct un_engine *engine);
    void (*stop)(struct un_engine *engine); /* forget what this process has; connections stay as they are */
    uint32_t (*poll)(struct un_engine *engine, int timeout_ms);
    ssize_t (*receive)(struct un_engine *engine, int handle, void *bytes, size_t length);
    ssize_t (*send)(struct un_engine *engine, int handle, const struct iovec *pieces, int count, uint64_t *lent);
    void (*count_lent)(struct un_engine *engine, uint32_t seat, uint32_t *waiting);
    int (*send_eof)(struct un_engine *engine, int handle);
    void (*close)(struct un_engine *engine, int handle, bool reset); /* -1: it was closed before */
    void (*flush)(struct un_engine *engine);
    uint64_t (*deadline_ns)(const struct un_engine *engine); /* poll then, if nothing comes; UINT64_MAX: never */
    void (*listen)(struct un_engine *engine, bool on); /* take new connections or not: while paused, or for good */
    void (*close_orphans)(struct un_engine *engine); /* handles that no connection owns, after a takeover */
};

extern const struct un_transport un_kernel_transport;
extern const struct un_transport un_stack_transport;

/* The engine's side. */
void un_engine_conn_can_receive(struct un_engine *engine, uint64_t id, bool fin_seen);
void un_engine_conn_can_send(struct un_engine *engine, uint64_t id);
void un_engine_conn_failed(struct un_engine *engine, uint64_t id); /* after what can be read */
/* nothing can be read any more */
void un_engine_conn_ended(struct un_engine *engine, uint64_t id, enum un_reason reason);

/* accept.c: limits of accepting, the same for every transport. */
bool un_accept_is_allowed(struct un_engine *engine); /* false at the connection limit: accepting pauses */
void un_accept_pause(struct un_engine *engine, int error); /* 0: connection limit, else why no more can be opened */
void un_accept_resume(struct un_engine *engine);           /* when it is time */

/* watch.c: the epoll set, the same for every transport. What it gives back is a connection's id, or, with generation 0,
 * one of these and a number. */
enum un_watched {
    UN_WATCHED_LISTENER = 1,
    UN_WATCHED_WAKE = 2,
    UN_WATCHED_CONTROL = 3,
    UN_WATCHED_OTHER = 4,
    UN_WATCHED_DEVICE = 5
};
#define UN_WATCHED(kind, number) ((uint64_t)(kind) << 48 | (uint64_t)(number) << 32)
#define UN_WATCHED_KIND(what) ((enum un_watched)((what) >> 48))
#define UN_WATCHED_NUMBER(what) ((uint32_t)((what) >> 32) & 0xffff)
#define UN_IS_WATCHED(what) ((uint32_t)(what) == 0)

int un_watch(struct un_engine *engine, int fd, uint32_t events, uint64_t what); /* watched already: 0 */
int un_watch_start(struct un_engine *engine); /* the descriptors that workers and supervisor write */

#endif
