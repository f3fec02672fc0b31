/* TCP: the state machine of one connection, without time, I/O or randomness of its own.
 *
 * It has three verbs: process (a segment arrived), dispatch (something may leave), expire (a deadline passed). The
 * application has its own. `struct un_tcp` is their environment; the stack fills it in and sets the clock before each
 * call. Segments that leave, and all that the stack has to know, go through un_tcp_operations.
 *
 * Files:
 *   input.c     a segment arrives: the steps of RFC 9293 section 3.10.7; handshake.c, ack.c, receive.c, window.c
 *   output.c    what may leave; segment.c
 *   state.c     set_state, close, end; timers.c deadlines; tune.c limits that grow; path.c path MTU and ICMP
 *   rxqueue.c   payload in frames, received (rxblocks.c) and to be sent (txqueue.c)
 *   recovery.c  what an ACK or a timeout means for the records of what is in flight (sent.c); sack.c, rack.c, probe.c,
 *               undo.c, prr.c, flight.c, rtt.c (recovery.h)
 *   congestion.c with reno.c, cubic.c and hystart.c
 *   cookie.c    SYN cookies; check.c what must hold between two calls
 *   keep.c      what is undone when the process dies in the middle of a call
 * The fast paths stand in headers, so that the compiler makes one function of them and the stack's code: input_fast.h
 * and receive_fast.h the way in, output_fast.h the way out, application_fast.h what is read or written at once. */
#ifndef UN_TCP_H
#define UN_TCP_H

#include "base/drop.h"
#include "base/pool.h"
#include "tcp/seq.h"
#include "tcp/tcb.h"
#include "wire/seg.h"

#define UN_TCP_PIECES_MAX 63 /* of payload in one segment: with headers, what a device takes */

#define UN_SECOND_NS UINT64_C(1000000000)
#define UN_MS_NS UINT64_C(1000000)
#define UN_US_NS UINT64_C(1000)

/* What the application is told. Bits add up until they are fetched. */
enum un_tcp_event {
    UN_TCP_EVENT_ACCEPTED = 1 << 0, /* a listener has a new connection: this one */
    UN_TCP_EVENT_CONNECTED = 1 << 1,
    UN_TCP_EVENT_READABLE = 1 << 2, /* payload is there that was not before */
    UN_TCP_EVENT_EOF = 1 << 3, /* the peer's FIN is next after what can be read */
    UN_TCP_EVENT_WRITABLE = 1 << 4, /* room again, after a write that took less than it was given */
    /* Over; the block says why. The last event: after an orderly end it comes when everything was read, after any
     * other at once. A connection in TIME-WAIT is over for the application, and still answers a peer that missed the
     * last ACK. */
    UN_TCP_EVENT_CLOSED = 1 << 5,
};

/* Numbered as Linux numbers them: net.ipv4.tcp_ecn. */
enum un_ecn_policy {
    UN_ECN_NEVER,
    UN_ECN_ASK,    /* for it, and accept it */
    UN_ECN_ACCEPT, /* where the peer asks for it */
    UN_ECN_POLICIES,
};

/* Limits and defaults of a stack. stack/defaults.c says where each number comes from. */
struct un_tcp_config {
    uint32_t rcv_limit;           /* bytes of a connection's receive buffer */
    uint32_t snd_limit;
    uint32_t rcv_limit_max;       /* what the limits may grow to (tune.c); when it is not larger, they do not grow */
    uint32_t snd_limit_max;
    uint32_t rto_min_us;
    uint32_t rto_max_us;
    uint32_t rto_initial_us;      /* RFC 6298: 1 s */
    uint32_t delayed_ack_us;
    uint32_t msl_ms;              /* TIME-WAIT lasts twice this */
    uint32_t user_timeout_ms;     /* R2 of RFC 9293: >= 100 s */
    uint32_t fin_wait_2_ms;
    uint32_t persist_max_us;
    uint16_t keep_idle_s;
    uint16_t keep_interval_s;
    uint8_t keep_count;
    uint8_t syn_retries;          /* of SYN */
    uint8_t syn_ack_retries;
    uint8_t initial_window;       /* segments: RFC 6928 says 10 */
    uint8_t congestion;           /* default: index of un_congestions */
    uint8_t ecn; /* enum un_ecn_policy */
    bool timestamps;
    bool sack;
    bool window_scaling;
    bool path_mtu_probing;
    uint16_t ooo_frames_max;      /* out-of-order frames per connection */
    uint16_t rcv_frames_max;      /* in-order frames per connection before they are compacted */
    uint16_t challenge_acks_per_s; /* per connection: RFC 5961 section 7 */
    uint16_t tx_segments_max;     /* segments of one super-segment at most (device's limit in bytes applies too) */
};

