/* IPv6 and its extension headers, each followed to the transport protocol or refused. */
#include "base/bytes.h"
#include "frame.h"

enum { IP = 14, FIRST = IP + 40 };
enum { HOP_BY_HOP = 0, ROUTING = 43, FRAGMENT = 44, NOTHING = 59, DESTINATION = 60 };

static enum un_drop parse_with(struct un_packet *packet, uint8_t protocol, const char *hex)
{
    struct frame frame;
    frame_tcp(&frame, false, 30);
    frame_extension(&frame, protocol, hex);
    enum un_drop drop = frame_parse(&frame, packet);
    if (!drop && !packet->is_fragment) {
        CHECK_EQ(packet->protocol, UN_PROTOCOL_TCP);
        CHECK_EQ(packet->transport_length, 50);
        CHECK(frame_checksum_good(&frame, packet, UN_CHECKSUM_UNKNOWN));
    }
    return drop;
}

static void a_known_frame(void)
{
    struct frame frame;
    struct un_packet packet;
    frame.length = from_hex(frame.bytes, "020000000001 02000000000a 86dd 60100000 000b1140"
                                         "20010db8000000000000000000000010 20010db8000000000000000000000001"
                                         "14e90035 000bcad4 616263");
    CHECK_EQ(frame_parse(&frame, &packet), UN_DROP_NONE);
    CHECK_EQ(packet.ether_type, UN_ETHER_IPV6);
    CHECK_EQ(packet.protocol, UN_PROTOCOL_UDP);
    CHECK_EQ(packet.ecn, UN_ECN_ECT1);
    CHECK_EQ(packet.hop_limit, 64);
    CHECK_EQ(packet.transport, 54);
    CHECK_EQ(packet.transport_length, 11);
    CHECK_EQ(packet.source.bytes[15], 0x10);
    CHECK_EQ(packet.destination.bytes[15], 1);
    CHECK(frame_checksum_good(&frame, &packet, UN_CHECKSUM_UNKNOWN));
    uint8_t emitted[40];
    struct un_ip_header header = {.source = packet.source,
                                  .destination = packet.destination,
                                  .protocol = UN_PROTOCOL_UDP,
                                  .hop_limit = 64,
                                  .ecn = UN_ECN_ECT1,
                                  .payload_length = 11};
    CHECK_EQ(un_ip_emit(emitted, &header), 40);
    CHECK(memcmp(emitted, frame.bytes + IP, 40) == 0);
}

static void headers_that_lie(void)
{
    struct frame frame;
    struct un_packet packet;
    frame_tcp(&frame, false, 10);
    frame.bytes[IP] = 0x45;
    CHECK_EQ(frame_parse(&frame, &packet), UN_DROP_ip_malformed);
    frame.bytes[IP] = 0x60;
    un_put16(frame.bytes + IP + 4, 31);
    CHECK_EQ(frame_parse(&frame, &packet), UN_DROP_ip_malformed);
    un_put16(frame.bytes + IP + 4, 0xffff);
    CHECK_EQ(frame_parse(&frame, &packet), UN_DROP_ip_malformed);
    un_put16(frame.bytes + IP + 4, 0);
    CHECK_EQ(frame_parse(&frame, &packet), UN_DROP_NONE);
    CHECK_EQ(packet.transport_length, 0);
    CHECK(!frame_checksum_good(&frame, &packet, UN_CHECKSUM_UNKNOWN));
    frame.bytes[IP + 6] = UN_PROTOCOL_ICMP;
    CHECK_EQ(frame_parse(&frame, &packet), UN_DROP_ip_protocol);
    frame.bytes[IP + 6] = NOTHING;
    CHECK_EQ(frame_parse(&frame, &packet), UN_DROP_ip_protocol);
}

/* Everything above takes a mapped address for IPv4: one that comes in an IPv6 header is forged. */
static void mapped_addresses_are_refused(void)
{
    struct frame frame;
    struct un_packet packet;
    frame_tcp(&frame, false, 10);
    memcpy(frame.bytes + IP + 8, un_ip_v4_prefix, 12);
    CHECK_EQ(frame_parse(&frame, &packet), UN_DROP_ip_source);
    frame_tcp(&frame, false, 10);
    memcpy(frame.bytes + IP + 24, un_ip_v4_prefix, 12);
    CHECK_EQ(frame_parse(&frame, &packet), UN_DROP_ip_destination);
}

