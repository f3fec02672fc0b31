/* Sums of bytes: eight at a time with the carries counted beside (RFC 1071 section 2 (C)), which is what packets of a
 * hundred bytes need; 64 at a time where the machine has AVX2 and there is enough of them to pay for the reduction. */
#include "wire/checksum.h"

#include "base/assert.h"

#define WIDE_FROM 192u /* bytes; below, the plain loop is as fast */

typedef unsigned __int128 un_carried;

static inline uint64_t load64(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

/* The last 1 to 7 bytes of something, as a word whose other bytes are zero. */
static inline uint64_t load_rest(const uint8_t *at, uint32_t length)
{
    uint64_t word = 0;
    if (length & 4) {
        uint32_t four;
        memcpy(&four, at, sizeof four);
        word = four;
        at += 4;
    }
    uint32_t last = 0;
    if (length & 2) {
        uint16_t two;
        memcpy(&two, at, sizeof two);
        last = two;
        at += 2;
    }
    if (length & 1)
        last += (uint32_t)*at << (length & 2) * 8;
    return word + last;
}

static inline uint64_t sum_words(const uint8_t *at, uint32_t length)
{
    un_carried sum = 0;
    for (; length >= 32; at += 32, length -= 32) {
        sum += load64(at);
        sum += load64(at + 8);
        sum += load64(at + 16);
        sum += load64(at + 24);
    }
    if (length & 16) {
        sum += load64(at);
        sum += load64(at + 8);
        at += 16;
    }
    if (length & 8) {
        sum += load64(at);
        at += 8;
    }
    if (length & 7)
        sum += load_rest(at, length);
    return un_sum_word((uint64_t)sum) + (uint64_t)(sum >> 64);
}

#ifdef __x86_64__
typedef uint64_t un_lanes __attribute__((vector_size(32)));

__attribute__((target("avx2"))) static uint64_t sum_wide(const uint8_t *at, uint32_t length)
{
    un_lanes low = {0}, high = {0}; /* halves of eight bytes: 2^32 additions before a lane is full */
    for (; length >= 64; at += 64, length -= 64) {
        un_lanes words[2];
        memcpy(words, at, sizeof words);
        low += (words[0] & 0xffffffff) + (words[1] & 0xffffffff);
        high += (words[0] >> 32) + (words[1] >> 32);
    }
    un_lanes all = low + high;
    uint64_t sum = un_sum_word(all[0]) + un_sum_word(all[1]) + un_sum_word(all[2]) + un_sum_word(all[3]);
    return sum + sum_words(at, length);
}

static inline bool is_wide(void)
{
    return __builtin_cpu_supports("avx2");
}
#else
static uint64_t sum_wide(const uint8_t *at, uint32_t length)
{
    return sum_words(at, length);
}

static inline bool is_wide(void)
{
    return false;
}
#endif

uint64_t un_sum(const void *bytes, uint32_t length)
{
    if (length >= WIDE_FROM && is_wide())
        return sum_wide(bytes, length);
    return sum_words(bytes, length);
}

uint64_t un_sum_pieces(const struct iovec *pieces, int count, uint32_t skip, uint32_t length)
{
    uint64_t sum = 0;
    bool is_odd = false;
    for (int i = 0; i < count && length > 0; i++) {
        uint32_t there = (uint32_t)pieces[i].iov_len;
        if (skip >= there) {
            skip -= there;
            continue;
        }
        uint32_t taken = there - skip < length ? there - skip : length;
        uint64_t part = un_sum((const uint8_t *)pieces[i].iov_base + skip, taken);
        sum += is_odd ? un_sum_odd(part) : part;
        is_odd ^= taken & 1;
        length -= taken;
        skip = 0;
    }
    un_assert(length == 0);
    return sum;
}
