/* What the types and codes of both ICMPs mean; part of icmp.h. */
#ifndef UN_ICMP_KIND_H
#define UN_ICMP_KIND_H

#include "wire/icmp.h"

#define UN_ICMP_ANY_CODE (-1)

struct un_icmp_meaning {
    enum un_icmp_kind kind;
    uint8_t type;
    int16_t code; /* or UN_ICMP_ANY_CODE; the first row that fits counts */
};

/* NULL: none of those that are understood (or, when asked by kind, none of that family). */
const struct un_icmp_meaning *un_icmp_by_type(bool is_v6, uint8_t type, uint8_t code);
const struct un_icmp_meaning *un_icmp_by_kind(bool is_v6, enum un_icmp_kind kind);

static inline bool un_icmp_is_discovery(enum un_icmp_kind kind)
{
    return kind >= UN_ICMP_NEIGHBOUR_SOLICITATION && kind <= UN_ICMP_ROUTER_ADVERTISEMENT;
}

static inline bool un_icmp_is_error(enum un_icmp_kind kind)
{
    return kind >= UN_ICMP_UNREACHABLE_HOST && kind <= UN_ICMP_PARAMETER_PROBLEM;
}

/* Options of neighbour discovery (RFC 4861 section 4.6), eight bytes each. */
enum un_nd_option { UN_ND_SOURCE_MAC = 1, UN_ND_TARGET_MAC = 2, UN_ND_MTU = 5 };
#define UN_ND_OPTION_BYTES 8u

static inline uint8_t un_nd_mac_option(enum un_icmp_kind kind)
{
    return kind == UN_ICMP_NEIGHBOUR_ADVERTISEMENT ? UN_ND_TARGET_MAC : UN_ND_SOURCE_MAC;
}

/* Bytes in front of the options, which are the least that such a message has. */
static inline uint32_t un_nd_fixed_bytes(enum un_icmp_kind kind)
{
    if (kind == UN_ICMP_ROUTER_SOLICITATION)
        return 8;
    return kind == UN_ICMP_ROUTER_ADVERTISEMENT ? 16 : 24;
}

enum { UN_ND_ROUTER = 0x80, UN_ND_SOLICITED = 0x40, UN_ND_OVERRIDE = 0x20 }; /* flags of a neighbour advertisement */

#endif
