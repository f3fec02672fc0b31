/* See conformance.h. */
#include "conformance.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "../check.h"

#define PACKET_MAX 70000u
#define ETHERNET_BYTES 14u

static const struct conformance_device *under_test;
static struct conformance_link link_now;
static struct un_pool pool_now;
static uint8_t bytes_sent[PACKET_MAX], bytes_got[PACKET_MAX];

struct un_pool conformance_pool(uint32_t frames, uint32_t frame_bytes)
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

void conformance_pool_free(struct un_pool *pool)
{
    free(pool->own);
    free(pool->frames);
    free(pool->bytes);
}

void conformance_packet(uint8_t *bytes, uint32_t length, uint32_t number)
{
    static const uint8_t head[ETHERNET_BYTES] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5};
    uint64_t state = number + UINT64_C(0x9e3779b97f4a7c15);
    CHECK(length >= ETHERNET_BYTES);
    memcpy(bytes, head, ETHERNET_BYTES);
    for (uint32_t i = ETHERNET_BYTES; i < length; i++)
        bytes[i] = (uint8_t)random_next(&state);
}

bool conformance_packet_is(const uint8_t *bytes, uint32_t length, uint32_t number)
{
    static uint8_t expected[PACKET_MAX];
    conformance_packet(expected, length, number);
    return memcmp(bytes, expected, length) == 0;
}

void conformance_copy(const struct un_pool *pool, const struct un_rx *packet, uint8_t *bytes)
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
    return (struct un_tx){.pieces = pieces, .count = length > head ? 2 : 1, .length = length, .header_length = (uint16_t)head};
}

void conformance_submit(struct un_device *device, const uint8_t *bytes, uint32_t length)
{
    struct un_piece pieces[2];
    struct un_tx packet = tx_of(pieces, bytes, length);
    device->operations->submit(device, &packet, 1);
}

bool conformance_wait(struct un_device *device, int timeout_ms)
{
    if (!device->operations->sleep(device))
        return true;
    struct pollfd events = {.fd = device->fd, .events = POLLIN};
    return device->fd >= 0 && poll(&events, 1, timeout_ms) > 0;
}

uint32_t conformance_receive(struct conformance_link *link, uint8_t *bytes, struct un_rx *packet)
{
    const struct un_device_operations *verbs = link->device->operations;
    struct un_rx own;
    packet = packet ? packet : &own;
    while (verbs->peek(link->device, packet, 1) == 0)
        if (!conformance_wait(link->device, 1000))
            return 0;
    verbs->release(link->device, 1);
    conformance_copy(link->pool, packet, bytes);
    un_pool_drop_chain(link->pool, packet->frame);
    return packet->length;
}

/* Every test begins with a new device, and ends with all frames free. */
static void begin(uint32_t frames, uint32_t frame_bytes)
{
    pool_now = conformance_pool(frames, frame_bytes);
    link_now = (struct conformance_link){.pool = &pool_now};
    under_test->open(&link_now);
    CHECK(link_now.device != NULL);
    un_device_attach(link_now.device, &pool_now);
}

static void end(void)
{
    link_now.device->operations->close(link_now.device);
    under_test->close_far(&link_now);
    CHECK_EQ(pool_now.own->free_count, pool_now.own->count);
    conformance_pool_free(&pool_now);
}

static void far_sends(uint32_t number, uint32_t length)
{
    conformance_packet(bytes_sent, length, number);
    CHECK(under_test->far_send(&link_now, bytes_sent, length));
}

static void device_gets(uint32_t number, uint32_t length)
{
    CHECK_EQ(conformance_receive(&link_now, bytes_got, NULL), length);
    CHECK(conformance_packet_is(bytes_got, length, number));
}

static void device_sends(uint32_t number, uint32_t length)
{
    struct un_device *device = link_now.device;
    conformance_packet(bytes_sent, length, number);
    CHECK_EQ(device->operations->reserve(device, 1), 1);
    conformance_submit(device, bytes_sent, length);
    memset(bytes_sent, 0xee, length); /* bytes that were lent are our own again */
    device->operations->flush(device);
}

static void far_gets(uint32_t number, uint32_t length)
{
    CHECK_EQ(under_test->far_receive(&link_now, bytes_got, PACKET_MAX), length);
    CHECK(conformance_packet_is(bytes_got, length, number));
}

static void nothing_is_left(void)
{
    struct un_rx packet;
    CHECK_EQ(link_now.device->operations->peek(link_now.device, &packet, 1), 0);
    CHECK_EQ(under_test->far_receive(&link_now, bytes_got, PACKET_MAX), 0);
}

