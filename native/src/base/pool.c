/* See pool.h. */
#include "base/pool.h"

void un_pool_format_lending(struct un_pool *pool, uint32_t count, uint32_t frame_bytes, uint32_t lent_count)
{
    un_assert(frame_bytes <= UN_FRAME_BYTES_MAX && frame_bytes % 64 == 0);
    pool->own->count = count;
    pool->own->frame_bytes = frame_bytes;
    pool->own->lent_count = lent_count;
    for (uint32_t frame = 0; frame < count + lent_count; frame++)
        pool->frames[frame] = (struct un_frame){.next = UN_NONE};
    un_pool_rebuild(pool);
}

/* The first of a list of those without a reference, *count of them. */
static uint32_t list_free(struct un_pool *pool, uint32_t from, uint32_t end, uint32_t *count)
{
    uint32_t head = UN_NONE;
    *count = 0;
    for (uint32_t frame = end; frame-- > from;) {
        if (pool->frames[frame].references > 0)
            continue;
        pool->frames[frame].next = head;
        head = frame;
        ++*count;
    }
    return head;
}

void un_pool_count_lent(const struct un_pool *pool, uint16_t lender, uint32_t part_bytes, uint32_t *counts)
{
    for (uint32_t i = 0; i < pool->own->lent_count; i++) {
        const struct un_frame *record = &pool->frames[pool->own->count + i];
        if (record->references > 0 && record->flags == lender)
            counts[record->seq / part_bytes]++;
    }
}

void un_pool_rebuild(struct un_pool *pool)
{
    struct un_pool_memory *own = pool->own;
    uint32_t lent_free_count;
    own->free_head = list_free(pool, 0, own->count, &own->free_count);
    own->lent_free = list_free(pool, own->count, own->count + own->lent_count, &lent_free_count);
    own->lent_back = UN_NONE;
}
