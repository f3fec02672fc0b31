/* What the engine knows: the private memory of a shard, and the engine's own view of the maps.
 *
 * `struct un_private` and the tables behind it lie in memory that the keeper holds, so they outlive the engine. They
 * are linked by index. Free lists, work lists and sums are caches that takeover.c rebuilds by a scan; the truth is
 *
 *   connection table (public, private)   which slots live, their descriptor, their unsent output
 *   ring ends (un_port_end)              what was produced, taken and accounted for
 *   reference counts of receive frames   slices in the ring or held by the worker
 *
 * `busy` names the one connection (and command) that is being changed and keeps what it was before: change.h. */
#ifndef UN_ENGINE_STATE_H
#define UN_ENGINE_STATE_H

#include <stddef.h>
#include <sys/socket.h>

#include "base/list.h"
#include "base/ring.h"
#include "base/siphash.h"
#include "engine/clock.h"
#include "engine/engine.h"
#include "engine/moderation.h"
#include "shard/segment.h"

#define UN_PRIVATE_MAGIC UINT64_C(0x454741544e5355)
#define UN_IOV_MAX 64            /* pieces of one gathering send; a send budget of 64 KiB in 4 KiB frames is 16 */
#define UN_EPOLL_BATCH 128       /* readiness events per turn */
#define UN_ACCEPT_BATCH 64       /* connections accepted per listener and turn, so that open ones are not starved */
#define UN_RECEIVES_PER_TURN 4   /* full reads of one connection per turn, for the same reason */
#define UN_SWEEP_NS UINT64_C(250000000) /* how often deadlines are looked at; they are seconds long */
#define UN_NO_LISTENER (-1) /* the number is free */
#define UN_RX_ROOM_MIN 2048u     /* a receive frame with less room left is closed and another one opened */

enum un_work_flags {
    UN_WORK_READABLE = 1 << 0,     /* the transport has input that was not read yet */
    UN_WORK_READ_ON = 1 << 1,      /* an end of file or urgent data may lie behind a short read: read until EAGAIN */
    UN_WORK_RECEIVE_LISTED = 1 << 2,
    UN_WORK_FLUSH_LISTED = 1 << 3,
    UN_WORK_OVER_BUDGET = 1 << 4,  /* not read because the handler is behind */
    UN_WORK_WANT_DRAIN = 1 << 5,
    UN_WORK_POST_CONNECT = 1 << 6, /* events that found the ring full */
    UN_WORK_POST_DRAIN = 1 << 7,
    UN_WORK_POST_EOF = 1 << 8,
    UN_WORK_POST_CLOSE = 1 << 9,
    UN_WORK_FIN_SENT = 1 << 10,
    UN_WORK_FRESH = 1 << 11,       /* scratch: its CONNECT event is not consumed, or a later event was seen */
    UN_WORK_PARTED = 1 << 12,      /* reads may stop between its bytes: transport.h */
    UN_WORK_SUSPECT = 1 << 13,     /* scratch: an event of it is a suspect */
    UN_WORK_FAILED = 1 << 14,      /* what can be read ends with an error, if the transport told it already */
    UN_WORK_DOOMED = 1 << 15,      /* scratch: it is reset next */
};
#define UN_WORK_POSTS (UN_WORK_POST_CONNECT | UN_WORK_POST_DRAIN | UN_WORK_POST_EOF | UN_WORK_POST_CLOSE)

/* How far a connection is on its way to the other port of its seat: moving.h. */
enum un_move {
    UN_MOVE_NONE,  /* its events go to its port */
    UN_MOVE_DUE,   /* its worker is asked to give it up as soon as the ring has space */
    UN_MOVE_KEPT,  /* the worker was asked, and says when to ask again */
    UN_MOVE_ASKED, /* the worker is to answer; until then nothing more of it goes into the ring */
    UN_MOVE_HELD,  /* older events of it are on their way to the new port; nothing may overtake them */
};

