/* What lies in the arena of a stack, and what its files share. Private to stack/.
 *
 *   struct un_stack_memory | counters | blocks | neighbours | UDP endpoints | TIME-WAIT ring | look-up | records |
 *   frame records | scratch | frames
 *
 * un_stack_plan is the only place that knows the offsets. Nothing in the arena is a pointer.
 *
 * What survives the sudden death of its process is written so that a half-done change is harmless: the connection that
 * is being changed is named by `busy`, the UDP endpoint by `busy_udp` (its queue is emptied), entries of small tables
 * become valid with their last store. Everything marked "cache" below is made anew by un_stack_adopt. */
#ifndef UN_STACK_ARENA_H
#define UN_STACK_ARENA_H

#include "base/barrier.h"
#include "stack/stack.h"
#include "stack/wheel.h"
#include "wire/icmp.h"
#include "wire/packet.h"

#define UN_STACK_MAGIC UINT64_C(0x314b434154534e55) /* "UNSTACK1" */
#define UN_STACK_VERSION 5u

#define UN_FRAGMENTS_MAX 16u      /* datagrams being put together */
#define UN_FRAGMENT_FRAMES_MAX 63u /* of one: what one gather list holds */
#define UN_NEIGHBOUR_WAYS 8u      /* places that a neighbour may have in the table */
#define UN_PORT_COUNTERS 64u      /* RFC 6056 section 3.3.4 suggests a small table */
#define UN_UDP_BUCKETS 64u
#define UN_PATHS 256u                /* destinations whose path is known to be narrower than the link: 8 KiB */
#define UN_PATH_WAYS 4u
#define UN_UDP_FRAMES_MAX 256u /* waiting in one endpoint */
#define UN_HEADERS_MAX (UN_ETH_BYTES + UN_IPV6_BYTES + UN_TCP_HEADER_MAX)

/* Where a connection stands; un_tcb.listed. */
enum un_listed {
    UN_LISTED_EVENTS = 1 << 0,
    /* of those that have something to send, or of those that wait for a neighbour's address */
    UN_LISTED_OUTPUT = 1 << 1,
    UN_LISTED_FLOWS = 1 << 2,
    UN_LISTED_HALF_OPEN = 1 << 3, /* counts in its listener's half_open … */
    UN_LISTED_READY = 1 << 4,     /* … or in its ready */
    UN_LISTED_TIME_WAIT = 1 << 5,
};
#define UN_LISTED_LINKED (UN_LISTED_EVENTS | UN_LISTED_OUTPUT)

/* address.c. */
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
    uint32_t ready;     /* cache: connections that the application has not accepted */
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
};

struct un_neighbour {
    uint64_t good_until_ns; /* its address may be used without another look: what the fast path asks */
    uint32_t stamp;         /* which neighbour this is, in connections that were sent through it: un_neighbour_stamp */
    uint8_t ethernet[UN_ETH_BYTES]; /* the header of packets to it */
    uint8_t state;          /* enum un_neighbour_state */
    uint8_t probes;         /* solicitations without an answer */
    bool is_router;
    uint8_t queued;         /* packets */
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
    uint16_t frames;
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
    uint32_t frames;     /* waiting */
    struct un_list queue; /* frames of datagrams; the last frame of each is marked */
    uint32_t bucket_next; /* cache */
    uint32_t event_next;  /* cache */
};

/* Frames of neighbours' and endpoints' queues. */
enum un_frame_flag {
    UN_FRAME_LAST = 1 << 0, /* of a packet */
};

/* A rate limit: the time up to which what was let through is paid for (the generic cell rate algorithm). */
struct un_rate {
    uint64_t paid_until_ns;
};

struct un_time_wait {
    uint32_t slot;
    uint32_t generation;
};

struct un_router_solicitation {
    uint64_t next_ns;
    uint32_t left;
};

/* What is left of the connection that was being changed when its process died. */
struct un_pending_reset {
    struct un_ip peer;
    uint16_t peer_port;
    uint16_t local_port;
    uint16_t local;
    bool is_due;
    uint32_t seq;
    uint32_t ack;
};

