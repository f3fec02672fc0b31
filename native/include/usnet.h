/* The public C API of the TCP/IP stack, in two levels: a stack without time, I/O or threads of its own (usnet_stack_*:
 * frames in, frames out, events out), and sockets over one (usnet_setup and what follows, at the end).
 *
 * The caller owns the clock and the wire. One turn of a stack:
 *
 *     usnet_stack_input(stack, frame, …)          as often as a frame came
 *     usnet_stack_poll(stack, now_ns)             what came, what is due and what may leave is done
 *     while (usnet_stack_event(stack, &event))    what the application is to know
 *         … usnet_stack_read, usnet_stack_write, usnet_stack_close …
 *     usnet_stack_poll(stack, now_ns)             what the application asked for leaves
 *     while ((length = usnet_stack_output(stack, frame, sizeof frame, &output)) > 0)
 *         … put the frame on the wire …
 *     usnet_stack_deadline_ns(stack)              poll again then, or when a frame comes
 *
 * Equal calls with equal arguments have equal results, to the byte: that is what tests and simulations build on.
 * Time is nanoseconds of any clock that never goes back; calls between two polls happen at the time of the last one,
 * those on sockets at the time of the call. Timers are rounded up to 2^18 ns, 0.26 ms, and never early. Timestamps (RFC
 * 7323) count milliseconds. Sequence numbers and their offsets depend on secret, addresses, ports and time alone.
 *
 * All that a stack knows lies in one memory that the caller may supply. It holds no pointers: copied between two calls,
 * to another address or another process, it goes on from there (usnet_stack_adopt).
 *
 * The wire is Ethernet, so besides what the application asks for there are the frames that any host sends: it asks
 * whether its addresses are taken and announces them (ARP, neighbour discovery, MLD), asks for routers (IPv6, unless
 * accept_router_advertisements is off) and for the MAC address of whoever it wants to answer, and answers pings. A
 * harness that plays the peer answers for the addresses that it plays, or asks first: who asks a host for its address
 * is known to it.
 *
 * Where the RFCs leave a choice, a harness that knows other stacks will see this:
 *   - ACKs of the first 16 full segments (of 536 bytes at least) leave at once, of smaller ones after delayed_ack_us.
 *   - A shut window is probed with one byte, or the FIN, beyond it; a keepalive has none, and the number before
 *     SND.NXT.
 *   - What the window lets go leaves as a small segment only if that is half of the largest window seen, or after a
 *     while (the timeout, at most 1 s): RFC 9293 section 3.8.6.2.1. PSH is on the segment that empties the queue.
 *   - Data with a SYN is not taken, and comes again behind it. Urgent data is data like all other.
 *   - A segment that lacks the timestamp that was agreed on is taken and counted, as by Linux: some devices send such.
 *   - A reset with the exact number ends TIME-WAIT, as in Linux (tcp_rfc1337 off): hosts behind one NAT reuse ports.
 *   - A SYN that is answered with an ACK of another connection is sent again 2 ms after the reset, once, as by Linux.
 *   - A reset of ours stands at SND.NXT, or at the edge of the window when the peer has taken it back from what is in
 *     flight, as in Linux. A peer's at the right edge of our window is challenged.
 *   - The ACK of a segment that is repeated counts when it ends at RCV.NXT or behind what we have acknowledged (RFC
 *     9293 appendix A.2), and so do SACK blocks of an ACK below SND.UNA.
 *   - ICMP errors that say "no way there for now" (network or host unreachable, time exceeded …) do not end an attempt,
 *     but are why it was in vain when it is over: RFC 9293 section 3.9.2.2, MUST-56. Linux ends it at once. "Port" and
 *     "protocol unreachable" end it with ECONNREFUSED, "prohibited" and "unknown" with EHOSTUNREACH. None ends a
 *     connection.
 *   - A connection that is given up is told by a reset; an attempt is not, nor one that waits for the peer's end alone.
 *     A listener whose backlog is full answers with SYN cookies.
 *
 * Functions return 0, a count, or a negative errno; NULL where something is needed is -EFAULT. A stack is used by one
 * thread at a time; several share nothing. Handles of connections are never 0; one whose connection is over gets -EBADF
 * and never reaches another connection.
 *
 * The part between the two `cffi` marks is read twice: by a C compiler, and word by word by cffi, which knows no
 * preprocessor; so it holds plain declarations only (native/src/cffi_source.py cuts it out). */
#ifndef USNET_H
#define USNET_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* cffi: begin */

