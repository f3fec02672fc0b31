/* Addresses of our own and ways to others: which next hop, from which address.
 *
 * Both tables are small and searched in a row; connections remember their next hop (output.c), so a search is made for
 * the first packet and whenever a neighbour has to be looked at again. The prefix of each address is a route of its
 * own. Routes from router advertisements (RFC 4861 section 6.3.4) expire. */
#include <errno.h>

#include "stack/state.h"

#define UN_ANNOUNCEMENTS 2u              /* RFC 5227 section 2.3: ANNOUNCE_NUM */
#define UN_ANNOUNCE_INTERVAL_NS (2 * UN_SECOND_NS) /* ANNOUNCE_INTERVAL */
#define UN_ROUTER_SOLICITATIONS 3u              /* RFC 4861 section 10: MAX_RTR_SOLICITATIONS */
#define UN_SOLICITATION_INTERVAL_NS (4 * UN_SECOND_NS) /* RTR_SOLICITATION_INTERVAL */
#define UN_IPV6_LINK_PREFIX 64u

uint16_t un_path_mtu(const struct un_stack *stack, const struct un_ip *destination)
{
    uint16_t mtu = stack->device ? stack->device->capabilities.mtu : 1500;
    uint16_t link = stack->own->link_mtu;
    return link && link < mtu && !un_ip_is_v4(destination) ? link : mtu;
}

/* ---- addresses ---- */

/* 255.255.255.255, or the last address of a network of ours. */
bool un_address_is_broadcast(const struct un_stack *stack, const struct un_ip *ip)
{
    static const uint8_t ones[4] = {255, 255, 255, 255};
    if (!un_ip_is_v4(ip))
        return false;
    if (memcmp(un_ip_v4(ip), ones, 4) == 0)
        return true;
    for (uint32_t i = 0; i < stack->own->address_count; i++) {
        const struct un_address *address = &stack->own->addresses[i];
        if (!un_ip_is_v4(&address->ip) || address->prefix > 30 || !un_ip_in_prefix(ip, &address->ip, address->prefix))
            continue;
        uint32_t host = UINT32_MAX >> address->prefix;
        uint32_t value = (uint32_t)ip->bytes[12] << 24 | (uint32_t)ip->bytes[13] << 16 | (uint32_t)ip->bytes[14] << 8 |
                         ip->bytes[15];
        if ((value & host) == host)
            return true;
    }
    return false;
}

/* All hosts; all nodes and our solicited-node addresses (RFC 4291 section 2.7.1). */
bool un_address_is_group(const struct un_stack *stack, const struct un_ip *ip)
{
    static const uint8_t all_hosts[4] = {224, 0, 0, 1};
    static const uint8_t all_nodes[16] = {0xff, 2, [15] = 1};
    static const uint8_t solicited[13] = {0xff, 2, [11] = 1, [12] = 0xff};
    if (un_ip_is_v4(ip))
        return memcmp(un_ip_v4(ip), all_hosts, 4) == 0;
    if (memcmp(ip->bytes, all_nodes, 16) == 0)
        return true;
    if (memcmp(ip->bytes, solicited, 13) != 0)
        return false;
    for (uint32_t i = 0; i < stack->own->address_count; i++) {
        const struct un_ip *own = &stack->own->addresses[i].ip;
        if (!un_ip_is_v4(own) && memcmp(own->bytes + 13, ip->bytes + 13, 3) == 0)
            return true;
    }
    return false;
}

int un_stack_add_address(struct un_stack *stack, const struct un_ip *ip, uint8_t prefix)
{
    struct un_stack_memory *own = stack->own;
    if (un_ip_is_any(ip) || un_ip_is_multicast(ip) || prefix > (un_ip_is_v4(ip) ? 32 : 128))
        return -EINVAL;
    if (un_address_find(stack, ip) >= 0)
        return -EEXIST;
    if (own->address_count == UN_STACK_ADDRESSES_MAX)
        return -ENOSPC;
    own->addresses[own->address_count] =
        (struct un_address){.ip = *ip, .prefix = prefix, .announcements = UN_ANNOUNCEMENTS};
    un_compiler_fence();
    own->address_count++;
    own->addresses_next_ns = own->now_ns;
    un_neighbours_restamp(stack);
    return 0;
}