/* A connection, the part that workers do not see. One cache line. */
struct un_work {
    int32_t handle; /* of the transport; -1: closed */
    uint16_t flags; /* enum un_work_flags */
    uint8_t reason : 4; /* enum un_reason, once it is known why it ends */
    uint8_t move : 4;   /* enum un_move */
    uint8_t listener; /* number of the one that it came by */
    uint32_t generation;
    uint32_t next_receive; /* in the port's receive list */
    uint32_t next_flush;   /* in the flush list */
    union {
        uint32_t next_free;
        uint32_t delivered; /* of one that lives: bytes, modulo 2^32, when the deadline for progress was set; without a
                             * deadline, all that were sent, if that is known */
    };
    uint32_t tx_head; /* nodes of unsent output, first in first out: un_node_at */
    uint32_t tx_tail;
    uint32_t tx_sent; /* bytes of the head node that are gone */
    uint32_t rx_waiting; /* bytes in the ring, not consumed */
    uint64_t tx_bytes;   /* unsent */
    uint64_t drain_mark; /* post DRAIN at this many unsent bytes */
    uint64_t deadline_ns; /* of a lingering close, or for progress of output; 0: none */
};
UN_STATIC_ASSERT(sizeof(struct un_work) == UN_CACHE_LINE, "one cache line");

UN_STATIC_ASSERT(UN_REASONS == 16, "a connection has four bits for the reason of its end");
UN_STATIC_ASSERT(UN_LISTENERS_MAX <= UINT8_MAX, "a connection has a byte for the number of its listener");

/* A piece of unsent output. It lies in the send frames of either port of the connection's seat: the highest bit of an
 * index says in which. */
#define UN_NODE_SIDE_SHIFT 31
struct un_node {
    uint32_t frame;
    uint32_t offset;
    uint32_t length;
    uint32_t next;
};

struct un_rx_frame {
    uint32_t references;
    uint32_t next_free;
};

/* The engine's end of a port: of the rings, frames and send nodes of the one worker that sits there. */
struct un_port_end {
    struct un_ring events;   /* producer */
    struct un_ring commands; /* consumer */
    struct un_ring releases; /* consumer */
    uint32_t walked;         /* consumed events before this index are accounted for */
    uint32_t published;      /* events as last published */
    uint32_t rx_open;        /* frame being filled, or UN_NONE */
    uint32_t rx_fill;
    uint32_t rx_free;
    uint32_t rx_free_count;
    uint32_t node_free;
    uint32_t node_free_count;
    struct un_list receive; /* connections with something for the ring */
    uint32_t over_budget;   /* connections not read because the handler is behind */
    uint32_t connections; /* alive */
    uint32_t slots;       /* of the table: alive, or closed and not consumed */
    uint32_t moving;      /* connections that are due, asked for, or kept */
    uint32_t line;        /* the port whose receive list its connections stand in: itself, or the one that gets them */
    uint32_t cursor;      /* slots of the table below it were looked at for connections to move; UN_NONE: all were */
    uint32_t serial;
    bool used;   /* once: what it has of memory is formatted */
    bool vacant; /* nothing of it is left, and the supervisor was told */
    bool attached;
    bool diverted; /* its worker makes no progress: UN_CONTROL_DIVERT */
    bool resumes;
    bool bad;
    bool commands_stuck; /* commands wait for send nodes */
    bool gave_space;     /* command slots or send frames came free since the worker was last told */
    uint32_t judged;   /* serial of the last worker whose death was looked into */
    uint32_t suspects; /* events that are marked: suspects.h. Perhaps fewer are */
};

struct un_seat {
    uint32_t current; /* port that gets new connections: where a worker was attached last */
};

#define UN_CONN_CHANGING offsetof(struct un_conn, peer) /* bytes of it that change while it lives */

/* Above the reason, in un_busy.ends. */
enum un_ends {
    UN_ENDS = 1 << 8,
    UN_ENDS_RESET = 1 << 9,
    UN_ENDS_TELL = 1 << 10, /* its worker */
    UN_ENDS_SKIP = 1 << 11, /* its events in the ring are nobody's */
};

enum un_transfer { UN_TRANSFER_NONE, UN_TRANSFER_IN, UN_TRANSFER_OUT };

/* The change in progress, and what was before it: change.h. slot, frame, slice and accepting are one up, so that zero
 * is none. */
