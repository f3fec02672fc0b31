/* The stack: frames in, frames out, events out. No clock, no I/O, no randomness of its own.
 *
 * All it knows lies in one arena that the caller supplies, linked by index: a stack copied between two calls to another
 * address or another process goes on from there (un_stack_adopt), and so does one whose process was killed in the
 * middle of a call: the change that it was making is undone. `struct un_stack` is one process's view. Truth is in the
 * connection blocks, listeners, endpoints, addresses, routes and neighbours; look-up table, timer wheel, lists and free
 * lists are made anew by a scan.
 *
 *   arena   struct un_stack_memory | blocks | look-up buckets | records of sent packets | frame records | frames,
 *           which may lie elsewhere (struct un_stack_place)
 *
 * A turn is un_stack_poll: take what the device received, run what is due, send what may be sent, flush. Calls between
 * turns (write, consume, close …) only note that a connection has something to send; it leaves in the next turn.
 *
 * Handles of connections are generation << 32 | slot; 0 is none. A stale one gets -EBADF. Results: 0, a count, or
 * -errno.
 *
 * Includes go down in this list; arena.h has what lies in the arena, and each file a header of its own.
 *   turn.c a turn; create.c create, adopt; rebuild.c, scan.c, check.c what adoption makes anew and what must hold
 *   input.c from a frame to its owner; prefetch.c; fragment.c; listen.c listeners, backlog, SYN cookies; process.c
 *   icmp_input.c; udp_datagrams.c, udp_endpoints.c; discovery.c ARP and neighbour discovery; groups.c multicast
 *   listener reports
 *   conn.c, conn_options.c what the application calls; operations.c what tcp/ calls
 *   address.c whether addresses are ours; routers.c; complain.c ICMP that we send; split.c
 *   output.c from a segment or datagram to its next hop; neighbour.c the cache; waiting.c for it
 *   solicit.c questions and announcements; route.c; packets.c headers, and packets to the device
 *   share.c, kernel_table.c addresses that the kernel has as well, and what it says of the link
 *   lists.c connections in and out of all lists; neighbour_table.c; paths.c path MTUs; handover.c to another shard
 *   secrets.c, rate.h, random.h, local.c which addresses are ours; arrival.c; flows.c look-up; wheel.c timers;
 *   steering.c; defaults.c */
#ifndef UN_STACK_H
#define UN_STACK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/drop.h"
#include "base/pool.h"
#include "device/device.h"
#include "stack/flows.h"
#include "tcp/tcp.h"
#include "wire/ip.h"
#include "wire/packet.h"

#define UN_STACK_ADDRESSES_MAX 16u
#define UN_STACK_ROUTES_MAX 16u
#define UN_STACK_LISTENERS_MAX 64u
#define UN_STACK_SHARDS_MAX 1024u
#define UN_SECRET_BYTES 16u
#define UN_HEADERS_MAX (UN_ETH_BYTES + UN_IPV6_BYTES + UN_TCP_HEADER_MAX)
#define UN_STACK_BUFFER_MAX (1u << 30) /* RFC 7323 section 2.3: the largest window */

struct un_stack_config {
    uint32_t conn_max;
    uint32_t frames;
    /* multiple of 64; a whole packet of the device's MTU should fit, or it becomes a chain */
    uint32_t frame_bytes;
    uint32_t lent;             /* pieces that are sent from an application's own memory: un_stack_lend */
    uint32_t sents;            /* packets in flight, of all connections */
    uint32_t udp_max;          /* UDP endpoints */
    uint32_t neighbours;       /* power of two */
    uint32_t time_wait_max;    /* connections in TIME-WAIT; the oldest give way */
    uint32_t resets_per_s;
    uint32_t icmp_per_s;
    uint16_t port_low;         /* of connections we open: RFC 6335 section 6; 0 and 0, of shared addresses: none */
    uint16_t port_high;
    bool accept_partial_checksum; /* enum un_checksum_state; for virtual links on one host */
    bool accept_router_advertisements;
    bool detect_duplicates; /* ask whether another station has an address: address.c */
    bool shared; /* the addresses are the kernel's, too, which does ARP, neighbour discovery and routing: share.c */
    uint8_t secret[UN_SECRET_BYTES]; /* of sequence numbers, cookies, look-up; the same for all shards of a server */
    uint64_t seed;             /* of everything else that looks random */
    struct un_tcp_config tcp;
};

/* Everything at its default, for so many connections; secret and seed are zero: the caller sets them. */
void un_stack_defaults(struct un_stack_config *config, uint32_t conn_max);

