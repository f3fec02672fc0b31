/* What an engine says of its connections and of its stack to whoever looks from outside.
 *
 * A question is UN_CONTROL_LOOK (control.h) with a file in memory. The engine writes one slice of at most
 * UN_LOOK_ENTRIES entries into the file, says how many there are and where the next slice begins, and keeps nothing: a
 * long table is many questions, and an engine that comes after a death answers the next one. Nobody pays while nobody
 * asks (P9), and a slice holds up a turn for a fraction of a millisecond. The file is written with write(2), which is
 * among the few calls that an engine may make, and is not mapped, so its owner may do with it what he likes.
 *
 *   UN_LOOK_CONNS  the ids of connections, up to UN_LOOK_ENTRIES, stand in the file; entries of those that are alive
 *                  are written behind them
 *   the others     entries are written from the position on that the question names
 *
 * An entry is a word for each field below; readers know them by name (usnet_look_field_name), and no engine answers a
 * supervisor that has other fields (formats.h). */
#ifndef UN_LOOK_H
#define UN_LOOK_H

#include <stdint.h>

#define UN_LOOK_ENTRIES 128u /* four system calls for each, on sockets */
#define UN_LOOK_END UINT64_MAX
#define UN_LOOK_UNKNOWN UINT64_MAX

enum un_look { UN_LOOK_CONNS, UN_LOOK_NEIGHBOURS, UN_LOOK_ROUTES, UN_LOOK_ADDRESSES, UN_LOOK_KINDS };

/* Bytes and microseconds. UN_LOOK_UNKNOWN: the transport cannot tell. Without TCP (tcp_state 0) only the queues are
 * filled in; the rest is 0. */
#define UN_LOOK_CONN(X)                                                                                                \
    X(id, "of the connection table")                                                                                   \
    X(unsent, "output that the transport has not taken yet")                                                           \
    X(unconsumed, "input that the worker has not consumed yet")                                                        \
    X(tcp_state, "enum un_tcp_state; 0: it is no TCP")                                                                 \
    X(agreed, "UN_TCB_WSCALE, UN_TCB_TIMESTAMP, UN_TCB_SACK, UN_TCB_ECN")                                              \
    X(phase, "enum un_look_phase")                                                                                     \
    X(congestion_first, "name of the congestion control …")                                                            \
    X(congestion_second, "… and its last eight bytes")                                                                 \
    X(srtt_us, "smoothed round trip; 0: no sample yet")                                                                \
    X(rttvar_us, "its variation")                                                                                      \
    X(min_rtt_us, "smallest round trip")                                                                               \
    X(rto_us, "retransmission timeout, with backoff")                                                                  \
    X(cwnd, "congestion window")                                                                                       \
    X(ssthresh, "slow start threshold")                                                                                \
    X(snd_mss, "payload of a segment")                                                                                 \
    X(path_mtu, "of the path")                                                                                         \
    X(snd_wnd, "window of the peer")                                                                                   \
    X(rcv_wnd, "our window")                                                                                           \
    X(snd_wscale, "the peer's window scale")                                                                           \
    X(rcv_wscale, "ours")                                                                                              \
    X(unread, "received in order, not read yet")                                                                       \
    X(out_of_order, "received out of order")                                                                           \
    X(unacknowledged, "taken to be sent, not acknowledged yet")                                                        \
    X(in_flight, "sent, and neither acknowledged nor given up")                                                        \
    X(sacked, "received by the peer out of order")                                                                     \
    X(lost, "given up, and not sent again yet")                                                                        \
    X(retransmitted, "segments sent again")                                                                            \
    X(backoff, "timeouts in a row")                                                                                    \
    X(probes, "keepalives or window probes in a row without an answer")

#define UN_LOOK_NEIGHBOUR(X)                                                                                           \
    X(ip_first, "IPv4 in its mapped form; all zeros: known by its MAC address alone")                                  \
    X(ip_second, "")                                                                                                   \
    X(mac, "its six bytes, as they lie in memory; UN_LOOK_UNKNOWN: not known")                                         \
    X(state, "enum un_neighbour_state")                                                                                \
    X(is_router, "")                                                                                                   \
    X(probes, "solicitations without an answer")                                                                       \
    X(queued, "packets that wait for its address")                                                                     \
    X(confirmed_ns, "when it was last known to hear us; 0: never")                                                     \
    X(used_ns, "when a packet was last for it")

#define UN_LOOK_ROUTE(X)                                                                                               \
    X(network_first, "")                                                                                               \
    X(network_second, "")                                                                                              \
    X(prefix, "0 to 32, 0 to 128")                                                                                     \
    X(gateway_first, "all zeros: the network is on the link")                                                          \
    X(gateway_second, "")                                                                                              \
    X(origin, "enum un_look_origin")                                                                                   \
    X(is_elsewhere, "packets leave by another interface of the kernel's, or nowhere")                                  \
    X(expires_ns, "0: never")

#define UN_LOOK_ADDRESS(X)                                                                                             \
    X(ip_first, "")                                                                                                    \
    X(ip_second, "")                                                                                                   \
    X(prefix, "0 to 32, 0 to 128")                                                                                     \
    X(state, "enum un_address_state")                                                                                  \
    X(probes, "still to be sent")                                                                                      \
    X(announcements, "still to be made")                                                                               \
    X(claimed_by, "MAC address of the station that claimed it last; UN_LOOK_UNKNOWN: none did")

#define UN_LOOK_WORD(name, text) uint64_t name;
struct un_look_conn { UN_LOOK_CONN(UN_LOOK_WORD) };
struct un_look_neighbour { UN_LOOK_NEIGHBOUR(UN_LOOK_WORD) };
struct un_look_route { UN_LOOK_ROUTE(UN_LOOK_WORD) };
struct un_look_address { UN_LOOK_ADDRESS(UN_LOOK_WORD) };
#undef UN_LOOK_WORD

/* Of congestion control, in the kernel's order. */
enum un_look_phase {
    UN_LOOK_OPEN,
    UN_LOOK_DISORDER, /* something came out of order, and nothing was given up */
    UN_LOOK_CWR,      /* slower by ECN */
    UN_LOOK_RECOVERY,
    UN_LOOK_LOSS, /* after a retransmission timeout */
};

/* Why there is a route. */
enum un_look_origin { UN_LOOK_LINK, UN_LOOK_CONFIGURED, UN_LOOK_ADVERTISED, UN_LOOK_KERNEL };

/* Of a table that a stack has. */
struct un_look_slice {
    uint64_t position; /* to begin at, then where the next slice begins, or UN_LOOK_END */
    uint32_t count;
    union {
        struct un_look_neighbour neighbours[UN_LOOK_ENTRIES];
        struct un_look_route routes[UN_LOOK_ENTRIES];
        struct un_look_address addresses[UN_LOOK_ENTRIES];
    };
};

struct un_engine;

/* Answer one question into the file. *position is where the next one goes on. Returns how many entries, or -errno:
 * -EINVAL, there is no such kind; -EOPNOTSUPP, this transport has no such table; -EBADF, no file came. */
int un_look(struct un_engine *engine, uint32_t what, int fd, uint64_t *position);

/* The transports' part: transport.h. */
void un_kernel_look(struct un_engine *engine, int handle, struct un_look_conn *entry);
void un_stack_look(struct un_engine *engine, int handle, struct un_look_conn *entry);
int un_stack_look_table(struct un_engine *engine, uint32_t what, struct un_look_slice *slice); /* 0, -errno */

#endif
