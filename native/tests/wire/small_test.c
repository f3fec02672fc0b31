/* The small formats: ARP, UDP, and addresses. */
#include "base/bytes.h"
#include "bytes.h"
#include "wire/arp.h"
#include "wire/udp.h"

static enum un_drop parse_arp(struct un_arp *arp, const char *hex)
{
    uint8_t bytes[100];
    uint32_t length = from_hex(bytes, hex);
    return un_arp_parse(arp, at_edge(bytes, length), length);
}

static void a_known_arp_request(void)
{
    struct un_arp arp;
    CHECK_EQ(parse_arp(&arp, "0001 0800 06 04 0001 02000000000a c000020a 000000000000 c0000201"), UN_DROP_NONE);
    CHECK_EQ(arp.operation, UN_ARP_REQUEST);
    CHECK_EQ(arp.sender_mac[5], 10);
    CHECK_EQ(un_get32(un_ip_v4(&arp.sender)), 0xc000020a);
    CHECK_EQ(un_get32(un_ip_v4(&arp.target)), 0xc0000201);
    CHECK(un_ip_is_v4(&arp.sender) && un_ip_is_v4(&arp.target));
    CHECK_EQ(parse_arp(&arp, "0001 0800 06 04 0002 02000000000a c000020a 020000000001 c0000201 000000000000"),
             UN_DROP_NONE);
    CHECK_EQ(arp.operation, UN_ARP_REPLY);
    CHECK_EQ(parse_arp(&arp, "0001 0800 06 04 0001 02000000000a 00000000 000000000000 c0000201"), UN_DROP_NONE);
    CHECK(un_ip_is_any(&arp.sender)); /* a probe */
}

static void arp_that_makes_no_sense(void)
{
    static const char *const packets[] = {
        "0001 0800 06 04 0001 02000000000a c000020a 000000000000 c00002",   /* short */
        "0006 0800 06 04 0001 02000000000a c000020a 000000000000 c0000201", /* not Ethernet */
        "0001 86dd 06 04 0001 02000000000a c000020a 000000000000 c0000201", /* not IPv4 */
        "0001 0800 08 04 0001 02000000000a c000020a 000000000000 c0000201",
        "0001 0800 06 10 0001 02000000000a c000020a 000000000000 c0000201",
        "0001 0800 06 04 0000 02000000000a c000020a 000000000000 c0000201", /* neither request nor reply */
        "0001 0800 06 04 0003 02000000000a c000020a 000000000000 c0000201",
        "0001 0800 06 04 0002 ffffffffffff c000020a 000000000000 c0000201", /* from everybody */
        "0001 0800 06 04 0002 01005e000001 c000020a 000000000000 c0000201",
        "0001 0800 06 04 0002 02000000000a e0000001 000000000000 c0000201",
        "",
    };
    for (uint32_t i = 0; i < sizeof packets / sizeof *packets; i++) {
        struct un_arp arp;
        CHECK_EQ(parse_arp(&arp, packets[i]), UN_DROP_arp_malformed);
    }
}

static void one_arp_there_and_back(uint64_t seed)
{
    uint64_t random = seed;
    struct un_arp arp = {.operation = seed % 2 ? UN_ARP_REQUEST : UN_ARP_REPLY}, again;
    random_bytes(&random, arp.sender_mac, UN_MAC_BYTES);
    random_bytes(&random, arp.target_mac, UN_MAC_BYTES);
    arp.sender_mac[0] &= 0xfe;
    arp.sender = random_ip(&random, true);
    arp.sender.bytes[12] &= 0x7f;
    arp.target = random_ip(&random, true);
    uint8_t bytes[UN_ARP_BYTES];
    CHECK_EQ(un_arp_emit(&arp, bytes), UN_ARP_BYTES);
    CHECK_EQ(un_arp_parse(&again, bytes, sizeof bytes), UN_DROP_NONE);
    CHECK_EQ(arp.operation, again.operation);
    CHECK(memcmp(arp.sender_mac, again.sender_mac, UN_MAC_BYTES) == 0);
    CHECK(memcmp(arp.target_mac, again.target_mac, UN_MAC_BYTES) == 0);
    CHECK(un_ip_equal(&arp.sender, &again.sender) && un_ip_equal(&arp.target, &again.target));
}

static void arp_there_and_back(void)
{
    for_each_seed(500, one_arp_there_and_back);
}

static void udp_of_every_length(void)
{
    for (uint32_t total = 0; total <= 20; total++) {
        for (uint32_t said = 0; said <= 24; said++) {
            uint8_t bytes[20] = {0x14, 0xe9, 0, 53, 0, (uint8_t)said};
            struct un_udp udp;
            bool is_good = total >= 8 && said >= 8 && said <= total;
            CHECK_EQ(un_udp_parse(&udp, at_edge(bytes, total), total, total),
                     is_good ? UN_DROP_NONE : UN_DROP_udp_malformed);
            if (!is_good)
                continue;
            CHECK_EQ(udp.source_port, 5353);
            CHECK_EQ(udp.destination_port, 53);
            CHECK_EQ(udp.length, said - 8);
        }
    }
}

