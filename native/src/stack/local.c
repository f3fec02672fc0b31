/* See local.h. */
#include "stack/local.h"

/* 255.255.255.255, or the last address of a network that we have an address in. */
bool un_address_is_broadcast(const struct un_stack *stack, const struct un_ip *ip)
{
    static const uint8_t ones[4] = {255, 255, 255, 255};
    if (!un_ip_is_v4(ip))
        return false;
    if (memcmp(un_ip_v4(ip), ones, 4) == 0)
        return true;
    for (uint32_t i = 0; i < stack->own->address_count; i++) {
        const struct un_address *address = &stack->own->addresses[i];
        bool is_used = un_ip_is_v4(&address->ip) && address->state != UN_ADDRESS_TAKEN;
        if (!is_used || address->prefix > 30 || !un_ip_in_prefix(ip, &address->ip, address->prefix))
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
    static const struct un_ip all_nodes = {{0xff, 2, [15] = 1}};
    if (un_ip_is_v4(ip))
        return memcmp(un_ip_v4(ip), all_hosts, 4) == 0;
    if (un_ip_equal(ip, &all_nodes))
        return true;
    for (uint32_t i = 0; i < stack->own->address_count; i++) {
        const struct un_ip *own = &stack->own->addresses[i].ip;
        struct un_ip group = un_ip_solicited_node(own);
        if (!un_ip_is_v4(own) && un_ip_equal(ip, &group))
            return true;
    }
    return false;
}

bool un_stack_has_address(const struct un_stack *stack, const struct un_ip *ip)
{
    return un_address_find(stack, ip) >= 0;
}

/* RFC 1122 section 3.2.1.3, RFC 4291: what cannot be where a packet comes from. */
bool un_can_be_source(const struct un_stack *stack, const struct un_ip *ip)
{
    return !un_ip_is_any(ip) && !un_ip_is_multicast(ip) && !un_ip_is_loopback(ip) &&
           !un_address_is_broadcast(stack, ip) && un_address_find(stack, ip) < 0;
}
