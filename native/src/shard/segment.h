/* The layout of a shard's shared memory: every struct that crosses a process, and where it lies.
 *
 * A shard has one network process (the engine) and `seats` workers. A seat outlives the worker process that sits on it:
 * connections belong to a seat. A worker reaches the engine by a port of its seat, and a replacement at that port goes
 * on where its commit word says. A seat has two ports, so that a successor can sit beside the worker that leaves, and
 * connections are handed over one by one (engine/seats.h). Three memories, so that distrust is enforced by the MMU:
 *
 *   private  anonymous, mapped by keeper and engine only: engine/state.h
 *   public   written by the engine, read-only for workers (the memfd is sealed): header with the options of the engine,
 *            counters, connection table, indices of ports, event rings, receive frames
 *   port     one memfd per port, written by the one worker that is there: commit word, counters, command ring,
 *            release ring, dirty map, send frames. The engine reads it and believes nothing it reads.
 *
 * Everything is an offset from the start of its memory. Indices run freely over 2^32 (base/ring.h).
 *
 * The commit (P1). The worker's progress is one 64-bit word: events consumed in the low half, commands produced in the
 * high half. One release store publishes both, so a worker killed at any instruction has done both for a batch or
 * neither. Frames of consumed events are given back after the commit, never before, through the release ring.
 *
 * Dirty map. One byte per connection slot: not zero while something of that connection cannot be part of a commit
 * (output waiting in worker memory, an async callback, data set aside by pause_reading). If the worker dies then, the
 * engine resets
 * that connection. */
#ifndef UN_SEGMENT_H
#define UN_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/assert.h"
#include "base/barrier.h"
#include "shard/layout.h"
#include "shard/options.h"

#define UN_SEGMENT_MAGIC UINT64_C(0x31544553554e5355)

#define UN_SEATS_MAX 64u            /* workers of one shard; a bound for loops, far above cores per queue */
#define UN_PORTS 2u                 /* of a seat: so a worker and its successor can sit there side by side */
#define UN_PORTS_MAX (UN_SEATS_MAX * UN_PORTS)
#define UN_TX_FRAMES_MAX (1u << 22) /* of a port */
#define UN_CONN_MAX (1u << 22)      /* 22 bits of slot in a connection id */
#define UN_SHARD_MAX (1u << 10)     /* 10 bits of shard in a connection id */
#define UN_STATE_BYTES_MAX 4096u    /* a state blob stays smaller than a send frame */
#define UN_RX_SLICE_ALIGN 64u       /* slices of one receive frame do not share a cache line between two cores */
#define UN_WAIT_BUCKETS 24u         /* histogram of time in the ring: bucket i counts waits < 2^i microseconds */
#define UN_REASONS 16u
#define UN_PAGE 4096u
#define UN_STACK_WORDS 256u         /* counters of a stack of our own: engine/stack_counters.h */

/* Connection id: shard 10 bits | slot 22 bits | generation 32 bits. A generation is never 0, nor is an id. */
#define UN_ID(shard, slot, generation) ((uint64_t)(shard) << 54 | (uint64_t)(slot) << 32 | (generation))
#define UN_ID_SHARD(id) ((uint32_t)((id) >> 54))
#define UN_ID_SLOT(id) ((uint32_t)((id) >> 32) & (UN_CONN_MAX - 1))
#define UN_ID_GENERATION(id) ((uint32_t)(id))

enum un_event_type {
    UN_EVENT_SKIP = 0, /* was an event; its connection was reset before it could be delivered */
    UN_EVENT_CONNECT = 1,
    UN_EVENT_DATA = 2,
    UN_EVENT_EOF = 3,
    UN_EVENT_DRAIN = 4, /* answers UN_COMMAND_WANT_DRAIN */
    UN_EVENT_CLOSE = 5, /* the last one of a connection; its slot is reused once this is consumed */
    UN_EVENT_MOVE = 6,  /* give the connection up: answered by RELEASE or KEEP, and the last one of it until then */
};