#define UN_STACK_COUNTERS(X)                                                                                           \
    X(rx_packets, "packets taken from the device")                                                                     \
    X(tx_packets, "packets given to the device")                                                                       \
    X(arp_in, "ARP packets received")                                                                                  \
    X(arp_out, "ARP packets sent")                                                                                     \
    X(icmp_in, "ICMP messages received")                                                                               \
    X(icmp_out, "ICMP messages sent")                                                                                  \
    X(echo_replies, "echo requests answered")                                                                          \
    X(udp_in, "UDP datagrams delivered")                                                                               \
    X(udp_out, "UDP datagrams sent")                                                                                   \
    X(fragments_in, "fragments received")                                                                              \
    X(reassembled, "datagrams put together from fragments")                                                            \
    X(handed_over, "packets of another shard's connections, given to their owner")                                     \
    X(taken_over, "packets of our connections that came through another shard")                                        \
    X(neighbours_failed, "next hops that did not answer")                                                              \
    X(address_conflicts, "times another station claimed an address of ours")                                           \
    X(paths_learnt, "path MTUs remembered for other connections")                                                      \
    X(udp_errors, "ICMP errors told to UDP endpoints")                                                                 \
    X(adopted, "times the stack went on in another process")

struct un_stack_counters {
#define UN_FIELD(name, text) uint64_t name;
    UN_STACK_COUNTERS(UN_FIELD)
#undef UN_FIELD
};

/* All that a stack and its device count, in one block: in the arena, or where the maker of the view wants it. The view
 * alone knows where; there is nowhere else to count. */
struct un_published_counters {
    struct un_stack_counters ip;
    struct un_tcp_counters tcp;
    struct un_device_counters device;
    uint64_t drops[UN_DROP_COUNT];
};

struct un_stack_memory; /* arena.h */
struct un_kernel_table; /* kernel_table.h */

/* Which shard owns a flow (P6), and where its packets go. */
struct un_stack_shards {
    uint32_t shard;
    uint32_t shards;  /* 1: no other */
    /* Give a copy of a packet (chain of frames, head first) to another shard, or to all others (UN_NONE). */
    void (*hand_over)(void *context, uint32_t shard, const struct un_rx *packet);
    void *context;
};

#define UN_QUESTION_MAX 128u /* bytes of a solicitation of ARP or neighbour discovery, with all headers */

#define UN_ROW_MAX 32u /* packets that leave together */

/* Packets of the usual kind, whose connections have sent them: headers, and one piece of payload. They wait for one
 * call to the device, which comes before the turn goes on to anything else. */
struct un_row {
    uint32_t count;
    struct un_tx packets[UN_ROW_MAX];
    struct un_piece pieces[UN_ROW_MAX][2];
    uint8_t headers[UN_ROW_MAX][UN_ETH_BYTES + UN_IPV4_BYTES + UN_TCP_HEADER_TIMESTAMP];
};

/* A packet that is being put together: packets.h. */
struct un_outgoing {
    uint8_t header[UN_HEADERS_MAX];
    struct un_piece pieces[UN_TX_PIECES_MAX];
    struct un_tx tx;
};

struct un_stack {
    struct un_tcp tcp; /* first: the operations of tcp/ find the stack by it */
    struct un_stack_memory *own;
    const struct un_stack_config *config;
    struct un_published_counters *published;
    struct un_stack_counters *counters; /* those of IP in it */
    struct un_device *device;
    const struct un_device *holder; /* the device whose rings were asked for frames, when the free list was made */
    struct un_stack_shards shards;
    uint32_t tx_room;       /* packets the device said it takes, of which none was submitted yet */
    bool has_submitted;     /* something waits for flush */
    bool is_staged;         /* something waits for a change of a connection to be over: */
    bool is_segment_staged; /* the segment that was emitted, and … */
    bool is_reset_kept;     /* (it is a reset, and the newest of those that are kept until it has left) */
    bool is_rx_special;     /* usual segments need another look: shared addresses, or no fast path */
    uint16_t question_bytes; /* … a question to a neighbour, which goes first */
    uint16_t local_last;    /* index of our address that a packet was for last: mostly the next one is, too */
    struct un_flows flows;
    struct un_flows_key flows_key;
    struct un_neighbour *neighbours; /* the other tables of the arena: arena.h */
    struct un_udp_socket *endpoints;
    struct un_time_wait *time_waits;
    bool *frame_scratch;
    bool *sent_scratch;
    struct un_outgoing segment;
    struct un_row row;
    uint8_t question[UN_QUESTION_MAX];
    const struct un_kernel_table *kernel; /* of shared addresses; NULL: none yet … */
    uint64_t kernel_changes; /* … and which of its tables addresses and neighbours are as in */
    uint64_t kernel_routes;  /* which routes (un_kernel_route_changes) their stamps are as in */
};

