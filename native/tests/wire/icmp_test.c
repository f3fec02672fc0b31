/* ICMP of both families: known messages, random ones there and back, and everything that is wrong with one. */
#include "wire/icmp.h"

#include "base/bytes.h"
#include "bytes.h"
#include "wire/packet.h"

enum { MESSAGE_MAX = 200 };

static enum un_drop parse_bytes(struct un_icmp *icmp, bool is_v6, const uint8_t *bytes, uint32_t length)
{
    memset(icmp, 0xa5, sizeof *icmp);
    return un_icmp_parse(icmp, is_v6, 255, at_edge(bytes, length), length, length);
}

static enum un_drop parse(struct un_icmp *icmp, bool is_v6, const char *hex)
{
    uint8_t bytes[MESSAGE_MAX];
    return parse_bytes(icmp, is_v6, bytes, from_hex(bytes, hex));
}

static void a_known_echo(void)
{
    struct un_icmp icmp;
    CHECK_EQ(parse(&icmp, false, "0800d9ba 12340001 0001020304050607"), UN_DROP_NONE);
    CHECK_EQ(icmp.kind, UN_ICMP_ECHO_REQUEST);
    CHECK_EQ(icmp.id, 0x1234);
    CHECK_EQ(icmp.sequence, 1);
    CHECK_EQ(icmp.payload, 8);
    CHECK_EQ(icmp.payload_length, 8);
    CHECK(!icmp.has_quote);
    CHECK_EQ(parse(&icmp, true, "81000000 12340001"), UN_DROP_NONE);
    CHECK_EQ(icmp.kind, UN_ICMP_ECHO_REPLY);
    CHECK_EQ(icmp.payload_length, 0);
}

static void a_known_fragmentation_needed(void)
{
    struct un_icmp icmp;
    CHECK_EQ(parse(&icmp, false, "0304fb84 00000578 450000391c4640004006323ac6336401c000020a 9c401b5811223344"),
             UN_DROP_NONE);
    CHECK_EQ(icmp.kind, UN_ICMP_PACKET_TOO_BIG);
    CHECK_EQ(icmp.mtu, 1400);
    CHECK(icmp.has_quote);
    CHECK_EQ(icmp.quote.protocol, UN_PROTOCOL_TCP);
    CHECK_EQ(icmp.quote.source_port, 40000);
    CHECK_EQ(icmp.quote.destination_port, 7000);
    CHECK_EQ(icmp.quote.seq, 0x11223344);
    CHECK_EQ(un_get32(un_ip_v4(&icmp.quote.source)), 0xc6336401);
    CHECK_EQ(un_get32(un_ip_v4(&icmp.quote.destination)), 0xc000020a);
}

static void a_known_router_advertisement(void)
{
    struct un_icmp icmp;
    CHECK_EQ(parse(&icmp, true, "86000000 40000708 00000000 00000000 0101020000000001 05010000000005dc"
                                "030440c0 00015180 00003840 00000000 20010db8000000000000000000000010"),
             UN_DROP_NONE);
    CHECK_EQ(icmp.kind, UN_ICMP_ROUTER_ADVERTISEMENT);
    CHECK_EQ(icmp.router_lifetime_s, 1800);
    CHECK_EQ(icmp.mtu, 1500);
    CHECK(icmp.has_mac);
    CHECK_EQ(icmp.mac[0], 2);
    CHECK_EQ(icmp.mac[5], 1);
}

static void a_known_solicitation_is_emitted(void)
{
    uint8_t expected[32], bytes[UN_ICMP_EMIT_MAX];
    struct un_icmp icmp = {.kind = UN_ICMP_NEIGHBOUR_SOLICITATION, .has_mac = true, .mac = {2, 0, 0, 0, 0, 10}};
    from_hex(icmp.target.bytes, "20010db8000000000000000000000001");
    from_hex(expected, "87000000 00000000 20010db8000000000000000000000001 0101 02000000000a");
    CHECK_EQ(un_icmp_emit(&icmp, true, bytes), 32);
    CHECK(memcmp(bytes, expected, 32) == 0);
}

