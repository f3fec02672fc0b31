/* The engine: owns a shard's connections. A transport on one side, the shard's ends of the rings on the other.
 *
 * In the split layout it is the loop of the network process (network.c); in the inline layout a worker calls
 * un_engine_turn from its own loop. Either way one thread uses it, and all it knows lies in the private memory, linked
 * by index, so that an engine started on the memory of a dead one goes on with its
 * connections (takeover.c). */
#ifndef UN_ENGINE_H
#define UN_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "shard/segment.h"

struct un_engine;
struct un_stack_setup; /* stack_setup.h */

/* What an engine is given. Memories are mapped and checked (segment.h); descriptors stay open while it runs. What it is
 * asked to do stands in the header of the public memory (shard/options.h). */
struct un_engine_setup {
    void *private;
    void *public;
    void *ports[UN_PORTS_MAX];       /* the memory of each port; NULL: none is ever attached there */
    int port_wake_fds[UN_PORTS_MAX]; /* pipe to its worker (base/wake.h); -1: it is in this process */
    int wake_fds[UN_PORTS_MAX];      /* pipe from its worker; -1: it is in this process */
    int control_fd;                  /* SOCK_SEQPACKET to the supervisor; -1: none */
    int epoll_fd;                    /* made by the caller, so that it outlives the engine */
    int listeners[UN_LISTENERS_MAX]; /* of a first engine: listeners.h */
    uint32_t listener_count;
    const struct un_stack_setup *stack; /* of a stack of our own; NULL: the kernel's sockets */
    const uint64_t *time_ns; /* time is what stands here, and turns do not wait; NULL: CLOCK_MONOTONIC */
};

/* Bytes of private memory for a segment; it must be zero when the first engine starts on it. */
uint64_t un_engine_private_bytes(const struct un_segment_config *config);

/* Start on fresh private memory, or take over what a dead engine left there. NULL with errno. */
struct un_engine *un_engine_start(const struct un_engine_setup *setup);

/* Forget an engine whose memories go too, or are taken over; connections and descriptors stay as they are. */
void un_engine_free(struct un_engine *engine);

/* In a child that a fork of this process made: close what it has of the descriptors of connections and listeners. Looks
 * at private memory only, and touches nothing that the parent shares: no epoll set, no socket. Async-signal-safe. */
void un_engine_leave_to_parent(const struct un_engine *engine);

/* What a descriptor that is not the engine's may stand in its epoll set with: when it is ready, a turn ends. */
#define UN_ENGINE_WATCH_OTHER (UINT64_C(4) << 48)

/* Nothing can be carried any more (its interface is gone); the supervisor was told why. Of the
 * kernel's sockets never. */
bool un_engine_has_failed(const struct un_engine *engine);

/* One turn: wait up to timeout_ms (-1: until something happens, 0: look only), receive, put events into the rings, take
 * commands, send, and look at deadlines. Returns how much was done, 0 when nothing. */
uint32_t un_engine_turn(struct un_engine *engine, int timeout_ms);

/* Only the part that takes commits: for the inline worker, between its batch and its next turn. */
uint32_t un_engine_take_commits(struct un_engine *engine);

/* Milliseconds until a deadline wants a turn, -1: none. */
int un_engine_deadline_ms(const struct un_engine *engine);

/* When a turn has something to do even if nothing comes, for who says what time it is; UINT64_MAX: never. */
uint64_t un_engine_deadline_ns(const struct un_engine *engine);

/* The supervisor's requests: over control_fd in the split layout, where inline the worker calls. A port becomes the
 * current one of its seat when a worker is attached to it, or once more by the same serial; the worker at the other one
 * gives its connections up (seats.h). -EBUSY: the events of the worker that was there last are still being copied to
 * the other port; attach there. */
int un_engine_attach_worker(struct un_engine *engine, uint32_t port, uint32_t serial, bool resumes);

/* How a worker came to be gone. */
enum un_loss {
    UN_LOSS_DIED,
    UN_LOSS_HUNG, /* killed because it made no progress: the event that it was handling is quarantined at once */
    UN_LOSS_LEFT, /* in order, with nothing left to do */
};

/* True: an event was quarantined. */
bool un_engine_lost_worker(struct un_engine *engine, uint32_t port, enum un_loss how);
void un_engine_stop_accepting(struct un_engine *engine);

/* Where connections come from: a socket that listens, or (fd -1) what a stack of our own is to listen on. */
struct un_listening {
    int fd;
    uint8_t ip[16]; /* IPv4 in its mapped form; zeros: any */
    uint16_t port;
};

/* A listener by this number, of which there are UN_LISTENERS_MAX: accept from it too, unless the engine does not accept
 * any more. The descriptor is the engine's then. The same listener once more is no error. -ERANGE: no such number;
 * -EEXIST: it is another listener's; -EBADF, -EINVAL: not what this transport listens on, or nothing that listens;
 * -EADDRNOTAVAIL, -EADDRINUSE, -ENOSPC of a stack. */
int un_engine_listen(struct un_engine *engine, uint32_t number, const struct un_listening *what);

/* Accept what waits there, and no more. Connections stay. There need not be one by this number. -ERANGE. */
int un_engine_unlisten(struct un_engine *engine, uint32_t number);

/* Of each connection a FIN if nothing of it is under way, else a reset: ending.c. They leave at once, if at all. */
void un_engine_end_all(struct un_engine *engine, enum un_reason reason);

#endif
