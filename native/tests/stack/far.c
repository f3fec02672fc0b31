/* See far.h. */
#include "far.h"

#include <string.h>

#include "stack/arena.h"
#include "wire/checksum.h"
#include "wire/udp.h"

static const uint8_t far_mac[UN_MAC_BYTES] = {2, 0, 0, 0, 0, 9};

void far_open(struct far *far, const struct un_stack_config *config)
{
    struct un_device_capabilities capabilities = net_capabilities(1);
    memset(far, 0, sizeof *far);
    far->now_ns = NET_SECOND;
    far->ip4 = ip4(10, 0, 0, 9);
    far->ip6 = ip6(9);
    far->stack4 = ip4(10, 0, 0, 1);
    far->stack6 = ip6(1);
    memcpy(far->to, capabilities.mac, UN_MAC_BYTES);
    host_make(&far->host, config, un_hand_open(&capabilities, 256));
    host_address(&far->host, 1);
}

void far_close(struct far *far)
{
    host_close(&far->host);
}

void far_turn(struct far *far)
{
    while (un_stack_poll(&far->host.stack, far->now_ns) > 0)
        ;
    const char *wrong = un_stack_check(&far->host.stack);
    if (wrong)
        fprintf(stderr, "%s\n", wrong);
    CHECK(wrong == NULL);
}

void far_wait(struct far *far, uint64_t duration_ns)
{
    uint64_t end = far->now_ns + duration_ns;
    far_turn(far);
    while (far->now_ns < end) {
        uint64_t next = un_stack_deadline_ns(&far->host.stack);
        far->now_ns = next < end ? (next > far->now_ns ? next : far->now_ns + 1) : end;
        far_turn(far);
    }
}

void far_send_bytes(struct far *far, const void *bytes, uint32_t length)
{
    CHECK_EQ(un_hand_input(far->host.device, bytes, length, 0, 0), 0);
    far_turn(far);
}

void far_send_arp(struct far *far, uint16_t operation, const struct un_ip *sender, const struct un_ip *target)
{
    uint8_t frame[64] = {0};
    struct un_arp arp = {.operation = operation, .sender = *sender, .target = *target};
    memcpy(arp.sender_mac, far_mac, UN_MAC_BYTES);
    uint32_t length = un_eth_emit(frame, far->to, far_mac, UN_ETHER_ARP);
    un_arp_emit(&arp, frame + length);
    far_send_bytes(far, frame, 60);
}

void far_send_ip(struct far *far, const struct un_ip *from, const struct un_ip *to, uint8_t protocol,
                 const void *transport, uint32_t length, uint32_t checksum_offset)
{
    uint8_t frame[70000];
    bool is_v4 = un_ip_is_v4(to);
    struct un_ip_header ip = {.source = *from, .destination = *to, .protocol = protocol,
                              .hop_limit = protocol == UN_PROTOCOL_ICMPV6 ? 255 : 64, .payload_length = length};
    uint32_t at = un_eth_emit(frame, far->to, far_mac, is_v4 ? UN_ETHER_IPV4 : UN_ETHER_IPV6);
    at += un_ip_emit(frame + at, &ip);
    memcpy(frame + at, transport, length);
    if (checksum_offset) {
        uint64_t sum = un_sum(frame + at, length);
        if (protocol != UN_PROTOCOL_ICMP)
            sum += un_sum_pseudo(from, to, protocol, length);
        uint16_t field = un_checksum(sum);
        memcpy(frame + at + checksum_offset, &field, sizeof field);
    }
    far_send_bytes(far, frame, at + length);
}

void far_send_icmp(struct far *far, const struct un_ip *from, const struct un_ip *to, const struct un_icmp *icmp,
                   const void *payload, uint32_t length)
{
    uint8_t message[66000];
    bool is_v4 = un_ip_is_v4(to);
    uint32_t header = un_icmp_emit(icmp, !is_v4, message);
    memcpy(message + header, payload, length);
    far_send_ip(far, from, to, is_v4 ? UN_PROTOCOL_ICMP : UN_PROTOCOL_ICMPV6, message, header + length, 2);
}