/* An address with a port in host order. family 4: IPv4 in the first four bytes of ip; 6: IPv6; 0: any of both. */
struct usnet_endpoint {
    uint8_t ip[16];
    uint16_t port;
    uint16_t family;
    uint32_t scope; /* of a link-local address, as a kernel numbers its interfaces; the stack ignores it */
};

/* ---- Create a stack. ---- */

struct usnet_stack;

/* Explicit congestion notification (RFC 3168), numbered as by Linux: asked for and accepted, or accepted alone. */
enum usnet_ecn { USNET_ECN_NEVER = 0, USNET_ECN_ASK = 1, USNET_ECN_ACCEPT = 2 };

/* How large a stack is and how it behaves; usnet_stack_defaults says what is usual. */
struct usnet_stack_options {
    /* Sizes. */
    uint32_t conn_max;
    uint32_t frames;        /* pieces of memory that packets and payload lie in */
    uint32_t frame_bytes;   /* of each; multiple of 64, at most 32768; best if it holds a whole packet */
    uint32_t sents;         /* packets in flight, of all connections */
    uint32_t udp_max;       /* UDP endpoints */
    uint32_t neighbours;    /* link-layer addresses that are remembered; power of two */
    uint32_t time_wait_max; /* connections in TIME-WAIT; the oldest give way */
    /* Limits on answers to nobody's packets. */
    uint32_t resets_per_s;
    uint32_t icmp_per_s;
    uint16_t port_low;      /* ports of connections that are opened here; 0 and 0, with `shared`: none */
    uint16_t port_high;
    bool accept_partial_checksum;      /* virtual links: a checksum may be left to a device that is not there */
    bool accept_router_advertisements; /* IPv6: they set the default route */
    bool detect_duplicates;            /* ask the link whether an address that is added is somebody else's */
    bool shared;                       /* the addresses are a kernel's, too: usnet_kernel.h */
    uint8_t secret[16];                /* of sequence numbers, cookies, look-up; keep it and draw it at random */
    uint64_t seed;                     /* of everything else that looks random */
    /* TCP. */
    uint32_t rcv_limit;           /* bytes of a connection that may wait to be read */
    /* what that grows to where the application keeps up; not above rcv_limit: it does not */
    uint32_t rcv_limit_max;
    uint32_t snd_limit;           /* bytes of a connection that may wait to be acknowledged */
    uint32_t snd_limit_max;       /* what that grows to with the congestion window; not above snd_limit: it does not */
    uint32_t rto_min_us;          /* retransmission timeout: RFC 6298 */
    uint32_t rto_max_us;
    uint32_t rto_initial_us;
    uint32_t delayed_ack_us;      /* how long an ACK may wait for company: RFC 9293 says less than 500 ms */
    uint32_t msl_ms;              /* TIME-WAIT lasts twice this */
    uint32_t user_timeout_ms;     /* without acknowledgment a connection is given up */
    uint32_t fin_wait_2_ms;       /* how long a closed connection waits for the peer's end */
    uint32_t persist_max_us;      /* between two probes of a zero window */
    uint16_t keep_idle_s;         /* keepalive, for connections that turn it on */
    uint16_t keep_interval_s;
    uint8_t keep_count;
    uint8_t syn_retries;
    uint8_t syn_ack_retries;
    uint8_t initial_window;       /* segments: RFC 6928 */
    uint8_t congestion;           /* index of usnet_congestion_name */
    uint8_t ecn;                  /* enum usnet_ecn */
    bool timestamps;
    bool sack;
    bool window_scaling;
    bool path_mtu_probing;
    uint16_t ooo_frames_max;      /* frames per connection that wait out of order */
    uint16_t rcv_frames_max;      /* frames per connection that wait in order before they are packed tighter */
    uint16_t challenge_acks_per_s; /* per connection: RFC 5961 section 7 */
    uint16_t tx_segments_max;     /* segments of one super-segment, where the link cuts them */
};

/* The link that the frames come from and go to. */
struct usnet_link {
    uint8_t mac[6];
    uint16_t mtu;              /* bytes of an IP packet */
    uint32_t tx_segment_bytes; /* it cuts TCP super-segments of up to so many payload bytes; 0: it does not */
    bool tx_checksum;          /* it completes transport checksums */
    bool rx_checksum;          /* it says of received frames whether their checksum is good */
    bool rx_coalesce;          /* it may join TCP segments to packets larger than the MTU */
    uint32_t slots;            /* frames on their way in each direction; power of two, at most 2^20 */
};

/* Everything at its default, for so many connections. secret and seed are zero: set them. */
void usnet_stack_defaults(struct usnet_stack_options *options, uint32_t conn_max);

