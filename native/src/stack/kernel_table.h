/* What the kernel knows of an interface that a stack shares with it: usnet_kernel.h says who writes and who reads.
 *
 * There are two copies. With `changes` the number of tables that were written, that number's parity says which copy is
 * the newest one; the writer fills the other one, and then counts on. A reader takes what it needs out of the newest
 * copy and looks whether `changes` is still the same: a second table may have begun to overwrite what it read. Then it
 * tries again, a bounded number of times. It would take a table for each try, written while a few words are read; who
 * has so bad luck finds nothing, and looks again when it sees that there is a newer table. Nobody waits, so a writer
 * that dies in the middle leaves the last table.
 *
 * All words are atomic, so that reading what is being overwritten means something. */
#ifndef UN_KERNEL_TABLE_H
#define UN_KERNEL_TABLE_H

#include "base/barrier.h"
#include "base/list.h"
#include "wire/ip.h"

#define UN_KERNEL_ADDRESSES_MAX 16u
#define UN_KERNEL_ROUTES_MAX 256u
#define UN_KERNEL_NEIGHBOURS_MAX 4096u
#define UN_KERNEL_NOT_NOW UINT64_MAX /* what cannot be read while several tables are written */

struct un_kernel_address_words {
    un_shared64 ip[2];
    un_shared64 prefix;
};

struct un_kernel_route_words {
    un_shared64 network[2];
    un_shared64 gateway[2];
    un_shared64 prefix_and_elsewhere; /* bit 8: elsewhere */
};

struct un_kernel_neighbour_words {
    un_shared64 ip[2];
    un_shared64 mac;
};

struct un_kernel_copy {
    un_shared64 route_changes; /* how many tables, up to this one, had other routes than the one before */
    un_shared64 address_count;
    un_shared64 route_count;
    un_shared64 neighbour_count;
    struct un_kernel_address_words addresses[UN_KERNEL_ADDRESSES_MAX];
    struct un_kernel_route_words routes[UN_KERNEL_ROUTES_MAX];             /* the best first */
    struct un_kernel_neighbour_words neighbours[UN_KERNEL_NEIGHBOURS_MAX]; /* by the words of their addresses */
};

struct un_kernel_table {
    un_shared64 changes;
    struct un_kernel_copy copies[2];
};

struct un_kernel_address {
    struct un_ip ip;
    uint8_t prefix;
};

struct un_kernel_route {
    struct un_ip network;
    struct un_ip gateway; /* all zeros: none */
    uint8_t prefix;
    bool is_elsewhere;
};

struct un_kernel_neighbour {
    struct un_ip ip;
    uint8_t mac[UN_MAC_BYTES];
};

/* All that is to stand in a table; neighbours are sorted in place. */
struct un_kernel_news {
    const struct un_kernel_address *addresses;
    const struct un_kernel_route *routes;
    struct un_kernel_neighbour *neighbours;
    uint32_t address_count;
    uint32_t route_count;
    uint32_t neighbour_count;
};

/* There is room for all of it. */
void un_kernel_write(struct un_kernel_table *table, const struct un_kernel_news *news);

static inline uint64_t un_kernel_changes(const struct un_kernel_table *table)
{
    return un_observe(&table->changes);
}

/* Another number when there are other routes; UN_KERNEL_NOT_NOW. */
uint64_t un_kernel_route_changes(const struct un_kernel_table *table);

/* How many, into an array with room for all; UN_NONE: not now. */
uint32_t un_kernel_addresses(const struct un_kernel_table *table, struct un_kernel_address *addresses);

/* The same with routes: the best first. */
uint32_t un_kernel_routes(const struct un_kernel_table *table, struct un_kernel_route *routes);

/* 0, or -EHOSTUNREACH. */
int un_kernel_route(const struct un_kernel_table *table, const struct un_ip *destination, struct un_ip *next_hop);

/* false: it is not known. */
bool un_kernel_neighbour(const struct un_kernel_table *table, const struct un_ip *ip, uint8_t *mac);

#endif