struct un_busy {
    uint32_t slot;
    uint32_t port;
    uint32_t events;           /* index of its event ring */
    uint32_t ends;             /* the connection ends: enum un_ends and enum un_reason; 0: it does not */
    uint32_t transfer;         /* enum un_transfer: the transport was called, and what it did is not accounted for */
    uint32_t slice;            /* receive frame that gets one; of which the two are: */
    uint32_t slice_references;
    uint32_t slice_fill;
    struct mmsghdr told;       /* of a transfer over a unix socket: kernel_unix.h */
    struct un_work work;
    uint8_t conn[UN_CONN_CHANGING];
    uint32_t frame;            /* send frame whose account the command changes */
    uint32_t queued_before;    /* its `queued` before the command */
    uint32_t command;          /* ring index of the command */
    bool is_command;
    uint32_t source;           /* port, one up, of which an event is copied to `port` */
    uint32_t source_index;     /* of that event in its ring */
    uint32_t accepting;        /* listener of which a connection may be ours without our knowing it */
};

/* A listening socket of the kernel's. */
struct un_engine_listener {
    int32_t fd;     /* or UN_NO_LISTENER */
    uint32_t lacks; /* enum un_lacking: what its connections do not inherit, so it is set for each */
};

/* Unread events that are being put into another order: order.h. */
struct un_order {
    uint32_t port; /* one up; 0: none are */
    uint32_t first; /* ring index */
    uint32_t count;
};

struct un_ordered {
    struct un_event event;
    uint32_t suspect; /* its mark */
    uint32_t rank;    /* of the event that is in this place before */
};

/* Which engine comes after this one: network.h. */
struct un_succession {
    uint32_t wanted;  /* descriptor of its file, one up; 0: the same */
    uint32_t refused; /* the keeper could not start the one that was wanted: as READY says it */
};

/* A peer by its address: peers.h. */
struct un_peer_key {
    uint8_t ip[16];
    uint32_t family;
};

#define UN_POISONERS 64u

/* poisoners.h */
struct un_poisoner {
    struct un_peer_key key;
    uint32_t count;    /* how often it poisoned a worker since… */
    uint64_t since_ns; /* … then */
    uint64_t suspected_ns; /* when a worker last died of it; 0: free */
    uint64_t refused_until_ns;
};

/* The capture that was asked for: capture.h. */
struct un_capturing {
    uint32_t fd; /* of its memory, one up; 0: there is none */
    uint32_t serial;
    uint64_t bytes;
};

/* A descriptor that is on its way, where the kernel writes it: hand.h. */
struct un_hand {
    uint64_t header[2]; /* struct cmsghdr */
    int32_t fd;         /* 0: none */
    uint32_t unused;
};

struct un_private {
    uint64_t magic;
    uint32_t epoch;
    struct un_succession succession;
    struct un_hand hand;
    struct un_capturing capturing;
    struct un_busy busy;
    struct un_order order;
    uint32_t conn_high; /* slots below it were used at least once */
    uint32_t conn_free;
    uint32_t active;
    uint32_t lingering;
    uint32_t next_seat;
    uint32_t peer_free; /* entries of peers.c */
    uint32_t peer_high;
    struct un_list flush;
    struct un_engine_listener listeners[UN_LISTENERS_MAX]; /* by number */
    bool accepting;   /* false once the server drains */
    bool paused;      /* at the connection or descriptor limit */
    uint64_t accept_again_ns;
    uint64_t limit_reported_ns;
    uint64_t swept_ns;
    struct un_seat seats[UN_SEATS_MAX];
    struct un_port_end ports[UN_PORTS_MAX];
    struct un_poisoner poisoners[UN_POISONERS];
};

/* Tables of the private memory, in the order in which they lie: each behind a cache line's boundary.
 * ONE(name, item, how many), EACH(name, item, how many of each port) */
#define UN_PRIVATE_TABLES(ONE, EACH)                                                                                   \
    ONE(own, struct un_private, 1)                                                                                     \
    ONE(works, struct un_work, config->conn_max)                                                                       \
    EACH(nodes, struct un_node, UN_NODES_OF_PORT(config))                                                              \
    EACH(rx_frames, struct un_rx_frame, config->rx_frames)                                                             \
    EACH(suspects, uint8_t, config->event_slots)                                                                       \
    ONE(peers, struct un_peer, config->conn_max)                                                                       \
    ONE(peer_buckets, uint32_t, UN_PEER_BUCKETS(config->conn_max))                                                     \
    ONE(ordered, struct un_ordered, config->event_slots)

