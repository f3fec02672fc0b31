/* Ethernet and IP headers out. */
#include "base/assert.h"
#include "base/bytes.h"
#include "wire/packet_fast.h"

uint32_t un_eth_emit(uint8_t *at, const uint8_t *destination, const uint8_t *source, uint16_t ether_type)
{
    memcpy(at, destination, UN_MAC_BYTES);
    memcpy(at + UN_MAC_BYTES, source, UN_MAC_BYTES);
    un_put16(at + 12, ether_type);
    return UN_ETH_BYTES;
}

static uint32_t emit_ipv4(uint8_t *at, const struct un_ip_header *header)
{
    const struct un_packet_fast_ipv4 plain = {
        .source = un_ip_v4_word(&header->source),
        .destination = un_ip_v4_word(&header->destination),
        .total = UN_IPV4_BYTES + header->payload_length,
        .identification = header->identification,
        .tos = (uint8_t)(header->dscp << 2 | header->ecn),
        .hop_limit = header->hop_limit,
        .protocol = header->protocol,
        .dont_fragment = header->dont_fragment,
    };
    un_packet_fast_ipv4_emit(at, &plain);
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
