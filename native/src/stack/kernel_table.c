/* See kernel_table.h. */
#include "stack/kernel_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

#define UN_KERNEL_TRIES 4u
#define UN_KERNEL_ELSEWHERE 0x100u

/* ---- words ---- */

static void store_ip(un_shared64 *words, const struct un_ip *ip)
{
    struct un_ip_words value = un_ip_words(ip);
    un_store(&words[0], value.first);
    un_store(&words[1], value.second);
}

static struct un_ip load_ip(const un_shared64 *words)
{
    struct un_ip ip;
    struct un_ip_words value = {un_load(&words[0]), un_load(&words[1])};
    memcpy(ip.bytes, &value, sizeof value);
    return ip;
}

/* Any order does, as long as both sides have the same. */
static int compare_words(struct un_ip_words left, struct un_ip_words right)
{
    if (left.first != right.first)
        return left.first < right.first ? -1 : 1;
    return left.second == right.second ? 0 : left.second < right.second ? -1 : 1;
}

static int compare_neighbours(const void *left, const void *right)
{
    const struct un_kernel_neighbour *a = left, *b = right;
    return compare_words(un_ip_words(&a->ip), un_ip_words(&b->ip));
}

/* ---- written ---- */

static void store_addresses(struct un_kernel_copy *copy, const struct un_kernel_news *news)
{
    for (uint32_t i = 0; i < news->address_count; i++) {
        store_ip(copy->addresses[i].ip, &news->addresses[i].ip);
        un_store(&copy->addresses[i].prefix, news->addresses[i].prefix);
    }
    un_store(&copy->address_count, news->address_count);
}

static uint64_t prefix_and_elsewhere(const struct un_kernel_route *route)
{
    return route->prefix | (route->is_elsewhere ? UN_KERNEL_ELSEWHERE : 0);
}

static bool is_route(const struct un_kernel_route_words *words, const struct un_kernel_route *route)
{
    const struct un_ip network = load_ip(words->network), gateway = load_ip(words->gateway);
    return un_ip_equal(&network, &route->network) && un_ip_equal(&gateway, &route->gateway) &&
           un_load(&words->prefix_and_elsewhere) == prefix_and_elsewhere(route);
}

static bool has_routes(const struct un_kernel_copy *copy, const struct un_kernel_news *news)
{
    bool is_same = un_load(&copy->route_count) == news->route_count;
    for (uint32_t i = 0; i < news->route_count && is_same; i++)
        is_same = is_route(&copy->routes[i], &news->routes[i]);
    return is_same;
}

static void store_routes(struct un_kernel_copy *copy, const struct un_kernel_copy *last,
                         const struct un_kernel_news *news)
{
    un_store(&copy->route_changes, un_load(&last->route_changes) + !has_routes(last, news));
    for (uint32_t i = 0; i < news->route_count; i++) {
        const struct un_kernel_route *route = &news->routes[i];
        store_ip(copy->routes[i].network, &route->network);
        store_ip(copy->routes[i].gateway, &route->gateway);
        un_store(&copy->routes[i].prefix_and_elsewhere, prefix_and_elsewhere(route));
    }
    un_store(&copy->route_count, news->route_count);
}

static void store_neighbours(struct un_kernel_copy *copy, const struct un_kernel_news *news)
{
    for (uint32_t i = 0; i < news->neighbour_count; i++) {
        uint64_t mac = 0;
        memcpy(&mac, news->neighbours[i].mac, UN_MAC_BYTES);
        store_ip(copy->neighbours[i].ip, &news->neighbours[i].ip);
        un_store(&copy->neighbours[i].mac, mac);
    }
    un_store(&copy->neighbour_count, news->neighbour_count);
}

void un_kernel_write(struct un_kernel_table *table, const struct un_kernel_news *news)
{
    uint64_t changes = un_load(&table->changes);
    struct un_kernel_copy *copy = &table->copies[(changes + 1) & 1];
    un_assert(news->address_count <= UN_KERNEL_ADDRESSES_MAX && news->route_count <= UN_KERNEL_ROUTES_MAX &&
              news->neighbour_count <= UN_KERNEL_NEIGHBOURS_MAX);
    if (news->neighbour_count > 0)
        qsort(news->neighbours, news->neighbour_count, sizeof *news->neighbours, compare_neighbours);
    un_fence(); /* who sees a word of what follows sees that this copy is not the newest one any more */
    store_addresses(copy, news);
    store_routes(copy, &table->copies[changes & 1], news);
    store_neighbours(copy, news);
    un_publish(&table->changes, changes + 1);
}

/* ---- read ---- */

static const struct un_kernel_copy *newest(const struct un_kernel_table *table, uint64_t *changes)
{
    *changes = un_observe(&table->changes);
    return &table->copies[*changes & 1];
}

/* Whatever stands there. */
static uint32_t count_of(const un_shared64 *word, uint32_t most)
{
    uint64_t count = un_load(word);
    return count < most ? (uint32_t)count : most;
}