static void headers_that_are_skipped(void)
{
    struct un_packet packet;
    CHECK_EQ(parse_with(&packet, HOP_BY_HOP, "0000 050200000100"), UN_DROP_NONE); /* router alert, PadN */
    CHECK_EQ(parse_with(&packet, HOP_BY_HOP, "0000 000000000000"), UN_DROP_NONE); /* Pad1 */
    CHECK_EQ(parse_with(&packet, DESTINATION, "0001 010c000000000000000000000000"), UN_DROP_NONE);
    CHECK_EQ(packet.transport, FIRST + 16);
    CHECK_EQ(parse_with(&packet, DESTINATION, "0000 3e0400000000"), UN_DROP_NONE); /* unknown, to be skipped */
    CHECK_EQ(parse_with(&packet, ROUTING, "0000 0000 00000000"), UN_DROP_NONE);
    CHECK_EQ(parse_with(&packet, ROUTING, "0002 ff00 00000000 20010db8000000000000000000000001"), UN_DROP_NONE);
}

static void headers_that_are_refused(void)
{
    struct un_packet packet;
    CHECK_EQ(parse_with(&packet, HOP_BY_HOP, "0000 c20400010000"), UN_DROP_ip_options); /* jumbogram */
    CHECK_EQ(parse_with(&packet, HOP_BY_HOP, "0000 7e0400000000"), UN_DROP_ip_options);
    CHECK_EQ(parse_with(&packet, DESTINATION, "0000 be0400000000"), UN_DROP_ip_options);
    CHECK_EQ(parse_with(&packet, DESTINATION, "0000 010200 00fe00"), UN_DROP_ip_options);
    CHECK_EQ(parse_with(&packet, ROUTING, "0000 0001 00000000"), UN_DROP_ip_options);
    CHECK_EQ(parse_with(&packet, ROUTING, "0002 0401 00000000 20010db8000000000000000000000001"), UN_DROP_ip_options);
}

static void headers_that_are_malformed(void)
{
    struct un_packet packet;
    CHECK_EQ(parse_with(&packet, HOP_BY_HOP, "0000 010500000000"), UN_DROP_ip_malformed); /* option beyond the header */
    CHECK_EQ(parse_with(&packet, DESTINATION, "0000 000000000001"), UN_DROP_ip_malformed); /* no length */
    /* header beyond the packet */
    CHECK_EQ(parse_with(&packet, DESTINATION, "00ff 000000000000"), UN_DROP_ip_malformed);
    CHECK_EQ(parse_with(&packet, ROUTING, "0007 000000000000"), UN_DROP_ip_malformed);
}

static void a_header_in_the_wrong_place_or_too_often(void)
{
    struct frame frame;
    struct un_packet packet;
    frame_tcp(&frame, false, 10);
    frame_extension(&frame, HOP_BY_HOP, "0000 000000000000");
    frame_extension(&frame, DESTINATION, "0000 000000000000");
    CHECK_EQ(frame_parse(&frame, &packet), UN_DROP_ip_options);
    frame_tcp(&frame, false, 10);
    for (uint32_t headers = 1; headers <= 12; headers++) {
        frame_extension(&frame, DESTINATION, "0000 000000000000");
        CHECK_EQ(frame_parse(&frame, &packet), headers <= 8 ? UN_DROP_NONE : UN_DROP_ip_options);
    }
}

static void all_kinds_in_order(void)
{
    struct frame frame;
    struct un_packet packet;
    frame_tcp(&frame, false, 10);
    frame_extension(&frame, DESTINATION, "0000 000000000000");
    frame_extension(&frame, ROUTING, "0000 000000000000");
    frame_extension(&frame, DESTINATION, "0000 000000000000");
    frame_extension(&frame, HOP_BY_HOP, "0000 000000000000");
    CHECK_EQ(frame_parse(&frame, &packet), UN_DROP_NONE);
    CHECK_EQ(packet.transport, FIRST + 32);
    CHECK(frame_checksum_good(&frame, &packet, UN_CHECKSUM_UNKNOWN));
    uint32_t whole = frame.length;
    for (frame.length = FIRST; frame.length < whole; frame.length++)
        CHECK_EQ(frame_parse(&frame, &packet), UN_DROP_ip_malformed);
}

