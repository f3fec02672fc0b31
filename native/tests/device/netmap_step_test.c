/* A ring pair of netmap whose process is killed after each instruction that stores, but for those of the module, which
 * finishes its calls: the next process goes on where the rings stand. No rule of the module's is broken; what was sent
 * comes whole, in order and once; what came is received in order and once, but for what the dead one had taken. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "../check.h"
#include "../step.h"
#include "device/device.h"
#include "fixture.h"
#include "netmap_module.h"

enum { FRAMES = 32, FRAME_BYTES = 256, MTU = 600, COME = 4, SENT = 4, BYTES_MAX = MTU + UN_ETHERNET_TAGGED_BYTES };

static struct un_pool pool;
static struct un_device *device;

static void take_over(void)
{
    un_pool_format(&pool, FRAMES, FRAME_BYTES);
    device = module_open(MTU, 0);
    un_device_attach(device, &pool);
}

static uint32_t length_of(uint32_t number)
{
    return 100 + number % 3 * 200; /* one slot to three */
}

static void comes(uint32_t number)
{
    uint8_t bytes[BYTES_MAX];
    uint32_t length = length_of(number);
    fixture_packet(bytes, length, number);
    for (uint32_t at = 0; at < length; at += MODULE_BUFFER_BYTES) {
        uint32_t left = length - at, part = left < MODULE_BUFFER_BYTES ? left : MODULE_BUFFER_BYTES;
        CHECK_EQ(module_receive(bytes + at, (uint16_t)part, part < left ? UN_NETMAP_MORE_PARTS : 0), 0);
    }
}

static void submit(uint32_t number)
{
    uint8_t bytes[BYTES_MAX];
    fixture_packet(bytes, length_of(number), number);
    CHECK_EQ(device->operations->reserve(device, 1), 1);
    fixture_submit(device, bytes, length_of(number));
}

/* ---- what has to hold ---- */

static bool is_packet(const uint8_t *bytes, uint32_t length, uint32_t number)
{
    return length == length_of(number) && fixture_packet_is(bytes, length, number);
}

static void check_received(void)
{
    uint8_t bytes[BYTES_MAX];
    struct un_rx packet;
    uint32_t number = 0;
    while (device->operations->peek(device, &packet, 1) == 1) {
        device->operations->release(device, 1);
        fixture_copy(&pool, &packet, bytes);
        un_pool_drop_chain(&pool, packet.frame);
        while (number <= COME && !is_packet(bytes, packet.length, number))
            number++;
        CHECK(number <= COME);
        number++;
    }
    CHECK_EQ(number, COME + 1); /* the last one came after the death */
    CHECK_EQ(pool.own->free_count, FRAMES);
}

static void check_sent(void)
{
    uint8_t bytes[BYTES_MAX];
    uint32_t number = 0, length;
    while ((length = module_sent(bytes, sizeof bytes)) > 0) {
        if (!is_packet(bytes, length, number))
            number = SENT; /* the first of the next process */
        CHECK(is_packet(bytes, length, number));
        number++;
    }
    CHECK_EQ(number, SENT + 1);
}

static void check(void)
{
    take_over();
    comes(COME);
    check_received();
    submit(SENT);
    device->operations->flush(device);
    check_sent();
    CHECK(device->operations->sleep(device));
}

static uint32_t looks;

static void look(void)
{
    if (module->is_busy)
        return;
    looks++;
    step_judge(check);
}

/* ---- what processes do ---- */

static void receive_all(void)
{
    struct un_rx packets[COME];
    uint32_t count = device->operations->peek(device, packets, COME);
    device->operations->release(device, count);
    for (uint32_t i = 0; i < count; i++)
        un_pool_drop_chain(&pool, packets[i].frame);
    device->operations->sleep(device);
}

static void send_all(void)
{
    for (uint32_t i = 0; i < SENT; i++)
        submit(i);
    device->operations->flush(device);
}

static void killed_while(void (*act)(void))
{
    module_begin();
    take_over();
    for (uint32_t i = 0; i < COME; i++)
        comes(i);
    looks = 0;
    step_through(act, look);
    CHECK(looks > 0);
}

static void killed_while_it_receives(void)
{
    killed_while(receive_all);
}

static void killed_while_it_sends(void)
{
    killed_while(send_all);
}

static void killed_while_it_takes_over(void)
{
    killed_while(take_over);
}

int main(void)
{
    module_begin();
    pool = fixture_pool(FRAMES, FRAME_BYTES);
    step_watch(module, sizeof *module);
    RUN(killed_while_it_takes_over);
    RUN(killed_while_it_receives);
    RUN(killed_while_it_sends);
    return 0;
}