/* What was read since `newest` is of one table. */
static bool is_whole(const struct un_kernel_table *table, uint64_t changes)
{
    un_fence();
    return un_load(&table->changes) == changes;
}

uint32_t un_kernel_addresses(const struct un_kernel_table *table, struct un_kernel_address *addresses)
{
    for (uint32_t try = 0; try < UN_KERNEL_TRIES; try++) {
        uint64_t changes;
        const struct un_kernel_copy *copy = newest(table, &changes);
        uint32_t count = count_of(&copy->address_count, UN_KERNEL_ADDRESSES_MAX);
        for (uint32_t i = 0; i < count; i++)
            addresses[i] = (struct un_kernel_address){.ip = load_ip(copy->addresses[i].ip),
                                                      .prefix = (uint8_t)un_load(&copy->addresses[i].prefix)};
        if (is_whole(table, changes))
            return count;
    }
    return UN_NONE;
}

uint32_t un_kernel_routes(const struct un_kernel_table *table, struct un_kernel_route *routes)
{
    for (uint32_t try = 0; try < UN_KERNEL_TRIES; try++) {
        uint64_t changes;
        const struct un_kernel_copy *copy = newest(table, &changes);
        uint32_t count = count_of(&copy->route_count, UN_KERNEL_ROUTES_MAX);
        for (uint32_t i = 0; i < count; i++) {
            const struct un_kernel_route_words *route = &copy->routes[i];
            uint64_t prefix = un_load(&route->prefix_and_elsewhere);
            routes[i] = (struct un_kernel_route){.network = load_ip(route->network),
                                                 .gateway = load_ip(route->gateway),
                                                 .prefix = (uint8_t)prefix,
                                                 .is_elsewhere = (prefix & UN_KERNEL_ELSEWHERE) != 0};
        }
        if (is_whole(table, changes))
            return count;
    }
    return UN_NONE;
}

uint64_t un_kernel_route_changes(const struct un_kernel_table *table)
{
    for (uint32_t try = 0; try < UN_KERNEL_TRIES; try++) {
        uint64_t changes, route_changes = un_load(&newest(table, &changes)->route_changes);
        if (is_whole(table, changes))
            return route_changes;
    }
    return UN_KERNEL_NOT_NOW;
}

/* Network and prefix may be of two tables, before it is known that they are of one. */
static bool lies_in(const struct un_ip *destination, const struct un_ip *network, uint8_t prefix)
{
    return prefix <= (un_ip_is_v4(network) ? 32 : 128) && un_ip_in_prefix(destination, network, prefix);
}

static int find_route(const struct un_kernel_copy *copy, const struct un_ip *destination, struct un_ip *next_hop)
{
    uint32_t count = count_of(&copy->route_count, UN_KERNEL_ROUTES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        const struct un_kernel_route_words *route = &copy->routes[i];
        const struct un_ip network = load_ip(route->network), gateway = load_ip(route->gateway);
        uint64_t prefix = un_load(&route->prefix_and_elsewhere);
        if (!lies_in(destination, &network, (uint8_t)prefix))
            continue;
        *next_hop = un_ip_is_any(&gateway) ? *destination : gateway;
        return prefix & UN_KERNEL_ELSEWHERE ? -EHOSTUNREACH : 0;
    }
    return -EHOSTUNREACH;
}

int un_kernel_route(const struct un_kernel_table *table, const struct un_ip *destination, struct un_ip *next_hop)
{
    for (uint32_t try = 0; try < UN_KERNEL_TRIES; try++) {
        uint64_t changes;
        int result = find_route(newest(table, &changes), destination, next_hop);
        if (is_whole(table, changes))
            return result;
    }
    return -EHOSTUNREACH;
}

/* Where it stands, or would. */
static uint32_t place_of(const struct un_kernel_copy *copy, struct un_ip_words ip, uint32_t count)
{
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const un_shared64 *words = copy->neighbours[middle].ip;
        if (compare_words((struct un_ip_words){un_load(&words[0]), un_load(&words[1])}, ip) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool find_neighbour(const struct un_kernel_copy *copy, const struct un_ip *ip, uint8_t *mac)
{
    uint32_t count = count_of(&copy->neighbour_count, UN_KERNEL_NEIGHBOURS_MAX);
    uint32_t at = place_of(copy, un_ip_words(ip), count);
    if (at == count)
        return false;
    const struct un_ip found = load_ip(copy->neighbours[at].ip);
    uint64_t word = un_load(&copy->neighbours[at].mac);
    memcpy(mac, &word, UN_MAC_BYTES);
    return un_ip_equal(&found, ip);
}

bool un_kernel_neighbour(const struct un_kernel_table *table, const struct un_ip *ip, uint8_t *mac)
{
    for (uint32_t try = 0; try < UN_KERNEL_TRIES; try++) {
        uint64_t changes;
        bool is_found = find_neighbour(newest(table, &changes), ip, mac);
        if (is_whole(table, changes))
            return is_found;
    }
    return false;
}