struct un_stack_memory {
    uint64_t magic;
    uint32_t version;
    uint32_t busy;          /* slot + 1 of the connection that is being changed */
    uint32_t busy_udp; /* number + 1 */
    uint32_t conn_fresh;    /* slots from here on were never used */
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
    uint16_t ip_identification;
    uint16_t link_mtu; /* from a router advertisement; 0: the device's */
    uint32_t neighbour_stamps; /* given out */
    uint64_t timers_next_ns; /* nothing is due in the wheel before; cache */
    uint64_t neighbours_next_ns;
    uint64_t fragments_next_ns;
    uint64_t addresses_next_ns;
    uint64_t retry_ns; /* the device had no room: look again then; 0: it had */
    struct un_router_solicitation solicitation;
    struct un_pending_reset pending_reset;
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
    uint64_t bytes_of_frames;
    uint64_t total;
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

static inline uint64_t un_min64(uint64_t left, uint64_t right)
{
    return left < right ? left : right;
}

/* The index of an address that was added, or -1. */
static inline int un_address_claimed(const struct un_stack *stack, const struct un_ip *ip)
{
    const struct un_stack_memory *own = stack->own;
    for (uint32_t i = 0; i < own->address_count; i++)
        if (un_ip_equal(&own->addresses[i].ip, ip))
            return (int)i;
    return -1;
}

/* The index of an address of ours, or -1: one that another station has is not. */
static inline int un_address_find(const struct un_stack *stack, const struct un_ip *ip)
{
    int index = un_address_claimed(stack, ip);
    return index >= 0 && stack->own->addresses[index].state == UN_ADDRESS_TAKEN ? -1 : index;
}

/* Around every change of a connection. Not nested: one connection at a time. */
static inline void un_stack_busy_slot(struct un_stack *stack, uint32_t slot)
{
    un_assert(stack->own->busy == 0);
    stack->own->busy = slot + 1;
    un_compiler_fence();
}

static inline void un_stack_busy(struct un_stack *stack, const struct un_tcb *tcb)
{
    un_stack_busy_slot(stack, un_stack_slot(stack, tcb));
}

static inline void un_stack_idle(struct un_stack *stack)
{
    un_compiler_fence();
    stack->own->busy = 0;
}

/* A packet on its way in. Handlers that keep the frames set rx.frame to UN_NONE. */
struct un_arrival {
    struct un_packet packet;
    struct un_rx rx;
    bool is_foreign;   /* another shard gave it to us: it is not handed over again, and not answered for it */
    bool is_unicast;   /* for one of our addresses: `local` */
    uint16_t local;    /* index of the address */
    int count;
    struct iovec pieces[UN_TX_PIECES_MAX];
};

static inline const uint8_t *un_arrival_transport(const struct un_arrival *arrival)
{
    return (const uint8_t *)arrival->pieces[0].iov_base + arrival->packet.transport;
}

/* How many bytes of the transport packet lie in a row. */
static inline uint32_t un_arrival_contiguous(const struct un_arrival *arrival)
{
    uint32_t there = (uint32_t)arrival->pieces[0].iov_len - arrival->packet.transport;
    return there < arrival->packet.transport_length ? there : arrival->packet.transport_length;
}

/* ---- stack.c ---- */
uint64_t un_stack_random(struct un_stack *stack);
bool un_rate_allows(struct un_rate *rate, uint32_t per_second, uint32_t count, uint64_t now_ns);

/* ---- scan.c: what the queues hold, counted into the scratch tables ---- */
void un_scan_begin(struct un_stack *stack);
/* Queues that are not damaged: no index beyond a table, no bytes beyond a frame, no frame or record in two places. */
bool un_scan_conn(struct un_stack *stack, const struct un_tcb *tcb);
bool un_scan_frames(struct un_stack *stack, uint32_t head, uint32_t *frames, uint32_t *bytes, uint32_t *tail);

/* ---- rebuild.c: after adoption ---- */
void un_stack_rebuild(struct un_stack *stack);
void un_stack_send_pending_reset(struct un_stack *stack); /* a reset for the connection that was being changed */

/* ---- conn.c ---- */
void un_stack_conn_abort(struct un_stack *stack, struct un_tcb *tcb); /* reset, and no more of the application's */

/* ---- lists.c: connections in and out of the tables ---- */
extern const struct un_tcp_operations un_stack_operations;
struct un_opening {
    struct un_ip peer;
    uint16_t peer_port;
    uint16_t local; /* index of the address */
    uint16_t local_port;
    uint16_t listener; /* UINT16_MAX: none */
    uint32_t iss;
    uint64_t user;
};
/* A block for a new connection, in the look-up table, initialised; it is busy, the caller ends that. NULL: none is
 * free. */
struct un_tcb *un_stack_conn_begin(struct un_stack *stack, const struct un_opening *opening);
void un_stack_conn_enter_flows(struct un_stack *stack, struct un_tcb *tcb);
void un_stack_conn_leave_flows(struct un_stack *stack, struct un_tcb *tcb);
void un_stack_conn_end(struct un_stack *stack, struct un_tcb *tcb, enum un_tcp_reason reason);
void un_stack_conn_give_back(struct un_stack *stack, struct un_tcb *tcb); /* once it stands in no list */
void un_stack_conn_list_output(struct un_stack *stack, struct un_tcb *tcb);
void un_stack_conn_list_event(struct un_stack *stack, struct un_tcb *tcb);
void un_stack_conn_wait(struct un_stack *stack, struct un_tcb *tcb, struct un_neighbour *neighbour);
void un_stack_conn_wake(struct un_stack *stack, struct un_neighbour *neighbour); /* all that waited may send */
struct un_tcb *un_stack_conn_next_output(struct un_stack *stack);
struct un_tcb *un_stack_conn_next_event(struct un_stack *stack);
void un_stack_conn_half_open(struct un_stack *stack, struct un_tcb *tcb); /* counts in the backlog of its listener */
/* it entered TIME-WAIT: the oldest may have to go */
void un_stack_conn_time_wait(struct un_stack *stack, struct un_tcb *tcb);
/* the oldest in TIME-WAIT goes; false: there is none */
bool un_stack_conn_make_room(struct un_stack *stack);
/* established, and waits for the application */
void un_stack_conn_ready(struct un_stack *stack, struct un_tcb *tcb);
void un_stack_conn_accepted(struct un_stack *stack, struct un_tcb *tcb);  /* no longer in its listener's backlog */

/* ---- options.c ---- */
/* of both directions, before the handshake. 0: no limit */
void un_stack_conn_limit_mss(struct un_tcb *tcb, uint32_t mss);
uint16_t un_mtu_of_mss(const struct un_ip *peer, uint32_t mss); /* the largest for 0 */

/* ---- input.c ---- */
void un_stack_rx(struct un_stack *stack, const struct un_rx *packet, bool is_foreign);
void un_stack_process(struct un_stack *stack, struct un_arrival *arrival, struct un_tcb *tcb, const struct un_seg *seg);
/* Not: any, group, broadcast, loopback, one of ours (RFC 1122 section 3.2.1.3). */
bool un_can_be_source(const struct un_stack *stack, const struct un_ip *ip);
uint32_t un_flow_find(struct un_stack *stack, const struct un_ip *peer, uint16_t peer_port, uint16_t local_port,
                      uint16_t local);
/* The shard that owns packets with these ends (ours second). */
uint32_t un_flow_owner(const struct un_stack *stack, const struct un_ip *peer, uint16_t peer_port,
                       const struct un_ip *local, uint16_t local_port);
void un_hand_over(struct un_stack *stack, const struct un_arrival *arrival, uint32_t shard); /* UN_NONE: all others */
/* true: the flow of these two ends is another shard's, which has the packet now. */
bool un_hand_to_owner(struct un_stack *stack, const struct un_arrival *arrival, const struct un_ip *peer,
                      uint16_t peer_port, const struct un_ip *local, uint16_t local_port);
/* Payload of the transport packet, header and padding cut off; the frames are the caller's then. */
uint32_t un_arrival_payload(struct un_stack *stack, struct un_arrival *arrival, uint32_t header_length);

/* ---- listen.c ---- */
void un_listen_finish(struct un_stack *stack); /* an unlisten that its process did not live to finish */
/* A segment that no connection takes. */
enum un_drop un_listen_input(struct un_stack *stack, struct un_arrival *arrival, const struct un_seg *seg);
/* A segment for a connection in TIME-WAIT: true when it was a SYN by which a new one took its place. */
bool un_listen_reuse(struct un_stack *stack, struct un_arrival *arrival, struct un_tcb *tcb, const struct un_seg *seg);
uint32_t un_initial_sequence(const struct un_stack *stack, const struct un_ip *local, uint16_t local_port,
                             const struct un_ip *peer, uint16_t peer_port);
uint32_t un_timestamp_offset(const struct un_stack *stack, const struct un_ip *local, uint16_t local_port,
                             const struct un_ip *peer, uint16_t peer_port);

/* ---- output.c ---- */
int un_stack_emit(struct un_tcp *tcp, struct un_tcb *tcb, struct un_seg *seg, const struct un_piece *pieces, int count,
                  uint32_t segment_bytes);
/* All that the connection has to send is a segment of the usual kind (tcp/output_fast.h; IPv4, a timestamp): it leaves.
 * false: it is not so, or it cannot leave now; nothing was done, and un_tcp_dispatch does it. */
bool un_stack_output_fast(struct un_stack *stack, struct un_tcb *tcb);
/* A packet of no connection: the transport header (checksum field zero, at checksum_offset) and what follows it. When
 * the next hop's address is not known it is kept, and counts as sent. 0, -EAGAIN: the device is full, -EHOSTUNREACH. */
struct un_datagram {
    struct un_ip_header ip; /* payload_length, identification and dont_fragment are filled in */
    const uint8_t *header;
    uint32_t header_length;
    uint32_t extension_length; /* of it: IPv6 extension headers, in front of the transport header */
    uint32_t checksum_offset;  /* within the transport header */
    const struct un_piece *pieces;
    int count;
    bool is_fragment; /* a part of one whose checksum was computed; identification is given */
    uint16_t fragment_word; /* IPv4: offset and more-fragments */
};
/* Of what goes behind the IP header. */
uint16_t un_stack_checksum(const struct un_ip_header *ip, uint8_t protocol, const struct un_piece *pieces, int count);
int un_stack_send(struct un_stack *stack, struct un_datagram *datagram);
/* The same with the Ethernet destination given. */
int un_stack_send_to(struct un_stack *stack, struct un_datagram *datagram, const uint8_t *mac);
/* A whole packet, Ethernet header included. */
int un_stack_transmit(struct un_stack *stack, const struct un_tx *packet);
void un_stack_send_segment(struct un_stack *stack, const struct un_ip *local, const struct un_ip *peer,
                           const struct un_seg *seg);
void un_stack_flush(struct un_stack *stack);
bool un_stack_ask_room(struct un_stack *stack);
static inline bool un_stack_has_room(struct un_stack *stack)
{
    return stack->tx_room > 0 || un_stack_ask_room(stack);
}

/* ---- neighbour.c, discovery.c ---- */
struct un_neighbour *un_neighbour_find(struct un_stack *stack, const struct un_ip *ip);
/* found, or put in; NULL: no place */
struct un_neighbour *un_neighbour_make(struct un_stack *stack, const struct un_ip *ip);
/* May packets go to it now? 0, -EAGAIN: it is being asked, -EHOSTUNREACH: it did not answer. */
int un_neighbour_use(struct un_stack *stack, struct un_neighbour *neighbour);
void un_neighbour_learn(struct un_stack *stack, struct un_neighbour *neighbour, const uint8_t *mac, bool is_reachable);
void un_neighbour_doubt(struct un_neighbour *neighbour);
/* What goes to the connection's next hop does not arrive: ask it, unless it has just proved that it hears us. RFC 1122
 * section 2.3.2.1 (4). */
void un_neighbour_suspect(struct un_stack *stack, const struct un_tcb *tcb);
/* Somebody asked us: found, or put in where that pushes nobody out who is in use; NULL. To be followed by learn. */
struct un_neighbour *un_neighbour_offered(struct un_stack *stack, const struct un_ip *ip);
bool un_neighbour_has_mac(const struct un_neighbour *neighbour, const uint8_t *mac);
bool un_neighbour_is_known(const struct un_neighbour *neighbour); /* its address, at least */
void un_neighbours_run(struct un_stack *stack); /* what is due */
void un_neighbours_restamp(struct un_stack *stack); /* routes changed: nobody knows his next hop any more */
void un_neighbours_forget_waiting(struct un_stack *stack); /* after adoption */

void un_neighbour_solicit(struct un_stack *stack, struct un_neighbour *neighbour);
enum un_drop un_arp_input(struct un_stack *stack, struct un_arrival *arrival);
enum un_drop un_discovery_input(struct un_stack *stack, struct un_arrival *arrival, const struct un_icmp *icmp);
void un_address_announce(struct un_stack *stack, uint32_t index);
void un_address_probe(struct un_stack *stack, uint32_t index);
void un_router_solicit(struct un_stack *stack);

/* ---- waiting.c ---- */
void un_waiting_add(struct un_stack *stack, struct un_neighbour *neighbour, const struct un_piece *pieces, int count);
void un_waiting_drop(struct un_stack *stack, struct un_neighbour *neighbour);    /* all, counted */
void un_waiting_release(struct un_stack *stack, struct un_neighbour *neighbour); /* packets and connections go */

/* ---- split.c ---- */
/* As un_stack_send, in fragments of so many bytes: un_split_room. */
int un_stack_send_split(struct un_stack *stack, struct un_datagram *datagram, uint32_t room);
uint32_t un_split_room(const struct un_ip *destination, uint32_t mtu);

/* ---- paths.c ---- */
uint16_t un_link_mtu(const struct un_stack *stack, const struct un_ip *destination); /* what it may be at most */
uint16_t un_path_mtu(const struct un_stack *stack, const struct un_ip *destination);
void un_path_learn(struct un_stack *stack, const struct un_ip *ip, uint16_t mtu);

/* ---- address.c ---- */
bool un_address_is_broadcast(const struct un_stack *stack, const struct un_ip *ip);
bool un_address_is_group(const struct un_stack *stack, const struct un_ip *ip); /* multicast that we listen to */
void un_addresses_attach(struct un_stack *stack); /* the device is there: link-local address, announcements */
void un_address_conflict(struct un_stack *stack, uint32_t index, const uint8_t *mac); /* that station claims it */
uint64_t un_addresses_due(struct un_stack *stack); /* probes and announcements; when to come again */

/* ---- groups.c ---- */
void un_groups_changed(struct un_stack *stack);
enum un_drop un_groups_input(struct un_stack *stack, const struct un_arrival *arrival, const struct un_icmp *query);
uint64_t un_groups_due(struct un_stack *stack);

/* ---- route.c ---- */
int un_route_find(struct un_stack *stack, const struct un_ip *destination, struct un_ip *next_hop); /* -EHOSTUNREACH */
/* index of an address, -EHOSTUNREACH */
int un_route_source(const struct un_stack *stack, const struct un_ip *destination);
void un_route_advertised(struct un_stack *stack, const struct un_ip *router, uint16_t lifetime_s);
void un_routers_attach(struct un_stack *stack);
/* probes, announcements, reports, router solicitations, routes that expire */
void un_addresses_run(struct un_stack *stack);

/* ---- icmp.c ---- */
enum un_drop un_icmp_input(struct un_stack *stack, struct un_arrival *arrival);
/* Errors about packets of others, to their senders. */
void un_icmp_refuse(struct un_stack *stack, struct un_arrival *arrival, enum un_icmp_kind kind);
/* of what the parser has found: packet.problem */
void un_icmp_complain(struct un_stack *stack, struct un_arrival *arrival);
void un_icmp_give_up(struct un_stack *stack, const struct un_ip *from, const struct un_ip *to,
                     struct un_piece fragment);

/* ---- fragment.c ---- */
enum un_drop un_fragment_input(struct un_stack *stack, struct un_arrival *arrival);
void un_fragments_run(struct un_stack *stack);

/* ---- udp.c ---- */
enum un_drop un_udp_input(struct un_stack *stack, struct un_arrival *arrival);
/* An ICMP error about a datagram of ours. */
enum un_drop un_udp_error(struct un_stack *stack, struct un_arrival *arrival, const struct un_icmp *icmp);
void un_udp_room(struct un_stack *stack); /* endpoints were refused: has the device room again? */
bool un_udp_next_event(struct un_stack *stack, struct un_stack_event *event);
void un_udp_rebuild(struct un_stack *stack);

#endif
