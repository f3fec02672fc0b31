/* An AF_XDP queue whose process is killed after each instruction that stores: the next one finds out which frames the
 * kernel has, gives none of them out again, and loses none.
 *
 * The kernel is played here. It takes frames from `fill` and packets from `tx`, keeps some for a while, and gives them
 * back; it never acts while a process is stepped. All of it is done with packets of one frame, and of two each way. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "../check.h"
#include "../step.h"
#include "device/afxdp_rings.h"
#include "device/device.h"

enum { FRAMES = 64, FRAME_BYTES = 256, SLOTS = 32, KEPT_MAX = 32, WANTED = FRAMES / 4 };

/* Of a kind of packets: how large they may be, how large those are that are sent, and how many frames they take. */
static const struct packets {
    uint16_t mtu, sent_bytes, metadata_bytes, frames, frames_max;
} small = {200, 100, 0, 1, 1}, large = {600, 400, 24, 2, 3}, *packets = &small;

struct shared_ring {
    un_shared32 producer, consumer, flags;
    union {
        uint64_t addresses[SLOTS];
        struct xdp_desc packets[SLOTS];
    };
};

/* What the kernel took from a ring and has not given back. */
struct kept {
    uint32_t count;
    uint32_t frames[KEPT_MAX];
};

/* `notes` are those of `memory`. */
static struct world {
    struct un_pool_memory pool;
    struct un_frame frames[FRAMES];
    struct shared_ring fill, completion, rx, tx;
    struct kept to_fill, to_complete;
    struct un_afxdp_memory memory;
    uint8_t notes[FRAMES];
} *world;
static uint8_t bytes[FRAMES * FRAME_BYTES];
static struct un_pool pool;
static struct un_device *device;

/* ---- processes ---- */

static struct un_afxdp_ring view(struct shared_ring *ring)
{
    return (struct un_afxdp_ring){.producer = &ring->producer, .consumer = &ring->consumer, .flags = &ring->flags,
                                  .slots = ring->addresses, .mask = SLOTS - 1};
}

static void make_world(void)
{
    memset(world, 0, sizeof *world);
    world->memory = (struct un_afxdp_memory){
        .magic = UN_AFXDP_MAGIC, .frame_count = FRAMES, .frame_bytes = FRAME_BYTES, .fill_slots = SLOTS,
        .completion_slots = SLOTS, .rx_slots = SLOTS, .tx_slots = SLOTS, .mtu = packets->mtu,
        .metadata_bytes = packets->metadata_bytes,
    };
    pool = (struct un_pool){.own = &world->pool, .frames = world->frames, .bytes = bytes};
    un_pool_format(&pool, FRAMES, FRAME_BYTES);
}

/* As a stack that is adopted, and has no frames of its own. */
static void hold(void)
{
    const struct un_afxdp_rings rings = {view(&world->fill), view(&world->completion), view(&world->rx),
                                         view(&world->tx)};
    free(device); /* of the process before, with all its memory */
    device = un_afxdp_over(&rings, &world->memory, -1);
    CHECK(device != NULL);
    for (uint32_t frame = 0; frame < FRAMES; frame++)
        world->frames[frame].references = 0;
    un_device_hold(device, &pool);
    un_pool_rebuild(&pool);
}

static void take_over(void)
{
    hold();
    un_device_attach(device, &pool);
}

static void receive(uint32_t most)
{
    struct un_rx received[SLOTS];
    uint32_t count = device->operations->peek(device, received, most);
    device->operations->release(device, count);
    for (uint32_t i = 0; i < count; i++)
        un_pool_drop_chain(&pool, received[i].frame);
}

static void send(uint32_t count)
{
    static const uint8_t data[400];
    const struct un_piece piece = {data, packets->sent_bytes, UN_NONE};
    const uint16_t flags = packets->metadata_bytes ? UN_TX_CHECKSUM : 0;
    struct un_tx sent[SLOTS];
    for (uint32_t i = 0; i < count; i++)
        sent[i] = (struct un_tx){.pieces = &piece, .count = 1, .length = piece.length, .flags = flags};
    CHECK_EQ(device->operations->reserve(device, count), count);
    device->operations->submit(device, sent, count);
}

/* ---- the kernel ---- */

static uint32_t frame_of(uint64_t address)
{
    return (uint32_t)(address / FRAME_BYTES);
}

static void kernel_takes(struct shared_ring *ring, struct kept *kept, uint32_t count)
{
    for (; count > 0; count--) {
        bool is_tx = ring == &world->tx;
        uint32_t at = ring->consumer % SLOTS;
        CHECK(ring->consumer != ring->producer && kept->count < KEPT_MAX);
        kept->frames[kept->count++] = frame_of(is_tx ? ring->packets[at].addr : ring->addresses[at]);
        ring->consumer++;
    }
}

static uint32_t continues(const struct shared_ring *ring)
{
    return (ring->producer + 1) % packets->frames ? UN_AFXDP_PACKET_CONTINUES : 0;
}