/* The frame goes on behind the packet: padding is no header. */
static void a_packet_that_ends_within_its_extension_headers(void)
{
    struct frame frame;
    struct un_packet packet;
    frame_tcp(&frame, false, 10);
    frame_extension(&frame, ROUTING, "0000 000000000000");
    frame_extension(&frame, DESTINATION, "0001 0000000000000000000000000000");
    for (uint16_t payload = 0; payload <= 24; payload++) {
        un_put16(frame.bytes + IP + 4, payload);
        CHECK_EQ(frame_parse(&frame, &packet), payload < 24 ? UN_DROP_ip_malformed : UN_DROP_NONE);
    }
    CHECK_EQ(packet.transport_length, 0);
}

static void extension_headers_lie_in_the_first_piece(void)
{
    struct frame frame;
    struct un_packet packet;
    frame_tcp(&frame, false, 10);
    frame_extension(&frame, DESTINATION, "0001 0000000000000000000000000000");
    frame_extension(&frame, FRAGMENT, "0000 0000 00000001");
    for (uint32_t first = FIRST; first <= frame.length; first++) {
        struct iovec pieces[2] = {{at_edge(frame.bytes, first), first}, {frame.bytes + first, frame.length - first}};
        CHECK_EQ(un_packet_parse(&packet, pieces, 2), first < FIRST + 24 ? UN_DROP_short_frame : UN_DROP_NONE);
    }
}

static void fragments(void)
{
    struct un_packet packet;
    CHECK_EQ(parse_with(&packet, FRAGMENT, "0000 0000 12345678"), UN_DROP_NONE); /* whole: it is none */
    CHECK(!packet.is_fragment && packet.has_fragment_header);
    CHECK_EQ(parse_with(&packet, FRAGMENT, "0000 0010 12345678"), UN_DROP_NONE);
    CHECK(packet.is_fragment && !packet.more_fragments);
    CHECK_EQ(packet.fragment_offset, 16);
    CHECK_EQ(packet.fragment_id, 0x12345678);
    CHECK_EQ(packet.protocol, UN_PROTOCOL_TCP);
    CHECK_EQ(packet.transport, FIRST + 8);
    CHECK_EQ(packet.transport_length, 50);
    CHECK_EQ(parse_with(&packet, FRAGMENT, "0000 0001 12345678"), UN_DROP_fragment_malformed); /* 50 bytes, and more */
    CHECK_EQ(parse_with(&packet, FRAGMENT, "0000 ffc8 12345678"), UN_DROP_NONE);               /* 65480 + 50 */
    CHECK_EQ(parse_with(&packet, FRAGMENT, "0000 ffd0 12345678"), UN_DROP_fragment_malformed);
    CHECK_EQ(parse_with(&packet, FRAGMENT, "0000 fff8 12345678"), UN_DROP_fragment_malformed);
}

static void what_a_fragment_begins_with_is_not_looked_at(void)
{
    struct frame frame;
    struct un_packet packet;
    frame_tcp(&frame, false, 12);
    frame_extension(&frame, DESTINATION, "00ff 000000000000");
    frame_extension(&frame, FRAGMENT, "0000 0009 12345678");
    CHECK_EQ(frame_parse(&frame, &packet), UN_DROP_NONE);
    CHECK(packet.is_fragment && packet.more_fragments);
    CHECK_EQ(packet.protocol, DESTINATION);
    CHECK_EQ(packet.transport, FIRST + 8);
}

static void a_fragment_of_a_fragment_is_refused(void)
{
    const char *const inner[] = {"0000 0000 00000001", "0000 0010 00000001"};
    for (uint32_t i = 0; i < 2; i++) {
        struct frame frame;
        struct un_packet packet;
        frame_tcp(&frame, false, 12);
        frame_extension(&frame, FRAGMENT, inner[i]);
        frame_extension(&frame, DESTINATION, "0000 000000000000");
        frame_extension(&frame, FRAGMENT, "0000 0000 12345678");
        CHECK_EQ(frame_parse(&frame, &packet), UN_DROP_ip_options);
    }
}

int main(void)
{
    RUN(a_known_frame);
    RUN(headers_that_lie);
    RUN(mapped_addresses_are_refused);
    RUN(headers_that_are_skipped);
    RUN(headers_that_are_refused);
    RUN(headers_that_are_malformed);
    RUN(a_header_in_the_wrong_place_or_too_often);
    RUN(all_kinds_in_order);
    RUN(a_packet_that_ends_within_its_extension_headers);
    RUN(extension_headers_lie_in_the_first_piece);
    RUN(fragments);
    RUN(what_a_fragment_begins_with_is_not_looked_at);
    RUN(a_fragment_of_a_fragment_is_refused);
    return 0;
}
