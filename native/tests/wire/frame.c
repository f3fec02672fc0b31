/* See frame.h. */
#include "frame.h"

#include "base/bytes.h"

enum {
    IP = 14,
    IPV4_TOTAL = IP + 2,
    IPV4_SUM = IP + 10,
    IPV6_PAYLOAD = IP + 4,
    IPV6_NEXT = IP + 6,
    TRANSPORT_MAX = 2000
};

struct un_ip_header random_header(uint64_t *random, bool is_v4, uint8_t protocol, uint32_t payload_length)
{
    struct un_ip_header header = {.protocol = protocol, .payload_length = payload_length};
    header.source = random_ip(random, is_v4);
    header.destination = random_ip(random, is_v4);
    header.hop_limit = (uint8_t)random_next(random);
    header.ecn = random_next(random) % 4;
    header.dscp = random_next(random) % 64;
    header.dont_fragment = random_next(random) % 2;
    header.identification = (uint16_t)random_next(random);
    return header;
}

void frame_of(struct frame *frame, const struct un_ip_header *header, const void *payload)
{
    static const uint8_t ours[] = {2, 0, 0, 0, 0, 1}, theirs[] = {2, 0, 0, 0, 0, 10};
    bool is_v4 = un_ip_is_v4(&header->destination);
    uint32_t length = un_eth_emit(frame->bytes, ours, theirs, is_v4 ? UN_ETHER_IPV4 : UN_ETHER_IPV6);
    length += un_ip_emit(frame->bytes + length, header);
    frame->length = length + header->payload_length;
    CHECK(frame->length <= sizeof frame->bytes);
    if (payload)
        memcpy(frame->bytes + length, payload, header->payload_length);
    else
        memset(frame->bytes + length, 0, header->payload_length);
}

static void frame_transport(struct frame *frame, bool is_v4, uint8_t protocol, uint8_t *bytes, uint32_t length,
                            uint32_t field)
{
    uint64_t random = 1 + length;
    struct un_ip_header header = random_header(&random, is_v4, protocol, length);
    un_put16(bytes + field, naive_transport_checksum(&header.source, &header.destination, protocol, bytes, length));
    frame_of(frame, &header, bytes);
}

void frame_tcp(struct frame *frame, bool is_v4, uint32_t payload)
{
    uint8_t bytes[TRANSPORT_MAX] = {0x9c, 0x40, 0x1b, 0x58, [12] = 0x50, [13] = 0x10};
    for (uint32_t i = 0; i < payload; i++)
        bytes[20 + i] = (uint8_t)(i * 7);
    frame_transport(frame, is_v4, UN_PROTOCOL_TCP, bytes, 20 + payload, 16);
}

void frame_udp(struct frame *frame, bool is_v4, uint32_t payload)
{
    uint8_t bytes[TRANSPORT_MAX] = {0x14, 0xe9, 0, 53};
    un_put16(bytes + 4, (uint16_t)(8 + payload));
    for (uint32_t i = 0; i < payload; i++)
        bytes[8 + i] = (uint8_t)(i * 7);
    frame_transport(frame, is_v4, UN_PROTOCOL_UDP, bytes, 8 + payload, 6);
}

void frame_pad(struct frame *frame, uint32_t bytes)
{
    memset(frame->bytes + frame->length, 0xee, bytes);
    frame->length += bytes;
}

static void insert(struct frame *frame, uint32_t at, uint32_t length)
{
    memmove(frame->bytes + at + length, frame->bytes + at, frame->length - at);
    frame->length += length;
}

void frame_tag(struct frame *frame, uint16_t tag)
{
    insert(frame, 12, 4);
    un_put16(frame->bytes + 12, UN_ETHER_VLAN);
    un_put16(frame->bytes + 14, tag);
}

void frame_fix_ipv4(struct frame *frame)
{
    un_put16(frame->bytes + IPV4_SUM, 0);
    uint32_t header = (frame->bytes[IP] & 15) * 4u;
    un_put16(frame->bytes + IPV4_SUM, naive_checksum(naive_sum(frame->bytes + IP, header)));
}

void frame_ipv4_options(struct frame *frame, const char *hex, uint32_t length)
{
    uint8_t options[40];
    CHECK(from_hex(options, hex) >= length);
    insert(frame, IP + 20, length);
    memcpy(frame->bytes + IP + 20, options, length);
    frame->bytes[IP] = (uint8_t)(0x45 + length / 4);
    un_put16(frame->bytes + IPV4_TOTAL, (uint16_t)(un_get16(frame->bytes + IPV4_TOTAL) + length));
    frame_fix_ipv4(frame);
}

void frame_extension(struct frame *frame, uint8_t protocol, const char *hex)
{
    uint8_t header[2048];
    uint32_t length = from_hex(header, hex);
    insert(frame, IP + 40, length);
    memcpy(frame->bytes + IP + 40, header, length);
    frame->bytes[IP + 40] = frame->bytes[IPV6_NEXT];
    frame->bytes[IPV6_NEXT] = protocol;
    un_put16(frame->bytes + IPV6_PAYLOAD, (uint16_t)(un_get16(frame->bytes + IPV6_PAYLOAD) + length));
}

enum un_drop frame_parse(const struct frame *frame, struct un_packet *packet)
{
    struct iovec piece = {at_edge(frame->bytes, frame->length), frame->length};
    memset(packet, 0xa5, sizeof *packet);
    return un_packet_parse(packet, &piece, 1);
}

bool frame_checksum_good(const struct frame *frame, const struct un_packet *packet, enum un_checksum_state state)
{
    struct iovec piece = {at_edge(frame->bytes, frame->length), frame->length};
    return un_packet_checksum_good(packet, &piece, 1, state);
}
