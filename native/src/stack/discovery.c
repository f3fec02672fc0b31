/* Messages between neighbours: ARP (RFC 826, RFC 5227) and IPv6 neighbour discovery (RFC 4861).
 *
 * A question for one of our addresses is answered, and the address of the asker is learnt, since packets to it will
 * follow. Answers and announcements change entries that exist, and make none. A station that claims one of our
 * addresses is never believed, and its address is never learnt: address.c decides what to do. Every shard hears every
 * message; one answers.
 *
 * Of a router's advertisement we take lifetime, address and MTU. Hop limit and timers stay our own (RFC 4861 section
 * 6.3.4 says should): a forged message could make us unreachable from afar, or make us ask all the time. */
#include "stack/discovery.h"

#include "base/bytes.h"
#include "stack/address.h"
#include "stack/arrival.h"
#include "stack/handover.h"
#include "stack/local.h"
#include "stack/neighbour.h"
#include "stack/neighbour_table.h"
#include "stack/output.h"
#include "stack/packets.h"
#include "stack/route.h"
#include "stack/solicit.h"
#include "wire/arp.h"
#include "wire/checksum.h"

static const struct un_ip all_nodes = {{0xff, 2, [15] = 1}};

/* ---- ARP ---- */

static void reply_arp(struct un_stack *stack, const struct un_arp *question)
{
    struct un_arp reply = {.operation = UN_ARP_REPLY, .sender = question->target, .target = question->sender};
    memcpy(reply.target_mac, question->sender_mac, UN_MAC_BYTES);
    un_arp_send(stack, &reply, question->sender_mac);
}

static void learn_from_arp(struct un_stack *stack, const struct un_arp *arp, bool is_for_us)
{
    bool is_question = arp->operation == UN_ARP_REQUEST;
    struct un_neighbour *neighbour = is_question && is_for_us ? un_neighbour_offered(stack, &arp->sender)
                                                              : un_neighbour_find(stack, &arp->sender);
    if (neighbour)
        un_neighbour_learn(stack, neighbour, arp->sender_mac, !is_question && is_for_us);
}

/* Index of the address of ours that the sender claims, or probes as we do (RFC 5227 section 2.1.1); -1: none. */
static int claimed_by_arp(const struct un_stack *stack, const struct un_arp *arp)
{
    if (!un_ip_is_any(&arp->sender))
        return un_address_claimed(stack, &arp->sender);
    int index = un_address_claimed(stack, &arp->target);
    return index >= 0 && stack->own->addresses[index].state != UN_ADDRESS_OURS ? index : -1;
}

static bool is_from_us(const struct un_stack *stack, const uint8_t *mac)
{
    return memcmp(mac, stack->device->capabilities.mac, UN_MAC_BYTES) == 0;
}

enum un_drop un_arp_input(struct un_stack *stack, struct un_arrival *arrival)
{
    struct un_arp arp;
    uint16_t at = arrival->packet.network;
    enum un_drop why = un_arp_parse(&arp, (const uint8_t *)arrival->pieces[0].iov_base + at,
                                    (uint32_t)arrival->pieces[0].iov_len - at);
    if (why)
        return why;
    stack->counters->arp_in++;
    if (is_from_us(stack, arp.sender_mac)) /* what we said came back */
        return UN_DROP_ip_source;
    un_hand_over(stack, arrival, UN_NONE);
    int claimed = claimed_by_arp(stack, &arp);
    if (claimed >= 0) {
        un_address_conflict(stack, (uint32_t)claimed, arp.sender_mac);
        return UN_DROP_ip_source;
    }
    bool is_probe = un_ip_is_any(&arp.sender);
    if (!is_probe && !un_can_be_source(stack, &arp.sender))
        return UN_DROP_ip_source;
    bool is_for_us = un_address_find(stack, &arp.target) >= 0;
    if (!is_probe)
        learn_from_arp(stack, &arp, is_for_us);
    if (arp.operation == UN_ARP_REQUEST && is_for_us && !arrival->is_foreign)
        reply_arp(stack, &arp);
    return UN_DROP_NONE;
}

/* ---- neighbour discovery ---- */

/* One of ours. */
static void advertise(struct un_stack *stack, uint32_t index, const struct un_ip *to)
{
    uint8_t header[UN_ICMP_EMIT_MAX];
    struct un_datagram datagram;
    struct un_icmp icmp = un_advertisement(stack, index, !un_ip_is_multicast(to));
    un_discovery_begin(stack, &datagram, header, &icmp, &stack->own->addresses[index].ip, to);
    un_discovery_sent(stack, un_stack_send(stack, &datagram));
}

/* A station without an address asks whether this one is taken (RFC 4862 section 5.4.3). */
static void take_probe(struct un_stack *stack, const struct un_arrival *arrival, uint32_t index)
{
    if (stack->own->addresses[index].state != UN_ADDRESS_OURS)
        un_address_conflict(stack, index, arrival->packet.source_mac);
    else if (!arrival->is_foreign)
        advertise(stack, index, &all_nodes);
}

