/* The kernel's table: what is found in it, against a naive oracle; that what is read is of one table, whenever others
 * are written meanwhile; and that a writer that dies in the middle leaves the last one.
 *
 * The table's code stands in here with a load that a writer may come before, so that he comes everywhere. */
#include "base/barrier.h"

static void before_load(void);

static uint64_t plain_load(const un_shared64 *word)
{
    return un_load(word);
}

#undef un_load
#define un_load(word) (before_load(), plain_load(word))

#include "stack/kernel_table.c"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "../check.h"

static struct un_kernel_table table;
static struct un_kernel_address addresses[UN_KERNEL_ADDRESSES_MAX];
static struct un_kernel_route routes[UN_KERNEL_ROUTES_MAX];
static struct un_kernel_neighbour neighbours[UN_KERNEL_NEIGHBOURS_MAX];

static struct un_ip v4(uint8_t a, uint8_t b, uint8_t c, uint8_t d)
{
    const uint8_t bytes[4] = {a, b, c, d};
    return un_ip_from_v4(bytes);
}

static void write(uint32_t address_count, uint32_t route_count, uint32_t neighbour_count)
{
    const struct un_kernel_news news = {addresses,   routes,          neighbours,
                                        address_count, route_count, neighbour_count};
    un_kernel_write(&table, &news);
}

static void nothing_is_in_an_empty_table(void)
{
    const struct un_ip ip = v4(10, 0, 0, 1);
    struct un_ip next_hop;
    uint8_t mac[UN_MAC_BYTES];
    CHECK_EQ(un_kernel_addresses(&table, addresses), 0);
    CHECK_EQ(un_kernel_route(&table, &ip, &next_hop), -EHOSTUNREACH);
    CHECK(!un_kernel_neighbour(&table, &ip, mac));
    CHECK_EQ(un_kernel_changes(&table), 0);
}

static void the_first_route_that_fits_is_taken(void)
{
    const struct un_ip near = v4(10, 0, 0, 9), far = v4(192, 0, 2, 1), closed = v4(172, 16, 0, 1);
    const struct un_ip router = v4(10, 0, 0, 254), six = {{0xfd, [15] = 1}};
    struct un_ip next_hop;
    routes[0] = (struct un_kernel_route){.network = v4(10, 0, 0, 0), .prefix = 24};
    routes[1] = (struct un_kernel_route){.network = v4(172, 16, 0, 0), .prefix = 12, .is_elsewhere = true};
    routes[2] = (struct un_kernel_route){.network = v4(0, 0, 0, 0), .gateway = router};
    routes[3] = (struct un_kernel_route){.network = v4(0, 0, 0, 0), .gateway = v4(10, 0, 0, 253)};
    write(0, 4, 0);
    CHECK_EQ(un_kernel_changes(&table), 1);
    CHECK(un_kernel_route(&table, &near, &next_hop) == 0 && un_ip_equal(&next_hop, &near));
    CHECK(un_kernel_route(&table, &far, &next_hop) == 0 && un_ip_equal(&next_hop, &router));
    CHECK_EQ(un_kernel_route(&table, &closed, &next_hop), -EHOSTUNREACH);
    CHECK_EQ(un_kernel_route(&table, &six, &next_hop), -EHOSTUNREACH);
}

static void other_routes_have_another_number(void)
{
    write(1, 4, 1);
    uint64_t number = un_kernel_route_changes(&table);
    write(1, 4, 2);
    CHECK_EQ(un_kernel_route_changes(&table), number);
    routes[2].prefix = 1;
    write(1, 4, 2);
    CHECK_EQ(un_kernel_route_changes(&table), number + 1);
    write(1, 3, 2);
    CHECK_EQ(un_kernel_route_changes(&table), number + 2);
    write(1, 3, 0);
    CHECK_EQ(un_kernel_route_changes(&table), number + 2);
}

static struct un_ip neighbour_ip(uint32_t number)
{
    uint32_t mixed = number * 2654435761u; /* in no order */
    struct un_ip ip = v4(10, (uint8_t)(mixed >> 24), (uint8_t)(mixed >> 16), (uint8_t)(mixed >> 8));
    if (number & 1)
        ip = (struct un_ip){{0xfe, 0x80, [12] = (uint8_t)(mixed >> 24), (uint8_t)(mixed >> 16), (uint8_t)(mixed >> 8),
                             (uint8_t)mixed}};
    return ip;
}