/* Counters, one writer; the first group after RFC 4022. */
#define UN_TCP_COUNTERS(X)                                                                                             \
    X(active_opens, "connections opened by connect")                                                                   \
    X(passive_opens, "connections opened by peers")                                                                    \
    X(attempt_fails, "connections that failed before they were established")                                           \
    X(established_resets, "established connections that were reset")                                                   \
    X(in_segments, "segments received")                                                                                \
    X(out_segments, "segments sent, super-segments counted once")                                                      \
    X(retransmitted, "segments sent again")                                                                            \
    X(out_resets, "resets sent")                                                                                       \
    X(bytes_in, "payload bytes received in order")                                                                     \
    X(bytes_out, "payload bytes sent for the first time")                                                              \
    X(timeouts, "retransmission timeouts")                                                                             \
    X(fast_recoveries, "losses found without a timeout")                                                               \
    X(spurious, "recoveries that turned out to be needless and were undone")                                           \
    X(tail_probes, "tail loss probes sent")                                                                            \
    X(window_probes, "zero-window probes sent")                                                                        \
    X(keepalives, "keepalive probes sent")                                                                             \
    X(delayed_acks, "ACKs that waited for their timer")                                                                \
    X(duplicate_acks, "duplicate ACKs received")                                                                       \
    X(challenge_acks, "challenge ACKs sent (RFC 5961)")                                                                \
    X(out_of_order, "segments queued out of order")                                                                    \
    X(no_timestamp, "segments without the timestamp that was agreed on, taken all the same")                           \
    X(lent, "pieces sent from the memory of the application")                                                          \
    X(compacted, "payload copied together because frames were short")                                                  \
    X(syn_cookies_sent, "SYN cookies sent")                                                                            \
    X(syn_cookies_received, "connections made from a SYN cookie")                                                      \
    X(ecn_marks, "congestion experienced marks received")                                                              \
    X(path_mtu_lowered, "times a path MTU went down")                                                                  \
    X(path_mtu_probes, "path MTU probes sent")                                                                         \
    X(path_mtu_raised, "path MTU probes that arrived")

struct un_tcp_counters {
#define UN_FIELD(name, text) uint64_t name;
    UN_TCP_COUNTERS(UN_FIELD)
#undef UN_FIELD
};

struct un_sent_pool {
    uint32_t count;
    uint32_t free_head;
    uint32_t free_count;
};

/* A change that can be undone: keep.h. In the arena, and a view of it. */
struct un_kept_frame {
    uint32_t index;
    struct un_frame record;
};
struct un_kept_sent {
    uint32_t index;
    struct un_sent record;
};
struct un_keep_memory {
    uint32_t from; /* bytes of the block that are kept */
    uint32_t to;
    uint32_t frames; /* that are kept */
    uint32_t sents;
    struct un_tcb tcb;
};
struct un_keep {
    struct un_keep_memory *own; /* NULL: nothing is ever undone */
    struct un_kept_frame *frames; /* there is room for all */
    struct un_kept_sent *sents;
    uint32_t *frame_at; /* where each is kept, if there it is kept */
    uint32_t *sent_at;
};

struct un_tcp;