struct row {
    bool is_v6;
    uint8_t type;
    uint8_t code;
    enum un_icmp_kind kind;
};

static void types_and_codes_mean_the_same_in_both_families(void)
{
    static const struct row rows[] = {
        {false, 3, 0, UN_ICMP_UNREACHABLE_HOST},     {false, 3, 1, UN_ICMP_UNREACHABLE_HOST},
        {false, 3, 2, UN_ICMP_UNREACHABLE_PROTOCOL}, {false, 3, 3, UN_ICMP_UNREACHABLE_PORT},
        {false, 3, 4, UN_ICMP_PACKET_TOO_BIG},       {false, 3, 5, UN_ICMP_UNREACHABLE_HOST},
        {false, 3, 13, UN_ICMP_UNREACHABLE_FOR_GOOD}, {false, 11, 0, UN_ICMP_TIME_EXCEEDED},
        {false, 3, 9, UN_ICMP_UNREACHABLE_FOR_GOOD},  {false, 3, 10, UN_ICMP_UNREACHABLE_FOR_GOOD},
        {false, 3, 6, UN_ICMP_UNREACHABLE_FOR_GOOD},  {false, 3, 12, UN_ICMP_UNREACHABLE_HOST},
        {false, 11, 1, UN_ICMP_TIME_EXCEEDED},       {false, 12, 0, UN_ICMP_PARAMETER_PROBLEM},
        {false, 0, 0, UN_ICMP_ECHO_REPLY},           {false, 8, 0, UN_ICMP_ECHO_REQUEST},
        {false, 4, 0, UN_ICMP_OTHER},                {false, 5, 1, UN_ICMP_OTHER},
        {false, 135, 0, UN_ICMP_OTHER},              {false, 128, 0, UN_ICMP_OTHER},
        {true, 1, 0, UN_ICMP_UNREACHABLE_HOST},      {true, 1, 1, UN_ICMP_UNREACHABLE_FOR_GOOD},
        {true, 1, 2, UN_ICMP_UNREACHABLE_HOST},      {true, 1, 5, UN_ICMP_UNREACHABLE_FOR_GOOD},
        {true, 1, 3, UN_ICMP_UNREACHABLE_HOST},      {true, 1, 4, UN_ICMP_UNREACHABLE_PORT},
        {true, 2, 0, UN_ICMP_PACKET_TOO_BIG},        {true, 3, 0, UN_ICMP_TIME_EXCEEDED},
        {true, 4, 0, UN_ICMP_PARAMETER_PROBLEM},     {true, 4, 1, UN_ICMP_UNREACHABLE_PROTOCOL},
        {true, 4, 2, UN_ICMP_PARAMETER_PROBLEM},     {true, 128, 0, UN_ICMP_ECHO_REQUEST},
        {true, 129, 0, UN_ICMP_ECHO_REPLY},          {true, 8, 0, UN_ICMP_OTHER},
        {true, 137, 0, UN_ICMP_OTHER},               {true, 143, 0, UN_ICMP_OTHER},
    };
    for (uint32_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct un_icmp icmp;
        uint8_t bytes[8] = {rows[i].type, rows[i].code};
        CHECK_EQ(parse_bytes(&icmp, rows[i].is_v6, bytes, 8), UN_DROP_NONE);
        CHECK_EQ(icmp.kind, rows[i].kind);
        CHECK_EQ(icmp.type, rows[i].type);
        CHECK_EQ(icmp.code, rows[i].code);
        CHECK(!icmp.has_quote);
    }
}

static void a_message_without_a_whole_header(void)
{
    uint8_t bytes[8] = {0};
    struct un_icmp icmp;
    for (uint32_t type = 0; type < 256; type++) {
        for (uint32_t length = 0; length < 8; length++) {
            bytes[0] = (uint8_t)type;
            CHECK_EQ(parse_bytes(&icmp, length % 2, bytes, length), UN_DROP_icmp_malformed);
        }
    }
}

