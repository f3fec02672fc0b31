/* Bytes for the tests of wire: written as hexadecimal text, at random, or where reading past their end is a crash; and
 * the checksum as RFC 1071 describes it, one word after the other in big-endian arithmetic. */
#ifndef UN_TEST_WIRE_BYTES_H
#define UN_TEST_WIRE_BYTES_H

#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#include "../check.h"
#include "wire/ip.h"

enum { EDGE_BYTES = 1 << 17, EDGE_PAGE = 1 << 16 };

/* A copy that ends where readable memory ends, also without a sanitizer. The next call takes the place of the
 * last one. */
static inline uint8_t *at_edge(const void *bytes, uint32_t length)
{
    static uint8_t *memory;
    if (!memory) {
        memory = mmap(NULL, EDGE_BYTES + EDGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(memory != MAP_FAILED);
        CHECK(mprotect(memory + EDGE_BYTES, EDGE_PAGE, PROT_NONE) == 0);
    }
    CHECK(length <= EDGE_BYTES);
    uint8_t *copy = memory + EDGE_BYTES - length;
    if (length > 0)
        memcpy(copy, bytes, length);
    return copy;
}

static inline uint32_t from_hex(uint8_t *bytes, const char *text)
{
    uint32_t length = 0;
    for (unsigned value; *text; text += 2) {
        while (*text == ' ')
            text++;
        CHECK(sscanf(text, "%2x", &value) == 1);
        bytes[length++] = (uint8_t)value;
    }
    return length;
}

static inline void random_bytes(uint64_t *random, void *bytes, uint32_t length)
{
    for (uint32_t i = 0; i < length; i++)
        ((uint8_t *)bytes)[i] = (uint8_t)(random_next(random) >> 32);
}

static inline struct un_ip random_ip(uint64_t *random, bool is_v4)
{
    struct un_ip ip;
    random_bytes(random, ip.bytes, 16);
    ip.bytes[0] = is_v4 ? 0 : 0x20;
    if (is_v4)
        memcpy(ip.bytes, un_ip_v4_prefix, 12);
    return ip;
}

/* Not folded: parts of even length may be added up. */
static inline uint64_t naive_sum(const uint8_t *bytes, uint32_t length)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < length; i++)
        sum += i % 2 ? bytes[i] : (uint64_t)bytes[i] << 8;
    return sum;
}

static inline uint16_t naive_checksum(uint64_t sum)
{
    while (sum > 0xffff)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

/* The number that the checksum of a transport protocol must be; the field in the bytes is to be zero. */
static inline uint16_t naive_transport_checksum(const struct un_ip *source, const struct un_ip *destination,
                                                uint8_t protocol, const uint8_t *bytes, uint32_t length)
{
    uint32_t skip = un_ip_is_v4(source) ? 12 : 0;
    uint64_t sum = naive_sum(source->bytes + skip, 16 - skip) + naive_sum(destination->bytes + skip, 16 - skip);
    return naive_checksum(sum + protocol + (length >> 16) + (length & 0xffff) + naive_sum(bytes, length));
}

#endif
