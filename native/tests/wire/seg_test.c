/* TCP headers: known ones, random ones there and back, and everything that is wrong with one. */
#include "wire/seg.h"

#include "base/bytes.h"
#include "bytes.h"

static enum un_drop parse(struct un_seg *seg, const uint8_t *bytes, uint32_t length)
{
    memset(seg, 0xa5, sizeof *seg);
    return un_seg_parse(seg, at_edge(bytes, length), length, length);
}

/* A header with these options, padded with zeros, and no payload. */
static uint32_t header_with(uint8_t *at, uint8_t flags, const uint8_t *options, uint32_t length)
{
    uint32_t header = 20 + (length + 3) / 4 * 4;
    memset(at, 0, header);
    at[12] = (uint8_t)(header << 2);
    at[13] = flags;
    memcpy(at + 20, options, length);
    return header;
}

static struct un_seg parse_options(uint8_t flags, const char *hex)
{
    uint8_t options[40], bytes[60];
    struct un_seg seg;
    uint32_t length = from_hex(options, hex);
    CHECK_EQ(parse(&seg, bytes, header_with(bytes, flags, options, length)), UN_DROP_NONE);
    return seg;
}

static void a_known_data_segment(void)
{
    uint8_t bytes[100];
    struct un_seg seg;
    uint32_t length =
        from_hex(bytes, "9c401b58 11223344 55667788 801801f5 619e0000 0101080a 01020304 0a0b0c0d 68656c6c6f");
    CHECK_EQ(parse(&seg, bytes, length), UN_DROP_NONE);
    CHECK_EQ(seg.source_port, 40000);
    CHECK_EQ(seg.destination_port, 7000);
    CHECK_EQ(seg.seq, 0x11223344);
    CHECK_EQ(seg.ack, 0x55667788);
    CHECK_EQ(seg.flags, UN_TCP_ACK | UN_TCP_PSH);
    CHECK_EQ(seg.wnd, 0x1f5);
    CHECK_EQ(seg.urgent, 0);
    CHECK_EQ(seg.header_length, 32);
    CHECK_EQ(seg.length, 5);
    CHECK_EQ(seg.options, UN_SEG_TIMESTAMP);
    CHECK_EQ(seg.tsval, 0x01020304);
    CHECK_EQ(seg.tsecr, 0x0a0b0c0d);
    CHECK_EQ(seg.sack_count, 0);
    CHECK_EQ(seg.ecn, 0);
    CHECK_EQ(un_seg_space(&seg), 5);
}

static void a_known_syn(void)
{
    uint8_t bytes[60];
    struct un_seg seg;
    uint32_t length =
        from_hex(bytes, "9c401b58 11223344 00000000 a0c2faf0 640a0000 020405b4 0402080a 00000007 00000000 01030307");
    CHECK_EQ(parse(&seg, bytes, length), UN_DROP_NONE);
    CHECK_EQ(seg.flags, UN_TCP_SYN | UN_TCP_ECE | UN_TCP_CWR);
    CHECK_EQ(seg.options, UN_SEG_MSS | UN_SEG_WSCALE | UN_SEG_SACK_PERMITTED | UN_SEG_TIMESTAMP);
    CHECK_EQ(seg.mss, 1460);
    CHECK_EQ(seg.wscale, 7);
    CHECK_EQ(seg.tsval, 7);
    CHECK_EQ(seg.wnd, 64240);
    CHECK_EQ(un_seg_space(&seg), 1);
}

static void known_sack_blocks(void)
{
    uint8_t bytes[60];
    struct un_seg seg;
    uint32_t length = from_hex(bytes, "9c401b58 00000005 00000006 f0100064 420c0000 0101080a 01020304 0a0b0c0d"
                                      "0101051a 00000001 00000002 00000003 00000004 00000005 00000006");
    CHECK_EQ(parse(&seg, bytes, length), UN_DROP_NONE);
    CHECK_EQ(seg.options, UN_SEG_TIMESTAMP);
    CHECK_EQ(seg.sack_count, 3);
    for (uint32_t i = 0; i < 3; i++) {
        CHECK_EQ(seg.sacks[i].start, 2 * i + 1);
        CHECK_EQ(seg.sacks[i].end, 2 * i + 2);
    }
}

static void four_sack_blocks_fill_the_header(void)
{
    struct un_seg seg =
        parse_options(UN_TCP_ACK, "0522 0000000100000002 0000000300000004 0000000500000006 0000000700000008");
    CHECK_EQ(seg.sack_count, 4);
    CHECK_EQ(seg.sacks[3].end, 8);
}

