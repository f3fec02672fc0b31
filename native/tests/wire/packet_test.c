/* Frames: Ethernet and IPv4, known ones, random ones there and back, and everything that is wrong with one. */
#include "wire/packet.h"

#include "base/bytes.h"
#include "frame.h"

/* Offsets in a frame without a tag. */
enum { IP = 14, FRAGMENT = IP + 6, TCP = IP + 20 };

static void a_known_frame(void)
{
    struct frame frame;
    struct un_packet packet;
    frame.length =
        from_hex(frame.bytes, "020000000001 02000000000a 0800 450200391c46400040063238c000020ac6336401"
                              "9c401b58 11223344 55667788 801801f5 619e0000 0101080a 01020304 0a0b0c0d 68656c6c6f");
    CHECK_EQ(frame_parse(&frame, &packet), UN_DROP_NONE);
    CHECK_EQ(packet.ether_type, UN_ETHER_IPV4);
    CHECK_EQ(packet.network, 14);
    CHECK_EQ(packet.destination_mac[5], 1);
    CHECK_EQ(packet.source_mac[5], 10);
    CHECK_EQ(packet.protocol, UN_PROTOCOL_TCP);
    CHECK_EQ(packet.ecn, UN_ECN_ECT0);
    CHECK_EQ(packet.hop_limit, 64);
    CHECK(!packet.is_fragment && !packet.more_fragments);
    CHECK_EQ(packet.fragment_offset, 0);
    CHECK_EQ(packet.transport, 34);
    CHECK_EQ(packet.transport_length, 37);
    CHECK(un_ip_is_v4(&packet.source) && un_ip_is_v4(&packet.destination));
    CHECK_EQ(un_get32(un_ip_v4(&packet.source)), 0xc000020a);
    CHECK_EQ(un_get32(un_ip_v4(&packet.destination)), 0xc6336401);
    CHECK(frame_checksum_good(&frame, &packet, UN_CHECKSUM_UNKNOWN));
}

static void the_same_headers_are_emitted(void)
{
    static const uint8_t source[] = {192, 0, 2, 10}, destination[] = {198, 51, 100, 1};
    uint8_t expected[34], bytes[34];
    from_hex(expected, "020000000001 02000000000a 0800 450200391c46400040063238c000020ac6336401");
    struct un_ip_header header = {.source = un_ip_from_v4(source),
                                  .destination = un_ip_from_v4(destination),
                                  .protocol = UN_PROTOCOL_TCP,
                                  .hop_limit = 64,
                                  .ecn = UN_ECN_ECT0,
                                  .dont_fragment = true,
                                  .identification = 0x1c46,
                                  .payload_length = 37};
    CHECK_EQ(un_eth_emit(bytes, expected, expected + 6, UN_ETHER_IPV4), 14);
    CHECK_EQ(un_ip_emit(bytes + 14, &header), 20);
    CHECK_EQ(un_ip_header_length(&header.destination), 20);
    CHECK(memcmp(bytes, expected, sizeof bytes) == 0);
}

static void one_there_and_back(uint64_t seed)
{
    uint64_t random = seed;
    struct frame frame;
    struct un_packet packet;
    bool is_v4 = random_below(&random, 2);
    struct un_ip_header header = random_header(&random, is_v4, UN_PROTOCOL_TCP, random_below(&random, 1000));
    frame_of(&frame, &header, NULL);
    if (is_v4)
        CHECK_EQ(naive_checksum(naive_sum(frame.bytes + IP, 20)), 0);
    frame_pad(&frame, random_below(&random, 40));
    if (seed % 3 == 0)
        frame_tag(&frame, (uint16_t)random_next(&random));
    CHECK_EQ(frame_parse(&frame, &packet), UN_DROP_NONE);
    CHECK_EQ(packet.ether_type, is_v4 ? UN_ETHER_IPV4 : UN_ETHER_IPV6);
    CHECK_EQ(packet.network, seed % 3 == 0 ? 18 : 14);
    CHECK_EQ(packet.protocol, header.protocol);
    CHECK_EQ(packet.hop_limit, header.hop_limit);
    CHECK_EQ(packet.ecn, header.ecn);
    CHECK_EQ(packet.transport, packet.network + un_ip_header_length(&header.destination));
    CHECK_EQ(packet.transport_length, header.payload_length);
    CHECK(un_ip_equal(&packet.source, &header.source) && un_ip_equal(&packet.destination, &header.destination));
    CHECK(!packet.is_fragment);
}