/* An error about a packet that cannot be read is an error about nothing. */
static void quotes_that_cannot_be_read(void)
{
    static const char v4[] = "03010000 00000000 450000391c4640004006323ac6336401c000020a 9c401b5811223344";
    static const char v6[] = "01000000 00000000 60000000 00140640 20010db8000000000000000000000001"
                             "20010db8000000000000000000000002 9c401b5811223344";
    struct un_icmp icmp;
    uint8_t bytes[MESSAGE_MAX];
    for (int is_v6 = 0; is_v6 < 2; is_v6++) {
        uint32_t whole = from_hex(bytes, is_v6 ? v6 : v4);
        for (uint32_t length = 8; length <= whole; length++) {
            CHECK_EQ(parse_bytes(&icmp, is_v6, bytes, length), UN_DROP_NONE);
            CHECK_EQ(icmp.has_quote, length == whole);
        }
        CHECK_EQ(icmp.quote.seq, 0x11223344);
    }
    CHECK_EQ(parse(&icmp, false, "03010000 00000000 650000391c4640004006323ac6336401c000020a 9c401b5811223344"), 0);
    CHECK(!icmp.has_quote);
    CHECK_EQ(parse(&icmp, false, "03010000 00000000 440000391c4640004006323ac6336401c000020a 9c401b5811223344"), 0);
    CHECK(!icmp.has_quote);
    CHECK_EQ(parse(&icmp, false, "03010000 00000000 4f0000391c4640004006323ac6336401c000020a 9c401b5811223344"), 0);
    CHECK(!icmp.has_quote);
    CHECK_EQ(parse(&icmp, false, "03010000 00000000 450000391c4600014006323ac6336401c000020a 9c401b5811223344"), 0);
    CHECK(!icmp.has_quote); /* a later fragment has no ports */
    CHECK_EQ(
        parse(&icmp, false, "03010000 00000000 460000391c4640004006323ac6336401c000020a 01010101 9c401b5811223344"), 0);
    CHECK(icmp.has_quote);
    CHECK_EQ(icmp.quote.source_port, 40000);
}

static void quotes_of_other_protocols(void)
{
    struct un_icmp icmp;
    CHECK_EQ(parse(&icmp, false, "03030000 00000000 450000391c4640004011323ac6336401c000020a 9c401b5800110022"), 0);
    CHECK_EQ(icmp.kind, UN_ICMP_UNREACHABLE_PORT);
    CHECK_EQ(icmp.quote.source_port, 40000);
    CHECK_EQ(icmp.quote.seq, 0);
    CHECK_EQ(parse(&icmp, false, "03010000 00000000 450000391c4640004001323ac6336401c000020a 08001b5800110022"), 0);
    CHECK(icmp.has_quote);
    CHECK_EQ(icmp.quote.source_port, 0);
}

/* It would say something about a connection over IPv4. */
static void a_quote_with_mapped_addresses(void)
{
    struct un_icmp icmp;
    CHECK_EQ(parse(&icmp, true, "01040000 00000000 60000000 00140640 00000000000000000000ffffc000020a"
                                "20010db8000000000000000000000002 9c401b5811223344"),
             UN_DROP_NONE);
    CHECK(!icmp.has_quote);
    CHECK_EQ(parse(&icmp, true, "01040000 00000000 60000000 00140640 20010db8000000000000000000000002"
                                "00000000000000000000ffffc000020a 9c401b5811223344"),
             UN_DROP_NONE);
    CHECK(!icmp.has_quote);
}

#define TARGET "20010db8000000000000000000000001"
#define MAC_OPTION "0101 020000000001"