enum un_command_op {
    UN_COMMAND_SEND = 1,
    UN_COMMAND_SEND_EOF = 2,   /* half-close after what was sent before */
    UN_COMMAND_CLOSE = 3,      /* flush, then close */
    UN_COMMAND_ABORT = 4,      /* reset at once; arg: UN_REASON_ABORTED or UN_REASON_ERROR */
    UN_COMMAND_PAUSE = 5,      /* stop receiving */
    UN_COMMAND_RESUME = 6,
    UN_COMMAND_STATE = 7,      /* replace the state blob; frame, offset, length as in SEND */
    UN_COMMAND_WANT_DRAIN = 8, /* post UN_EVENT_DRAIN once no more than arg bytes wait to be sent */
    UN_COMMAND_RELEASE = 9,    /* answers UN_EVENT_MOVE: this worker has nothing more to do with the connection */
    UN_COMMAND_KEEP = 10,      /* answers UN_EVENT_MOVE: something of it is in no commit yet */
    UN_COMMAND_SETTLED = 11,   /* after KEEP: now all of it is; ask again */
};

enum un_reason {
    UN_REASON_NONE = 0,
    UN_REASON_PEER = 1,         /* the peer closed, and so did we */
    UN_REASON_LOCAL = 2,        /* Connection.close */
    UN_REASON_ABORTED = 3,      /* Connection.abort */
    UN_REASON_RESET = 4,        /* the peer reset it */
    UN_REASON_IDLE = 5,         /* idle timeout */
    UN_REASON_ERROR = 6,        /* the handler raised */
    UN_REASON_WORKER_LOST = 7,  /* the worker died and the connection could not be carried over */
    UN_REASON_NETWORK_LOST = 8, /* it died in a send on a unix socket: how much was sent is not known */
    UN_REASON_POISONED = 9,     /* its event was being handled at two consecutive worker deaths */
    UN_REASON_SHUTDOWN = 10,    /* the server stopped */
    UN_REASON_SYSTEM = 11,      /* the kernel reported another error (timeout, unreachable, no memory) */
    UN_REASON_STALLED = 12, /* its output made no progress for the send timeout */
    UN_REASON_LAST = UN_REASON_STALLED,
};

enum un_conn_state {
    UN_CONN_FREE = 0,
    UN_CONN_OPEN = 1,
    UN_CONN_CLOSING = 2, /* close was asked for; output is being flushed */
    UN_CONN_LINGER = 3,  /* our FIN is out; input is discarded until the peer's FIN or a deadline */
    UN_CONN_CLOSED = 4,  /* gone; its CLOSE event is not consumed yet */
};

enum un_conn_flags {
    UN_CONN_EOF_IN = 1 << 0,  /* the peer's FIN came */
    UN_CONN_EOF_OUT = 1 << 1, /* our FIN is sent or will be after the output */
    UN_CONN_PAUSED = 1 << 2,
    UN_CONN_BLOCKED = 1 << 3, /* the peer reads slowly: the transport takes no more */
};

#define UN_VERSION_BYTES 32u

enum un_family { UN_FAMILY_NONE = 0, UN_FAMILY_IPV4 = 4, UN_FAMILY_IPV6 = 6, UN_FAMILY_UNIX = 1 };

struct un_endpoint {
    UN_ENDPOINT_FIELDS(UN_MEMBER, un_endpoint)
};

struct un_event {
    UN_EVENT_FIELDS(UN_MEMBER, un_event)
};

struct un_command {
    UN_COMMAND_FIELDS(UN_MEMBER, un_command)
};

UN_STATIC_ASSERT(sizeof(struct un_event) == 32, "half a cache line");
UN_STATIC_ASSERT(sizeof(struct un_command) == 32, "half a cache line");
UN_STATIC_ASSERT(sizeof(struct un_endpoint) == 24, "no padding");

struct un_conn {
    UN_CONN_FIELDS(UN_MEMBER, un_conn)
};

