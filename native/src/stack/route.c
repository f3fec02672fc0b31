/* Ways to others: which next hop, from which address of ours.
 *
 * The tables are small and searched in a row; connections remember their next hop (output.c), so a search is made for
 * the first packet and whenever a neighbour has to be looked at again. The prefix of each address is a route of its
 * own. Routes from router advertisements (RFC 4861 section 6.3.4) expire, take up half of the table at most, and of
 * several that are as good one whose router answers is taken (section 6.3.6). Of shared addresses all of them are the
 * kernel's. */
#include "stack/route.h"

#include <errno.h>

#include "stack/kernel_table.h"
#include "stack/local.h"
#include "stack/neighbour_table.h"

#define UN_ADVERTISED_MAX (UN_STACK_ROUTES_MAX / 2) /* RFC 4861 section 6.3.4: two at least; the rest is the user's */

/* ---- routes ---- */

/* The same route, or NULL and in *place a free place for it, if there is one. */
static struct un_route *find_route(struct un_stack *stack, const struct un_route *route, struct un_route **place)
{
    uint32_t advertised = 0;
    *place = NULL;
    for (uint32_t i = 0; i < UN_STACK_ROUTES_MAX; i++) {
        struct un_route *old = &stack->own->routes[i];
        if (!old->is_used) {
            *place = *place ? *place : old;
            continue;
        }
        advertised += old->expires_ns != 0;
        if (old->prefix == route->prefix && un_ip_equal(&old->network, &route->network) &&
            un_ip_equal(&old->gateway, &route->gateway))
            return old;
    }
    if (route->expires_ns && advertised >= UN_ADVERTISED_MAX)
        *place = NULL;
    return NULL;
}

/* One that never expires stays so, whatever its router says. */
static int set_route(struct un_stack *stack, const struct un_route *route)
{
    struct un_route *place, *old = find_route(stack, route, &place);
    if (old) {
        old->expires_ns = old->expires_ns ? route->expires_ns : 0;
        return 0;
    }
    if (!place)
        return -ENOSPC;
    *place = *route;
    un_compiler_fence();
    place->is_used = true;
    un_neighbours_restamp(stack);
    return 0;
}

/* In the prefix of an address or of a route that needs no gateway; whether another station claims the address at the
 * moment does not matter, since routes outlive that. IPv6 link-local ones are on every link (RFC 4291
 * section 2.5.6). */
static bool can_be_next_hop(const struct un_stack *stack, const struct un_ip *gateway)
{
    const struct un_stack_memory *own = stack->own;
    if (!un_ip_is_v4(gateway) && un_ip_is_link_local(gateway))
        return true;
    for (uint32_t i = 0; i < own->address_count; i++)
        if (un_ip_in_prefix(gateway, &own->addresses[i].ip, own->addresses[i].prefix))
            return true;
    for (uint32_t i = 0; i < UN_STACK_ROUTES_MAX; i++) {
        const struct un_route *route = &own->routes[i];
        if (route->is_used && un_ip_is_any(&route->gateway) && un_ip_in_prefix(gateway, &route->network, route->prefix))
            return true;
    }
    return false;
}

int un_stack_add_route(struct un_stack *stack, const struct un_ip *network, uint8_t prefix, const struct un_ip *gateway)
{
    bool is_v4 = un_ip_is_v4(network);
    if (un_is_shared(stack))
        return -EOPNOTSUPP;
    if (prefix > (is_v4 ? 32 : 128) || un_ip_is_v4(gateway) != is_v4 || un_ip_is_multicast(gateway) ||
        un_address_claimed(stack, gateway) >= 0)
        return -EINVAL;
    if (!un_ip_is_any(gateway) && !can_be_next_hop(stack, gateway))
        return -ENETUNREACH;
    return set_route(stack, &(struct un_route){.network = *network, .gateway = *gateway, .prefix = prefix});
}

static bool is_on_link(const struct un_stack *stack, const struct un_ip *ip, int *prefix)
{
    bool found = false;
    for (uint32_t i = 0; i < stack->own->address_count; i++) {
        const struct un_address *address = &stack->own->addresses[i];
        if (address->state != UN_ADDRESS_TAKEN && address->prefix > *prefix &&
            un_ip_in_prefix(ip, &address->ip, address->prefix)) {
            *prefix = address->prefix;
            found = true;
        }
    }
    return found;
}

/* Its router was asked for and did not answer. */
static bool is_silent(struct un_stack *stack, const struct un_route *route)
{
    const struct un_neighbour *router = un_neighbour_find(stack, &route->gateway);
    return router && router->state == UN_NEIGHBOUR_FAILED;
}

/* The longest prefix; a connected network comes before a route that is as long. */
int un_route_find(struct un_stack *stack, const struct un_ip *destination, struct un_ip *next_hop)
{
    int longest = -1;
    const struct un_route *best = NULL;
    if (un_ip_is_loopback(destination) || un_address_find(stack, destination) >= 0)
        return -EHOSTUNREACH;
    if (un_is_shared(stack))
        return stack->kernel ? un_kernel_route(stack->kernel, destination, next_hop) : -EHOSTUNREACH;
    bool found = is_on_link(stack, destination, &longest);
    for (uint32_t i = 0; i < UN_STACK_ROUTES_MAX; i++) {
        const struct un_route *route = &stack->own->routes[i];
        if (!route->is_used || !un_ip_in_prefix(destination, &route->network, route->prefix))
            continue;
        bool is_longer = route->prefix > longest;
        bool is_better = best && route->prefix == longest && is_silent(stack, best) && !is_silent(stack, route);
        if (is_longer || is_better) {
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

/* RFC 6724 section 5, as far as one interface needs it: same family, then same scope, then the longest common prefix;
 * of two that are equal the first. */
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
        const struct un_address *address = &stack->own->addresses[i];
        int rank = address->state == UN_ADDRESS_TAKEN ? -1 : source_rank(&address->ip, destination);
        if (rank > best_rank) {
            best_rank = rank;
            best = (int)i;
        }
    }
    return best;
}

/* RFC 4861 section 6.3.4; a lifetime of 0 withdraws the route, and is no answer to who looks for a router (6.3.7). */
void un_route_advertised(struct un_stack *stack, const struct un_ip *router, uint16_t lifetime_s)
{
    struct un_stack_memory *own = stack->own;
    struct un_route route = {.gateway = *router, .expires_ns = own->now_ns + lifetime_s * UN_SECOND_NS};
    for (uint32_t i = 0; lifetime_s == 0 && i < UN_STACK_ROUTES_MAX; i++)
        if (own->routes[i].is_used && own->routes[i].expires_ns && un_ip_equal(&own->routes[i].gateway, router))
            own->routes[i].expires_ns = route.expires_ns;
    if (lifetime_s > 0 && set_route(stack, &route) == 0)
        own->solicitation.left = 0;
    own->addresses_next_ns = un_min64(own->addresses_next_ns, route.expires_ns);
}