static void unknown_options_are_skipped(void)
{
    CHECK_EQ(parse_options(UN_TCP_SYN, "63040000 020403e8").mss, 1000); /* kind 99 */
    CHECK_EQ(parse_options(UN_TCP_SYN, "fe02 01 220a1122334455667788 020403e8").mss, 1000);
}

static void what_ends_the_options_does_not_undo_those_before(void)
{
    CHECK_EQ(parse_options(UN_TCP_SYN, "020403e8 00 030307").options, UN_SEG_MSS);     /* end of list */
    CHECK_EQ(parse_options(UN_TCP_SYN, "020403e8 0300 0101").options, UN_SEG_MSS);     /* length 0 */
    CHECK_EQ(parse_options(UN_TCP_SYN, "020403e8 0301 0303").options, UN_SEG_MSS);     /* length 1 */
    CHECK_EQ(parse_options(UN_TCP_SYN, "020403e8 01080a00").options, UN_SEG_MSS);      /* beyond the header */
    CHECK_EQ(parse_options(UN_TCP_SYN, "020403e8 6301 030307 010101").options, UN_SEG_MSS);
    CHECK_EQ(parse_options(UN_TCP_SYN, "020403e8 01010303").options, UN_SEG_MSS);      /* one byte beyond */
    CHECK_EQ(parse_options(UN_TCP_SYN, "020403e8 01010103").options, UN_SEG_MSS);      /* no length */
    CHECK_EQ(parse_options(UN_TCP_SYN, "63ff0000 020403e8").options, 0);
}

static void a_known_option_of_wrong_length_is_absent(void)
{
    CHECK_EQ(parse_options(UN_TCP_SYN, "0201").options, 0);
    CHECK_EQ(parse_options(UN_TCP_SYN, "020305 0204 03e8 01").mss, 1000);
    CHECK_EQ(parse_options(UN_TCP_SYN, "02060102 0304").options, 0);
    CHECK_EQ(parse_options(UN_TCP_SYN, "0302 030407 00").options, 0);
    CHECK_EQ(parse_options(UN_TCP_SYN, "040300").options, 0);
    CHECK_EQ(parse_options(UN_TCP_ACK, "0809 01020304050607 080b 010203040506070809").options, 0);
    CHECK_EQ(parse_options(UN_TCP_ACK, "0502").sack_count, 0);
    CHECK_EQ(parse_options(UN_TCP_ACK, "0509 01020304050607").sack_count, 0);
    CHECK_EQ(parse_options(UN_TCP_ACK, "0512 00000001 00000002 00000003 00000004").sack_count, 2);
}

static void an_option_counts_where_it_belongs(void)
{
    CHECK_EQ(parse_options(UN_TCP_ACK, "020405b4 0402 01 030307 01 01").options, 0);
    CHECK_EQ(parse_options(UN_TCP_SYN, "050a 0000000100000002").sack_count, 0);
    CHECK_EQ(parse_options(UN_TCP_RST, "080a 00000001 00000002").options, UN_SEG_TIMESTAMP);
    CHECK_EQ(parse_options(UN_TCP_SYN, "02040000").options, 0); /* an MSS of nothing */
    CHECK_EQ(parse_options(UN_TCP_SYN, "03030f").wscale, 15);   /* capped by the reader */
    CHECK_EQ(parse_options(UN_TCP_SYN, "020405b4 020403e8").mss, 1000);
}

static void any_flags_and_reserved_bits_are_read(void)
{
    for (uint32_t flags = 0; flags < 256; flags++) {
        uint8_t bytes[20];
        struct un_seg seg;
        header_with(bytes, (uint8_t)flags, bytes, 0);
        bytes[12] |= (uint8_t)(flags & 15);
        bytes[18] = 0xff;
        CHECK_EQ(parse(&seg, bytes, 20), UN_DROP_NONE);
        CHECK_EQ(seg.flags, flags);
        CHECK_EQ(seg.urgent, 0xff00);
        CHECK_EQ(un_seg_space(&seg), (flags & UN_TCP_SYN ? 1 : 0) + (flags & UN_TCP_FIN ? 1 : 0));
    }
}

static void a_header_that_is_not_all_there(void)
{
    uint8_t bytes[60] = {0};
    struct un_seg seg;
    for (uint32_t words = 0; words < 16; words++) {
        for (uint32_t length = 0; length <= 60; length++) {
            bytes[12] = (uint8_t)(words << 4);
            bool is_good = words >= 5 && words * 4 <= length;
            CHECK_EQ(parse(&seg, bytes, length), is_good ? UN_DROP_NONE : UN_DROP_tcp_malformed);
            if (is_good)
                CHECK_EQ(seg.length, length - words * 4);
        }
    }
}

