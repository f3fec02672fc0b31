/* Addresses compared by prefix. */
#include "wire/ip.h"

#include "base/assert.h"

bool un_ip_in_prefix(const struct un_ip *ip, const struct un_ip *network, uint8_t prefix)
{
    bool is_v4 = un_ip_is_v4(network);
    if (is_v4 != un_ip_is_v4(ip))
        return false;
    uint32_t bits = is_v4 ? 96u + prefix : prefix;
    un_assert(bits <= 128);
    uint32_t whole = bits / 8;
    if (memcmp(ip->bytes, network->bytes, whole) != 0)
        return false;
    uint32_t rest = bits % 8;
    return rest == 0 || (ip->bytes[whole] ^ network->bytes[whole]) >> (8 - rest) == 0;
}
