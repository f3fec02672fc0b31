/* The steering hash against the definition of Toeplitz, which is held against the vectors of Microsoft's RSS
 * specification ("Verifying the RSS hash calculation"). */
#include "../check.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/bytes.h"
#include "stack/steering.h"

#define KEY_BYTES 40

static const uint8_t microsoft_key[KEY_BYTES] = {
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67,
    0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb,
    0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
    0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
};

/* For every bit of the input that is set, the 32 bits of the key that begin where it stands. */
static uint32_t toeplitz(const uint8_t *key, const uint8_t *input, uint32_t length)
{
    uint32_t hash = 0;
    uint64_t window = (uint64_t)un_get32(key) << 32 | un_get32(key + 4);
    for (uint32_t i = 0; i < length; i++) {
        for (uint32_t bit = 0; bit < 8; bit++) {
            if (input[i] & 0x80 >> bit)
                hash ^= (uint32_t)(window >> (32 - bit));
        }
        window = window << 8 | (i + 8 < KEY_BYTES ? key[i + 8] : 0);
    }
    return hash;
}

/* The input of the hash for TCP: addresses of the family's length, ports; returns its length. */
static uint32_t flow_input(uint8_t *input, const struct un_ip *source, const struct un_ip *destination,
                           uint16_t source_port, uint16_t destination_port)
{
    uint32_t skip = un_ip_is_v4(source) ? 12 : 0, bytes = 16 - skip;
    memcpy(input, source->bytes + skip, bytes);
    memcpy(input + bytes, destination->bytes + skip, bytes);
    un_put16(input + 2 * bytes, source_port);
    un_put16(input + 2 * bytes + 2, destination_port);
    return 2 * bytes + 4;
}

static struct un_ip address(const char *text)
{
    struct un_ip ip;
    uint8_t four[4];
    if (inet_pton(AF_INET, text, four) == 1)
        return un_ip_from_v4(four);
    CHECK(inet_pton(AF_INET6, text, ip.bytes) == 1);
    return ip;
}

static void definition(void)
{
    static const struct {
        const char *source, *destination;
        uint16_t source_port, destination_port;
        uint32_t hash;
    } vectors[] = {
        {"66.9.149.187", "161.142.100.80", 2794, 1766, 0x51ccc178},
        {"199.92.111.2", "65.69.140.83", 14230, 4739, 0xc626b0ea},
        {"24.19.198.95", "12.22.207.184", 12898, 38024, 0x5c2b394a},
        {"38.27.205.30", "209.142.163.6", 48228, 2217, 0xafc7327f},
        {"153.39.163.191", "202.188.127.2", 44251, 1303, 0x10e828a2},
        {"3ffe:2501:200:1fff::7", "3ffe:2501:200:3::1", 2794, 1766, 0x40207d3d},
        {"3ffe:501:8::260:97ff:fe40:efab", "ff02::1", 14230, 4739, 0xdde51bbf},
        {"3ffe:1900:4545:3:200:f8ff:fe21:67cf", "fe80::200:f8ff:fe21:67cf", 44251, 38024, 0x02d1feef},
    };
    for (uint32_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        uint8_t input[36];
        struct un_ip source = address(vectors[i].source), destination = address(vectors[i].destination);
        uint32_t length =
            flow_input(input, &source, &destination, vectors[i].source_port, vectors[i].destination_port);
        CHECK_EQ(toeplitz(microsoft_key, input, length), vectors[i].hash);
    }
}

static struct un_ip any_address(uint64_t *random, bool is_v4)
{
    struct un_ip ip;
    for (uint32_t i = 0; i < 16; i++)
        ip.bytes[i] = (uint8_t)random_next(random);
    return is_v4 ? un_ip_from_v4(ip.bytes) : ip;
}

static void any_flow(uint64_t seed)
{
    uint64_t random = seed;
    uint8_t key[KEY_BYTES], input[36];
    for (uint32_t i = 0; i < KEY_BYTES; i++)
        key[i] = i % 2 ? 0x5a : 0x6d;
    for (uint32_t round = 0; round < 200; round++) {
        bool is_v4 = round % 2;
        struct un_ip source = any_address(&random, is_v4), destination = any_address(&random, is_v4);
        uint16_t source_port = (uint16_t)random_next(&random), destination_port = (uint16_t)random_next(&random);
        uint32_t length = flow_input(input, &source, &destination, source_port, destination_port);
        uint32_t hash = un_steering_hash(&source, &destination, source_port, destination_port);
        CHECK_EQ(hash, toeplitz(key, input, length));
        CHECK_EQ(hash, un_steering_hash(&destination, &source, destination_port, source_port));
    }
}

static void any_flows(void)
{
    for_each_seed(50, any_flow);
}

/* The flows of one client spread over four shards, none having more than twice its share. */
static void spread(void)
{
    struct un_ip server = address("10.0.0.1"), client = address("10.0.0.2");
    uint32_t flows[4] = {0};
    for (uint16_t port = 32768; port < 32768 + 1024; port++)
        flows[un_steering_shard(un_steering_hash(&client, &server, port, 7000), 4)]++;
    for (uint32_t shard = 0; shard < 4; shard++)
        CHECK(flows[shard] > 128 && flows[shard] < 512);
}

int main(void)
{
    RUN(definition);
    RUN(any_flows);
    RUN(spread);
    return 0;
}