UN_STATIC_ASSERT(sizeof(struct un_conn) == 128, "two cache lines before the blob");

/* Counters of the engine, one writer. Each name is exported as usnet_<name>_total. */
#define UN_ENGINE_COUNTERS(X)                                                                                          \
    X(accepted, "connections accepted")                                                                                \
    X(bytes_in, "bytes received")                                                                                      \
    X(bytes_out, "bytes taken by the transport")                                                                       \
    X(frames_in, "receive slices filled")                                                                              \
    X(frames_out, "send descriptors completed")                                                                        \
    X(events, "events put into rings")                                                                                 \
    X(commands, "commands taken from rings")                                                                           \
    X(commits, "commits of workers seen")                                                                              \
    X(polls, "turns of the loop")                                                                                      \
    X(sleeps, "times the loop slept")                                                                                  \
    X(wakes, "wake-ups sent to workers")                                                                               \
    X(sends_blocked, "sends the peer was too slow for")                                                                \
    X(receives_blocked_ring, "receives put off because the event ring was full")                                       \
    X(receives_blocked_frames, "receives put off because no receive frame was free")                                   \
    X(receives_blocked_budget, "receives put off because the handler was behind with this connection")                 \
    X(commands_blocked, "times commands waited because no send descriptor was free")                                   \
    X(accepts_paused, "times accepting was paused at the connection or descriptor limit")                              \
    X(accept_errors, "connections lost while they were accepted")                                                      \
    X(peer_limits, "connections refused because their peer has as many as one may have")                               \
    X(bad_commands, "commands refused: unknown operation or argument")                                                 \
    X(bad_ranges, "commands refused: bytes outside the send frames")                                                   \
    X(stale_commands, "commands for a connection that was gone")                                                       \
    X(foreign_commands, "commands for a connection of another worker")                                                 \
    X(bad_releases, "receive frames released that were not held")                                                      \
    X(bad_commits, "commit words refused")                                                                             \
    X(redelivered, "events delivered again after a worker died")                                                       \
    X(dirty_resets, "connections reset because a worker died with uncommitted output")                                 \
    X(task_deaths, "workers that died while a task of a callback ran")                                                 \
    X(refused_poisoners, "connections refused because their peer poisoned workers again and again")                    \
    X(unfinished_resets, "connections reset at the end of a stop because something of them was under way")             \
    X(frames_reclaimed, "receive frames swept from dead workers")                                                      \
    X(takeovers, "times a network process took over from a dead one")                                                  \
    X(syscalls_refused, "system calls refused because a network process has no use for them")

struct un_engine_counters {
#define UN_FIELD(name, text) un_shared64 name;
    UN_ENGINE_COUNTERS(UN_FIELD)
#undef UN_FIELD
    UN_ENGINE_GAUGE_FIELDS(UN_MEMBER, un_engine_counters)
} __attribute__((aligned(UN_CACHE_LINE)));

/* Counters of a worker, one writer (the worker; so a reader treats them as hearsay). */
#define UN_WORKER_COUNTERS(X)                                                                                          \
    X(worker_events, "events dispatched")                                                                              \
    X(worker_commits, "commits")                                                                                       \
    X(worker_commands, "commands issued")                                                                              \
    X(worker_bytes_in, "bytes handed to the handler")                                                                  \
    X(worker_bytes_out, "bytes the handler sent")                                                                      \
    X(handler_ns, "nanoseconds spent in handlers")                                                                     \
    X(handler_errors, "exceptions that handlers raised")                                                               \
    X(sends_refused, "sends that reported a slow peer")                                                                \
    X(sends_overflowed, "sends that waited in worker memory")                                                          \
    X(sends_full, "sends that raised SendBufferFull: too much of the connection waited")                               \
    X(sends_crowded, "sends that raised SendBufferFull: too much of all connections waited")                           \
    X(inputs_crowded, "connections reset: input for slow callbacks filled the memory of the worker")                   \
    X(copied_out, "receive slices copied because the handler held too many")                                           \
    X(engine_wakes, "wake-ups sent to the network process")                                                            \
    X(worker_sleeps, "times the worker slept")                                                                         \
    X(worker_turns, "turns of the worker's loop")                                                                      \
    X(resumed, "connections taken over from an earlier worker")                                                        \
    X(wait_ns, "nanoseconds events waited in the ring")

