/* A ring pair of netmap, with the module played by netmap_module.c: how slots, calls and packets go together, and what
 * a process leaves to the next one. What a user of netmap may not do ends each of these tests. */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "../check.h"
#include "device/device.h"
#include "fixture.h"
#include "netmap_module.h"

enum { FRAMES = 64, MTU = 200, LARGE_MTU = 1500, PACKET = 100 };

static struct un_pool pool;
static struct un_device *device;
static bool exchanges; /* buffers; else packets are copied */

/* Over the pool, which is made here when its frames are buffers of the module's. */
static void open_device(uint16_t mtu, uint16_t flags)
{
    device = module_open(mtu, flags);
    if (exchanges) {
        CHECK(un_netmap_exchanges(device, MODULE_EXTRA));
        CHECK_EQ(device->own_frames.free_count, FRAMES);
        pool = fixture_pool_of(device);
        CHECK_EQ(pool.own->free_count, FRAMES);
    }
    un_device_attach(device, &pool);
}

static void begin(uint16_t mtu)
{
    module_begin();
    if (exchanges)
        module_give_extra();
    else
        pool = fixture_pool(FRAMES, 256);
    open_device(mtu, 0);
    module->tx_calls = module->rx_calls = 0;
}

static void close_device(void)
{
    device->operations->close(device);
    CHECK_EQ(pool.own->free_count, FRAMES);
    if (!exchanges)
        return;
    if (!module->is_scribbled)
        module_has_extra_again();
    pool.bytes = NULL; /* they went with the device */
    fixture_pool_free(&pool);
}

static void end(void)
{
    close_device();
    if (!exchanges)
        fixture_pool_free(&pool);
}

/* Its process was killed: nothing was closed, all of its frames are free. */
static void next_process(uint16_t mtu)
{
    struct un_device *dead = device;
    un_pool_format(&pool, FRAMES, 256);
    device = module_open(mtu, 0);
    un_device_attach(device, &pool);
    un_device_attach(dead, &pool); /* nothing waits in it any more */
    dead->operations->close(dead);
}

static void comes(uint32_t number, uint32_t length)
{
    uint8_t bytes[LARGE_MTU + UN_ETHERNET_BYTES];
    fixture_packet(bytes, length, number);
    for (uint32_t at = 0; at < length; at += MODULE_BUFFER_BYTES) {
        uint32_t left = length - at, part = left < MODULE_BUFFER_BYTES ? left : MODULE_BUFFER_BYTES;
        CHECK_EQ(module_receive(bytes + at, (uint16_t)part, part < left ? UN_NETMAP_MORE_PARTS : 0), 0);
    }
}

/* The next packet of the device; false: there is none. */
static bool take(uint8_t *bytes, uint32_t *length)
{
    struct un_rx packet;
    if (device->operations->peek(device, &packet, 1) == 0)
        return false;
    device->operations->release(device, 1);
    fixture_copy(&pool, &packet, bytes);
    un_pool_drop_chain(&pool, packet.frame);
    *length = packet.length;
    return true;
}

static void is_received(uint32_t number, uint32_t length)
{
    uint8_t bytes[LARGE_MTU + UN_ETHERNET_BYTES];
    uint32_t found;
    CHECK(take(bytes, &found));
    CHECK_EQ(found, length);
    CHECK(fixture_packet_is(bytes, length, number));
}

static void submit(uint32_t number, uint32_t length)
{
    uint8_t bytes[LARGE_MTU + UN_ETHERNET_BYTES];
    fixture_packet(bytes, length, number);
    CHECK_EQ(device->operations->reserve(device, 1), 1);
    fixture_submit(device, bytes, length);
}

static void is_sent(uint32_t number, uint32_t length)
{
    uint8_t bytes[LARGE_MTU + UN_ETHERNET_TAGGED_BYTES];
    CHECK_EQ(module_sent(bytes, sizeof bytes), length);
    CHECK(fixture_packet_is(bytes, length, number));
}