/* What tcp/ calls. A segment's pieces are its payload. When emit returns less than 0, nothing was sent. */
struct un_tcp_operations {
    /* Send the segment with this connection's addresses, as soon as the change in which this is called is over. Not
     * only dispatch calls it: resets and some ACKs cannot wait. segment_bytes > 0: the device cuts the payload into
     * segments of this size; only where tx_segment_bytes allows so much payload. Returns 0; or -EAGAIN: not now, and
     * the stack dispatches this connection again later. One segment in a change: before the next one, `sent` is
     * called. */
    int (*emit)(struct un_tcp *tcp, struct un_tcb *tcb, struct un_seg *seg, const struct un_piece *pieces, int count,
                uint32_t segment_bytes);
    /* The block says of the segment that was emitted all there is to say: one change is over, and the next one begins.
     * NULL: there are no changes to be undone. */
    void (*sent)(struct un_tcp *tcp, struct un_tcb *tcb);
    void (*event)(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t events); /* enum un_tcp_event */
    void (*arm)(struct un_tcp *tcp, struct un_tcb *tcb, uint64_t deadline_ns); /* un_tcp_expire then, at the latest */
    void (*output)(struct un_tcp *tcp, struct un_tcb *tcb); /* dispatch it before the turn ends */
    void (*ended)(struct un_tcp *tcp, struct un_tcb *tcb);  /* CLOSED: take it out of the tables; the slot is free */
};

/* The environment of all calls: a view that the stack makes, with pointers into its arena. */
struct un_tcp {
    uint64_t now_ns;
    uint32_t now_us; /* the same clock, microseconds modulo 2^32 */
    uint32_t now_ms; /* and milliseconds */
    uint32_t now_s;
    uint64_t millisecond_ns; /* when this millisecond began */
    struct un_pool pool;
    struct un_tcb *tcbs;
    struct un_sent *sents;
    struct un_sent_pool *sent_pool;
    struct un_keep change;
    const struct un_tcp_config *config;
    struct un_tcp_counters *counters;
    uint64_t *drops; /* by enum un_drop */
    const struct un_tcp_operations *operations;
    uint32_t tx_segment_bytes; /* payload of one super-segment that the device cuts; 0: it does not */
    bool is_slow; /* for tests: every packet takes the slow path, with the same result */
};

/* The slower clocks are computed only when they move: most turns fall into the same millisecond as the one before. */
static inline void un_tcp_set_now(struct un_tcp *tcp, uint64_t now_ns)
{
    uint64_t since_ns = now_ns - tcp->millisecond_ns;
    tcp->now_ns = now_ns;
    if (__builtin_expect(since_ns >= UN_MS_NS, 0)) {
        since_ns = now_ns % UN_MS_NS;
        tcp->millisecond_ns = now_ns - since_ns;
        tcp->now_ms = (uint32_t)(now_ns / UN_MS_NS);
        tcp->now_s = (uint32_t)(now_ns / UN_SECOND_NS);
    }
    tcp->now_us = tcp->now_ms * 1000 + (uint32_t)since_ns / 1000;
}

/* ---- state.c: a connection begins and ends ---- */

/* What a connection starts with; the stack has filled in addresses, ports, hash, local, generation, user, listener. */
void un_tcp_init(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t iss, uint32_t ts_offset, uint16_t path_mtu,
                 uint16_t link_mtu);

/* For the application. shutdown ends its output in order (RFC 9293 section 3.10.4). close also wants no more events and
 * no input; with unread input it aborts (RFC 2525 section 2.17). abort ends the connection at once, with a reset. */
void un_tcp_shutdown(struct un_tcp *tcp, struct un_tcb *tcb);
/* No more input is wanted. After shutdown, too, the connection behaves as after close, but the block is kept, and what
 * came before can be read. */
void un_tcp_shutdown_input(struct un_tcb *tcb);
void un_tcp_close(struct un_tcp *tcp, struct un_tcb *tcb);
void un_tcp_abort(struct un_tcp *tcp, struct un_tcb *tcb, enum un_tcp_reason reason);

void un_tcp_set_state(struct un_tcp *tcp, struct un_tcb *tcb, enum un_tcp_state state);
/* The connection is over, for this reason. It gives back all that nobody can ask for any more, and becomes DEAD while
 * the application holds it, else CLOSED. */
