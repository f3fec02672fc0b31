/* What all congestion control algorithms share: the initial and the restart window (RFC 6928, 5681), whether cwnd is
 * used (RFC 7661), appropriate byte counting (RFC 3465), reduction once per round trip. */
#include "tcp/congestion.h"
#include "tcp/probe.h"

#define UN_CWND_MAX (1u << 29)
#define UN_INITIAL_MSS 1460u  /* RFC 6928: 10 segments, and not more than 14,600 bytes unless that is less than 2 */
#define UN_SLOW_START_LIMIT 8u /* L, without pacing: RFC 9406 section 4.2; coalescing peers acknowledge much at once */

const struct un_congestion *const un_congestions[UN_CONGESTIONS] = {
    [UN_CONGESTION_CUBIC] = &un_congestion_cubic,
    [UN_CONGESTION_RENO] = &un_congestion_reno,
};

uint32_t un_congestion_initial(const struct un_tcp *tcp, const struct un_tcb *tcb)
{
    uint32_t segments = tcp->config->initial_window, mss = tcb->snd_mss;
    uint32_t most = 2 * mss > segments * UN_INITIAL_MSS ? 2 * mss : segments * UN_INITIAL_MSS;
    return segments * mss < most ? segments * mss : most;
}

uint32_t un_congestion_used(const struct un_tcb *tcb)
{
    uint32_t flight = tcb->snd_nxt - tcb->snd_una;
    return tcb->recovery & UN_RECOVERY_LIMITED || tcb->cwnd < flight ? tcb->cwnd : flight;
}

void un_congestion_reduce(struct un_tcp *tcp, struct un_tcb *tcb)
{
    tcb->prior_cwnd = tcb->cwnd;
    tcb->prior_ssthresh = tcb->ssthresh;
    tcb->ssthresh = un_congestion_of(tcb)->reduce(tcp, tcb);
    tcb->recovery &= (uint8_t) ~(UN_RECOVERY_UNDO | UN_RECOVERY_RESENT);
    if (tcb->flags & UN_TCB_ECN)
        tcb->flags |= UN_TCB_CWR; /* RFC 3168 section 6.1.2: whatever the reason */
}

bool un_congestion_is_reduced(const struct un_tcb *tcb, uint32_t una)
{
    return !(tcb->flags & UN_TCB_PROBE_OUT) && un_seq_lt(una, tcb->recover) && un_seq_le(tcb->recover, tcb->snd_nxt);
}

void un_congestion_react(struct un_tcp *tcp, struct un_tcb *tcb)
{
    un_congestion_reduce(tcp, tcb);
    if (tcb->cwnd > tcb->ssthresh)
        tcb->cwnd = tcb->ssthresh;
    un_probe_cancel(tcb);
    tcb->recover = tcb->snd_nxt;
}

uint32_t un_congestion_slow_start(const struct un_tcb *tcb, uint32_t acked)
{
    uint32_t most = UN_SLOW_START_LIMIT * tcb->snd_mss;
    return acked < most ? acked : most;
}

void un_congestion_grow(struct un_tcb *tcb, uint32_t bytes)
{
    tcb->cwnd = bytes < UN_CWND_MAX - tcb->cwnd ? tcb->cwnd + bytes : UN_CWND_MAX;
}
