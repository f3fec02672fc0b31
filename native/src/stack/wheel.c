/* See wheel.h. */
#include "stack/wheel.h"

#include <stdbool.h>

#define TICK_MASK ((UINT64_C(1) << UN_WHEEL_TICK_BITS) - 1)
#define DIGIT_MASK (UN_WHEEL_SLOTS - 1)

void un_wheel_init(struct un_wheel_memory *wheel, uint64_t now_ns)
{
    *wheel = (struct un_wheel_memory){.tick = now_ns >> UN_WHEEL_TICK_BITS, .cascading = UN_NONE};
    for (uint32_t slot = 0; slot < UN_WHEEL_LEVELS * UN_WHEEL_SLOTS; slot++)
        wheel->heads[slot] = UN_NONE;
}

static uint64_t tick_of(uint64_t deadline_ns)
{
    uint64_t up = deadline_ns + TICK_MASK;
    return (up < deadline_ns ? deadline_ns : up) >> UN_WHEEL_TICK_BITS;
}

static uint32_t slot_of(const struct un_wheel_memory *wheel, uint64_t tick)
{
    if (tick <= wheel->tick)
        return wheel->tick & DIGIT_MASK; /* due: the slot of now, at level 0 */
    uint32_t level = (63u - (uint32_t)__builtin_clzll(tick ^ wheel->tick)) / UN_WHEEL_DIGIT_BITS;
    return level * UN_WHEEL_SLOTS + (tick >> (level * UN_WHEEL_DIGIT_BITS) & DIGIT_MASK);
}

static void link_at(struct un_wheel_memory *wheel, struct un_tcb *tcbs, uint32_t index, uint32_t slot)
{
    struct un_tcb *tcb = &tcbs[index];
    uint32_t head = wheel->heads[slot];
    un_assert(tcb->wheel_at == UN_NONE);
    if (head != UN_NONE)
        tcbs[head].wheel_prev = index;
    else
        wheel->occupied[slot / UN_WHEEL_SLOTS] |= UINT64_C(1) << slot % UN_WHEEL_SLOTS;
    tcb->wheel_next = head;
    tcb->wheel_prev = UN_NONE;
    tcb->wheel_at = slot;
    wheel->heads[slot] = index;
}

static void unlink_from(struct un_wheel_memory *wheel, struct un_tcb *tcbs, uint32_t index)
{
    struct un_tcb *tcb = &tcbs[index];
    uint32_t slot = tcb->wheel_at;
    un_assert((tcb->wheel_prev == UN_NONE) == (wheel->heads[slot] == index));
    if (tcb->wheel_next != UN_NONE)
        tcbs[tcb->wheel_next].wheel_prev = tcb->wheel_prev;
    if (tcb->wheel_prev != UN_NONE)
        tcbs[tcb->wheel_prev].wheel_next = tcb->wheel_next;
    else
        wheel->heads[slot] = tcb->wheel_next;
    if (wheel->heads[slot] == UN_NONE)
        wheel->occupied[slot / UN_WHEEL_SLOTS] &= ~(UINT64_C(1) << slot % UN_WHEEL_SLOTS);
    tcb->wheel_at = UN_NONE;
}

void un_wheel_cancel(struct un_wheel_memory *wheel, struct un_tcb *tcbs, uint32_t index)
{
    if (tcbs[index].wheel_at != UN_NONE)
        unlink_from(wheel, tcbs, index);
}

void un_wheel_move(struct un_wheel_memory *wheel, struct un_tcb *tcbs, uint32_t index, uint64_t deadline_ns)
{
    un_wheel_cancel(wheel, tcbs, index);
    tcbs[index].wheel_ns = deadline_ns;
    link_at(wheel, tcbs, index, slot_of(wheel, tick_of(deadline_ns)));
}

/* The occupied slot that comes first, and the tick at which it begins; UN_NONE: the wheel is empty. */
static uint32_t first_slot(const struct un_wheel_memory *wheel, uint64_t *begins)
{
    for (uint32_t level = 0; level < UN_WHEEL_LEVELS; level++) {
        if (!wheel->occupied[level])
            continue;
        uint32_t digit = (uint32_t)__builtin_ctzll(wheel->occupied[level]);
        uint32_t shift = level * UN_WHEEL_DIGIT_BITS;
        uint64_t above = wheel->tick >> shift >> UN_WHEEL_DIGIT_BITS << UN_WHEEL_DIGIT_BITS;
        *begins = (above | digit) << shift;
        return level * UN_WHEEL_SLOTS + digit;
    }
    return UN_NONE;
}

/* Move down what stands in the slot that `tick` has entered; false: it was too much for one call. */
static bool cascade(struct un_wheel_memory *wheel, struct un_tcb *tcbs)
{
    for (uint32_t moved = 0; moved < UN_WHEEL_CASCADE_MAX; moved++) {
        uint32_t index = wheel->heads[wheel->cascading];
        if (index == UN_NONE) {
            wheel->cascading = UN_NONE;
            return true;
        }
        un_wheel_move(wheel, tcbs, index, tcbs[index].wheel_ns);
    }
    return false;
}

uint32_t un_wheel_expired(struct un_wheel_memory *wheel, struct un_tcb *tcbs, uint64_t now_ns)
{
    uint64_t now = now_ns >> UN_WHEEL_TICK_BITS;
    for (;;) { /* at most once per level */
        if (wheel->cascading != UN_NONE && !cascade(wheel, tcbs))
            return UN_NONE;
        uint64_t begins = 0;
        uint32_t slot = first_slot(wheel, &begins);
        if (slot == UN_NONE || begins > now) {
            wheel->tick = now > wheel->tick ? now : wheel->tick;
            return UN_NONE;
        }
        wheel->tick = begins;
        if (slot < UN_WHEEL_SLOTS) {
            uint32_t index = wheel->heads[slot];
            unlink_from(wheel, tcbs, index);
            return index;
        }
        wheel->cascading = slot;
    }
}

uint64_t un_wheel_next_ns(const struct un_wheel_memory *wheel)
{
    uint64_t begins = 0;
    if (wheel->cascading != UN_NONE && wheel->heads[wheel->cascading] != UN_NONE)
        begins = wheel->tick;
    else if (first_slot(wheel, &begins) == UN_NONE)
        return UINT64_MAX;
    return begins << UN_WHEEL_TICK_BITS;
}