static void udp_there_and_back(void)
{
    for (uint32_t length = 0; length <= 65527; length += 13) {
        struct un_udp udp = {.source_port = (uint16_t)(length * 3), .destination_port = 7, .length = length}, again;
        uint8_t bytes[UN_UDP_BYTES];
        CHECK_EQ(un_udp_emit(&udp, bytes), UN_UDP_BYTES);
        CHECK_EQ(un_udp_parse(&again, bytes, sizeof bytes, 8 + length), UN_DROP_NONE);
        CHECK_EQ(udp.source_port, again.source_port);
        CHECK_EQ(udp.destination_port, again.destination_port);
        CHECK_EQ(udp.length, again.length);
    }
}

static void no_udp_checksum_is_sent_as_zero(void)
{
    uint8_t ones[4] = {0xff, 0xff, 0xff, 0xff};
    CHECK_EQ(un_udp_checksum(un_sum(ones, 4)), 0xffff);
    CHECK_EQ(un_udp_checksum(un_sum(ones, 0)), 0xffff);
    CHECK_EQ(un_udp_checksum(1), 0xfffe);
}

static bool naive_in_prefix(const struct un_ip *ip, const struct un_ip *network, uint32_t prefix)
{
    uint32_t first = un_ip_is_v4(network) ? 96 : 0;
    for (uint32_t bit = 0; bit < first + prefix; bit++)
        if ((ip->bytes[bit / 8] ^ network->bytes[bit / 8]) >> (7 - bit % 8) & 1)
            return false;
    return un_ip_is_v4(ip) == un_ip_is_v4(network);
}

static void one_prefix(uint64_t seed)
{
    uint64_t random = seed;
    struct un_ip network = random_ip(&random, seed % 2), ip = network;
    uint32_t bits = seed % 2 ? 32 : 128;
    uint32_t bit = 128 - bits + random_below(&random, bits);
    ip.bytes[bit / 8] ^= (uint8_t)(0x80 >> bit % 8);
    for (uint32_t prefix = 0; prefix <= bits; prefix++) {
        CHECK(un_ip_in_prefix(&network, &network, (uint8_t)prefix));
        CHECK_EQ(un_ip_in_prefix(&ip, &network, (uint8_t)prefix), naive_in_prefix(&ip, &network, prefix));
    }
    struct un_ip other = random_ip(&random, seed % 2 == 0);
    CHECK(!un_ip_in_prefix(&other, &network, 0));
}

static void prefixes(void)
{
    for_each_seed(1000, one_prefix);
}

static void kinds_of_addresses(void)
{
    static const struct {
        const char *hex;
        bool is_any, is_multicast, is_link_local, is_loopback;
    } rows[] = {
        {"00000000000000000000000000000000", true, false, false, false},
        {"00000000000000000000ffff00000000", true, false, false, false},
        {"00000000000000000000ffff00000001", false, false, false, false},
        {"00000000000000000000000000000001", false, false, false, true},
        {"00000000000000000000ffff7f010203", false, false, false, true},
        {"ff020000000000000000000000000001", false, true, false, false},
        {"00000000000000000000ffffe0000001", false, true, false, false},
        {"00000000000000000000ffffefffffff", false, true, false, false},
        {"00000000000000000000fffff0000001", false, false, false, false},
        {"fe800000000000000000000000000001", false, false, true, false},
        {"febf0000000000000000000000000001", false, false, true, false},
        {"fec00000000000000000000000000001", false, false, false, false},
        {"00000000000000000000ffffa9fe0001", false, false, true, false},
        {"20010db8000000000000000000000001", false, false, false, false},
    };
    for (uint32_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct un_ip ip;
        from_hex(ip.bytes, rows[i].hex);
        CHECK_EQ(un_ip_is_any(&ip), rows[i].is_any);
        CHECK_EQ(un_ip_is_multicast(&ip), rows[i].is_multicast);
        CHECK_EQ(un_ip_is_link_local(&ip), rows[i].is_link_local);
        CHECK_EQ(un_ip_is_loopback(&ip), rows[i].is_loopback);
    }
}

int main(void)
{
    RUN(a_known_arp_request);
    RUN(arp_that_makes_no_sense);
    RUN(arp_there_and_back);
    RUN(udp_of_every_length);
    RUN(udp_there_and_back);
    RUN(no_udp_checksum_is_sent_as_zero);
    RUN(prefixes);
    RUN(kinds_of_addresses);
    return 0;
}
