/* See pool.h. */
#include "base/pool.h"

void un_pool_format(struct un_pool *pool, uint32_t count, uint32_t frame_bytes)
{
    un_assert(frame_bytes <= UN_FRAME_BYTES_MAX && frame_bytes % 64 == 0);
    pool->own->count = count;
    pool->own->frame_bytes = frame_bytes;
    for (uint32_t frame = 0; frame < count; frame++)
        pool->frames[frame] = (struct un_frame){.next = UN_NONE};
    un_pool_rebuild(pool);
}

void un_pool_rebuild(struct un_pool *pool)
{
    pool->own->free_head = UN_NONE;
    pool->own->free_count = 0;
    for (uint32_t frame = pool->own->count; frame-- > 0;) {
        if (pool->frames[frame].references > 0)
            continue;
        pool->frames[frame].next = pool->own->free_head;
        pool->own->free_head = frame;
        pool->own->free_count++;
    }
}