static void a_turn_makes_one_call_each_way(void)
{
    struct un_rx packets[8];
    begin(MTU);
    for (uint32_t i = 0; i < 8; i++)
        submit(i, PACKET);
    CHECK_EQ(module->tx_calls, 0);
    device->operations->flush(device);
    device->operations->flush(device); /* nothing more was submitted */
    CHECK_EQ(module->tx_calls, 1);
    for (uint32_t i = 0; i < 8; i++)
        is_sent(i, PACKET);
    for (uint32_t i = 0; i < 8; i++)
        comes(i, PACKET);
    CHECK_EQ(device->operations->peek(device, packets, 8), 8);
    CHECK_EQ(module->rx_calls, 1);
    for (uint32_t i = 0; i < 8; i++)
        is_received(i, PACKET);
    CHECK_EQ(module->rx_calls, 1);
    CHECK(device->operations->sleep(device)); /* the slots go back */
    CHECK(device->operations->sleep(device));
    CHECK_EQ(module->rx_calls, 2);
    CHECK_EQ(module->rx_seen.ring.head, 8);
    end();
}

static void slots_that_were_sent_come_back(void)
{
    begin(MTU);
    module->keeps = true;
    for (uint32_t i = 0; i < MODULE_SLOTS - 1; i++)
        submit(i, PACKET);
    device->operations->flush(device);
    CHECK(module->tx.slots[MODULE_SLOTS - 2].flags & UN_NETMAP_REPORT); /* few are left */
    CHECK_EQ(device->operations->reserve(device, 1), 0);
    CHECK_EQ(device->counters->tx_full, 1);
    module->keeps = false;
    CHECK_EQ(device->operations->reserve(device, 64), MODULE_SLOTS - 1);
    submit(99, PACKET);
    device->operations->flush(device);
    for (uint32_t i = 0; i < MODULE_SLOTS - 1; i++)
        is_sent(i, PACKET);
    is_sent(99, PACKET);
    CHECK(!(module->tx.slots[MODULE_SLOTS - 1].flags & UN_NETMAP_REPORT)); /* many are */
    end();
}

static void a_packet_lies_in_several_slots(void)
{
    begin(LARGE_MTU);
    for (uint32_t i = 0; i < 50; i++) {
        uint32_t length = 600 + i * 18;
        submit(i, length);
        device->operations->flush(device);
        is_sent(i, length);
        comes(i, length);
        is_received(i, length);
    }
    CHECK_EQ(device->counters->tx_errors + device->counters->rx_errors, 0);
    end();
}

static void a_packet_is_given_when_all_of_it_has_come(void)
{
    uint8_t bytes[2 * MODULE_BUFFER_BYTES];
    struct un_rx packet;
    begin(LARGE_MTU);
    fixture_packet(bytes, sizeof bytes, 7);
    CHECK_EQ(module_receive(bytes, MODULE_BUFFER_BYTES, UN_NETMAP_MORE_PARTS), 0);
    CHECK_EQ(device->operations->peek(device, &packet, 1), 0);
    CHECK(device->operations->sleep(device) && !device->lacks_frames);
    CHECK_EQ(module->rx.ring.cur, 1);
    CHECK_EQ(module->rx.ring.head, 0);
    CHECK_EQ(module_receive(bytes + MODULE_BUFFER_BYTES, MODULE_BUFFER_BYTES, 0), 0);
    CHECK_EQ(ioctl(MODULE_FD, UN_NETMAP_SYNC_RX), 0); /* as poll does */
    CHECK(!device->operations->sleep(device));
    is_received(7, sizeof bytes);
    CHECK(device->operations->sleep(device));
    CHECK_EQ(module->rx.ring.cur, 2);
    end();
}

