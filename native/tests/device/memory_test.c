/* The wire within a process: offloads carried whole, back-pressure by the frames of the other end, ends that are closed
 * or were never attached. */
#include <errno.h>
#include <string.h>

#include "../check.h"
#include "far_end.h"

static struct un_device *ends[2];
static struct un_pool pools[2];
static uint8_t bytes[70000], got[70000];

static void open_pair(const struct un_device_capabilities *left, const struct un_device_capabilities *right,
                      uint32_t frames)
{
    const struct un_device_capabilities capabilities[2] = {*left, *right};
    CHECK_EQ(un_memory_pair(ends, capabilities, 64), 0);
    for (int i = 0; i < 2; i++) {
        pools[i] = fixture_pool(frames, 2048);
        un_device_attach(ends[i], &pools[i]);
    }
}

static void close_pair(void)
{
    for (int i = 0; i < 2; i++) {
        ends[i]->operations->close(ends[i]);
        CHECK_EQ(pools[i].own->free_count, pools[i].own->count);
        fixture_pool_free(&pools[i]);
    }
}

static void submit(struct un_device *device, uint32_t length, uint16_t flags, uint16_t segment_bytes)
{
    struct un_piece pieces[2] = {{bytes, 54, UN_NONE}, {bytes + 54, length - 54, UN_NONE}};
    struct un_tx packet = {.pieces = pieces,
                           .count = 2,
                           .length = length,
                           .flags = flags,
                           .segment_bytes = segment_bytes,
                           .header_length = 54,
                           .checksum_start = 34,
                           .checksum_offset = 16};
    fixture_packet(bytes, length, 77);
    device->operations->submit(device, &packet, 1);
}

static struct un_rx receive(int end)
{
    struct un_rx packet;
    CHECK_EQ(ends[end]->operations->peek(ends[end], &packet, 1), 1);
    ends[end]->operations->release(ends[end], 1);
    fixture_copy(&pools[end], &packet, got);
    CHECK(fixture_packet_is(got, packet.length, 77));
    un_pool_drop_chain(&pools[end], packet.frame);
    return packet;
}

static void a_super_segment_is_carried_whole_and_marked(void)
{
    open_pair(&far_end_offloads, &far_end_offloads, 512);
    submit(ends[0], 54 + 65000, UN_TX_SEGMENT, 1446);
    struct un_rx packet = receive(1);
    CHECK_EQ(packet.length, 54 + 65000);
    CHECK_EQ(packet.segment_bytes, 1446);
    CHECK_EQ(packet.flags, UN_RX_CHECKSUM_GOOD);
    close_pair();
}

static void a_checksum_left_to_the_wire_is_good_and_others_are_not_known(void)
{
    open_pair(&far_end_offloads, &far_end_offloads, 512);
    submit(ends[0], 500, UN_TX_CHECKSUM, 0);
    submit(ends[0], 501, 0, 0);
    CHECK_EQ(receive(1).flags, UN_RX_CHECKSUM_GOOD);
    CHECK_EQ(receive(1).flags, 0);
    close_pair();
}

static void what_the_end_cannot_do_is_its_error(void)
{
    open_pair(&far_end_plain, &far_end_plain, 512);
    submit(ends[0], 500, UN_TX_CHECKSUM, 0);
    submit(ends[0], 3000, UN_TX_SEGMENT, 1446);
    CHECK_EQ(ends[0]->counters->tx_errors, 2);
    CHECK_EQ(ends[1]->counters->rx_packets, 0);
    close_pair();
    open_pair(&far_end_offloads, &far_end_offloads, 512);
    submit(ends[0], 54 + 65001, UN_TX_SEGMENT, 1446); /* more payload than it says */
    submit(ends[0], 10000, UN_TX_SEGMENT, 1500);      /* parts larger than the MTU */
    CHECK_EQ(ends[0]->counters->tx_errors, 2);
    close_pair();
}

static void offloads_that_the_other_end_does_not_take_are_refused(void)
{
    struct un_device_capabilities capabilities[2] = {far_end_offloads, far_end_plain};
    CHECK_EQ(un_memory_pair(ends, capabilities, 64), -EINVAL);
    capabilities[1].rx_checksum = true;
    CHECK_EQ(un_memory_pair(ends, capabilities, 64), -EINVAL);
    capabilities[1].rx_coalesce = true;
    CHECK_EQ(un_memory_pair(ends, capabilities, 63), -EINVAL); /* slots: a power of two */
    CHECK_EQ(un_memory_pair(ends, capabilities, 64), 0);
    ends[0]->operations->close(ends[0]);
    ends[1]->operations->close(ends[1]);
}

