/* Buffers of netmap's as frames (netmap_exchange.h), with the module played by netmap_module.c. That the device keeps
 * the rules of rings then as well is tested in netmap_test.c. */
#include <string.h>

#include "../check.h"
#include "device/device.h"
#include "fixture.h"
#include "netmap_module.h"

enum { MTU = 300, PACKET = 100 };

static struct un_pool pool;
static struct un_device *device;

static void begin_with(uint16_t flags)
{
    module_begin();
    module_give_extra();
    device = module_open(MTU, flags);
    CHECK(un_netmap_exchanges(device, MODULE_EXTRA));
    pool = fixture_pool_of(device);
    un_device_attach(device, &pool);
}

static void begin(void)
{
    begin_with(0);
}

static void end(void)
{
    device->operations->close(device);
    CHECK_EQ(pool.own->free_count, MODULE_EXTRA);
    module_has_extra_again();
    pool.bytes = NULL; /* they went with the device */
    fixture_pool_free(&pool);
}

static void comes(uint32_t number)
{
    uint8_t bytes[PACKET];
    fixture_packet(bytes, PACKET, number);
    CHECK_EQ(module_receive(bytes, PACKET, 0), 0);
}

static struct un_rx receive(void)
{
    struct un_rx packet;
    CHECK_EQ(device->operations->peek(device, &packet, 1), 1);
    device->operations->release(device, 1);
    return packet;
}

static bool is_packet(const struct un_rx *packet, uint32_t number)
{
    uint8_t bytes[PACKET];
    CHECK_EQ(packet->length, PACKET);
    fixture_copy(&pool, packet, bytes);
    return fixture_packet_is(bytes, PACKET, number);
}

/* It is not copied: a free frame stands in its slot. */
static void a_packet_stays_where_it_came(void)
{
    begin();
    uint32_t buffer = module->rx.slots[0].buffer;
    comes(1);
    struct un_rx packet = receive();
    CHECK(un_pool_bytes(&pool, packet.frame) == module->buffers[buffer]);
    CHECK(is_packet(&packet, 1));
    CHECK(module->rx.slots[0].buffer != buffer);
    CHECK_EQ(module->rx.slots[0].flags, UN_NETMAP_BUFFER_CHANGED);
    CHECK_EQ(pool.own->free_count, MODULE_EXTRA - 1);
    un_pool_drop_chain(&pool, packet.frame);
    end();
}

/* What is put together of several slots is copied. */
static void a_packet_of_two_slots_is_copied(void)
{
    static const uint8_t bytes[MODULE_BUFFER_BYTES] = {2, 0, 0, 0, 0, 1};
    begin();
    uint32_t buffer = module->rx.slots[0].buffer;
    CHECK_EQ(module_receive(bytes, MODULE_BUFFER_BYTES, UN_NETMAP_MORE_PARTS), 0);
    CHECK_EQ(module_receive(bytes, 10, 0), 0);
    struct un_rx packet = receive();
    CHECK_EQ(packet.length, MODULE_BUFFER_BYTES + 10);
    CHECK_EQ(module->rx.slots[0].buffer, buffer);
    un_pool_drop_chain(&pool, packet.frame);
    end();
}

/* It has to stay in the slot that is handed to the kernel. */
static void a_packet_that_is_the_kernels_too_is_copied(void)
{
    static const uint8_t group[PACKET] = {0xff};
    begin_with(UN_NETMAP_SHARES);
    uint32_t buffer = module->rx.slots[0].buffer;
    CHECK_EQ(module_receive(group, PACKET, 0), 0);
    struct un_rx packet = receive();
    CHECK_EQ(module->rx.slots[0].buffer, buffer);
    CHECK(module->rx.slots[0].flags & UN_NETMAP_FORWARD);
    un_pool_drop_chain(&pool, packet.frame);
    end();
}