/* Bytes of memory for a stack; -EINVAL with *why a sentence (static text) when there is no such stack. */
int64_t usnet_stack_bytes(const struct usnet_stack_options *options, const char **why);

/* Make a stack in `memory`: usnet_stack_bytes of zeros, aligned to 4096, which outlive the stack; or, where memory is
 * NULL, in memory of its own. -EINVAL: no such stack or link, or it does not fit; -ENOMEM. */
int usnet_stack_create(struct usnet_stack **stack, const struct usnet_stack_options *options,
                       const struct usnet_link *link, void *memory, uint64_t bytes);

/* Go on with the memory of a stack that stands still: another one's, or a copy, wherever it lies. A stack that stood in
 * the middle of a call resets the connection that it was changing. Frames that had come in or were to go out are the
 * link's, not the memory's. Events say again all that is so, since nobody may have acted on those that were fetched:
 * that a connection is ACCEPTED (and waits for usnet_stack_accept) or CONNECTED, READABLE, at its EOF, CLOSED, and
 * WRITABLE unless a write has found no room. -EINVAL: this is no stack, or of another version; -ENOMEM. */
int usnet_stack_adopt(struct usnet_stack **stack, const struct usnet_link *link, void *memory, uint64_t bytes);

/* Let go of it: memory of its own is freed, the caller's is left as it is. */
void usnet_stack_destroy(struct usnet_stack *stack);

/* Addresses of our own, whose prefix is on the link; ways to all others. Ports mean nothing here. -EINVAL, -EEXIST,
 * -ENOSPC: too many. A gateway is an IPv6 link-local address, or lies in the prefix of an address, or of a route
 * without a gateway (all zeros: its network is on the link), that was added before; else -ENETUNREACH, as the kernel
 * says. -EINVAL: it is one of our own addresses. */
int usnet_stack_add_address(struct usnet_stack *stack, const struct usnet_endpoint *address, uint8_t prefix);
int usnet_stack_add_route(struct usnet_stack *stack, const struct usnet_endpoint *network, uint8_t prefix,
                          const struct usnet_endpoint *gateway);

/* Make stacks of one process the shards of one server: a connection belongs to one of them by its addresses and ports,
 * and what comes to another one goes to its owner at the owner's next poll. They have the same addresses, listeners and
 * secret, and live as long as one another is polled. Once for each stack. -EINVAL, -ENOMEM. */
int usnet_stack_join(struct usnet_stack *const *stacks, uint32_t count);

/* The number of the shard that a connection belongs to. */
uint32_t usnet_stack_owner(const struct usnet_endpoint *remote, const struct usnet_endpoint *local, uint32_t shards);

/* ---- Packets and time. ---- */

enum usnet_input_flag {
    USNET_INPUT_CHECKSUM_GOOD = 1,    /* the transport checksum is known to be right */
    USNET_INPUT_CHECKSUM_PARTIAL = 2, /* it may hold the sum of the pseudo-header only: accept_partial_checksum */
};

/* A frame came, from its Ethernet header on; the next poll looks at it. segment_bytes: of a packet that was joined from
 * several, the payload each had, else 0. -ENOBUFS: `slots` wait already, or no memory for it is free; -EMSGSIZE: longer
 * than any frame (65,553 bytes), nothing was changed; -EINVAL: the stack of a context whose device is not by hand. */
int usnet_stack_input(struct usnet_stack *stack, const uint8_t *frame, uint32_t length, uint32_t flags,
                      uint32_t segment_bytes);

/* Do all that is to be done at this time; returns how much that was, 0 for nothing. */
uint32_t usnet_stack_poll(struct usnet_stack *stack, uint64_t now_ns);

/* When to poll again if nothing happens before, though there may be nothing to do yet then; 2^64 - 1: never. */
uint64_t usnet_stack_deadline_ns(struct usnet_stack *stack);

enum usnet_output_flag {
    USNET_OUTPUT_CHECKSUM = 1, /* the transport checksum is to be completed: it holds the pseudo-header's sum */
    USNET_OUTPUT_SEGMENT = 2,  /* to be cut into segments of segment_bytes of payload */
    USNET_OUTPUT_IPV6 = 4,
};

/* What the link is to do with a frame. */
struct usnet_output {
    uint16_t flags;           /* enum usnet_output_flag */
    uint16_t segment_bytes;
    uint16_t header_length;   /* Ethernet, IP and transport */
    uint16_t checksum_start;  /* where the bytes begin that the checksum is over */
    uint16_t checksum_offset; /* where it lies, from there */
};

/* Take the oldest frame that is to be sent: its length; 0: there is none; -EMSGSIZE: it is longer than `most`, and
 * stays. output may be NULL. */