static void a_narrow_receiver_is_a_black_hole(void)
{
    struct un_device_capabilities narrow = far_end_plain;
    narrow.mtu = 1280;
    open_pair(&far_end_plain, &narrow, 64);
    submit(ends[0], 1514, 0, 0);
    submit(ends[0], 1294, 0, 0);
    CHECK_EQ(receive(1).length, 1294);
    CHECK_EQ(ends[0]->counters->tx_packets, 2);
    CHECK_EQ(ends[1]->counters->rx_dropped, 1);
    close_pair();
}

static void frames_of_the_receiver_are_back_pressure(void)
{
    open_pair(&far_end_plain, &far_end_plain, 64);
    uint32_t held[64], count = 0;
    while (pools[1].own->free_count > 10)
        held[count++] = un_pool_take(&pools[1]);
    CHECK_EQ(ends[0]->operations->reserve(ends[0], 64), 8); /* 2 of 64 are left to the receiver */
    for (uint32_t i = 0; i < 8; i++)
        submit(ends[0], 100, 0, 0);
    CHECK_EQ(ends[0]->operations->reserve(ends[0], 64), 0);
    receive(1);
    CHECK_EQ(ends[0]->operations->reserve(ends[0], 64), 1);
    for (uint32_t i = 0; i < 7; i++)
        receive(1);
    while (count > 0)
        un_pool_drop(&pools[1], held[--count]);
    CHECK_EQ(ends[0]->operations->reserve(ends[0], 99), 62);
    close_pair();
}

static void super_segments_are_reserved_by_their_largest_size(void)
{
    open_pair(&far_end_offloads, &far_end_offloads, 102); /* 32 frames each, 3 left over */
    CHECK_EQ(ends[0]->operations->reserve(ends[0], 64), 3);
    for (uint32_t i = 0; i < 3; i++)
        submit(ends[0], 54 + 65000, UN_TX_SEGMENT, 1446);
    CHECK_EQ(ends[1]->counters->rx_packets, 3);
    CHECK_EQ(ends[0]->operations->reserve(ends[0], 64), 1); /* it may be a small one */
    submit(ends[0], 54 + 65000, UN_TX_SEGMENT, 1446);
    CHECK_EQ(ends[1]->counters->rx_no_frame, 1);
    CHECK_EQ(ends[1]->counters->rx_dropped, 1);
    submit(ends[0], 66, 0, 0);
    for (uint32_t i = 0; i < 4; i++)
        receive(1);
    close_pair();
}

static void nobody_at_the_far_end(void)
{
    open_pair(&far_end_plain, &far_end_plain, 64);
    ends[1]->operations->close(ends[1]);
    CHECK_EQ(ends[0]->operations->reserve(ends[0], 64), 64);
    submit(ends[0], 100, 0, 0);
    CHECK_EQ(ends[0]->counters->tx_errors, 1);
    CHECK_EQ(ends[0]->counters->tx_packets, 0);
    const struct un_device_capabilities capabilities[2] = {far_end_plain, far_end_plain};
    ends[0]->operations->close(ends[0]);
    CHECK_EQ(un_memory_pair(ends, capabilities, 64), 0);
    CHECK_EQ(ends[0]->operations->reserve(ends[0], 9), 9);
    submit(ends[0], 100, 0, 0); /* the far end was never attached */
    CHECK_EQ(ends[1]->counters->rx_dropped, 1);
    close_pair();
}

int main(void)
{
    RUN(a_super_segment_is_carried_whole_and_marked);
    RUN(a_checksum_left_to_the_wire_is_good_and_others_are_not_known);
    RUN(what_the_end_cannot_do_is_its_error);
    RUN(offloads_that_the_other_end_does_not_take_are_refused);
    RUN(a_narrow_receiver_is_a_black_hole);
    RUN(frames_of_the_receiver_are_back_pressure);
    RUN(super_segments_are_reserved_by_their_largest_size);
    RUN(nobody_at_the_far_end);
    return 0;
}
