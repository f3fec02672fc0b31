/* What lies in the arena of a stack. Private to stack/.
 *
 *   struct un_stack_memory | counters | blocks | neighbours | UDP endpoints | TIME-WAIT ring | look-up | records |
 *   frame records | scratch | kept records | frames (here or elsewhere: struct un_stack_place)
 *
 * un_stack_plan is the only place that knows the offsets. Nothing in the arena is a pointer.
 *
 * What survives the sudden death of its process is written so that a half-done change is harmless: the connection that
 * is being changed is named by `busy`, and the change can be undone (tcp/keep.h); datagrams and fragments join and
 * leave their queues with one store, and entries of small tables become valid with their last one. Everything marked
 * "cache" below is made anew by un_stack_adopt. */
#ifndef UN_STACK_ARENA_H
#define UN_STACK_ARENA_H

#include "base/barrier.h"
#include "stack/rate.h"
#include "stack/stack.h"
#include "stack/wheel.h"
#include "tcp/keep.h"
#include "wire/icmp.h"
#include "wire/packet.h"

#define UN_STACK_MAGIC UINT64_C(0x314b434154534e55) /* "UNSTACK1" */
#define UN_STACK_VERSION 9u

#define UN_FRAGMENTS_MAX 16u      /* datagrams being put together */
#define UN_FRAGMENT_FRAMES_MAX 63u /* of one: what one gather list holds */
#define UN_NEIGHBOUR_WAYS 8u      /* places that a neighbour may have in the table */
#define UN_PORT_COUNTERS 64u      /* RFC 6056 section 3.3.4 suggests a small table */
#define UN_UDP_BUCKETS 64u
#define UN_PATHS 256u                /* destinations whose path is known to be narrower than the link: 8 KiB */
#define UN_PATH_WAYS 4u
#define UN_UDP_FRAMES_MAX 256u /* waiting in one endpoint */

/* Where a connection stands; un_tcb.listed. */
enum un_listed {
    UN_LISTED_EVENTS = 1 << 0,
    /* of those that have something to send, or of those that wait for a neighbour's address */
    UN_LISTED_OUTPUT = 1 << 1,
    UN_LISTED_FLOWS = 1 << 2,
    UN_LISTED_HALF_OPEN = 1 << 3, /* counts in its listener's half_open … */
    UN_LISTED_READY = 1 << 4,     /* … or in its ready, and stands in its accept queue */
    UN_LISTED_TIME_WAIT = 1 << 5,
};
#define UN_LISTED_LINKED (UN_LISTED_EVENTS | UN_LISTED_OUTPUT)

/* address.c. Of shared addresses: OURS, and TAKEN while the interface does not have it (share.c). */
enum un_address_state { UN_ADDRESS_PROBED, UN_ADDRESS_OURS, UN_ADDRESS_TAKEN };

struct un_address {
    struct un_ip ip;
    uint8_t prefix;
    uint8_t state;         /* enum un_address_state */
    uint8_t probes;        /* still to be sent */
    uint8_t announcements; /* still to be made */
};

/* What else is known of an address: apart from what every packet is compared with. */
struct un_claim {
    uint64_t next_ns;     /* of the next probe or announcement */
    uint64_t defended_ns; /* last; 0: never */
    uint8_t mac[UN_MAC_BYTES]; /* who claimed it last */
    uint8_t news;         /* enum un_address_news */
    uint32_t conns;       /* cache: blocks that name it */
};

/* groups.c. */
struct un_groups {
    uint64_t join_ns;      /* of the next report that was not asked for */
    uint64_t answer_ns;    /* of the next one that was; 0: none */
    uint64_t old_until_ns; /* a router of the old version is there */
    uint32_t joins;        /* reports still to be made */
};

/* paths.c. */
struct un_path {
    struct un_ip ip;
    uint64_t expires_ns;
    uint16_t mtu; /* 0: nothing is known */
};
UN_STATIC_ASSERT(sizeof(struct un_path) == 32, "two to a cache line");

struct un_route {
    struct un_ip network;
    struct un_ip gateway;
    uint64_t expires_ns; /* 0: never */
    uint8_t prefix;
    bool is_used;
};

struct un_listener {
    struct un_ip ip;
    uint64_t user;
    uint32_t backlog;
    uint32_t receive_bytes; /* rcv_limit of its connections */
    uint32_t half_open; /* cache: handshakes that are not over */
    uint32_t ready;     /* cache: connections that the application has not accepted … */
    struct un_list accept_queue; /* … the oldest first, linked both ways: any of them may end */
    uint64_t cookies_until_ns; /* cookies of this listener may still come back */
    uint16_t port;
    bool is_open;
    bool is_paused;
    uint16_t mss; /* upper limit of its connections; 0: none */
};