struct un_worker_counters {
#define UN_FIELD(name, text) un_shared64 name;
    UN_WORKER_COUNTERS(UN_FIELD)
#undef UN_FIELD
    UN_WORKER_GAUGE_FIELDS(UN_MEMBER, un_worker_counters)
} __attribute__((aligned(UN_CACHE_LINE)));

/* What the engine tells every worker: how it sleeps, and which of its sleeps it is, so that a worker ends it once. */
enum un_engine_sleep { UN_ENGINE_AWAKE = 0, UN_ENGINE_WAKE_ON_COMMANDS = 1, UN_ENGINE_WAKE_ON_ANYTHING = 2 };
#define UN_SLEEP_MODE(word) ((uint32_t)(word) & 3)
#define UN_SLEEP_AWAKE(word) ((word) & ~UINT64_C(3))
#define UN_SLEEP_NEXT(word, mode) (UN_SLEEP_AWAKE(word) + 4 + (mode))

struct un_engine_public {
    UN_ENGINE_PUBLIC_FIELDS(UN_MEMBER, un_engine_public)
};

struct un_port_public {
    UN_PORT_PUBLIC_FIELDS(UN_MEMBER, un_port_public)
};

struct un_port_memory {
    UN_PORT_MEMORY_FIELDS(UN_MEMBER, un_port_memory)
};

#define UN_COMMIT(events, commands) ((uint64_t)(commands) << 32 | (uint32_t)(events))
#define UN_COMMIT_EVENTS(word) ((uint32_t)(word))
#define UN_COMMIT_COMMANDS(word) ((uint32_t)((word) >> 32))

/* What a worker is in: the upper half of the word `handling`. */
enum un_running {
    UN_RUNNING_NOTHING = 0,
    UN_RUNNING_EVENT = 1, /* the callback of an event; lower half: its ring index */
    UN_RUNNING_TASK = 2,  /* a step of a task of a callback, or one that waited for it; lower half: the slot */
};
#define UN_HANDLING(index) ((uint64_t)UN_RUNNING_EVENT << 32 | (uint32_t)(index))
#define UN_HANDLING_TASK(slot) ((uint64_t)UN_RUNNING_TASK << 32 | (uint32_t)(slot))
#define UN_HANDLING_WHAT(word) ((uint32_t)((word) >> 32))

struct un_tx_account {
    UN_TX_ACCOUNT_FIELDS(UN_MEMBER, un_tx_account)
};

struct un_quarantine {
    UN_QUARANTINE_FIELDS(UN_MEMBER, un_quarantine)
};

struct un_segment_config {
    UN_SEGMENT_CONFIG_FIELDS(UN_MEMBER, un_segment_config)
};

struct un_region {
    UN_REGION_FIELDS(UN_MEMBER, un_region)
};

/* Offsets from the start of a region's memory, and how large the memories are. */
struct un_segment_layout {
    uint64_t public_bytes;
    uint64_t port_bytes; /* of the memory of one port */
#define UN_FIELD(name, memory, writer, parts, items, item_bytes, align, holds) struct un_region name;
    UN_REGIONS(UN_FIELD)
#undef UN_FIELD
};

struct un_segment_header {
    UN_SEGMENT_HEADER_FIELDS(UN_MEMBER, un_segment_header)
};

/* layout.c: what the tables make. A number over names, offsets and sizes of all that crosses a process. */
uint64_t un_layout_hash(void);

/* The same over one thing more. */
uint64_t un_layout_hash_text(uint64_t hash, const char *text);
uint64_t un_layout_hash_number(uint64_t hash, uint64_t number);

