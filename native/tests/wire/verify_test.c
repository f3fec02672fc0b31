/* Transport checksums: right and wrong ones of each protocol, in each state that a device may report. */
#include "base/bytes.h"
#include "frame.h"

static struct frame frame;
static struct un_packet packet;

static bool is_good(enum un_checksum_state state)
{
    CHECK_EQ(frame_parse(&frame, &packet), UN_DROP_NONE);
    return frame_checksum_good(&frame, &packet, state);
}

static uint8_t *transport(void)
{
    CHECK_EQ(frame_parse(&frame, &packet), UN_DROP_NONE);
    return frame.bytes + packet.transport;
}

/* What a sender's kernel writes where it leaves the sum to a device: the folded pseudo-header sum, not inverted. */
static uint16_t pseudo_sum(uint8_t protocol, uint32_t length)
{
    CHECK_EQ(frame_parse(&frame, &packet), UN_DROP_NONE);
    uint32_t sum = (uint16_t)~naive_transport_checksum(&packet.source, &packet.destination, protocol, NULL, 0) + length;
    return (uint16_t)(sum + (sum >> 16));
}

static void make(uint8_t protocol, bool is_v4, uint32_t payload)
{
    if (protocol == UN_PROTOCOL_TCP)
        frame_tcp(&frame, is_v4, payload);
    else
        frame_udp(&frame, is_v4, payload);
}

static void every_length_of_both_protocols_and_families(void)
{
    for (uint32_t payload = 0; payload < 600; payload++) {
        for (uint32_t kind = 0; kind < 4; kind++) {
            make(kind % 2 ? UN_PROTOCOL_TCP : UN_PROTOCOL_UDP, kind / 2, payload);
            CHECK(is_good(UN_CHECKSUM_UNKNOWN));
            CHECK(is_good(UN_CHECKSUM_PARTIAL));
        }
    }
}

/* One wrong bit is always found; only a device that has verified is believed. */
static void any_wrong_bit(void)
{
    for (uint32_t kind = 0; kind < 4; kind++) {
        make(kind % 2 ? UN_PROTOCOL_TCP : UN_PROTOCOL_UDP, kind / 2, 21);
        uint32_t length = (kind % 2 ? 20 : 8) + 21;
        for (uint32_t bit = 0; bit < length * 8; bit++) {
            uint8_t *byte = transport() + bit / 8;
            *byte ^= (uint8_t)(1 << bit % 8);
            CHECK(!is_good(UN_CHECKSUM_UNKNOWN));
            CHECK(!is_good(UN_CHECKSUM_PARTIAL));
            CHECK(is_good(UN_CHECKSUM_GOOD));
            *byte ^= (uint8_t)(1 << bit % 8);
        }
    }
}

static void addresses_are_covered(void)
{
    frame_tcp(&frame, false, 10);
    frame.bytes[14 + 8 + 3] ^= 1;
    CHECK(!is_good(UN_CHECKSUM_UNKNOWN));
    frame_tcp(&frame, true, 10);
    frame.bytes[14 + 15] ^= 1;
    frame_fix_ipv4(&frame);
    CHECK(!is_good(UN_CHECKSUM_UNKNOWN));
}

static void a_partial_checksum_counts_where_it_may_be(void)
{
    for (uint32_t kind = 0; kind < 4; kind++) {
        uint8_t protocol = kind % 2 ? UN_PROTOCOL_TCP : UN_PROTOCOL_UDP;
        uint32_t header = kind % 2 ? 20 : 8;
        for (uint32_t payload = 0; payload < 100; payload++) {
            make(protocol, kind / 2, payload);
            uint8_t *field = transport() + (kind % 2 ? 16 : 6);
            uint16_t partial = pseudo_sum(protocol, header + payload);
            un_put16(field, partial);
            CHECK(is_good(UN_CHECKSUM_PARTIAL));
            CHECK(is_good(UN_CHECKSUM_GOOD));
            CHECK(!is_good(UN_CHECKSUM_UNKNOWN));
            un_put16(field, (uint16_t)(partial + 1));
            CHECK(!is_good(UN_CHECKSUM_PARTIAL));
        }
    }
}

static void udp_without_a_checksum(void)
{
    for (int is_v4 = 0; is_v4 < 2; is_v4++) {
        frame_udp(&frame, is_v4, 10);
        un_put16(transport() + 6, 0);
        CHECK_EQ(is_good(UN_CHECKSUM_UNKNOWN), is_v4);
        CHECK_EQ(is_good(UN_CHECKSUM_PARTIAL), is_v4);
    }
}