/* Where a stack lies. The frames may be a memory of their own: a device that writes into them by itself (DMA) has them
 * registered, and that registration outlives the arena. */
struct un_stack_place {
    void *arena; /* aligned to 4096 */
    uint64_t arena_bytes;
    void *frames; /* un_stack_frames_bytes of them, aligned to 4096; NULL: they lie in the arena, behind the tables */
    struct un_published_counters *counters; /* as old as the arena; NULL: they lie in it */
    /* The one that un_stack_set_device will be given: its rings may hold frames since before. NULL: a device without
     * such rings. */
    const struct un_device *device;
};

/* Bytes of arena for a configuration, with the frames in it; -EINVAL with *why a sentence. */
int64_t un_stack_bytes(const struct un_stack_config *config, const char **why);
int64_t un_stack_tables_bytes(const struct un_stack_config *config, const char **why); /* without the frames */
uint64_t un_stack_frames_bytes(const struct un_stack_config *config);
/* Arena and counters have to be zero; what the frames hold does not count. */
int un_stack_create(struct un_stack *stack, const struct un_stack_place *place, const struct un_stack_config *config);
/* Go on with a stack that another view had, with its frames and counters where they were. -EINVAL: this is none, or of
 * another version. */
int un_stack_adopt(struct un_stack *stack, const struct un_stack_place *place);
/* Before anything moves; again after adopt. A device whose rings outlive a process was named in the stack's place. */
void un_stack_set_device(struct un_stack *stack, struct un_device *device);
void un_stack_set_shards(struct un_stack *stack, const struct un_stack_shards *shards);
/* For tests: without fast paths the same packets leave. On in every view until it is turned off. */
void un_stack_set_fast_paths(struct un_stack *stack, bool on);

/* Addresses of our own, and ways to others. The prefix is a directly connected route. */
int un_stack_add_address(struct un_stack *stack, const struct un_ip *ip, uint8_t prefix);
bool un_stack_has_address(const struct un_stack *stack, const struct un_ip *ip);
/* Another station claims an address of ours. TAKEN: it did so before we were sure that nobody has it; the address is
 * not used, its connections have ended with UNREACHABLE, and every minute it is looked whether that has changed: then,
 * FREE. DEFENDED: the address was and is ours, and the link was told so; while the other does not give way, both get
 * each other's packets. */
enum un_address_news { UN_ADDRESS_NO_NEWS, UN_ADDRESS_IS_TAKEN, UN_ADDRESS_IS_FREE, UN_ADDRESS_IS_DEFENDED };
struct un_stack_address_news {
    struct un_ip ip;
    uint8_t what; /* enum un_address_news */
    uint8_t mac[UN_MAC_BYTES]; /* of the other station */
};
bool un_stack_next_address_news(struct un_stack *stack, struct un_stack_address_news *news);
/* A gateway of zeros: the network is on the link. -ENETUNREACH: the gateway is not. */
int un_stack_add_route(struct un_stack *stack, const struct un_ip *network, uint8_t prefix,
                       const struct un_ip *gateway);

/* Of a stack that shares its addresses (config.shared; the two calls above are -EOPNOTSUPP then): the kernel's table,
 * which has addresses, routes and neighbours. Again in every view; the table outlives it. */
void un_stack_share(struct un_stack *stack, const struct un_kernel_table *table);
/* Look whether there is a newer table: call it when the writer has said so, and now and then. */
void un_stack_follow(struct un_stack *stack);
/* The next IP address whose Ethernet address the kernel is to find out: it will stand in a table. false: none. */
bool un_stack_next_question(struct un_stack *stack, struct un_ip *ip);
/* That one could not be passed on: it stays a question. */
void un_stack_ask_again(struct un_stack *stack, const struct un_ip *ip);

/* One turn: returns how much was done. UINT64_MAX: no deadline. */
uint32_t un_stack_poll(struct un_stack *stack, uint64_t now_ns);
uint64_t un_stack_deadline_ns(const struct un_stack *stack);
bool un_stack_has_output(const struct un_stack *stack); /* that may leave as soon as the device takes it */
/* Calls between turns happen at the time of the last one, or at this, when it is later. */
void un_stack_set_now(struct un_stack *stack, uint64_t now_ns);
/* The two halves of a turn. In between, the application reads and answers what the first one brought: then an ACK
 * carries the answer, and says how much room there is after the reading, where it would otherwise be followed by a
 * second one. */