static void slots_out_of_order_are_errors(void)
{
    static const uint8_t bytes[PACKET];
    struct un_rx packet;
    begin(MTU);
    CHECK_EQ(module_receive(bytes, UINT16_MAX, 0), 0);
    CHECK_EQ(module_receive(bytes, 13, 0), 0); /* no Ethernet */
    comes(1, PACKET);
    is_received(1, PACKET);
    CHECK_EQ(device->counters->rx_errors, 2);
    CHECK(device->operations->sleep(device));
    for (uint32_t i = 0; i + 1 < MODULE_SLOTS; i++) /* a packet without an end fills the ring */
        CHECK_EQ(module_receive(bytes, 1, UN_NETMAP_MORE_PARTS), 0);
    CHECK_EQ(device->operations->peek(device, &packet, 1), 0);
    CHECK_EQ(device->counters->rx_errors, 3);
    CHECK(device->operations->sleep(device));
    comes(2, PACKET);
    is_received(2, PACKET);
    end();
}

static void what_is_for_a_group_goes_to_one_port_of_several(void)
{
    uint8_t bytes[PACKET] = {0xff};
    begin(MTU);
    close_device();
    open_device(MTU, UN_NETMAP_IGNORES_GROUPS);
    CHECK_EQ(module_receive(bytes, PACKET, 0), 0);
    comes(1, PACKET);
    is_received(1, PACKET);
    CHECK_EQ(device->counters->rx_packets, 1);
    end();
}

static void what_is_not_for_our_station_is_the_kernels(void)
{
    static const uint8_t another[PACKET] = {2, 0, 0, 0, 0, 3}, group[PACKET] = {0xff};
    uint8_t bytes[PACKET];
    uint32_t length;
    begin(MTU);
    close_device();
    open_device(MTU, UN_NETMAP_SHARES);
    CHECK_EQ(module_receive(another, PACKET, 0), 0);
    comes(1, PACKET);
    CHECK_EQ(module_receive(group, PACKET, 0), 0);
    is_received(1, PACKET);
    CHECK(take(bytes, &length) && memcmp(bytes, group, PACKET) == 0);
    CHECK(!take(bytes, &length));
    CHECK(module->rx.slots[0].flags & UN_NETMAP_FORWARD);
    CHECK(!(module->rx.slots[1].flags & UN_NETMAP_FORWARD));
    CHECK(module->rx.slots[2].flags & UN_NETMAP_FORWARD);
    CHECK(module->rx.ring.flags & UN_NETMAP_RING_FORWARDS);
    CHECK_EQ(device->counters->rx_passed, 2);
    CHECK(device->operations->sleep(device));
    CHECK_EQ(module->forwarded, 2);
    CHECK_EQ(device->counters->rx_packets, 2);
    end();
}

static void what_the_kernel_sends_is_carried(void)
{
    static const uint8_t bytes[PACKET];
    begin(MTU);
    module_carries(device);
    for (uint32_t i = 0; i < 4; i++)
        CHECK_EQ(module_kernel_sends(bytes, 0), 0); /* out of order: a whole round of them */
    uint8_t packet[PACKET];
    for (uint32_t i = 0; i < 3; i++) {
        fixture_packet(packet, PACKET, i);
        CHECK_EQ(module_kernel_sends(packet, PACKET), 0);
        CHECK_EQ(module_kernel_sends(bytes, i == 1 ? MODULE_BUFFER_BYTES + 1 : 0), 0);
    }
    CHECK(device->operations->sleep(device));
    for (uint32_t i = 0; i < 3; i++)
        is_sent(i, PACKET);
    CHECK_EQ(device->counters->tx_passed, 3);
    CHECK_EQ(device->counters->tx_errors, 7);
    CHECK(device->operations->sleep(device)); /* the slots are handed back */
    module->keeps = true;
    for (uint32_t i = 0; i < 12; i++)
        CHECK_EQ(module_kernel_sends(packet, PACKET), 0);
    CHECK(device->operations->sleep(device));
    CHECK_EQ(device->counters->tx_passed, 3 + 7); /* half of the slots are left */
    CHECK_EQ(device->counters->tx_errors, 7 + 5);
    end();
}

