/* What the congestion control algorithms have in common, and the algorithms themselves. See congestion.c. */
#ifndef UN_CONGESTION_H
#define UN_CONGESTION_H

#include "tcp/recovery.h"

uint32_t un_congestion_initial(const struct un_tcp *tcp, const struct un_tcb *tcb); /* initial window: RFC 6928 */
/* Was nothing sent for so long that cwnd is no longer valid (RFC 5681 section 4.1)? Then the restart window takes its
 * place. */
static inline bool un_congestion_is_stale(const struct un_tcp *tcp, const struct un_tcb *tcb)
{
    return tcb->sent_head == UN_NONE && tcp->now_us - tcb->sent_at_us > tcb->rto_us;
}

static inline uint32_t un_congestion_window(const struct un_tcp *tcp, const struct un_tcb *tcb)
{
    if (!un_congestion_is_stale(tcp, tcb))
        return tcb->cwnd;
    uint32_t initial = un_congestion_initial(tcp, tcb);
    return initial < tcb->cwnd ? initial : tcb->cwnd;
}

void un_congestion_reduce(struct un_tcp *tcp, struct un_tcb *tcb); /* a new ssthresh, by the connection's algorithm */
/* Was this done for the window that ends after `una` already? */
bool un_congestion_is_reduced(const struct un_tcb *tcb, uint32_t una);
/* Congestion without anything to be resent: ECN, or a loss that a probe has repaired already. */
void un_congestion_react(struct un_tcp *tcp, struct un_tcb *tcb);
/* The window that a reduction starts from: what was used of cwnd. */
uint32_t un_congestion_used(const struct un_tcb *tcb);
/* By how much one ACK of so many bytes may let cwnd grow in slow start. */
uint32_t un_congestion_slow_start(const struct un_tcb *tcb, uint32_t acked);
void un_congestion_grow(struct un_tcb *tcb, uint32_t bytes);

/* Is cwnd used up? In slow start half of it is enough, since the other half is what the last round trip has added. */
static inline void un_congestion_sent(struct un_tcb *tcb)
{
    bool is_limited = tcb->cwnd < tcb->ssthresh ? 2 * tcb->in_flight >= tcb->cwnd
                                                : tcb->in_flight + tcb->snd_mss > tcb->cwnd;
    tcb->recovery = (uint8_t)((tcb->recovery & ~UN_RECOVERY_LIMITED) | (is_limited ? UN_RECOVERY_LIMITED : 0));
}

static inline const struct un_congestion *un_congestion_of(const struct un_tcb *tcb)
{
    return un_congestions[tcb->congestion];
}

extern const struct un_congestion un_congestion_reno;  /* reno.c */
extern const struct un_congestion un_congestion_cubic; /* cubic.c */

#endif
