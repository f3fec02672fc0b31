/* When an inline engine waits for more packets before its worker answers, as network cards do before they interrupt.
 *
 * An inline worker answers what one look at the device brought, and each answer may cost the peer's kernel an
 * interrupt. Where many connections are busy, answers that leave together cost it one. So the engine looks again, for
 * UN_MODERATION_NS at most, until it has heard of an eighth of the connections that are busy. The other seven are under
 * way meanwhile, so neither side stands still.
 *
 * Busy are the different connections that sent something in the last millisecond. Below UN_MODERATION_BUSY nothing is
 * waited for: not at one connection, whatever it sends, and not where the wait would mostly be in vain. A wait in vain
 * doubles the turns without one, a wait that caught something halves them.
 *
 * No clock of its own: the time comes with each call. Nothing here outlives the process. */
#ifndef UN_MODERATION_H
#define UN_MODERATION_H

#include <stdbool.h>
#include <stdint.h>

#define UN_MODERATION_NS UINT64_C(20000)          /* what cards wait by default: 10 to 50 us */
#define UN_MODERATION_WINDOW_NS UINT64_C(1000000) /* in which connections are counted */
#define UN_MODERATION_BUSY 64u       /* a window: one in 16 us, so a wait for 20 us brings one more */
#define UN_MODERATION_PART 8u
#define UN_MODERATION_SLOTS 256u     /* connections that are told apart, by their slots */
#define UN_MODERATION_PAUSE_MAX 255u /* turns for each wait, where waits catch nothing */

struct un_moderation {
    uint64_t heard[UN_MODERATION_SLOTS / 64]; /* bit for each connection that was heard of in this window */
    uint32_t different; /* how many these are */
    uint32_t busy;      /* how many they were in the last window */
    uint32_t turn;      /* messages in this turn */
    uint32_t first;     /* of them before the wait */
    uint32_t skip;      /* turns before the next wait */
    uint32_t pause;     /* what that begins with, 2^n - 1 */
    uint64_t began_ns;  /* the window */
    uint64_t until_ns;  /* the wait; 0: there is none */
};

/* The connection in this slot sent something. */
static inline void un_moderation_heard(struct un_moderation *moderation, uint32_t slot)
{
    uint64_t *word = &moderation->heard[slot % UN_MODERATION_SLOTS / 64], bit = UINT64_C(1) << slot % 64;
    moderation->different += !(*word & bit);
    *word |= bit;
    moderation->turn++;
}

/* A turn begins. */
static inline void un_moderation_begin(struct un_moderation *moderation)
{
    moderation->turn = 0;
}

/* After a look at the device. true: look again; false: the turn goes on, and it is not asked again in this one. */
bool un_moderation_waits(struct un_moderation *moderation, uint64_t now_ns);

#endif
