/* The transmission control block: all that is known of one connection, in at most 496 bytes, linked by index.
 *
 * Names are those of RFC 9293 (snd_una, rcv_nxt …). An idle connection owns nothing but this block and its entry in the
 * look-up table. Records of packets in flight (struct un_sent) and frames come from pools while they are needed. The
 * block is the truth; wheel, lists, look-up table and free lists are caches, which a scan of the blocks rebuilds. */
#ifndef UN_TCB_H
#define UN_TCB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/assert.h"
#include "base/pool.h"
#include "wire/ip.h"
#include "wire/seg.h"

/* One bit each, so that sets of states have names. */
enum un_tcp_state {
    UN_TCP_CLOSED = 1 << 0, /* of a slot: free */
    UN_TCP_SYN_SENT = 1 << 1,
    UN_TCP_SYN_RECEIVED = 1 << 2,
    UN_TCP_ESTABLISHED = 1 << 3,
    UN_TCP_FIN_WAIT_1 = 1 << 4,
    UN_TCP_FIN_WAIT_2 = 1 << 5,
    UN_TCP_CLOSE_WAIT = 1 << 6,
    UN_TCP_CLOSING = 1 << 7,
    UN_TCP_LAST_ACK = 1 << 8,
    UN_TCP_TIME_WAIT = 1 << 9,
    UN_TCP_DEAD = 1 << 10, /* over, but held by the application: remembers why, answers as CLOSED does */
};

#define UN_TCP_SYNCHRONIZED                                                                                            \
    (UN_TCP_ESTABLISHED | UN_TCP_FIN_WAIT_1 | UN_TCP_FIN_WAIT_2 | UN_TCP_CLOSE_WAIT | UN_TCP_CLOSING |                 \
     UN_TCP_LAST_ACK | UN_TCP_TIME_WAIT)
#define UN_TCP_CAN_RECEIVE (UN_TCP_ESTABLISHED | UN_TCP_FIN_WAIT_1 | UN_TCP_FIN_WAIT_2)
#define UN_TCP_CAN_SEND (UN_TCP_ESTABLISHED | UN_TCP_CLOSE_WAIT)      /* the application may still write */
#define UN_TCP_SENDING                                                                                                 \
    (UN_TCP_CAN_SEND | UN_TCP_FIN_WAIT_1 | UN_TCP_CLOSING | UN_TCP_LAST_ACK) /* data or FIN may be unacknowledged */

/* Why a connection ended. */
enum un_tcp_reason {
    UN_TCP_REASON_NONE,
    UN_TCP_REASON_CLOSED,      /* in order, by both sides */
    UN_TCP_REASON_RESET,       /* by the peer; or for input after the application had shut down both ways */
    UN_TCP_REASON_REFUSED,     /* reset, or port unreachable, while connecting */
    UN_TCP_REASON_ABORTED,     /* by us */
    UN_TCP_REASON_TIMEOUT,     /* the peer stopped acknowledging */
    UN_TCP_REASON_KEEPALIVE,   /* the peer did not answer keepalive probes */
    UN_TCP_REASON_UNREACHABLE, /* no way to the peer while connecting */
    UN_TCP_REASON_COUNT,
};

