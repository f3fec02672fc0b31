/* Timer wheel: which connection is to be looked at next, for a million connections at O(1) each.
 *
 * Eight levels of 64 slots, which reach to the end of time (2^64 ns). A deadline is rounded up to a tick (2^18 ns,
 * 0.26 ms), so that nothing fires early. With `now` the tick the wheel has come to, a deadline T stands at the level
 * of the highest of the 6-bit digits in which T and now differ, in the slot of that digit of T. From this follows the
 * rest:
 *   - a level holds only slots after the digit of now, so nothing wraps around (level 0: also the slot of now
 *     itself);
 *   - whatever stands at a level is due before all that stands at the levels above: the first slot of the lowest
 *     occupied level is next, which one bitmap a level says without a scan;
 *   - when now enters a slot of a level above 0, its connections go to lower levels (cascade): seven times at most in
 *     the life of a deadline, once or twice in that of a retransmission timer. A slot may hold very many; one call
 *     moves at most UN_WHEEL_CASCADE_MAX of them, and nothing else fires until the slot is empty.
 * Times between two occupied slots are skipped: a long sleep costs nothing.
 *
 * Lists are linked by index through the blocks (wheel_next, wheel_prev); wheel_at says where a connection stands,
 * UN_NONE: nowhere. Whoever makes a block sets wheel_at to UN_NONE. The wheel is a cache: after adoption
 * un_wheel_init, UN_NONE in every wheel_at, and un_wheel_arm for every connection make it anew. */
#ifndef UN_WHEEL_H
#define UN_WHEEL_H

#include <stdint.h>

#include "tcp/tcb.h"

#define UN_WHEEL_TICK_BITS 18u
#define UN_WHEEL_DIGIT_BITS 6u
#define UN_WHEEL_LEVELS 8u
#define UN_WHEEL_SLOTS (1u << UN_WHEEL_DIGIT_BITS)
#define UN_WHEEL_CASCADE_MAX 256u /* some 20 us, when every block has to come from memory */
UN_STATIC_ASSERT(UN_WHEEL_TICK_BITS + UN_WHEEL_LEVELS * UN_WHEEL_DIGIT_BITS >= 64, "every deadline has a slot");

struct un_wheel_memory {
    uint64_t tick;                      /* the wheel has come to */
    uint64_t occupied[UN_WHEEL_LEVELS]; /* bit by slot */
    uint32_t cascading;                 /* the slot that is being moved down, or UN_NONE */
    uint32_t heads[UN_WHEEL_LEVELS * UN_WHEEL_SLOTS]; /* by slot, level by level */
};

void un_wheel_init(struct un_wheel_memory *wheel, uint64_t now_ns);

/* Take the connection to the slot of this deadline, wherever it stands. */
void un_wheel_move(struct un_wheel_memory *wheel, struct un_tcb *tcbs, uint32_t index, uint64_t deadline_ns);

/* Look at the connection at deadline_ns at the latest. When it stands earlier it is left there: its owner finds out
 * when it fires, and arms it again. A deadline that has passed fires in the same sweep, so an owner that arms again
 * has to have dealt with what was due. */
static inline void un_wheel_arm(struct un_wheel_memory *wheel, struct un_tcb *tcbs, uint32_t index,
                                uint64_t deadline_ns)
{
    if (tcbs[index].wheel_at == UN_NONE || deadline_ns < tcbs[index].wheel_ns)
        un_wheel_move(wheel, tcbs, index, deadline_ns);
}

void un_wheel_cancel(struct un_wheel_memory *wheel, struct un_tcb *tcbs, uint32_t index);

/* The next connection whose tick has come, taken out; UN_NONE: no more in this turn (when a large slot is on its way
 * down there may be more, and un_wheel_next_ns lies in the past). */
uint32_t un_wheel_expired(struct un_wheel_memory *wheel, struct un_tcb *tcbs, uint64_t now_ns);

/* When to call un_wheel_expired again at the latest; UINT64_MAX: nothing stands in the wheel. It is the first
 * deadline, rounded up to a tick, or earlier, when a slot has to be moved down. A caller that sleeps until then makes
 * progress. */
uint64_t un_wheel_next_ns(const struct un_wheel_memory *wheel);

#endif
