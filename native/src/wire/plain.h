/* The packet that nearly all packets are, read and written in one go: Ethernet without a tag and to our own address, IPv4 without
 * options or IPv6 without extensions, no fragment, TCP with ACK or ACK and PSH and no other flag, whose options are none or
 * NOP, NOP, timestamp (RFC 7323 appendix A).
 *
 * "No" says nothing but that it is not of this kind: what it is, and what is wrong with it, packet.h and seg.h find out.
 * Inline, as it is to become one piece with the functions that take a frame in and put one together. */
#ifndef UN_PLAIN_H
#define UN_PLAIN_H

#include "base/assert.h"
#include "base/bytes.h"
#include "wire/checksum.h"
#include "wire/packet.h"
#include "wire/seg.h"

struct un_plain {
    struct un_ip source;
    struct un_ip destination;
    uint32_t transport;        /* offset of the TCP header */
    uint32_t transport_length; /* header and payload */
    uint8_t ecn;
};

static inline uint64_t un_plain_word(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

/* `at`: the IP header; `length` bytes are there from it on, those of the smallest IPv4 packet at least. */
static inline bool un_plain_ipv4(struct un_plain *plain, const uint8_t *at, uint32_t length)
{
    const uint16_t more_or_offset = 0x3fff;
    uint32_t total = un_get16(at + 2), destination;
    memcpy(&destination, at + 16, sizeof destination);
    uint64_t sum = un_sum_carry(un_sum_carry(un_plain_word(at), un_plain_word(at + 8)), destination);
    if (at[0] != 0x45 || at[9] != UN_PROTOCOL_TCP || (un_get16(at + 6) & more_or_offset) || total > length ||
        total < UN_IPV4_BYTES + UN_TCP_HEADER_BYTES || !un_sum_is_good(sum))
        return false;
    plain->ecn = at[1] & 3;
    plain->source = un_ip_from_v4(at + 12);
    plain->destination = un_ip_from_v4(at + 16);
    plain->transport = UN_ETH_BYTES + UN_IPV4_BYTES;
    plain->transport_length = total - UN_IPV4_BYTES;
    return true;
}

static inline bool un_plain_ipv6(struct un_plain *plain, const uint8_t *at, uint32_t length)
{
    uint32_t payload = un_get16(at + 4);
    if (length < UN_IPV6_BYTES || at[0] >> 4 != 6 || at[6] != UN_PROTOCOL_TCP || payload > length - UN_IPV6_BYTES ||
        payload < UN_TCP_HEADER_BYTES)
        return false;
    plain->ecn = at[1] >> 4 & 3;
    plain->source = un_ip_from_v6(at + 8);
    plain->destination = un_ip_from_v6(at + 24);
    plain->transport = UN_ETH_BYTES + UN_IPV6_BYTES;
    plain->transport_length = payload;
    return !un_ip_is_v4(&plain->source) && !un_ip_is_v4(&plain->destination);
}

/* `length` bytes from the TCP header on, at least those of a header without options. */
static inline bool un_plain_segment(struct un_seg *seg, const uint8_t *at, uint32_t length)
{
    uint32_t header = at[12] == UN_TCP_HEADER_BYTES << 2 ? UN_TCP_HEADER_BYTES : UN_TCP_HEADER_TIMESTAMP;
    seg->options = 0;
    if (header != UN_TCP_HEADER_BYTES) {
        if (at[12] != UN_TCP_HEADER_TIMESTAMP << 2 || length < header || un_get32(at + 20) != UN_TCP_NOP_NOP_TIMESTAMP)
            return false;
        seg->options = UN_SEG_TIMESTAMP;
        seg->tsval = un_get32(at + 24);
        seg->tsecr = un_get32(at + 28);
    }
    seg->flags = at[13];
    seg->source_port = un_get16(at);
    seg->destination_port = un_get16(at + 2);
    seg->seq = un_get32(at + 4);
    seg->ack = un_get32(at + 8);
    seg->wnd = un_get16(at + 14);
    seg->sack_count = 0;
    seg->header_length = (uint8_t)header;
    seg->length = length - header;
    return (seg->flags & ~UN_TCP_PSH) == UN_TCP_ACK;
}

/* A frame of `length` bytes at `at`, for the station with that MAC address; is_sum_good: the device knows that the TCP
 * checksum is right. */
static inline bool un_plain_parse(struct un_plain *plain, struct un_seg *seg, const uint8_t *at, uint32_t length,
                                  const uint8_t *mac, bool is_sum_good)
{
    if (length < UN_ETH_BYTES + UN_IPV4_BYTES + UN_TCP_HEADER_BYTES || memcmp(at, mac, UN_MAC_BYTES) != 0)
        return false;
    uint16_t type = un_get16(at + 12);
    uint32_t there = length - UN_ETH_BYTES;
    bool is_plain = __builtin_expect(type == UN_ETHER_IPV4, 1) ? un_plain_ipv4(plain, at + UN_ETH_BYTES, there)
                                                               : type == UN_ETHER_IPV6 &&
                                                                     un_plain_ipv6(plain, at + UN_ETH_BYTES, there);
    if (!is_plain || !un_plain_segment(seg, at + plain->transport, plain->transport_length))
        return false;
    seg->ecn = plain->ecn;
    if (is_sum_good)
        return true;
    uint64_t pseudo = un_sum_pseudo(&plain->source, &plain->destination, UN_PROTOCOL_TCP, plain->transport_length);
    return un_sum_is_good(un_sum_more(pseudo, at + plain->transport, plain->transport_length));
}

/* ---- out ---- */

/* The first 16 bytes are put together in two words: they are summed before they are written, which spares reading back
 * what has just been stored in smaller parts. */
static inline uint32_t un_ipv4_emit(uint8_t *at, const struct un_ip_header *header)
{
    const uint64_t dont_fragment = 0x4000;
    uint32_t total = UN_IPV4_BYTES + header->payload_length;
    un_assert(total <= UINT16_MAX);
    uint32_t source, destination;
    memcpy(&source, un_ip_v4(&header->source), sizeof source);
    memcpy(&destination, un_ip_v4(&header->destination), sizeof destination);
    uint64_t first = UINT64_C(0x45) << 56 | (uint64_t)(header->dscp << 2 | header->ecn) << 48 | (uint64_t)total << 32 |
                     (uint64_t)header->identification << 16 | (header->dont_fragment ? dont_fragment : 0);
    first = __builtin_bswap64(first);
    uint64_t second = header->hop_limit | (uint64_t)header->protocol << 8 | (uint64_t)source << 32;
    second |= (uint64_t)un_checksum(un_sum_word(first) + un_sum_word(second) + destination) << 16;
    memcpy(at, &first, sizeof first);
    memcpy(at + 8, &second, sizeof second);
    memcpy(at + 16, &destination, sizeof destination);
    return UN_IPV4_BYTES;
}

static inline bool un_plain_is_header(const struct un_seg *seg)
{
    return !(seg->options & ~UN_SEG_TIMESTAMP) && seg->sack_count == 0;
}

/* What un_seg_emit does, for a segment of which un_plain_is_header; *sum is that of the header. */
static inline uint32_t un_plain_emit(uint8_t *at, const struct un_seg *seg, uint64_t *sum)
{
    uint32_t length = seg->options ? UN_TCP_HEADER_TIMESTAMP : UN_TCP_HEADER_BYTES;
    uint64_t ports = (uint64_t)seg->source_port << 16 | seg->destination_port;
    uint64_t first = __builtin_bswap64(ports << 32 | seg->seq);
    uint64_t second = __builtin_bswap64((uint64_t)seg->ack << 32 | length << 26 | (uint32_t)seg->flags << 16 | seg->wnd);
    uint32_t urgent = __builtin_bswap32(seg->urgent); /* behind the checksum, which is zero */
    memcpy(at, &first, sizeof first);
    memcpy(at + 8, &second, sizeof second);
    memcpy(at + 16, &urgent, sizeof urgent);
    *sum = un_sum_word(first) + un_sum_word(second) + urgent;
    if (seg->options) {
        uint64_t stamps = __builtin_bswap64((uint64_t)seg->tsval << 32 | seg->tsecr);
        un_put32(at + UN_TCP_HEADER_BYTES, UN_TCP_NOP_NOP_TIMESTAMP);
        memcpy(at + UN_TCP_HEADER_BYTES + 4, &stamps, sizeof stamps);
        *sum += un_sum_word(stamps) + __builtin_bswap32(UN_TCP_NOP_NOP_TIMESTAMP);
    }
    return length;
}

#endif
