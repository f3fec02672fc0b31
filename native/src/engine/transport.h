/* What carries bytes for the engine: the kernel's sockets (kernel.c) or a stack of our own (stack_transport.c).
 *
 * A handle names an open connection to the transport. poll tells the engine what became possible by
 * un_engine_conn_can_receive and un_engine_conn_can_send (edges: told once, until the verb said EAGAIN or did less than
 * it was asked for), and it opens new connections with un_engine_conn_take_slot and un_engine_conn_opened. Verbs return
 * bytes or -errno. poll acts on connections only: that the supervisor asks for something it notes in `requests_wait`.
 *
 * receive_parted and send_parted are for connections whose reads may stop short although there is more (unix sockets):
 * *parted says whether this one did. Nothing is lent. A transport without such connections lacks both.
 *
 * send is told in whose send frames the pieces lie. It may keep a piece that it took where it is: bit i of *lent says
 * so of pieces[i], of which it took all then. The transport tells by un_sendqueue_done when it does not need the bytes
 * any more. After a takeover count_lent adds to waiting[] how many pieces it keeps in each send frame of a port; it
 * tells of no others that came before.
 *
 * After a takeover counts says what went through a connection in all, to be compared with what was accounted for:
 * -ECONNRESET when the dead engine was told of its end, -EOPNOTSUPP when nobody knows. settle_orphans is for handles
 * that no connection owns: what was to be closed is closed now, what was accepted is opened again.
 *
 * A connection whose processes all die is reset, not ended in order, until send_eof or close (without reset) says that
 * all of the output is there. close is told whether send_eof came before.
 *
 * look fills in what is known of a connection, look_table the next entries of one of the other kinds (look.h), of which
 * a transport may have none.
 *
 * start comes first, before a takeover too. What send took may wait in the transport; flush puts it on its way, once
 * after everything that a turn had to send, so that an answer leaves in the turn in which it was given. */
#ifndef UN_TRANSPORT_H
#define UN_TRANSPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct un_engine;
struct un_listening;
struct un_look_conn;
struct un_look_slice;

/* Bytes that a connection gave us and took from us. */
struct un_counts {
    uint64_t taken;
    uint64_t given;
};

struct un_transport {
    int (*start)(struct un_engine *engine);
    void (*stop)(struct un_engine *engine); /* forget what this process has; connections stay as they are */
    uint32_t (*poll)(struct un_engine *engine, int timeout_ms);
    ssize_t (*receive)(struct un_engine *engine, int handle, void *bytes, size_t length);
    ssize_t (*receive_parted)(struct un_engine *engine, int handle, void *bytes, size_t length, bool *parted);
    ssize_t (*send)(struct un_engine *engine, uint32_t port, int handle, const struct iovec *pieces, int count,
                    uint64_t *lent);
    ssize_t (*send_parted)(struct un_engine *engine, int handle, const struct iovec *pieces, int count);
    void (*count_lent)(struct un_engine *engine, uint32_t port, uint32_t *waiting);
    int (*send_eof)(struct un_engine *engine, int handle);
    void (*close)(struct un_engine *engine, int handle, bool reset, bool fin_sent); /* -1: closed before */
    uint32_t (*undelivered)(struct un_engine *engine, int handle); /* bytes sent and not acknowledged */
    bool (*is_idle)(struct un_engine *engine, int handle); /* nothing of it waits that would end with this process */
    void (*flush)(struct un_engine *engine);
    void (*drain)(struct un_engine *engine); /* flush, as far as it goes, before the process ends; bounded */
    uint64_t (*deadline_ns)(const struct un_engine *engine); /* poll then, if nothing comes; UINT64_MAX: never */
    void (*admit)(struct un_engine *engine, bool on); /* take new connections or not: while paused, or for good */
    int (*listen)(struct un_engine *engine, uint32_t number, const struct un_listening *what); /* un_engine_listen */
    void (*unlisten)(struct un_engine *engine, uint32_t number);
    int (*counts)(struct un_engine *engine, uint32_t slot, struct un_counts *counts);
    void (*settle_orphans)(struct un_engine *engine);
    void (*look)(struct un_engine *engine, int handle, struct un_look_conn *entry);
    int (*look_table)(struct un_engine *engine, uint32_t what, struct un_look_slice *slice);
};

extern const struct un_transport un_kernel_transport;
extern const struct un_transport un_stack_transport;

#endif
