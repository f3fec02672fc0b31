/* See solicit.h. */
#include "stack/solicit.h"

#include "stack/packets.h"
#include "stack/route.h"

#define UN_ND_HOP_LIMIT 255u /* RFC 4861 section 7.1: nothing else counts */
static const uint8_t broadcast_mac[UN_MAC_BYTES] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
static const struct un_ip any_v6;
static const struct un_ip all_nodes = {{0xff, 2, [15] = 1}};
static const struct un_ip all_routers = {{0xff, 2, [15] = 2}};

void un_arp_send(struct un_stack *stack, struct un_arp *arp, const uint8_t *to)
{
    uint8_t bytes[UN_ETH_BYTES + UN_ARP_BYTES];
    const uint8_t *own = stack->device->capabilities.mac;
    memcpy(arp->sender_mac, own, UN_MAC_BYTES);
    uint32_t length = un_eth_emit(bytes, to, own, UN_ETHER_ARP);
    length += un_arp_emit(arp, bytes + length);
    struct un_piece piece = {bytes, length, UN_NONE};
    struct un_tx tx = {.pieces = &piece, .count = 1, .header_length = (uint16_t)length, .length = length};
    if (un_stack_transmit(stack, &tx))
        un_stack_drop(stack, UN_DROP_device_full);
    else
        stack->counters->arp_out++;
}

/* The message tells our MAC address, even for an IP address that may still turn out to be another station's. RFC 4429
 * section 3.2 forbids that, and the other station would ask in turn; then two stations that have just started would
 * wait for each other. */
void un_discovery_begin(const struct un_stack *stack, struct un_datagram *datagram, uint8_t header[UN_ICMP_EMIT_MAX],
                        struct un_icmp *icmp, const struct un_ip *from, const struct un_ip *to)
{
    icmp->has_mac = !un_ip_is_any(from);
    memcpy(icmp->mac, stack->device->capabilities.mac, UN_MAC_BYTES);
    *datagram = (struct un_datagram){
        .ip = {.source = *from, .destination = *to, .protocol = UN_PROTOCOL_ICMPV6, .hop_limit = UN_ND_HOP_LIMIT},
        .header = header,
        .header_length = un_icmp_emit(icmp, true, header),
        .checksum_offset = 2,
    };
}

void un_discovery_sent(struct un_stack *stack, int result)
{
    if (result)
        un_stack_drop(stack, UN_DROP_device_full);
    else
        stack->counters->icmp_out++;
}

/* mac NULL: `to` is a group. */
static void say(struct un_stack *stack, struct un_icmp *icmp, const struct un_ip *from, const struct un_ip *to,
                const uint8_t *mac)
{
    uint8_t header[UN_ICMP_EMIT_MAX];
    struct un_datagram datagram;
    un_discovery_begin(stack, &datagram, header, icmp, from, to);
    un_discovery_sent(stack, mac ? un_stack_send_to(stack, &datagram, mac) : un_stack_send_group(stack, &datagram));
}

/* As long as the address may be another's as well, nobody's cache is changed (RFC 4429 section 3.3). */
struct un_icmp un_advertisement(const struct un_stack *stack, uint32_t index, bool is_solicited)
{
    const struct un_address *address = &stack->own->addresses[index];
    return (struct un_icmp){.kind = UN_ICMP_NEIGHBOUR_ADVERTISEMENT,
                            .target = address->ip,
                            .is_solicited = is_solicited,
                            .overrides = address->state == UN_ADDRESS_OURS};
}

static void advertise_to_all(struct un_stack *stack, uint32_t index)
{
    struct un_icmp icmp = un_advertisement(stack, index, false);
    say(stack, &icmp, &stack->own->addresses[index].ip, &all_nodes, NULL);
}

static void ask_arp(struct un_stack *stack, struct un_neighbour *neighbour)
{
    int source = un_route_source(stack, &neighbour->ip);
    if (source < 0)
        return;
    struct un_arp question = {
        .operation = UN_ARP_REQUEST, .sender = stack->own->addresses[source].ip, .target = neighbour->ip};
    bool is_known = neighbour->state == UN_NEIGHBOUR_PROBE;
    un_arp_send(stack, &question, is_known ? neighbour->ethernet : broadcast_mac);
}

static void ask_discovery(struct un_stack *stack, struct un_neighbour *neighbour)
{
    int source = un_route_source(stack, &neighbour->ip);
    if (source < 0)
        return;
    struct un_icmp question = {.kind = UN_ICMP_NEIGHBOUR_SOLICITATION, .target = neighbour->ip};
    bool is_known = neighbour->state == UN_NEIGHBOUR_PROBE;
    struct un_ip group = un_ip_solicited_node(&neighbour->ip);
    say(stack, &question, &stack->own->addresses[source].ip, is_known ? &neighbour->ip : &group,
        is_known ? neighbour->ethernet : NULL);
}

void un_neighbour_solicit(struct un_stack *stack, struct un_neighbour *neighbour)
{
    if (un_ip_is_v4(&neighbour->ip))
        ask_arp(stack, neighbour);
    else
        ask_discovery(stack, neighbour);
}

void un_address_announce(struct un_stack *stack, uint32_t index)
{
    const struct un_ip *ip = &stack->own->addresses[index].ip;
    struct un_arp announcement = {.operation = UN_ARP_REQUEST, .sender = *ip, .target = *ip};
    if (un_ip_is_v4(ip))
        un_arp_send(stack, &announcement, broadcast_mac);
    else
        advertise_to_all(stack, index);
}

/* In nobody's name (RFC 5227 section 1.1, RFC 4862 section 5.4.2), so that nobody's cache is changed. */
void un_address_probe(struct un_stack *stack, uint32_t index)
{
    const struct un_ip *ip = &stack->own->addresses[index].ip;
    if (un_ip_is_v4(ip)) {
        struct un_arp question = {.operation = UN_ARP_REQUEST, .sender = un_ip_from_v4(any_v6.bytes), .target = *ip};
        un_arp_send(stack, &question, broadcast_mac);
        return;
    }
    struct un_icmp question = {.kind = UN_ICMP_NEIGHBOUR_SOLICITATION, .target = *ip};
    struct un_ip group = un_ip_solicited_node(ip);
    say(stack, &question, &any_v6, &group, NULL);
}

/* In nobody's name, too, while our address may be another's: routers learn from it (RFC 4429 section 3.2). */
void un_router_solicit(struct un_stack *stack)
{
    int source = un_route_source(stack, &all_routers);
    const struct un_address *address = source < 0 ? NULL : &stack->own->addresses[source];
    bool is_sure = address && address->state == UN_ADDRESS_OURS;
    struct un_icmp question = {.kind = UN_ICMP_ROUTER_SOLICITATION};
    say(stack, &question, is_sure ? &address->ip : &any_v6, &all_routers, NULL);
}
