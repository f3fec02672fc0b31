/* The checksum against arithmetic on one word after the other: every alignment, length and division into pieces. */
#include "wire/checksum.h"

#include "bytes.h"

static uint16_t swapped(uint16_t value)
{
    return __builtin_bswap16(value);
}

static void at_every_alignment_and_length(void)
{
    enum { MOST = 700 };
    static uint8_t bytes[MOST + 64];
    uint64_t random = 1;
    random_bytes(&random, bytes, sizeof bytes);
    for (uint32_t offset = 0; offset < 33; offset++)
        for (uint32_t length = 0; length <= MOST; length++)
            CHECK_EQ(swapped(un_checksum(un_sum(bytes + offset, length))),
                     naive_checksum(naive_sum(bytes + offset, length)));
}

static void nothing_behind_the_end_is_read(void)
{
    uint8_t bytes[600];
    uint64_t random = 2;
    random_bytes(&random, bytes, sizeof bytes);
    for (uint32_t length = 0; length <= sizeof bytes; length++)
        CHECK_EQ(swapped(un_checksum(un_sum(at_edge(bytes, length), length))),
                 naive_checksum(naive_sum(bytes, length)));
}

static void carries_are_kept(void)
{
    static uint8_t ones[65536];
    memset(ones, 0xff, sizeof ones);
    for (uint32_t length = 2; length <= sizeof ones; length += length < 2000 ? 2 : 1022)
        CHECK_EQ(un_checksum(un_sum(ones, length)), 0);
    CHECK_EQ(un_checksum(un_sum(ones, 0)), 0xffff);
    CHECK(un_sum_is_good(un_sum_more(UINT64_MAX, ones, 1000)));
}

static void a_large_packet(uint64_t seed)
{
    static uint8_t bytes[65536];
    uint64_t random = seed;
    random_bytes(&random, bytes, sizeof bytes);
    uint32_t offset = random_below(&random, 64);
    uint32_t length = random_below(&random, sizeof bytes - 64);
    CHECK_EQ(swapped(un_checksum(un_sum(bytes + offset, length))), naive_checksum(naive_sum(bytes + offset, length)));
    uint64_t before = random_next(&random) >> 16;
    CHECK_EQ(un_sum_fold(un_sum_more(before, bytes, length)), un_sum_fold(before + un_sum(bytes, length)));
}

static void large_packets(void)
{
    for_each_seed(20, a_large_packet);
}

/* Cut anywhere, empty pieces and odd ones included, each piece at the end of its memory or anywhere. */
static void a_sum_of_pieces(uint64_t seed)
{
    enum { PIECES = 8 };
    uint8_t bytes[3000];
    struct iovec pieces[PIECES];
    uint64_t random = seed;
    random_bytes(&random, bytes, sizeof bytes);
    int count = 1 + (int)random_below(&random, PIECES);
    uint32_t total = 0;
    for (int i = 0; i < count; i++) {
        pieces[i] = (struct iovec){bytes + total, random_below(&random, i % 2 ? 9 : 300)};
        total += (uint32_t)pieces[i].iov_len;
    }
    uint32_t skip = random_below(&random, total + 1);
    uint32_t length = random_below(&random, total - skip + 1);
    CHECK_EQ(swapped(un_checksum(un_sum_pieces(pieces, count, skip, length))),
             naive_checksum(naive_sum(bytes + skip, length)));
}

static void sums_of_pieces(void)
{
    for_each_seed(5000, a_sum_of_pieces);
}

static void a_pseudo_header(uint64_t seed)
{
    uint64_t random = seed;
    bool is_v4 = seed % 2;
    struct un_ip source = random_ip(&random, is_v4), destination = random_ip(&random, is_v4);
    uint8_t protocol = (uint8_t)(1 + random_below(&random, 255));
    uint8_t bytes[200];
    uint32_t length = random_below(&random, sizeof bytes);
    random_bytes(&random, bytes, length);
    uint64_t sum = un_sum_pseudo(&source, &destination, protocol, length) + un_sum(bytes, length);
    CHECK_EQ(swapped(un_checksum(sum)), naive_transport_checksum(&source, &destination, protocol, bytes, length));
}

static void pseudo_headers(void)
{
    for_each_seed(2000, a_pseudo_header);
}

int main(void)
{
    RUN(at_every_alignment_and_length);
    RUN(nothing_behind_the_end_is_read);
    RUN(carries_are_kept);
    RUN(large_packets);
    RUN(sums_of_pieces);
    RUN(pseudo_headers);
    return 0;
}