/* Lengths from the smallest frame to the MTU. */
static uint32_t length_of(uint32_t number)
{
    uint32_t most = link_now.device->capabilities.mtu + ETHERNET_BYTES;
    return 60 + number * 97 % (most - 60 + 1);
}

static void packets_come_in_order_and_whole(void)
{
    begin(256, 2048);
    for (uint32_t number = 0; number < 300; number += 10) {
        for (uint32_t i = number; i < number + 10; i++)
            far_sends(i, length_of(i));
        for (uint32_t i = number; i < number + 10; i++)
            device_gets(i, length_of(i));
    }
    nothing_is_left();
    end();
}

static void packets_go_in_order_and_whole(void)
{
    begin(256, 2048);
    for (uint32_t number = 0; number < 300; number += 10) {
        for (uint32_t i = number; i < number + 10; i++)
            device_sends(i, length_of(i));
        for (uint32_t i = number; i < number + 10; i++)
            far_gets(i, length_of(i));
    }
    nothing_is_left();
    end();
}

static void a_batch_is_sent_as_it_was_submitted(void)
{
    enum { BATCH = 16, LENGTH = 200 };
    static uint8_t bytes[BATCH][LENGTH];
    struct un_piece pieces[BATCH][2];
    struct un_tx packets[BATCH];
    begin(256, 2048);
    struct un_device *device = link_now.device;
    for (uint32_t i = 0; i < BATCH; i++) {
        conformance_packet(bytes[i], LENGTH, i);
        packets[i] = tx_of(pieces[i], bytes[i], LENGTH);
    }
    CHECK_EQ(device->operations->reserve(device, BATCH), BATCH);
    device->operations->submit(device, packets, BATCH);
    device->operations->flush(device);
    for (uint32_t i = 0; i < BATCH; i++)
        far_gets(i, LENGTH);
    end();
}

static void what_was_peeked_is_peeked_again_until_it_is_released(void)
{
    struct un_rx first[8], again[8];
    begin(256, 2048);
    const struct un_device_operations *verbs = link_now.device->operations;
    for (uint32_t i = 0; i < 6; i++)
        far_sends(i, 100 + i);
    uint32_t count = 0;
    while (count < 6 && conformance_wait(link_now.device, 1000))
        count = verbs->peek(link_now.device, first, 8);
    CHECK_EQ(count, 6);
    CHECK_EQ(verbs->peek(link_now.device, again, 4), 4);
    CHECK_EQ(memcmp(first, again, 4 * sizeof *first), 0);
    verbs->release(link_now.device, 2);
    CHECK_EQ(verbs->peek(link_now.device, again, 8), 4);
    CHECK_EQ(memcmp(first + 2, again, 4 * sizeof *first), 0);
    verbs->release(link_now.device, 4);
    CHECK_EQ(verbs->peek(link_now.device, again, 8), 0);
    for (uint32_t i = 0; i < 6; i++) {
        CHECK_EQ(first[i].length, 100 + i);
        un_pool_drop_chain(&pool_now, first[i].frame);
    }
    end();
}

static void released_frames_are_not_touched_again(void)
{
    enum { KEPT = 20 };
    struct un_rx kept[KEPT];
    begin(256, 2048);
    for (uint32_t i = 0; i < KEPT; i++) {
        far_sends(i, length_of(i));
        CHECK(conformance_wait(link_now.device, 1000));
        CHECK_EQ(link_now.device->operations->peek(link_now.device, &kept[i], 1), 1);
        link_now.device->operations->release(link_now.device, 1);
    }
    for (uint32_t i = 0; i < KEPT; i++) {
        far_sends(1000 + i, length_of(i));
        device_gets(1000 + i, length_of(i));
    }
    for (uint32_t i = 0; i < KEPT; i++) {
        conformance_copy(&pool_now, &kept[i], bytes_got);
        CHECK(conformance_packet_is(bytes_got, kept[i].length, i));
        un_pool_drop_chain(&pool_now, kept[i].frame);
    }
    end();
}

static void a_packet_larger_than_a_frame_is_a_chain(void)
{
    begin(512, 256);
    uint32_t length = link_now.device->capabilities.mtu + ETHERNET_BYTES;
    for (uint32_t i = 0; i < 50; i++) {
        far_sends(i, length - i * 20);
        device_gets(i, length - i * 20);
    }
    end();
}

