/* The life of a connection, whatever carries it.
 *
 *   FREE -> OPEN -> CLOSING -> LINGER -> CLOSED -> FREE
 *
 * OPEN until the worker closes it, the peer resets it or a deadline passes. CLOSING while output is being flushed.
 * LINGER after our FIN, until the peer's: a socket closed with unread input would send a reset that may destroy output
 * on its way, so input is read and thrown away, for a bounded time since the peer last took output. CLOSED until the
 * worker has consumed the CLOSE event: until then the table entry can be read, and a command for it is refused as stale
 * rather than misdelivered. */
#ifndef UN_CONNS_H
#define UN_CONNS_H

#include "engine/state.h"

uint32_t un_engine_conn_take_slot(struct un_engine *engine); /* or UN_NONE */
void un_engine_conn_free_slot(struct un_engine *engine, uint32_t slot);

/* What a transport has accepted. */
struct un_accepted {
    int handle;
    bool parted;       /* transport.h */
    uint32_t listener; /* its number */
    uint32_t port; /* whose it is to be */
    struct un_endpoint peer;
    struct un_endpoint local;
};

/* The current port of the attached seat with the fewest slots of the table; of any seat when none has a worker yet: its
 * events wait. Slots count, not connections: a worker that takes no notice of closed ones gets no new ones for them. */
uint32_t un_engine_port_choose(struct un_engine *engine);
void un_engine_conn_opened(struct un_engine *engine, uint32_t slot, const struct un_accepted *accepted);

/* For moving.c and seats.c. The port changes with all that is counted by port, and by one store. */
void un_engine_conn_set_move(struct un_engine *engine, uint32_t slot, enum un_move move);
void un_engine_conn_change_port(struct un_engine *engine, uint32_t slot, uint32_t port);

void un_engine_conn_finish(struct un_engine *engine, uint32_t slot, enum un_reason reason, bool reset);
void un_engine_conn_discard(struct un_engine *engine, uint32_t slot, enum un_reason reason); /* and tell nobody */
void un_engine_conn_close(struct un_engine *engine, uint32_t slot);    /* orderly, from the worker */
void un_engine_conn_send_eof(struct un_engine *engine, uint32_t slot);
void un_engine_conn_sent_all(struct un_engine *engine, uint32_t slot); /* the output of a slot became empty */
void un_engine_conn_peer_eof(struct un_engine *engine, uint32_t slot);

/* With a send timeout, from now on, of one with output of which the transport has so many bytes. */
void un_engine_conn_expect_progress(struct un_engine *engine, uint32_t slot, uint32_t undelivered);
void un_engine_conn_sweep_deadlines(struct un_engine *engine);

/* Whether any output waits, or is sent and not acknowledged. */
bool un_engine_owes_output(struct un_engine *engine);

/* From the transport. */
void un_engine_conn_failed(struct un_engine *engine, uint64_t id); /* after what can be read */
void un_engine_conn_ended(struct un_engine *engine, uint64_t id, enum un_reason reason); /* nothing can be read */

#endif
