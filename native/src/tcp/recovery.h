/* The states of loss recovery, which its files share. Each file has a header of its own (sent.h, sack.h, rack.h,
 * probe.h, undo.h, prr.h, rtt.h, congestion.h); recovery_fast.h is the fast path. tcp.h has what the state machine
 * calls.
 *
 * Every packet in flight has a record (struct un_sent) in a list by sequence number, without gaps, from snd_una to
 * snd_nxt. A record is in exactly one of three states: IN_FLIGHT, SACKED or LOST; in_flight, sacked_bytes and
 * lost_bytes of the block are the sums over them, and every change goes through un_sent_set or takes the record off the
 * list. The head is never SACKED. SACKED neighbours are joined into one record, so the list grows with the number of
 * holes, and a walk from the head is short. A record may be a super-segment of many MSS; it is split where a SACK block
 * ends within it.
 *
 * A connection is in order (no flag), in fast recovery (UN_TCB_RECOVERY) or in recovery after a timeout
 * (UN_TCB_LOSS); both last until snd_una reaches `recover`. Without SACK nobody knows what has left the network: fast
 * recovery is that of RFC 6582, cwnd is inflated by duplicate ACKs, and in_flight is everything that is outstanding. */
#ifndef UN_RECOVERY_H
#define UN_RECOVERY_H

#include "tcp/tcp.h"

#define UN_DUP_THRESHOLD 3u /* RFC 5681 section 3.2 */

/* un_tcb's recovery. */
enum un_recovery_bit {
    UN_RECOVERY_UNDO = 1 << 0,         /* prior_cwnd may be restored when what was resent turns out to be needless */
    UN_RECOVERY_RESENT = 1 << 1,       /* undo_tsval and undo_bytes are of a retransmission */
    UN_RECOVERY_PROBE_RESENT = 1 << 2, /* the probe in flight was a retransmission */
    UN_RECOVERY_LIMITED = 1 << 3,      /* cwnd was used up by what was sent last (RFC 7661: only then it may grow) */
    UN_RECOVERY_ADVANCED = 1 << 4,     /* snd_una has moved since the timeout */
    UN_RECOVERY_RACK_RESENT = 1 << 5,  /* the packet that rack_us is of had been resent */
};

/* What one ACK has told so far. */
struct un_ack {
    const struct un_seg *seg;
    uint32_t una;         /* what snd_una will be: beyond what a late ACK acknowledges */
    uint32_t acked;       /* sequence numbers that snd_una will move */
    uint32_t delivered;   /* bytes not known to have arrived before, acknowledged or SACKed */
    uint32_t sacked;      /* of these, by SACK */
    uint32_t flight;      /* bytes outstanding and not SACKed before it */
    uint32_t rtt_us;      /* of the oldest record acknowledged that was never resent; 0: none */
    uint32_t sack_rtt_us; /* of the newest such record SACKed */
    bool acked_resent;    /* what was acknowledged had been resent, at least in part */
    bool cuts_record;     /* it ends within a packet */
    bool acked_original;  /* a record from before `recover` that was never resent */
    bool sacked_original;
    bool is_duplicate;    /* RFC 5681 section 2 */
    bool has_dsack;       /* RFC 2883: `dsack` arrived twice */
    struct un_sack_block dsack;
};

#endif