uint32_t un_stack_poll_input(struct un_stack *stack, uint64_t now_ns);  /* take packets, run what is due */
uint32_t un_stack_poll_output(struct un_stack *stack, uint64_t now_ns); /* send what may be sent, flush */
/* A packet that did not come from the device (another shard handed it over): a chain of this stack's frames. */
void un_stack_input(struct un_stack *stack, const struct un_rx *packet);

/* Events: every connection stands in the list at most once, its bits add up. */
struct un_stack_event {
    uint64_t conn;     /* handle; of a UDP endpoint: its number */
    uint64_t user;     /* of the connection; of ACCEPTED: of the listener */
    uint32_t events;   /* enum un_tcp_event; of UDP: READABLE, WRITABLE, UN_UDP_EVENT_ERROR */
    uint16_t listener; /* of ACCEPTED */
    bool is_udp;
    uint8_t reason;    /* of CLOSED: enum un_tcp_reason */
};
bool un_stack_next_event(struct un_stack *stack, struct un_stack_event *event);

/* Listeners. ip: one of ours or any (::, 0.0.0.0; :: takes IPv4 as well). backlog bounds connections that are not yet
 * accepted; beyond it, SYN cookies. Returns the listener's number. */
int un_stack_listen(struct un_stack *stack, const struct un_ip *ip, uint16_t port, uint32_t backlog, uint64_t user);
int un_stack_unlisten(struct un_stack *stack, uint32_t listener); /* connections not accepted are reset */
int un_stack_pause_listener(struct un_stack *stack, uint32_t listener, bool paused); /* SYNs are dropped, not refused */
/* The connection that has waited longest to be accepted, also one that is over; 0: none waits. It stays the next until
 * it is accepted, or let go. */
uint64_t un_stack_accept_next(const struct un_stack *stack, uint32_t listener);
/* The application takes a connection that waits: it no longer counts in the backlog. */
int un_stack_accept(struct un_stack *stack, uint64_t conn, uint64_t user);
/* The application that took it is gone and has not noted it: it waits again, and what can be told of it is told.
 * -ENOENT: there is nobody any more for whom it could wait. */
int un_stack_unaccept(struct un_stack *stack, uint64_t conn);

struct un_stack_peer {
    struct un_ip ip;
    uint16_t port;
};
/* Open a connection; local ip any and port 0: chosen. The handle in *conn. -EHOSTUNREACH: there is no route, or it
 * would lead to ourselves: a stack has no loopback. Of shared addresses, of which the kernel has the other
 * ports: -EOPNOTSUPP, there is none for connections that we open; -EACCES, this is none of those. */
int un_stack_connect(struct un_stack *stack, const struct un_stack_peer *remote, const struct un_stack_peer *local,
                     uint64_t user, uint64_t *conn);

/* -EAGAIN: full */
int64_t un_stack_write(struct un_stack *stack, uint64_t conn, const struct un_piece *pieces, int count);
/* The same with pieces of a lender's memory (stack->tcp.pool.lenders), of which longer ones stay there: un_tcp_lend.
 * They come back by un_pool_given_back. */
int64_t un_stack_lend(struct un_stack *stack, uint64_t conn, uint16_t lender, struct un_piece *pieces, int count);
int64_t un_stack_read(struct un_stack *stack, uint64_t conn, void *bytes, uint32_t most); /* copies; 0: end; -EAGAIN */
/* in place; -EAGAIN; 0: end */
int un_stack_peek(struct un_stack *stack, uint64_t conn, struct un_piece *pieces, int most);
int un_stack_consume(struct un_stack *stack, uint64_t conn, uint32_t bytes);
/* How many bytes the application has taken from the connection, and given to it, since it began: each call that reads
 * or writes happened or not, whenever its process died. */
int un_stack_conn_counts(struct un_stack *stack, uint64_t conn, uint64_t *taken, uint64_t *given);
int un_stack_shutdown(struct un_stack *stack, uint64_t conn); /* no more output */
/* with the former: what comes is answered with a reset */
int un_stack_shutdown_input(struct un_stack *stack, uint64_t conn);
int un_stack_close(struct un_stack *stack, uint64_t conn);    /* orderly, in the background; the handle is gone */
int un_stack_abort(struct un_stack *stack, uint64_t conn);    /* reset; the handle is gone */
/* Reset connections of any listener, also those that the application has closed already: at most so many, from this
 * slot on. Returns where to go on; UN_NONE: all are. */
