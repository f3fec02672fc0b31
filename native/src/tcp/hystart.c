/* HyStart++ (RFC 9406): leave the first slow start when round trips grow, before packets are lost.
 *
 * In a round whose smallest round trip exceeds that of the round before by an eighth, conservative slow start begins: a
 * quarter of the growth, for five rounds. When round trips shrink meanwhile, it was a false alarm. */
#include "tcp/congestion.h"
#include "tcp/hystart.h"

#define MIN_THRESHOLD_US 4000u /* the constants of RFC 9406 section 4.3 */
#define MAX_THRESHOLD_US 16000u
#define THRESHOLD_DIVISOR 8u
#define SAMPLES_MIN 8u
#define CONSERVATIVE_DIVISOR 4u
#define CONSERVATIVE_ROUNDS 5u

struct un_hystart {
    uint32_t round_end;
    uint32_t last_us; /* smallest round trip of the last round and of this one; UINT32_MAX: none */
    uint32_t this_us;
    uint32_t base_us; /* in conservative slow start: what it began with */
    uint16_t samples;
    uint16_t rounds;  /* of conservative slow start, the current one included; 0: not in it */
};
UN_STATIC_ASSERT(sizeof(struct un_hystart) <= sizeof((struct un_tcb *)0)->cc_state, "it lies in cc_state");

static struct un_hystart *hystart_of(struct un_tcb *tcb)
{
    return (struct un_hystart *)tcb->cc_state;
}

void un_hystart_init(struct un_tcb *tcb)
{
    *hystart_of(tcb) = (struct un_hystart){
        .round_end = tcb->snd_nxt, .last_us = UINT32_MAX, .this_us = UINT32_MAX};
}

static uint32_t threshold_us(uint32_t rtt_us)
{
    uint32_t part_us = rtt_us / THRESHOLD_DIVISOR;
    if (part_us < MIN_THRESHOLD_US)
        return MIN_THRESHOLD_US;
    return part_us < MAX_THRESHOLD_US ? part_us : MAX_THRESHOLD_US;
}

static void next_round(struct un_tcb *tcb, struct un_hystart *hystart)
{
    hystart->last_us = hystart->this_us;
    hystart->this_us = UINT32_MAX;
    hystart->samples = 0;
    hystart->round_end = tcb->snd_nxt;
    if (hystart->rounds > 0)
        hystart->rounds++;
}

static void take_sample(struct un_hystart *hystart, uint32_t rtt_us)
{
    if (rtt_us < hystart->this_us)
        hystart->this_us = rtt_us;
    if (hystart->samples < SAMPLES_MIN)
        hystart->samples++;
    if (hystart->samples < SAMPLES_MIN)
        return;
    if (hystart->rounds > 0) {
        if (hystart->this_us < hystart->base_us)
            hystart->rounds = 0;
    } else if (hystart->last_us != UINT32_MAX &&
               hystart->this_us >= hystart->last_us + threshold_us(hystart->last_us)) {
        hystart->base_us = hystart->this_us;
        hystart->rounds = 1;
    }
}

void un_hystart_acked(struct un_tcb *tcb, uint32_t acked)
{
    struct un_hystart *hystart = hystart_of(tcb);
    if (un_seq_le(hystart->round_end, tcb->snd_una + acked))
        next_round(tcb, hystart);
    if (hystart->rounds > CONSERVATIVE_ROUNDS) {
        tcb->ssthresh = tcb->cwnd;
        return;
    }
    if (tcb->rack_rtt_us != 0)
        take_sample(hystart, tcb->rack_rtt_us);
    un_congestion_grow(tcb, un_congestion_slow_start(tcb, acked) / (hystart->rounds > 0 ? CONSERVATIVE_DIVISOR : 1));
}