static void payload_may_lie_elsewhere(void)
{
    uint8_t bytes[20] = {[12] = 0x50};
    struct un_seg seg;
    CHECK_EQ(un_seg_parse(&seg, bytes, 20, 65000), UN_DROP_NONE);
    CHECK_EQ(seg.length, 64980);
    bytes[12] = 0x60;
    CHECK_EQ(un_seg_parse(&seg, bytes, 20, 65000), UN_DROP_tcp_malformed); /* but no header */
}

static struct un_seg random_seg(uint64_t *random)
{
    struct un_seg seg;
    random_bytes(random, &seg, sizeof seg);
    bool is_syn = seg.flags & UN_TCP_SYN;
    seg.options &= is_syn ? 15 : UN_SEG_TIMESTAMP;
    seg.mss |= 1;
    seg.sack_count = is_syn ? 0 : seg.sack_count % (UN_SACK_BLOCKS_MAX + 1);
    seg.length %= 70000;
    return seg;
}

static void check_same(const struct un_seg *left, const struct un_seg *right, uint32_t sacks)
{
    CHECK_EQ(left->seq, right->seq);
    CHECK_EQ(left->ack, right->ack);
    CHECK_EQ(left->length, right->length);
    CHECK_EQ(left->wnd, right->wnd);
    CHECK_EQ(left->flags, right->flags);
    CHECK_EQ(left->options, right->options);
    CHECK_EQ(left->urgent, right->urgent);
    CHECK_EQ(left->source_port, right->source_port);
    CHECK_EQ(left->destination_port, right->destination_port);
    CHECK_EQ(right->sack_count, sacks);
    CHECK(!(left->options & UN_SEG_MSS) || left->mss == right->mss);
    CHECK(!(left->options & UN_SEG_WSCALE) || left->wscale == right->wscale);
    CHECK(!(left->options & UN_SEG_TIMESTAMP) || (left->tsval == right->tsval && left->tsecr == right->tsecr));
    CHECK(memcmp(left->sacks, right->sacks, sacks * sizeof *left->sacks) == 0);
}

static void one_there_and_back(uint64_t seed)
{
    uint64_t random = seed;
    uint8_t bytes[UN_TCP_HEADER_MAX];
    struct un_seg seg = random_seg(&random), again;
    memset(bytes, 0xa5, sizeof bytes);
    uint32_t length = un_seg_emit(&seg, bytes);
    CHECK(length % 4 == 0 && length <= UN_TCP_HEADER_MAX);
    CHECK_EQ(length, un_seg_header_length(&seg));
    CHECK_EQ(un_get16(bytes + 16), 0);
    for (uint32_t i = length; i < sizeof bytes; i++)
        CHECK_EQ(bytes[i], 0xa5);
    memset(&again, 0x5a, sizeof again);
    CHECK_EQ(un_seg_parse(&again, at_edge(bytes, length), length, length + seg.length), UN_DROP_NONE);
    CHECK_EQ(again.header_length, length);
    bool is_short_of_room = seg.options & UN_SEG_TIMESTAMP && seg.sack_count > 3;
    check_same(&seg, &again, is_short_of_room ? 3 : seg.sack_count);
}

static void there_and_back(void)
{
    for_each_seed(20000, one_there_and_back);
}

static void every_set_of_options_fits(void)
{
    for (uint32_t options = 0; options < 16; options++) {
        for (uint8_t sacks = 0; sacks <= UN_SACK_BLOCKS_MAX; sacks++) {
            struct un_seg seg = {.options = (uint8_t)options, .sack_count = sacks, .flags = UN_TCP_ACK};
            uint8_t bytes[UN_TCP_HEADER_MAX];
            CHECK_EQ(un_seg_emit(&seg, bytes), un_seg_header_length(&seg));
            CHECK(un_seg_header_length(&seg) <= UN_TCP_HEADER_MAX);
        }
    }
}

int main(void)
{
    RUN(a_known_data_segment);
    RUN(a_known_syn);
    RUN(known_sack_blocks);
    RUN(four_sack_blocks_fill_the_header);
    RUN(unknown_options_are_skipped);
    RUN(what_ends_the_options_does_not_undo_those_before);
    RUN(a_known_option_of_wrong_length_is_absent);
    RUN(an_option_counts_where_it_belongs);
    RUN(any_flags_and_reserved_bits_are_read);
    RUN(a_header_that_is_not_all_there);
    RUN(payload_may_lie_elsewhere);
    RUN(there_and_back);
    RUN(every_set_of_options_fits);
    return 0;
}