static void without_a_frame_packets_wait_in_the_ring(void)
{
    uint32_t taken[FRAMES];
    struct un_rx packet;
    begin(MTU);
    for (uint32_t i = 0; i < FRAMES; i++)
        taken[i] = un_pool_take(&pool);
    comes(1, PACKET);
    CHECK_EQ(device->operations->peek(device, &packet, 1), 0);
    CHECK_EQ(device->counters->rx_no_frame, 1);
    CHECK_EQ(device->operations->peek(device, &packet, 1), 0);
    CHECK_EQ(device->counters->rx_no_frame, 2);
    CHECK(device->operations->sleep(device) && device->lacks_frames);
    CHECK_EQ(module->rx.ring.cur, 1); /* poll does not tell of it again */
    CHECK_EQ(module->rx.ring.head, 0);
    un_pool_drop(&pool, taken[0]);
    CHECK(!device->operations->sleep(device));
    is_received(1, PACKET);
    CHECK(device->operations->sleep(device) && !device->lacks_frames);
    for (uint32_t i = 1; i < FRAMES; i++)
        un_pool_drop(&pool, taken[i]);
    end();
}

static void the_next_process_goes_on_where_the_rings_stand(void)
{
    struct un_rx packets[2];
    begin(MTU);
    for (uint32_t i = 0; i < 5; i++)
        comes(i, PACKET);
    CHECK_EQ(device->operations->peek(device, packets, 2), 2); /* copied, and lost with the process */
    submit(10, PACKET);                                        /* in the ring, and nobody was called */
    next_process(MTU);
    for (uint32_t i = 2; i < 5; i++)
        is_received(i, PACKET);
    is_sent(10, PACKET);
    submit(11, PACKET);
    device->operations->flush(device);
    is_sent(11, PACKET);
    end();
}

static void an_interface_that_goes_is_told(void)
{
    struct un_rx packet;
    begin(MTU);
    CHECK(!device->gone);
    module->gone = true;
    CHECK_EQ(device->operations->peek(device, &packet, 1), 0);
    CHECK(device->gone);
    end();
}