void un_tcp_end(struct un_tcp *tcp, struct un_tcb *tcb, enum un_tcp_reason reason);
/* The application lets go of a DEAD connection. */
void un_tcp_forget(struct un_tcp *tcp, struct un_tcb *tcb);
enum un_tcp_reason un_tcp_reason(const struct un_tcb *tcb); /* of a DEAD one */

/* ---- handshake.c ---- */

/* Active open: SYN-SENT, SYN leaves with the next dispatch. */
void un_tcp_connect(struct un_tcp *tcp, struct un_tcb *tcb);

/* Passive open by a SYN: SYN-RECEIVED, SYN-ACK leaves with the next dispatch. */
void un_tcp_accept_syn(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *syn);

/* Passive open by the ACK that returns a cookie: as if SYN and SYN-ACK had been exchanged with `syn`, whose options the
 * cookie remembered. The ACK itself is then processed with un_tcp_process. */
void un_tcp_accept_cookie(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *syn);

/* ---- input.c ---- */

/* A segment for this connection. `frame`: chain that holds the payload (offset and length of each frame are set to the
 * payload alone), UN_NONE when seg->length is 0. The chain's references pass to the callee. UN_DROP_NONE, or why the
 * segment (or all of its payload) was not taken; it is counted already. */
enum un_drop un_tcp_process(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg, uint32_t frame);

/* May this SYN, which is for a connection in TIME-WAIT, begin a new one with the same ends (RFC 9293 section 3.6.1, RFC
 * 6191)? Then the caller ends the old one (un_tcp_end, UN_TCP_REASON_CLOSED) and treats the SYN as one for a listener;
 * *iss, which it would have used, is moved beyond what the old connection sent. Otherwise: un_tcp_process. */
bool un_tcp_is_reusable(const struct un_tcb *tcb, const struct un_seg *syn, uint32_t *iss);

/* The answer to a segment of no connection (RFC 9293 section 3.10.7.1) into *reset; false: none is to be given. */
bool un_tcp_refuse(const struct un_seg *seg, struct un_seg *reset);

/* ---- path.c ---- */

/* An ICMP error about a segment of this connection, whose sequence number was quoted. why: hard errors end a connection
 * attempt for that reason; soft ones (NONE) are remembered until it is given up. Nothing ends a connection (RFC 5927
 * section 5). mtu: the packet was too big for this next hop; 0: it was not. May end the connection. */
void un_tcp_icmp(struct un_tcp *tcp, struct un_tcb *tcb, enum un_tcp_reason why, uint32_t mtu, uint32_t seq);

/* A packet has arrived that was larger than the path MTU was known to be. */
void un_tcp_path_probed(struct un_tcp *tcp, struct un_tcb *tcb);

/* ---- segment.c ---- */

/* The sequence number of a reset that the peer will hear, as far as we know it. */
uint32_t un_tcp_reset_seq(const struct un_tcb *tcb);

/* ---- output.c ---- */

/* Send what may be sent now, and an ACK if one is due. -EAGAIN: emit said so. */
int un_tcp_dispatch(struct un_tcp *tcp, struct un_tcb *tcb);

/* write_room: bytes that the application may queue. write queues them: bytes in the caller's own memory are copied; a
 * piece in a frame passes to the queue as a whole (un_tx_append_frame), as soon as there is any room. Returns how many
 * bytes were taken, or -EPIPE after shutdown, -ENOTCONN before the connection is established, -ECONNRESET and the like
 * when it is over. */
uint32_t un_tcp_write_room(const struct un_tcp *tcp, const struct un_tcb *tcb);
int64_t un_tcp_write(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_piece *pieces, int count);

/* As un_tcp_write, with pieces that lie in the memory of a lender (base/pool.h). Pieces of UN_LEND_LEAST bytes or more
 * are sent from where they lie, as long as records for them are free; all others are copied. `frame` of each piece that
 * was taken then says which: UN_NONE means copied. Bytes that are lent must not change before they are given back, or
 * the peer receives the changed ones. */
int64_t un_tcp_lend(struct un_tcp *tcp, struct un_tcb *tcb, uint16_t lender, struct un_piece *pieces, int count);

