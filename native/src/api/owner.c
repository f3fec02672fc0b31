/* The exported symbols of a device's owner: see usnet_device.h. */
#include "usnet_device.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "api/view.h"

#define BATCH_MAX 64u

UN_API_SAME((uint32_t)USNET_NO_FRAME, UN_NONE);

#define PAGE_BYTES 4096u /* a device may register the frames with the kernel */

struct usnet_pool {
    struct un_pool inner;
    struct un_pool_memory memory;
};

struct usnet_pool *usnet_pool_create(uint32_t frames, uint32_t frame_bytes)
{
    errno = EINVAL;
    if (frames == 0 || frame_bytes == 0 || frame_bytes % 64 || frame_bytes > UN_FRAME_BYTES_MAX)
        return NULL;
    struct usnet_pool *pool = calloc(1, sizeof *pool);
    if (!pool)
        return NULL;
    pool->inner.own = &pool->memory;
    pool->inner.frames = calloc(frames, sizeof *pool->inner.frames);
    uint64_t bytes = ((uint64_t)frames * frame_bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    pool->inner.bytes = aligned_alloc(PAGE_BYTES, bytes);
    if (!pool->inner.frames || !pool->inner.bytes) {
        usnet_pool_destroy(pool);
        errno = ENOMEM;
        return NULL;
    }
    memset(pool->inner.bytes, 0, bytes);
    un_pool_format(&pool->inner, frames, frame_bytes);
    return pool;
}

void usnet_pool_destroy(struct usnet_pool *pool)
{
    free(pool->inner.frames);
    free(pool->inner.bytes);
    free(pool);
}

uint32_t usnet_pool_free(const struct usnet_pool *pool)
{
    return pool->memory.free_count;
}

uint32_t usnet_pool_take(struct usnet_pool *pool)
{
    return un_pool_take(&pool->inner);
}

int usnet_pool_drop(struct usnet_pool *pool, uint32_t frame)
{
    if (frame >= pool->memory.count || pool->inner.frames[frame].references == 0)
        return -EINVAL;
    un_pool_drop_chain(&pool->inner, frame);
    return 0;
}

int usnet_pool_look(const struct usnet_pool *pool, uint32_t frame, struct usnet_frame *found)
{
    if (frame >= pool->memory.count)
        return -EINVAL;
    const struct un_frame *record = &pool->inner.frames[frame];
    *found = (struct usnet_frame){
        .bytes = un_pool_bytes(&pool->inner, frame),
        .offset = record->offset,
        .length = record->length,
        .next = record->next,
        .references = record->references,
    };
    return 0;
}

void usnet_pool_forget(struct usnet_pool *pool, const struct usnet_device *device)
{
    for (uint32_t frame = 0; frame < pool->memory.count; frame++)
        pool->inner.frames[frame].references = 0;
    un_device_hold((const struct un_device *)device, &pool->inner);
    un_pool_rebuild(&pool->inner);
}

static struct un_device *inner(struct usnet_device *device)
{
    return (struct un_device *)device;
}

void usnet_device_describe(const struct usnet_device *device, struct usnet_device_about *about)
{
    const struct un_device *found = (const struct un_device *)device;
    const struct un_device_capabilities *can = &found->capabilities;
    *about = (struct usnet_device_about){
        .link = {.mtu = can->mtu, .tx_segment_bytes = can->tx_segment_bytes, .tx_checksum = can->tx_checksum,
                 .rx_checksum = can->rx_checksum, .rx_coalesce = can->rx_coalesce},
        .name = found->operations->name,
        .fd = found->fd,
        .queues = can->queues,
        .queue = can->queue,
    };
    memcpy(about->link.mac, can->mac, sizeof about->link.mac);
}

int usnet_device_counters(const struct usnet_device *device, uint64_t *values, uint32_t max)
{
    const struct un_device *found = (const struct un_device *)device;
    const struct un_device_counters *counters = found->counters ? found->counters : &found->early;
    uint32_t count = sizeof *counters / sizeof *values;
    count = count < max ? count : max;
    memcpy(values, counters, count * sizeof *values);
    return (int)count;
}

void usnet_device_attach(struct usnet_device *device, struct usnet_pool *pool)
{
    un_device_attach(inner(device), &pool->inner);
}

uint32_t usnet_device_reserve(struct usnet_device *device, uint32_t count)
{
    return inner(device)->operations->reserve(inner(device), count);
}

/* The packet, whose pieces go to the next free places of `pieces`. */
static struct un_tx packet_of(const struct usnet_send *packet, struct un_piece *pieces)
{
    struct un_tx made = {
        .pieces = pieces,
        .count = (uint16_t)packet->count,
        .flags = packet->output.flags,
        .segment_bytes = packet->output.segment_bytes,
        .header_length = packet->output.header_length,
        .checksum_start = packet->output.checksum_start,
        .checksum_offset = packet->output.checksum_offset,
    };
    for (uint32_t i = 0; i < packet->count; i++) {
        const struct usnet_send_piece *piece = &packet->pieces[i];
        pieces[i] = (struct un_piece){piece->bytes, piece->length, piece->frame};
        made.length += piece->length;
    }
    return made;
}

int usnet_device_submit(struct usnet_device *device, const struct usnet_send *packets, uint32_t count)
{
    struct un_piece pieces[BATCH_MAX][UN_TX_PIECES_MAX];
    struct un_tx made[BATCH_MAX];
    if (count > BATCH_MAX)
        return -EINVAL;
    for (uint32_t i = 0; i < count; i++) {
        if (packets[i].count == 0 || packets[i].count > UN_TX_PIECES_MAX)
            return -EINVAL;
        made[i] = packet_of(&packets[i], pieces[i]);
    }
    inner(device)->operations->submit(inner(device), made, count);
    return 0;
}

void usnet_device_flush(struct usnet_device *device)
{
    inner(device)->operations->flush(inner(device));
}

uint32_t usnet_device_peek(struct usnet_device *device, struct usnet_received *packets, uint32_t most)
{
    struct un_rx found[BATCH_MAX];
    uint32_t count = inner(device)->operations->peek(inner(device), found, most < BATCH_MAX ? most : BATCH_MAX);
    for (uint32_t i = 0; i < count; i++)
        packets[i] = (struct usnet_received){found[i].frame, found[i].length, found[i].flags, found[i].segment_bytes};
    return count;
}

void usnet_device_release(struct usnet_device *device, uint32_t count)
{
    inner(device)->operations->release(inner(device), count);
}

bool usnet_device_sleep(struct usnet_device *device)
{
    return inner(device)->operations->sleep(inner(device));
}
