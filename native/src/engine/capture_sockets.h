/* Capture of the kernel's sockets: a transport around that of the engine. */
#ifndef UN_CAPTURE_SOCKETS_H
#define UN_CAPTURE_SOCKETS_H

#include "engine/transport.h"

struct un_capture;

/* Of a connection, by its slot: what its counters do not say. */
struct un_capture_flow {
    uint32_t discarded; /* bytes that came after the application had closed */
    uint32_t ends;      /* bits of capture_sockets.c */
};

struct un_capture_sockets {
    struct un_transport outer;
    const struct un_transport *inner; /* NULL: it is no capture of sockets */
    struct un_capture_flow *flows;
};

int un_capture_sockets_begin(struct un_engine *engine, struct un_capture *capture); /* 0, -ENOMEM */
void un_capture_sockets_end(struct un_engine *engine, struct un_capture *capture);

/* A connection was accepted. */
void un_capture_opened(struct un_engine *engine, uint32_t slot);

#endif
