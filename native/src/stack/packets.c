/* See packets.h. */
#include "stack/packets.h"

#include <errno.h>

#include "base/bytes.h"
#include "stack/farewell.h"
#include "wire/udp.h"

#define UN_ROOM_ASKED UN_ROW_MAX    /* packets: one question to the device for so many */
#define UN_DEVICE_RETRY_NS UN_MS_NS /* device.h: look for room again after a millisecond */

void un_row_submit(struct un_stack *stack)
{
    uint32_t count = stack->row.count;
    if (count == 0)
        return;
    stack->row.count = 0;
    stack->device->operations->submit(stack->device, stack->row.packets, count);
    stack->has_submitted = true;
    stack->counters->tx_packets += count;
}

bool un_stack_ask_room(struct un_stack *stack)
{
    un_row_submit(stack); /* they had their room */
    stack->tx_room = stack->device->operations->reserve(stack->device, UN_ROOM_ASKED);
    if (stack->tx_room == 0)
        stack->own->retry_ns = stack->tcp.now_ns + UN_DEVICE_RETRY_NS;
    return stack->tx_room > 0;
}

/* They have had their room since. */
void un_stack_submit_staged(struct un_stack *stack)
{
    struct un_piece piece = {stack->question, stack->question_bytes, UN_NONE};
    const struct un_tx question = {.pieces = &piece, .count = 1, .header_length = stack->question_bytes,
                                   .length = stack->question_bytes};
    bool is_segment = stack->is_segment_staged;
    stack->tx_room += (stack->question_bytes > 0) + is_segment;
    if (stack->question_bytes > 0)
        un_outgoing_submit(stack, &question);
    stack->question_bytes = 0;
    stack->is_staged = stack->is_segment_staged = false;
    if (is_segment)
        un_outgoing_submit(stack, &stack->segment.tx);
    un_compiler_fence();
    stack->own->farewells.put -= stack->is_reset_kept;
    stack->is_reset_kept = false;
    un_farewell_settle(stack, false);
}

/* A device may need a frame for it, and must not get one that the change has dropped. */
static int stage_question(struct un_stack *stack, const struct un_tx *packet)
{
    if (stack->question_bytes > 0)
        return -EAGAIN;
    un_assert(packet->length <= UN_QUESTION_MAX);
    for (uint32_t i = 0; i < packet->count; i++) {
        memcpy(stack->question + stack->question_bytes, packet->pieces[i].bytes, packet->pieces[i].length);
        stack->question_bytes = (uint16_t)(stack->question_bytes + packet->pieces[i].length);
    }
    stack->is_staged = true;
    stack->tx_room--;
    return 0;
}

int un_stack_transmit(struct un_stack *stack, const struct un_tx *packet)
{
    if (!un_stack_has_room(stack))
        return -EAGAIN;
    if (stack->own->busy)
        return stage_question(stack, packet);
    un_outgoing_submit(stack, packet);
    return 0;
}

void un_stack_flush(struct un_stack *stack)
{
    stack->tx_room = 0; /* what the device said holds for this turn */
    if (!stack->has_submitted)
        return;
    stack->has_submitted = false;
    stack->device->operations->flush(stack->device);
}

/* Sum of the payload, which begins at an even offset of the packet. */
uint64_t un_outgoing_sum(const struct un_piece *pieces, int count)
{
    uint64_t sum = 0;
    bool is_odd = false;
    for (int i = 0; i < count; i++) {
        uint64_t part = un_sum(pieces[i].bytes, pieces[i].length);
        sum += is_odd ? un_sum_odd(part) : part;
        is_odd ^= pieces[i].length & 1;
    }
    return sum;
}

static uint32_t length_of(const struct un_piece *pieces, int count)
{
    uint32_t length = 0;
    for (int i = 0; i < count; i++)
        length += pieces[i].length;
    return length;
}

uint16_t un_stack_checksum(const struct un_ip_header *ip, uint8_t protocol, const struct un_piece *pieces, int count)
{
    uint64_t sum = un_outgoing_sum(pieces, count);
    if (protocol != UN_PROTOCOL_ICMP)
        sum += un_sum_pseudo(&ip->source, &ip->destination, protocol, length_of(pieces, count));
    return protocol == UN_PROTOCOL_UDP ? un_udp_checksum(sum) : un_checksum(sum);
}

