/* A ring pair of netmap whose process is killed after each instruction that stores, but for those of the module, which
 * finishes its calls: the next process goes on where the rings stand. No rule of the module's is broken; what was sent
 * comes whole, in order and once; what came is received in order and once, but for what the dead one had taken. Of a
 * card that is shared, each packet that came for the kernel is passed on once, and each that it sent leaves: in order,
 * and one of them may leave twice. Where buffers are exchanged, the port ends with its process, and none of them may
 * stand in two slots then. */
#include <string.h>

#include "../check.h"
#include "../step.h"
#include "device/device.h"
#include "fixture.h"
#include "netmap_module.h"

enum { FRAMES = 32, FRAME_BYTES = 256, MTU = 600, COME = 4, SENT = 4, CARD_COME = 6, CARRIED = 4, CARD_BYTES = 90,
       BYTES_MAX = MTU + UN_ETHERNET_TAGGED_BYTES };

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

/* ---- a card that is shared with the kernel, by the shard that carries for it ---- */

static void take_over_card(void)
{
    un_pool_format(&pool, FRAMES, FRAME_BYTES);
    device = module_open(MTU, UN_NETMAP_SHARES);
    module_carries(device);
    un_device_attach(device, &pool);
}

enum whose { OURS, KERNELS, OF_ALL, WHOSE };

static void card_packet(uint8_t *bytes, uint32_t number)
{
    fixture_packet(bytes, CARD_BYTES, number);
    if (number % WHOSE == KERNELS)
        bytes[5] = 9;
    else if (number % WHOSE == OF_ALL)
        memset(bytes, 0xff, 6);
}

static void comes_to_card(uint32_t number)
{
    uint8_t bytes[CARD_BYTES];
    card_packet(bytes, number);
    CHECK_EQ(module_receive(bytes, sizeof bytes, 0), 0);
}

static void kernel_sends(uint32_t number)
{
    uint8_t bytes[CARD_BYTES];
    fixture_packet(bytes, sizeof bytes, number);
    CHECK_EQ(module_kernel_sends(bytes, sizeof bytes), 0);
}

static void check_card_received(void)
{
    uint8_t bytes[BYTES_MAX], expected[CARD_BYTES];
    struct un_rx packet;
    uint32_t number = 0;
    while (device->operations->peek(device, &packet, 1) == 1) {
        device->operations->release(device, 1);
        fixture_copy(&pool, &packet, bytes);
        un_pool_drop_chain(&pool, packet.frame);
        CHECK_EQ(packet.length, CARD_BYTES);
        for (;; number++) {
            CHECK(number <= CARD_COME);
            card_packet(expected, number);
            if (number % WHOSE != KERNELS && memcmp(bytes, expected, sizeof expected) == 0)
                break;
        }
        number++;
    }
    CHECK_EQ(number, CARD_COME + 1);
    CHECK_EQ(pool.own->free_count, FRAMES);
}

static void check_carried(void)
{
    uint8_t bytes[BYTES_MAX];
    uint32_t next = 0, twice = 0, length;
    while ((length = module_sent(bytes, sizeof bytes)) > 0) {
        bool is_again = next > 0 && fixture_packet_is(bytes, CARD_BYTES, next - 1);
        CHECK_EQ(length, CARD_BYTES);
        CHECK(is_again || fixture_packet_is(bytes, CARD_BYTES, next));
        twice += is_again;
        next += !is_again;
    }
    CHECK_EQ(next, CARRIED + 1);
    CHECK(twice <= 1);
}

static void check_card(void)
{
    take_over_card();
    comes_to_card(CARD_COME);
    kernel_sends(CARRIED);
    check_card_received();
    CHECK(device->operations->sleep(device));
    check_carried();
    CHECK_EQ(module->forwarded, 2 * CARD_COME / WHOSE);
}

static uint32_t looks;
static void (*judgement)(void);

static void look(void)
{
    if (module->is_busy)
        return;
    looks++;
    step_judge(judgement);
}

/* ---- what processes do ---- */

static void receive_all(void)
{
    struct un_rx packets[CARD_COME];
    uint32_t count = device->operations->peek(device, packets, CARD_COME);
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

/* What has begun is done, and killed at each of its states, which are judged. */
static void step(void (*act)(void), void (*judge)(void))
{
    looks = 0;
    judgement = judge;
    step_through(act, look);
    CHECK(looks > 0);
    device->operations->close(device);
}

static void killed_while(void (*act)(void))
{
    module_begin();
    take_over();
    for (uint32_t i = 0; i < COME; i++)
        comes(i);
    step(act, check);
}

static void killed_on_a_card_while(void (*act)(void))
{
    module_begin();
    take_over_card();
    for (uint32_t i = 0; i < CARD_COME; i++)
        comes_to_card(i);
    for (uint32_t i = 0; i < CARRIED; i++)
        kernel_sends(i);
    step(act, check_card);
}

static void killed_while_it_takes_a_card_over(void)
{
    killed_on_a_card_while(take_over_card);
}

/* It receives, and carries before it sleeps. */
static void killed_on_a_card(void)
{
    killed_on_a_card_while(receive_all);
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

static void killed_while_it_exchanges(void)
{
    struct un_pool copied_into = pool;
    module_begin();
    module_give_extra();
    device = module_open(MTU, 0);
    CHECK(un_netmap_exchanges(device, MODULE_EXTRA));
    pool = fixture_pool_of(device);
    un_device_attach(device, &pool);
    for (uint32_t i = 0; i < COME; i++)
        comes(i);
    step(receive_all, module_no_buffer_twice);
    pool.bytes = NULL; /* they went with the device */
    fixture_pool_free(&pool);
    pool = copied_into;
}

int main(void)
{
    module_begin();
    pool = fixture_pool(FRAMES, FRAME_BYTES);
    step_watch(module, sizeof *module);
    RUN(killed_while_it_takes_over);
    RUN(killed_while_it_receives);
    RUN(killed_while_it_sends);
    RUN(killed_while_it_takes_a_card_over);
    RUN(killed_on_a_card);
    RUN(killed_while_it_exchanges);
    fixture_pool_free(&pool);
    step_forget();
    return 0;
}
