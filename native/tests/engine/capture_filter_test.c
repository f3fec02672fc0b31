/* The filter of a capture: libpcap's own interpreter says what each program takes, of packets of all kinds and of any
 * bytes, in one piece and in several; programs that are none are refused; any that is accepted comes to an end. */
#include <dlfcn.h>
#include <string.h>

#include "check.h"
#include "engine/capture_filter.h"

enum { SKIPPED = 77, PACKET_MAX = 256, PROGRAM_MAX = 12, ETHERNET = 1, IP = 12 };

struct program {
    unsigned int count;
    struct sock_filter *instructions;
};

static struct {
    void *(*open_dead)(int link, int snaplen);
    int (*compile)(void *handle, struct program *program, const char *text, int optimize, uint32_t netmask);
    unsigned int (*run)(const struct sock_filter *program, const uint8_t *packet, unsigned int length,
                        unsigned int there);
    int (*validate)(const struct sock_filter *program, int count);
    void (*free)(struct program *program);
    void (*close)(void *handle);
} pcap;

static bool open_libpcap(void)
{
    void *library = dlopen("libpcap.so.0.8", RTLD_NOW);
    if (!library)
        library = dlopen("libpcap.so.1", RTLD_NOW);
    if (!library)
        return false;
    *(void **)&pcap.open_dead = dlsym(library, "pcap_open_dead");
    *(void **)&pcap.compile = dlsym(library, "pcap_compile");
    *(void **)&pcap.run = dlsym(library, "bpf_filter");
    *(void **)&pcap.validate = dlsym(library, "bpf_validate");
    *(void **)&pcap.free = dlsym(library, "pcap_freecode");
    *(void **)&pcap.close = dlsym(library, "pcap_close");
    return pcap.open_dead && pcap.compile && pcap.run && pcap.validate && pcap.free && pcap.close;
}

static const char *const filters[] = {
    "tcp",
    "tcp port 7000",
    "tcp dst port 7000 and src host 10.0.0.2",
    "net 10.0.0.0/8 and not port 22",
    "host 10.0.0.1 or ip6 host fd00::1",
    "ip6",
    "ip6 and tcp portrange 7000-7010",
    "udp or icmp or icmp6",
    "tcp[tcpflags] & (tcp-syn|tcp-rst) != 0",
    "tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420",
    "ip[8] < 64 and ip[2:2] > 60",
    "greater 100",
    "less 60",
    "tcp[4:4] / 7 % 3 = 1 and tcp[8:4] * 5 > 11",
    "ip proto 6 and ip[6:2] & 0x1fff = 0",
    "tcp[4:4] / tcp[8:4] > 0",
};
#define FILTERS (sizeof filters / sizeof *filters)

static uint64_t state = 20260;

static void put_transport(uint8_t *at)
{
    static const uint8_t ports[] = {0x1b, 0x58, 0x1b, 0x59, 0, 22, 0xc0, 1};
    memcpy(at, ports + 2 * random_below(&state, 4), 2);
    memcpy(at + 2, ports + 2 * random_below(&state, 4), 2);
    at[12] = (uint8_t)((5 + random_below(&state, 3)) << 4);
    if (random_below(&state, 2))
        memcpy(at + (at[12] >> 4) * 4, "GET /", 5);
}

/* IPv4 or IPv6 at `at`, TCP mostly. */
static void put_ip(uint8_t *at)
{
    static const uint8_t protocols[] = {6, 6, 6, 17, 1, 58};
    uint8_t protocol = protocols[random_below(&state, sizeof protocols)];
    uint8_t addresses[] = {10, 0, 0, 1, 10, 0, 0, 2};
    if (random_below(&state, 2)) {
        at[0] = 0x45;
        memset(at + 6, 0, 2);
        addresses[3] += (uint8_t)random_below(&state, 2);
        addresses[7] -= (uint8_t)random_below(&state, 3);
        at[9] = protocol;
        memcpy(at + 12, addresses, sizeof addresses);
        put_transport(at + 20);
        return;
    }
    memset(at, 0, 40);
    at[0] = 0x60;
    at[6] = protocol;
    at[8] = at[24] = 0xfd;
    at[23] = at[39] = (uint8_t)(1 + random_below(&state, 2));
    put_transport(at + 40);
}

