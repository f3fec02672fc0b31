/* See siphash.h. */
#include "base/siphash.h"

#include <string.h>

#include "base/bytes.h"

static uint64_t rotate(uint64_t value, uint32_t bits)
{
    return value << bits | value >> (64 - bits);
}

static void mix(uint64_t v[4], uint32_t rounds)
{
    while (rounds-- > 0) {
        v[0] += v[1];
        v[2] += v[3];
        v[1] = rotate(v[1], 13) ^ v[0];
        v[3] = rotate(v[3], 16) ^ v[2];
        v[0] = rotate(v[0], 32);
        v[2] += v[1];
        v[0] += v[3];
        v[1] = rotate(v[1], 17) ^ v[2];
        v[3] = rotate(v[3], 21) ^ v[0];
        v[2] = rotate(v[2], 32);
    }
}

static void absorb(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    mix(v, 2);
    v[0] ^= word;
}

uint64_t un_siphash(const uint8_t key[UN_SIPHASH_KEY_BYTES], const void *bytes, uint32_t length)
{
    uint64_t halves[2];
    memcpy(halves, key, sizeof halves);
    uint64_t v[4] = {halves[0] ^ UINT64_C(0x736f6d6570736575), halves[1] ^ UINT64_C(0x646f72616e646f6d),
                     halves[0] ^ UINT64_C(0x6c7967656e657261), halves[1] ^ UINT64_C(0x7465646279746573)};
    const uint8_t *at = bytes;
    uint32_t left = length;
    for (; left >= 8; left -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        absorb(v, word);
    }
    uint64_t last = (uint64_t)length << 56;
    for (uint32_t byte = 0; byte < left; byte++)
        last |= (uint64_t)at[byte] << 8 * byte;
    absorb(v, last);
    v[2] ^= 0xff;
    mix(v, 4);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
