/* See shards.h. A shard is a stack that knows its place among the others, and the rings through which they give it
 * packets, as an engine has it. Its client connects from a port that makes the flow its own. */
#include "shards.h"

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "client.h"
#include "engine/exchange.h"
#include "stack/steering.h"

enum { CONNECTIONS = 16, FRAMES = 1024, SLOTS = 4096, SEED = 2, PORT_FIRST = 1024, SETTLED_TURNS = 1000 };

struct shard {
    struct host host;
    struct un_exchange exchange;
    struct client client;
    uint64_t handle; /* of the client's connection */
};

static struct shard shards[SHARDS_MAX];
static int wake_fds[SHARDS_MAX];

static void hand_over(void *context, uint32_t shard, const struct un_rx *packet)
{
    struct shard *self = context;
    un_exchange_give(&self->exchange, &self->host.stack.tcp.pool, shard, packet);
}

static void serve(struct shard *shard)
{
    struct un_stack *stack = &shard->host.stack;
    struct un_stack_event event;
    struct un_rx packet;
    while (un_exchange_take(&shard->exchange, &stack->tcp.pool, &packet))
        un_stack_input(stack, &packet);
    host_turn(&shard->host);
    while (un_stack_next_event(stack, &event)) {
        if (event.events & UN_TCP_EVENT_ACCEPTED)
            un_stack_accept(stack, event.conn, 0);
        if (event.events & UN_TCP_EVENT_READABLE)
            host_echo(&shard->host, event.conn);
    }
    host_flush(&shard->host);
}

static __attribute__((noinline)) void measured_shard_usnet(struct shard *shard)
{
    serve(shard);
}

static void start(uint32_t number, uint32_t count, int memory_fd)
{
    struct shard *shard = &shards[number];
    struct un_device *ends[2];
    struct un_device_capabilities capabilities[2] = {{.mac = {2, 0, 0, 0, 0, 1}, .mtu = 1500, .queues = 1},
                                                     {.mac = {2, 0, 0, 0, 0, 2}, .mtu = 1500, .queues = 1}};
    struct un_stack_shards place = {number, count, hand_over, shard};
    struct un_ip ip = host_address(0, 1), any = {{0}};
    un_assert(un_memory_pair(ends, capabilities, SLOTS) == 0);
    un_assert(un_exchange_open(&shard->exchange, memory_fd, number, count, wake_fds) == 0);
    client_start(&shard->client, ends[0], (struct host_size){CONNECTIONS, FRAMES});
    host_start(&shard->host, ends[1], (struct host_size){CONNECTIONS, FRAMES}, SEED);
    un_stack_set_shards(&shard->host.stack, &place);
    un_assert(un_stack_add_address(&shard->host.stack, &ip, 16) >= 0);
    un_assert(un_stack_listen(&shard->host.stack, &any, SERVER_PORT, CONNECTIONS, 0) >= 0);
}

static void connect_to(uint32_t number, uint32_t count)
{
    struct shard *shard = &shards[number];
    struct un_stack_peer server = {host_address(0, 1), SERVER_PORT}, client = {host_address(0, 100), PORT_FIRST};
    while (un_steering_shard(un_steering_hash(&client.ip, &server.ip, client.port, server.port), count) != number)
        client.port++;
    un_assert(un_stack_connect(&shard->client.host.stack, &server, &client, 0, &shard->handle) == 0);
    un_stack_set_option(&shard->client.host.stack, shard->handle, UN_OPTION_NODELAY, 1);
}

/* Until all are connected, and have heard of each other's neighbours. */
static void settle(uint32_t count)
{
    for (uint32_t i = 0; i < SETTLED_TURNS * count; i++) {
        client_turn(&shards[i % count].client);
        serve(&shards[i % count]);
    }
}

void shards_start(uint32_t count)
{
    int memory_fd = memfd_create("exchange", MFD_CLOEXEC);
    un_assert(memory_fd >= 0 && count > 0 && count <= SHARDS_MAX);
    for (uint32_t i = 0; i < count; i++)
        wake_fds[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    for (uint32_t i = 0; i < count; i++)
        start(i, count, memory_fd);
    for (uint32_t i = 0; i < count; i++)
        connect_to(i, count);
    settle(count);
    close(memory_fd);
}

void shards_stop(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        host_stop(&shards[i].host);
        client_stop(&shards[i].client);
        un_exchange_close(&shards[i].exchange);
        close(wake_fds[i]);
    }
}

void shards_ask(uint32_t number)
{
    client_send(&shards[number].client, shards[number].handle);
}

void shards_turn(uint32_t number)
{
    measured_shard_usnet(&shards[number]);
}

bool shards_answered(uint32_t number)
{
    return client_take(&shards[number].client, shards[number].handle);
}
