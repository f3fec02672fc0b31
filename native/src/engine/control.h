/* Messages between the supervisor and a shard's keeper and engine, over one SOCK_SEQPACKET pair; a fixed struct each.
 *
 * Requests are repeatable: the supervisor sends what it has not seen confirmed again when a new engine says READY.
 * The keeper speaks only when it has no engine (DIED). */
#ifndef UN_CONTROL_H
#define UN_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/assert.h"

enum un_control_type {
    /* supervisor to engine; each is confirmed by the same type */
    /* a worker sits at `port`; serial names it, flags as below; confirmed with an errno, or 0, in arg[0]: EBUSY, nobody
     * may sit there until the port is vacant (the other one of its seat is free) */
    UN_CONTROL_ATTACH = 1,
    UN_CONTROL_LOST = 2,   /* the worker `serial` at `port` is gone; confirmed with UN_CONTROL_POISONED or without */
    UN_CONTROL_DRAIN = 3,  /* accept no more; may be asked again, for UN_CONTROL_OWES */
    UN_CONTROL_QUIT = 4,   /* end what is left and exit; confirmed by the keeper's end of file */
    /* listener number `port` comes or goes, and no worker is meant; confirmed with an errno, or 0, in arg[0]. LISTEN
     * comes with the descriptor of a socket that listens (SCM_RIGHTS); of a stack of our own without one, the address
     * is in arg, as struct un_ip has it, and the port in flags */
    UN_CONTROL_LISTEN = 5,
    UN_CONTROL_UNLISTEN = 6,
    /* comes with a descriptor of an engine's file (network.h), which goes on in the place of this one; confirmed before
     * that, and READY tells the rest */
    UN_CONTROL_UPGRADE = 7,
    /* the worker at `port` makes no progress (flags 1), or does again (0): new connections go to other seats while
     * there are any. The next worker that is attached there gets connections again */
    UN_CONTROL_DIVERT = 8,
    /* what is known of connections or of the link (port: enum un_look; arg[0]: where the slice begins), written into
     * the file in memory that comes along: look.h. Confirmed with the serial of the question, how many entries in
     * flags, an errno, or 0, in arg[0], and where the next slice begins in arg[1] */
    UN_CONTROL_LOOK = 9,
    /* copy packets into this memory (capture_ring.h), a descriptor with arg[0] bytes; the capture has the number
     * `serial`. Without a descriptor: no more. Confirmed with an errno, or 0, in arg[0] */
    UN_CONTROL_CAPTURE = 10,
    /* engine or keeper to supervisor */
    UN_CONTROL_READY = 16, /* an engine runs; arg[0] pid, arg[1] epoch; flags: UN_CONTROL_REFUSED or 0 */
    UN_CONTROL_DIED = 17,  /* the keeper's engine died; arg[0] pid, arg[1] wait status; another is started */
    UN_CONTROL_BAD = 18,   /* the worker `serial` at `port` wrote nonsense; kill it */
    UN_CONTROL_LIMIT = 19, /* accepting paused; arg[0]: 0 connection limit, else the errno of accept */
    /* news of an address of ours; port: enum un_address_news; arg: the address, as struct un_ip has it; serial and the
     * low half of flags: the MAC address of the other station, as its bytes stand in them */
    UN_CONTROL_ADDRESS = 20,
    UN_CONTROL_SAYS = 21, /* words for people: text follows, up to UN_CONTROL_TEXT_MAX bytes; no more comes after it */
    /* `port`, whose last worker is or was `serial`, is not current (engine.h) and has no connection, no unread
     * event and no untaken command any more; once for each serial, and by each engine that takes over */
    UN_CONTROL_VACANT = 22,
    /* of a stack that shares the interface's addresses: who has the IP address in arg, as struct un_ip has it, is not
     * known. The kernel is to ask; the answer stands in the table (usnet_kernel.h) */
    UN_CONTROL_ASKS = 23,
};

#define UN_CONTROL_RESUMES 1u  /* of ATTACH: the handler class defines on_resume */
#define UN_CONTROL_POISONED 2u /* of LOST, confirmed: the quarantine of its port holds an event */
#define UN_CONTROL_REFUSED 4u  /* of READY: the engine that was to come could not go on with what is there */
#define UN_CONTROL_HUNG 8u     /* of LOST: it made no progress, and was killed for that */
#define UN_CONTROL_LEFT 32u    /* of LOST: it left in order */
#define UN_CONTROL_OWES 16u    /* of DRAIN, confirmed: a peer has not acknowledged all that was sent to it */

struct un_control {
    uint32_t type;
    uint32_t port;
    uint32_t serial;
    uint32_t flags;
    uint64_t arg[2];
};

UN_STATIC_ASSERT(sizeof(struct un_control) == 32, "as the supervisor packs it: <IIIIQQ");

#define UN_CONTROL_TEXT_MAX 256u

/* Tell the supervisor's log, over this control socket, why the caller cannot go on. Without a supervisor (fd < 0):
 * write it to stderr. */
__attribute__((format(printf, 2, 3))) void un_control_say(int fd, const char *format, ...);

/* A message of the engine to the supervisor. */
struct un_engine;
void un_control_tell(struct un_engine *engine, uint32_t type, uint32_t port, uint32_t serial, uint32_t flags,
                     uint64_t arg0, uint64_t arg1);

/* The same, of a message that can be told later: false, and nothing was sent, where the socket is full. */
bool un_control_offer(const struct un_engine *engine, uint32_t type, uint64_t arg0, uint64_t arg1);

#endif