int usnet_stack_output(struct usnet_stack *stack, uint8_t *frame, uint32_t most, struct usnet_output *output);

/* ---- Events. ---- */

enum usnet_event_bit {
    USNET_EVENT_ACCEPTED = 1,  /* a listener has a new connection: this one */
    USNET_EVENT_CONNECTED = 2,
    USNET_EVENT_READABLE = 4,  /* something came since the last time */
    USNET_EVENT_EOF = 8,       /* the peer has ended its output; what came before can still be read */
    USNET_EVENT_WRITABLE = 16, /* room again, after a write that was not taken whole */
    USNET_EVENT_CLOSED = 32,   /* it is over; the last one. What had come can still be read */
};

struct usnet_event {
    uint64_t conn;     /* the connection; of a UDP endpoint its number */
    uint64_t user;     /* as set for it; with ACCEPTED, the listener's */
    uint32_t events;   /* enum usnet_event_bit; they add up until they are fetched */
    uint16_t listener; /* with ACCEPTED */
    uint8_t is_udp;
    uint8_t reason;    /* with CLOSED: why, usnet_tcp_reason_name */
};

/* 1 and the next connection with news, or 0. */
int usnet_stack_event(struct usnet_stack *stack, struct usnet_event *event);

/* ---- TCP. ---- */

/* Wait for connections at this address. Up to `backlog` of them may wait to be accepted; beyond that, SYN cookies are
 * handed out. Returns the listener's number. -EADDRINUSE, -EADDRNOTAVAIL, -ENOSPC: too many listeners. */
int usnet_stack_listen(struct usnet_stack *stack, const struct usnet_endpoint *local, uint32_t backlog, uint64_t user);
int usnet_stack_unlisten(struct usnet_stack *stack, uint32_t listener); /* those not accepted are reset */
int usnet_stack_pause_listener(struct usnet_stack *stack, uint32_t listener, bool paused); /* it ignores SYNs */

/* Take a connection that an event announced as ACCEPTED: the backlog has room for another one. */
int usnet_stack_accept(struct usnet_stack *stack, uint64_t conn, uint64_t user);

/* Open a connection; local may be NULL, or have family 0 or port 0 where any will do. The handle in *conn: CONNECTED or
 * CLOSED follows. -EHOSTUNREACH: no way there, and none to addresses of our own (there is no loopback); -EADDRNOTAVAIL,
 * -EADDRINUSE; -ENOBUFS: conn_max. */
int usnet_stack_connect(struct usnet_stack *stack, const struct usnet_endpoint *remote,
                        const struct usnet_endpoint *local, uint64_t user, uint64_t *conn);

/* Output: returns how much was taken. -EAGAIN: nothing, WRITABLE follows; -EPIPE: after shutdown; -ENOTCONN: not yet;
 * -ECONNRESET, -ETIMEDOUT and the like: over. */
int64_t usnet_stack_write(struct usnet_stack *stack, uint64_t conn, const void *bytes, uint32_t length);

/* Input: copied out, and gone. 0: the peer has ended its output and all was read; -EAGAIN: nothing there, READABLE or
 * EOF follows. */
int64_t usnet_stack_read(struct usnet_stack *stack, uint64_t conn, void *bytes, uint32_t most);

struct usnet_piece {
    const uint8_t *bytes;
    uint32_t length;
};

/* Input where it lies: up to `most` pieces, valid until the next call that takes the stack; results as of read. What
 * was dealt with is consumed then, which may open the window. */
int usnet_stack_peek(struct usnet_stack *stack, uint64_t conn, struct usnet_piece *pieces, uint32_t most);
int usnet_stack_consume(struct usnet_stack *stack, uint64_t conn, uint32_t bytes); /* -EINVAL: more than there is */

int usnet_stack_shutdown(struct usnet_stack *stack, uint64_t conn); /* end of output; input goes on */
int usnet_stack_close(struct usnet_stack *stack, uint64_t conn); /* in order, in the background; the handle is gone */
int usnet_stack_abort(struct usnet_stack *stack, uint64_t conn); /* with a reset; the handle is gone */
int usnet_stack_set_user(struct usnet_stack *stack, uint64_t conn, uint64_t user);