void far_send_tcp(struct far *far, const struct un_ip *from, const struct un_ip *to, struct un_seg *seg)
{
    uint8_t bytes[4096] = {0};
    uint32_t header = un_seg_emit(seg, bytes);
    far_send_ip(far, from, to, UN_PROTOCOL_TCP, bytes, header + seg->length, 16);
}

void far_introduce(struct far *far)
{
    struct far_packet packet;
    struct un_icmp icmp = {.kind = UN_ICMP_NEIGHBOUR_SOLICITATION, .target = far->stack6, .has_mac = true};
    memcpy(icmp.mac, far_mac, UN_MAC_BYTES);
    far_wait(far, 15 * NET_SECOND); /* announcements and solicitations are over */
    far_send_arp(far, UN_ARP_REQUEST, &far->ip4, &far->stack4);
    far_send_arp(far, UN_ARP_REPLY, &far->ip4, &far->stack4);
    far_send_icmp(far, &far->ip6, &far->stack6, &icmp, "", 0);
    icmp.kind = UN_ICMP_NEIGHBOUR_ADVERTISEMENT;
    icmp.target = far->ip6;
    icmp.is_solicited = icmp.overrides = true;
    far_send_icmp(far, &far->ip6, &far->stack6, &icmp, "", 0);
    while (far_take(far, &packet))
        ;
}

bool far_take(struct far *far, struct far_packet *packet)
{
    struct un_tx out;
    int length = un_hand_output(far->host.device, packet->bytes, sizeof packet->bytes, &out);
    CHECK(length >= 0);
    if (length == 0)
        return false;
    struct iovec piece = {packet->bytes, (size_t)length};
    packet->length = (uint32_t)length;
    CHECK_EQ(un_packet_parse(&packet->packet, &piece, 1), UN_DROP_NONE);
    CHECK(packet->packet.ether_type == UN_ETHER_ARP || packet->packet.is_fragment ||
          un_packet_checksum_good(&packet->packet, &piece, 1, UN_CHECKSUM_UNKNOWN));
    return true;
}

void far_expect_nothing(struct far *far)
{
    struct far_packet packet;
    CHECK(!far_take(far, &packet));
}

struct un_arp far_expect_arp(struct far *far)
{
    struct far_packet packet;
    struct un_arp arp;
    CHECK(far_take(far, &packet));
    CHECK_EQ(packet.packet.ether_type, UN_ETHER_ARP);
    CHECK_EQ(un_arp_parse(&arp, packet.bytes + packet.packet.network, packet.length - packet.packet.network),
             UN_DROP_NONE);
    return arp;
}

struct un_icmp far_expect_icmp(struct far *far, struct far_packet *packet, enum un_icmp_kind kind)
{
    struct un_icmp icmp;
    CHECK(far_take(far, packet));
    const struct un_packet *parsed = &packet->packet;
    CHECK(parsed->protocol == UN_PROTOCOL_ICMP || parsed->protocol == UN_PROTOCOL_ICMPV6);
    CHECK_EQ(un_icmp_parse(&icmp, parsed->protocol == UN_PROTOCOL_ICMPV6, parsed->hop_limit,
                           packet->bytes + parsed->transport, parsed->transport_length, parsed->transport_length),
             UN_DROP_NONE);
    CHECK_EQ(icmp.kind, kind);
    return icmp;
}

struct un_seg far_expect_tcp(struct far *far, uint8_t flags)
{
    struct far_packet packet;
    struct un_seg seg;
    CHECK(far_take(far, &packet));
    const struct un_packet *parsed = &packet.packet;
    CHECK_EQ(parsed->protocol, UN_PROTOCOL_TCP);
    CHECK_EQ(un_seg_parse(&seg, packet.bytes + parsed->transport, parsed->transport_length, parsed->transport_length),
             UN_DROP_NONE);
    CHECK_EQ(seg.flags, flags);
    return seg;
}
