/* Proportional rate reduction (RFC 6937bis): how much leaves during fast recovery with SACK.
 *
 * While more is in flight than ssthresh, (re)transmissions are to deliveries as ssthresh is to what was in flight at
 * the beginning. Below it: packet conservation, or slow start when the recovery makes good progress. The result is
 * cwnd = in_flight + what may leave; it is ssthresh when the recovery is over. */
#include "tcp/prr.h"

void un_prr_begin(struct un_tcb *tcb, uint32_t flight)
{
    tcb->prr_delivered = 0;
    tcb->prr_out = 0;
    tcb->prr_flight = flight ? flight : 1;
}

static int64_t allowed(const struct un_tcb *tcb, uint32_t delivered, bool is_safe)
{
    if (tcb->in_flight > tcb->ssthresh) {
        uint64_t share = (uint64_t)tcb->prr_delivered * tcb->ssthresh;
        return (int64_t)((share + tcb->prr_flight - 1) / tcb->prr_flight) - tcb->prr_out;
    }
    int64_t out = (int64_t)tcb->prr_delivered - tcb->prr_out;
    if (out < delivered)
        out = delivered;
    if (is_safe)
        out += tcb->snd_mss;
    int64_t room = (int64_t)tcb->ssthresh - tcb->in_flight;
    return out < room ? out : room;
}

void un_prr_update(struct un_tcb *tcb, uint32_t delivered, bool is_safe)
{
    tcb->prr_delivered += delivered;
    int64_t out = allowed(tcb, delivered, is_safe);
    /* The first retransmission leaves at once; and where nothing is in flight, no ACK would ever allow one. */
    if (out < tcb->snd_mss && (tcb->prr_out == 0 || tcb->in_flight == 0))
        out = tcb->snd_mss;
    tcb->cwnd = tcb->in_flight + (uint32_t)(out > 0 ? out : 0);
}
