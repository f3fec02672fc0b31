/* Faults: each kind alone; the same seed, the same faults. */
#include <string.h>

#include "base/bytes.h"
#include "../check.h"
#include "far_end.h"
#include "wire/checksum.h"

#define PACKETS 4000u
#define LENGTH 120u

static struct fixture_link link_now;
static struct un_pool pool;
static uint8_t bytes[70000], got[70000];

static void open_device(const struct un_device_capabilities *capabilities, const struct un_fault_profile *profile)
{
    pool = fixture_pool(512, 2048);
    far_end_open(&link_now, capabilities);
    link_now.device = un_fault_wrap(link_now.device, profile);
    link_now.pool = &pool;
    un_device_attach(link_now.device, &pool);
}

static void close_device(void)
{
    link_now.device->operations->close(link_now.device);
    far_end_close(&link_now);
    CHECK_EQ(pool.own->free_count, pool.own->count);
    fixture_pool_free(&pool);
}

/* An IPv4 packet as far as Ethernet can tell, with its number behind the header. */
static void numbered(uint32_t number)
{
    fixture_packet(bytes, LENGTH, number);
    un_put16(bytes + 12, 0x0800);
    un_put32(bytes + 14, number);
}

/* Which packets arrived, in which order, of so many that were sent one after the other. */
static uint32_t exchange(bool inbound, uint32_t *arrived, uint32_t most)
{
    uint32_t count = 0;
    struct fixture_link *from = inbound ? far_end_link(&link_now) : &link_now;
    struct fixture_link *to = inbound ? &link_now : far_end_link(&link_now);
    for (uint32_t i = 0; i < PACKETS; i++) {
        numbered(i);
        CHECK_EQ(from->device->operations->reserve(from->device, 1), 1);
        fixture_submit(from->device, bytes, LENGTH);
        from->device->operations->flush(from->device);
        while (fixture_receive(to, got, NULL)) {
            CHECK(count < most);
            arrived[count++] = un_get32(got + 14);
        }
    }
    return count;
}

static uint32_t arrived[2][2 * PACKETS];

static void a_seed_repeats_itself_and_another_one_differs(void)
{
    struct un_fault_profile profile = {
        .seed = 7, .loss = 50000, .duplicate = 50000, .corrupt = 50000, .reorder = 50000};
    for (int inbound = 0; inbound < 2; inbound++) {
        uint32_t counts[3];
        for (uint32_t run = 0; run < 3; run++) {
            profile.seed = run < 2 ? 7 : 8;
            open_device(&far_end_plain, &profile);
            counts[run] = exchange(inbound, arrived[run > 0], 2 * PACKETS);
            close_device();
            if (run == 1)
                CHECK_EQ(memcmp(arrived[0], arrived[1], counts[0] * sizeof(uint32_t)), 0);
        }
        CHECK_EQ(counts[0], counts[1]);
        CHECK(counts[0] != counts[2] || memcmp(arrived[0], arrived[1], counts[0] * sizeof(uint32_t)) != 0);
    }
}

static void loss_is_as_frequent_as_asked_for_and_counted(void)
{
    const struct un_fault_profile profile = {.seed = 3, .loss = 100000};
    for (int inbound = 0; inbound < 2; inbound++) {
        open_device(&far_end_plain, &profile);
        uint32_t count = exchange(inbound, arrived[0], PACKETS);
        CHECK(count > PACKETS * 87 / 100 && count < PACKETS * 93 / 100);
        for (uint32_t i = 1; i < count; i++)
            CHECK(arrived[0][i] > arrived[0][i - 1]);
        const struct un_device_counters *counters = link_now.device->counters;
        CHECK_EQ(inbound ? counters->rx_dropped : counters->tx_errors, PACKETS - count);
        close_device();
    }
}

