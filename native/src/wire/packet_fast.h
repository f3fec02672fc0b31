/* The fast path of the wire: the kind of packet that nearly all packets are, parsed and written in one go.
 *
 * Ethernet without a tag and to our own address; IPv4 without options or IPv6 without extension headers, no fragment;
 * TCP with ACK or ACK and PSH and no other flag, and no options but NOP, NOP, timestamp (RFC 7323 appendix A).
 *
 * A refusal only says that a packet is not of this kind; packet.h and seg.h find out what it is and what is wrong with
 * it. Everything is inline, so that the compiler makes one function of it and the caller. */
#ifndef UN_PACKET_FAST_H
#define UN_PACKET_FAST_H

#include "base/assert.h"
#include "base/bytes.h"
#include "base/attributes.h"
#include "wire/checksum.h"
#include "wire/packet.h"
#include "wire/seg.h"

/* There are four kinds, by the lengths of the headers: `network` is UN_IPV4_BYTES or UN_IPV6_BYTES, `header` is
 * UN_TCP_HEADER_BYTES or UN_TCP_HEADER_TIMESTAMP. Whoever knows the kind names it, and gets code for that
 * kind alone. */
struct un_packet_fast {
    struct un_ip source;
    struct un_ip destination;
    uint32_t payload; /* bytes */
    uint16_t peer_port;
    uint16_t local_port;
};