/* The last first: the kernel promises no order. A packet ends where the place behind it is a multiple of its frames. */
static void kernel_gives(struct shared_ring *ring, struct kept *kept, uint32_t count)
{
    for (; count > 0; count--) {
        uint32_t at = ring->producer % SLOTS;
        CHECK(kept->count > 0);
        uint64_t address = (uint64_t)kept->frames[--kept->count] * FRAME_BYTES;
        if (ring == &world->rx)
            ring->packets[at] = (struct xdp_desc){.addr = address + 64, .len = 60, .options = continues(ring)};
        else
            ring->addresses[at] = address;
        ring->producer++;
    }
}

/* ---- what has to hold ---- */

static uint32_t found;
static bool is_kernels[FRAMES];

static void find(uint32_t frame)
{
    CHECK(frame < FRAMES);
    CHECK(!is_kernels[frame]); /* no frame is in two places */
    is_kernels[frame] = true;
    found++;
}

static void find_in(const struct shared_ring *ring, bool has_packets)
{
    for (uint32_t at = ring->consumer; at != ring->producer; at++)
        find(frame_of(has_packets ? ring->packets[at % SLOTS].addr : ring->addresses[at % SLOTS]));
}

/* The kernel never sees the beginning of a packet alone. */
static void check_whole(const struct shared_ring *tx)
{
    for (uint32_t at = 0; at != tx->producer; at++)
        CHECK_EQ(tx->packets[at % SLOTS].options & UN_AFXDP_PACKET_CONTINUES,
                 (at + 1) % packets->frames ? UN_AFXDP_PACKET_CONTINUES : 0);
}

static void check_frames(void)
{
    found = 0;
    memset(is_kernels, 0, sizeof is_kernels);
    check_whole(&world->tx);
    find_in(&world->fill, false);
    find_in(&world->completion, false);
    find_in(&world->rx, true);
    find_in(&world->tx, true);
    for (uint32_t i = 0; i < world->to_fill.count; i++)
        find(world->to_fill.frames[i]);
    for (uint32_t i = 0; i < world->to_complete.count; i++)
        find(world->to_complete.frames[i]);
    for (uint32_t frame = 0; frame < FRAMES; frame++)
        CHECK_EQ(world->frames[frame].references, is_kernels[frame]);
    CHECK_EQ(pool.own->free_count, FRAMES - found);
}

/* Everything that the kernel has comes back, and is free in the end but for what waits to be filled. */
static void check_the_end(void)
{
    kernel_takes(&world->tx, &world->to_complete, world->tx.producer - world->tx.consumer);
    kernel_gives(&world->completion, &world->to_complete, world->to_complete.count);
    uint32_t room = device->operations->reserve(device, SLOTS);
    CHECK_EQ(room, (pool.own->free_count < SLOTS ? pool.own->free_count : SLOTS) / packets->frames_max);
    CHECK_EQ(world->completion.producer, world->completion.consumer);
    kernel_gives(&world->rx, &world->to_fill, world->to_fill.count);
    receive(SLOTS);
    check_frames();
    CHECK_EQ(found, world->fill.producer - world->fill.consumer);
    CHECK(found > WANTED / 2); /* it goes on receiving */
}

static void check(void)
{
    hold();
    check_frames();
    un_device_attach(device, &pool);
    check_frames();
    send(2);
    check_frames();
    hold(); /* and the one after it */
    check_frames();
    un_device_attach(device, &pool);
    check_the_end();
}

static uint32_t looks;

static void look(void)
{
    looks++;
    step_judge(check);
}

/* ---- what processes do ---- */

/* Frames in every place: in all rings, and kept by the kernel. */
static void prepare(void)
{
    make_world();
    take_over();
    kernel_takes(&world->fill, &world->to_fill, 12);
    kernel_gives(&world->rx, &world->to_fill, 9);
    send(6);
    kernel_takes(&world->tx, &world->to_complete, 4);
    kernel_gives(&world->completion, &world->to_complete, 2);
}

static void begin(void)
{
    take_over();
}

static void take_three(void)
{
    receive(3);
}

static void take_all(void)
{
    receive(SLOTS); /* and more frames are given to the kernel */
}

static void send_three(void)
{
    send(3); /* and what was sent is taken back */
}

static void flush(void)
{
    device->operations->flush(device);
}

static void killed_while(void (*act)(void))
{
    static const struct packets *const kinds[] = {&small, &large};
    for (uint32_t i = 0; i < 2; i++) {
        packets = kinds[i];
        prepare();
        looks = 0;
        step_through(act, look);
        CHECK(looks > 0);
    }
}

static void killed_while_it_begins_first(void)
{
    make_world();
    looks = 0;
    step_through(begin, look);
    CHECK(looks > 16);
}

static void killed_while_it_takes_over(void)
{
    killed_while(begin);
}

static void killed_while_it_receives(void)
{
    killed_while(take_three);
    killed_while(take_all);
}

static void killed_while_it_sends(void)
{
    killed_while(send_three);
}

static void killed_while_it_flushes(void)
{
    killed_while(flush);
}

int main(void)
{
    world = mmap(NULL, sizeof *world, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(world != MAP_FAILED);
    CHECK(world->notes == world->memory.notes);
    step_watch(world, sizeof *world);
    RUN(killed_while_it_begins_first);
    RUN(killed_while_it_takes_over);
    RUN(killed_while_it_receives);
    RUN(killed_while_it_sends);
    RUN(killed_while_it_flushes);
    return 0;
}
