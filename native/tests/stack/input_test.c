/* What a stack answers, and what it does not: echo, refusals, fragments, rate limits; and that every drop is counted.
 */
#include <string.h>

#include "base/bytes.h"
#include "far.h"
#include "stack/arena.h"
#include "wire/checksum.h"
#include "wire/udp.h"

static struct far far;
static struct un_stack_config config;
static uint8_t payload[66000];
static struct far_packet packet;

static void open(void)
{
    config = net_config();
    far_open(&far, &config);
    far_introduce(&far);
    for (uint32_t i = 0; i < sizeof payload; i++)
        payload[i] = (uint8_t)(i * 31 + i / 251);
}

static uint64_t dropped(enum un_drop why)
{
    return far.host.stack.tcp.drops[why];
}

static void ping(const struct un_ip *from, const struct un_ip *to, uint32_t length)
{
    struct un_icmp request = {.kind = UN_ICMP_ECHO_REQUEST, .id = 7, .sequence = 3};
    far_send_icmp(&far, from, to, &request, payload, length);
    struct un_icmp reply = far_expect_icmp(&far, &packet, UN_ICMP_ECHO_REPLY);
    CHECK_EQ(reply.id, 7);
    CHECK_EQ(reply.sequence, 3);
    CHECK_EQ(reply.payload_length, length);
    CHECK(memcmp(packet.bytes + packet.packet.transport + 8, payload, length) == 0);
    far_expect_nothing(&far);
}

static void echo_is_answered_over_both_families(void)
{
    static const uint32_t lengths[] = {0, 1, 56, 1000, 1472 - 20};
    open();
    for (uint32_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        ping(&far.ip4, &far.stack4, lengths[i]);
        ping(&far.ip6, &far.stack6, lengths[i]);
    }
    CHECK_EQ(far.host.stack.counters->echo_replies, 10);
    far_close(&far);
}

static void echo_to_all_is_not_answered_over_ipv4(void)
{
    struct un_icmp request = {.kind = UN_ICMP_ECHO_REQUEST};
    struct un_ip all = ip4(10, 0, 0, 255), all6 = {{0xff, 2, [15] = 1}};
    open();
    memset(far.to, 0xff, UN_MAC_BYTES);
    far_send_icmp(&far, &far.ip4, &all, &request, payload, 8);
    far_expect_nothing(&far);
    CHECK_EQ(dropped(UN_DROP_ip_destination), 1);
    far_send_icmp(&far, &far.ip6, &all6, &request, payload, 8);
    far_expect_icmp(&far, &packet, UN_ICMP_ECHO_REPLY);
    CHECK(un_ip_equal(&packet.packet.source, &far.stack6));
    far_close(&far);
}

static void answers_are_limited_in_rate(void)
{
    struct un_icmp request = {.kind = UN_ICMP_ECHO_REQUEST};
    open();
    config.icmp_per_s = 10;
    far.host.stack.own->config.icmp_per_s = 10;
    for (int i = 0; i < 30; i++)
        far_send_icmp(&far, &far.ip4, &far.stack4, &request, payload, 8);
    CHECK_EQ(far.host.stack.counters->echo_replies, 10);
    CHECK_EQ(dropped(UN_DROP_icmp_rate), 20);
    far_wait(&far, NET_SECOND / 2);
    while (far_take(&far, &packet))
        ;
    for (int i = 0; i < 30; i++)
        far_send_icmp(&far, &far.ip4, &far.stack4, &request, payload, 8);
    CHECK_EQ(far.host.stack.counters->echo_replies, 15);
    far_close(&far);
}

