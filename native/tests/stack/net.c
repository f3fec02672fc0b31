/* See net.h. */
#include "net.h"

#include <stdlib.h>
#include <string.h>

#include "stack/arena.h"

struct un_stack_config net_config(void)
{
    struct un_stack_config config;
    un_stack_defaults(&config, 64);
    config.frames = 512;
    config.sents = 512;
    config.neighbours = 16;
    config.udp_max = 8;
    config.time_wait_max = 16;
    config.seed = 1;
    for (uint32_t i = 0; i < UN_SECRET_BYTES; i++)
        config.secret[i] = (uint8_t)(i * 7 + 1);
    return config;
}

struct un_device_capabilities net_capabilities(uint8_t number)
{
    return (struct un_device_capabilities){.mac = {2, 0, 0, 0, 0, number}, .mtu = 1500, .queues = 1};
}

void host_make(struct host *host, const struct un_stack_config *config, struct un_device *device)
{
    const char *why = NULL;
    int64_t bytes = un_stack_bytes(config, &why);
    CHECK(bytes > 0);
    host->bytes = ((uint64_t)bytes + 4095) & ~UINT64_C(4095);
    host->arena = aligned_alloc(4096, host->bytes);
    memset(host->arena, 0, host->bytes);
    host->device = device;
    host->kernel = NULL;
    struct un_stack_place place = {.arena = host->arena, .arena_bytes = host->bytes, .device = device};
    CHECK_EQ(un_stack_create(&host->stack, &place, config), 0);
    un_stack_set_device(&host->stack, device);
}

void host_address(struct host *host, uint8_t number)
{
    struct un_ip v4 = ip4(10, 0, 0, number), v6 = ip6(number);
    CHECK_EQ(un_stack_add_address(&host->stack, &v4, 24), 0);
    CHECK_EQ(un_stack_add_address(&host->stack, &v6, 64), 0);
}

void host_move(struct host *host)
{
    struct un_stack_shards shards = host->stack.shards;
    void *arena = aligned_alloc(4096, host->bytes);
    memcpy(arena, host->arena, host->bytes);
    memset(host->arena, 0xdb, host->bytes);
    memset(&host->stack, 0xdb, sizeof host->stack);
    free(host->arena);
    host->arena = arena;
    struct un_stack_place place = {.arena = arena, .arena_bytes = host->bytes, .device = host->device};
    CHECK_EQ(un_stack_adopt(&host->stack, &place), 0);
    if (host->kernel)
        un_stack_share(&host->stack, host->kernel);
    un_stack_set_device(&host->stack, host->device);
    un_stack_set_shards(&host->stack, &shards);
}

static void check(struct host *host)
{
    const char *wrong = un_stack_check(&host->stack);
    if (wrong)
        fprintf(stderr, "%s\n", wrong);
    CHECK(wrong == NULL);
}

void host_close(struct host *host)
{
    struct un_stack_memory *own = host->stack.own;
    check(host);
    uint32_t held = un_stack_frames_elsewhere(&host->stack);
    host->device->operations->close(host->device);
    CHECK(un_stack_frames_elsewhere(&host->stack) <= held);
    CHECK_EQ(un_stack_frames_elsewhere(&host->stack), 0);
    for (uint32_t slot = 0; slot < own->conn_fresh; slot++)
        CHECK(host->stack.tcp.tcbs[slot].state & (UN_TCP_CLOSED | UN_TCP_TIME_WAIT));
    CHECK_EQ(own->pool.free_count, own->pool.count);
    CHECK_EQ(own->sent_pool.free_count, own->sent_pool.count);
    free(host->arena);
}

static void make_pair(struct net *net, struct host *left, struct host *right,
                      const struct un_device_capabilities capabilities[2], struct un_stack_config config)
{
    struct un_device *ends[2];
    CHECK_EQ(un_memory_pair(ends, capabilities, 64), 0);
    host_make(left, &config, ends[0]);
    config.secret[0] ^= 0xff;
    host_make(right, &config, ends[1]);
    host_address(left, 1);
    host_address(right, 2);
    *net = (struct net){.now_ns = NET_SECOND, .hosts = {left, right}, .count = 2};
    net_settle(net);
}

void net_pair(struct net *net, struct host *left, struct host *right)
{
    const struct un_device_capabilities capabilities[2] = {net_capabilities(1), net_capabilities(2)};
    make_pair(net, left, right, capabilities, net_config());
}

void net_pair_offloads(struct net *net, struct host *left, struct host *right, uint32_t frames)
{
    struct un_device_capabilities capabilities[2] = {net_capabilities(1), net_capabilities(2)};
    struct un_stack_config config = net_config();
    config.frames = frames;
    for (int i = 0; i < 2; i++) {
        capabilities[i].tx_segment_bytes = 65000;
        capabilities[i].tx_checksum = capabilities[i].rx_checksum = capabilities[i].rx_coalesce = true;
    }
    make_pair(net, left, right, capabilities, config);
}

void net_settle(struct net *net)
{
    uint32_t done = 1;
    for (int turns = 0; done; turns++) {
        CHECK(turns < 100000);
        done = 0;
        for (int i = 0; i < net->count; i++) {
            done += un_stack_poll(&net->hosts[i]->stack, net->now_ns);
            check(net->hosts[i]);
        }
    }
}

void net_run(struct net *net, uint64_t duration_ns)
{
    uint64_t end = net->now_ns + duration_ns;
    net_settle(net);
    while (net->now_ns < end) {
        uint64_t next = end;
        for (int i = 0; i < net->count; i++) {
            uint64_t deadline = un_stack_deadline_ns(&net->hosts[i]->stack);
            next = deadline < next ? deadline : next;
        }
        net->now_ns = next > net->now_ns ? next : net->now_ns + 1;
        net_settle(net);
    }
}

struct un_ip ip4(uint8_t a, uint8_t b, uint8_t c, uint8_t d)
{
    return un_ip_from_v4((uint8_t[]){a, b, c, d});
}

struct un_ip ip6(uint8_t number)
{
    return (struct un_ip){{0xfd, [15] = number}};
}

struct un_stack_event expect_event(struct host *host, uint32_t events)
{
    struct un_stack_event event = {0};
    CHECK(un_stack_next_event(&host->stack, &event));
    CHECK_EQ(event.events, events);
    return event;
}

void expect_no_event(struct host *host)
{
    struct un_stack_event event = {0};
    bool is_any = un_stack_next_event(&host->stack, &event);
    CHECK_EQ(event.events, 0);
    CHECK(!is_any);
}

struct pair connect_pair(struct net *net, struct host *client, struct host *server, const struct un_ip *to,
                         uint16_t port)
{
    struct pair pair;
    struct un_stack_peer remote = {*to, port};
    CHECK_EQ(un_stack_connect(&client->stack, &remote, NULL, 7, &pair.client), 0);
    net_settle(net);
    CHECK_EQ(expect_event(client, UN_TCP_EVENT_CONNECTED).conn, pair.client);
    struct un_stack_event accepted = expect_event(server, UN_TCP_EVENT_ACCEPTED);
    pair.server = accepted.conn;
    CHECK_EQ(un_stack_accept(&server->stack, pair.server, 8), 0);
    return pair;
}

int64_t write_bytes(struct host *host, uint64_t conn, const void *bytes, uint32_t length)
{
    struct un_piece piece = {bytes, length, UN_NONE};
    return un_stack_write(&host->stack, conn, &piece, 1);
}
