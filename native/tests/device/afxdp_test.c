/* System calls of an AF_XDP queue, and packets of several frames. The kernel is played here: rings in this memory, and
 * one end of a pair of sockets, which takes an empty datagram for each call that sends, and gives one for each that
 * receives. */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../check.h"
#include "device/afxdp_rings.h"
#include "device/device.h"

enum { FRAMES = 256, FRAME_BYTES = 256, SLOTS = 128 };

struct shared_ring {
    un_shared32 producer, consumer, flags;
    union {
        uint64_t addresses[SLOTS];
        struct xdp_desc packets[SLOTS];
    };
};

static struct shared_ring fill, completion, rx, tx;
static struct un_pool_memory own;
static struct un_frame frames[FRAMES];
static uint8_t bytes[FRAMES * FRAME_BYTES];
static struct un_pool pool;
static struct un_afxdp_memory *memory;
static struct un_device *device;
static int kernel;

static struct un_afxdp_ring view(struct shared_ring *ring)
{
    *ring = (struct shared_ring){.flags = 0};
    return (struct un_afxdp_ring){.producer = &ring->producer, .consumer = &ring->consumer, .flags = &ring->flags,
                                  .slots = ring->addresses, .mask = SLOTS - 1};
}

static void begin(uint16_t mtu, bool is_polled)
{
    int ends[2];
    const struct un_afxdp_rings rings = {view(&fill), view(&completion), view(&rx), view(&tx)};
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, ends) == 0);
    memory = calloc(1, un_afxdp_memory_bytes(FRAMES));
    CHECK(memory != NULL);
    *memory = (struct un_afxdp_memory){
        .magic = UN_AFXDP_MAGIC, .frame_count = FRAMES, .frame_bytes = FRAME_BYTES, .fill_slots = SLOTS,
        .completion_slots = SLOTS, .rx_slots = SLOTS, .tx_slots = SLOTS, .mtu = mtu, .is_polled = is_polled,
    };
    pool = (struct un_pool){.own = &own, .frames = frames, .bytes = bytes};
    un_pool_format(&pool, FRAMES, FRAME_BYTES);
    kernel = ends[1];
    device = un_afxdp_over(&rings, memory, ends[0]);
    CHECK(device != NULL);
    un_device_attach(device, &pool);
}

static void end(void)
{
    device->operations->close(device);
    close(kernel);
    free(memory);
}

/* Frames that wait to be filled become parts of a packet. */
static void receive(uint32_t parts, bool is_whole)
{
    for (uint32_t i = 0; i < parts; i++) {
        CHECK(fill.consumer != fill.producer);
        rx.packets[rx.producer++ % SLOTS] = (struct xdp_desc){
            .addr = fill.addresses[fill.consumer++ % SLOTS],
            .len = 100,
            .options = is_whole && i + 1 == parts ? 0 : UN_AFXDP_PACKET_CONTINUES,
        };
    }
}

/* Calls since the last time, of those that send. */
static uint32_t calls(void)
{
    uint32_t count = 0;
    while (recv(kernel, NULL, 0, MSG_DONTWAIT) == 0)
        count++;
    return count;
}

static void is_called(bool expected)
{
    char found;
    CHECK(send(kernel, "x", 1, 0) == 1);
    struct un_rx packet;
    (void)device->operations->peek(device, &packet, 1);
    CHECK_EQ(recv(device->fd, &found, 1, MSG_DONTWAIT) == 1, !expected);
}

static void the_driver_is_polled_when_nothing_is_there(void)
{
    begin(200, true);
    is_called(true);
    receive(1, true);
    is_called(false);
    end();
}

static void the_driver_is_left_alone(void)
{
    begin(200, false);
    is_called(false);
    end();
}

static void a_batch_takes_one_call(void)
{
    static const uint8_t data[500];
    const struct un_piece piece = {data, sizeof data, UN_NONE};
    const struct un_tx packet = {.pieces = &piece, .count = 1, .length = sizeof data};
    begin(600, false);
    tx.flags = XDP_RING_NEED_WAKEUP;
    for (uint32_t i = 0; i < 30; i++) {
        CHECK_EQ(device->operations->reserve(device, 1), 1);
        device->operations->submit(device, &packet, 1);
    }
    CHECK_EQ(calls(), 0);
    device->operations->flush(device);
    CHECK_EQ(calls(), 1);
    CHECK_EQ(tx.producer, 60); /* two frames each */
    tx.consumer = tx.producer;
    device->operations->flush(device);
    CHECK_EQ(calls(), 0);
    end();
}

static void a_packet_is_given_when_all_of_it_has_come(void)
{
    struct un_rx packets[2];
    begin(600, false);
    receive(1, true);
    receive(2, false);
    CHECK_EQ(device->operations->peek(device, packets, 2), 1);
    CHECK_EQ(packets[0].length, 100);
    receive(1, true);
    CHECK_EQ(device->operations->peek(device, packets, 2), 2);
    CHECK_EQ(packets[1].length, 300);
    device->operations->release(device, 2);
    CHECK_EQ(rx.consumer, 4);
    un_pool_drop_chain(&pool, packets[0].frame);
    un_pool_drop_chain(&pool, packets[1].frame);
    CHECK_EQ(own.free_count + fill.producer - fill.consumer, FRAMES);
    end();
}

int main(void)
{
    RUN(the_driver_is_polled_when_nothing_is_there);
    RUN(the_driver_is_left_alone);
    RUN(a_batch_takes_one_call);
    RUN(a_packet_is_given_when_all_of_it_has_come);
    return 0;
}
