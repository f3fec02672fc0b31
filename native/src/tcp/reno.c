/* Congestion control of RFC 5681: one MSS more in a round trip, half at a loss. cc_state[0]: bytes acknowledged that
 * have not yet let cwnd grow. */
#include "tcp/congestion.h"

static void init(const struct un_tcp *tcp, struct un_tcb *tcb)
{
    (void)tcp;
    tcb->cc_state[0] = 0;
}

static void acked(const struct un_tcp *tcp, struct un_tcb *tcb, uint32_t bytes, bool cwnd_limited)
{
    (void)tcp;
    if (!cwnd_limited)
        return;
    if (tcb->cwnd < tcb->ssthresh) {
        un_congestion_grow(tcb, un_congestion_slow_start(tcb, bytes));
        return;
    }
    tcb->cc_state[0] += bytes;
    if (tcb->cc_state[0] < tcb->cwnd)
        return;
    tcb->cc_state[0] -= tcb->cwnd;
    un_congestion_grow(tcb, tcb->snd_mss);
}

static uint32_t reduce(const struct un_tcp *tcp, struct un_tcb *tcb)
{
    uint32_t half = un_congestion_used(tcb) / 2, least = 2u * tcb->snd_mss;
    init(tcp, tcb);
    return half > least ? half : least;
}

static void idle(const struct un_tcp *tcp, struct un_tcb *tcb)
{
    tcb->cwnd = un_congestion_window(tcp, tcb);
}

const struct un_congestion un_congestion_reno = {
    .name = "reno",
    .init = init,
    .acked = acked,
    .reduce = reduce,
    .timeout = init,
    .undo = init,
    .idle = idle,
};
