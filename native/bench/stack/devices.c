/* See devices.h. What is counted are the verbs of a device: to send, reserve, submit and flush; to receive, peek and
 * release. Frames go back to the pool elsewhere. A packet to send is in two pieces, as most of a stack's are.
 *
 * memory has two ends in one process. What is sent lies in frames of the other end already, so the copy counts as
 * sending. netmap copies in both directions, or exchanges buffers with the ring to receive. Its module is played by
 * memory and a system call of the same name, which moves the places in the rings and nothing else. */
#include "devices.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/assert.h"
#include "device/device.h"
#include "device/netmap_rings.h"

enum { BATCH = 64, ROUNDS = 100, BYTES = 2048, HEADERS = 54, SLOTS = 1024, EXTRA = 1024, FRAMES = SLOTS + EXTRA,
       PLAYED_FD = 1000 };

static const struct un_device_capabilities capabilities = {.mac = {2, 0, 0, 0, 0, 1}, .mtu = 1500, .queues = 1};

/* ---- frames ---- */

struct frames {
    struct un_pool_memory own;
    struct un_frame records[FRAMES];
    uint8_t bytes[FRAMES][BYTES];
    struct un_pool pool;
};

static struct frames frames;

static void attach(struct un_device *device)
{
    uint8_t *own = device->own_frames.bytes;
    frames.pool = (struct un_pool){.own = &frames.own, .frames = frames.records, .bytes = own ? own : frames.bytes[0]};
    un_assert(device->own_frames.count <= FRAMES);
    un_pool_format(&frames.pool, FRAMES, BYTES);
    un_device_hold(device, &frames.pool);
    un_pool_rebuild(&frames.pool);
    un_device_attach(device, &frames.pool);
}

/* ---- netmap's module ---- */

struct played_ring {
    struct un_netmap_ring ring;
    struct un_netmap_slot slots[SLOTS];
};

static struct played {
    struct un_netmap_if port;
    int64_t rings[4]; /* to send, two of the host's and one to receive, of which the host has none */
    struct played_ring tx, rx;
    _Alignas(4096) uint8_t buffers[2 * SLOTS + EXTRA][BYTES]; /* of either ring, and of none */
} *played;

static void play_ring(struct played_ring *ring, uint32_t first_buffer)
{
    ring->ring = (struct un_netmap_ring){
        .buffers = played->buffers[0] - (uint8_t *)ring,
        .slot_count = SLOTS,
        .buffer_bytes = BYTES,
    };
    for (uint32_t i = 0; i < SLOTS; i++)
        ring->slots[i].buffer = first_buffer + i;
}

static void play(uint32_t bytes)
{
    played = mmap(NULL, sizeof *played, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    un_assert(played != MAP_FAILED);
    played->port = (struct un_netmap_if){.tx_rings = 1, .rx_rings = 1};
    played->rings[0] = (uint8_t *)&played->tx - (uint8_t *)played;
    played->rings[1] = (uint8_t *)&played->rx - (uint8_t *)played;
    play_ring(&played->tx, 0);
    play_ring(&played->rx, SLOTS);
    played->tx.ring.tail = SLOTS - 1;
    for (uint32_t i = 0; i < SLOTS; i++)
        played->rx.slots[i].length = (uint16_t)bytes;
}

static void give_extra(void)
{
    played->port.extra_buffers = 2 * SLOTS;
    for (uint32_t i = 2 * SLOTS, next; i < 2 * SLOTS + EXTRA; i++) {
        next = i + 1;
        memcpy(played->buffers[i], &next, sizeof next);
    }
}

/* To our station, all of them. */
static void address_all(void)
{
    for (uint32_t i = SLOTS; i < 2 * SLOTS + EXTRA; i++)
        memcpy(played->buffers[i], capabilities.mac, sizeof capabilities.mac);
}

/* All that is to be sent is sent; a batch of packets has come. */
int ioctl(int fd, unsigned long request, ...)
{
    un_assert(fd == PLAYED_FD);
    if (request == UN_NETMAP_SYNC_TX)
        played->tx.ring.tail = (played->tx.ring.head + SLOTS - 1) % SLOTS;
    else
        played->rx.ring.tail = (played->rx.ring.head + BATCH) % SLOTS;
    return 0;
}

/* ---- what is measured ---- */

static __attribute__((noinline)) void measured_send_usnet(struct un_device *device, const struct un_tx *packets)
{
    un_assert(device->operations->reserve(device, BATCH) == BATCH);
    device->operations->submit(device, packets, BATCH);
    device->operations->flush(device);
}

static __attribute__((noinline)) void measured_receive_usnet(struct un_device *device, struct un_rx *packets)
{
    un_assert(device->operations->peek(device, packets, BATCH) == BATCH);
    device->operations->release(device, BATCH);
}

static double now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* One end sends, the other one receives; netmap's is both. */
static struct device_cost measure(struct un_device *from, struct un_device *to, uint32_t bytes)
{
    static const uint8_t headers[HEADERS], payload[BYTES];
    const struct un_piece pieces[] = {{headers, HEADERS, UN_NONE}, {payload, bytes - HEADERS, UN_NONE}};
    struct device_cost cost = {0};
    struct un_rx received[BATCH];
    struct un_tx sent[BATCH];
    un_assert(bytes > HEADERS && bytes <= (uint32_t)capabilities.mtu + UN_ETHERNET_BYTES);
    for (uint32_t i = 0; i < BATCH; i++)
        sent[i] = (struct un_tx){.pieces = pieces, .count = 2, .length = bytes};
    for (uint32_t round = 0; round < ROUNDS; round++) {
        double began = now_ns();
        measured_send_usnet(from, sent);
        double between = now_ns();
        measured_receive_usnet(to, received);
        cost.received += now_ns() - between;
        cost.sent += between - began;
        for (uint32_t i = 0; i < BATCH; i++) {
            un_assert(received[i].length == bytes);
            un_pool_drop_chain(&frames.pool, received[i].frame);
        }
    }
    return (struct device_cost){.sent = cost.sent / (ROUNDS * BATCH), .received = cost.received / (ROUNDS * BATCH)};
}

struct device_cost devices_memory(uint32_t bytes)
{
    struct un_device *ends[2];
    un_assert(un_memory_pair(ends, (struct un_device_capabilities[]){capabilities, capabilities}, SLOTS) == 0);
    attach(ends[1]);
    struct device_cost cost = measure(ends[0], ends[1], bytes);
    ends[0]->operations->close(ends[0]);
    ends[1]->operations->close(ends[1]);
    return cost;
}

static struct device_cost measure_netmap(uint32_t bytes, bool exchanges)
{
    struct un_netmap_pair pair;
    struct un_netmap_memory memory = {.magic = UN_NETMAP_MAGIC, .mtu = capabilities.mtu, .flags = UN_NETMAP_SHARES,
                                      .memory_bytes = sizeof *played};
    memcpy(memory.mac, capabilities.mac, sizeof memory.mac);
    play(bytes);
    give_extra();
    un_assert(un_netmap_find(&pair, played, &memory) == 0);
    struct un_device *device = un_netmap_over(&pair, &memory, PLAYED_FD);
    un_assert(device != NULL);
    un_assert(!exchanges || un_netmap_exchanges(device, EXTRA));
    address_all();
    attach(device);
    struct device_cost cost = measure(device, device, bytes);
    device->operations->close(device);
    munmap(played, sizeof *played);
    return cost;
}

struct device_cost devices_netmap(uint32_t bytes)
{
    return measure_netmap(bytes, false);
}

struct device_cost devices_netmap_exchange(uint32_t bytes)
{
    return measure_netmap(bytes, true);
}