/* RFC 4291 appendix A: the link-local address that the MAC address gives. */
static void add_link_local(struct un_stack *stack)
{
    const uint8_t *mac = stack->device->capabilities.mac;
    struct un_ip ip = {{0xfe, 0x80, [8] = mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]}};
    un_stack_add_address(stack, &ip, UN_IPV6_LINK_PREFIX);
}

void un_addresses_attach(struct un_stack *stack)
{
    struct un_stack_memory *own = stack->own;
    add_link_local(stack);
    own->addresses_next_ns = own->now_ns;
    if (own->config.accept_router_advertisements)
        own->solicitation = (struct un_router_solicitation){own->now_ns, UN_ROUTER_SOLICITATIONS};
}

/* ---- routes ---- */

static int set_route(struct un_stack *stack, const struct un_route *route)
{
    struct un_route *place = NULL;
    for (uint32_t i = 0; i < UN_STACK_ROUTES_MAX; i++) {
        struct un_route *old = &stack->own->routes[i];
        if (old->is_used && old->prefix == route->prefix && un_ip_equal(&old->network, &route->network) &&
            un_ip_equal(&old->gateway, &route->gateway)) {
            old->expires_ns = route->expires_ns;
            return 0;
        }
        if (!old->is_used && !place)
            place = old;
    }
    if (!place)
        return -ENOSPC;
    *place = *route;
    un_compiler_fence();
    place->is_used = true;
    un_neighbours_restamp(stack);
    return 0;
}

bool un_stack_has_address(const struct un_stack *stack, const struct un_ip *ip)
{
    return un_address_find(stack, ip) >= 0;
}

int un_stack_add_route(struct un_stack *stack, const struct un_ip *network, uint8_t prefix, const struct un_ip *gateway)
{
    bool is_v4 = un_ip_is_v4(network);
    if (prefix > (is_v4 ? 32 : 128) || un_ip_is_v4(gateway) != is_v4 || un_ip_is_multicast(gateway))
        return -EINVAL;
    return set_route(stack, &(struct un_route){.network = *network, .gateway = *gateway, .prefix = prefix});
}

static bool is_on_link(const struct un_stack *stack, const struct un_ip *ip, int *prefix)
{
    bool found = false;
    for (uint32_t i = 0; i < stack->own->address_count; i++) {
        const struct un_address *address = &stack->own->addresses[i];
        if (address->prefix > *prefix && un_ip_in_prefix(ip, &address->ip, address->prefix)) {
            *prefix = address->prefix;
            found = true;
        }
    }
    return found;
}

/* The longest prefix; a connected network comes before a route that is as long. */
int un_route_find(const struct un_stack *stack, const struct un_ip *destination, struct un_ip *next_hop)
{
    int longest = -1;
    const struct un_route *best = NULL;
    if (un_ip_is_loopback(destination) || un_address_find(stack, destination) >= 0)
        return -EHOSTUNREACH;
    bool found = is_on_link(stack, destination, &longest);
    for (uint32_t i = 0; i < UN_STACK_ROUTES_MAX; i++) {
        const struct un_route *route = &stack->own->routes[i];
        if (route->is_used && route->prefix > longest &&
            un_ip_in_prefix(destination, &route->network, route->prefix)) {
            longest = route->prefix;
            best = route;
        }
    }
    if (!best && !found)
        return -EHOSTUNREACH;
    *next_hop = best && !un_ip_is_any(&best->gateway) ? best->gateway : *destination;
    return 0;
}

static int common_bits(const struct un_ip *left, const struct un_ip *right)
{
    int bits = 0;
    for (int i = 0; i < 16; i++, bits += 8) {
        uint8_t difference = left->bytes[i] ^ right->bytes[i];
        if (difference)
            return bits + __builtin_clz(difference) - 24;
    }
    return bits;
}

