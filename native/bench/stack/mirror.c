/* See mirror.h. */
#include "mirror.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "wire/checksum.h"

enum { ETHERNET = 14, IPV4 = 20, TCP = 20, ARP = 28 }; /* bytes of headers */
enum { TYPE_IPV4 = 0x0800, TYPE_ARP = 0x0806 };
enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16 };
enum { OPTION_END, OPTION_NOP, OPTION_TIMESTAMP = 8 };

const uint8_t mirror_mac[6] = {2, 0, 0, 0, 0, 1};

void mirror_parse(struct mirror *mirror, int argc, char **argv)
{
    char *slash = argc == 4 ? strchr(argv[2], '/') : NULL;
    if (slash)
        *slash = 0;
    if (!slash || inet_pton(AF_INET, argv[2], mirror->address) != 1) {
        fprintf(stderr, "usage: %s INTERFACE ADDRESS/PREFIX PORT\n", argv[0]);
        exit(2);
    }
    mirror->interface = argv[1];
    mirror->port = (uint16_t)atoi(argv[3]);
}

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

static bool turn_ipv4(const struct mirror *mirror, uint8_t *ip, uint32_t length)
{
    uint32_t total = length >= IPV4 + TCP ? un_get16(ip + 2) : 0;
    if (total < IPV4 + TCP || total > length || ip[0] != 0x45 || ip[9] != IPPROTO_TCP ||
        memcmp(ip + 16, mirror->address, 4) != 0 || un_get16(ip + IPV4 + 2) != mirror->port)
        return false;
    exchange(ip + 12, ip + 16, 4);
    return turn_segment(ip + IPV4, total - IPV4);
}

static bool turn_arp(const struct mirror *mirror, uint8_t *arp, uint32_t length)
{
    if (length < ARP || un_get16(arp + 6) != 1 || memcmp(arp + 24, mirror->address, 4) != 0)
        return false;
    un_put16(arp + 6, 2);
    exchange(arp + 8, arp + 18, 10);
    memcpy(arp + 8, mirror_mac, sizeof mirror_mac);
    return true;
}

bool mirror_turn(const struct mirror *mirror, uint8_t *ethernet, uint32_t length)
{
    if (length < ETHERNET)
        return false;
    uint16_t type = un_get16(ethernet + 12);
    memcpy(ethernet, ethernet + 6, sizeof mirror_mac);
    memcpy(ethernet + 6, mirror_mac, sizeof mirror_mac);
    return type == TYPE_IPV4 ? turn_ipv4(mirror, ethernet + ETHERNET, length - ETHERNET)
                             : type == TYPE_ARP && turn_arp(mirror, ethernet + ETHERNET, length - ETHERNET);
}

void mirror_complete_checksum(uint8_t *ethernet)
{
    uint8_t *ip = ethernet + ETHERNET, *tcp = ip + IPV4, *field = tcp + 16;
    if (un_get16(ethernet + 12) != TYPE_IPV4)
        return;
    uint32_t source, destination, length = un_get16(ip + 2) - IPV4;
    memcpy(&source, ip + 12, 4);
    memcpy(&destination, ip + 16, 4);
    memset(field, 0, 2);
    uint64_t pseudo = un_sum_pseudo_v4(source, destination, IPPROTO_TCP, length);
    uint16_t checksum = un_checksum(un_sum_more(pseudo, tcp, length));
    memcpy(field, &checksum, 2);
}
