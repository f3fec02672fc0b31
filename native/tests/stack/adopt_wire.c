/* The wire of adopt_world.h, and the card at one end of it. */
#include <string.h>

#include "adopt_world.h"

/* ---- the wire ---- */

static struct wire_device *device_of(struct un_device *device)
{
    return (struct wire_device *)device;
}

static uint32_t wire_reserve(struct un_device *device, uint32_t count)
{
    const struct wire *out = device_of(device)->out;
    uint32_t room = WIRE_SLOTS - (out->put - out->taken);
    return count < room ? count : room;
}

/* On its way with the last store. */
static void put_packet(struct wire *out, const struct un_tx *packet)
{
    uint8_t *at = out->packets[out->put % WIRE_SLOTS].bytes;
    CHECK(packet->length <= WIRE_PACKET_MAX);
    for (uint32_t i = 0; i < packet->count; i++) {
        memcpy(at, packet->pieces[i].bytes, packet->pieces[i].length);
        at += packet->pieces[i].length;
    }
    out->packets[out->put % WIRE_SLOTS].length = packet->length;
    un_compiler_fence();
    out->put++;
}

static void wire_submit(struct un_device *device, const struct un_tx *packets, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        put_packet(device_of(device)->out, &packets[i]);
}

static void wire_flush(struct un_device *device)
{
    (void)device;
}

static uint32_t rx_packet(struct un_pool *pool, const uint8_t *bytes, uint32_t length)
{
    uint32_t head = UN_NONE, *link = &head;
    while (length > 0) {
        uint32_t frame = un_pool_take(pool);
        CHECK(frame != UN_NONE);
        uint32_t part = length < pool->own->frame_bytes ? length : pool->own->frame_bytes;
        memcpy(un_pool_bytes(pool, frame), bytes, part);
        pool->frames[frame].length = (uint16_t)part;
        *link = frame;
        link = &pool->frames[frame].next;
        bytes += part;
        length -= part;
    }
    return head;
}

static uint32_t wire_peek(struct un_device *device, struct un_rx *packets, uint32_t most)
{
    struct wire *in = device_of(device)->in;
    uint32_t count = 0;
    for (uint32_t at = in->taken; at != in->put && count < most; at++, count++) {
        uint32_t length = in->packets[at % WIRE_SLOTS].length;
        packets[count] = (struct un_rx){
            .frame = rx_packet(device->pool, in->packets[at % WIRE_SLOTS].bytes, length), .length = length};
    }
    return count;
}

static void wire_release(struct un_device *device, uint32_t count)
{
    device_of(device)->in->taken += count;
}

static bool wire_sleep(struct un_device *device)
{
    return device_of(device)->in->put == device_of(device)->in->taken;
}

static void wire_attach(struct un_device *device, struct un_pool *pool)
{
    (void)device;
    (void)pool;
}

const struct un_device_operations world_wire_operations = {
    .name = "wire", .attach = wire_attach, .reserve = wire_reserve, .submit = wire_submit, .flush = wire_flush,
    .peek = wire_peek, .release = wire_release, .sleep = wire_sleep,
};

/* ---- the card ---- */

static bool from_wire(void *context, const uint8_t **bytes, uint32_t *length)
{
    struct wire *in = world.it.wire.in;
    (void)context;
    if (in->taken == in->put)
        return false;
    *bytes = in->packets[in->taken % WIRE_SLOTS].bytes;
    *length = in->packets[in->taken % WIRE_SLOTS].length;
    in->taken++;
    return true;
}

static bool to_wire(void *context, const uint8_t *bytes, uint32_t length)
{
    (void)context;
    struct un_piece piece = {bytes, length, UN_NONE};
    struct un_tx packet = {.pieces = &piece, .count = 1, .length = length};
    if (wire_reserve(&world.it.wire.device, 1) == 0)
        return false;
    put_packet(world.it.wire.out, &packet);
    return true;
}

void world_card(void)
{
    struct card_work work = {
        .frames = world.it.stack.tcp.pool.bytes,
        .frame_bytes = world.it.stack.config->frame_bytes,
        .next = from_wire,
        .transmit = to_wire,
    };
    if (world.over_card)
        card_run(world.card.memory, &work);
}

uint32_t world_card_frames(void)
{
    return world.over_card ? card_check(world.card.memory, &world.it.stack.tcp.pool) : 0;
}

void world_inject(const uint8_t *packet, uint32_t length)
{
    struct un_piece piece = {packet, length, UN_NONE};
    struct un_tx tx = {.pieces = &piece, .count = 1, .length = length};
    CHECK(wire_reserve(&world.peer.wire.device, 1) == 1);
    put_packet(world.it.wire.in, &tx);
}

void lose(struct wire *wire, uint32_t packets)
{
    CHECK(packets <= wire->put - wire->taken);
    wire->taken += packets;
}
