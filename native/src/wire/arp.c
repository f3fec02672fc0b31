/* See arp.h. */
#include "wire/arp.h"

#include <stdbool.h>

#include "base/bytes.h"
#include "wire/packet.h"

enum { HARDWARE_ETHERNET = 1, IPV4_ADDRESS_BYTES = 4, GROUP_BIT = 1 };

static bool is_ethernet_ipv4(const uint8_t *at)
{
    return un_get16(at) == HARDWARE_ETHERNET && un_get16(at + 2) == UN_ETHER_IPV4 && at[4] == UN_MAC_BYTES &&
           at[5] == IPV4_ADDRESS_BYTES;
}

enum un_drop un_arp_parse(struct un_arp *arp, const uint8_t *at, uint32_t length)
{
    if (length < UN_ARP_BYTES || !is_ethernet_ipv4(at))
        return UN_DROP_arp_malformed;
    arp->operation = un_get16(at + 6);
    memcpy(arp->sender_mac, at + 8, UN_MAC_BYTES);
    arp->sender = un_ip_from_v4(at + 14);
    memcpy(arp->target_mac, at + 18, UN_MAC_BYTES);
    arp->target = un_ip_from_v4(at + 24);
    bool is_known = arp->operation == UN_ARP_REQUEST || arp->operation == UN_ARP_REPLY;
    bool is_group = arp->sender_mac[0] & GROUP_BIT || un_ip_is_multicast(&arp->sender);
    return is_known && !is_group ? UN_DROP_NONE : UN_DROP_arp_malformed;
}

uint32_t un_arp_emit(const struct un_arp *arp, uint8_t *at)
{
    un_put16(at, HARDWARE_ETHERNET);
    un_put16(at + 2, UN_ETHER_IPV4);
    at[4] = UN_MAC_BYTES;
    at[5] = IPV4_ADDRESS_BYTES;
    un_put16(at + 6, arp->operation);
    memcpy(at + 8, arp->sender_mac, UN_MAC_BYTES);
    memcpy(at + 14, un_ip_v4(&arp->sender), IPV4_ADDRESS_BYTES);
    memcpy(at + 18, arp->target_mac, UN_MAC_BYTES);
    memcpy(at + 24, un_ip_v4(&arp->target), IPV4_ADDRESS_BYTES);
    return UN_ARP_BYTES;
}