/* RFC 6724 section 5, as far as one interface needs it: same family, then same scope, then the longest common prefix; of
 * two that are equal the first. */
static int source_rank(const struct un_ip *candidate, const struct un_ip *destination)
{
    if (un_ip_is_v4(candidate) != un_ip_is_v4(destination))
        return -1;
    int rank = common_bits(candidate, destination);
    bool same_scope = un_ip_is_link_local(candidate) == un_ip_is_link_local(destination);
    if (!un_ip_is_v4(destination) && un_ip_is_multicast(destination))
        same_scope = un_ip_is_link_local(candidate) == ((destination->bytes[1] & 0xf) <= 2);
    return same_scope ? rank + 256 : rank;
}

int un_route_source(const struct un_stack *stack, const struct un_ip *destination)
{
    int best = -EHOSTUNREACH;
    int best_rank = -1;
    for (uint32_t i = 0; i < stack->own->address_count; i++) {
        int rank = source_rank(&stack->own->addresses[i].ip, destination);
        if (rank > best_rank) {
            best_rank = rank;
            best = (int)i;
        }
    }
    return best;
}

/* RFC 4861 section 6.3.4; a lifetime of 0 withdraws the route. */
void un_route_advertised(struct un_stack *stack, const struct un_ip *router, uint16_t lifetime_s)
{
    struct un_stack_memory *own = stack->own;
    struct un_route route = {.gateway = *router, .expires_ns = own->now_ns + lifetime_s * UN_SECOND_NS};
    own->solicitation.left = 0;
    if (lifetime_s == 0)
        route.expires_ns = own->now_ns;
    for (uint32_t i = 0; lifetime_s == 0 && i < UN_STACK_ROUTES_MAX; i++)
        if (own->routes[i].is_used && own->routes[i].expires_ns && un_ip_equal(&own->routes[i].gateway, router))
            own->routes[i].expires_ns = route.expires_ns;
    if (lifetime_s > 0)
        set_route(stack, &route);
    own->addresses_next_ns = un_min64(own->addresses_next_ns, route.expires_ns);
}

/* ---- what is due ---- */

static uint64_t expire_routes(struct un_stack *stack)
{
    uint64_t next = UINT64_MAX;
    for (uint32_t i = 0; i < UN_STACK_ROUTES_MAX; i++) {
        struct un_route *route = &stack->own->routes[i];
        if (!route->is_used || !route->expires_ns)
            continue;
        if (route->expires_ns > stack->own->now_ns) {
            next = un_min64(next, route->expires_ns);
            continue;
        }
        route->is_used = false;
        un_neighbours_restamp(stack);
    }
    return next;
}

/* One shard speaks for all. */
static uint64_t announce(struct un_stack *stack)
{
    uint64_t next = UINT64_MAX;
    if (stack->shards.shard != 0)
        return next;
    for (uint32_t i = 0; i < stack->own->address_count; i++) {
        struct un_address *address = &stack->own->addresses[i];
        if (address->announcements == 0)
            continue;
        un_address_announce(stack, &address->ip);
        if (--address->announcements > 0)
            next = stack->own->now_ns + UN_ANNOUNCE_INTERVAL_NS;
    }
    return next;
}

static uint64_t solicit(struct un_stack *stack)
{
    struct un_router_solicitation *solicitation = &stack->own->solicitation;
    if (stack->shards.shard != 0 || solicitation->left == 0)
        return UINT64_MAX;
    if (solicitation->next_ns <= stack->own->now_ns) {
        un_router_solicit(stack);
        solicitation->left--;
        solicitation->next_ns = stack->own->now_ns + UN_SOLICITATION_INTERVAL_NS;
    }
    return solicitation->left ? solicitation->next_ns : UINT64_MAX;
}

void un_addresses_run(struct un_stack *stack)
{
    uint64_t next = expire_routes(stack);
    next = un_min64(next, announce(stack));
    stack->own->addresses_next_ns = un_min64(next, solicit(stack));
}
