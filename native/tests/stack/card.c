/* See card.h. */
#include "card.h"

#include <string.h>

#include "../check.h"
#include "base/barrier.h"

enum { PACKET_MAX = 2048 };

static struct card_memory *memory_of(const struct un_device *device)
{
    return ((const struct card_device *)device)->memory;
}

static uint32_t used(const struct card_ring *ring)
{
    return ring->put - ring->taken;
}

static struct card_piece *slot(struct card_ring *ring, uint32_t index)
{
    return &ring->at[index % CARD_SLOTS];
}

/* It is the other side's with the last store. */
static void put(struct card_ring *ring, struct card_piece piece)
{
    *slot(ring, ring->put) = piece;
    un_compiler_fence();
    ring->put++;
}

/* ---- the process ---- */

/* Half of the slots at most, so that frames which the card keeps find room as well. */
static void refill(struct un_device *device)
{
    struct card_memory *memory = memory_of(device);
    while (used(&memory->fill) < CARD_SLOTS / 2 && !un_pool_is_scarce(device->pool)) {
        uint32_t frame = un_pool_take(device->pool);
        memory->given[frame] = memory->fill.put + 1;
        un_compiler_fence();
        put(&memory->fill, (struct card_piece){.frame = frame});
    }
}

static void reap(struct un_device *device)
{
    struct card_memory *memory = memory_of(device);
    while (memory->reaped != memory->sent) {
        uint32_t frame = slot(&memory->send, memory->reaped)->frame;
        memory->reaped++;
        un_compiler_fence();
        un_pool_drop(device->pool, frame);
    }
}

/* Is this frame the card's, by our notes: given to it before `fill` ended where it ends now? */
static bool is_given(const struct card_memory *memory, uint32_t frame)
{
    uint32_t given = memory->given[frame];
    return given != 0 && (int32_t)(given - 1 - memory->fill.put) < 0;
}

/* A note of a frame that was not put into the ring any more must be gone before the ring goes on. */
static void card_attach(struct un_device *device, struct un_pool *pool)
{
    struct card_memory *memory = memory_of(device);
    for (uint32_t frame = 0; frame < pool->own->count; frame++)
        if (!is_given(memory, frame))
            memory->given[frame] = 0;
    un_compiler_fence();
    refill(device);
}

static bool has_come(const struct card_memory *memory, uint32_t frame)
{
    for (uint32_t i = memory->came.taken; i != memory->came.put; i++)
        if (memory->came.at[i % CARD_SLOTS].frame == frame)
            return true;
    return false;
}

static void card_held(const struct un_device *device, struct un_pool *pool)
{
    const struct card_memory *memory = memory_of(device);
    for (uint32_t frame = 0; frame < pool->own->count; frame++)
        if (is_given(memory, frame) || has_come(memory, frame))
            CHECK(un_pool_hold(pool, frame));
    for (uint32_t i = memory->reaped; i != memory->send.put; i++)
        CHECK(un_pool_hold(pool, memory->send.at[i % CARD_SLOTS].frame));
}

static uint32_t card_reserve(struct un_device *device, uint32_t count)
{
    struct card_memory *memory = memory_of(device);
    reap(device);
    uint32_t room = (CARD_SLOTS - (memory->send.put - memory->reaped)) / 8; /* pieces of a packet of the MTU */
    return count < room ? count : room;
}

/* Bytes that are only lent go into a frame of the device's. All pieces are the card's with one store. */
static void send_one(struct un_device *device, const struct un_tx *packet)
{
    struct card_memory *memory = memory_of(device);
    struct un_pool *pool = device->pool;
    uint32_t end = memory->send.put;
    for (uint32_t i = 0; i < packet->count; i++) {
        const struct un_piece *piece = &packet->pieces[i];
        uint32_t frame = piece->frame;
        uint8_t *own;
        if (un_pool_is_lent(pool, frame)) { /* or none */
            frame = un_pool_take(pool);
            CHECK(frame != UN_NONE && piece->length <= pool->own->frame_bytes);
            own = memcpy(un_pool_bytes(pool, frame), piece->bytes, piece->length);
        } else {
            un_pool_keep(pool, frame);
            own = un_pool_bytes(pool, frame) + (piece->bytes - un_pool_bytes(pool, frame));
        }
        *slot(&memory->send, end++) = (struct card_piece){
            .frame = frame,
            .offset = (uint16_t)(own - un_pool_bytes(pool, frame)),
            .length = (uint16_t)piece->length,
            .more = i + 1 < packet->count,
        };
    }
    un_compiler_fence();
    memory->send.put = end;
}

static void card_submit(struct un_device *device, const struct un_tx *packets, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        send_one(device, &packets[i]);
}

static void card_flush(struct un_device *device)
{
    refill(device);
}

static uint32_t card_peek(struct un_device *device, struct un_rx *packets, uint32_t most)
{
    struct card_memory *memory = memory_of(device);
    uint32_t count = 0;
    for (uint32_t at = memory->came.taken; at != memory->came.put && count < most; count++) {
        struct un_rx *packet = &packets[count];
        uint32_t *link = &packet->frame;
        bool more = true;
        for (*packet = (struct un_rx){.length = 0}; more; at++) {
            const struct card_piece *piece = slot(&memory->came, at);
            struct un_frame *record = &device->pool->frames[piece->frame];
            record->offset = piece->offset;
            record->length = piece->length;
            record->next = UN_NONE;
            *link = piece->frame;
            link = &record->next;
            packet->length += piece->length;
            more = piece->more;
        }
    }
    return count;
}