/* One of those: a field of a struct. */
struct un_layout_field {
    const char *of; /* the struct */
    const char *name;
    uint32_t offset;
    uint32_t bytes;
};
extern const struct un_layout_field un_layout_fields[];
extern const uint32_t un_layout_field_count;

/* segment.c. 0, or -EINVAL with *why a sentence. Pure. */
int un_segment_plan(const struct un_segment_config *config, struct un_segment_layout *layout, const char **why);

/* Write the header into fresh public memory. options may be NULL: zeros. */
void un_segment_format(void *public, const struct un_segment_config *config, const struct un_segment_layout *layout,
                       const struct un_engine_options *options);

#define UN_OTHER_VERSION "it was made by another version of usnet_framework; install one for all processes"

/* 0, or -EINVAL with *why a sentence: this is no segment of ours, its parts do not fit into public_bytes, or its
 * options make no sense. */
int un_segment_check(const void *public, uint64_t public_bytes, const char **why);

static inline void *un_at(const void *memory, uint64_t offset)
{
    return (char *)(uintptr_t)memory + offset;
}

static inline void *un_item(const void *memory, const struct un_region *region, uint64_t part, uint64_t item)
{
    return un_at(memory, region->at + part * region->part_bytes + item * region->item_bytes);
}

static inline const struct un_segment_header *un_header(const void *public)
{
    return public;
}

static inline const struct un_segment_layout *un_layout(const void *public)
{
    return &un_header(public)->layout;
}

static inline struct un_engine_public *un_engine_public(const void *public)
{
    return un_at(public, un_layout(public)->engine.at);
}

/* Which port is whose is asked here and nowhere else. */
static inline uint32_t un_port_count(const struct un_segment_config *config)
{
    return config->seats * UN_PORTS;
}

static inline uint32_t un_port_of_seat(uint32_t seat, uint32_t side)
{
    return seat * UN_PORTS + side;
}

/* The other one of its seat. */
static inline uint32_t un_port_beside(uint32_t port)
{
    return port ^ 1;
}

static inline uint32_t un_seat_of(uint32_t port)
{
    return port / UN_PORTS;
}

static inline struct un_port_public *un_port_public(const void *public, uint32_t port)
{
    return (struct un_port_public *)un_at(public, un_layout(public)->ports.at) + port;
}

static inline struct un_event *un_event_ring(const void *public, uint32_t port)
{
    return un_item(public, &un_layout(public)->event_rings, port, 0);
}

static inline struct un_tx_account *un_tx_accounts(const void *public, uint32_t port)
{
    return un_item(public, &un_layout(public)->tx_accounts, port, 0);
}

static inline uint8_t *un_rx_frame(const void *public, uint32_t port, uint32_t frame)
{
    return un_item(public, &un_layout(public)->rx_frames, port, frame);
}

static inline struct un_conn *un_conn_at(const void *public, uint32_t slot)
{
    return un_item(public, &un_layout(public)->conns, 0, slot);
}

static inline uint8_t *un_conn_blob(struct un_conn *conn)
{
    return (uint8_t *)(conn + 1);
}

static inline struct un_quarantine *un_quarantine_at(const void *public, uint32_t port)
{
    return un_item(public, &un_layout(public)->quarantines, port, 0);
}

/* Regions of a port's memory; where they lie stands in the public memory. */

static inline struct un_command *un_command_ring(const void *public, const void *port_memory)
{
    return un_at(port_memory, un_layout(public)->command_ring.at);
}

static inline uint32_t *un_release_ring(const void *public, const void *port_memory)
{
    return un_at(port_memory, un_layout(public)->release_ring.at);
}

static inline uint8_t *un_dirty_map(const void *public, const void *port_memory)
{
    return un_at(port_memory, un_layout(public)->dirty.at);
}

static inline uint8_t *un_send_frames(const void *public, const void *port_memory)
{
    return un_at(port_memory, un_layout(public)->tx_frames.at);
}

#endif
