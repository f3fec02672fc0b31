/* Packets in and out by hand: what a harness is told about a packet, and what it can say of one. */
#include <errno.h>
#include <string.h>

#include "../check.h"
#include "far_end.h"

static uint8_t bytes[70000], got[70000];

static void output_tells_what_the_device_was_asked_to_do(void)
{
    struct un_device *device = un_hand_open(&far_end_offloads, 4);
    struct un_piece pieces[2] = {{bytes, 66, UN_NONE}, {bytes + 66, 60000, UN_NONE}};
    struct un_tx packet = {.pieces = pieces, .count = 2, .length = 60066, .flags = UN_TX_SEGMENT | UN_TX_IPV6,
                           .segment_bytes = 1400, .header_length = 66, .checksum_start = 54, .checksum_offset = 16};
    struct un_tx told;
    fixture_packet(bytes, 60066, 3);
    device->operations->submit(device, &packet, 1);
    CHECK_EQ(un_hand_output(device, got, 60065, &told), (uint64_t)-EMSGSIZE); /* it stays */
    CHECK_EQ(un_hand_output(device, got, sizeof got, &told), 60066);
    CHECK(fixture_packet_is(got, 60066, 3));
    CHECK_EQ(told.flags, UN_TX_SEGMENT | UN_TX_IPV6);
    CHECK_EQ(told.segment_bytes, 1400);
    CHECK_EQ(told.header_length, 66);
    CHECK_EQ(told.checksum_start, 54);
    CHECK_EQ(told.checksum_offset, 16);
    CHECK_EQ(told.length, 60066);
    CHECK(told.pieces == NULL && told.count == 0);
    CHECK_EQ(un_hand_output(device, got, sizeof got, NULL), 0);
    device->operations->close(device);
}

static void input_says_what_it_is_told_to(void)
{
    struct un_pool pool = fixture_pool(64, 2048);
    struct un_device *device = un_hand_open(&far_end_offloads, 4);
    struct un_rx packet;
    fixture_packet(bytes, 5000, 4);
    CHECK_EQ(un_hand_input(device, bytes, 5000, 0, 0), (uint64_t)-ENOBUFS); /* nobody there yet */
    un_device_attach(device, &pool);
    CHECK_EQ(un_hand_input(device, bytes, 5000, UN_RX_CHECKSUM_PARTIAL, 1400), 0);
    CHECK_EQ(device->operations->peek(device, &packet, 1), 1);
    CHECK_EQ(packet.flags, UN_RX_CHECKSUM_PARTIAL);
    CHECK_EQ(packet.segment_bytes, 1400);
    CHECK_EQ(packet.length, 5000);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(un_hand_input(device, bytes, 100, 0, 0), 0);
    CHECK_EQ(un_hand_input(device, bytes, 100, 0, 0), (uint64_t)-ENOBUFS);
    CHECK_EQ(un_hand_input(device, bytes, 65554, 0, 0), (uint64_t)-EMSGSIZE); /* no wait would help: not looked at */
    device->operations->close(device);
    CHECK_EQ(pool.own->free_count, 64);
    fixture_pool_free(&pool);
}

int main(void)
{
    RUN(output_tells_what_the_device_was_asked_to_do);
    RUN(input_says_what_it_is_told_to);
    return 0;
}