enum un_tcb_flag {
    UN_TCB_WSCALE = 1 << 0,       /* four options, agreed on in the handshake */
    UN_TCB_TIMESTAMP = 1 << 1,
    UN_TCB_SACK = 1 << 2,
    UN_TCB_ECN = 1 << 3,
    UN_TCB_ACTIVE = 1 << 4,       /* we called connect */
    UN_TCB_ACCEPTED = 1 << 5,     /* the application knows of it */
    UN_TCB_DETACHED = 1 << 6,     /* the application has closed it for good: no events, input is refused */
    UN_TCB_NODELAY = 1 << 7,
    UN_TCB_KEEPALIVE = 1 << 8,
    UN_TCB_CORK = 1 << 9,
    UN_TCB_ACK_NOW = 1 << 10,     /* an ACK has to leave with the next dispatch */
    UN_TCB_ACK_LATER = 1 << 11,   /* delayed: UN_TIMER_ACK runs */
    UN_TCB_FIN_QUEUED = 1 << 12,  /* send FIN behind what is queued */
    UN_TCB_FIN_SENT = 1 << 13,    /* it took a sequence number: snd_nxt is past it */
    UN_TCB_FIN_RECEIVED = 1 << 14, /* in order; rcv_nxt is past it */
    UN_TCB_FIN_SEEN = 1 << 15,    /* fin_seq is valid (it may still be out of order) */
    UN_TCB_ECE = 1 << 16,         /* echo congestion until CWR comes */
    UN_TCB_CWR = 1 << 17,         /* say so with the next new data */
    UN_TCB_RECOVERY = 1 << 18,    /* fast recovery until snd_una reaches recover */
    UN_TCB_LOSS = 1 << 19,        /* recovery after a retransmission timeout */
    UN_TCB_PROBE_OUT = 1 << 20,   /* a tail loss probe is in flight until snd_una reaches recover */
    UN_TCB_PROBE_DUE = 1 << 21,   /* dispatch is to send one, whatever cwnd and Nagle say */
    UN_TCB_PERSIST = 1 << 22,     /* UN_TIMER_RETRANSMIT is the persist timer */
    UN_TCB_WINDOW_PROBE = 1 << 23, /* dispatch is to send one */
    UN_TCB_KEEPALIVE_DUE = 1 << 24, /* dispatch is to send one */
    UN_TCB_NO_NEIGHBOUR = 1 << 25, /* waits for the next hop's address */
    UN_TCB_RACK_REORDER = 1 << 26, /* reordering was seen on this path */
    UN_TCB_FRTO = 1 << 27,        /* the timeout may have been spurious: RFC 5682 */
    UN_TCB_NO_INPUT = 1 << 28,    /* no more input is wanted; it is refused once output is shut down, too */
    UN_TCB_WANT_WRITE = 1 << 29,  /* a write was refused: tell the application when there is room */
    UN_TCB_READABLE_TOLD = 1 << 30,
    UN_TCB_QUICKACK = 1u << 31,   /* the application wants all input acknowledged at once */
};

/* Deadlines of a connection; the wheel holds the earliest. 0: not running. */
enum un_timer {
    UN_TIMER_RETRANSMIT, /* RTO, or persist */
    UN_TIMER_REORDER,    /* RACK's reordering window, or the tail loss probe */
    UN_TIMER_ACK,        /* delayed ACK; or when to look again at a window that is shut for want of frames */
    UN_TIMER_LIFE,       /* keepalive; orphaned FIN-WAIT-2, TIME-WAIT; user timeout while connecting */
    UN_TIMERS,
};

enum un_sent_flag {
    UN_SENT_SACKED = 1 << 0,    /* exactly one of these three: */
    UN_SENT_LOST = 1 << 1,      /* given up, and not sent again yet */
    UN_SENT_IN_FLIGHT = 1 << 2, /* the last transmission was neither SACKed nor given up */
    UN_SENT_RESENT = 1 << 3,    /* at least once; or its SACK was withdrawn */
    UN_SENT_SYN = 1 << 4,
    UN_SENT_FIN = 1 << 5,
    UN_SENT_PATH_PROBE = 1 << 6, /* sent in a packet larger than path_mtu, and not resent since */
};

/* What one packet carried, or a run of SACKed packets, until it is acknowledged. Each connection has a list of them, by
 * sequence number. */
struct un_sent {
    uint32_t next;
    uint32_t seq;
    uint32_t length;  /* sequence space: payload, SYN, FIN */
    uint32_t frame;   /* of the first payload byte, in the send queue */
    uint32_t offset;  /* within that frame's bytes */
    uint32_t sent_us; /* clock of the last transmission, microseconds modulo 2^32 */
    uint16_t flags;   /* enum un_sent_flag */
    uint16_t times;   /* transmitted */
    uint32_t tsval;   /* timestamp it carried last */
};
UN_STATIC_ASSERT(sizeof(struct un_sent) == 32, "two to a cache line");