/* ---- tune.c ---- */
uint32_t un_tcp_send_limit(const struct un_tcp *tcp, const struct un_tcb *tcb); /* bytes that may be queued now */

/* ---- receive.c ---- */

/* peek shows what can be read. consume lets go of so many bytes, which may open the window. Nothing to read and
 * un_tcp_is_eof: no more will come. */
int un_tcp_peek(const struct un_tcp *tcp, const struct un_tcb *tcb, struct un_piece *pieces, int most);
void un_tcp_consume(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t bytes);
/* peek and consume in one, by copy; returns how many bytes */
uint32_t un_tcp_read(struct un_tcp *tcp, struct un_tcb *tcb, void *bytes, uint32_t most);
bool un_tcp_is_eof(const struct un_tcb *tcb);

/* ---- window.c ---- */

/* How many bytes may wait to be read. Before our SYN has left, this also decides the window scale (RFC 7323). */
void un_tcp_set_receive_limit(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t bytes);

/* ---- timers.c ---- */
void un_tcp_expire(struct un_tcp *tcp, struct un_tcb *tcb); /* what is due at now_ns */
static inline void un_tcp_arm(struct un_tcp *tcp, struct un_tcb *tcb, enum un_timer timer, uint64_t deadline_ns)
{
    tcb->timers[timer] = deadline_ns;
    if (tcb->wheel_at == UN_NONE || deadline_ns < tcb->wheel_ns)
        tcp->operations->arm(tcp, tcb, deadline_ns);
}
static inline void un_tcp_disarm(struct un_tcb *tcb, enum un_timer timer)
{
    tcb->timers[timer] = 0; /* the connection stays in the wheel, which finds nothing due */
}
uint64_t un_tcp_deadline_ns(const struct un_tcb *tcb); /* the earliest, 0: none */

/* The next timeout: doubled for each one that has passed, but not beyond the moment when the connection is given up. */
uint64_t un_tcp_timeout_ns(const struct un_tcp *tcp, const struct un_tcb *tcb);
/* How long the peer may keep silent from now on, also while the connection is being opened; 0: as configured. */
void un_tcp_set_user_timeout(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t timeout_ms);

/* Keepalive settings changed, or something was heard. */
void un_tcp_rearm_keepalive(struct un_tcp *tcp, struct un_tcb *tcb);

/* ---- recovery.c: loss recovery, with sack.c, rack.c, probe.c, undo.c and prr.c. ----
 *
 * What its files share stands in recovery.h and the headers of their names. They arm and disarm UN_TIMER_RETRANSMIT
 * (unless UN_TCB_PERSIST is set) and UN_TIMER_REORDER, and keep everything of a tcb from srtt_us to backoff, dup_acks,
 * `retransmitted`, and what stands under "Recovery". They count timeouts, fast_recoveries, spurious, tail_probes,
 * duplicate_acks and retransmitted. */

/* What a new block starts with. It sends no more than a SYN. */
void un_recovery_init(struct un_tcp *tcp, struct un_tcb *tcb);
/* When the handshake is over: initial window from the agreed MSS, congestion control begins. */
void un_recovery_established(struct un_tcp *tcp, struct un_tcb *tcb);

/* An acceptable ACK (snd_una <= seg->ack <= snd_nxt), before snd_una, the send queue and snd_wnd are updated: takes
 * samples, marks and frees records, detects loss, moves the congestion window, restarts or stops the timers, and asks
 * for output when something is to be sent again. is_window_update: the segment changed the window (so it is no
 * duplicate ACK, RFC 5681 section 2). */
void un_recovery_ack(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg, bool is_window_update);

/* An ACK that a later one has overtaken (seg->ack < snd_una): its SACK and D-SACK blocks count, since the later one may
 * have had no room for them. */
void un_recovery_late_ack(struct un_tcp *tcp, struct un_tcb *tcb, const struct un_seg *seg);