static void neighbour_discovery_that_counts(void)
{
    struct un_icmp icmp;
    CHECK_EQ(parse(&icmp, true, "87000000 00000000" TARGET), UN_DROP_NONE);
    CHECK(!icmp.has_mac);
    CHECK_EQ(icmp.target.bytes[15], 1);
    CHECK_EQ(parse(&icmp, true, "87000000 00000000" TARGET "0e01 111111111111" MAC_OPTION), UN_DROP_NONE);
    CHECK(icmp.has_mac); /* behind an option that is not known */
    CHECK_EQ(parse(&icmp, true, "88000000 60000000" TARGET "0201 020000000001"), UN_DROP_NONE);
    CHECK(icmp.has_mac && icmp.is_solicited && icmp.overrides && !icmp.is_router);
    CHECK_EQ(parse(&icmp, true, "88000000 80000000" TARGET MAC_OPTION), UN_DROP_NONE);
    CHECK(!icmp.has_mac && icmp.is_router); /* the address of a source, in an advertisement */
    CHECK_EQ(parse(&icmp, true, "87000000 00000000" TARGET "0102 0200000000010000000000000000"), UN_DROP_NONE);
    CHECK(!icmp.has_mac); /* longer than a MAC address */
    CHECK_EQ(parse(&icmp, true, "85000000 00000000" MAC_OPTION), UN_DROP_NONE);
    CHECK(icmp.kind == UN_ICMP_ROUTER_SOLICITATION && icmp.has_mac);
    CHECK_EQ(parse(&icmp, true, "86000000 40000000 00000000 00000000 05010000000004ff"), UN_DROP_NONE);
    CHECK_EQ(icmp.mtu, 0); /* less than IPv6 needs */
}

static void neighbour_discovery_that_makes_no_sense(void)
{
    static const char *const messages[] = {
        "87010000 00000000" TARGET,                                   /* code */
        "87000000 00000000 ff020000000000000000000000000001",         /* target is a group */
        "87000000 00000000 00000000000000000000ffffc000020a",         /* target is mapped */
        "88000000 60000000 ff020000000000000000000000000001",
        "88000000 60000000 00000000000000000000ffffc000020a",
        "87000000 00000000 20010db80000000000000000000000",           /* short */
        "86000000 40000000 00000000 000000",
        "87000000 00000000" TARGET "0100 020000000001",               /* option of no length */
        "87000000 00000000" TARGET "0102 020000000001",               /* beyond the message */
        "87000000 00000000" TARGET "0101 0200000000",
        "87000000 00000000" TARGET "01",
        "87000000 00000000" TARGET "0101 010000000001",               /* MAC address of a group */
        "88000000 60000000" TARGET "0201 ffffffffffff",
    };
    for (uint32_t i = 0; i < sizeof messages / sizeof *messages; i++) {
        struct un_icmp icmp;
        CHECK_EQ(parse(&icmp, true, messages[i]), UN_DROP_nd_malformed);
    }
}

static void neighbour_discovery_from_afar(void)
{
    struct un_icmp icmp;
    uint8_t bytes[MESSAGE_MAX];
    for (uint8_t type = 133; type <= 136; type++) {
        uint32_t length = from_hex(bytes, "87000000 00000000" TARGET);
        bytes[0] = type;
        CHECK_EQ(un_icmp_parse(&icmp, true, 255, bytes, type == 133 ? 8 : type == 134 ? 16 : length,
                               type == 133 ? 8 : type == 134 ? 16 : length),
                 UN_DROP_NONE);
        CHECK_EQ(un_icmp_parse(&icmp, true, 254, bytes, length, length), UN_DROP_nd_malformed);
        /* not all at hand */
        CHECK_EQ(un_icmp_parse(&icmp, true, 255, bytes, length, length + 8), UN_DROP_nd_malformed);
    }
}

static struct un_icmp random_message(uint64_t *random, enum un_icmp_kind kind)
{
    struct un_icmp icmp = {.kind = kind, .code = (uint8_t)random_next(random)};
    icmp.id = (uint16_t)random_next(random);
    icmp.sequence = (uint16_t)random_next(random);
    icmp.mtu = 1280 + random_below(random, 60000);
    icmp.pointer = random_below(random, 256);
    icmp.target = random_ip(random, false);
    icmp.has_mac = random_next(random) % 2;
    random_bytes(random, icmp.mac, UN_MAC_BYTES);
    icmp.mac[0] &= 0xfe;
    icmp.is_router = random_next(random) % 2;
    icmp.is_solicited = random_next(random) % 2;
    icmp.overrides = random_next(random) % 2;
    icmp.router_lifetime_s = (uint16_t)random_next(random);
    return icmp;
}