/* Payload that was received or waits to be sent: frames linked by `next`. When head is UN_NONE, the queue is empty and
 * tail means nothing. */
struct un_queue {
    uint32_t head;
    uint32_t tail;
};

/* Fields stand in the order of how often they are read: first what the fast paths need, in as few cache lines as
 * possible; last what is for payload out of order, for losses, and what is set once. What the fast paths change lies
 * between `rcv_nxt` and `event_next`, ordered so that each of them changes few parts: keep.h keeps copies of them. */
struct un_tcb {
    /* Who: read by look-up. */
    struct un_ip peer;
    uint16_t peer_port;
    uint16_t local_port;
    uint16_t local;  /* index into the stack's addresses */
    uint16_t state;  /* enum un_tcp_state */
    uint32_t hash;
    uint32_t generation; /* of the slot; never 0 */

    /* Receive. */
    uint32_t rcv_nxt;
    uint32_t rcv_edge;      /* right edge of the window as last advertised; never moves left */
    uint32_t rcv_acked;     /* Last.ACK.sent (RFC 7323) */
    uint32_t rcv_bytes;     /* waiting in order */
    uint32_t rcv_frames;
    uint32_t rcv_limit;     /* bytes that may wait */
    struct un_queue rcv;    /* in order; the first byte not read is the head's */
    uint64_t bytes_in;
    uint32_t ts_recent;
    uint32_t ts_recent_s;   /* clock in seconds when it was set (24-day rule) */
    uint16_t rcv_mss;       /* largest segment seen: what "every second full segment" means */
    uint16_t quickacks;     /* full segments that are still acknowledged at once: the peer is in slow start */
    uint32_t rcv_round;     /* the receive limit grows no more before this has come: tune.c */

    /* Both. */
    uint32_t flags;  /* enum un_tcb_flag */
    uint32_t events; /* enum un_event bits not yet fetched */

    /* Send. */
    uint64_t user;   /* the application's: returned with every event */
    uint64_t bytes_out;
    uint32_t snd_una;
    uint32_t snd_nxt;
    uint32_t snd_wnd;       /* scaled */
    uint32_t snd_wl1;
    uint32_t snd_wl2;
    uint32_t snd_wnd_max;
    uint32_t snd_small_end; /* end of the last small segment sent: another waits until this is acknowledged */
    uint32_t snd_bytes;     /* queued: unacknowledged and unsent payload */
    struct un_queue snd;    /* frames from snd_una's byte on */
    uint32_t snd_head_offset; /* acknowledged bytes of the head frame that are still in it */
    uint32_t unsent_frame;  /* of the byte snd_nxt, UN_NONE when all is sent */
    uint32_t unsent_offset; /* within its bytes; of UN_NONE: bytes that were queued at the end, and never sent */
    uint32_t sent_head;     /* records, by seq */
    uint32_t sent_tail;
    uint32_t in_flight;     /* bytes */

    /* Timers. */
    uint64_t timers[UN_TIMERS]; /* ns */
    uint64_t unacked_ns;  /* what the user timeout counts from: the oldest unacknowledged data was first sent, or the
                           * silence began that keepalive probes; 0: neither */

    /* Round trip (RFC 6298), in microseconds, and congestion. */
    uint32_t srtt_us; /* 0: no sample yet */
    uint32_t rttvar_us;
    uint32_t rto_us;
    uint32_t min_rtt_us;
    uint32_t min_rtt_at_s;
    uint32_t sampled_us;  /* clock of the last sample; the next one is of what was sent since */
    uint32_t sent_at_us;  /* clock of the last transmission of data (restart after idle) */
    uint32_t cwnd;
    uint32_t ssthresh;
    uint32_t cc_state[6]; /* of the congestion control */
    uint32_t lost_hint;   /* no record before this one is LOST; UN_NONE: look from the head */
    uint32_t high_sacked; /* highest seq end SACKed */
    uint32_t rack_us;     /* RACK.xmit_ts */
    uint32_t rack_end;    /* RACK.end_seq */
    uint32_t rack_rtt_us;
    uint8_t backoff;      /* timeouts in a row */
    uint8_t probes;       /* keepalives or window probes in a row, unanswered */
    uint8_t dup_acks;
    uint8_t recovery;     /* enum un_recovery_bit, of recovery.h */
    uint32_t recover;     /* end of the recovery, the reduction by ECN or the tail loss probe that goes on */

