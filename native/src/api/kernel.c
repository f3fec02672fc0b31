/* The exported symbols of what a kernel knows of a shared interface: see usnet_kernel.h. */
#include "usnet_kernel.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "api/view.h"
#include "stack/kernel_table.h"

UN_API_SAME(USNET_KERNEL_ADDRESSES_MAX, UN_KERNEL_ADDRESSES_MAX);
UN_API_SAME(USNET_KERNEL_ROUTES_MAX, UN_KERNEL_ROUTES_MAX);
UN_API_SAME(USNET_KERNEL_NEIGHBOURS_MAX, UN_KERNEL_NEIGHBOURS_MAX);

uint64_t usnet_kernel_table_bytes(void)
{
    return sizeof(struct un_kernel_table);
}

static uint32_t least(uint32_t count, uint32_t most)
{
    return count < most ? count : most;
}

static bool is_prefix(const struct un_ip *ip, uint32_t prefix)
{
    return prefix <= (un_ip_is_v4(ip) ? 32u : 128u);
}

static int read_addresses(const struct usnet_kernel_address *from, struct un_kernel_address *to, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        to[i] = (struct un_kernel_address){.ip = un_ip_from_v6(from[i].ip), .prefix = (uint8_t)from[i].prefix};
        if (!is_prefix(&to[i].ip, from[i].prefix))
            return -EINVAL;
    }
    return 0;
}

static int read_routes(const struct usnet_kernel_route *from, struct un_kernel_route *to, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        to[i] = (struct un_kernel_route){.network = un_ip_from_v6(from[i].network),
                                         .gateway = un_ip_from_v6(from[i].gateway),
                                         .prefix = (uint8_t)from[i].prefix,
                                         .is_elsewhere = from[i].elsewhere != 0};
        if (!is_prefix(&to[i].network, from[i].prefix))
            return -EINVAL;
    }
    return 0;
}

static void read_neighbours(const struct usnet_kernel_neighbour *from, struct un_kernel_neighbour *to, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        to[i].ip = un_ip_from_v6(from[i].ip);
        memcpy(to[i].mac, from[i].mac, UN_MAC_BYTES);
    }
}

/* What is read before any of it is written. */
struct room {
    struct un_kernel_address addresses[UN_KERNEL_ADDRESSES_MAX];
    struct un_kernel_route routes[UN_KERNEL_ROUTES_MAX];
    struct un_kernel_neighbour neighbours[UN_KERNEL_NEIGHBOURS_MAX];
};

int usnet_kernel_table_write(void *memory, const struct usnet_kernel_address *addresses, uint32_t address_count,
                             const struct usnet_kernel_route *routes, uint32_t route_count,
                             const struct usnet_kernel_neighbour *neighbours, uint32_t neighbour_count)
{
    if (!memory || (!addresses && address_count) || (!routes && route_count) || (!neighbours && neighbour_count))
        return -EFAULT;
    struct room *room = malloc(sizeof *room);
    if (!room)
        return -ENOMEM;
    const struct un_kernel_news news = {
        .addresses = room->addresses,
        .routes = room->routes,
        .neighbours = room->neighbours,
        .address_count = least(address_count, UN_KERNEL_ADDRESSES_MAX),
        .route_count = least(route_count, UN_KERNEL_ROUTES_MAX),
        .neighbour_count = least(neighbour_count, UN_KERNEL_NEIGHBOURS_MAX),
    };
    int status = read_addresses(addresses, room->addresses, news.address_count);
    if (status == 0)
        status = read_routes(routes, room->routes, news.route_count);
    if (status == 0) {
        read_neighbours(neighbours, room->neighbours, news.neighbour_count);
        un_kernel_write(memory, &news);
        status = (int)(address_count - news.address_count + route_count - news.route_count + neighbour_count -
                       news.neighbour_count);
    }
    free(room);
    return status;
}

int usnet_stack_share(struct usnet_stack *stack, const void *table)
{
    if (!stack || !table)
        return -EFAULT;
    if (!stack->inner.config->shared)
        return -EINVAL;
    un_stack_share(&stack->inner, table);
    return 0;
}

int usnet_stack_follow(struct usnet_stack *stack)
{
    if (!stack)
        return -EFAULT;
    un_stack_follow(&stack->inner);
    return 0;
}

int usnet_stack_question(struct usnet_stack *stack, struct usnet_endpoint *wanted)
{
    struct un_stack_peer peer = {.port = 0};
    if (!stack || !wanted)
        return -EFAULT;
    if (!un_stack_next_question(&stack->inner, &peer.ip))
        return 0;
    *wanted = un_api_endpoint(&peer);
    return 1;
}
