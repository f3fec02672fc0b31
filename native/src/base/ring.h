/* A wait-free single-producer single-consumer ring: one end of it.
 *
 * The slots lie in shared memory; so do the two free-running 32-bit indices, each written by one side. Where an index
 * lives is the caller's business (a line of its own, or half of a commit word), so an end only holds its own index,
 * the last seen index of the opposite side, and the mask. Four verbs, in batches:
 *
 *   producer   un_ring_reserve  how many slots are free       un_ring_submit   that many were filled
 *   consumer   un_ring_peek     how many slots are filled      un_ring_release  that many were used
 *
 * Neither verb touches shared memory: after submit or release the caller publishes `own` (barrier.h), once per batch.
 * Before it believes that the ring is full or empty it looks at the opposite index and tells un_ring_producer_saw or
 * un_ring_consumer_saw.
 *
 * Invariants: 0 <= produced - consumed <= size, in arithmetic modulo 2^32; size is a power of two <= 2^31. An opposite
 * index that breaks them comes from a faulty process: those refuse it and the end stays as it
 * was (P4). */
#ifndef UN_RING_H
#define UN_RING_H

#include <stdbool.h>
#include <stdint.h>

struct un_ring {
    uint32_t size;
    uint32_t own;  /* our index: produced by a producer's end, consumed by a consumer's */
    uint32_t seen; /* the opposite index as last seen and believed */
};

static inline void un_ring_init(struct un_ring *ring, uint32_t size, uint32_t own, uint32_t seen)
{
    ring->size = size;
    ring->own = own;
    ring->seen = seen;
}

static inline uint32_t un_ring_slot(const struct un_ring *ring, uint32_t index)
{
    return index & (ring->size - 1);
}

/* Producer's end. */

static inline uint32_t un_ring_used(const struct un_ring *ring)
{
    return ring->own - ring->seen;
}

static inline uint32_t un_ring_reserve(const struct un_ring *ring)
{
    return ring->size - un_ring_used(ring);
}

static inline void un_ring_submit(struct un_ring *ring, uint32_t count)
{
    ring->own += count;
}

static inline bool un_ring_producer_saw(struct un_ring *ring, uint32_t consumed)
{
    if (ring->own - consumed > un_ring_used(ring)) /* went back, or past what was produced */
        return false;
    ring->seen = consumed;
    return true;
}

/* Consumer's end. */

static inline uint32_t un_ring_peek(const struct un_ring *ring)
{
    return ring->seen - ring->own;
}

static inline void un_ring_release(struct un_ring *ring, uint32_t count)
{
    ring->own += count;
}

static inline bool un_ring_consumer_saw(struct un_ring *ring, uint32_t produced)
{
    uint32_t filled = produced - ring->own;
    if (filled > ring->size || filled < un_ring_peek(ring)) /* more than fits, or went back */
        return false;
    ring->seen = produced;
    return true;
}

#endif