static void sources_that_cannot_be_are_dropped(void)
{
    struct un_icmp request = {.kind = UN_ICMP_ECHO_REQUEST};
    const struct un_ip wrong[] = {ip4(0, 0, 0, 0),     ip4(224, 0, 0, 1), ip4(255, 255, 255, 255),
                                  ip4(10, 0, 0, 255), ip4(127, 0, 0, 1), ip4(10, 0, 0, 1)};
    open();
    for (uint32_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        far_send_icmp(&far, &wrong[i], &far.stack4, &request, payload, 8);
    CHECK_EQ(dropped(UN_DROP_ip_source), 6);
    far_expect_nothing(&far);
    far_close(&far);
}

static void frames_for_others_are_dropped(void)
{
    struct un_icmp request = {.kind = UN_ICMP_ECHO_REQUEST};
    struct un_ip other = ip4(10, 0, 0, 2);
    open();
    far_send_icmp(&far, &far.ip4, &other, &request, payload, 8);
    CHECK_EQ(dropped(UN_DROP_ip_destination), 1);
    far.to[5] = 0x77;
    far_send_icmp(&far, &far.ip4, &far.stack4, &request, payload, 8);
    CHECK_EQ(dropped(UN_DROP_foreign_mac), 1);
    memset(far.to, 0xff, UN_MAC_BYTES); /* to one, by a frame to all */
    far_send_icmp(&far, &far.ip4, &far.stack4, &request, payload, 8);
    CHECK_EQ(dropped(UN_DROP_ip_destination), 2);
    far_expect_nothing(&far);
    far_close(&far);
}

/* ---- TCP for nobody ---- */

static struct un_seg segment(uint8_t flags, uint32_t seq, uint32_t ack, uint32_t length)
{
    return (struct un_seg){.seq = seq, .ack = ack, .length = length, .flags = flags, .source_port = 5000,
                           .destination_port = 81, .wnd = 1000};
}

static void segments_for_nobody_are_reset(void)
{
    const struct un_ip *ends[2][2] = {{&far.ip4, &far.stack4}, {&far.ip6, &far.stack6}};
    open();
    for (int family = 0; family < 2; family++) {
        struct un_seg seg = segment(UN_TCP_SYN, 5, 0, 0);
        far_send_tcp(&far, ends[family][0], ends[family][1], &seg);
        struct un_seg reset = far_expect_tcp(&far, UN_TCP_RST | UN_TCP_ACK);
        CHECK_EQ(reset.seq, 0);
        CHECK_EQ(reset.ack, 6);
        CHECK_EQ(reset.source_port, 81);
        CHECK_EQ(reset.destination_port, 5000);
        seg = segment(UN_TCP_ACK, 5, 77, 10);
        far_send_tcp(&far, ends[family][0], ends[family][1], &seg);
        CHECK_EQ(far_expect_tcp(&far, UN_TCP_RST).seq, 77);
        seg = segment(UN_TCP_RST, 5, 0, 0);
        far_send_tcp(&far, ends[family][0], ends[family][1], &seg);
        far_expect_nothing(&far);
    }
    CHECK_EQ(dropped(UN_DROP_tcp_no_connection), 6);
    far_close(&far);
}

static void resets_are_limited_in_rate(void)
{
    open();
    far.host.stack.own->config.resets_per_s = 5;
    for (int i = 0; i < 20; i++) {
        struct un_seg seg = segment(UN_TCP_SYN, 5, 0, 0);
        far_send_tcp(&far, &far.ip4, &far.stack4, &seg);
    }
    CHECK_EQ(far.host.stack.tcp.counters->out_resets, 5);
    CHECK_EQ(dropped(UN_DROP_tcp_rst_rate), 15);
    far_close(&far);
}

static void segments_to_all_are_not_answered(void)
{
    struct un_ip all = ip4(255, 255, 255, 255);
    struct un_seg seg = segment(UN_TCP_SYN, 5, 0, 0);
    open();
    memset(far.to, 0xff, UN_MAC_BYTES);
    far_send_tcp(&far, &far.ip4, &all, &seg);
    far_expect_nothing(&far);
    far_close(&far);
}

static void a_wrong_checksum_is_not_answered(void)
{
    uint8_t bytes[20];
    struct un_seg seg = segment(UN_TCP_SYN, 5, 0, 0);
    open();
    un_seg_emit(&seg, bytes);
    far_send_ip(&far, &far.ip4, &far.stack4, UN_PROTOCOL_TCP, bytes, sizeof bytes, 0);
    CHECK_EQ(dropped(UN_DROP_tcp_checksum), 1);
    far_expect_nothing(&far);
    far_close(&far);
}

/* ---- refusals ---- */

static void send_udp(const struct un_ip *from, const struct un_ip *to, uint16_t port, uint32_t length)
{
    uint8_t bytes[66000];
    struct un_udp udp = {.source_port = 4000, .destination_port = port, .length = length};
    un_udp_emit(&udp, bytes);
    memcpy(bytes + 8, payload, length);
    far_send_ip(&far, from, to, UN_PROTOCOL_UDP, bytes, length + 8, 6);
}

static void datagrams_for_nobody_are_refused(void)
{
    struct un_ip all = ip4(10, 0, 0, 255);
    open();
    send_udp(&far.ip4, &far.stack4, 99, 1400);
    struct un_icmp icmp = far_expect_icmp(&far, &packet, UN_ICMP_UNREACHABLE_PORT);
    CHECK_EQ(icmp.quote.destination_port, 99);
    CHECK_EQ(packet.packet.transport_length, 8 + 548);
    send_udp(&far.ip6, &far.stack6, 99, 10);
    icmp = far_expect_icmp(&far, &packet, UN_ICMP_UNREACHABLE_PORT);
    CHECK_EQ(icmp.quote.source_port, 4000);
    CHECK_EQ(packet.packet.transport_length, 8 + 40 + 8 + 10);
    memset(far.to, 0xff, UN_MAC_BYTES);
    send_udp(&far.ip4, &all, 99, 10);
    far_expect_nothing(&far);
    CHECK_EQ(dropped(UN_DROP_udp_no_port), 3);
    far_close(&far);
}

static void unknown_protocols_are_refused(void)
{
    open();
    far_send_ip(&far, &far.ip4, &far.stack4, 132, payload, 20, 0);
    far_expect_icmp(&far, &packet, UN_ICMP_UNREACHABLE_PROTOCOL);
    far_send_ip(&far, &far.ip6, &far.stack6, 132, payload, 20, 0);
    CHECK_EQ(far_expect_icmp(&far, &packet, UN_ICMP_UNREACHABLE_PROTOCOL).pointer, 6);
    CHECK_EQ(dropped(UN_DROP_ip_protocol), 2);
    far_close(&far);
}

/* ---- fragments ---- */

/* One part of an IPv4 or IPv6 datagram. */
static void send_fragment(bool is_v6, uint32_t id, const uint8_t *datagram, uint32_t start, uint32_t end, bool more)
{
    uint8_t part[9000];
    uint32_t at = 0;
    if (is_v6) {
        part[0] = UN_PROTOCOL_UDP;
        part[1] = 0;
        un_put16(part + 2, (uint16_t)(start | more));
        un_put32(part + 4, id);
        at = 8;
    }
    memcpy(part + at, datagram + start, end - start);
    if (is_v6) {
        far_send_ip(&far, &far.ip6, &far.stack6, 44, part, at + end - start, 0);
        return;
    }
    uint8_t frame[9100];
    struct un_ip_header ip = {.source = far.ip4,
                              .destination = far.stack4,
                              .protocol = UN_PROTOCOL_UDP,
                              .hop_limit = 64,
                              .identification = (uint16_t)id,
                              .payload_length = end - start};
    uint32_t header = un_eth_emit(frame, far.to, (const uint8_t[]){2, 0, 0, 0, 0, 9}, UN_ETHER_IPV4);
    header += un_ip_emit(frame + header, &ip);
    un_put16(frame + 20, (uint16_t)(start / 8 | (more ? 0x2000 : 0)));
    un_put16(frame + 24, 0);
    uint16_t checksum = un_checksum(un_sum(frame + 14, 20));
    memcpy(frame + 24, &checksum, 2);
    memcpy(frame + header, part, end - start);
    far_send_bytes(&far, frame, header + end - start);
}

static uint32_t make_datagram(bool is_v6, uint8_t *bytes, uint32_t length)
{
    struct un_udp udp = {.source_port = 4000, .destination_port = 99, .length = length};
    un_udp_emit(&udp, bytes);
    memcpy(bytes + 8, payload, length);
    uint64_t sum =
        un_sum(bytes, length + 8) +
        un_sum_pseudo(is_v6 ? &far.ip6 : &far.ip4, is_v6 ? &far.stack6 : &far.stack4, UN_PROTOCOL_UDP, length + 8);
    uint16_t field = un_udp_checksum(sum);
    memcpy(bytes + 6, &field, 2);
    return length + 8;
}

static uint8_t datagram[66000], received[66000];

static void expect_datagram(uint32_t length)
{
    struct un_stack_peer from;
    CHECK_EQ(un_stack_udp_receive(&far.host.stack, 0, &from, received, sizeof received), length);
    CHECK(memcmp(received, payload, length) == 0);
}

static void open_udp(void)
{
    open();
    CHECK_EQ(un_stack_udp_open(&far.host.stack, &(struct un_stack_peer){.port = 99}, 0), 0);
}

/* All parts of so many bytes each, in an order made by a seed, some twice. */
static void reassemble(uint64_t seed)
{
    uint64_t random = seed * 77 + 1;
    bool is_v6 = random_below(&random, 2);
    uint32_t part = 8 * (1 + random_below(&random, 180));
    uint32_t length = 1 + random_below(&random, part * 40 < 60000 ? part * 40 : 60000);
    open_udp();
    uint32_t total = make_datagram(is_v6, datagram, length);
    uint32_t parts = (total + part - 1) / part, order[8192];
    if (parts < 2) {
        far_close(&far);
        return;
    }
    for (uint32_t i = 0; i < parts; i++)
        order[i] = i;
    for (uint32_t i = parts - 1; i > 0 && seed % 3; i--) {
        uint32_t other = random_below(&random, i + 1), was = order[i];
        order[i] = order[other];
        order[other] = was;
    }
    for (uint32_t i = 0; i < parts; i++) {
        uint32_t start = order[i] * part, end = start + part < total ? start + part : total;
        send_fragment(is_v6, (uint32_t)seed, datagram, start, end, end < total);
        if (i + 1 < parts && random_below(&random, 4) == 0)
            send_fragment(is_v6, (uint32_t)seed, datagram, start, end, end < total);
    }
    CHECK_EQ(far.host.stack.counters->reassembled, 1);
    expect_datagram(length);
    far_close(&far);
}

static void fragments_in_any_order_make_the_datagram(void)
{
    for_each_seed(60, reassemble);
}

static void overlapping_fragments_drop_the_datagram(void)
{
    open_udp();
    for (int family = 0; family < 2; family++) {
        uint32_t total = make_datagram(family, datagram, 2000);
        send_fragment(family, 5, datagram, 0, 1000, true);
        send_fragment(family, 5, datagram, 992, total, false);
        send_fragment(family, 6, datagram, 800, total, false);
        send_fragment(family, 6, datagram, 0, 808, true);
    }
    CHECK_EQ(dropped(UN_DROP_fragment_malformed), 4);
    CHECK_EQ(far.host.stack.counters->reassembled, 0);
    far_expect_nothing(&far);
    far_close(&far);
}

static void incomplete_datagrams_are_bounded_in_number_and_time(void)
{
    open_udp();
    make_datagram(false, datagram, 2000);
    for (uint32_t id = 0; id < 40; id++, far.now_ns++)
        send_fragment(id % 2, id, datagram, 0, 800, true);
    CHECK_EQ(dropped(UN_DROP_fragment_budget), 24);
    far_wait(&far, 31 * NET_SECOND);
    CHECK_EQ(dropped(UN_DROP_fragment_timeout), 8);
    far_wait(&far, 31 * NET_SECOND);
    CHECK_EQ(dropped(UN_DROP_fragment_timeout), 16);
    CHECK_EQ(far.host.stack.own->pool.free_count, far.host.stack.own->pool.count);
    far_close(&far);
}

static void a_datagram_of_too_many_frames_is_dropped(void)
{
    open_udp();
    uint32_t total = make_datagram(false, datagram, 20000);
    /* every second part */
    for (uint32_t start = 0; start + 16 < total && !dropped(UN_DROP_fragment_budget); start += 16)
        send_fragment(false, 3, datagram, start, start + 8, true);
    CHECK_EQ(dropped(UN_DROP_fragment_budget), 1);
    far_close(&far);
}

/* All of it comes back (RFC 1122 section 3.2.2.6), in fragments. */
static void a_large_ping_is_answered_whole(void)
{
    open();
    uint8_t message[3008];
    struct un_icmp request = {.kind = UN_ICMP_ECHO_REQUEST, .id = 1};
    un_icmp_emit(&request, true, message);
    memcpy(message + 8, payload, 3000);
    uint64_t sum =
        un_sum(message, sizeof message) + un_sum_pseudo(&far.ip6, &far.stack6, UN_PROTOCOL_ICMPV6, sizeof message);
    uint16_t field = un_checksum(sum);
    memcpy(message + 2, &field, 2);
    for (uint32_t start = 0; start < sizeof message; start += 1200) {
        uint32_t end = start + 1200 < sizeof message ? start + 1200 : (uint32_t)sizeof message;
        uint8_t part[1300] = {UN_PROTOCOL_ICMPV6};
        un_put16(part + 2, (uint16_t)(start | (end < sizeof message)));
        memcpy(part + 8, message + start, end - start);
        far_send_ip(&far, &far.ip6, &far.stack6, 44, part, 8 + end - start, 0);
    }
    CHECK_EQ(far.host.stack.counters->reassembled, 1);
    uint8_t answer[sizeof message] = {0};
    uint32_t got = 0;
    while (far_take(&far, &packet)) {
        const struct un_packet *part = &packet.packet;
        CHECK(part->is_fragment && packet.length <= 1514 && part->fragment_offset == got);
        memcpy(answer + got, packet.bytes + part->transport, part->transport_length);
        got += part->transport_length;
    }
    CHECK_EQ(got, sizeof message);
    CHECK_EQ(answer[0], 129);
    CHECK(memcmp(answer + 4, message + 4, sizeof message - 4) == 0);
    CHECK(un_sum_is_good(un_sum(answer, got) + un_sum_pseudo(&far.stack6, &far.ip6, UN_PROTOCOL_ICMPV6, got)));
    far_close(&far);
}

int main(void)
{
    RUN(echo_is_answered_over_both_families);
    RUN(echo_to_all_is_not_answered_over_ipv4);
    RUN(answers_are_limited_in_rate);
    RUN(sources_that_cannot_be_are_dropped);
    RUN(frames_for_others_are_dropped);
    RUN(segments_for_nobody_are_reset);
    RUN(resets_are_limited_in_rate);
    RUN(segments_to_all_are_not_answered);
    RUN(a_wrong_checksum_is_not_answered);
    RUN(datagrams_for_nobody_are_refused);
    RUN(unknown_protocols_are_refused);
    RUN(fragments_in_any_order_make_the_datagram);
    RUN(overlapping_fragments_drop_the_datagram);
    RUN(incomplete_datagrams_are_bounded_in_number_and_time);
    RUN(a_datagram_of_too_many_frames_is_dropped);
    RUN(a_large_ping_is_answered_whole);
    return 0;
}