enum usnet_option {
    USNET_OPTION_NODELAY = 0, /* send small segments at once */
    /* send only full segments, whatever NODELAY says; less after a timeout, or with the FIN */
    USNET_OPTION_CORK = 1,
    USNET_OPTION_KEEPALIVE = 2,
    USNET_OPTION_KEEP_IDLE_S = 3, /* from what was heard last, or from when this or KEEPALIVE is set */
    USNET_OPTION_KEEP_INTERVAL_S = 4,
    USNET_OPTION_KEEP_COUNT = 5,
    /* So long may the peer not acknowledge, also a SYN; 0: the stack's, and SYNs are counted. Once set it also counts
     * while the peer's window is shut (RFC 6429), and for keepalive instead of KEEP_COUNT (RFC 5482 section 4.2). It
     * has passed to the millisecond, but not before the first timeout; that of keepalive when a probe is due, the first
     * excepted. */
    USNET_OPTION_USER_TIMEOUT_MS = 6,
    USNET_OPTION_RECEIVE_BYTES = 7,
    USNET_OPTION_SEND_BYTES = 8,
    USNET_OPTION_CONGESTION = 9, /* index of usnet_congestion_name */
    USNET_OPTION_QUICKACK = 10, /* acknowledge all data at once; stays on */
    /* upper limit, of both directions; read: payload of a full segment, beside a timestamp */
    USNET_OPTION_MSS = 11,
    /* DSCP << 2, of all that is sent from now on; the bits of ECN are not the application's */
    USNET_OPTION_TOS = 12,
};

/* -ENOPROTOOPT: no such option; -EINVAL: no such value; -EISCONN: an MSS after the handshake. */
int usnet_stack_set_option(struct usnet_stack *stack, uint64_t conn, uint32_t option, uint32_t value);
int usnet_stack_get_option(struct usnet_stack *stack, uint64_t conn, uint32_t option, uint32_t *value);
const char *usnet_congestion_name(uint32_t index); /* NULL past the last one */

enum usnet_tcp_state {
    USNET_TCP_CLOSED = 1,
    USNET_TCP_SYN_SENT = 2,
    USNET_TCP_SYN_RECEIVED = 4,
    USNET_TCP_ESTABLISHED = 8,
    USNET_TCP_FIN_WAIT_1 = 16,
    USNET_TCP_FIN_WAIT_2 = 32,
    USNET_TCP_CLOSE_WAIT = 64,
    USNET_TCP_CLOSING = 128,
    USNET_TCP_LAST_ACK = 256,
    USNET_TCP_TIME_WAIT = 512,
    USNET_TCP_DEAD = 1024, /* over; remembers why until it is closed */
};

enum usnet_tcp_agreed {
    USNET_TCP_WINDOW_SCALING = 1,
    USNET_TCP_TIMESTAMPS = 2,
    USNET_TCP_SACK = 4,
    USNET_TCP_ECN = 8,
};

/* What is known of a connection, in the words of RFC 9293, 6298, 5681. */
struct usnet_tcp_info {
    struct usnet_endpoint local;
    struct usnet_endpoint remote;
    uint64_t user;
    uint32_t state;  /* enum usnet_tcp_state */
    uint32_t agreed; /* enum usnet_tcp_agreed */
    uint32_t reason; /* of a DEAD one: usnet_tcp_reason_name */
    uint32_t congestion;
    uint8_t snd_wscale;
    uint8_t rcv_wscale;
    uint8_t backoff; /* timeouts in a row */
    uint8_t probes;  /* unanswered keepalives or window probes in a row */
    bool in_recovery;
    bool in_loss;    /* recovery after a timeout */
    /* sequence space */
    uint32_t iss;
    uint32_t irs;
    uint32_t snd_una;
    uint32_t snd_nxt;
    uint32_t snd_wnd;
    uint32_t rcv_nxt;
    uint32_t rcv_wnd; /* as last advertised */
    /* sizes, in bytes */
    uint32_t snd_mss;      /* payload of a segment that has no option */
    uint32_t path_mtu;
    uint32_t unread;       /* in order */
    uint32_t out_of_order;
    uint32_t queued;       /* output that is not acknowledged */
    uint32_t cwnd;
    uint32_t ssthresh;     /* 2^32 - 1: nothing has been lost yet, and slow start has no end */
    /* what was sent and is not acknowledged, each byte in one of the three: */
    uint32_t sacked;
    uint32_t lost;         /* given up, and not sent again yet */
    uint32_t in_flight;    /* all else, with what was sent again after it was given up */
    /* microseconds */
    uint32_t rto_us; /* with backoff */
    uint32_t srtt_us;
    uint32_t rttvar_us;
    uint32_t min_rtt_us;
    uint32_t retransmitted; /* segments */
    uint64_t bytes_in;
    uint64_t bytes_out;
};

int usnet_stack_info(struct usnet_stack *stack, uint64_t conn, struct usnet_tcp_info *info);

/* Go through all connections: also those that nobody has accepted, and those that were closed and end in the background
 * (TIME-WAIT included), which have no handle any more: *conn is 0. *position is 0 at first. Returns 1, or 0 behind the
 * last one. What begins between two calls may be left out. */
