/* The short way (wire/packet_fast.h) against the long one: what it takes, packet.h and seg.h take as well, with the
 * same fields; a frame of its kind it does take; and its headers are those that they write. */
#include "wire/packet_fast.h"

#include "frame.h"

enum { ROUNDS = 20000, PAYLOAD_MAX = 300 };

static const uint8_t mac[UN_MAC_BYTES] = {2, 0, 0, 0, 0, 1};

static struct un_seg random_seg(uint64_t *random)
{
    struct un_seg seg = {.flags = UN_TCP_ACK | (random_below(random, 2) ? UN_TCP_PSH : 0)};
    seg.seq = (uint32_t)random_next(random);
    seg.ack = (uint32_t)random_next(random);
    seg.wnd = (uint16_t)random_next(random);
    seg.source_port = (uint16_t)random_next(random);
    seg.destination_port = (uint16_t)random_next(random);
    seg.options = random_below(random, 2) ? UN_SEG_TIMESTAMP : 0;
    seg.tsval = (uint32_t)random_next(random);
    seg.tsecr = (uint32_t)random_next(random);
    return seg;
}

/* A frame of the kind, its checksums right; or that of TCP as partial as a kernel leaves it to a device. */
static void make(struct frame *frame, uint64_t *random, bool is_partial)
{
    uint8_t bytes[UN_TCP_HEADER_MAX + PAYLOAD_MAX];
    const struct un_seg seg = random_seg(random);
    uint32_t payload = random_below(random, PAYLOAD_MAX), header = un_seg_emit(&seg, bytes);
    random_bytes(random, bytes + header, payload);
    struct un_ip_header ip = random_header(random, random_below(random, 2), UN_PROTOCOL_TCP, header + payload);
    uint16_t pseudo = un_sum_fold(un_sum_pseudo(&ip.source, &ip.destination, UN_PROTOCOL_TCP, header + payload));
    if (is_partial)
        memcpy(bytes + 16, &pseudo, sizeof pseudo);
    else
        un_put16(bytes + 16,
                 naive_transport_checksum(&ip.source, &ip.destination, UN_PROTOCOL_TCP, bytes, header + payload));
    frame_of(frame, &ip, bytes);
    memcpy(frame->bytes, mac, sizeof mac);
    if (random_below(random, 4) == 0)
        frame_pad(frame, random_below(random, 8));
}

static bool parse(struct un_packet_fast *plain, struct un_seg *seg, const struct frame *frame,
                  enum un_checksum_state state)
{
    const uint8_t *at = at_edge(frame->bytes, frame->length);
    uint32_t network, header;
    if (!un_packet_fast_kind(at, frame->length, mac, &network, &header) ||
        !un_packet_fast_check(plain, at, frame->length, state, network, header))
        return false;
    un_packet_fast_read(seg, plain, at, network, header);
    return true;
}

static void agree(const struct frame *frame, const struct un_packet_fast *plain, const struct un_seg *seg,
                  enum un_checksum_state state)
{
    struct un_packet packet;
    struct un_seg other;
    CHECK(memcmp(frame->bytes, mac, sizeof mac) == 0);
    CHECK_EQ(frame_parse(frame, &packet), UN_DROP_NONE);
    CHECK(packet.protocol == UN_PROTOCOL_TCP && !packet.is_fragment);
    CHECK(frame_checksum_good(frame, &packet, state));
    CHECK(un_ip_equal(&packet.source, &plain->source) && un_ip_equal(&packet.destination, &plain->destination));
    CHECK_EQ(packet.transport_length, seg->header_length + plain->payload);
    CHECK(plain->peer_port == seg->source_port && plain->local_port == seg->destination_port);
    const uint8_t *at = frame->bytes + packet.transport;
    CHECK_EQ(un_seg_parse(&other, at, packet.transport_length, packet.transport_length), UN_DROP_NONE);
    CHECK(seg->seq == other.seq && seg->ack == other.ack && seg->wnd == other.wnd && seg->flags == other.flags);
    CHECK(seg->length == other.length && seg->header_length == other.header_length && seg->options == other.options);
    CHECK(seg->source_port == other.source_port && seg->destination_port == other.destination_port);
    CHECK(seg->sack_count == 0 && other.sack_count == 0);
    CHECK(!seg->options || (seg->tsval == other.tsval && seg->tsecr == other.tsecr));
    CHECK_EQ(seg->ecn, packet.ecn);
}

