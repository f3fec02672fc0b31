/* Congestion control of CUBIC (RFC 9438): after a loss cwnd returns to where it was along a cubic function of time,
 * stays there for a while, and then looks for more; never slower than Reno would.
 *
 * In integers: bytes and milliseconds. W(t) = C (t - K)^3 + W_max with C = 0.4 segments / s^3. What is acknowledged
 * adds up to a sixteenth of cwnd before any of this is computed, so that most ACKs cost an addition. The first slow
 * start is HyStart++'s, which uses the same memory until ssthresh is set. While the application does not use cwnd
 * the clock stands still: the epoch begins again at the next ACK that counts (sections 4.2, 5.8). */
#include <string.h>

#include "tcp/congestion.h"
#include "tcp/hystart.h"

#define INTERVAL_MAX_MS 100000u /* |t - K|: 400 MSS per ms by then; keeps the cube within 64 bits */
#define STEP_SHIFT 4            /* a sixteenth of cwnd at a time */

struct un_cubic {
    uint32_t epoch_us;  /* when this stage of congestion avoidance began; 0: it has not */
    uint32_t w_max;
    uint32_t k_ms;      /* from the epoch until cwnd is W_max again */
    uint32_t w_est;     /* what Reno's window would be */
    uint32_t est_acked; /* bytes acknowledged since w_est grew */
    uint32_t pending;   /* bytes acknowledged that nothing was done about yet */
};
UN_STATIC_ASSERT(sizeof(struct un_cubic) <= sizeof((struct un_tcb *)0)->cc_state, "it lies in cc_state");

static struct un_cubic *cubic_of(struct un_tcb *tcb)
{
    return (struct un_cubic *)tcb->cc_state;
}

static void init(const struct un_tcp *tcp, struct un_tcb *tcb)
{
    (void)tcp;
    if (tcb->ssthresh == UINT32_MAX)
        un_hystart_init(tcb);
    else
        memset(tcb->cc_state, 0, sizeof tcb->cc_state);
}

static uint32_t cube_root(uint64_t number)
{
    uint32_t root = 0;
    for (uint32_t bit = 1u << 20; bit != 0; bit >>= 1) {
        uint64_t trial = root | bit;
        if (trial * trial * trial <= number)
            root |= bit;
    }
    return root;
}

static void begin_epoch(struct un_cubic *cubic, const struct un_tcb *tcb, uint32_t now_us)
{
    cubic->epoch_us = now_us + !now_us;
    cubic->pending = 0;
    cubic->est_acked = 0;
    cubic->w_est = tcb->cwnd;
    cubic->k_ms = 0;
    if (tcb->cwnd < cubic->w_max) /* K = cbrt((W_max - cwnd) / C), here with 10^9 ms^3 to the s^3 */
        cubic->k_ms = cube_root((uint64_t)(cubic->w_max - tcb->cwnd) * 2500000000u / tcb->snd_mss);
    else
        cubic->w_max = tcb->cwnd;
}

static uint64_t window_at(const struct un_cubic *cubic, uint32_t mss, uint32_t at_ms)
{
    uint64_t interval = at_ms < cubic->k_ms ? cubic->k_ms - at_ms : at_ms - cubic->k_ms;
    if (interval > INTERVAL_MAX_MS)
        interval = INTERVAL_MAX_MS;
    uint64_t change = interval * interval * interval / 1000 * mss * 2 / 5000000;
    if (at_ms >= cubic->k_ms)
        return cubic->w_max + change;
    return change < cubic->w_max ? cubic->w_max - change : 0;
}

/* Section 4.3; alpha is 3 (1 - beta) / (1 + beta) = 9/17 until the window of before the loss is reached, then 1. */
static void grow_like_reno(struct un_cubic *cubic, const struct un_tcb *tcb, uint32_t bytes)
{
    uint64_t needed = cubic->w_est < tcb->prior_cwnd ? (uint64_t)tcb->cwnd * 17 / 9 : tcb->cwnd;
    cubic->est_acked += bytes;
    if (cubic->est_acked < needed)
        return;
    cubic->est_acked -= (uint32_t)needed;
    cubic->w_est += tcb->snd_mss;
}