int usnet_stack_next_connection(struct usnet_stack *stack, uint32_t *position, uint64_t *conn,
                                struct usnet_tcp_info *info);

/* "established", "reset" …; NULL where the number has no meaning. */
const char *usnet_tcp_state_name(uint32_t state);
const char *usnet_tcp_reason_name(uint32_t reason);

/* ---- UDP. ---- */

/* An endpoint, whose number is returned; port 0: any free one. -EADDRINUSE, -EADDRNOTAVAIL, -ENOSPC: udp_max. */
int usnet_stack_udp_open(struct usnet_stack *stack, const struct usnet_endpoint *local, uint64_t user);
int usnet_stack_udp_close(struct usnet_stack *stack, uint32_t endpoint);

/* The whole datagram or nothing: -EAGAIN, -EMSGSIZE, -EHOSTUNREACH. */
int64_t usnet_stack_udp_send(struct usnet_stack *stack, uint32_t endpoint, const struct usnet_endpoint *to,
                             const void *bytes, uint32_t length);

/* One datagram: its length. What is beyond `most` bytes of it is lost. from may be NULL. -EAGAIN: none there. */
int64_t usnet_stack_udp_receive(struct usnet_stack *stack, uint32_t endpoint, struct usnet_endpoint *from, void *bytes,
                                uint32_t most);

/* ---- To look at. ---- */

enum usnet_stack_counter_kind {
    USNET_STACK_TCP,    /* in the spirit of RFC 4022 */
    USNET_STACK_IP,     /* everything below and beside TCP */
    USNET_STACK_DROPS,  /* why something was not taken */
    USNET_STACK_DEVICE, /* of the link */
};

/* How many counters of a kind there are, and their name and help text: static strings, NULL past the last one. */
uint32_t usnet_stack_counter_count(enum usnet_stack_counter_kind kind);
const char *usnet_stack_counter_name(enum usnet_stack_counter_kind kind, uint32_t index);
const char *usnet_stack_counter_help(enum usnet_stack_counter_kind kind, uint32_t index);

/* Read the first `max` counters in index order; returns how many were read. */
int usnet_stack_counters(const struct usnet_stack *stack, enum usnet_stack_counter_kind kind, uint64_t *values,
                         uint32_t max);

/* How full a stack is; all of it is bounded by the stack's options. At rest without connections, all frames and records
 * are free again, but for frames that datagrams lie in which nobody received. */
struct usnet_stack_usage {
    uint32_t conns; /* those in TIME-WAIT included */
    uint32_t frames_free;
    uint32_t sents_free;
};

void usnet_stack_usage(const struct usnet_stack *stack, struct usnet_stack_usage *usage);

/* NULL, or what is wrong: invariants over all memory of the stack. For tests and simulation; slow. */
const char *usnet_stack_check(struct usnet_stack *stack);

/* Whether packets take fast paths; off, the same packets leave, to the byte. On again after adoption. For tests. */
int usnet_stack_set_fast_paths(struct usnet_stack *stack, bool on);

/* ---- Sockets: the familiar calls, over a stack of their own. ----
 *
 * A context is a stack with a device and a clock, used by one thread at a time. Descriptors are small numbers that mean
 * something within their context only. All sockets are non-blocking: a call that cannot go on returns -EAGAIN, and
 * usnet_epoll_wait says when it can. Errors are negative errno values, those that the kernel's sockets give; addresses
 * are the system's struct sockaddr_in and sockaddr_in6. What was written leaves with the next usnet_epoll_wait, or with
 * usnet_poll. */

struct sockaddr;
struct usnet;
struct usnet_device;

/* Devices. Each constructor returns NULL on failure, with *why (which may be NULL) a sentence for the user. A device
 * belongs to the context that it was given to, or to its wrapper; otherwise usnet_device_close ends it. */

/* One queue of the TAP interface `name`, which is created when there is none. It can be waited for. */
struct usnet_device *usnet_device_tap(const char *name, const char **why);

/* Two ends of a wire in this process, for two contexts of one thread. The second one's MAC address is that of the link
 * with its last bit changed. 0, -EINVAL, or -ENOMEM. */
int usnet_device_memory(struct usnet_device *ends[2], const struct usnet_link *link);

/* Frames in and out by hand: usnet_device_input and usnet_device_output, which are as usnet_stack_input and
 * usnet_stack_output, also when the device was wrapped or given to a context since. -EINVAL: it is another device.
 * Together with a clock of the caller's this is how a harness plays packets to sockets: input, usnet_poll, output, and
 * any call of the sockets in between. NULL, with errno: slots is no power of two, or no memory. */