/* UN_TIMER_RETRANSMIT, not persisting, data in flight */
void un_recovery_timeout(struct un_tcp *tcp, struct un_tcb *tcb);
void un_recovery_reorder_timeout(struct un_tcp *tcp, struct un_tcb *tcb); /* UN_TIMER_REORDER: RACK or TLP */
/* ECN-Echo came (RFC 3168): once per round trip */
void un_recovery_congestion(struct un_tcp *tcp, struct un_tcb *tcb);
/* before the ACK counts */
static inline bool un_recovery_hears_congestion(const struct un_tcb *tcb, const struct un_seg *seg)
{
    return (seg->flags & UN_TCP_ECE) && (tcb->flags & UN_TCB_ECN);
}
void un_recovery_resegment(struct un_tcp *tcp, struct un_tcb *tcb);    /* snd_mss went down: what is larger is lost */
void un_recovery_window_opened(struct un_tcp *tcp, struct un_tcb *tcb); /* it had had no room for what was resent */

/* ---- flight.c: what leaves ---- */

/* Payload and flags that were sent for the first time, from snd_nxt on (before snd_nxt moves). Call
 * un_recovery_can_record before anything is sent. length: with SYN and FIN. Starts the retransmission timer when it
 * does not run. */
void un_recovery_sent(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t length, uint32_t frame, uint32_t offset,
                      uint16_t flags, uint32_t tsval);

/* The next record that is to be sent again and may be now, or UN_NONE. It is at most `most` (> 0) bytes of payload
 * long: a longer one is split. Ask again after un_recovery_resent; ask before new data is sent. */
uint32_t un_recovery_next(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t most);
void un_recovery_resent(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t sent, uint32_t tsval);

/* Bytes of new data that congestion control lets go now: cwnd, PRR, limited transmit, a probe that is due. */
uint32_t un_recovery_allowance(const struct un_tcp *tcp, const struct un_tcb *tcb);

/* ---- sent.c: records ---- */

/* Is there one for a packet that is to be sent for the first time? */
bool un_recovery_can_record(const struct un_tcp *tcp, const struct un_tcb *tcb);
void un_recovery_end(struct un_tcp *tcp, struct un_tcb *tcb); /* give all records back */
/* The free list of records, after adoption (used[index]: some list has it) or at the beginning (NULL: none has). */
void un_recovery_rebuild(struct un_tcp *tcp, const bool *used);
/* What is wrong with the records of a connection or the sums over them, or NULL. */
const char *un_recovery_check(const struct un_tcp *tcp, const struct un_tcb *tcb);

/* ---- check.c ---- */

/* What is wrong with a connection between two calls, or NULL: un_recovery_check, and all other invariants of the block.
 * For tests. */
const char *un_tcp_check(const struct un_tcp *tcp, const struct un_tcb *tcb);

/* ---- rtt.c: round trips and the timeout ---- */

void un_rtt_sample(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t rtt_us);
uint64_t un_recovery_rto_ns(const struct un_tcp *tcp, const struct un_tcb *tcb); /* with backoff */
void un_recovery_spurious_syn(struct un_tcp *tcp, struct un_tcb *tcb); /* the SYN was resent: RFC 6298 (5.7) */

/* ---- congestion.c ---- */

/* Congestion control: RFC 5681, RFC 9438. All in bytes; cwnd and ssthresh are in the tcb, the rest in cc_state. */
struct un_congestion {
    const char *name;
    void (*init)(const struct un_tcp *tcp, struct un_tcb *tcb);
    /* not in recovery */
    void (*acked)(const struct un_tcp *tcp, struct un_tcb *tcb, uint32_t bytes, bool cwnd_limited);
    uint32_t (*reduce)(const struct un_tcp *tcp, struct un_tcb *tcb); /* loss or ECN: returns the new ssthresh */
    void (*timeout)(const struct un_tcp *tcp, struct un_tcb *tcb);
    void (*undo)(const struct un_tcp *tcp, struct un_tcb *tcb);
    void (*idle)(const struct un_tcp *tcp, struct un_tcb *tcb); /* before sending again after more than an RTO */
};
extern const struct un_congestion *const un_congestions[];
enum { UN_CONGESTION_CUBIC = 0, UN_CONGESTION_RENO = 1, UN_CONGESTIONS = 2 };