static void a_packet_may_be_in_as_many_pieces_as_are_allowed(void)
{
    struct un_piece pieces[UN_TX_PIECES_MAX];
    begin(256, 2048);
    struct un_device *device = link_now.device;
    uint32_t length = 54 + (UN_TX_PIECES_MAX - 1) * 11;
    conformance_packet(bytes_sent, length, 5);
    pieces[0] = (struct un_piece){.bytes = bytes_sent, .length = 54, .frame = UN_NONE};
    for (uint32_t i = 1; i < UN_TX_PIECES_MAX; i++)
        pieces[i] = (struct un_piece){.bytes = bytes_sent + 54 + (i - 1) * 11, .length = 11, .frame = UN_NONE};
    struct un_tx packet = {.pieces = pieces, .count = UN_TX_PIECES_MAX, .length = length, .header_length = 54};
    CHECK_EQ(device->operations->reserve(device, 1), 1);
    device->operations->submit(device, &packet, 1);
    device->operations->flush(device);
    far_gets(5, length);
    end();
}

/* Payload in a frame: whatever references the device takes, they are gone when it has sent or is closed. */
static void a_sent_frame_comes_back(void)
{
    begin(256, 2048);
    struct un_device *device = link_now.device;
    uint32_t frame = un_pool_take(&pool_now);
    conformance_packet(un_pool_bytes(&pool_now, frame), 1000, 9);
    const uint8_t *bytes = un_pool_bytes(&pool_now, frame);
    struct un_piece pieces[2] = {{bytes, 54, UN_NONE}, {bytes + 54, 946, frame}};
    struct un_tx packet = {.pieces = pieces, .count = 2, .length = 1000, .header_length = 54};
    CHECK_EQ(device->operations->reserve(device, 1), 1);
    device->operations->submit(device, &packet, 1);
    un_pool_drop(&pool_now, frame);
    device->operations->flush(device);
    far_gets(9, 1000);
    end();
}

static void a_packet_larger_than_the_mtu_is_an_error_where_the_wire_says_so(void)
{
    begin(256, 2048);
    struct un_device *device = link_now.device;
    uint32_t length = device->capabilities.mtu + 100u;
    conformance_packet(bytes_sent, length, 1);
    CHECK_EQ(device->operations->reserve(device, 1), 1);
    conformance_submit(device, bytes_sent, length);
    device->operations->flush(device);
    uint32_t got = under_test->far_receive(&link_now, bytes_got, PACKET_MAX);
    CHECK_EQ(got, under_test->keeps_mtu ? 0 : length);
    CHECK_EQ(device->counters.tx_errors, under_test->keeps_mtu);
    device_sends(2, 100); /* and it goes on */
    far_gets(2, 100);
    end();
}

static void what_was_reserved_is_taken_and_no_more_is_promised_than_there_is(void)
{
    begin(1024, 2048);
    struct un_device *device = link_now.device;
    uint32_t sent = 0, room;
    while (sent < 4096 && (room = device->operations->reserve(device, 7)) > 0) {
        CHECK(room <= 7);
        for (uint32_t i = 0; i < room; i++, sent++) {
            conformance_packet(bytes_sent, 100, sent);
            conformance_submit(device, bytes_sent, 100);
        }
        device->operations->flush(device);
        if (under_test->slots == 0 && sent >= 64)
            break;
    }
    if (under_test->slots) {
        CHECK_EQ(sent, under_test->slots);
        CHECK(device->counters.tx_full > 0);
    }
    for (uint32_t i = 0; i < sent; i++)
        far_gets(i, 100);
    CHECK_EQ(device->operations->reserve(device, 5), 5);
    nothing_is_left();
    end();
}

static void without_a_frame_nothing_comes_and_nothing_breaks(void)
{
    static uint32_t taken[64];
    uint32_t count = 0;
    struct un_rx packet;
    begin(64, 2048);
    for (; pool_now.own->free_count > 0; count++)
        taken[count] = un_pool_take(&pool_now);
    conformance_packet(bytes_sent, 100, 1);
    under_test->far_send(&link_now, bytes_sent, 100); /* it waits, or there is no room for it */
    CHECK_EQ(link_now.device->operations->peek(link_now.device, &packet, 1), 0);
    CHECK(link_now.device->counters.rx_no_frame > 0 || under_test->slots);
    while (count > 0)
        un_pool_drop(&pool_now, taken[--count]);
    while (link_now.device->operations->peek(link_now.device, &packet, 1)) { /* that packet, if it waited */
        link_now.device->operations->release(link_now.device, 1);
        un_pool_drop_chain(&pool_now, packet.frame);
    }
    far_sends(2, 100);
    device_gets(2, 100);
    end();
}

