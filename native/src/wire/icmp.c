/* ICMP messages of both families, parsed and emitted. */
#include "wire/icmp.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "wire/icmp_kind.h"
#include "wire/mld.h"
#include "wire/packet.h"

enum { HEADER_BYTES = 8, QUOTED_BYTES = 8, GROUP_BIT = 1 };
enum { DISCOVERY_HOP_LIMIT = 255, IPV6_MTU_MIN = 1280 };

/* Ports and sequence number of the quoted packet. They lie in the first eight bytes of its transport header, which
 * every error quotes (RFC 792). */
static void parse_quoted_transport(struct un_icmp *icmp, const uint8_t *at)
{
    struct un_icmp_quote *quote = &icmp->quote;
    icmp->has_quote = true;
    if (quote->protocol != UN_PROTOCOL_TCP && quote->protocol != UN_PROTOCOL_UDP)
        return;
    quote->source_port = un_get16(at);
    quote->destination_port = un_get16(at + 2);
    if (quote->protocol == UN_PROTOCOL_TCP)
        quote->seq = un_get32(at + 4);
}

/* Of fragments, only the first one has ports. */
static void parse_quote_v4(struct un_icmp *icmp, const uint8_t *at, uint32_t length)
{
    if (length < UN_IPV4_BYTES || at[0] >> 4 != 4 || (at[0] & 15) < 5)
        return;
    uint32_t header = (at[0] & 15) * 4u;
    if (length < header + QUOTED_BYTES || un_get16(at + 6) & 0x1fff)
        return;
    icmp->quote.protocol = at[9];
    icmp->quote.source = un_ip_from_v4(at + 12);
    icmp->quote.destination = un_ip_from_v4(at + 16);
    parse_quoted_transport(icmp, at + header);
}

/* We send no extension headers, so a quote with extension headers is not of our packet. Its `protocol` is then the
 * number of the first extension header, which matches nothing. */
static void parse_quote_v6(struct un_icmp *icmp, const uint8_t *at, uint32_t length)
{
    if (length < UN_IPV6_BYTES + QUOTED_BYTES || at[0] >> 4 != 6)
        return;
    icmp->quote.protocol = at[6];
    icmp->quote.source = un_ip_from_v6(at + 8);
    icmp->quote.destination = un_ip_from_v6(at + 24);
    if (!un_ip_is_v4(&icmp->quote.source) && !un_ip_is_v4(&icmp->quote.destination))
        parse_quoted_transport(icmp, at + UN_IPV6_BYTES);
}

static bool has_pointer(enum un_icmp_kind kind, bool is_v6)
{
    return kind == UN_ICMP_PARAMETER_PROBLEM || (is_v6 && kind == UN_ICMP_UNREACHABLE_PROTOCOL);
}

static void parse_error(struct un_icmp *icmp, bool is_v6, const uint8_t *at, uint32_t length)
{
    if (icmp->kind == UN_ICMP_PACKET_TOO_BIG)
        icmp->mtu = is_v6 ? un_get32(at + 4) : un_get16(at + 6);
    else if (has_pointer(icmp->kind, is_v6))
        icmp->pointer = is_v6 ? un_get32(at + 4) : at[4];
    if (is_v6)
        parse_quote_v6(icmp, at + HEADER_BYTES, length - HEADER_BYTES);
    else
        parse_quote_v4(icmp, at + HEADER_BYTES, length - HEADER_BYTES);
}

static bool parse_discovery_option(struct un_icmp *icmp, const uint8_t *at)
{
    if (at[0] == un_nd_mac_option(icmp->kind)) {
        memcpy(icmp->mac, at + 2, UN_MAC_BYTES);
        icmp->has_mac = true;
        return !(icmp->mac[0] & GROUP_BIT);
    }
    if (at[0] == UN_ND_MTU && icmp->kind == UN_ICMP_ROUTER_ADVERTISEMENT && un_get32(at + 4) >= IPV6_MTU_MIN)
        icmp->mtu = un_get32(at + 4);
    return true;
}

static bool parse_discovery_options(struct un_icmp *icmp, const uint8_t *at, uint32_t length)
{
    for (uint32_t i = 0; i < length;) {
        if (length - i < UN_ND_OPTION_BYTES || at[i + 1] == 0)
            return false;
        uint32_t option = at[i + 1] * UN_ND_OPTION_BYTES;
        if (option > length - i)
            return false;
        if (option == UN_ND_OPTION_BYTES && !parse_discovery_option(icmp, at + i))
            return false;
        i += option;
    }
    return true;
}

