/* ARP for IPv4 over Ethernet (RFC 826), probes and announcements included (RFC 5227).
 *
 * Only requests and replies are taken, and only from a sender that is one station: no group has a MAC or IP address of
 * its own. 0.0.0.0 as the sender is a probe. */
#ifndef UN_ARP_H
#define UN_ARP_H

#include <stdint.h>

#include "base/drop.h"
#include "wire/ip.h"

#define UN_ARP_BYTES 28u

enum un_arp_operation { UN_ARP_REQUEST = 1, UN_ARP_REPLY = 2 };

struct un_arp {
    uint16_t operation;
    uint8_t sender_mac[UN_MAC_BYTES];
    uint8_t target_mac[UN_MAC_BYTES];
    struct un_ip sender;
    struct un_ip target;
};

enum un_drop un_arp_parse(struct un_arp *arp, const uint8_t *at, uint32_t length);
uint32_t un_arp_emit(const struct un_arp *arp, uint8_t *at);

#endif