static void all_lost_does_not_hang(void)
{
    const struct un_fault_profile profile = {.seed = 3, .loss = 1000000};
    open_device(&far_end_plain, &profile);
    CHECK_EQ(exchange(true, arrived[0], PACKETS), 0);
    CHECK_EQ(exchange(false, arrived[0], PACKETS), 0);
    close_device();
}

static void doubled_packets_come_twice_in_a_row(void)
{
    const struct un_fault_profile profile = {.seed = 3, .duplicate = 1000000};
    for (int inbound = 0; inbound < 2; inbound++) {
        open_device(&far_end_plain, &profile);
        CHECK_EQ(exchange(inbound, arrived[0], 2 * PACKETS), 2 * PACKETS);
        for (uint32_t i = 0; i < 2 * PACKETS; i++)
            CHECK_EQ(arrived[0][i], i / 2);
        close_device();
    }
}

static void reordered_packets_all_come_once_at_most_eight_late(void)
{
    static uint32_t at[PACKETS];
    const struct un_fault_profile profile = {.seed = 3, .reorder = 200000};
    for (int inbound = 0; inbound < 2; inbound++) {
        open_device(&far_end_plain, &profile);
        uint32_t count = exchange(inbound, arrived[0], PACKETS), moved = 0;
        CHECK(count >= PACKETS - 8 && count <= PACKETS); /* the last ones may still be held */
        memset(at, 0xff, sizeof at);
        for (uint32_t i = 0; i < count; i++) {
            CHECK_EQ(at[arrived[0][i]], UN_NONE);
            at[arrived[0][i]] = i;
        }
        for (uint32_t i = 0; i < PACKETS; i++) {
            if (at[i] == UN_NONE)
                continue;
            CHECK(at[i] <= i + 8 && at[i] + 8 >= i);
            moved += at[i] != i;
        }
        CHECK(moved > PACKETS / 10);
        close_device();
    }
}

/* Bits that differ, all behind the Ethernet header. */
static uint32_t damage(const uint8_t *packet, const uint8_t *original, uint32_t length)
{
    uint32_t bits = 0;
    CHECK_EQ(memcmp(packet, original, 14), 0);
    for (uint32_t i = 14; i < length; i++)
        bits += (uint32_t)__builtin_popcount(packet[i] ^ original[i]);
    return bits;
}

static void a_damaged_packet_differs_in_one_bit(void)
{
    const struct un_fault_profile profile = {.seed = 3, .corrupt = 1000000};
    static uint32_t hit[LENGTH];
    open_device(&far_end_plain, &profile);
    for (uint32_t i = 0; i < PACKETS; i++) {
        numbered(i);
        fixture_submit(link_now.device, bytes, LENGTH);
        CHECK_EQ(fixture_receive(far_end_link(&link_now), got, NULL), LENGTH);
        CHECK_EQ(damage(got, bytes, LENGTH), 1);
        for (uint32_t at = 14; at < LENGTH; at++)
            hit[at] += got[at] != bytes[at];
        CHECK(far_end_send(&link_now, bytes, LENGTH));
        CHECK_EQ(fixture_receive(&link_now, got, NULL), LENGTH);
        CHECK_EQ(damage(got, bytes, LENGTH), 1);
    }
    for (uint32_t at = 14; at < LENGTH; at++)
        CHECK(hit[at] > 0);
    close_device();
}

