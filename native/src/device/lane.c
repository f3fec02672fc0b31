/* See lane.h. */
#include "device/lane.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HEADERS_MAX 100u   /* IPv6 and TCP with all options */

uint32_t un_lane_packet_bytes(const struct un_device_capabilities *capabilities)
{
    uint32_t segment = capabilities->tx_segment_bytes ? capabilities->tx_segment_bytes + HEADERS_MAX : 0;
    return UN_ETHERNET_TAGGED_BYTES + (segment > capabilities->mtu ? segment : capabilities->mtu);
}

int un_lane_init(struct un_lane *lane, uint32_t size, uint32_t packet_bytes)
{
    *lane = (struct un_lane){.size = size, .packet_bytes = packet_bytes};
    if (size == 0 || (size & (size - 1)) || size > 1u << 20)
        return -EINVAL;
    lane->packets = calloc(size, sizeof *lane->packets);
    return lane->packets ? 0 : -ENOMEM;
}

void un_lane_attach(struct un_lane *lane, struct un_pool *pool, uint32_t frames_left)
{
    lane->taken = lane->put;
    lane->pool = pool;
    lane->frames_left = frames_left;
    lane->frames_each = (lane->packet_bytes + pool->own->frame_bytes - 1) / pool->own->frame_bytes;
}

void un_lane_close(struct un_lane *lane)
{
    for (; lane->taken != lane->put; lane->taken++)
        un_pool_drop_chain(lane->pool, un_lane_at(lane, lane->taken)->rx.frame);
    free(lane->packets);
    lane->packets = NULL;
}

uint32_t un_lane_room(const struct un_lane *lane, uint32_t count)
{
    uint32_t room = lane->size - un_lane_used(lane);
    if (count > room)
        count = room;
    if (!lane->pool)
        return count;
    uint32_t free_count = lane->pool->own->free_count;
    if ((uint64_t)count * lane->frames_each + lane->frames_left <= free_count)
        return count;
    if (free_count <= lane->frames_left)
        return 0;
    /* One is always let through: it may be small, and in a pool that is too small for the largest it has to be. */
    uint32_t fit = (free_count - lane->frames_left) / lane->frames_each;
    if (fit == 0)
        fit = 1;
    return count < fit ? count : fit;
}

/* Where the gathered bytes go: a chain that grows frame by frame. */
struct chain {
    struct un_pool *pool;
    uint32_t last;
    uint32_t used; /* bytes of the last frame */
};

static void chain_grow(struct chain *chain)
{
    uint32_t frame = un_pool_take(chain->pool);
    un_assert(frame != UN_NONE); /* gather has counted them */
    chain->pool->frames[chain->last].length = (uint16_t)chain->used;
    chain->pool->frames[chain->last].next = frame;
    chain->last = frame;
    chain->used = 0;
}

static void chain_append(struct chain *chain, const uint8_t *bytes, uint32_t length)
{
    uint32_t frame_bytes = chain->pool->own->frame_bytes;
    while (length > 0) {
        if (chain->used == frame_bytes)
            chain_grow(chain);
        uint32_t step = frame_bytes - chain->used < length ? frame_bytes - chain->used : length;
        memcpy(un_pool_bytes(chain->pool, chain->last) + chain->used, bytes, step);
        chain->used += step;
        bytes += step;
        length -= step;
    }
}

/* Not inlined: most packets fit into a frame, and need not save the registers that this takes. */
static __attribute__((noinline)) uint32_t gather_chain(struct un_pool *pool, const struct un_tx *packet)
{
    uint32_t frame_bytes = pool->own->frame_bytes;
    if (pool->own->free_count < (packet->length + frame_bytes - 1) / frame_bytes)
        return UN_NONE;
    uint32_t head = un_pool_take(pool);
    struct chain chain = {.pool = pool, .last = head};
    for (uint32_t i = 0; i < packet->count; i++)
        chain_append(&chain, packet->pieces[i].bytes, packet->pieces[i].length);
    pool->frames[chain.last].length = (uint16_t)chain.used;
    return head;
}

/* Headers, and one piece of payload: what most packets are. */
static inline bool is_simple(const struct un_tx *packet)
{
    uint32_t headers = packet->pieces[0].length;
    return packet->count == 2 && headers <= packet->length && packet->pieces[1].length == packet->length - headers;
}

static inline void copy(uint8_t *at, const struct un_tx *packet)
{
    const struct un_piece *piece = packet->pieces;
    if (__builtin_expect(is_simple(packet), 1)) {
        memcpy(at, piece[0].bytes, piece[0].length);
        memcpy(at + piece[0].length, piece[1].bytes, piece[1].length);
        return;
    }
    const uint8_t *end = at + packet->length;
    for (uint16_t i = 0; i < packet->count; at += piece[i++].length) {
        un_assert(piece[i].length <= (size_t)(end - at));
        memcpy(at, piece[i].bytes, piece[i].length);
    }
    un_assert(at == end);
}

static inline uint32_t gather(struct un_pool *pool, const struct un_tx *packet)
{
    if (__builtin_expect(packet->length > pool->own->frame_bytes, 0))
        return gather_chain(pool, packet);
    uint32_t frame = un_pool_take(pool);
    if (frame == UN_NONE)
        return UN_NONE;
    copy(un_pool_bytes(pool, frame), packet);
    pool->frames[frame].length = (uint16_t)packet->length;
    return frame;
}

bool un_lane_put(struct un_lane *lane, const struct un_tx *packet, uint16_t rx_flags, uint16_t segment_bytes)
{
    if (un_lane_used(lane) == lane->size || !lane->pool)
        return false;
    uint32_t frame = gather(lane->pool, packet);
    if (frame == UN_NONE)
        return false;
    *un_lane_at(lane, lane->put++) = (struct un_lane_packet){
        .rx = {.frame = frame, .length = packet->length, .flags = rx_flags, .segment_bytes = segment_bytes},
        .tx_flags = packet->flags,
        .header_length = packet->header_length,
        .checksum_start = packet->checksum_start,
        .checksum_offset = packet->checksum_offset,
    };
    return true;
}