static void find_neighbours(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        neighbours[i] = (struct un_kernel_neighbour){.ip = neighbour_ip(i),
                                                     .mac = {2, 0, 0, 0, (uint8_t)(i >> 8), (uint8_t)i}};
    write(0, 0, count);
    for (uint32_t i = 0; i < count; i++) {
        const struct un_ip ip = neighbour_ip(i);
        const uint8_t expected[UN_MAC_BYTES] = {2, 0, 0, 0, (uint8_t)(i >> 8), (uint8_t)i};
        uint8_t mac[UN_MAC_BYTES];
        CHECK(un_kernel_neighbour(&table, &ip, mac));
        CHECK(memcmp(mac, expected, UN_MAC_BYTES) == 0);
    }
    for (uint32_t i = count; i < count + 64; i++) {
        const struct un_ip ip = neighbour_ip(i);
        uint8_t mac[UN_MAC_BYTES];
        CHECK(!un_kernel_neighbour(&table, &ip, mac));
    }
}

static void neighbours_are_found(void)
{
    static const uint32_t counts[] = {0, 1, 1000, UN_KERNEL_NEIGHBOURS_MAX};
    for (uint32_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        find_neighbours(counts[i]);
}

/* As of a table that a supervisor laid out otherwise. */
static void no_more_is_read_than_there_can_be(void)
{
    static const uint64_t counts[] = {UN_KERNEL_NEIGHBOURS_MAX + 1, UINT32_MAX, UINT64_C(1) << 32, UINT64_MAX};
    const struct un_ip ip = {{0xfd, [15] = 9}}, last = {{[0 ... 15] = 0xff}};
    for (uint32_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct un_ip next_hop;
        uint8_t mac[UN_MAC_BYTES];
        write(0, 0, 0);
        struct un_kernel_copy *copy = &table.copies[un_kernel_changes(&table) & 1];
        un_store(&copy->address_count, counts[i]);
        un_store(&copy->route_count, counts[i]);
        un_store(&copy->neighbour_count, counts[i]);
        memset((void *)copy->routes, 0xff, sizeof copy->routes);
        memset((void *)copy->neighbours, 0, sizeof copy->neighbours);
        CHECK_EQ(un_kernel_addresses(&table, addresses), UN_KERNEL_ADDRESSES_MAX);
        CHECK_EQ(un_kernel_routes(&table, routes), UN_KERNEL_ROUTES_MAX);
        CHECK_EQ(un_kernel_route(&table, &ip, &next_hop), -EHOSTUNREACH);
        CHECK(!un_kernel_neighbour(&table, &last, mac));
    }
}

static void a_writer_that_dies_leaves_the_last_table(void)
{
    struct un_kernel_address found[UN_KERNEL_ADDRESSES_MAX];
    addresses[0] = (struct un_kernel_address){.ip = v4(10, 0, 0, 1), .prefix = 24};
    write(1, 0, 0);
    struct un_kernel_copy *other = &table.copies[(un_kernel_changes(&table) + 1) & 1];
    memset((void *)other, 0xdb, sizeof *other); /* it had begun with the next one */
    CHECK_EQ(un_kernel_addresses(&table, found), 1);
    CHECK(un_ip_equal(&found[0].ip, &addresses[0].ip) && found[0].prefix == 24);
    write(1, 0, 0); /* another one goes on */
    CHECK_EQ(un_kernel_addresses(&table, found), 1);
}

/* ---- read while it is written ---- */

enum { ROUNDS = 2000, LOADS_MAX = 400 };

static uint32_t round_written;
static _Thread_local uint32_t loads_left; /* until the writer comes; 0: he does not */
static uint32_t tables_then; /* that he writes */
static bool comes_again;     /* before the next load, too */

/* Table n has 1 + n mod 16 addresses, all of which say n, a route to a gateway of bytes n, and neighbours 10.0.0.i, at
 * places that differ from table to table, whose Ethernet addresses say i. */
static void write_round(uint32_t n)
{
    uint32_t count = 1 + n % UN_KERNEL_ADDRESSES_MAX;
    for (uint32_t i = 0; i < count; i++)
        addresses[i] = (struct un_kernel_address){.ip = v4(10, (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n),
                                                  .prefix = (uint8_t)(n % 33)};
    routes[0] = (struct un_kernel_route){.prefix = 0};
    memset(routes[0].gateway.bytes, (int)(1 + n % 100), sizeof routes[0].gateway.bytes);
    for (uint32_t i = 0; i < count; i++)
        neighbours[i] = (struct un_kernel_neighbour){.ip = v4(10, 0, 0, (uint8_t)(16 - i)),
                                                     .mac = {2, 0, 0, 0, 0, (uint8_t)(16 - i)}};
    write(count, 1, count);
}

static void before_load(void)
{
    if (loads_left == 0 || --loads_left > 0)
        return;
    for (uint32_t i = 0; i < tables_then; i++)
        write_round(++round_written);
    loads_left = comes_again;
}

static void look_at_addresses(bool may_fail)
{
    struct un_kernel_address found[UN_KERNEL_ADDRESSES_MAX];
    uint32_t count = un_kernel_addresses(&table, found);
    if (count == UN_NONE && may_fail)
        return;
    const uint8_t *bytes = found[0].ip.bytes;
    uint32_t n = (uint32_t)bytes[13] << 16 | (uint32_t)bytes[14] << 8 | bytes[15];
    CHECK_EQ(count, 1 + n % UN_KERNEL_ADDRESSES_MAX);
    for (uint32_t i = 0; i < count; i++)
        CHECK(un_ip_equal(&found[i].ip, &found[0].ip) && found[i].prefix == n % 33);
}

static void look_at_routes(bool may_fail)
{
    const struct un_ip ip = {{0xfd, [15] = 9}};
    struct un_ip next_hop;
    int result = un_kernel_route(&table, &ip, &next_hop);
    CHECK(result == 0 || may_fail);
    for (uint32_t i = 0; result == 0 && i < sizeof next_hop.bytes; i++)
        CHECK_EQ(next_hop.bytes[i], next_hop.bytes[0]);
}

static void look_at_neighbours(bool may_fail)
{
    const struct un_ip ip = v4(10, 0, 0, 16); /* of all tables */
    uint8_t mac[UN_MAC_BYTES] = {0};
    bool is_found = un_kernel_neighbour(&table, &ip, mac);
    CHECK(is_found || may_fail);
    CHECK(!is_found || mac[5] == 16);
}

static void (*const looks[])(bool may_fail) = {look_at_addresses, look_at_routes, look_at_neighbours};
enum { LOOKS = sizeof looks / sizeof *looks };

static void look_while(uint32_t loads, bool again)
{
    comes_again = again;
    for (uint32_t look = 0; look < LOOKS; look++) {
        write_round(++round_written);
        loads_left = loads;
        looks[look](again);
        loads_left = 0;
    }
}

static void what_is_read_is_of_one_table(void)
{
    for (tables_then = 1; tables_then <= 3; tables_then++)
        for (uint32_t loads = 1; loads < LOADS_MAX; loads++)
            look_while(loads, false);
}

/* Who cannot read gives up. */
static void nobody_waits_for_a_writer_that_never_stops(void)
{
    tables_then = 2;
    for (uint32_t loads = 1; loads < LOADS_MAX; loads++)
        look_while(loads, true);
}

static void *write_rounds(void *unused)
{
    (void)unused;
    for (uint32_t i = 0; i < ROUNDS; i++)
        write_round(++round_written);
    return NULL;
}

/* For ThreadSanitizer: another thread writes. */
static void the_writer_may_be_another_thread(void)
{
    pthread_t writer;
    uint64_t end = un_kernel_changes(&table) + ROUNDS;
    CHECK_EQ(pthread_create(&writer, NULL, write_rounds, NULL), 0);
    for (bool is_last = false; !is_last;) {
        is_last = un_kernel_changes(&table) == end;
        for (uint32_t look = 0; look < LOOKS; look++)
            looks[look](!is_last);
    }
    CHECK_EQ(pthread_join(writer, NULL), 0);
}

int main(void)
{
    RUN(nothing_is_in_an_empty_table);
    RUN(the_first_route_that_fits_is_taken);
    RUN(other_routes_have_another_number);
    RUN(neighbours_are_found);
    RUN(no_more_is_read_than_there_can_be);
    RUN(a_writer_that_dies_leaves_the_last_table);
    RUN(what_is_read_is_of_one_table);
    RUN(nobody_waits_for_a_writer_that_never_stops);
    RUN(the_writer_may_be_another_thread);
    return 0;
}