struct usnet_device *usnet_device_hand(const struct usnet_link *link);
int usnet_device_input(struct usnet_device *device, const uint8_t *frame, uint32_t length, uint32_t flags,
                       uint32_t segment_bytes);
int usnet_device_output(struct usnet_device *device, uint8_t *frame, uint32_t most, struct usnet_output *output);

/* Wrappers of any device, which is theirs from then on (and still the caller's when they fail). What passes is written
 * to a file for Wireshark (pcapng); the clock, in nanoseconds of Unix time, may be NULL: CLOCK_REALTIME. */
struct usnet_device *usnet_device_pcap(struct usnet_device *device, const char *path,
                                       uint64_t (*clock_ns)(void *argument), void *argument, const char **why);

/* Faults in both directions, each with its probability out of 1,000,000; equal seeds, equal faults. NULL: no memory. */
struct usnet_faults {
    uint64_t seed;
    uint32_t loss;
    uint32_t duplicate;
    uint32_t corrupt; /* one bit is flipped, behind the Ethernet header */
    uint32_t reorder; /* held back until 1 to 8 later packets have passed */
};
struct usnet_device *usnet_device_fault(struct usnet_device *device, const struct usnet_faults *faults);

void usnet_device_close(struct usnet_device *device);

struct usnet_setup_options {
    struct usnet_stack_options stack; /* usnet_setup_defaults fills it in, secret and seed at random */
    uint32_t sockets;                 /* descriptors, those of epoll included */
    /* Nanoseconds that never go back; NULL: CLOCK_MONOTONIC. With a clock of the caller's nothing ever sleeps:
     * usnet_epoll_wait looks once, and usnet_deadline_ns says when time has to have moved on. */
    uint64_t (*clock_ns)(void *argument);
    void *argument;
};

void usnet_setup_defaults(struct usnet_setup_options *options, uint32_t sockets);

/* NULL, with errno, when there is no device, no memory, or the options make no sense: *why (may be NULL) is a sentence.
 * The device is the context's from then on, and was closed if this fails. */
struct usnet *usnet_setup(const struct usnet_setup_options *options, struct usnet_device *device, const char **why);
void usnet_teardown(struct usnet *context); /* connections are not ended: the peer hears no more */

/* An address of this host as "10.0.0.1/24" or "fd00::1/64"; a way to others: network "0.0.0.0/0", gateway "10.0.0.254".
 * -EINVAL: not written so; the others as with usnet_stack_add_address and usnet_stack_add_route. */
int usnet_add_address(struct usnet *context, const char *address);
int usnet_add_route(struct usnet *context, const char *network, const char *gateway);

/* A turn by hand: what came, what is due, what may leave. How much was done. */
uint32_t usnet_poll(struct usnet *context);
uint64_t usnet_deadline_ns(struct usnet *context); /* as usnet_stack_deadline_ns */
int usnet_fd(struct usnet *context); /* readable while frames may be there, be it without memory for them; -1: none */

/* The stack underneath, to look at (usnet_stack_counters, usnet_stack_info, usnet_stack_check), and to read where the
 * bytes lie: usnet_stack_peek and usnet_stack_consume. Its events are the context's. When the device is by hand, it is
 * driven as any stack, with the sockets beside it: usnet_stack_input, usnet_stack_poll (as usnet_poll, at a time that
 * the context's clock must not contradict), usnet_stack_output. */
struct usnet_stack *usnet_stack_of(struct usnet *context);
uint64_t usnet_conn_of(struct usnet *context, int fd); /* handle of the socket's connection; 0: none */

/* The calls. domain, type, how, level and names are the system's constants (AF_INET, SOCK_STREAM, SHUT_WR, TCP_NODELAY
 * …).
 *
 * Which port it is and whether it is taken is found out by listen or connect, not by bind of a stream socket;
 * connections of before, in TIME-WAIT, keep no port from a listener. Who connects to AF_UNSPEC is connected to nobody
 * any more (the peer gets a reset), and listens no more. Data that comes after shutdown of both directions is answered
 * with a reset. An AF_INET6 socket that is bound to :: takes IPv4 as well; there is no way to the context's own
 * addresses: -EHOSTUNREACH. A connection that was reset before anybody accepted it is accepted, and says so when it is
 * read. A datagram is never cut into fragments: -EMSGSIZE. What ICMP says about those of a connected datagram socket is
 * told once, by the next call or SO_ERROR: -ECONNREFUSED, -EMSGSIZE, -ENOPROTOOPT. A connected stream socket has no
 * other to send to: -EISCONN. */
