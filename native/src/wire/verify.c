/* Whether the checksum of a transport protocol is right, with all that a sender or a device may have left undone. */
#include "base/bytes.h"
#include "wire/checksum.h"
#include "wire/packet.h"
#include "wire/seg.h"
#include "wire/udp.h"

enum { TCP_FIELD = 16, UDP_FIELD = 6, ICMP_FIELD = 2 }; /* where the checksum stands */

/* How many bytes are summed, of which the checksum and what it depends on are among the `there` bytes at `at`; 0: the
 * packet cannot be right. A UDP datagram may be shorter than its packet: what lies behind it does not count. */
static uint32_t covered(const struct un_packet *packet, const uint8_t *at, uint32_t there)
{
    uint32_t length = packet->transport_length;
    uint32_t least = ICMP_FIELD + 2;
    if (packet->protocol == UN_PROTOCOL_TCP)
        least = UN_TCP_HEADER_BYTES;
    else if (packet->protocol == UN_PROTOCOL_UDP)
        least = UN_UDP_BYTES;
    else if (packet->protocol != UN_PROTOCOL_ICMPV6 && packet->protocol != UN_PROTOCOL_ICMP)
        return 0;
    if (length < least || there < least || packet->is_fragment)
        return 0;
    if (packet->protocol != UN_PROTOCOL_UDP)
        return length;
    uint32_t said = un_get16(at + 4);
    return said >= UN_UDP_BYTES && said <= length ? said : 0;
}

static uint16_t field_of(uint8_t protocol, const uint8_t *at)
{
    uint16_t field;
    if (protocol == UN_PROTOCOL_UDP)
        memcpy(&field, at + UDP_FIELD, sizeof field);
    else
        memcpy(&field, at + (protocol == UN_PROTOCOL_TCP ? TCP_FIELD : ICMP_FIELD), sizeof field);
    return field;
}

/* What is summed besides the bytes; it is not there for ICMP (RFC 792). */
static inline uint64_t pseudo(const struct un_packet *packet, uint32_t length)
{
    if (packet->protocol == UN_PROTOCOL_ICMP)
        return 0;
    return un_sum_pseudo(&packet->source, &packet->destination, packet->protocol, length);
}

static bool is_partial(const struct un_packet *packet, const uint8_t *at, uint32_t length)
{
    return packet->protocol != UN_PROTOCOL_ICMP &&
           field_of(packet->protocol, at) == un_sum_fold(pseudo(packet, length));
}

/* All cases. Out of the way of the one below. */
static __attribute__((noinline)) bool is_good(const struct un_packet *packet, const struct iovec *pieces, int count,
                                              enum un_checksum_state state)
{
    const uint8_t *at = (const uint8_t *)pieces[0].iov_base + packet->transport;
    uint32_t length = covered(packet, at, (uint32_t)pieces[0].iov_len - packet->transport);
    if (length == 0)
        return false;
    if (state == UN_CHECKSUM_PARTIAL && is_partial(packet, at, length))
        return true;
    if (packet->protocol == UN_PROTOCOL_UDP && field_of(UN_PROTOCOL_UDP, at) == 0)
        return packet->ether_type == UN_ETHER_IPV4;
    uint64_t sum = un_sum_pieces(pieces, count, packet->transport, length);
    return un_sum_is_good(sum + pseudo(packet, length));
}

bool un_packet_checksum_good(const struct un_packet *packet, const struct iovec *pieces, int count,
                             enum un_checksum_state state)
{
    if (state == UN_CHECKSUM_GOOD)
        return true;
    uint32_t length = packet->transport_length;
    bool is_plain = packet->protocol == UN_PROTOCOL_TCP && !packet->is_fragment && length >= UN_TCP_HEADER_BYTES &&
                    packet->transport + length <= pieces[0].iov_len && state == UN_CHECKSUM_UNKNOWN;
    if (!is_plain)
        return is_good(packet, pieces, count, state);
    const uint8_t *at = (const uint8_t *)pieces[0].iov_base + packet->transport;
    return un_sum_is_good(un_sum_more(pseudo(packet, length), at, length));
}