/* RFC 4861 section 7.3.2, and the same for ARP. */
enum un_neighbour_state {
    UN_NEIGHBOUR_FREE,
    UN_NEIGHBOUR_INCOMPLETE,
    UN_NEIGHBOUR_REACHABLE,
    UN_NEIGHBOUR_STALE,
    UN_NEIGHBOUR_DELAY,
    UN_NEIGHBOUR_PROBE,
    UN_NEIGHBOUR_FAILED, /* did not answer; not asked again before its deadline */
    UN_NEIGHBOUR_TOLD, /* of shared addresses: by the kernel, or by a packet that came from it */
};

struct un_neighbour {
    uint64_t good_until_ns; /* its address may be used without another look: what the fast path asks */
    uint32_t stamp;         /* which neighbour this is, in connections that were sent through it: un_neighbour_stamp */
    uint8_t ethernet[UN_ETH_BYTES]; /* the header of packets to it */
    uint8_t state;          /* enum un_neighbour_state */
    uint8_t probes;         /* solicitations without an answer */
    bool is_router;
    uint8_t queued;         /* packets */
    bool is_asked;          /* the kernel is to be told that its address is wanted */
    struct un_ip ip;
    uint64_t deadline_ns;   /* of the state; 0: none */
    uint64_t confirmed_ns;  /* when it was last known to hear us */
    uint64_t used_ns;
    struct un_list waiting; /* cache: connections */
    struct un_list queue;   /* cache: frames of packets; the last frame of each is marked */
};
UN_STATIC_ASSERT(sizeof(struct un_neighbour) <= 128, "two cache lines");

/* A datagram of which fragments have come: frames in order, each frame's seq its offset in the datagram. */
struct un_fragments {
    struct un_ip source;
    struct un_ip destination;
    uint32_t id;
    uint8_t protocol;
    bool is_used;
    uint16_t frames; /* cache, as `received` is */
    uint16_t header_length; /* that lies in front of the first one's payload: Ethernet and IP … */
    uint16_t network;       /* … of which this is where IP begins */
    uint32_t head;
    uint32_t received; /* bytes */
    uint32_t total;    /* bytes, 0: the last fragment has not come */
    uint64_t started_ns;
    uint64_t deadline_ns;
};

struct un_udp_socket {
    struct un_ip ip;
    uint64_t user;
    uint16_t port;
    bool is_open;
    bool is_listed;      /* cache: has events to fetch */
    bool wants_room;     /* was refused: tell when the device has room */
    uint8_t error;       /* positive errno that ICMP brought, to be told once */
    uint16_t remote_port; /* 0: it has no remote end */
    struct un_ip remote;
    uint32_t events;
    uint32_t frames;     /* cache: waiting */
    struct un_list queue; /* frames of datagrams; the last frame of each is marked; the tail is a cache */
    uint32_t bucket_next; /* cache */
    uint32_t event_next;  /* cache */
};

/* Frames of neighbours' and endpoints' queues. */
enum un_frame_flag {
    UN_FRAME_LAST = 1 << 0, /* of a packet */
};

struct un_time_wait {
    uint32_t slot;
    uint32_t generation;
};

struct un_router_solicitation {
    uint64_t next_ns;
    uint32_t left;
};

/* A reset whose connection is gone: farewell.h. */
struct un_farewell {
    struct un_ip peer;
    uint16_t peer_port;
    uint16_t local_port;
    uint16_t local;
    uint8_t flags;
    uint8_t options;
    uint32_t seq;
    uint32_t ack;
    uint32_t tsval;
    uint32_t tsecr;
    uint32_t next_hop; /* of the connection */
};

#define UN_FAREWELLS_MAX 1024u /* power of two; 44 KiB: a worker's connections that end at once over a full device */

struct un_farewells {
    uint32_t put;
    uint32_t taken;
    uint32_t before; /* what `put` was before the change that is not over and has put some … */
    bool is_open;    /* … if there is one */
    struct un_farewell ring[UN_FAREWELLS_MAX];
};

struct un_stack_memory {
    uint64_t magic;
    uint32_t version;
    uint32_t busy;          /* slot + 1 of the connection that is being changed */
    uint32_t conn_fresh;    /* slots from here on were never used */
    struct un_keep_memory change; /* of that connection */
    uint64_t bytes;
    uint64_t now_ns;
    uint64_t random;
    struct un_stack_config config;

