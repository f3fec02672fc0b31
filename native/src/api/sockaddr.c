/* The system's socket addresses and the stack's. */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "api/context.h"

int un_peer_from_sockaddr(struct un_stack_peer *peer, uint8_t domain, const struct sockaddr *address, uint32_t length)
{
    if (!address || length < sizeof address->sa_family)
        return -EINVAL;
    if (address->sa_family != domain)
        return -EAFNOSUPPORT;
    if (domain == AF_INET) {
        struct sockaddr_in ipv4;
        if (length < sizeof ipv4)
            return -EINVAL;
        memcpy(&ipv4, address, sizeof ipv4);
        *peer = (struct un_stack_peer){.ip = un_ip_from_v4((const uint8_t *)&ipv4.sin_addr), .port = ntohs(ipv4.sin_port)};
        return 0;
    }
    struct sockaddr_in6 ipv6;
    if (length < sizeof ipv6)
        return -EINVAL;
    memcpy(&ipv6, address, sizeof ipv6);
    *peer = (struct un_stack_peer){.ip = un_ip_from_v6(ipv6.sin6_addr.s6_addr), .port = ntohs(ipv6.sin6_port)};
    return 0;
}

/* As the system does: what does not fit is cut, and the length says how long it would be. */
int un_peer_to_sockaddr(const struct un_stack_peer *peer, uint8_t domain, struct sockaddr *address, uint32_t *length)
{
    struct sockaddr_in ipv4 = {.sin_family = AF_INET, .sin_port = htons(peer->port)};
    struct sockaddr_in6 ipv6 = {.sin6_family = AF_INET6, .sin6_port = htons(peer->port)};
    if (!address || !length)
        return address ? -EFAULT : 0;
    memcpy(&ipv4.sin_addr, un_ip_v4(&peer->ip), 4);
    memcpy(ipv6.sin6_addr.s6_addr, peer->ip.bytes, 16);
    uint32_t needed = domain == AF_INET ? sizeof ipv4 : sizeof ipv6;
    memcpy(address, domain == AF_INET ? (const void *)&ipv4 : &ipv6, *length < needed ? *length : needed);
    *length = needed;
    return 0;
}