    /* Links: caches (and wheel_next at the end). */
    uint32_t event_next;
    uint32_t output_next;
    uint32_t wheel_at;   /* slot of the wheel, or UN_NONE */
    uint32_t next_hop;   /* cache, the stack's: stamp of the neighbour that packets go to; 0: not known */
    uint64_t wheel_ns;   /* the deadline it stands at */
    uint8_t listed;      /* enum un_listed, the stack's */

    /* What it is made with, and what changes seldom. */
    uint8_t tos;
    uint16_t listener;   /* that made it, or UINT16_MAX */
    uint32_t accept_previous; /* link, a cache: in the accept queue of the listener */
    struct un_queue rcv_ooo; /* out of order: by seq, no overlaps, all of it beyond rcv_nxt */
    uint8_t sack_count;
    uint8_t rcv_wscale;
    uint8_t snd_wscale;
    uint8_t has_dsack;
    uint32_t ts_offset;     /* added to the clock in milliseconds */
    uint32_t snd_limit;     /* bytes that may be queued */
    uint16_t snd_mss;       /* payload of a segment, without any option: min(peer's MSS, path MTU - headers) */
    uint16_t path_mtu;
    uint16_t path_mtu_max;  /* the link's, or what the application wants: what is searched for, and announced */
    uint8_t congestion;     /* index of the congestion control */
    uint8_t reason;         /* enum un_tcp_reason, of a DEAD one */

    /* Recovery (RFC 6675, 8985, 6937bis). */
    uint32_t sacked_bytes;
    uint32_t lost_bytes;
    uint8_t rack_mult;
    uint8_t rack_persist;
    uint32_t prr_delivered;
    uint32_t prr_out;
    uint32_t prr_flight;     /* RecoverFS */
    uint32_t prior_cwnd;     /* to undo */
    uint32_t prior_ssthresh;
    /* our timestamp in the first retransmission: an ACK that echoes an older one shows that it was needless */
    uint32_t undo_tsval;
    uint32_t undo_bytes;     /* sent again in this recovery, and not reported as needless by D-SACK */

    /* Out of order. */
    uint32_t rcv_ooo_bytes;
    uint32_t rcv_ooo_frames;
    struct un_sack_block sack_recent[UN_SACK_BLOCKS_MAX]; /* runs of rcv_ooo, newest first; sack_count of them */
    struct un_sack_block dsack;

    /* Handshake and end, settings. */
    uint32_t irs;
    uint32_t iss;
    uint32_t fin_seq;
    uint16_t peer_mss;
    uint16_t keep_idle_s;
    uint16_t keep_interval_s;
    uint8_t keep_count;
    uint8_t soft_error; /* while connecting: a soft ICMP error came */
    uint8_t path_minute; /* clock in minutes when path_mtu was lowered, or a larger one was tried */
    uint8_t challenges;   /* challenge ACKs sent in that second */
    uint16_t challenge_s; /* clock in seconds */
    uint32_t user_timeout_ms; /* 0: the stack's default */
    uint32_t retransmitted; /* segments, for statistics */

    /* Links: caches. */
    uint32_t wheel_next;
    uint32_t wheel_prev;
    union {
        uint32_t next_free;   /* of a closed one */
        uint32_t accept_next; /* of one that waits to be accepted */
    };
};
UN_STATIC_ASSERT(sizeof(struct un_tcb) <= 512 - 16, "with its entry in the look-up table at most 512 bytes");

#endif