/* ---- rxqueue.c. A new block has rcv.head and rcv_ooo.head UN_NONE, all else zero. ---- */

/* Payload [seq, seq + bytes of the chain), which may begin before rcv_nxt and end beyond rcv_edge: what is new and
 * within the window is kept, references to the rest are dropped. In order: appended, rcv_nxt moves, and what was
 * waiting behind it follows. Sets rcv_bytes, rcv_ooo_bytes, the recent blocks and the D-SACK block (RFC 2883). Returns
 * the bytes by which rcv_nxt moved; *drop says why something was not kept: UN_DROP_NONE; tcp_duplicate;
 * tcp_out_of_order, tcp_window when any of it was new. It is the caller who counts that; counted here: compacted,
 * out_of_order. */
uint32_t un_rx_insert(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t seq, uint32_t frame, enum un_drop *drop);
/* Pieces of what is in order, at most `most`. Their bytes stay where they are until they are consumed. */
int un_rx_peek(const struct un_tcp *tcp, const struct un_tcb *tcb, struct un_piece *pieces, int most);
void un_rx_consume(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t bytes); /* at most rcv_bytes */
/* copy and consume: how many */
uint32_t un_rx_read(struct un_tcp *tcp, struct un_tcb *tcb, void *bytes, uint32_t most);
void un_rx_drop_all(struct un_tcp *tcp, struct un_tcb *tcb);
void un_rx_drop_out_of_order(struct un_tcp *tcp, struct un_tcb *tcb); /* frames are short: in-order data matters more */

/* ---- rxblocks.c ---- */

/* D-SACK first, then newest; at most `most` in all. The D-SACK block is forgotten: it is reported once. */
void un_rx_sack_blocks(const struct un_tcp *tcp, struct un_tcb *tcb, struct un_seg *seg, uint32_t most);

/* ---- txqueue.c. A new block has snd.head and unsent_frame UN_NONE, snd_head_offset and snd_bytes 0. ----
 *
 * A cursor is a frame of the queue and an offset into its bytes (un_frame's offset not included); it is valid until its
 * byte is acknowledged: records move on before un_tx_acked. A cursor that has come to the end of a frame stands at the
 * start of the next one; at the end of the queue its frame is UN_NONE. Appending makes unsent_frame a cursor to the new
 * bytes when it was UN_NONE, be they in the room of the tail frame or in a frame of their own. */

/* Copied, as many as snd_limit and the pool let in: bytes taken. */
uint32_t un_tx_append(struct un_tcp *tcp, struct un_tcb *tcb, const void *bytes, uint32_t length);
/* Bytes that lie in a frame already: nobody may change them until they are acknowledged. A reference of the caller's
 * passes to the queue, and the frame's record with it, which must not stand in any other list. */
void un_tx_append_frame(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t frame, uint32_t offset, uint32_t length);
/* Lent: all of the piece, or copied, as many bytes as un_tx_append takes; piece->frame says which. */
#define UN_LEND_LEAST 1024u /* bytes: fewer are copied in less time than their record takes */
uint32_t un_tx_append_lent(struct un_tcp *tcp, struct un_tcb *tcb, uint16_t lender, struct un_piece *piece);
/* Pieces of `length` bytes from (frame, offset) on; returns how many, and in *got the bytes they hold (less when `most`
 * pieces do not suffice, or the queue ends). */
int un_tx_pieces(const struct un_tcp *tcp, uint32_t frame, uint32_t offset, uint32_t length, struct un_piece *pieces,
                 int most, uint32_t *got);
/* Move a cursor by bytes that are in the queue. */
void un_tx_advance(const struct un_tcp *tcp, uint32_t *frame, uint32_t *offset, uint32_t length);
/* bytes queued that were never sent; needs snd_una, snd_nxt, snd_bytes in step */
uint32_t un_tx_unsent(const struct un_tcb *tcb);
void un_tx_acked(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t bytes); /* payload bytes that were sent */
void un_tx_drop_all(struct un_tcp *tcp, struct un_tcb *tcb);

#endif
