/* Frames: fixed-size pieces of memory that hold packets and payload, counted by reference and linked by index.
 *
 * The pool has two parts: `struct un_pool_memory` with a `struct un_frame` per frame, which lie in the arena of a
 * stack, and the bytes of the frames. A `struct un_pool` is one process's view of them. A frame is free (references 0,
 * in the free list) or has owners; whoever drops the last reference frees it. The record of a frame serves its owner as
 * a list node, so that a queue of payload needs no nodes of its own: `next`, `seq`, `offset` and `length` mean what the
 * owner says. A packet that is larger than a frame is a chain by `next`, UN_NONE at its end.
 *
 * Behind the records of the frames lie those of lent pieces: bytes that somebody else owns, the lender, and that are
 * sent from where they are. Such a record has no frame; it says where the bytes are (`flags` is the lender's number,
 * `seq` the offset in what he lends). When its last reference is dropped it waits until the lender takes note
 * (un_pool_given_back).
 *
 * The lists are caches: un_pool_rebuild makes them anew from the references, which a scan of the owners
 * has set. */
#ifndef UN_POOL_H
#define UN_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/assert.h"
#include "base/list.h"

struct un_frame {
    uint32_t next;
    uint32_t seq;
    uint16_t offset; /* of the first byte that counts */
    uint16_t length; /* how many count */
    uint16_t references;
    uint16_t flags;
};
UN_STATIC_ASSERT(sizeof(struct un_frame) == 16, "four to a cache line");

struct un_pool_memory {
    uint32_t count;
    uint32_t frame_bytes; /* <= UN_FRAME_BYTES_MAX, multiple of 64 */
    uint32_t free_head;
    uint32_t free_count;
    uint32_t lent_count; /* records of lent pieces, behind those of the frames */
    uint32_t lent_free;
    uint32_t lent_back;  /* those that the lender has not taken note of */
};

#define UN_FRAME_BYTES_MAX 32768u

struct un_pool {
    struct un_pool_memory *own;
    struct un_frame *frames;
    uint8_t *bytes;
    const uint8_t *const *lenders; /* by number: what each of them lends */
};

/* A piece of something that is being sent: bytes in a frame, or (frame UN_NONE) bytes that are there for now only. */
struct un_piece {
    const uint8_t *bytes;
    uint32_t length;
    uint32_t frame;
};

static inline uint8_t *un_pool_bytes(const struct un_pool *pool, uint32_t frame)
{
    return pool->bytes + (uint64_t)frame * pool->own->frame_bytes;
}

/* A frame with one reference, offset 0, length 0, next UN_NONE; or UN_NONE when none is free. */
static inline uint32_t un_pool_take(struct un_pool *pool)
{
    uint32_t frame = pool->own->free_head;
    if (frame == UN_NONE)
        return UN_NONE;
    pool->own->free_head = pool->frames[frame].next;
    pool->own->free_count--;
    pool->frames[frame] = (struct un_frame){.next = UN_NONE, .references = 1};
    return frame;
}

static inline void un_pool_keep(struct un_pool *pool, uint32_t frame)
{
    un_assert(pool->frames[frame].references > 0 && pool->frames[frame].references < UINT16_MAX);
    pool->frames[frame].references++;
}

static inline void un_pool_drop(struct un_pool *pool, uint32_t frame)
{
    un_assert(frame < pool->own->count + pool->own->lent_count && pool->frames[frame].references > 0);
    if (--pool->frames[frame].references > 0)
        return;
    bool is_lent = frame >= pool->own->count;
    uint32_t *list = is_lent ? &pool->own->lent_back : &pool->own->free_head;
    pool->frames[frame].next = *list;
    *list = frame;
    pool->own->free_count += !is_lent;
}

static inline bool un_pool_is_lent(const struct un_pool *pool, uint32_t frame)
{
    return frame >= pool->own->count;
}

