/* Ethernet and IP headers out. */
#include "base/assert.h"
#include "base/bytes.h"
#include "wire/checksum.h"
#include "wire/packet.h"

#define DONT_FRAGMENT 0x4000u

uint32_t un_eth_emit(uint8_t *at, const uint8_t *destination, const uint8_t *source, uint16_t ether_type)
{
    memcpy(at, destination, UN_MAC_BYTES);
    memcpy(at + UN_MAC_BYTES, source, UN_MAC_BYTES);
    un_put16(at + 12, ether_type);
    return UN_ETH_BYTES;
}

/* The first 16 bytes are put together in two words: they are summed before they are written, which spares reading back
 * what has just been stored in smaller parts. */
static uint32_t emit_ipv4(uint8_t *at, const struct un_ip_header *header)
{
    uint32_t total = UN_IPV4_BYTES + header->payload_length;
    un_assert(total <= UINT16_MAX);
    uint32_t source, destination;
    memcpy(&source, un_ip_v4(&header->source), sizeof source);
    memcpy(&destination, un_ip_v4(&header->destination), sizeof destination);
    uint64_t first = UINT64_C(0x45) << 56 | (uint64_t)(header->dscp << 2 | header->ecn) << 48 | (uint64_t)total << 32 |
                     (uint64_t)header->identification << 16 | (header->dont_fragment ? DONT_FRAGMENT : 0);
    first = __builtin_bswap64(first);
    uint64_t second = header->hop_limit | (uint64_t)header->protocol << 8 | (uint64_t)source << 32;
    second |= (uint64_t)un_checksum(un_sum_word(first) + un_sum_word(second) + destination) << 16;
    memcpy(at, &first, sizeof first);
    memcpy(at + 8, &second, sizeof second);
    memcpy(at + 16, &destination, sizeof destination);
    return UN_IPV4_BYTES;
}

static uint32_t emit_ipv6(uint8_t *at, const struct un_ip_header *header)
{
    un_assert(header->payload_length <= UINT16_MAX);
    un_put32(at, 6u << 28 | (uint32_t)(header->dscp << 2 | header->ecn) << 20);
    un_put16(at + 4, (uint16_t)header->payload_length);
    at[6] = header->protocol;
    at[7] = header->hop_limit;
    memcpy(at + 8, header->source.bytes, 16);
    memcpy(at + 24, header->destination.bytes, 16);
    return UN_IPV6_BYTES;
}

uint32_t un_ip_emit(uint8_t *at, const struct un_ip_header *header)
{
    bool is_v4 = un_ip_is_v4(&header->destination);
    un_assert(un_ip_is_v4(&header->source) == is_v4);
    return is_v4 ? emit_ipv4(at, header) : emit_ipv6(at, header);
}

uint32_t un_ip_header_length(const struct un_ip *destination)
{
    return un_ip_is_v4(destination) ? UN_IPV4_BYTES : UN_IPV6_BYTES;
}