    /* Caches. */
    struct un_pool_memory pool;
    struct un_sent_pool sent_pool;
    struct un_list events;
    struct un_list outputs;
    struct un_list udp_events;
    uint32_t conn_free;  /* head, by next_free */
    uint32_t conn_count; /* in use */
    uint32_t time_wait_head;
    uint32_t time_wait_count; /* entries of the ring, stale ones included */
    uint32_t udp_buckets[UN_UDP_BUCKETS];
    uint32_t udp_refused; /* endpoints that were told that the device is full */

    uint32_t address_count;
    bool has_address_news;
    bool has_questions;  /* some neighbour is_asked */
    uint16_t ip_identification;
    uint16_t link_mtu; /* from a router advertisement; 0: the device's */
    uint32_t neighbour_stamps; /* given out */
    uint64_t timers_next_ns; /* nothing is due in the wheel before; cache */
    uint64_t neighbours_next_ns;
    uint64_t fragments_next_ns;
    uint64_t addresses_next_ns;
    uint64_t retry_ns; /* the device had no room: look again then; 0: it had */
    struct un_router_solicitation solicitation;
    struct un_rate resets;
    struct un_rate icmp;
    uint32_t port_counters[UN_PORT_COUNTERS];
    struct un_address addresses[UN_STACK_ADDRESSES_MAX];
    struct un_claim claims[UN_STACK_ADDRESSES_MAX];
    struct un_groups groups;
    struct un_path paths[UN_PATHS];
    struct un_route routes[UN_STACK_ROUTES_MAX];
    struct un_listener listeners[UN_STACK_LISTENERS_MAX];
    struct un_fragments fragments[UN_FRAGMENTS_MAX];
    struct un_wheel_memory wheel;
    struct un_farewells farewells;
};

struct un_stack_plan {
    uint64_t counters; /* struct un_published_counters, unless they lie elsewhere */
    uint64_t tcbs;
    uint64_t neighbours;
    uint64_t endpoints;
    uint64_t time_waits;
    uint64_t flows;
    uint64_t sents;
    uint64_t frames;
    uint64_t frame_scratch; /* for adopt and check: what is found to be in use */
    uint64_t sent_scratch;
    uint64_t kept_frames; /* tcp/keep.h: copies of records, and where they are */
    uint64_t kept_sents;
    uint64_t frame_at;
    uint64_t sent_at;
    uint64_t tables; /* bytes of all that: behind it, or elsewhere, the frames begin */
    uint64_t total;  /* with the frames */
};

/* -EINVAL with *why. */
int un_stack_plan(const struct un_stack_config *config, struct un_stack_plan *plan, const char **why);

/* tcp/ hands back the environment that is the first member of a stack. */
static inline struct un_stack *un_stack_of(struct un_tcp *tcp)
{
    return (struct un_stack *)tcp;
}

static inline uint32_t un_stack_slot(const struct un_stack *stack, const struct un_tcb *tcb)
{
    return (uint32_t)(tcb - stack->tcp.tcbs);
}

static inline void un_stack_drop(struct un_stack *stack, enum un_drop why)
{
    stack->tcp.drops[why]++;
}

/* packets.c: what the change that is over has to send. */
void un_stack_submit_staged(struct un_stack *stack);

static inline bool un_is_shared(const struct un_stack *stack)
{
    return stack->config->shared;
}

static inline uint64_t un_min64(uint64_t left, uint64_t right)
{
    return left < right ? left : right;
}

/* Around every change of a connection. Not nested: one connection at a time. These parts of the block are changed, or
 * un_keep_all comes before. */
UN_ALWAYS_INLINE void un_stack_busy_part(struct un_stack *stack, uint32_t slot, enum un_keep_part part)
{
    un_assert(stack->own->busy == 0);
    un_keep_begin(&stack->tcp, &stack->tcp.tcbs[slot], part);
    un_compiler_fence();
    stack->own->busy = slot + 1;
    un_compiler_fence();
}

static inline void un_stack_busy(struct un_stack *stack, const struct un_tcb *tcb)
{
    un_stack_busy_part(stack, un_stack_slot(stack, tcb), UN_KEEP_ALL);
}

/* It happened; and what it has to send leaves. */
static inline void un_stack_idle(struct un_stack *stack)
{
    un_compiler_fence();
    stack->own->busy = 0;
    if (__builtin_expect(stack->is_staged, 0))
        un_stack_submit_staged(stack);
}

#endif
