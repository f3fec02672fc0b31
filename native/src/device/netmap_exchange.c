/* See netmap_exchange.h. */
#include "device/netmap_exchange.h"

#include <stdlib.h>

#define BEGIN_AT 4096u /* a stack's frames begin at a page */
#define FIRST_BUFFER 2u /* the module keeps two */

/* The number of the next buffer of the list, which stands in this one. */
static uint32_t *link_of(const struct un_netmap_side *rx, uint32_t buffer)
{
    return (uint32_t *)(void *)un_netmap_buffer(rx, buffer);
}

/* Of the buffers in the slots, and behind them of those in the list, which may be written over meanwhile. False: there
 * is no such buffer. */
static bool read_numbers(uint32_t *numbers, const struct un_netmap_pair *pair, uint32_t extra_buffers)
{
    const struct un_netmap_side *rx = &pair->rx;
    uint32_t buffer = 0;
    for (uint32_t i = 0; i < rx->slot_count + extra_buffers; i++) {
        buffer = i < rx->slot_count    ? un_netmap_slot(rx, i).buffer
                 : i == rx->slot_count ? pair->port->extra_buffers
                                       : *link_of(rx, buffer);
        if (buffer < FIRST_BUFFER || buffer >= rx->buffer_count)
            return false;
        numbers[i] = buffer;
    }
    return true;
}

/* All frames, from the lowest buffer, or one before it at a page's start, to the highest. How few of them are free is
 * told by a share of all (pool.h), so most have to be ours. False: they are not, or none is at a page's start. */
static bool find_frames(struct un_netmap_exchange *exchange, const struct un_netmap_side *rx, uint32_t count)
{
    uint32_t low = UINT32_MAX, high = 0;
    for (uint32_t i = 0; i < count; i++) {
        low = exchange->stands[i] < low ? exchange->stands[i] : low;
        high = exchange->stands[i] > high ? exchange->stands[i] : high;
    }
    while (low > 0 && (uintptr_t)un_netmap_buffer(rx, low) % BEGIN_AT)
        low--;
    exchange->first = low;
    exchange->frames = (struct un_device_frames){.bytes = un_netmap_buffer(rx, low), .count = high - low + 1,
                                                 .frame_bytes = rx->buffer_bytes, .free_count = count - rx->slot_count};
    return (uintptr_t)exchange->frames.bytes % BEGIN_AT == 0 && exchange->frames.count <= count + count / 2;
}

/* Buffers become frames. False: one is there twice. */
static bool take_all(struct un_netmap_exchange *exchange, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t frame = exchange->stands[i] -= exchange->first;
        if (exchange->is_ours[frame])
            return false;
        exchange->is_ours[frame] = true;
    }
    return true;
}

static bool begin(struct un_netmap_exchange *exchange, const struct un_netmap_pair *pair, uint32_t extra_buffers)
{
    const struct un_netmap_side *rx = &pair->rx;
    uint32_t count = rx->slot_count + extra_buffers;
    bool fits = rx->buffer_bytes % 64 == 0 && rx->buffer_bytes <= UN_FRAME_BYTES_MAX && extra_buffers > 0;
    if (!fits || !read_numbers(exchange->stands, pair, extra_buffers) || !find_frames(exchange, rx, count))
        return false;
    exchange->is_ours = calloc(exchange->frames.count, sizeof *exchange->is_ours);
    return exchange->is_ours && take_all(exchange, count);
}

struct un_netmap_exchange *un_netmap_exchange_open(const struct un_netmap_pair *pair, uint32_t extra_buffers)
{
    uint64_t count = (uint64_t)pair->rx.slot_count + extra_buffers;
    struct un_netmap_exchange *exchange = calloc(1, sizeof *exchange + count * sizeof *exchange->stands);
    if (!exchange)
        return NULL;
    if (begin(exchange, pair, extra_buffers)) {
        pair->port->extra_buffers = 0; /* the list is ours: packets are written over its links */
        return exchange;
    }
    free(exchange->is_ours);
    free(exchange);
    return NULL;
}

void un_netmap_exchange_close(struct un_netmap_exchange *exchange, const struct un_netmap_pair *pair)
{
    uint32_t next = 0;
    for (uint32_t at = 0; at < pair->rx.slot_count; at++)
        exchange->is_ours[exchange->stands[at]] = false;
    for (uint32_t frame = exchange->frames.count; frame-- > 0;) {
        if (!exchange->is_ours[frame])
            continue;
        *link_of(&pair->rx, exchange->first + frame) = next;
        next = exchange->first + frame;
    }
    pair->port->extra_buffers = next;
    free(exchange->is_ours);
    free(exchange);
}

void un_netmap_exchange_held(const struct un_netmap_exchange *exchange, uint32_t slot_count, struct un_pool *pool)
{
    if (pool->bytes != exchange->frames.bytes)
        return;
    for (uint32_t frame = 0; frame < exchange->frames.count; frame++)
        if (!exchange->is_ours[frame])
            un_pool_hold(pool, frame);
    for (uint32_t at = 0; at < slot_count; at++)
        un_pool_hold(pool, exchange->stands[at]);
}