static void there_and_back(void)
{
    for_each_seed(5000, one_there_and_back);
}

/* Whatever a frame is cut to, it is dropped: also behind the IP header, which says how much must come. */
static void a_frame_that_ends_too_early(void)
{
    for (int kind = 0; kind < 4; kind++) {
        struct frame frame;
        struct un_packet packet;
        frame_tcp(&frame, kind % 2, 10);
        if (kind / 2)
            frame_tag(&frame, 5);
        uint32_t ip = kind / 2 ? 18 : 14, header = kind % 2 ? 20 : 40;
        for (uint32_t whole = frame.length; frame.length > 0;) {
            CHECK_EQ(frame_parse(&frame, &packet), frame.length == whole ? UN_DROP_NONE
                                                   : frame.length < ip + header ? UN_DROP_short_frame
                                                                               : UN_DROP_ip_malformed);
            frame.length--;
        }
        CHECK_EQ(frame_parse(&frame, &packet), UN_DROP_short_frame);
    }
}

static void frames_of_other_protocols(void)
{
    static const uint16_t types[] = {0, 46, 1500, 0x0801, 0x8035, 0x88a8, 0x88cc, 0x9000, 0xffff};
    for (uint32_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct frame frame;
        struct un_packet packet;
        frame_tcp(&frame, true, 10);
        un_put16(frame.bytes + 12, types[i]);
        CHECK_EQ(frame_parse(&frame, &packet), UN_DROP_ether_type);
    }
}

static void one_tag_is_tolerated_and_no_two(void)
{
    struct frame frame;
    struct un_packet packet;
    frame_tcp(&frame, true, 10);
    frame_tag(&frame, 0xe000);
    CHECK_EQ(frame_parse(&frame, &packet), UN_DROP_NONE);
    CHECK(frame_checksum_good(&frame, &packet, UN_CHECKSUM_UNKNOWN));
    frame_tag(&frame, 7);
    CHECK_EQ(frame_parse(&frame, &packet), UN_DROP_ether_type);
}

static void arp_is_all_that_follows(void)
{
    struct frame frame = {.length = 60};
    struct un_packet packet;
    un_put16(frame.bytes + 12, UN_ETHER_ARP);
    CHECK_EQ(frame_parse(&frame, &packet), UN_DROP_NONE);
    CHECK_EQ(packet.ether_type, UN_ETHER_ARP);
    CHECK_EQ(packet.transport, 14);
    CHECK_EQ(packet.transport_length, 46);
}

/* A header whose fields are wrong, with a checksum that is right. */
static enum un_drop parse_ipv4_with(uint32_t offset, uint16_t value)
{
    struct frame frame;
    struct un_packet packet;
    frame_tcp(&frame, true, 20);
    un_put16(frame.bytes + IP + offset, value);
    frame_fix_ipv4(&frame);
    return frame_parse(&frame, &packet);
}

static void ipv4_headers_that_lie(void)
{
    CHECK_EQ(parse_ipv4_with(0, 0x4500), UN_DROP_NONE);
    CHECK_EQ(parse_ipv4_with(0, 0x5500), UN_DROP_ip_malformed);
    CHECK_EQ(parse_ipv4_with(0, 0x6500), UN_DROP_ip_malformed);
    CHECK_EQ(parse_ipv4_with(0, 0x4400), UN_DROP_ip_malformed);
    CHECK_EQ(parse_ipv4_with(0, 0x4000), UN_DROP_ip_malformed);
    CHECK_EQ(parse_ipv4_with(2, 60), UN_DROP_NONE);
    CHECK_EQ(parse_ipv4_with(2, 61), UN_DROP_ip_malformed);
    CHECK_EQ(parse_ipv4_with(2, 19), UN_DROP_ip_malformed);
    CHECK_EQ(parse_ipv4_with(2, 0), UN_DROP_ip_malformed);
    CHECK_EQ(parse_ipv4_with(2, 0xffff), UN_DROP_ip_malformed);
    CHECK_EQ(parse_ipv4_with(8, 64 << 8 | UN_PROTOCOL_ICMPV6), UN_DROP_ip_protocol);
    CHECK_EQ(parse_ipv4_with(8, 64 << 8 | 200), UN_DROP_NONE); /* what is served is not known here */
}