static void rings_have_to_lie_in_the_memory(void)
{
    struct un_netmap_pair pair;
    struct un_netmap_memory memory = {.magic = UN_NETMAP_MAGIC, .memory_bytes = sizeof *module};
    module_begin();
    CHECK_EQ(un_netmap_find(&pair, module, &memory), 0);
    CHECK_EQ(pair.rx.buffer_count >= MODULE_BUFFERS, true);
    const struct un_netmap_memory wrong[] = {
        {.magic = 1, .memory_bytes = sizeof *module},
        {.magic = UN_NETMAP_MAGIC, .memory_bytes = sizeof module->port},
        {.magic = UN_NETMAP_MAGIC, .memory_bytes = sizeof *module, .if_at = UINT64_MAX - 7},
        {.magic = UN_NETMAP_MAGIC, .memory_bytes = sizeof *module, .ring = 1},
    };
    for (uint32_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        CHECK_EQ(un_netmap_find(&pair, module, &wrong[i]), -EINVAL);
    module->rings[2] = sizeof *module;
    CHECK_EQ(un_netmap_find(&pair, module, &memory), -EINVAL);
    module_begin();
    module->rx.ring.slot_count = 1u << 20;
    CHECK_EQ(un_netmap_find(&pair, module, &memory), -EINVAL);
    module_begin();
    module->tx.ring.buffers = -(int64_t)sizeof *module;
    CHECK_EQ(un_netmap_find(&pair, module, &memory), -EINVAL);
    module_begin();
    module->tx.ring.head = MODULE_SLOTS;
    CHECK_EQ(un_netmap_find(&pair, module, &memory), -EINVAL);
}

/* ---- at random ---- */

static uint64_t state;

static uint32_t draw(uint32_t below)
{
    return random_below(&state, below);
}

/* Slots with any length, bytes and flags: nothing breaks, no rule is broken, and no frame is lost. */
static void any_slots(void)
{
    uint8_t bytes[MODULE_BUFFER_BYTES], all[PACKET * 1000];
    begin(MTU);
    for (uint32_t turn = 0; turn < 20000; turn++) {
        static const uint16_t lengths[] = {0, 1, 13, 14, 60, 255, 256, 257, UINT16_MAX};
        for (uint32_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (uint8_t)draw(256);
        module_receive(bytes, lengths[draw(9)], draw(3) ? 0 : (uint16_t)draw(UINT16_MAX + 1));
        uint32_t length;
        if (draw(3) == 0 && take(all, &length))
            CHECK(length >= UN_ETHERNET_BYTES);
        if (draw(4) == 0)
            device->operations->sleep(device);
    }
    CHECK(device->counters->rx_packets > 1000 && device->counters->rx_errors > 1000);
    end();
}

/* ---- written over ---- */

static _Atomic bool is_over;
static pthread_barrier_t is_begun;

static uint32_t any_place(uint64_t *random)
{
    switch (random_below(random, 8)) {
    case 0: return MODULE_SLOTS;
    case 1: return (uint32_t)random_next(random);
    default: return random_below(random, MODULE_SLOTS);
    }
}

/* A store into a ring, as the engine of another shard could do it: of a value that is in order, or of any. */
static void scribble(volatile struct un_netmap_ring *ring, uint64_t *random)
{
    volatile struct un_netmap_slot *slot = &ring->slots[random_below(random, MODULE_SLOTS)];
    bool is_any = random_below(random, 4) == 0;
    switch (random_below(random, 8)) {
    case 0: ring->head = any_place(random); break;
    case 1: ring->cur = any_place(random); break;
    case 2: ring->tail = any_place(random); break;
    case 3: slot->buffer = is_any ? (uint32_t)random_next(random) : random_below(random, MODULE_BUFFERS); break;
    case 4: slot->flags = is_any ? (uint16_t)random_next(random) : 0; break;
    case 5: slot->flags = is_any ? UN_NETMAP_MORE_PARTS : 0; break;
    default: slot->length = (uint16_t)(is_any ? random_next(random) : random_below(random, MODULE_BUFFER_BYTES + 1));
    }
}

static void scribble_somewhere(uint64_t *random)
{
    struct module_ring *rings[] = {&module->tx, &module->rx, &module->host_rx};
    scribble(&rings[random_below(random, 3)]->ring, random);
}

static void *scribble_on(void *unused)
{
    uint64_t random = check_seed * 7919;
    pthread_barrier_wait(&is_begun);
    while (!is_over)
        scribble_somewhere(&random);
    return unused;
}

/* Between the calls of a device and during them: it touches nothing else, comes to an end, and loses no frame. */
static void rings_are_written_over(void)
{
    static uint8_t all[1 << 17];
    uint64_t random = check_seed;
    pthread_t scribbler;
    begin(LARGE_MTU);
    close_device();
    open_device(LARGE_MTU, exchanges ? 0 : UN_NETMAP_SHARES);
    if (!exchanges)
        module_carries(device);
    memset(module->buffers, 1, sizeof module->buffers); /* all packets are for a group: ours and the kernel's */
    module->is_scribbled = true;
    is_over = false;
    CHECK_EQ(pthread_barrier_init(&is_begun, NULL, 2), 0);
    CHECK_EQ(pthread_create(&scribbler, NULL, scribble_on, NULL), 0);
    pthread_barrier_wait(&is_begun);
    for (uint32_t turn = 0; turn < 20000; turn++) {
        uint32_t length;
        for (uint32_t i = 0; i < 16; i++)
            scribble_somewhere(&random);
        if (take(all, &length))
            CHECK(length >= UN_ETHERNET_BYTES);
        if (device->operations->reserve(device, 1) == 1)
            fixture_submit(device, all, 60 + random_below(&random, LARGE_MTU - 60));
        device->operations->sleep(device);
    }
    is_over = true;
    CHECK_EQ(pthread_join(scribbler, NULL), 0);
    CHECK(device->counters->rx_packets > 100 && device->counters->rx_errors > 100);
    CHECK(device->counters->tx_packets > 100 && device->counters->tx_errors > 100);
    CHECK(exchanges || device->counters->tx_passed > 100);
    end();
}

/* Where the rings lie, too: what is found lies in the memory. */
static void any_memory(void)
{
    struct un_netmap_pair pair;
    uint32_t found = 0;
    for (uint32_t turn = 0; turn < 100000; turn++) {
        const struct un_netmap_memory memory = {.magic = UN_NETMAP_MAGIC, .memory_bytes = sizeof *module,
                                                .flags = draw(2) ? UN_NETMAP_IS_HOST : 0};
        uint64_t *words[] = {(uint64_t *)&module->rings[draw(4)], (uint64_t *)&module->rx.ring + draw(4),
                             (uint64_t *)&module->host_rx.ring + draw(4), (uint64_t *)&module->port + 3 + draw(3)};
        uint64_t *word = words[draw(4)], any = (uint64_t)draw(UINT32_MAX) << 40 ^ draw(UINT32_MAX);
        if (turn % 4 == 0)
            module_begin();
        *word = draw(2) ? any : *word ^ 1ull << draw(64);
        if (un_netmap_find(&pair, module, &memory) < 0)
            continue;
        found++;
        for (uint32_t i = 0; i < 2; i++) {
            const struct un_netmap_side *side = i ? &pair.rx : &pair.tx;
            const uint8_t *end = (uint8_t *)module + sizeof *module;
            CHECK(side->head < side->slot_count && (uint8_t *)&side->ring->slots[side->slot_count] <= end);
            CHECK(side->buffers >= (uint8_t *)module && un_netmap_buffer(side, side->buffer_count) <= end);
        }
    }
    CHECK(found > 100);
}

/* Packets both ways, and deaths: each that comes was sent, in order, and none comes twice. */
static void many_processes(void)
{
    uint8_t bytes[LARGE_MTU + UN_ETHERNET_TAGGED_BYTES];
    uint32_t came = 0, expected = 0, submitted = 0, got = 0, length;
    begin(LARGE_MTU);
    for (uint32_t turn = 0; turn < 20000; turn++) {
        uint32_t size = 60 + draw(1400);
        switch (draw(6)) {
        case 0:
            if ((module->rx_seen.ring.head + MODULE_SLOTS - module->rx_filled - 1) % MODULE_SLOTS > 6)
                comes(came++, size);
            break;
        case 1:
            if (device->operations->reserve(device, 1) == 1)
                submit(submitted++, size);
            break;
        case 2: device->operations->flush(device); break;
        case 3: device->operations->sleep(device); break;
        case 4:
            if (!take(bytes, &length))
                break;
            while (!fixture_packet_is(bytes, length, expected))
                CHECK(++expected < came);
            expected++;
            break;
        default:
            module->keeps = draw(2);
            if (draw(50) == 0)
                next_process(LARGE_MTU);
        }
        while ((length = module_sent(bytes, sizeof bytes)) > 0)
            CHECK(fixture_packet_is(bytes, length, got++));
    }
    CHECK(expected > 1000 && got > 1000);
    end();
}

static void at_random(uint64_t seed)
{
    state = seed * UINT64_C(0x9e3779b97f4a7c15);
    RUN(many_processes);
    RUN(any_memory);
    for (uint32_t way = 0; way < 2; way++) {
        exchanges = way;
        RUN(any_slots);
        RUN(rings_are_written_over);
    }
    exchanges = false;
}

static void either_way(void)
{
    RUN(a_turn_makes_one_call_each_way);
    RUN(slots_that_were_sent_come_back);
    RUN(a_packet_lies_in_several_slots);
    RUN(a_packet_is_given_when_all_of_it_has_come);
    RUN(slots_out_of_order_are_errors);
    RUN(what_is_not_for_our_station_is_the_kernels);
    RUN(what_is_for_a_group_goes_to_one_port_of_several);
    RUN(without_a_frame_packets_wait_in_the_ring);
    RUN(an_interface_that_goes_is_told);
}

int main(void)
{
    either_way();
    RUN(what_the_kernel_sends_is_carried);
    RUN(the_next_process_goes_on_where_the_rings_stand);
    RUN(rings_have_to_lie_in_the_memory);
    exchanges = true;
    either_way();
    exchanges = false;
    for_each_seed(5, at_random);
    return 0;
}
