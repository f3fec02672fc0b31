/* Internet addresses: IPv6 as it is, IPv4 in its mapped form ::ffff:a.b.c.d, so that everything above handles one kind. */
#ifndef UN_IP_H
#define UN_IP_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct un_ip {
    uint8_t bytes[16];
};

#define UN_MAC_BYTES 6

static const uint8_t un_ip_v4_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static inline struct un_ip un_ip_from_v4(const uint8_t *four)
{
    struct un_ip ip;
    memcpy(ip.bytes, un_ip_v4_prefix, 12);
    memcpy(ip.bytes + 12, four, 4);
    return ip;
}

static inline struct un_ip un_ip_from_v6(const uint8_t *sixteen)
{
    struct un_ip ip;
    memcpy(ip.bytes, sixteen, 16);
    return ip;
}

static inline bool un_ip_is_v4(const struct un_ip *ip)
{
    return memcmp(ip->bytes, un_ip_v4_prefix, 12) == 0;
}

static inline const uint8_t *un_ip_v4(const struct un_ip *ip)
{
    return ip->bytes + 12;
}

static inline bool un_ip_equal(const struct un_ip *left, const struct un_ip *right) /* two words: no call of memcmp */
{
    uint64_t a[2], b[2];
    memcpy(a, left->bytes, 16);
    memcpy(b, right->bytes, 16);
    return ((a[0] ^ b[0]) | (a[1] ^ b[1])) == 0;
}

static inline bool un_ip_is_any(const struct un_ip *ip) /* :: or 0.0.0.0 */
{
    static const struct un_ip zero;
    return un_ip_equal(ip, &zero) || (un_ip_is_v4(ip) && memcmp(ip->bytes + 12, zero.bytes, 4) == 0);
}

static inline bool un_ip_is_multicast(const struct un_ip *ip)
{
    return un_ip_is_v4(ip) ? (ip->bytes[12] & 0xf0) == 0xe0 : ip->bytes[0] == 0xff;
}

static inline bool un_ip_is_link_local(const struct un_ip *ip)
{
    return un_ip_is_v4(ip) ? ip->bytes[12] == 169 && ip->bytes[13] == 254
                           : ip->bytes[0] == 0xfe && (ip->bytes[1] & 0xc0) == 0x80;
}

static inline bool un_ip_is_loopback(const struct un_ip *ip)
{
    static const struct un_ip one = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}};
    return un_ip_is_v4(ip) ? ip->bytes[12] == 127 : un_ip_equal(ip, &one);
}

/* Where neighbours ask for an IPv6 address: RFC 4291 section 2.7.1. */
static inline struct un_ip un_ip_solicited_node(const struct un_ip *ip)
{
    return (struct un_ip){{0xff, 2, [11] = 1, 0xff, ip->bytes[13], ip->bytes[14], ip->bytes[15]}};
}

/* prefix counts the bits of the family: 0 to 32 or 0 to 128. Addresses of two families are in no common prefix. */
bool un_ip_in_prefix(const struct un_ip *ip, const struct un_ip *network, uint8_t prefix);

#endif