uint32_t un_stack_abort_some(struct un_stack *stack, uint32_t from, uint32_t count);
int un_stack_set_user(struct un_stack *stack, uint64_t conn, uint64_t user);

enum un_stack_option {
    UN_OPTION_NODELAY,
    UN_OPTION_CORK,
    UN_OPTION_KEEPALIVE,      /* 0, 1 */
    UN_OPTION_KEEP_IDLE_S,
    UN_OPTION_KEEP_INTERVAL_S,
    UN_OPTION_KEEP_COUNT,
    UN_OPTION_USER_TIMEOUT_MS,
    UN_OPTION_RECEIVE_BYTES,
    UN_OPTION_SEND_BYTES,
    UN_OPTION_CONGESTION,     /* index of un_congestions; before or after the handshake */
    UN_OPTION_QUICKACK,
    UN_OPTION_MSS,            /* upper limit, before the handshake */
    UN_OPTION_TOS,            /* octet of the IP header, without the bits of ECN */
    UN_OPTIONS,
};
int un_stack_set_option(struct un_stack *stack, uint64_t conn, enum un_stack_option option, uint32_t value);
int un_stack_check_option(enum un_stack_option option, uint32_t value); /* would any connection take it? */
int un_stack_get_option(struct un_stack *stack, uint64_t conn, enum un_stack_option option, uint32_t *value);
/* Of connections that begin from now on, what their SYN-ACK says: UN_OPTION_RECEIVE_BYTES, which decides the window
 * scale, and UN_OPTION_MSS. -ENOPROTOOPT: another one, which can wait until they are accepted. */
int un_stack_set_listener_option(struct un_stack *stack, uint32_t listener, enum un_stack_option option,
                                 uint32_t value);

struct un_tcb *un_stack_conn_find(struct un_stack *stack, uint64_t conn); /* NULL: stale */
int un_stack_names(struct un_stack *stack, uint64_t conn, struct un_stack_peer *local, struct un_stack_peer *remote);
uint64_t un_stack_handle(const struct un_stack *stack, const struct un_tcb *tcb);
uint32_t un_stack_slots(const struct un_stack *stack); /* connections that ever were have slots below it */

#define UN_UDP_EVENT_ERROR (1u << 6) /* beside enum un_tcp_event */

/* UDP. ip and port as in listen, port 0: chosen. Returns the endpoint's number. */
int un_stack_udp_open(struct un_stack *stack, const struct un_stack_peer *local, uint64_t user);
int un_stack_udp_close(struct un_stack *stack, uint32_t endpoint);
int64_t un_stack_udp_send(struct un_stack *stack, uint32_t endpoint, const struct un_stack_peer *to, const void *bytes,
                          uint32_t length); /* -EAGAIN, -EMSGSIZE, -EHOSTUNREACH, -ENOBUFS */
bool un_stack_udp_waiting(struct un_stack *stack, uint32_t endpoint); /* a datagram can be received */
bool un_stack_udp_may_send(struct un_stack *stack, uint32_t endpoint); /* false after -EAGAIN, until WRITABLE */
/* From then on only datagrams of this remote end are for the endpoint; others hear that nobody is there. What ICMP says
 * about those sent to it is an error of the endpoint (RFC 1122 section 4.1.3.3): an event, and a positive errno, taken
 * once: ECONNREFUSED, EMSGSIZE, ENOPROTOOPT. Reports that may pass are none. */
int un_stack_udp_connect(struct un_stack *stack, uint32_t endpoint, const struct un_stack_peer *remote);
int un_stack_udp_error(const struct un_stack *stack, uint32_t endpoint);
int un_stack_udp_take_error(struct un_stack *stack, uint32_t endpoint);
int un_stack_udp_name(struct un_stack *stack, uint32_t endpoint, struct un_stack_peer *local);
int64_t un_stack_udp_receive(struct un_stack *stack, uint32_t endpoint, struct un_stack_peer *from, void *bytes,
                             uint32_t most); /* the length of the datagram, cut to `most` */

/* What un_stack_check found wrong, or NULL: invariants over the whole arena (frames and records all accounted for,
 * lists whole, sums right). For tests and simulation. */
const char *un_stack_check(struct un_stack *stack);
/* Frames with owners that no list of the stack knows: the device, and applications that keep frames they were shown. */
uint32_t un_stack_frames_elsewhere(struct un_stack *stack);

#endif
