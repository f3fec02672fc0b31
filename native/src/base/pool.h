/* Frames: pieces of memory of one size that hold packets and payload, counted by reference and linked by index.
 *
 * A pool has two parts: `struct un_pool_memory` with one record per frame (`struct un_frame`), both in the arena of a
 * stack, and the bytes of the frames. `struct un_pool` is one process's view of both. A frame is either free
 * (references 0, in the free list) or has owners; dropping the last reference frees it. Its owner uses the record as a
 * list node, so a queue of payload needs no nodes of its own: the owner defines what `next`, `seq`, `offset` and
 * `length` mean. A packet larger than a frame is a chain by `next`, which ends with UN_NONE.
 *
 * Behind the records of the frames lie the records of lent pieces. A lent piece is memory of somebody else, the lender;
 * it is sent from where it lies. Its record has no frame: `flags` is the number of the lender, `seq` the offset in the
 * lender's memory. When the last reference is dropped, the record waits until the lender fetches it
 * (un_pool_given_back).
 *
 * The lists are caches. After a takeover un_pool_rebuild makes them from the references, which a scan of all owners has
 * set, and un_pool_hold for owners that the scan does not see. */
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

/* An owner more, of a frame that may have had none: only while the lists are about to be made anew. False: there is no
 * such frame, or it has too many owners already. */
static inline bool un_pool_hold(struct un_pool *pool, uint32_t frame)
{
    if (frame >= pool->own->count || pool->frames[frame].references == UINT16_MAX)
        return false;
    pool->frames[frame].references++;
    return true;
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

/* The same, of a frame that is one for certain, and no lent piece. */
static inline void un_pool_drop_frame(struct un_pool *pool, uint32_t frame)
{
    struct un_frame *record = &pool->frames[frame];
    un_assert(record->references > 0);
    if (--record->references > 0)
        return;
    record->next = pool->own->free_head;
    pool->own->free_head = frame;
    pool->own->free_count++;
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

/* How few frames are free, and what is refused then. Receiving comes before sending: reading and writing give frames
 * back, and the last frames are kept for a device to receive acknowledgements into.
 *
 *   free below count / 4    short         small payload is copied together
 *              count / 8    scarce        a connection that holds several frames gets no more
 *              count / 16   nearly empty  no payload is taken from peers
 *              count / 32   at its end    no payload is taken from applications
 */
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

/* How many frames one connection may hold, those included that it holds already: share = (free - count / 4) / 4, but at
 * least UN_POOL_FEW while payload is taken from peers at all. 1,024 frames, all free: 192.
 *
 * Frames that fill reduce `free`, and so the share of everybody: connections that take all they can arrive at the same
 * number. The last quarter covers what was offered to peers before the share went down. */
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

/* Make the lists anew: they hold every frame, and every record of a lent piece, that has no reference. Pieces that had
 * come back are not reported any more: the lender has to ask which are still out (un_pool_count_lent). */
void un_pool_rebuild(struct un_pool *pool);

/* Count the pieces of a lender that are still out: each is added to counts[] of the part of its memory that it begins
 * in. */
void un_pool_count_lent(const struct un_pool *pool, uint16_t lender, uint32_t part_bytes, uint32_t *counts);

#endif
