/* usnet-echo-mirror: what the TAP interface itself can carry. An echo server without a TCP stack: a segment is turned
 * round where it lies, sequence number and acknowledgement exchanged, and nothing is remembered. No server can do with
 * less work of its own; one that answers in larger batches may still come to more where the load's core is what is
 * full. Loss, windows and order are beyond it: it serves small echoes of a kernel at the other end, in IPv4, and
 * nothing else.
 *
 *   usnet-echo-mirror INTERFACE ADDRESS/PREFIX PORT
 *
 * The checksum of what such a kernel sends covers the pseudo-header alone (the rest is left to a card that there is
 * not); that is the same both ways, and so is the virtio header that says so: neither is touched. */
#include <arpa/inet.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/inherited.h"
#include "device/device.h"

enum { BATCH = 64, PACKET_BYTES = 2048 };
enum { VIRTIO = sizeof(struct virtio_net_hdr), ETHERNET = 14, IPV4 = 20, TCP = 20, ARP = 28 }; /* bytes of headers */
enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16 };
enum { OPTION_END, OPTION_NOP, OPTION_TIMESTAMP = 8 };

static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};

struct packet {
    ssize_t length; /* with the virtio header; 0: nothing is to be sent */
    uint8_t bytes[PACKET_BYTES];
};

static void exchange(uint8_t *left, uint8_t *right, size_t length)
{
    uint8_t kept[16];
    memcpy(kept, left, length);
    memcpy(left, right, length);
    memcpy(right, kept, length);
}

/* Our clock is the peer's: what it told is what we tell, and what we have heard. */
static void echo_timestamp(uint8_t *tcp, uint32_t header)
{
    for (uint32_t at = TCP; at < header && tcp[at] != OPTION_END;) {
        if (tcp[at] == OPTION_TIMESTAMP)
            memcpy(tcp + at + 6, tcp + at + 2, 4);
        at += tcp[at] == OPTION_NOP || tcp[at + 1] == 0 ? 1 : tcp[at + 1];
    }
}

/* An answer in place of the segment; false: it needs none. */
static bool turn_segment(uint8_t *tcp, uint32_t length)
{
    uint32_t header = (uint32_t)(tcp[12] >> 4) * 4, payload = length - header, seq = un_get32(tcp + 4);
    uint8_t flags = tcp[13];
    if (header < TCP || header > length || (flags & RST) || (payload == 0 && !(flags & (SYN | FIN))))
        return false;
    memcpy(tcp + 4, tcp + 8, 4);
    un_put32(tcp + 8, seq + payload + !!(flags & (SYN | FIN)));
    tcp[13] = (uint8_t)(ACK | (flags & (SYN | FIN | PSH)));
    echo_timestamp(tcp, header);
    exchange(tcp, tcp + 2, 2);
    return true;
}

static bool turn_ipv4(uint8_t *ip, uint32_t length, const uint8_t *address, uint16_t port)
{
    uint32_t total = length >= IPV4 + TCP ? un_get16(ip + 2) : 0;
    if (total < IPV4 + TCP || total > length || ip[0] != 0x45 || ip[9] != IPPROTO_TCP ||
        memcmp(ip + 16, address, 4) != 0 || un_get16(ip + IPV4 + 2) != port)
        return false;
    exchange(ip + 12, ip + 16, 4);
    return turn_segment(ip + IPV4, total - IPV4);
}

static bool turn_arp(uint8_t *arp, uint32_t length, const uint8_t *address)
{
    if (length < ARP || un_get16(arp + 6) != 1 || memcmp(arp + 24, address, 4) != 0)
        return false;
    un_put16(arp + 6, 2);
    exchange(arp + 8, arp + 18, 10);
    memcpy(arp + 8, mac, sizeof mac);
    return true;
}

static bool turn(struct packet *packet, const uint8_t *address, uint16_t port)
{
    uint8_t *ethernet = packet->bytes + VIRTIO, *content = ethernet + ETHERNET;
    if (packet->length < VIRTIO + ETHERNET)
        return false;
    uint32_t length = (uint32_t)packet->length - VIRTIO - ETHERNET;
    uint16_t type = un_get16(ethernet + 12);
    memcpy(ethernet, ethernet + 6, sizeof mac);
    memcpy(ethernet + 6, mac, sizeof mac);
    return type == 0x0800 ? turn_ipv4(content, length, address, port)
                          : type == 0x0806 && turn_arp(content, length, address);
}

/* Read what there is, then answer: as a server does that handles many messages in a turn. */
static void serve(int fd, const uint8_t *address, uint16_t port)
{
    static struct packet packets[BATCH];
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    for (;;) {
        int count = 0;
        while (count < BATCH && (packets[count].length = read(fd, packets[count].bytes, PACKET_BYTES)) > 0)
            count++;
        if (count == 0)
            poll(&readable, 1, -1);
        for (int i = 0; i < count; i++)
            if (turn(&packets[i], address, port) && write(fd, packets[i].bytes, (size_t)packets[i].length) < 0)
                perror("usnet-echo-mirror: write");
    }
}

int main(int argc, char **argv)
{
    uint8_t address[4];
    const char *why = "";
    un_inherited_reset();
    char *slash = argc == 4 ? strchr(argv[2], '/') : NULL;
    if (slash)
        *slash = 0;
    if (!slash || inet_pton(AF_INET, argv[2], address) != 1) {
        fprintf(stderr, "usage: usnet-echo-mirror INTERFACE ADDRESS/PREFIX PORT\n");
        return 2;
    }
    int fd = un_tap_queue(argv[1], false, &why);
    if (fd < 0 || ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM) < 0) {
        fprintf(stderr, "usnet-echo-mirror: %s: %s\n", argv[1], fd < 0 ? why : "it does not offload checksums");
        return 3;
    }
    serve(fd, address, (uint16_t)atoi(argv[3]));
}