#define UN_NODES_OF_PORT(config) ((config)->tx_frames + (config)->command_slots) /* what un_port_credit counts with */

/* One engine process's view. Nothing here needs to outlive it. */
struct un_engine {
    struct un_engine_setup setup;
    struct un_link *link; /* of the stack transport */
    struct un_capture *capture; /* capture.h; NULL: there is none */
    const struct un_segment_config *config;
    const struct un_engine_options *options;
    const struct un_transport *transport;
    struct un_private *own;
    struct un_work *works;
    struct un_peer *peers; /* and their buckets: peers.h */
    uint32_t *peer_buckets;
    struct un_node *nodes[UN_PORTS_MAX];
    struct un_rx_frame *rx_frames[UN_PORTS_MAX];
    uint8_t *suspects[UN_PORTS_MAX]; /* by slot of the event ring: suspects.h */
    struct un_ordered *ordered;      /* scratch: order.h */
    struct un_engine_public *published;
    struct un_engine_counters *counters;
    uint64_t now_ns; /* read once a turn, when there is work */
    uint8_t peer_key[UN_SIPHASH_KEY_BYTES];
    uint32_t spin_skip;     /* sleeps before the next spin */
    uint32_t spin_pause;    /* what that begins with, 2^n - 1 */
    struct un_moderation moderation;
    bool moderates;         /* it looks for more packets before it ends a turn: moderation.h */
    uint32_t node_count; /* per port */
    uint32_t live_count; /* ports that a turn has to look at: ports.h */
    uint8_t live[UN_PORTS_MAX];
    bool handing_over; /* a port is live that is not current: seats.h */
    bool requests_wait; /* poll saw that the control socket can be read */
    uint32_t heard[UN_PORTS_MAX]; /* edges of the pipes from workers */
    bool exit;
    bool failed;
    bool upgrade; /* exit for the engine that own->succession names */
};

/* Where the events of a connection go, and its commands come from. */
static inline uint32_t un_port_of(const struct un_conn *conn)
{
    return conn->port;
}

/* Its worker is concerned. */
static inline bool un_is_moving(enum un_move move)
{
    return move == UN_MOVE_DUE || move == UN_MOVE_KEPT || move == UN_MOVE_ASKED;
}

/* Nothing of it may go into a ring now, and it stands in no receive list. */
static inline bool un_is_withheld(const struct un_work *work)
{
    return work->move >= UN_MOVE_ASKED;
}

/* The port in whose pool a node lies, of a connection with this port. */
static inline uint32_t un_node_port(uint32_t port, uint32_t node)
{
    return un_port_of_seat(un_seat_of(port), node >> UN_NODE_SIDE_SHIFT);
}

static inline struct un_node *un_node_at(struct un_engine *engine, uint32_t port, uint32_t node)
{
    return &engine->nodes[un_node_port(port, node)][node & ~(UINT32_C(1) << UN_NODE_SIDE_SHIFT)];
}

static inline uint32_t un_current_port(const struct un_engine *engine, uint32_t seat)
{
    return engine->own->seats[seat].current;
}

static inline bool un_is_current(const struct un_engine *engine, uint32_t port)
{
    return un_current_port(engine, un_seat_of(port)) == port;
}

static inline struct un_port_end *un_end_of(const struct un_engine *engine, uint32_t port)
{
    return &engine->own->ports[port];
}

/* The port that the connections of a port move to, or itself. */
static inline uint32_t un_heir_of(const struct un_engine *engine, uint32_t port)
{
    return un_current_port(engine, un_seat_of(port));
}

static inline struct un_conn *un_slot(struct un_engine *engine, uint32_t slot)
{
    return un_conn_at(engine->setup.public, slot);
}

static inline struct un_port_memory *un_port_memory(struct un_engine *engine, uint32_t port)
{
    return engine->setup.ports[port];
}

static inline bool un_is_alive(const struct un_conn *conn)
{
    return conn->state == UN_CONN_OPEN || conn->state == UN_CONN_CLOSING || conn->state == UN_CONN_LINGER;
}

static inline uint64_t un_engine_now_ns(const struct un_engine *engine)
{
    return engine->setup.time_ns ? *engine->setup.time_ns : un_clock_ns();
}

#endif
