/* See fixture.h. */
#include "fixture.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "../check.h"

#define PACKET_MAX 70000u
#define ETHERNET_BYTES 14u
#define RECEIVE_MS 10000 /* only a failure waits so long */

struct un_pool fixture_pool(uint32_t frames, uint32_t frame_bytes)
{
    struct un_pool pool = {
        .own = calloc(1, sizeof *pool.own),
        .frames = calloc(frames, sizeof *pool.frames),
        .bytes = malloc((size_t)frames * frame_bytes),
    };
    CHECK(pool.own && pool.frames && pool.bytes);
    un_pool_format(&pool, frames, frame_bytes);
    return pool;
}

struct un_pool fixture_pool_of(const struct un_device *device)
{
    const struct un_device_frames *own = &device->own_frames;
    struct un_pool pool = {
        .own = calloc(1, sizeof *pool.own),
        .frames = calloc(own->count, sizeof *pool.frames),
        .bytes = own->bytes,
    };
    CHECK(pool.own && pool.frames && pool.bytes);
    un_pool_format(&pool, own->count, own->frame_bytes);
    un_device_hold(device, &pool);
    un_pool_rebuild(&pool);
    return pool;
}

void fixture_pool_free(struct un_pool *pool)
{
    free(pool->own);
    free(pool->frames);
    free(pool->bytes);
}

void fixture_packet(uint8_t *bytes, uint32_t length, uint32_t number)
{
    static const uint8_t head[ETHERNET_BYTES] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5};
    uint64_t state = number + UINT64_C(0x9e3779b97f4a7c15);
    CHECK(length >= ETHERNET_BYTES);
    memcpy(bytes, head, ETHERNET_BYTES);
    for (uint32_t i = ETHERNET_BYTES; i < length; i++)
        bytes[i] = (uint8_t)random_next(&state);
}

bool fixture_packet_is(const uint8_t *bytes, uint32_t length, uint32_t number)
{
    static uint8_t expected[PACKET_MAX];
    fixture_packet(expected, length, number);
    return memcmp(bytes, expected, length) == 0;
}

void fixture_copy(const struct un_pool *pool, const struct un_rx *packet, uint8_t *bytes)
{
    uint32_t length = 0;
    for (uint32_t at = packet->frame; at != UN_NONE; at = pool->frames[at].next) {
        const struct un_frame *frame = &pool->frames[at];
        CHECK_EQ(frame->references, 1);
        CHECK(frame->offset + frame->length <= pool->own->frame_bytes);
        CHECK(frame->length > 0);
        CHECK(length + frame->length <= PACKET_MAX);
        memcpy(bytes + length, un_pool_bytes(pool, at) + frame->offset, frame->length);
        length += frame->length;
    }
    CHECK_EQ(length, packet->length);
}

static struct un_tx tx_of(struct un_piece pieces[2], const uint8_t *bytes, uint32_t length)
{
    uint32_t head = length < 54 ? length : 54;
    pieces[0] = (struct un_piece){.bytes = bytes, .length = head, .frame = UN_NONE};
    pieces[1] = (struct un_piece){.bytes = bytes + head, .length = length - head, .frame = UN_NONE};
    return (struct un_tx){
        .pieces = pieces, .count = length > head ? 2 : 1, .length = length, .header_length = (uint16_t)head};
}

void fixture_submit(struct un_device *device, const uint8_t *bytes, uint32_t length)
{
    struct un_piece pieces[2];
    struct un_tx packet = tx_of(pieces, bytes, length);
    device->operations->submit(device, &packet, 1);
}

bool fixture_wait(struct un_device *device, int timeout_ms)
{
    if (!device->operations->sleep(device))
        return true;
    struct pollfd events = {.fd = device->fd, .events = POLLIN};
    return device->fd >= 0 && poll(&events, 1, timeout_ms) > 0;
}

uint32_t fixture_receive(struct fixture_link *link, uint8_t *bytes, struct un_rx *packet)
{
    const struct un_device_operations *verbs = link->device->operations;
    struct un_rx own;
    packet = packet ? packet : &own;
    while (verbs->peek(link->device, packet, 1) == 0)
        if (!fixture_wait(link->device, RECEIVE_MS))
            return 0;
    verbs->release(link->device, 1);
    fixture_copy(link->pool, packet, bytes);
    un_pool_drop_chain(link->pool, packet->frame);
    return packet->length;
}
