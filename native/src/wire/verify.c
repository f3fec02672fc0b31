/* Whether the checksum of a transport protocol is right, with all that a sender or a device may have left undone. */
#include "base/bytes.h"
#include "wire/checksum.h"
#include "wire/packet.h"

/* Where the transport protocol keeps its checksum; 0: it has none. */
static uint32_t checksum_offset(uint8_t protocol)
{
    switch (protocol) {
    case UN_PROTOCOL_TCP:
        return 16;
    case UN_PROTOCOL_UDP:
        return 6;
    case UN_PROTOCOL_ICMP:
    case UN_PROTOCOL_ICMPV6:
        return 2;
    default:
        return 0;
    }
}

/* A UDP datagram may be shorter than its packet: what lies behind it is not summed. 0: it cannot be. */
static uint32_t udp_length(const uint8_t *at, uint32_t length)
{
    uint32_t said = un_get16(at + 4);
    return said >= 8 && said <= length ? said : 0;
}

bool un_packet_checksum_good(const struct un_packet *packet, const struct iovec *pieces, int count,
                             enum un_checksum_state state)
{
    if (state == UN_CHECKSUM_GOOD)
        return true;
    const uint8_t *at = (const uint8_t *)pieces[0].iov_base + packet->transport;
    uint32_t there = (uint32_t)pieces[0].iov_len - packet->transport;
    uint32_t length = packet->transport_length;
    uint32_t offset = checksum_offset(packet->protocol);
    if (offset == 0 || offset + 2 > length || offset + 2 > there || packet->is_fragment)
        return false;
    uint16_t field;
    memcpy(&field, at + offset, sizeof field);
    if (packet->protocol == UN_PROTOCOL_UDP) {
        if (field == 0)
            return packet->ether_type == UN_ETHER_IPV4;
        length = udp_length(at, length);
    }
    uint64_t sum = 0;
    if (packet->protocol != UN_PROTOCOL_ICMP) {
        sum = un_sum_pseudo(&packet->source, &packet->destination, packet->protocol, length);
        if (state == UN_CHECKSUM_PARTIAL && field == un_sum_fold(sum))
            return true;
    }
    sum += length <= there ? un_sum(at, length) : un_sum_pieces(pieces, count, packet->transport, length);
    return un_sum_is_good(sum);
}
