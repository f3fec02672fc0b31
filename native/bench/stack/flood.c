/* usnet-flood: SYNs from many addresses that nobody has, at a steady rate, until SIGTERM. Then it prints a JSON object.
 *
 *   usnet-flood INTERFACE MAC ADDRESS PORT SOURCES RATE
 *
 * They leave through a packet socket, behind the interface's queue like the packets of every other sender; what finds
 * it full is lost, and counted. The sources are those of RFC 2544, which are on no real network, each with a new port
 * when its turn comes again. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/inherited.h"
#include "wire/checksum.h"

#define TICK_NS 1000000
#define SOURCE_FIRST 0xc6120000u /* 198.18.0.0 */
#define SOURCES_MAX (1u << 17)   /* 198.18.0.0/15 */

enum { BATCH = 64, ETHERNET = 14, IPV4 = 20, TCP = 24, FRAME = ETHERNET + IPV4 + TCP };

struct flood {
    uint8_t frame[FRAME]; /* what all have in common */
    uint32_t sources;
    double rate;
    uint64_t sent, lost;
};

static volatile sig_atomic_t stopped;

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

static uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The frame of the first SYN, without addresses, ports and sums of its sender. */
static bool make_frame(struct flood *flood, const char *mac, const char *address, const char *port)
{
    uint8_t *to = flood->frame, *ip = to + ETHERNET, *tcp = ip + IPV4;
    static const uint8_t ipv4[IPV4] = {0x45, [3] = IPV4 + TCP, [6] = 0x40, [8] = 64, [9] = IPPROTO_TCP};
    static const uint8_t syn[TCP] = {[12] = TCP / 4 << 4, [13] = 2, [14] = 0xff, [15] = 0xff, [20] = 2, [21] = 4};
    memcpy(ip, ipv4, IPV4);
    memcpy(tcp, syn, TCP);
    memcpy(to + 6, (const uint8_t[]){2, 0, 0, 0, 0, 0xff}, 6);
    un_put16(to + 12, 0x0800);
    un_put16(tcp + 2, (uint16_t)atoi(port));
    un_put16(tcp + 22, 1460);
    return sscanf(mac, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &to[0], &to[1], &to[2], &to[3], &to[4], &to[5]) == 6 &&
           inet_pton(AF_INET, address, ip + 16) == 1;
}

static void put_checksum(uint8_t *at, uint64_t sum)
{
    uint16_t checksum = un_checksum(sum);
    memcpy(at, &checksum, sizeof checksum);
}

static void make_syn(const struct flood *flood, uint8_t *frame, uint64_t number)
{
    uint8_t *ip = frame + ETHERNET, *tcp = ip + IPV4;
    uint32_t source, destination;
    memcpy(frame, flood->frame, FRAME);
    un_put32(ip + 12, SOURCE_FIRST + (uint32_t)(number % flood->sources));
    un_put16(tcp, (uint16_t)(1024 + number / flood->sources % 64000));
    un_put32(tcp + 4, (uint32_t)number * 2654435761u);
    memcpy(&source, ip + 12, sizeof source);
    memcpy(&destination, ip + 16, sizeof destination);
    put_checksum(ip + 10, un_sum(ip, IPV4));
    put_checksum(tcp + 16, un_sum_more(un_sum_pseudo_v4(source, destination, IPPROTO_TCP, TCP), tcp, TCP));
}

static void send_some(struct flood *flood, int fd, uint32_t count)
{
    static uint8_t frames[BATCH][FRAME];
    struct iovec pieces[BATCH];
    struct mmsghdr messages[BATCH] = {0};
    for (uint32_t i = 0; i < count; i++) {
        make_syn(flood, frames[i], flood->sent + flood->lost + i);
        pieces[i] = (struct iovec){frames[i], FRAME};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &pieces[i], .msg_iovlen = 1};
    }
    int sent = sendmmsg(fd, messages, count, 0);
    un_assert(sent > 0 || errno == ENOBUFS || errno == EINTR || errno == ENETDOWN);
    flood->sent += sent > 0 ? (uint32_t)sent : 0;
    flood->lost += sent > 0 ? 0 : 1;
}

static void run(struct flood *flood, int fd)
{
    const struct timespec tick = {.tv_nsec = TICK_NS};
    uint64_t start_ns = clock_ns();
    while (!stopped) {
        double due = (double)(clock_ns() - start_ns) * flood->rate / 1e9 - (double)(flood->sent + flood->lost);
        if (due >= 1)
            send_some(flood, fd, due < BATCH ? (uint32_t)due : BATCH);
        else
            nanosleep(&tick, NULL);
    }
    double seconds = (double)(clock_ns() - start_ns) / 1e9;
    printf("{\"sent\": %llu, \"lost\": %llu, \"seconds\": %.3f}\n", (unsigned long long)flood->sent,
           (unsigned long long)flood->lost, seconds);
}

static int open_interface(const char *name)
{
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(name)};
    int fd = address.sll_ifindex == 0 ? -1 : socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    return fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0 ? fd : -1;
}

int main(int argc, char **argv)
{
    struct flood flood = {0};
    struct sigaction action = {.sa_handler = on_signal};
    un_inherited_reset();
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* it has no other end */
    sigaction(SIGTERM, &action, NULL);
    if (argc == 7) {
        flood.sources = (uint32_t)strtoul(argv[5], NULL, 10);
        flood.rate = strtod(argv[6], NULL);
    }
    if (argc != 7 || !make_frame(&flood, argv[2], argv[3], argv[4]) || flood.sources < 1 ||
        flood.sources > SOURCES_MAX || !(flood.rate > 0)) {
        fprintf(stderr, "usage: usnet-flood INTERFACE MAC ADDRESS PORT SOURCES RATE\n");
        return 2;
    }
    int fd = open_interface(argv[1]);
    if (fd < 0) {
        fprintf(stderr, "usnet-flood: %s: no packets can be sent there: %s\n", argv[1], strerror(errno));
        return 3;
    }
    run(&flood, fd);
    return 0;
}