static enum un_drop solicitation(struct un_stack *stack, struct un_arrival *arrival, const struct un_icmp *icmp)
{
    const struct un_ip *source = &arrival->packet.source;
    int index = un_address_claimed(stack, &icmp->target);
    if (index < 0)
        return UN_DROP_NONE;
    if (un_ip_is_any(source)) {
        struct un_ip group = un_ip_solicited_node(&icmp->target);
        if (icmp->has_mac || !un_ip_equal(&arrival->packet.destination, &group)) /* RFC 4861 section 7.1.1 */
            return UN_DROP_nd_malformed;
        take_probe(stack, arrival, (uint32_t)index);
        return UN_DROP_NONE;
    }
    if (stack->own->addresses[index].state == UN_ADDRESS_TAKEN)
        return UN_DROP_NONE;
    if (icmp->has_mac && !(icmp->mac[0] & 1)) {
        struct un_neighbour *neighbour = un_neighbour_offered(stack, source);
        if (neighbour)
            un_neighbour_learn(stack, neighbour, icmp->mac, false);
    }
    if (!arrival->is_foreign)
        advertise(stack, (uint32_t)index, source);
    return UN_DROP_NONE;
}

/* RFC 4861 section 7.2.5. */
static enum un_drop advertisement(struct un_stack *stack, const struct un_arrival *arrival, const struct un_icmp *icmp)
{
    if (icmp->is_solicited && un_ip_is_multicast(&arrival->packet.destination)) /* RFC 4861 section 7.1.2 */
        return UN_DROP_nd_malformed;
    int claimed = un_address_claimed(stack, &icmp->target);
    if (claimed >= 0) {
        un_address_conflict(stack, (uint32_t)claimed, icmp->has_mac ? icmp->mac : arrival->packet.source_mac);
        return UN_DROP_ip_source;
    }
    struct un_neighbour *neighbour = un_neighbour_find(stack, &icmp->target);
    if (!neighbour || (icmp->has_mac && (icmp->mac[0] & 1)))
        return UN_DROP_NONE;
    bool is_known = un_neighbour_is_known(neighbour);
    if (!is_known && !icmp->has_mac)
        return UN_DROP_NONE;
    const uint8_t *mac = icmp->has_mac ? icmp->mac : neighbour->ethernet;
    bool differs = is_known && !un_neighbour_has_mac(neighbour, mac);
    if (differs && !icmp->overrides) {
        if (neighbour->state == UN_NEIGHBOUR_REACHABLE)
            un_neighbour_doubt(neighbour);
        return UN_DROP_NONE;
    }
    if (neighbour->is_router && !icmp->is_router)
        un_route_advertised(stack, &icmp->target, 0);
    neighbour->is_router = icmp->is_router;
    un_neighbour_learn(stack, neighbour, mac, icmp->is_solicited);
    return UN_DROP_NONE;
}

static enum un_drop router(struct un_stack *stack, struct un_arrival *arrival, const struct un_icmp *icmp)
{
    const struct un_ip *source = &arrival->packet.source;
    if (!stack->config->accept_router_advertisements)
        return UN_DROP_NONE;
    if (!un_ip_is_link_local(source))
        return UN_DROP_nd_malformed;
    if (icmp->has_mac && !(icmp->mac[0] & 1)) {
        struct un_neighbour *neighbour = un_neighbour_offered(stack, source);
        if (neighbour) {
            neighbour->is_router = true;
            un_neighbour_learn(stack, neighbour, icmp->mac, false);
        }
    }
    if (icmp->mtu >= UN_IPV6_MTU_MIN && icmp->mtu <= UINT16_MAX)
        stack->own->link_mtu = (uint16_t)icmp->mtu;
    un_route_advertised(stack, source, icmp->router_lifetime_s);
    return UN_DROP_NONE;
}

enum un_drop un_discovery_input(struct un_stack *stack, struct un_arrival *arrival, const struct un_icmp *icmp)
{
    if (arrival->packet.has_fragment_header) /* guards on the link do not look into fragments: RFC 6980 section 5 */
        return UN_DROP_nd_malformed;
    if (is_from_us(stack, arrival->packet.source_mac)) /* what we said came back */
        return UN_DROP_ip_source;
    un_hand_over(stack, arrival, UN_NONE);
    if (icmp->kind == UN_ICMP_NEIGHBOUR_SOLICITATION)
        return solicitation(stack, arrival, icmp);
    if (icmp->kind == UN_ICMP_NEIGHBOUR_ADVERTISEMENT)
        return advertisement(stack, arrival, icmp);
    if (icmp->kind == UN_ICMP_ROUTER_ADVERTISEMENT)
        return router(stack, arrival, icmp);
    return UN_DROP_NONE; /* router solicitations: we are none */
}