/* Returns its length. */
static uint32_t make_packet(uint8_t *packet, int link)
{
    for (int i = 0; i < PACKET_MAX; i++)
        packet[i] = (uint8_t)random_next(&state);
    if (random_below(&state, 8)) {
        uint8_t *ip = packet + (link == ETHERNET ? 14 : 0);
        put_ip(ip);
        if (link == ETHERNET)
            memcpy(packet + 12, ip[0] >> 4 == 4 ? "\x08\x00" : "\x86\xdd", 2);
    }
    return random_below(&state, 4) ? 100 + random_below(&state, PACKET_MAX - 100) : random_below(&state, PACKET_MAX);
}

/* At any places; returns how many. */
static int cut(const uint8_t *packet, uint32_t length, struct iovec *pieces)
{
    int count = 1 + (int)random_below(&state, 3);
    uint32_t at = 0;
    for (int i = 0; i < count; i++) {
        uint32_t part = i + 1 < count ? random_below(&state, length - at + 1) : length - at;
        pieces[i] = (struct iovec){(void *)(uintptr_t)(packet + at), part};
        at += part;
    }
    return count;
}

static bool agrees(const struct sock_filter *program, const uint8_t *packet, uint32_t length)
{
    struct iovec pieces[3];
    int count = cut(packet, length, pieces);
    return un_capture_filter_takes(program, pieces, count, length) == (pcap.run(program, packet, length, length) != 0);
}

static void what_libpcap_takes(void)
{
    uint8_t packet[PACKET_MAX];
    uint32_t taken = 0;
    for (int link = ETHERNET; link <= IP; link += IP - ETHERNET) {
        void *handle = pcap.open_dead(link, 65535);
        for (size_t i = 0; i < FILTERS; i++) {
            struct program program;
            CHECK_EQ(pcap.compile(handle, &program, filters[i], 1, UINT32_MAX), 0);
            CHECK(un_capture_filter_check(program.instructions, program.count));
            for (int round = 0; round < 500; round++) {
                uint32_t length = make_packet(packet, link);
                CHECK(agrees(program.instructions, packet, length));
                taken += pcap.run(program.instructions, packet, length, length) != 0;
            }
            pcap.free(&program);
        }
        pcap.close(handle);
    }
    CHECK(taken > FILTERS * 100 && taken < FILTERS * 900);
}

static struct sock_filter random_instruction(uint32_t behind)
{
    static const uint16_t codes[] = {
        BPF_LD | BPF_W | BPF_ABS, BPF_LD | BPF_H | BPF_ABS, BPF_LD | BPF_B | BPF_IND, BPF_LD | BPF_W | BPF_LEN,
        BPF_LD | BPF_IMM, BPF_LDX | BPF_IMM, BPF_LDX | BPF_B | BPF_MSH, BPF_LD | BPF_MEM, BPF_LDX | BPF_MEM, BPF_ST,
        BPF_STX, BPF_MISC | BPF_TAX, BPF_MISC | BPF_TXA, BPF_ALU | BPF_ADD | BPF_X, BPF_ALU | BPF_SUB | BPF_K,
        BPF_ALU | BPF_MUL | BPF_X, BPF_ALU | BPF_DIV | BPF_X, BPF_ALU | BPF_MOD | BPF_K, BPF_ALU | BPF_LSH | BPF_X,
        BPF_ALU | BPF_RSH | BPF_K, BPF_ALU | BPF_NEG, BPF_ALU | BPF_XOR | BPF_K, BPF_JMP | BPF_JA,
        BPF_JMP | BPF_JEQ | BPF_K, BPF_JMP | BPF_JGT | BPF_X, BPF_JMP | BPF_JGE | BPF_K, BPF_JMP | BPF_JSET | BPF_X,
        BPF_RET | BPF_A, BPF_RET | BPF_K,
    };
    uint16_t code = codes[random_below(&state, sizeof codes / sizeof *codes)];
    if (random_below(&state, 50) == 0)
        code = (uint16_t)random_next(&state);
    return (struct sock_filter){.code = code,
                                .jt = (uint8_t)random_below(&state, behind + 2),
                                .jf = (uint8_t)random_below(&state, behind + 2),
                                .k = random_below(&state, random_below(&state, 4) ? 20 : UINT32_MAX)};
}