/* The transport header, whose checksum is always computed here, and whatever stands in front of it. */
static void put_transport(const struct un_datagram *datagram, uint8_t *at, struct un_outgoing *packet)
{
    uint32_t before = datagram->extension_length;
    uint8_t protocol = before ? at[0] : datagram->ip.protocol;
    packet->pieces[0] = (struct un_piece){at + before, datagram->header_length - before, UN_NONE};
    if (datagram->count > 0)
        memcpy(packet->pieces + 1, datagram->pieces, (size_t)datagram->count * sizeof *datagram->pieces);
    uint16_t field = un_stack_checksum(&datagram->ip, protocol, packet->pieces, datagram->count + 1);
    memcpy(at + before + datagram->checksum_offset, &field, sizeof field);
}

/* Its place in the whole, which un_ipv4_emit knows nothing of. */
static void put_fragment_word(uint8_t *at, uint16_t word)
{
    uint16_t zero = 0;
    un_put16(at + 6, word);
    memcpy(at + 10, &zero, sizeof zero);
    uint16_t field = un_checksum(un_sum(at, UN_IPV4_BYTES));
    memcpy(at + 10, &field, sizeof field);
}

/* Everything but the Ethernet header. */
void un_outgoing_build(struct un_stack *stack, struct un_datagram *datagram,
                       struct un_outgoing *packet)
{
    struct un_ip_header *ip = &datagram->ip;
    uint32_t payload = length_of(datagram->pieces, datagram->count);
    bool is_v4 = un_ip_is_v4(&ip->destination);
    ip->payload_length = datagram->header_length + payload;
    ip->dont_fragment = !datagram->is_fragment;
    if (!datagram->is_fragment)
        ip->identification = stack->own->ip_identification++;
    if (ip->hop_limit == 0)
        ip->hop_limit = UN_HOP_LIMIT;
    uint8_t *network = packet->header + UN_ETH_BYTES, *at = network + un_ip_emit(network, ip);
    memcpy(at, datagram->header, datagram->header_length);
    if (!datagram->is_fragment)
        put_transport(datagram, at, packet);
    else if (is_v4)
        put_fragment_word(network, datagram->fragment_word);
    packet->tx = (struct un_tx){.flags = is_v4 ? 0 : UN_TX_IPV6,
                                .checksum_start = (uint16_t)(at - packet->header),
                                .checksum_offset = (uint16_t)datagram->checksum_offset};
    uint32_t header_length = (uint32_t)(at - packet->header) + datagram->header_length;
    un_outgoing_gather(un_outgoing_place(packet), header_length, datagram->pieces, datagram->count, payload);
}

int un_stack_send_to(struct un_stack *stack, struct un_datagram *datagram, const uint8_t *mac)
{
    struct un_outgoing packet;
    uint16_t type = un_ip_is_v4(&datagram->ip.destination) ? UN_ETHER_IPV4 : UN_ETHER_IPV6;
    un_eth_emit(packet.header, mac, stack->device->capabilities.mac, type);
    un_outgoing_build(stack, datagram, &packet);
    return un_stack_transmit(stack, &packet.tx);
}

/* RFC 1112 section 6.4, RFC 2464 section 7. */
static void group_mac(const struct un_ip *ip, uint8_t *mac)
{
    if (!un_ip_is_v4(ip)) {
        memcpy(mac, "\x33\x33", 2);
        memcpy(mac + 2, ip->bytes + 12, 4);
    } else if (un_ip_is_multicast(ip)) {
        memcpy(mac, "\x01\x00\x5e", 3);
        mac[3] = ip->bytes[13] & 0x7f;
        memcpy(mac + 4, ip->bytes + 14, 2);
    } else {
        memset(mac, 0xff, UN_MAC_BYTES);
    }
}

int un_stack_send_group(struct un_stack *stack, struct un_datagram *datagram)
{
    uint8_t mac[UN_MAC_BYTES];
    un_assert(un_is_group(stack, &datagram->ip.destination));
    group_mac(&datagram->ip.destination, mac);
    return un_stack_send_to(stack, datagram, mac);
}
