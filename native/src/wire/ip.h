/* Internet addresses: IPv6 as it is, IPv4 in its mapped form ::ffff:a.b.c.d, so that everything above handles one kind.
 */
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

/* The two halves of an address as they lie in memory: what compares, sums and hashes it reads these, not bytes. */
struct un_ip_words {
    uint64_t first;
    uint64_t second;
};

#define UN_IP_V4_SECOND UINT64_C(0xffff0000) /* of a mapped IPv4 address, which stands in the upper half; first is 0 */

static inline struct un_ip_words un_ip_words(const struct un_ip *ip)
{
    struct un_ip_words words;
    memcpy(&words, ip->bytes, sizeof words);
    return words;
}

static inline struct un_ip un_ip_from_v4(const uint8_t *four)
{
    struct un_ip ip;
    uint32_t address;
    memcpy(&address, four, sizeof address);
    struct un_ip_words words = {0, UN_IP_V4_SECOND | (uint64_t)address << 32};
    memcpy(ip.bytes, &words, sizeof words);
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
    struct un_ip_words words = un_ip_words(ip);
    return words.first == 0 && (uint32_t)words.second == UN_IP_V4_SECOND;
}

static inline const uint8_t *un_ip_v4(const struct un_ip *ip)
{
    return ip->bytes + 12;
}

static inline uint32_t un_ip_v4_word(const struct un_ip *ip) /* as it lies in memory */
{
    uint32_t word;
    memcpy(&word, un_ip_v4(ip), sizeof word);
    return word;
}

static inline bool un_ip_equal(const struct un_ip *left, const struct un_ip *right)
{
    struct un_ip_words a = un_ip_words(left), b = un_ip_words(right);
    return ((a.first ^ b.first) | (a.second ^ b.second)) == 0;
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