/* By another program that has the card open: the frame that stands there is not lost, and not there twice. */
static void a_slot_that_was_written_over_costs_a_packet(void)
{
    begin();
    comes(1);
    comes(2);
    CHECK_EQ(ioctl(MODULE_FD, UN_NETMAP_SYNC_RX), 0); /* they are seen */
    module->rx.slots[0].buffer = module->rx.slots[1].buffer;
    struct un_rx packet = receive();
    CHECK(is_packet(&packet, 2));
    CHECK_EQ(device->counters->rx_errors, 1);
    un_pool_drop_chain(&pool, packet.frame);
    CHECK(device->operations->sleep(device));
    end();
}

/* Over a pool of other frames it copies, and the buffers are not lost. */
static void another_pool_is_copied_into(void)
{
    begin();
    struct un_pool own = pool;
    pool = fixture_pool(8, 256);
    un_device_attach(device, &pool);
    comes(1);
    struct un_rx packet = receive();
    CHECK(is_packet(&packet, 1));
    un_pool_drop_chain(&pool, packet.frame);
    CHECK_EQ(pool.own->free_count, 8);
    fixture_pool_free(&pool);
    pool = own;
    un_device_attach(device, &pool);
    end();
}

static void a_list_out_of_order_is_left_alone(void)
{
    const uint32_t first = MODULE_BUFFERS - MODULE_EXTRA;
    const uint32_t in_the_ring = 2 + MODULE_SLOTS, wrong[] = {0, 1, first, first + 1, in_the_ring, UINT32_MAX};
    for (uint32_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        module_begin();
        module_give_extra();
        memcpy(module->buffers[first + 2], &wrong[i], sizeof wrong[i]);
        device = module_open(MTU, 0);
        CHECK(!un_netmap_exchanges(device, MODULE_EXTRA));
        CHECK(device->own_frames.bytes == NULL);
        CHECK_EQ(module->port.extra_buffers, first);
        device->operations->close(device);
    }
    module_begin(); /* there are none */
    device = module_open(MTU, 0);
    CHECK(!un_netmap_exchanges(device, 0));
    device->operations->close(device);
}

/* Frames lie between the first and the last of them; where most are somebody else's it copies. */
static void buffers_that_lie_apart_are_left_alone(void)
{
    module_begin();
    module_give_extra();
    module->port.extra_buffers = MODULE_BUFFERS - 2; /* the last two */
    device = module_open(MTU, 0);
    CHECK(!un_netmap_exchanges(device, 2));
    CHECK_EQ(module->port.extra_buffers, MODULE_BUFFERS - 2);
    device->operations->close(device);
}

/* While packets are kept, in buffers that were the module's, nothing is written over them. */
static void packets_that_are_kept(uint64_t seed)
{
    enum { KEPT = 8 };
    struct un_rx kept[KEPT];
    uint32_t numbers[KEPT], came = 0, got = 0;
    uint64_t random = seed * UINT64_C(0x9e3779b97f4a7c15);
    begin();
    for (uint32_t i = 0; i < KEPT; i++)
        kept[i].frame = UN_NONE;
    for (uint32_t turn = 0; turn < 5000; turn++) {
        uint32_t at = random_below(&random, KEPT);
        if (random_below(&random, 2) && came - got < MODULE_SLOTS / 4)
            comes(came++);
        if (kept[at].frame != UN_NONE) {
            CHECK(is_packet(&kept[at], numbers[at]));
            un_pool_drop_chain(&pool, kept[at].frame);
            kept[at].frame = UN_NONE;
        } else if (got < came) {
            kept[at] = receive();
            numbers[at] = got++;
        }
        if (random_below(&random, 2))
            device->operations->sleep(device);
    }
    CHECK(got > 1000);
    for (uint32_t i = 0; i < KEPT; i++)
        un_pool_drop_chain(&pool, kept[i].frame);
    end();
}

int main(void)
{
    RUN(a_packet_stays_where_it_came);
    RUN(a_packet_of_two_slots_is_copied);
    RUN(a_packet_that_is_the_kernels_too_is_copied);
    RUN(a_slot_that_was_written_over_costs_a_packet);
    RUN(another_pool_is_copied_into);
    RUN(a_list_out_of_order_is_left_alone);
    RUN(buffers_that_lie_apart_are_left_alone);
    for_each_seed(5, packets_that_are_kept);
    return 0;
}
