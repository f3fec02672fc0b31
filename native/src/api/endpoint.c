/* Addresses of the API are those of the stack in another form. */
#include "api/view.h"

#include <string.h>

struct un_ip un_api_ip(const struct usnet_endpoint *endpoint)
{
    static const struct un_ip any;
    if (endpoint->family == 4)
        return un_ip_from_v4(endpoint->ip);
    return endpoint->family == 6 ? un_ip_from_v6(endpoint->ip) : any;
}

struct un_stack_peer un_api_peer(const struct usnet_endpoint *endpoint)
{
    return (struct un_stack_peer){.ip = un_api_ip(endpoint), .port = endpoint->port};
}

struct usnet_endpoint un_api_endpoint(const struct un_stack_peer *peer)
{
    struct usnet_endpoint endpoint = {.port = peer->port};
    if (un_ip_is_v4(&peer->ip)) {
        endpoint.family = 4;
        memcpy(endpoint.ip, un_ip_v4(&peer->ip), 4);
    } else {
        endpoint.family = 6;
        memcpy(endpoint.ip, peer->ip.bytes, 16);
    }
    return endpoint;
}