static void padding_does_not_count(void)
{
    struct frame frame;
    struct un_packet packet;
    frame_tcp(&frame, true, 0);
    frame_pad(&frame, 6);
    CHECK_EQ(frame_parse(&frame, &packet), UN_DROP_NONE);
    CHECK_EQ(packet.transport_length, 20);
    CHECK(frame_checksum_good(&frame, &packet, UN_CHECKSUM_UNKNOWN));
}

static void any_wrong_bit_of_an_ipv4_header(void)
{
    for (uint32_t options = 0; options <= 40; options += 20) {
        for (uint32_t bit = 0; bit < (20 + options) * 8; bit++) {
            struct frame frame;
            struct un_packet packet;
            frame_tcp(&frame, true, 100);
            if (options > 0)
                frame_ipv4_options(&frame, "01010101 01010101 01010101 01010101 01010101"
                                           "01010101 01010101 01010101 01010101 01010101",
                                   options);
            CHECK_EQ(frame_parse(&frame, &packet), UN_DROP_NONE);
            frame.bytes[IP + bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
            enum un_drop drop = frame_parse(&frame, &packet);
            CHECK(drop == UN_DROP_ip_checksum || (bit < 8 && drop == UN_DROP_ip_malformed));
        }
    }
}

static enum un_drop parse_options(const char *hex, uint32_t length)
{
    struct frame frame;
    struct un_packet packet;
    frame_tcp(&frame, true, 30);
    frame_ipv4_options(&frame, hex, length);
    enum un_drop drop = frame_parse(&frame, &packet);
    if (!drop) {
        CHECK_EQ(packet.transport, TCP + length);
        CHECK(frame_checksum_good(&frame, &packet, UN_CHECKSUM_UNKNOWN));
    }
    return drop;
}

static void ipv4_options(void)
{
    CHECK_EQ(parse_options("01010100", 4), UN_DROP_NONE);
    CHECK_EQ(parse_options("94040000", 4), UN_DROP_NONE);                         /* router alert */
    CHECK_EQ(parse_options("0707040000000000", 8), UN_DROP_NONE);                 /* record route */
    CHECK_EQ(parse_options("440c0500 00000000 00000000 00830b04", 16), UN_DROP_NONE); /* behind the end of the list */
    CHECK_EQ(parse_options("83070400000000 00", 8), UN_DROP_ip_options);
    CHECK_EQ(parse_options("89070400000000 00", 8), UN_DROP_ip_options);
    CHECK_EQ(parse_options("01 94040000 830304", 8), UN_DROP_ip_options);
    CHECK_EQ(parse_options("07000400", 4), UN_DROP_ip_malformed);
    CHECK_EQ(parse_options("07010400", 4), UN_DROP_ip_malformed);
    CHECK_EQ(parse_options("07050400", 4), UN_DROP_ip_malformed);
    CHECK_EQ(parse_options("01010107", 4), UN_DROP_ip_malformed);
}

static void an_ipv4_header_that_is_not_all_there(void)
{
    struct frame frame;
    struct un_packet packet;
    frame_tcp(&frame, true, 0);
    frame_ipv4_options(&frame, "0101010101010101", 8);
    frame.length = TCP + 4;
    CHECK_EQ(frame_parse(&frame, &packet), UN_DROP_short_frame);
}

static enum un_drop parse_fragment(struct un_packet *packet, uint16_t word, uint32_t length)
{
    struct frame frame;
    frame_tcp(&frame, true, length - 20);
    un_put16(frame.bytes + IP + 4, 0xbeef);
    un_put16(frame.bytes + FRAGMENT, word);
    frame_fix_ipv4(&frame);
    return frame_parse(&frame, packet);
}

static void ipv4_fragments(void)
{
    struct un_packet packet;
    CHECK_EQ(parse_fragment(&packet, 0x4000, 24), UN_DROP_NONE); /* don't fragment */
    CHECK(!packet.is_fragment);
    CHECK_EQ(parse_fragment(&packet, 0x2000, 24), UN_DROP_NONE);
    CHECK(packet.is_fragment && packet.more_fragments);
    CHECK_EQ(packet.fragment_offset, 0);
    CHECK_EQ(packet.fragment_id, 0xbeef);
    CHECK_EQ(packet.transport_length, 24);
    CHECK_EQ(parse_fragment(&packet, 0x2003, 24), UN_DROP_NONE);
    CHECK(packet.more_fragments);
    CHECK_EQ(packet.fragment_offset, 24);
    CHECK_EQ(parse_fragment(&packet, 0x0006, 21), UN_DROP_NONE);
    CHECK(packet.is_fragment && !packet.more_fragments);
    CHECK_EQ(packet.fragment_offset, 48);
    CHECK_EQ(parse_fragment(&packet, 0x2000, 23), UN_DROP_fragment_malformed);
}

/* What they would make together must have a length that an IP header can say: it is written into one. */
static void no_fragment_reaches_too_far(void)
{
    struct un_packet packet;
    CHECK_EQ(parse_fragment(&packet, 65480 / 8, 35), UN_DROP_NONE);
    CHECK_EQ(parse_fragment(&packet, 65480 / 8, 36), UN_DROP_fragment_malformed);
    CHECK_EQ(parse_fragment(&packet, 0x1fff, 20), UN_DROP_fragment_malformed);
    CHECK_EQ(parse_fragment(&packet, 0x3fff, 24), UN_DROP_fragment_malformed);
}

static void no_fragment_has_a_good_checksum(void)
{
    struct frame frame;
    struct un_packet packet;
    frame_tcp(&frame, true, 4);
    un_put16(frame.bytes + FRAGMENT, 0x2000);
    frame_fix_ipv4(&frame);
    CHECK_EQ(frame_parse(&frame, &packet), UN_DROP_NONE);
    CHECK(!frame_checksum_good(&frame, &packet, UN_CHECKSUM_UNKNOWN));
    CHECK(!frame_checksum_good(&frame, &packet, UN_CHECKSUM_PARTIAL));
}

/* Payload in as many pieces as one likes; headers in the first. */
static void a_packet_in_pieces(void)
{
    struct frame frame;
    struct un_packet packet;
    frame_tcp(&frame, true, 1001);
    for (uint32_t first = 0; first <= frame.length; first++) {
        struct iovec pieces[3] = {
            {frame.bytes, first}, {frame.bytes + first, 0}, {frame.bytes + first, frame.length - first}};
        enum un_drop drop = un_packet_parse(&packet, pieces, 3);
        CHECK_EQ(drop, first < TCP ? UN_DROP_short_frame : UN_DROP_NONE);
        if (drop)
            continue;
        CHECK_EQ(packet.transport_length, 1021);
        CHECK_EQ(un_packet_checksum_good(&packet, pieces, 3, UN_CHECKSUM_UNKNOWN), first >= TCP + 20);
    }
    struct iovec cut[2] = {{frame.bytes, 100}, {frame.bytes + 100, frame.length - 101}};
    CHECK_EQ(un_packet_parse(&packet, cut, 2), UN_DROP_ip_malformed);
}

int main(void)
{
    RUN(a_known_frame);
    RUN(the_same_headers_are_emitted);
    RUN(there_and_back);
    RUN(a_frame_that_ends_too_early);
    RUN(frames_of_other_protocols);
    RUN(one_tag_is_tolerated_and_no_two);
    RUN(arp_is_all_that_follows);
    RUN(ipv4_headers_that_lie);
    RUN(padding_does_not_count);
    RUN(any_wrong_bit_of_an_ipv4_header);
    RUN(ipv4_options);
    RUN(an_ipv4_header_that_is_not_all_there);
    RUN(ipv4_fragments);
    RUN(no_fragment_reaches_too_far);
    RUN(no_fragment_has_a_good_checksum);
    RUN(a_packet_in_pieces);
    return 0;
}