static void a_frame_of_its_kind(uint64_t seed)
{
    struct frame frame;
    struct un_packet_fast plain;
    struct un_seg seg;
    make(&frame, &seed, false);
    CHECK(parse(&plain, &seg, &frame, UN_CHECKSUM_UNKNOWN));
    agree(&frame, &plain, &seg, UN_CHECKSUM_UNKNOWN);
}

static void a_frame_that_was_left_to_a_device(uint64_t seed)
{
    struct frame frame;
    struct un_packet_fast plain;
    struct un_seg seg;
    make(&frame, &seed, true);
    CHECK(parse(&plain, &seg, &frame, UN_CHECKSUM_PARTIAL));
    agree(&frame, &plain, &seg, UN_CHECKSUM_PARTIAL);
}

/* Bits of the headers change, or the end is cut off. */
static void a_frame_that_may_be_wrong(uint64_t seed)
{
    struct frame frame;
    struct un_packet_fast plain;
    struct un_seg seg;
    make(&frame, &seed, random_below(&seed, 2));
    enum un_checksum_state state = (enum un_checksum_state)random_below(&seed, UN_CHECKSUM_PARTIAL + 1);
    for (uint32_t changes = random_below(&seed, 3); changes > 0; changes--)
        frame.bytes[random_below(&seed, 90)] ^= (uint8_t)(1 << random_below(&seed, 8));
    if (frame.bytes[12] == 0x08 && random_below(&seed, 2))
        frame_fix_ipv4(&frame);
    if (random_below(&seed, 4) == 0)
        frame.length = random_below(&seed, frame.length + 1);
    if (parse(&plain, &seg, &frame, state))
        agree(&frame, &plain, &seg, state);
}

static void a_header_of_its_kind(uint64_t seed)
{
    uint8_t bytes[UN_TCP_HEADER_MAX], expected[UN_TCP_HEADER_MAX];
    struct un_seg seg = random_seg(&seed);
    seg.flags = (uint8_t)random_next(&seed);
    seg.urgent = (uint16_t)random_next(&seed);
    CHECK(un_packet_fast_is_header(&seg));
    uint32_t length = un_packet_fast_header_bytes(&seg);
    uint64_t sum = un_packet_fast_emit(bytes, &seg, seg.source_port, seg.destination_port, length);
    CHECK_EQ(length, un_seg_emit(&seg, expected));
    CHECK(memcmp(bytes, expected, length) == 0);
    CHECK_EQ(un_sum_fold(sum), un_sum_fold(un_sum(bytes, length)));
}

static void what_it_takes_others_take(void)
{
    for_each_seed(ROUNDS, a_frame_of_its_kind);
    for_each_seed(ROUNDS, a_frame_that_was_left_to_a_device);
    for_each_seed(ROUNDS, a_frame_that_may_be_wrong);
}

static void what_it_writes_others_write(void)
{
    for_each_seed(ROUNDS, a_header_of_its_kind);
}

static void options_that_it_does_not_write(void)
{
    struct un_seg seg = {.options = UN_SEG_MSS};
    CHECK(!un_packet_fast_is_header(&seg));
    seg = (struct un_seg){.sack_count = 1};
    CHECK(!un_packet_fast_is_header(&seg));
}

int main(void)
{
    RUN(what_it_takes_others_take);
    RUN(what_it_writes_others_write);
    RUN(options_that_it_does_not_write);
    return 0;
}
