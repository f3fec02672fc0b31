/* Sums of bytes: eight at a time, 32 in one chain of carries (RFC 1071 section 2 (C)), which is what packets of a
 * hundred bytes need; 64 at a time where the machine has AVX2 and there are enough of them to pay for adding up the
 * lanes. */
#include "wire/checksum.h"

#include "base/assert.h"

static inline uint64_t load64(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

/* Up to seven bytes, as a word whose other bytes are zero. */
static uint64_t load_few(const uint8_t *at, uint32_t length)
{
    uint64_t word = 0;
    for (uint32_t i = 0; i < length; i++)
        word |= (uint64_t)at[i] << 8 * i;
    return word;
}

#ifdef __x86_64__
#include <immintrin.h>

static inline uint64_t sum_32(uint64_t sum, const uint8_t *at)
{
    unsigned long long all = sum;
    unsigned char carry = _addcarry_u64(0, all, load64(at), &all);
    carry = _addcarry_u64(carry, all, load64(at + 8), &all);
    carry = _addcarry_u64(carry, all, load64(at + 16), &all);
    carry = _addcarry_u64(carry, all, load64(at + 24), &all);
    _addcarry_u64(carry, all, 0, &all);
    return all;
}
#else
static inline uint64_t sum_32(uint64_t sum, const uint8_t *at)
{
    for (uint32_t i = 0; i < 32; i += 8)
        sum = un_sum_carry(sum, load64(at + i));
    return sum;
}
#endif

static inline uint64_t sum_plain(uint64_t sum, const uint8_t *at, uint32_t length)
{
    if (length < 8)
        return un_sum_word(un_sum_carry(sum, load_few(at, length)));
    const uint8_t *end = at + length;
    for (; length >= 32; length -= 32, at += 32)
        sum = sum_32(sum, at);
    if (length & 16) {
        sum = un_sum_carry(un_sum_carry(sum, load64(at)), load64(at + 8));
        at += 16;
    }
    if (length & 8)
        sum = un_sum_carry(sum, load64(at));
    if (length & 7) /* the last eight bytes, without those that are summed already */
        sum = un_sum_carry(sum, load64(end - 8) >> (64 - 8 * (length & 7)));
    return un_sum_word(sum);
}

#ifdef __x86_64__
#define WIDE_FROM 256u /* bytes */

/* Lanes of 64 bits that take halves of 32: they do not overflow before 2^31 additions of two halves. */
__attribute__((target("avx2"))) static uint64_t sum_wide(uint64_t sum, const uint8_t *at, uint32_t length)
{
    const __m256i low_half = _mm256_set1_epi64x(0xffffffff);
    __m256i sums[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (uint32_t blocks = length / 64; blocks > 0; blocks--, at += 64) {
        for (uint32_t i = 0; i < 2; i++) {
            __m256i words = _mm256_loadu_si256((const __m256i *)(at + 32 * i));
            __m256i halves = _mm256_add_epi64(_mm256_and_si256(words, low_half), _mm256_srli_epi64(words, 32));
            sums[i] = _mm256_add_epi64(sums[i], halves);
        }
    }
    uint64_t lanes[4];
    _mm256_storeu_si256((__m256i *)lanes, _mm256_add_epi64(sums[0], sums[1]));
    return sum_plain(un_sum_carry(sum, lanes[0] + lanes[1] + lanes[2] + lanes[3]), at, length % 64);
}

/* Not inlined: gcc 12 then keeps the sum in memory as well. It writes to no array, so a stack protector has nothing to
 * guard. */
__attribute__((noinline, no_stack_protector)) uint64_t un_sum_more(uint64_t sum, const void *bytes, uint32_t length)
{
    if (length >= WIDE_FROM && __builtin_cpu_supports("avx2"))
        return sum_wide(sum, bytes, length);
    return sum_plain(sum, bytes, length);
}
#else
uint64_t un_sum_more(uint64_t sum, const void *bytes, uint32_t length)
{
    return sum_plain(sum, bytes, length);
}
#endif

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