/* A checksum that was left to the device: damaged as on the wire, behind its completion, so that it is always found. */
static void damage_is_found_by_the_checksum_that_the_device_completes(void)
{
    enum { START = 34, FIELD = 16, MOST = 1400 };
    const struct un_fault_profile profile = {.seed = 3, .corrupt = 1000000};
    open_device(&far_end_offloads, &profile);
    for (uint32_t i = 0; i < PACKETS; i++) {
        uint32_t length = 80 + i % (MOST - 80);
        uint16_t pseudo = (uint16_t)(i * 7919);
        fixture_packet(bytes, length, i);
        un_put16(bytes + 12, 0x0800);
        un_put16(bytes + START + FIELD, pseudo);
        struct un_piece pieces[2] = {{bytes, 54, UN_NONE}, {bytes + 54, length - 54, UN_NONE}};
        struct un_tx packet = {.pieces = pieces, .count = 2, .length = length, .flags = UN_TX_CHECKSUM,
                               .header_length = 54, .checksum_start = START, .checksum_offset = FIELD};
        struct un_rx told;
        link_now.device->operations->submit(link_now.device, &packet, 1);
        CHECK_EQ(fixture_receive(far_end_link(&link_now), got, &told), length);
        CHECK_EQ(told.flags, 0); /* not known to be good */
        uint32_t in_front = damage(got, bytes, START);
        uint16_t sum = un_sum_fold(un_sum(got + START, length - START) + __builtin_bswap16(pseudo));
        CHECK_EQ(sum == 0xffff, in_front == 1);
    }
    close_device();
}

static void what_a_checksum_cannot_find_is_dropped(void)
{
    const struct un_fault_profile profile = {.seed = 3, .corrupt = 1000000};
    open_device(&far_end_offloads, &profile);
    numbered(1);
    un_put16(bytes + 12, 0x0806); /* ARP */
    CHECK(far_end_send(&link_now, bytes, LENGTH));
    CHECK_EQ(fixture_receive(&link_now, got, NULL), 0);
    fixture_submit(link_now.device, bytes, LENGTH);
    CHECK_EQ(fixture_receive(far_end_link(&link_now), got, NULL), 0);
    numbered(2);
    struct un_piece piece = {bytes, LENGTH, UN_NONE};
    struct un_tx packet = {
        .pieces = &piece, .count = 1, .length = LENGTH, .flags = UN_TX_CHECKSUM, .checksum_start = 34};
    struct un_device *far = far_end_link(&link_now)->device;
    far->operations->submit(far, &packet, 1); /* arrives as UN_RX_CHECKSUM_GOOD */
    CHECK_EQ(fixture_receive(&link_now, got, NULL), 0);
    CHECK_EQ(link_now.device->counters->rx_dropped, 2);
    CHECK_EQ(link_now.device->counters->tx_errors, 1);
    close_device();
}

static void copies_and_late_packets_keep_off_the_room_that_was_promised(void)
{
    const struct un_fault_profile profile = {.seed = 5, .duplicate = 500000, .reorder = 300000};
    open_device(&far_end_plain, &profile);
    struct un_device *device = link_now.device;
    uint32_t sent = 0, room, count = 0;
    while ((room = device->operations->reserve(device, 10)) > 0) {
        for (uint32_t i = 0; i < room; i++) {
            numbered(sent++);
            fixture_submit(device, bytes, LENGTH);
        }
        device->operations->flush(device);
    }
    static uint32_t seen[FAR_SLOTS];
    while (fixture_receive(far_end_link(&link_now), got, NULL)) {
        seen[un_get32(got + 14)]++;
        count++;
    }
    CHECK_EQ(count, FAR_SLOTS);
    CHECK_EQ(device->counters->tx_errors, 0);
    for (uint32_t i = 0; i + 30 < sent; i++)
        CHECK(seen[i] == 1 || seen[i] == 2);
    close_device();
}

int main(void)
{
    RUN(a_seed_repeats_itself_and_another_one_differs);
    RUN(loss_is_as_frequent_as_asked_for_and_counted);
    RUN(all_lost_does_not_hang);
    RUN(doubled_packets_come_twice_in_a_row);
    RUN(reordered_packets_all_come_once_at_most_eight_late);
    RUN(a_damaged_packet_differs_in_one_bit);
    RUN(damage_is_found_by_the_checksum_that_the_device_completes);
    RUN(what_a_checksum_cannot_find_is_dropped);
    RUN(copies_and_late_packets_keep_off_the_room_that_was_promised);
    return 0;
}
