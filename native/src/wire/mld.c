/* See mld.h. */
#include "wire/mld.h"

#include <string.h>

#include "base/bytes.h"
#include "wire/packet.h"

enum { OLD_QUERY_BYTES = 24, QUERY_BYTES = 28, HOP_LIMIT = 1 };
enum { TYPE_OLD_REPORT = 131, TYPE_REPORT = 143 };

/* RFC 3810 section 5.1.3: from 32,768 on a number with an exponent. */
static uint32_t max_response_ms(uint16_t code, bool is_old)
{
    if (is_old || code < 0x8000)
        return code;
    return (0x1000u | (code & 0xfff)) << ((code >> 12 & 7) + 3);
}

enum un_drop un_mld_parse_query(struct un_icmp *icmp, uint8_t hop_limit, const uint8_t *at, uint32_t length)
{
    icmp->is_old = length == OLD_QUERY_BYTES; /* RFC 3810 section 8.1 */
    if (hop_limit != HOP_LIMIT || (!icmp->is_old && length < QUERY_BYTES))
        return UN_DROP_icmp_malformed;
    icmp->max_response_ms = max_response_ms(un_get16(at + 4), icmp->is_old);
    icmp->target = un_ip_from_v6(at + 8);
    bool is_group = un_ip_is_multicast(&icmp->target) || un_ip_is_any(&icmp->target);
    return is_group && !un_ip_is_v4(&icmp->target) ? UN_DROP_NONE : UN_DROP_icmp_malformed;
}

/* RFC 2711: what lies behind it is for routers too. */
static uint8_t *emit_alert(uint8_t *at)
{
    static const uint8_t alert[UN_MLD_ALERT_BYTES] = {UN_PROTOCOL_ICMPV6, 0, 5, 2, 0, 0, 1, 0};
    memcpy(at, alert, sizeof alert);
    return at + sizeof alert;
}

void un_mld_emit_report(uint8_t *at, uint16_t count)
{
    at = emit_alert(at);
    un_put32(at, (uint32_t)TYPE_REPORT << 24);
    un_put32(at + 4, count);
}

void un_mld_emit_record(uint8_t *at, enum un_mld_record kind, const struct un_ip *group)
{
    un_put32(at, (uint32_t)kind << 24);
    memcpy(at + 4, group->bytes, sizeof group->bytes);
}

void un_mld_emit_old_report(uint8_t *at, const struct un_ip *group)
{
    at = emit_alert(at);
    un_put32(at, (uint32_t)TYPE_OLD_REPORT << 24);
    un_put32(at + 4, 0);
    memcpy(at + 8, group->bytes, sizeof group->bytes);
}