/* RFC 4861 sections 6.1 and 7.1. */
static enum un_drop parse_discovery(struct un_icmp *icmp, uint8_t hop_limit, const uint8_t *at, uint32_t length)
{
    uint32_t fixed = un_nd_fixed_bytes(icmp->kind);
    if (hop_limit != DISCOVERY_HOP_LIMIT || icmp->code != 0 || length < fixed)
        return UN_DROP_nd_malformed;
    if (icmp->kind == UN_ICMP_ROUTER_ADVERTISEMENT) {
        icmp->router_lifetime_s = un_get16(at + 6);
    } else if (icmp->kind != UN_ICMP_ROUTER_SOLICITATION) {
        icmp->target = un_ip_from_v6(at + 8);
        if (un_ip_is_multicast(&icmp->target) || un_ip_is_v4(&icmp->target))
            return UN_DROP_nd_malformed;
    }
    if (icmp->kind == UN_ICMP_NEIGHBOUR_ADVERTISEMENT) {
        icmp->is_router = at[4] & UN_ND_ROUTER;
        icmp->is_solicited = at[4] & UN_ND_SOLICITED;
        icmp->overrides = at[4] & UN_ND_OVERRIDE;
    }
    return parse_discovery_options(icmp, at + fixed, length - fixed) ? UN_DROP_NONE : UN_DROP_nd_malformed;
}

enum un_drop un_icmp_parse(struct un_icmp *icmp, bool is_v6, uint8_t hop_limit, const uint8_t *at, uint32_t length,
                           uint32_t total)
{
    un_assert(length <= total);
    if (length < HEADER_BYTES)
        return UN_DROP_icmp_malformed;
    *icmp = (struct un_icmp){.type = at[0], .code = at[1]};
    const struct un_icmp_meaning *meaning = un_icmp_by_type(is_v6, icmp->type, icmp->code);
    icmp->kind = meaning ? meaning->kind : UN_ICMP_OTHER;
    if (un_icmp_is_discovery(icmp->kind))
        return length == total ? parse_discovery(icmp, hop_limit, at, length) : UN_DROP_nd_malformed;
    if (icmp->kind == UN_ICMP_GROUP_QUERY)
        return length == total ? un_mld_parse_query(icmp, hop_limit, at, length) : UN_DROP_icmp_malformed;
    if (un_icmp_is_error(icmp->kind)) {
        parse_error(icmp, is_v6, at, length);
    } else if (icmp->kind != UN_ICMP_OTHER) {
        icmp->id = un_get16(at + 4);
        icmp->sequence = un_get16(at + 6);
        icmp->payload = HEADER_BYTES;
        icmp->payload_length = total - HEADER_BYTES;
    }
    return UN_DROP_NONE;
}

static uint32_t emit_discovery(const struct un_icmp *icmp, uint8_t *at)
{
    uint32_t length = un_nd_fixed_bytes(icmp->kind);
    memset(at + 4, 0, length - 4);
    if (icmp->kind == UN_ICMP_ROUTER_ADVERTISEMENT)
        un_put16(at + 6, icmp->router_lifetime_s);
    else if (icmp->kind != UN_ICMP_ROUTER_SOLICITATION)
        memcpy(at + 8, icmp->target.bytes, 16);
    if (icmp->kind == UN_ICMP_NEIGHBOUR_ADVERTISEMENT)
        at[4] = (uint8_t)((icmp->is_router ? UN_ND_ROUTER : 0) | (icmp->is_solicited ? UN_ND_SOLICITED : 0) |
                          (icmp->overrides ? UN_ND_OVERRIDE : 0));
    if (icmp->has_mac) {
        at[length] = un_nd_mac_option(icmp->kind);
        at[length + 1] = 1;
        memcpy(at + length + 2, icmp->mac, UN_MAC_BYTES);
        length += UN_ND_OPTION_BYTES;
    }
    if (icmp->kind == UN_ICMP_ROUTER_ADVERTISEMENT && icmp->mtu > 0) {
        un_put32(at + length, UN_ND_MTU << 24 | 1 << 16);
        un_put32(at + length + 4, icmp->mtu);
        length += UN_ND_OPTION_BYTES;
    }
    return length;
}

static void emit_error(const struct un_icmp *icmp, bool is_v6, uint8_t *at)
{
    uint32_t word = 0;
    if (icmp->kind == UN_ICMP_PACKET_TOO_BIG)
        word = is_v6 ? icmp->mtu : icmp->mtu & UINT16_MAX;
    else if (has_pointer(icmp->kind, is_v6))
        word = is_v6 ? icmp->pointer : icmp->pointer << 24;
    un_put32(at + 4, word);
}

/* The code that the caller asked for, where several codes mean this kind. */
static uint8_t code_of(const struct un_icmp *icmp, bool is_v6, const struct un_icmp_meaning *meaning)
{
    const struct un_icmp_meaning *asked = un_icmp_by_type(is_v6, meaning->type, icmp->code);
    return asked && asked->kind == icmp->kind ? icmp->code : (uint8_t)meaning->code;
}

uint32_t un_icmp_emit(const struct un_icmp *icmp, bool is_v6, uint8_t *at)
{
    const struct un_icmp_meaning *meaning = un_icmp_by_kind(is_v6, icmp->kind);
    un_assert(meaning);
    at[0] = meaning->type;
    at[1] = meaning->code == UN_ICMP_ANY_CODE ? icmp->code : code_of(icmp, is_v6, meaning);
    un_put16(at + 2, 0); /* checksum */
    if (un_icmp_is_discovery(icmp->kind))
        return emit_discovery(icmp, at);
    if (un_icmp_is_error(icmp->kind)) {
        emit_error(icmp, is_v6, at);
    } else {
        un_put16(at + 4, icmp->id);
        un_put16(at + 6, icmp->sequence);
    }
    return HEADER_BYTES;
}
