/* SipHash-2-4 against the vectors of its authors: key 00 01 … 0f, input 00 01 … of every length below 16. */
#include "../check.h"
#include "base/siphash.h"

static const uint64_t expected[16] = {
    UINT64_C(0x726fdb47dd0e0e31), UINT64_C(0x74f839c593dc67fd), UINT64_C(0x0d6c8009d9a94f5a),
    UINT64_C(0x85676696d7fb7e2d), UINT64_C(0xcf2794e0277187b7), UINT64_C(0x18765564cd99a68d),
    UINT64_C(0xcbc9466e58fee3ce), UINT64_C(0xab0200f58b01d137), UINT64_C(0x93f5f5799a932462),
    UINT64_C(0x9e0082df0ba9e4b0), UINT64_C(0x7a5dbbc594ddb9f3), UINT64_C(0xf4b32f46226bada7),
    UINT64_C(0x751e8fbc860ee5fb), UINT64_C(0x14ea5627c0843d90), UINT64_C(0xf723ca908e7af2ee),
    UINT64_C(0xa129ca6149be45e5),
};

static void vectors(void)
{
    uint8_t key[UN_SIPHASH_KEY_BYTES], input[16];
    for (uint32_t i = 0; i < 16; i++)
        key[i] = input[i] = (uint8_t)i;
    for (uint32_t length = 0; length < 16; length++)
        CHECK_EQ(un_siphash(key, input, length), expected[length]);
}

int main(void)
{
    RUN(vectors);
    return 0;
}