static void check_same(const struct un_icmp *left, const struct un_icmp *right, bool is_v6)
{
    enum un_icmp_kind kind = left->kind;
    CHECK_EQ(kind, right->kind);
    if (kind == UN_ICMP_ECHO_REQUEST || kind == UN_ICMP_ECHO_REPLY)
        CHECK(left->id == right->id && left->sequence == right->sequence);
    if (kind == UN_ICMP_PACKET_TOO_BIG || kind == UN_ICMP_ROUTER_ADVERTISEMENT)
        CHECK_EQ(left->mtu, right->mtu);
    if (kind == UN_ICMP_PARAMETER_PROBLEM || (is_v6 && kind == UN_ICMP_UNREACHABLE_PROTOCOL))
        CHECK_EQ(left->pointer, right->pointer);
    if (kind < UN_ICMP_NEIGHBOUR_SOLICITATION)
        return;
    CHECK_EQ(left->has_mac, right->has_mac);
    CHECK(!left->has_mac || memcmp(left->mac, right->mac, UN_MAC_BYTES) == 0);
    if (kind == UN_ICMP_NEIGHBOUR_SOLICITATION || kind == UN_ICMP_NEIGHBOUR_ADVERTISEMENT)
        CHECK(un_ip_equal(&left->target, &right->target));
    if (kind == UN_ICMP_NEIGHBOUR_ADVERTISEMENT)
        CHECK(left->is_router == right->is_router && left->is_solicited == right->is_solicited &&
              left->overrides == right->overrides);
    if (kind == UN_ICMP_ROUTER_ADVERTISEMENT)
        CHECK_EQ(left->router_lifetime_s, right->router_lifetime_s);
}

static void one_there_and_back(uint64_t seed)
{
    uint64_t random = seed;
    bool is_v6 = random_below(&random, 2);
    uint32_t kinds = is_v6 ? UN_ICMP_ROUTER_ADVERTISEMENT : UN_ICMP_PARAMETER_PROBLEM;
    enum un_icmp_kind kind = UN_ICMP_ECHO_REQUEST + random_below(&random, kinds);
    struct un_icmp icmp = random_message(&random, kind), again;
    if (kind >= UN_ICMP_NEIGHBOUR_SOLICITATION)
        icmp.code = 0;
    if (kind == UN_ICMP_UNREACHABLE_FOR_GOOD)
        icmp.code = is_v6 ? 5 : 9; /* one of several */
    if (kind == UN_ICMP_UNREACHABLE_HOST || kind == UN_ICMP_PARAMETER_PROBLEM)
        icmp.code = 0; /* other codes have other meanings */
    uint8_t bytes[UN_ICMP_EMIT_MAX];
    memset(bytes, 0xa5, sizeof bytes);
    uint32_t length = un_icmp_emit(&icmp, is_v6, bytes);
    CHECK(length <= sizeof bytes);
    CHECK_EQ(un_get16(bytes + 2), 0);
    CHECK_EQ(parse_bytes(&again, is_v6, bytes, length), UN_DROP_NONE);
    check_same(&icmp, &again, is_v6);
}

static void there_and_back(void)
{
    for_each_seed(5000, one_there_and_back);
}

int main(void)
{
    RUN(a_known_echo);
    RUN(a_known_fragmentation_needed);
    RUN(a_known_router_advertisement);
    RUN(a_known_solicitation_is_emitted);
    RUN(types_and_codes_mean_the_same_in_both_families);
    RUN(a_message_without_a_whole_header);
    RUN(quotes_that_cannot_be_read);
    RUN(quotes_of_other_protocols);
    RUN(a_quote_with_mapped_addresses);
    RUN(neighbour_discovery_that_counts);
    RUN(neighbour_discovery_that_makes_no_sense);
    RUN(neighbour_discovery_from_afar);
    RUN(there_and_back);
    return 0;
}
