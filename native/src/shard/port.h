/* A worker's end of a segment: events in, commands out, commit.
 *
 * Nothing that a port does is visible to the engine before un_port_commit: events stay unconsumed, commands unsent.
 * A port is used by one thread and makes one system call at most: the wake-up in un_port_commit, when the engine
 * sleeps.
 *
 * Send memory. Output is copied once, into send frames that are filled from front to back; successive sends to one
 * connection within a batch grow one descriptor. A frame is filled again when the engine has completed as many of its
 * descriptors as were issued. Three quarters of the command ring are for output; the rest is kept for the commands
 * that a handler relies on (close, abort, state), and un_port_credit shrinks what a slow connection may occupy as
 * frames run out, so that slow peers never take them all.
 *
 * Release ring. Its capacity is four event rings. The engine looks at the releases each time before it looks at a
 * commit, and pushes no more events than commits have freed slots. So no more can wait between two looks at the
 * releases than slices held by views (hold_max, at most one ring), events consumed between that look and the look at
 * the commit (one ring), and events pushed into the slots that those freed (one ring): it is
 * never full. */
#ifndef UN_PORT_H
#define UN_PORT_H

#include "base/ring.h"
#include "shard/segment.h"

struct un_port {
    const void *public;
    void *memory; /* its own, which this worker writes */
    const struct un_segment_header *header;
    const struct un_engine_public *engine;
    const struct un_port_public *published; /* what the engine tells this port */
    struct un_port_memory *mine;
    const struct un_event *events;
    struct un_command *commands;
    uint32_t *releases;
    uint8_t *dirty;
    uint8_t *tx_frames;
    const struct un_tx_account *tx_accounts;
    const uint8_t *rx_frames;

    struct un_ring event_ring;   /* consumer */
    struct un_ring command_ring; /* producer */
    struct un_ring release_ring; /* producer */
    uint64_t committed;          /* the commit word as last published */
    uint32_t released;           /* releases as last published */

    uint32_t tx_frame; /* being filled */
    uint32_t tx_fill;
    bool tx_starved;       /* no frame was free; look again after the next commit */
    uint32_t *tx_issued;   /* descriptors issued, per frame */
    uint32_t *tx_free;     /* stack of free frames */
    uint32_t tx_free_count;
    uint32_t *tx_waiting; /* frames that were filled, not known to be complete; a circular queue */
    uint32_t tx_waiting_first;
    uint32_t tx_waiting_count;

    uint32_t number;
    int engine_wake_fd; /* pipe to the engine (base/wake.h); -1: it is in this process */
    int wake_fd;        /* pipe from the engine; -1: none */
    uint32_t heard;     /* waits that it may have ended */
    uint64_t woken;     /* the sleep of the engine that we ended last */
    bool owns_maps;
};

#define UN_PORT_SMALL "the port's memory is smaller than it says"
#define UN_PORT_MAD "it has no such seat, or what an earlier worker left in the port's memory cannot be"

/* Map the public memory and that of a port, and go on where its commit word says. 0, or -errno; *why is a sentence, or
 * NULL where the number says all. The descriptors stay the caller's; the pipes' ends are made not to block, and the one
 * from the engine is emptied. */
int un_port_open(struct un_port *port, int public_fd, int port_fd, uint32_t number, int engine_wake_fd, int wake_fd,
                 const char **why);

/* The same over memories that are mapped already (inline layout, tests). -EINVAL: indices in the port memory cannot be.
 * The engine takes no commands of this port meanwhile: it took them all when the last worker was lost. */
int un_port_attach(struct un_port *port, const void *public, void *port_memory, uint32_t number, int engine_wake_fd);

void un_port_close(struct un_port *port);

/* How many events are ready; the i-th of them, 0 <= i < that; mark them used. */
uint32_t un_port_peek(struct un_port *port);
static inline const struct un_event *un_port_event(const struct un_port *port, uint32_t i)
{
    return &port->events[un_ring_slot(&port->event_ring, port->event_ring.own + i)];
}
static inline void un_port_release(struct un_port *port, uint32_t count)
{
    un_ring_release(&port->event_ring, count);
}

/* The bytes of a DATA event. */
static inline const uint8_t *un_port_bytes(const struct un_port *port, const struct un_event *event)
{
    return port->rx_frames + (uint64_t)event->frame * port->header->config.rx_frame_bytes + event->offset;
}

/* Which event the handler is being called for (P3): the i-th ready one; and that it came back. */
static inline void un_port_handling(struct un_port *port, uint32_t i)
{
    un_store(&port->mine->handling, UN_HANDLING(port->event_ring.own + i));
    un_compiler_fence();
}
static inline void un_port_handled(struct un_port *port)
{
    un_compiler_fence();
    un_store(&port->mine->handling, 0);
}

/* Give a receive slice back; takes effect after the next commit. */
void un_port_free_frame(struct un_port *port, uint32_t frame);

/* Copy output into send frames; returns the bytes taken, fewer than length when frames or ring run out. */
uint32_t un_port_send(struct un_port *port, uint64_t conn, const void *bytes, uint32_t length);

/* Any other command; false when the ring is full. STATE goes through un_port_state (length <= state_bytes). */
bool un_port_command(struct un_port *port, enum un_command_op op, uint64_t conn, uint64_t arg);
bool un_port_state(struct un_port *port, uint64_t conn, const void *bytes, uint32_t length);

/* Bytes one connection may have waiting in send frames now, less the fewer frames are known to be free; a connection
 * with nothing waiting may always send. Ask once per batch: it looks at some of the frames that were not complete. */
uint32_t un_port_credit(struct un_port *port);

/* Is there anything that a commit would publish? */
bool un_port_pending(const struct un_port *port);

/* One release store for events consumed and commands produced; then released frames; then a wake-up if needed. */
void un_port_commit(struct un_port *port);

/* Before sleeping: true when it is safe to sleep until wake_fd is written; un_port_awake afterwards. Commit
 * first. want_space: wake, or do not sleep, also when command slots or send frames came free since the last look. */
bool un_port_sleep(struct un_port *port, bool want_space);
void un_port_awake(struct un_port *port);

/* The table entry of a connection, or NULL when the id is stale. */
const struct un_conn *un_port_conn(const struct un_port *port, uint64_t conn);

static inline void un_port_set_dirty(struct un_port *port, uint64_t conn, bool dirty)
{
    un_compiler_fence(); /* clean not before the commit that makes it so, */
    port->dirty[UN_ID_SLOT(conn)] = dirty;
    un_compiler_fence(); /* dirty not after the output that makes it so */
}

#endif