/* libpcap leaves the memory of a program as it is, so it is filled first. */
static void any_program(void)
{
    struct sock_filter program[BPF_MEMWORDS + PROGRAM_MAX];
    uint8_t packet[PACKET_MAX];
    uint32_t accepted = 0;
    for (int round = 0; round < 200000; round++) {
        uint32_t count = BPF_MEMWORDS + 1 + random_below(&state, PROGRAM_MAX);
        for (uint32_t i = 0; i < count; i++)
            program[i] = i < BPF_MEMWORDS ? (struct sock_filter){.code = BPF_ST, .k = i}
                                          : random_instruction(count - i - 1);
        if (random_below(&state, 8))
            program[count - 1] = (struct sock_filter){.code = BPF_RET | BPF_A};
        if (!un_capture_filter_check(program, count))
            continue;
        accepted++;
        CHECK(pcap.validate(program, (int)count));
        CHECK(agrees(program, packet, make_packet(packet, IP)));
    }
    CHECK(accepted > 10000);
}

static bool is_program(struct sock_filter first)
{
    const struct sock_filter program[] = {first, {.code = BPF_RET | BPF_K, .k = 1}};
    return un_capture_filter_check(program, 2);
}

static void what_is_no_program(void)
{
    static struct sock_filter long_one[UN_CAPTURE_PROGRAM_MAX + 1];
    CHECK(is_program((struct sock_filter){.code = BPF_JMP | BPF_JA, .k = 0}));
    CHECK(!is_program((struct sock_filter){.code = BPF_JMP | BPF_JA, .k = 1}));
    CHECK(!is_program((struct sock_filter){.code = BPF_JMP | BPF_JA, .k = UINT32_MAX}));
    CHECK(!is_program((struct sock_filter){.code = BPF_JMP | BPF_JEQ | BPF_K, .jt = 1}));
    CHECK(!is_program((struct sock_filter){.code = BPF_JMP | BPF_JEQ | BPF_X, .jf = 1}));
    CHECK(!is_program((struct sock_filter){.code = BPF_ST, .k = BPF_MEMWORDS}));
    CHECK(!is_program((struct sock_filter){.code = BPF_LDX | BPF_MEM, .k = BPF_MEMWORDS}));
    CHECK(!is_program((struct sock_filter){.code = BPF_ALU | BPF_DIV | BPF_K, .k = 0}));
    CHECK(!is_program((struct sock_filter){.code = BPF_ALU | BPF_LSH | BPF_K, .k = 32}));
    CHECK(!is_program((struct sock_filter){.code = BPF_MISC | 0x40}));
    CHECK(!is_program((struct sock_filter){.code = BPF_ALU | BPF_NEG | BPF_X}));
    CHECK(!un_capture_filter_check(long_one, 0));
    CHECK(!un_capture_filter_check(&(struct sock_filter){.code = BPF_LD | BPF_IMM}, 1));
    for (uint32_t i = 0; i <= UN_CAPTURE_PROGRAM_MAX; i++)
        long_one[i].code = BPF_RET | BPF_K;
    CHECK(un_capture_filter_check(long_one, UN_CAPTURE_PROGRAM_MAX));
    CHECK(!un_capture_filter_check(long_one, UN_CAPTURE_PROGRAM_MAX + 1));
}

int main(void)
{
    RUN(what_is_no_program);
    if (!open_libpcap())
        return SKIPPED;
    RUN(what_libpcap_takes);
    RUN(any_program);
    return 0;
}
