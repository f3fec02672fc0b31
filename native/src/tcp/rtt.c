/* Round-trip time and retransmission timeout (RFC 6298), and the smallest round trip of late (RFC 8985 section 6.2).
 *
 * There is one sample in a round trip, whatever the number of ACKs: with more of them the estimate would forget
 * within a fraction of it how much round trips vary (RFC 7323 appendix G). */
#include "tcp/rtt.h"

#define UN_RTT_GRANULARITY_US 1000u /* G of RFC 6298: what the timer wheel resolves is less */
#define UN_RTT_MAX_US 60000000u     /* longer ones are mistakes */
#define UN_MIN_RTT_WINDOW_S 60u     /* then the path may have changed */

/* The smallest one may be of a path that is no more. */
static void forget_min(const struct un_tcp *tcp, struct un_tcb *tcb, uint32_t rtt_us)
{
    if (rtt_us > tcb->min_rtt_us && tcb->min_rtt_us != 0 && tcp->now_s - tcb->min_rtt_at_s < UN_MIN_RTT_WINDOW_S)
        return;
    tcb->min_rtt_us = rtt_us;
    tcb->min_rtt_at_s = tcp->now_s;
}

void un_rtt_sample(struct un_tcp *tcp, struct un_tcb *tcb, uint32_t rtt_us)
{
    const struct un_tcp_config *config = tcp->config;
    uint32_t rtt = rtt_us > UN_RTT_MAX_US ? UN_RTT_MAX_US : rtt_us + !rtt_us;
    if (tcb->srtt_us == 0) {
        tcb->srtt_us = rtt;
        tcb->rttvar_us = rtt / 2;
    } else {
        int32_t error_us = (int32_t)(rtt - tcb->srtt_us);
        int32_t deviation_us = error_us < 0 ? -error_us : error_us;
        tcb->rttvar_us += (uint32_t)((deviation_us - (int32_t)tcb->rttvar_us) >> 2);
        tcb->srtt_us += (uint32_t)(error_us >> 3);
    }
    uint32_t margin_us = 4 * tcb->rttvar_us;
    uint32_t rto_us = tcb->srtt_us + (margin_us > UN_RTT_GRANULARITY_US ? margin_us : UN_RTT_GRANULARITY_US);
    rto_us = rto_us < config->rto_min_us ? config->rto_min_us : rto_us;
    tcb->rto_us = rto_us > config->rto_max_us ? config->rto_max_us : rto_us;
    tcb->sampled_us = tcp->now_us;
    forget_min(tcp, tcb, rtt);
    tcb->backoff = 0; /* RFC 6298 section 5: only a sample ends the backing off */
}

uint32_t un_rtt_echoed(const struct un_tcp *tcp, const struct un_tcb *tcb, const struct un_seg *seg)
{
    if (!(tcb->flags & UN_TCB_TIMESTAMP) || !(seg->options & UN_SEG_TIMESTAMP) || seg->tsecr == 0)
        return 0;
    uint32_t rtt_ms = tcp->now_ms + tcb->ts_offset - seg->tsecr;
    if (rtt_ms > UN_RTT_MAX_US / 1000)
        return 0;
    return rtt_ms ? rtt_ms * 1000 : 1000;
}

uint64_t un_recovery_rto_ns(const struct un_tcp *tcp, const struct un_tcb *tcb)
{
    uint32_t shift = tcb->backoff < 16 ? tcb->backoff : 16;
    uint64_t rto_us = (uint64_t)tcb->rto_us << shift;
    return (rto_us < tcp->config->rto_max_us ? rto_us : tcp->config->rto_max_us) * UN_US_NS;
}

/* RFC 6298 (5.7): without a sample, a handshake that needed the timer says that the usual beginning is too short. */
void un_recovery_spurious_syn(struct un_tcp *tcp, struct un_tcb *tcb)
{
    const uint32_t rto_us = 3000000;
    tcb->backoff = 0;
    if (tcb->srtt_us == 0)
        tcb->rto_us = rto_us < tcp->config->rto_max_us ? rto_us : tcp->config->rto_max_us;
}
