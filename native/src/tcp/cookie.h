/* SYN cookies (RFC 4987 section 3.6): a half-open connection that the peer remembers for us.
 *
 * The initial sequence number of the SYN-ACK is the cookie:
 *
 *   31      28 27   24 23                                         0
 *   time slot | MSS   | keyed hash of addresses, ports, IRS, slot, MSS
 *
 * A slot lasts 64 seconds; a cookie is taken in its own slot and the next one. When the SYN carried a timestamp, the
 * lowest bits of the timestamp that the SYN-ACK carries, which the ACK echoes, remember what else it offered: window
 * scale (4 bits, 15: none), SACK (1), ECN (1). Without a timestamp the connection has none of these. One guess
 * of a cookie, for an MSS of the attacker's choice, succeeds with probability 2 in 2^24. */
#ifndef UN_COOKIE_H
#define UN_COOKIE_H

#include <stdbool.h>
#include <stdint.h>

#include "tcp/tcp.h"

/* Whose cookie: the same when it is made and when it is checked. */
struct un_cookie_flow {
    const uint8_t *secret; /* UN_SIPHASH_KEY_BYTES */
    struct un_ip peer;
    struct un_ip local;
    uint16_t peer_port;
    uint16_t local_port;
    uint16_t link_mtu;
    uint32_t rcv_limit;
    uint32_t ts_offset; /* what the connection would have */
};

/* The complete SYN-ACK (without ports) that answers `syn`. */
void un_cookie_answer(const struct un_tcp *tcp, const struct un_cookie_flow *flow, const struct un_seg *syn,
                      struct un_seg *answer);

/* Does this ACK (no SYN, no RST) return a cookie of ours? Then *syn is the SYN it was made for, as far as it was
 * remembered: un_tcp_init with iss = ack->ack - 1, un_tcp_accept_cookie with *syn, un_tcp_process with the ACK. */
bool un_cookie_check(const struct un_tcp *tcp, const struct un_cookie_flow *flow, const struct un_seg *ack,
                     struct un_seg *syn);

#endif