static void closed_with_packets_on_their_way(void)
{
    struct un_rx packets[4];
    begin(256, 256);
    for (uint32_t i = 0; i < 9; i++)
        far_sends(i, 1000);
    CHECK(conformance_wait(link_now.device, 1000));
    uint32_t count = link_now.device->operations->peek(link_now.device, packets, 4);
    CHECK(count > 0);
    link_now.device->operations->release(link_now.device, 1);
    un_pool_drop_chain(&pool_now, packets[0].frame);
    for (uint32_t i = 0; i < 9; i++) {
        conformance_packet(bytes_sent, 1000, i);
        CHECK_EQ(link_now.device->operations->reserve(link_now.device, 1), 1);
        conformance_submit(link_now.device, bytes_sent, 1000);
    }
    end();
}

/* Its owner died; the frames are counted again, and whoever comes next attaches a pool that knows of none. */
static void attached_anew_it_forgets_the_frames_it_held(void)
{
    begin(256, 2048);
    for (uint32_t i = 0; i < 9; i++)
        far_sends(i, 1000);
    struct un_rx packet;
    CHECK(conformance_wait(link_now.device, 1000));
    CHECK_EQ(link_now.device->operations->peek(link_now.device, &packet, 1), 1);
    for (uint32_t i = 0; i < pool_now.own->count; i++)
        pool_now.frames[i].references = 0;
    un_pool_rebuild(&pool_now);
    un_device_attach(link_now.device, &pool_now);
    while (link_now.device->operations->peek(link_now.device, &packet, 1)) { /* the device may keep them elsewhere */
        link_now.device->operations->release(link_now.device, 1);
        un_pool_drop_chain(&pool_now, packet.frame);
    }
    far_sends(20, 1000);
    device_gets(20, 1000);
    end();
}

static void a_sleeper_is_told(void)
{
    begin(256, 2048);
    struct un_device *device = link_now.device;
    CHECK(!conformance_wait(device, 0));
    far_sends(1, 100);
    CHECK(conformance_wait(device, 1000));
    device_gets(1, 100);
    CHECK(!conformance_wait(device, 0));
    far_sends(2, 100);
    far_sends(3, 100);
    device_gets(2, 100);
    CHECK(conformance_wait(device, 1000));
    device_gets(3, 100);
    CHECK(!conformance_wait(device, 0));
    end();
}

static void counters_add_up(void)
{
    uint64_t bytes_in = 0, bytes_out = 0;
    begin(256, 2048);
    for (uint32_t i = 0; i < 20; i++) {
        far_sends(i, length_of(i));
        device_gets(i, length_of(i));
        device_sends(i, length_of(i + 7));
        far_gets(i, length_of(i + 7));
        bytes_in += length_of(i);
        bytes_out += length_of(i + 7);
    }
    const struct un_device_counters *counters = &link_now.device->counters;
    CHECK_EQ(counters->rx_packets, 20);
    CHECK_EQ(counters->tx_packets, 20);
    CHECK_EQ(counters->rx_bytes, bytes_in);
    CHECK_EQ(counters->tx_bytes, bytes_out);
    CHECK_EQ(counters->rx_errors + counters->rx_dropped + counters->tx_errors, 0);
    end();
}

static void capabilities_make_sense(void)
{
    begin(256, 2048);
    const struct un_device_capabilities *can = &link_now.device->capabilities;
    CHECK(can->mtu >= 1280);
    CHECK(can->tx_segment_bytes == 0 || can->tx_checksum);
    CHECK(can->queue < can->queues);
    CHECK_EQ(can->mac[0] & 1, 0);
    CHECK(link_now.device->operations->name[0] != 0);
    end();
}

void conformance_run(const struct conformance_device *device)
{
    under_test = device;
    printf("# %s\n", device->name);
    RUN(packets_come_in_order_and_whole);
    RUN(packets_go_in_order_and_whole);
    RUN(a_batch_is_sent_as_it_was_submitted);
    RUN(what_was_peeked_is_peeked_again_until_it_is_released);
    RUN(released_frames_are_not_touched_again);
    RUN(a_packet_larger_than_a_frame_is_a_chain);
    RUN(a_packet_may_be_in_as_many_pieces_as_are_allowed);
    RUN(a_sent_frame_comes_back);
    RUN(a_packet_larger_than_the_mtu_is_an_error_where_the_wire_says_so);
    RUN(what_was_reserved_is_taken_and_no_more_is_promised_than_there_is);
    RUN(without_a_frame_nothing_comes_and_nothing_breaks);
    RUN(closed_with_packets_on_their_way);
    RUN(attached_anew_it_forgets_the_frames_it_held);
    RUN(a_sleeper_is_told);
    RUN(counters_add_up);
    RUN(capabilities_make_sense);
}