static inline uint64_t un_packet_fast_word(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

static inline uint32_t un_packet_fast_half(const uint8_t *at)
{
    uint32_t half;
    memcpy(&half, at, sizeof half);
    return half;
}

static inline uint32_t un_packet_fast_bytes(uint32_t network, uint32_t header)
{
    return UN_ETH_BYTES + network + header;
}

/* The IP header that a frame of more bytes than an Ethernet header seems to have, 0: none. EtherType,
 * version, length. */
static inline uint32_t un_packet_fast_network(const uint8_t *at)
{
    uint32_t word = un_packet_fast_half(at + 12);
    if ((word & 0xffffff) == 0x450008)
        return UN_IPV4_BYTES;
    return (word & 0xf0ffff) == 0x60dd86 ? UN_IPV6_BYTES : 0;
}

/* `at`: the IP header. Returns the bytes of TCP, 0: it is not of this kind. */
UN_ALWAYS_INLINE uint32_t un_packet_fast_ipv4(const uint8_t *at)
{
    const uint32_t fixed = 0xff00ff3f; /* not the time to live, nor "don't fragment" */
    uint64_t sum =
        un_sum_carry(un_sum_carry(un_packet_fast_word(at), un_packet_fast_word(at + 12)), un_packet_fast_half(at + 8));
    uint32_t total = un_get16(at + 2);
    bool is_plain = (un_packet_fast_half(at + 6) & fixed) == (uint32_t)UN_PROTOCOL_TCP << 24 && un_sum_is_good(sum);
    return is_plain && total > UN_IPV4_BYTES ? total - UN_IPV4_BYTES : 0;
}

/* Such a packet never has a mapped IPv4 address. */
UN_ALWAYS_INLINE uint32_t un_packet_fast_ipv6(const uint8_t *at)
{
    struct un_ip source = un_ip_from_v6(at + 8), destination = un_ip_from_v6(at + 24);
    bool is_plain = at[6] == UN_PROTOCOL_TCP && !un_ip_is_v4(&source) && !un_ip_is_v4(&destination);
    return is_plain ? un_get16(at + 4) : 0;
}

/* The sum of the pseudo-header of so many bytes of TCP. */
UN_ALWAYS_INLINE uint64_t un_packet_fast_pseudo(const uint8_t *at, uint32_t bytes, uint32_t network)
{
    uint64_t rest = __builtin_bswap32(bytes) + (UN_PROTOCOL_TCP << 8);
    if (network == UN_IPV4_BYTES)
        return un_sum_carry(un_packet_fast_word(at + 12), rest);
    uint64_t source = un_sum_carry(un_packet_fast_word(at + 8), un_packet_fast_word(at + 16));
    uint64_t destination = un_sum_carry(un_packet_fast_word(at + 24), un_packet_fast_word(at + 32));
    return un_sum_carry(un_sum_carry(source, destination), rest);
}

/* Data offset, flags, and where the options begin. */
UN_ALWAYS_INLINE bool un_packet_fast_is_header_of(const uint8_t *at, uint32_t header)
{
    const uint16_t expected = (uint16_t)(header << 2 | UN_TCP_ACK << 8), pushed = UN_TCP_PSH << 8;
    uint16_t offset_and_flags;
    memcpy(&offset_and_flags, at + 12, sizeof offset_and_flags);
    return (offset_and_flags & ~pushed) == expected &&
           (header == UN_TCP_HEADER_BYTES || un_get32(at + 20) == UN_TCP_NOP_NOP_TIMESTAMP);
}

static inline bool un_packet_fast_is_mac(const uint8_t *at, const uint8_t *mac)
{
    return memcmp(at, mac, UN_MAC_BYTES) == 0;
}

/* The sum of the pseudo-header, and nothing else, in the field: the rest was left to a device that there is not. */
UN_ALWAYS_INLINE bool un_packet_fast_is_partial(const uint8_t *ip, uint32_t bytes, uint32_t network)
{
    uint16_t field;
    memcpy(&field, ip + network + 16, sizeof field);
    return field == un_sum_fold(un_packet_fast_pseudo(ip, bytes, network));
}

UN_ALWAYS_INLINE bool un_packet_fast_is_sum_good(const uint8_t *ip, uint32_t bytes, enum un_checksum_state state,
                                                 uint32_t network)
{
    if (state == UN_CHECKSUM_GOOD || (state == UN_CHECKSUM_PARTIAL && un_packet_fast_is_partial(ip, bytes, network)))
        return true;
    return un_sum_is_good(un_sum_more(un_packet_fast_pseudo(ip, bytes, network), ip + network, bytes));
}

/* A frame of at least un_packet_fast_bytes, of which un_packet_fast_network is `network`: is it of this kind, and
 * right? What the headers say is read when all of that is known, so that nothing has to be kept while the sum is
 * made. */
UN_ALWAYS_INLINE bool un_packet_fast_check(struct un_packet_fast *fast, const uint8_t *at, uint32_t length,
                                           enum un_checksum_state state, uint32_t network, uint32_t header)
{
    const uint8_t *ip = at + UN_ETH_BYTES, *tcp = ip + network;
    uint32_t bytes = network == UN_IPV4_BYTES ? un_packet_fast_ipv4(ip) : un_packet_fast_ipv6(ip);
    if (bytes < header || bytes > length - UN_ETH_BYTES - network || !un_packet_fast_is_header_of(tcp, header) ||
        !un_packet_fast_is_sum_good(ip, bytes, state, network))
        return false;
    fast->source = network == UN_IPV4_BYTES ? un_ip_from_v4(ip + 12) : un_ip_from_v6(ip + 8);
    fast->destination = network == UN_IPV4_BYTES ? un_ip_from_v4(ip + 16) : un_ip_from_v6(ip + 24);
    fast->peer_port = un_get16(tcp);
    fast->local_port = un_get16(tcp + 2);
    fast->payload = bytes - header;
    return true;
}

/* The segment of a frame that was checked: apart from that, as its connection is looked up first. */
UN_ALWAYS_INLINE void un_packet_fast_read(struct un_seg *seg, const struct un_packet_fast *fast, const uint8_t *at,
                                          uint32_t network, uint32_t header)
{
    const uint8_t *ip = at + UN_ETH_BYTES, *tcp = ip + network;
    seg->options = 0;
    if (header == UN_TCP_HEADER_TIMESTAMP) {
        seg->options = UN_SEG_TIMESTAMP;
        seg->tsval = un_get32(tcp + 24);
        seg->tsecr = un_get32(tcp + 28);
    }
    seg->flags = UN_TCP_ACK | (tcp[13] & UN_TCP_PSH); /* others it has none */
    seg->source_port = fast->peer_port;
    seg->destination_port = fast->local_port;
    seg->seq = un_get32(tcp + 4);
    seg->ack = un_get32(tcp + 8);
    seg->wnd = un_get16(tcp + 14);
    seg->sack_count = 0;
    seg->ecn = network == UN_IPV4_BYTES ? ip[1] & 3 : ip[1] >> 4 & 3;
    seg->header_length = (uint8_t)header;
    seg->length = fast->payload;
}

/* The kind of a frame for the station with that MAC address in *network and *header. */
static inline bool un_packet_fast_kind(const uint8_t *at, uint32_t length, const uint8_t *mac, uint32_t *network,
                                       uint32_t *header)
{
    if (length < un_packet_fast_bytes(UN_IPV4_BYTES, UN_TCP_HEADER_BYTES) || !un_packet_fast_is_mac(at, mac))
        return false;
    *network = un_packet_fast_network(at);
    if (*network == 0 || length < un_packet_fast_bytes(*network, UN_TCP_HEADER_BYTES))
        return false;
    bool is_short = at[UN_ETH_BYTES + *network + 12] == UN_TCP_HEADER_BYTES << 2;
    *header = is_short ? UN_TCP_HEADER_BYTES : UN_TCP_HEADER_TIMESTAMP;
    return length >= un_packet_fast_bytes(*network, *header);
}

/* ---- out ---- */

/* An IPv4 header of 20 bytes, its addresses as they lie in memory. */
struct un_packet_fast_ipv4 {
    uint32_t source;
    uint32_t destination;
    uint32_t total; /* bytes of the packet */
    uint16_t identification;
    uint8_t tos;    /* DSCP and ECN */
    uint8_t hop_limit;
    uint8_t protocol;
    bool dont_fragment;
};

/* The first 16 bytes are put together in two words: they are summed before they are written, which spares reading back
 * what has just been stored in smaller parts. */
UN_ALWAYS_INLINE void un_packet_fast_ipv4_emit(uint8_t *at, const struct un_packet_fast_ipv4 *header)
{
    const uint64_t version = UINT64_C(0x45) << 56, dont_fragment = header->dont_fragment ? 0x4000 : 0;
    un_assert(header->total <= UINT16_MAX);
    uint64_t first = version | (uint64_t)header->tos << 48 | (uint64_t)header->total << 32 |
                     (uint64_t)header->identification << 16 | dont_fragment;
    first = __builtin_bswap64(first);
    uint64_t second = header->hop_limit | (uint64_t)header->protocol << 8 | (uint64_t)header->source << 32;
    second |= (uint64_t)un_checksum(un_sum_word(first) + un_sum_word(second) + header->destination) << 16;
    memcpy(at, &first, sizeof first);
    memcpy(at + 8, &second, sizeof second);
    memcpy(at + 16, &header->destination, sizeof header->destination);
}

static inline bool un_packet_fast_is_header(const struct un_seg *seg)
{
    return !(seg->options & ~UN_SEG_TIMESTAMP) && seg->sack_count == 0;
}

static inline uint32_t un_packet_fast_header_bytes(const struct un_seg *seg)
{
    return seg->options ? UN_TCP_HEADER_TIMESTAMP : UN_TCP_HEADER_BYTES;
}

/* What un_seg_emit does, for a segment of which un_packet_fast_is_header, from and to these ports; `header` is its
 * un_packet_fast_header_bytes. Returns the sum of the header. */
UN_ALWAYS_INLINE uint64_t un_packet_fast_emit(uint8_t *at, const struct un_seg *seg, uint16_t from, uint16_t to,
                                              uint32_t header)
{
    uint64_t first = __builtin_bswap64((uint64_t)from << 48 | (uint64_t)to << 32 | seg->seq);
    uint64_t second =
        __builtin_bswap64((uint64_t)seg->ack << 32 | header << 26 | (uint32_t)seg->flags << 16 | seg->wnd);
    uint32_t urgent = __builtin_bswap32(seg->urgent); /* behind the checksum, which is zero */
    memcpy(at, &first, sizeof first);
    memcpy(at + 8, &second, sizeof second);
    memcpy(at + 16, &urgent, sizeof urgent);
    uint64_t sum = un_sum_word(first) + un_sum_word(second) + urgent;
    if (header == UN_TCP_HEADER_TIMESTAMP) {
        uint64_t stamps = __builtin_bswap64((uint64_t)seg->tsval << 32 | seg->tsecr);
        un_put32(at + UN_TCP_HEADER_BYTES, UN_TCP_NOP_NOP_TIMESTAMP);
        memcpy(at + UN_TCP_HEADER_BYTES + 4, &stamps, sizeof stamps);
        sum += un_sum_word(stamps) + __builtin_bswap32(UN_TCP_NOP_NOP_TIMESTAMP);
    }
    return sum;
}

#endif