/* The note goes first: until the piece is taken, the ring says that the frame is held. */
static void card_release(struct un_device *device, uint32_t count)
{
    struct card_memory *memory = memory_of(device);
    uint32_t end = memory->came.taken;
    while (count > 0) {
        const struct card_piece *piece = slot(&memory->came, end++);
        memory->given[piece->frame] = 0;
        count -= !piece->more;
    }
    un_compiler_fence();
    memory->came.taken = end;
}

static bool card_sleep(struct un_device *device)
{
    return used(&memory_of(device)->came) == 0;
}

static const struct un_device_operations card_operations = {
    .name = "card", .attach = card_attach, .held = card_held, .reserve = card_reserve, .submit = card_submit,
    .flush = card_flush, .peek = card_peek, .release = card_release, .sleep = card_sleep,
};

void card_open(struct card_device *device, struct card_memory *memory,
               const struct un_device_capabilities *capabilities)
{
    *device = (struct card_device){
        .device = {.operations = &card_operations, .fd = -1, .capabilities = *capabilities}, .memory = memory};
}

/* ---- the card ---- */

static uint8_t *bytes_of(const struct card_work *work, uint32_t frame)
{
    return work->frames + (size_t)frame * work->frame_bytes;
}

static void scribble(struct card_memory *memory, const struct card_work *work)
{
    for (uint32_t i = memory->fill.taken; i != memory->fill.put; i++)
        memset(bytes_of(work, slot(&memory->fill, i)->frame), 0xa5, work->frame_bytes);
    for (uint32_t i = 0; i < memory->keep_count; i++)
        memset(bytes_of(work, memory->keep[i]), 0x5a, work->frame_bytes);
}

static uint32_t next_frame(struct card_memory *memory)
{
    CHECK(used(&memory->fill) > 0);
    return slot(&memory->fill, memory->fill.taken++)->frame;
}

/* A frame that it kept for a while, in the place of one that it keeps from now on. */
static uint32_t frame_to_fill(struct card_memory *memory)
{
    while (memory->keep_count < CARD_KEEPS)
        memory->keep[memory->keep_count++] = next_frame(memory);
    uint32_t *kept = &memory->keep[memory->came.put % CARD_KEEPS], frame = *kept;
    *kept = next_frame(memory);
    return frame;
}

static void fill_frames(struct card_memory *memory, const struct card_work *work, const uint8_t *bytes,
                        uint32_t length)
{
    while (length > 0) {
        uint32_t part = length < work->frame_bytes ? length : work->frame_bytes, frame = frame_to_fill(memory);
        memcpy(bytes_of(work, frame), bytes, part);
        CHECK(used(&memory->came) < CARD_SLOTS);
        put(&memory->came, (struct card_piece){.frame = frame, .length = (uint16_t)part, .more = part < length});
        bytes += part;
        length -= part;
    }
}

static uint32_t gather(struct card_memory *memory, const struct card_work *work, uint8_t *bytes, uint32_t *end)
{
    uint32_t length = 0;
    for (bool more = true; more;) {
        const struct card_piece *piece = slot(&memory->send, (*end)++);
        CHECK(length + piece->length <= PACKET_MAX);
        memcpy(bytes + length, bytes_of(work, piece->frame) + piece->offset, piece->length);
        length += piece->length;
        more = piece->more;
    }
    return length;
}

void card_run(struct card_memory *memory, const struct card_work *work)
{
    const uint8_t *came;
    uint8_t bytes[PACKET_MAX];
    uint32_t length;
    scribble(memory, work);
    while (used(&memory->fill) >= 8 && work->next(work->context, &came, &length))
        fill_frames(memory, work, came, length);
    while (used(&memory->send) > 0) {
        uint32_t end = memory->send.taken;
        length = gather(memory, work, bytes, &end);
        if (!work->transmit(work->context, bytes, length))
            break;
        memory->send.taken = memory->sent = end;
    }
}

/* ---- what has to hold ---- */

struct count {
    const struct un_pool *pool;
    uint32_t frames;
    bool is_counted[CARD_FRAMES_MAX];
};

static void count_frame(struct count *count, uint32_t frame)
{
    CHECK(frame < count->pool->own->count);
    CHECK(count->pool->frames[frame].references > 0);
    count->frames += !count->is_counted[frame];
    count->is_counted[frame] = true;
}

static void count_ring(struct count *count, const struct card_ring *ring, uint32_t from)
{
    for (uint32_t i = from; i != ring->put; i++)
        count_frame(count, ring->at[i % CARD_SLOTS].frame);
}

uint32_t card_check(const struct card_memory *memory, const struct un_pool *pool)
{
    struct count count = {.pool = pool};
    count_ring(&count, &memory->fill, memory->fill.taken);
    count_ring(&count, &memory->came, memory->came.taken);
    count_ring(&count, &memory->send, memory->reaped);
    for (uint32_t i = 0; i < memory->keep_count; i++)
        count_frame(&count, memory->keep[i]);
    for (uint32_t at = pool->own->free_head; at != UN_NONE; at = pool->frames[at].next)
        CHECK(!count.is_counted[at]);
    return count.frames;
}
