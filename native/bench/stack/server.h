/* What stack_bench measures: a server on one end of a memory device, in one of its works. One table a stack.
 *
 * The functions that are measured are called measured_turn and measured_segment, with the name of the stack behind, and
 * contain all that is counted and nothing else: callgrind goes by their names. */
#ifndef SERVER_H
#define SERVER_H

#include "host.h"

enum server_work {
    SERVER_ECHO,   /* what comes goes back */
    SERVER_HOLD,   /* a segment is looked at, and let go later */
    SERVER_SINK,   /* what comes is let go */
    SERVER_SOURCE, /* the first connection gets as much as it takes, for as long as it is open */
};

struct server {
    const char *name;
    uint32_t connections_max; /* that it can be asked to carry in bearable time */
    void (*start)(struct un_device *device, struct host_size size, enum server_work work);
    void (*serve)(void);    /* packets in, work, packets out */
    void (*turn)(void);     /* the same, measured */
    void (*segment)(void);  /* SERVER_HOLD: a segment in, and its event out */
    void (*let_go)(void);   /* its payload; and a turn */
    uint64_t (*received)(void); /* bytes, since the start */
    void (*stop)(void);
};

extern const struct server server_usnet;
#ifdef HAVE_LWIP
extern const struct server server_lwip;
#endif

#endif