/* A datagram in a packet that is longer: what is behind it is not summed. */
static void udp_shorter_than_its_packet(void)
{
    frame_udp(&frame, true, 11);
    frame_pad(&frame, 8);
    un_put16(frame.bytes + 16, (uint16_t)(un_get16(frame.bytes + 16) + 7));
    frame_fix_ipv4(&frame);
    CHECK(is_good(UN_CHECKSUM_UNKNOWN));
    CHECK_EQ(packet.transport_length, 26);
    frame.bytes[frame.length - 5] ^= 1;
    CHECK(is_good(UN_CHECKSUM_UNKNOWN));
    static const uint16_t wrong[] = {0, 7, 18, 20, 27, 0xffff};
    for (uint32_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        un_put16(transport() + 4, wrong[i]);
        CHECK(!is_good(UN_CHECKSUM_UNKNOWN));
        CHECK(!is_good(UN_CHECKSUM_PARTIAL));
    }
}

/* Its ports are such that they and the pseudo-header would pass for a datagram of four bytes. */
static void udp_that_leaves_out_its_checksum(void)
{
    frame_udp(&frame, true, 10);
    un_put16(transport() + 4, 4);
    un_put16(transport(), 0);
    un_put16(transport() + 2, (uint16_t)~pseudo_sum(UN_PROTOCOL_UDP, 4));
    CHECK(!is_good(UN_CHECKSUM_UNKNOWN));
}

/* ICMP is summed without a pseudo-header, so that there is nothing to leave to a device. */
static void icmp_of_both_families(void)
{
    uint8_t message[20] = {8, 0, 0, 0, 1, 2, 3};
    uint64_t random = 1;
    struct un_ip_header header = random_header(&random, true, UN_PROTOCOL_ICMP, sizeof message);
    un_put16(message + 2, naive_checksum(naive_sum(message, sizeof message)));
    frame_of(&frame, &header, message);
    CHECK(is_good(UN_CHECKSUM_UNKNOWN));
    un_put16(transport() + 2, 0);
    CHECK(!is_good(UN_CHECKSUM_PARTIAL));

    header = random_header(&random, false, UN_PROTOCOL_ICMPV6, sizeof message);
    un_put16(message + 2, 0);
    un_put16(message + 2,
             naive_transport_checksum(&header.source, &header.destination, UN_PROTOCOL_ICMPV6, message, 20));
    frame_of(&frame, &header, message);
    CHECK(is_good(UN_CHECKSUM_UNKNOWN));
    un_put16(transport() + 2, pseudo_sum(UN_PROTOCOL_ICMPV6, sizeof message));
    CHECK(is_good(UN_CHECKSUM_PARTIAL));
    CHECK(!is_good(UN_CHECKSUM_UNKNOWN));
}

static void what_is_too_short_to_have_one(void)
{
    static const uint8_t protocols[] = {UN_PROTOCOL_TCP, UN_PROTOCOL_UDP, UN_PROTOCOL_ICMP, 99};
    for (uint32_t i = 0; i < sizeof protocols; i++) {
        for (uint32_t length = 0; length < 4; length++) {
            uint64_t random = 1;
            struct un_ip_header header = random_header(&random, true, protocols[i], length);
            frame_of(&frame, &header, NULL);
            CHECK(!is_good(UN_CHECKSUM_UNKNOWN));
            CHECK(!is_good(UN_CHECKSUM_PARTIAL));
        }
    }
}

static void a_protocol_that_is_not_known(void)
{
    uint64_t random = 1;
    struct un_ip_header header = random_header(&random, true, 99, 40);
    frame_of(&frame, &header, NULL);
    CHECK(!is_good(UN_CHECKSUM_UNKNOWN));
}

int main(void)
{
    RUN(every_length_of_both_protocols_and_families);
    RUN(any_wrong_bit);
    RUN(addresses_are_covered);
    RUN(a_partial_checksum_counts_where_it_may_be);
    RUN(udp_without_a_checksum);
    RUN(udp_shorter_than_its_packet);
    RUN(udp_that_leaves_out_its_checksum);
    RUN(icmp_of_both_families);
    RUN(what_is_too_short_to_have_one);
    RUN(a_protocol_that_is_not_known);
    return 0;
}