/* The first byte that counts. */
static inline const uint8_t *un_pool_content(const struct un_pool *pool, uint32_t frame)
{
    const struct un_frame *record = &pool->frames[frame];
    return un_pool_is_lent(pool, frame) ? pool->lenders[record->flags] + record->seq
                                        : un_pool_bytes(pool, frame) + record->offset;
}

/* A record with one reference for bytes of a lender's, or UN_NONE when none is free. */
static inline uint32_t un_pool_lend(struct un_pool *pool, uint16_t lender, uint32_t offset, uint16_t length)
{
    uint32_t frame = pool->own->lent_free;
    if (frame == UN_NONE)
        return UN_NONE;
    pool->own->lent_free = pool->frames[frame].next;
    pool->frames[frame] =
        (struct un_frame){.next = UN_NONE, .seq = offset, .length = length, .references = 1, .flags = lender};
    return frame;
}

/* The next piece that is not needed any more; false: no other is. */
static inline bool un_pool_given_back(struct un_pool *pool, uint16_t *lender, uint32_t *offset)
{
    uint32_t frame = pool->own->lent_back;
    if (frame == UN_NONE)
        return false;
    *lender = pool->frames[frame].flags;
    *offset = pool->frames[frame].seq;
    pool->own->lent_back = pool->frames[frame].next;
    pool->frames[frame].next = pool->own->lent_free;
    pool->own->lent_free = frame;
    return true;
}

/* Fewer than a quarter of the frames are free: payload is copied together. Fewer than an eighth: who holds several gets
 * no more, so that a connection that nobody reads, or whose peer does not, leaves the others alone. Fewer than a
 * sixteenth: no more payload is taken in. Fewer than a thirty-second: nor is it taken from an application, which is
 * later, as who reads and writes gives frames back by it. The rest is for a device to receive acknowledgements into. */
static inline bool un_pool_is_short(const struct un_pool *pool)
{
    return pool->own->free_count < pool->own->count / 4;
}

static inline bool un_pool_is_scarce(const struct un_pool *pool)
{
    return pool->own->free_count < pool->own->count / 8;
}

static inline bool un_pool_is_nearly_empty(const struct un_pool *pool)
{
    return pool->own->free_count < pool->own->count / 16;
}

static inline bool un_pool_is_at_its_end(const struct un_pool *pool)
{
    return pool->own->free_count < pool->own->count / 32;
}

/* Frames of a connection that never count as several. */
#define UN_POOL_FEW 4u

/* How many frames one connection may be promised to fill, those included that it fills already: a quarter of what is
 * free beyond a quarter of the pool. Who fills frames leaves less to be promised to others, and to himself: so all who
 * fill what they can come to the same number, however many they are, and the last quarter is there for what was
 * promised before. A few frames are everybody's as long as the pool takes in payload at all. */
static inline uint32_t un_pool_share(const struct un_pool *pool)
{
    uint32_t kept = pool->own->count / 4, free = pool->own->free_count;
    if (free >= kept + 4 * UN_POOL_FEW)
        return (free - kept) / 4;
    return un_pool_is_nearly_empty(pool) ? 0 : UN_POOL_FEW;
}

/* Drop every frame of a chain. */
static inline void un_pool_drop_chain(struct un_pool *pool, uint32_t frame)
{
    while (frame != UN_NONE) {
        uint32_t next = pool->frames[frame].next;
        un_pool_drop(pool, frame);
        frame = next;
    }
}

/* All frames free; lent_count records of lent pieces lie behind theirs. */
void un_pool_format_lending(struct un_pool *pool, uint32_t count, uint32_t frame_bytes, uint32_t lent_count);

static inline void un_pool_format(struct un_pool *pool, uint32_t count, uint32_t frame_bytes)
{
    un_pool_format_lending(pool, count, frame_bytes, 0);
}

/* The lists anew: every frame without a reference, every record of a lent piece without one. The lender takes no note
 * of what came back before: he has to ask for what is still out. */
void un_pool_rebuild(struct un_pool *pool);

#endif