/* Section 4.4, for bytes instead of segments. */
static void grow_towards(struct un_tcb *tcb, uint64_t target, uint32_t bytes)
{
    uint64_t most = tcb->cwnd + tcb->cwnd / 2;
    target = target < most ? target : most;
    if (target > tcb->cwnd)
        un_congestion_grow(tcb, (uint32_t)(bytes * (target - tcb->cwnd) / tcb->cwnd));
}

static void avoid(const struct un_tcp *tcp, struct un_tcb *tcb, uint32_t bytes)
{
    struct un_cubic *cubic = cubic_of(tcb);
    if (cubic->epoch_us == 0 || (int32_t)(tcp->now_us - cubic->epoch_us) < 0)
        begin_epoch(cubic, tcb, tcp->now_us);
    cubic->pending += bytes;
    if (cubic->pending < tcb->cwnd >> STEP_SHIFT)
        return;
    bytes = cubic->pending;
    cubic->pending = 0;
    uint32_t at_ms = (tcp->now_us - cubic->epoch_us) / 1000;
    grow_like_reno(cubic, tcb, bytes);
    if (window_at(cubic, tcb->snd_mss, at_ms) >= cubic->w_est)
        grow_towards(tcb, window_at(cubic, tcb->snd_mss, at_ms + tcb->srtt_us / 1000), bytes);
    else if (tcb->cwnd < cubic->w_est)
        un_congestion_grow(tcb, cubic->w_est - tcb->cwnd);
}

static void acked(const struct un_tcp *tcp, struct un_tcb *tcb, uint32_t bytes, bool cwnd_limited)
{
    bool is_first = tcb->ssthresh == UINT32_MAX;
    if (!cwnd_limited) {
        if (!is_first)
            cubic_of(tcb)->epoch_us = 0;
    } else if (is_first) {
        un_hystart_acked(tcb, bytes);
        if (tcb->ssthresh != UINT32_MAX)
            init(tcp, tcb);
    } else if (tcb->cwnd < tcb->ssthresh) {
        un_congestion_grow(tcb, un_congestion_slow_start(tcb, bytes));
    } else {
        avoid(tcp, tcb, bytes);
    }
}

/* Section 4.6 with beta 0.7, and fast convergence, section 4.7. */
static uint32_t reduce(const struct un_tcp *tcp, struct un_tcb *tcb)
{
    struct un_cubic *cubic = cubic_of(tcb);
    uint32_t used = un_congestion_used(tcb), least = 2u * tcb->snd_mss;
    (void)tcp;
    if (tcb->ssthresh == UINT32_MAX)
        memset(cubic, 0, sizeof *cubic);
    cubic->w_max = used < cubic->w_max ? (uint32_t)((uint64_t)used * 17 / 20) : used;
    cubic->epoch_us = 0;
    uint32_t reduced = (uint32_t)((uint64_t)used * 7 / 10);
    return reduced > least ? reduced : least;
}

/* Section 4.8: what follows the slow start begins at its own window, K = 0. */
static void timeout(const struct un_tcp *tcp, struct un_tcb *tcb)
{
    (void)tcp;
    cubic_of(tcb)->w_max = 0;
}

static void undo(const struct un_tcp *tcp, struct un_tcb *tcb)
{
    init(tcp, tcb);
    if (tcb->ssthresh != UINT32_MAX)
        cubic_of(tcb)->w_max = tcb->prior_cwnd;
}

static void idle(const struct un_tcp *tcp, struct un_tcb *tcb)
{
    tcb->cwnd = un_congestion_window(tcp, tcb);
    if (tcb->ssthresh != UINT32_MAX)
        cubic_of(tcb)->epoch_us = 0;
}

const struct un_congestion un_congestion_cubic = {
    .name = "cubic",
    .init = init,
    .acked = acked,
    .reduce = reduce,
    .timeout = timeout,
    .undo = undo,
    .idle = idle,
};
