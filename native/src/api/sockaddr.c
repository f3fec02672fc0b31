/* The system's socket addresses and the stack's. */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "api/context.h"

int un_peer_from_sockaddr(struct un_stack_peer *peer, uint8_t domain, const struct sockaddr *address, uint32_t length)
{
    uint32_t needed = domain == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    sa_family_t family;
    if (!address)
        return -EFAULT;
    if (length < needed)
        return -EINVAL;
    memcpy(&family, &address->sa_family, sizeof family);
    if (family != domain)
        return -EAFNOSUPPORT;
    if (domain == AF_INET) {
        struct sockaddr_in ipv4;
        memcpy(&ipv4, address, sizeof ipv4);
        *peer = (struct un_stack_peer){un_ip_from_v4((const uint8_t *)&ipv4.sin_addr), ntohs(ipv4.sin_port)};
    } else {
        struct sockaddr_in6 ipv6;
        memcpy(&ipv6, address, sizeof ipv6);
        *peer = (struct un_stack_peer){un_ip_from_v6(ipv6.sin6_addr.s6_addr), ntohs(ipv6.sin6_port)};
    }
    return 0;
}

bool un_is_unspecified(const struct sockaddr *address, uint32_t length)
{
    sa_family_t family = AF_INET;
    if (address && length >= sizeof family)
        memcpy(&family, &address->sa_family, sizeof family);
    return family == AF_UNSPEC;
}

/* As the system does: what does not fit is cut, and the length says how long it would be. */
void un_peer_to_sockaddr(const struct un_stack_peer *peer, uint8_t domain, struct sockaddr *address, uint32_t *length)
{
    struct sockaddr_in ipv4 = {.sin_family = AF_INET, .sin_port = htons(peer->port)};
    struct sockaddr_in6 ipv6 = {.sin6_family = AF_INET6, .sin6_port = htons(peer->port)};
    memcpy(&ipv4.sin_addr, un_ip_v4(&peer->ip), 4);
    memcpy(ipv6.sin6_addr.s6_addr, peer->ip.bytes, 16);
    uint32_t needed = domain == AF_INET ? sizeof ipv4 : sizeof ipv6;
    memcpy(address, domain == AF_INET ? (const void *)&ipv4 : &ipv6, *length < needed ? *length : needed);
    *length = needed;
}
