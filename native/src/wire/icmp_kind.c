/* The types and codes: RFC 792, RFC 1191 (3/4), RFC 4443, RFC 4861, RFC 2710. */
#include "wire/icmp_kind.h"

#include <stddef.h>

#define ANY UN_ICMP_ANY_CODE

static const struct un_icmp_meaning v4[] = {
    {UN_ICMP_ECHO_REPLY, 0, ANY},
    {UN_ICMP_UNREACHABLE_PROTOCOL, 3, 2},
    {UN_ICMP_UNREACHABLE_PORT, 3, 3},
    {UN_ICMP_PACKET_TOO_BIG, 3, 4},
    {UN_ICMP_UNREACHABLE_FOR_GOOD, 3, 13}, /* communication is prohibited: RFC 1812 section 5.2.7.1 */
    {UN_ICMP_UNREACHABLE_FOR_GOOD, 3, 6},  /* network or host is unknown, or the source isolated: RFC 1122 */
    {UN_ICMP_UNREACHABLE_FOR_GOOD, 3, 7},
    {UN_ICMP_UNREACHABLE_FOR_GOOD, 3, 8},
    {UN_ICMP_UNREACHABLE_FOR_GOOD, 3, 9}, /* network or host is prohibited */
    {UN_ICMP_UNREACHABLE_FOR_GOOD, 3, 10},
    {UN_ICMP_UNREACHABLE_FOR_GOOD, 3, 14}, /* precedence: RFC 1812 */
    {UN_ICMP_UNREACHABLE_FOR_GOOD, 3, 15},
    {UN_ICMP_UNREACHABLE_HOST, 3, ANY},
    {UN_ICMP_ECHO_REQUEST, 8, ANY},
    {UN_ICMP_TIME_EXCEEDED, 11, ANY},
    {UN_ICMP_PARAMETER_PROBLEM, 12, ANY},
};

static const struct un_icmp_meaning v6[] = {
    {UN_ICMP_UNREACHABLE_PORT, 1, 4},
    {UN_ICMP_UNREACHABLE_FOR_GOOD, 1, 1}, /* prohibited */
    {UN_ICMP_UNREACHABLE_FOR_GOOD, 1, 5}, /* the source's address is not allowed */
    {UN_ICMP_UNREACHABLE_FOR_GOOD, 1, 6}, /* a route that rejects */
    {UN_ICMP_UNREACHABLE_HOST, 1, ANY},
    {UN_ICMP_PACKET_TOO_BIG, 2, ANY},
    {UN_ICMP_TIME_EXCEEDED, 3, ANY},
    {UN_ICMP_UNREACHABLE_PROTOCOL, 4, 1},
    {UN_ICMP_PARAMETER_PROBLEM, 4, ANY},
    {UN_ICMP_ECHO_REQUEST, 128, ANY},
    {UN_ICMP_ECHO_REPLY, 129, ANY},
    {UN_ICMP_GROUP_QUERY, 130, ANY},
    {UN_ICMP_ROUTER_SOLICITATION, 133, ANY},
    {UN_ICMP_ROUTER_ADVERTISEMENT, 134, ANY},
    {UN_ICMP_NEIGHBOUR_SOLICITATION, 135, ANY},
    {UN_ICMP_NEIGHBOUR_ADVERTISEMENT, 136, ANY},
};

static const struct un_icmp_meaning *table(bool is_v6, size_t *count)
{
    *count = is_v6 ? sizeof v6 / sizeof *v6 : sizeof v4 / sizeof *v4;
    return is_v6 ? v6 : v4;
}

const struct un_icmp_meaning *un_icmp_by_type(bool is_v6, uint8_t type, uint8_t code)
{
    size_t count;
    const struct un_icmp_meaning *rows = table(is_v6, &count);
    for (size_t i = 0; i < count; i++)
        if (rows[i].type == type && (rows[i].code == code || rows[i].code == ANY))
            return &rows[i];
    return NULL;
}

const struct un_icmp_meaning *un_icmp_by_kind(bool is_v6, enum un_icmp_kind kind)
{
    size_t count;
    const struct un_icmp_meaning *rows = table(is_v6, &count);
    for (size_t i = 0; i < count; i++)
        if (rows[i].kind == kind)
            return &rows[i];
    return NULL;
}