int usnet_socket(struct usnet *context, int domain, int type, int protocol);
int usnet_bind(struct usnet *context, int fd, const struct sockaddr *address, uint32_t length);
int usnet_listen(struct usnet *context, int fd, int backlog); /* again: no change. Without a port, any free one */
int usnet_accept(struct usnet *context, int fd, struct sockaddr *address, uint32_t *length);
int usnet_connect(struct usnet *context, int fd, const struct sockaddr *address, uint32_t length); /* -EINPROGRESS */
int64_t usnet_read(struct usnet *context, int fd, void *bytes, uint64_t most);
int64_t usnet_write(struct usnet *context, int fd, const void *bytes, uint64_t length);
int64_t usnet_recvfrom(struct usnet *context, int fd, void *bytes, uint64_t most, struct sockaddr *address,
                       uint32_t *address_length);
int64_t usnet_sendto(struct usnet *context, int fd, const void *bytes, uint64_t length, const struct sockaddr *address,
                     uint32_t address_length);
int usnet_shutdown(struct usnet *context, int fd, int how);
int usnet_close(struct usnet *context, int fd);
int usnet_getsockname(struct usnet *context, int fd, struct sockaddr *address, uint32_t *length);
int usnet_getpeername(struct usnet *context, int fd, struct sockaddr *address, uint32_t *length);

/* SOL_SOCKET: SO_ERROR, SO_TYPE, SO_DOMAIN, SO_PROTOCOL, SO_ACCEPTCONN, SO_RCVBUF, SO_SNDBUF (as they were set, not
 * doubled), SO_KEEPALIVE, SO_LINGER (zero: close resets; other times: as without), SO_REUSEADDR (accepted, and without
 * meaning). IPPROTO_TCP, of stream sockets: TCP_NODELAY, TCP_CORK, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT,
 * TCP_USER_TIMEOUT, TCP_QUICKACK, TCP_MAXSEG, TCP_CONGESTION (a name), TCP_INFO (struct usnet_tcp_info; -ENOTCONN
 * before usnet_connect and of a listener): as enum usnet_option says. Connections that a listener accepts have its
 * options; TCP_MAXSEG and SO_RCVBUF are said by the SYN-ACK. SO_RCVBUF before usnet_connect, or of a listener, decides
 * how large a window the peer can be offered; later it counts up to that. IPPROTO_IP and IPPROTO_IPV6, of stream
 * sockets: IP_TOS (an int, or one byte) and IPV6_TCLASS, which are one and the same.
 * -ENOPROTOOPT: none of these. */
int usnet_getsockopt(struct usnet *context, int fd, int level, int name, void *value, uint32_t *length);
int usnet_setsockopt(struct usnet *context, int fd, int level, int name, const void *value, uint32_t length);

/* Bits as in epoll(7), with the same meaning; others are -EINVAL. */
enum usnet_epoll_bit {
    USN_EPOLLIN = 0x1,
    USN_EPOLLOUT = 0x4,
    USN_EPOLLERR = 0x8,
    USN_EPOLLHUP = 0x10,
    USN_EPOLLRDHUP = 0x2000,
    USN_EPOLLONESHOT = 0x40000000,
    USN_EPOLLET = -0x7fffffff - 1, /* the highest bit: 1 << 31 */
};

enum usnet_epoll_operation { USN_EPOLL_CTL_ADD = 1, USN_EPOLL_CTL_DEL = 2, USN_EPOLL_CTL_MOD = 3 };

union usnet_epoll_data {
    void *ptr;
    int fd;
    uint32_t u32;
    uint64_t u64;
};

struct usnet_epoll_event {
    uint32_t events; /* enum usnet_epoll_bit */
    union usnet_epoll_data data;
};

/* A socket stands in one epoll instance at most: -EEXIST otherwise. An instance cannot be watched itself: -EINVAL. */
int usnet_epoll_create(struct usnet *context);
int usnet_epoll_ctl(struct usnet *context, int epoll_fd, int operation, int fd, const struct usnet_epoll_event *event);

/* Take turns until something is ready, at most timeout_ms (-1: without end): how many events were written, 0 when time
 * ran out. -EINTR: a signal came while it slept; one that comes while it works is not noticed, so who waits for signals
 * gives a time. On a device that cannot be waited for it sleeps only while a timer of the stack will wake it; with
 * nothing to wait for at all it returns 0. */
int usnet_epoll_wait(struct usnet *context, int epoll_fd, struct usnet_epoll_event *events, int most, int timeout_ms);

/* cffi: end */

#ifdef __cplusplus
}
#endif

#endif
