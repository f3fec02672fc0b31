/* The cost of a TCP/IP stack itself: a server on the memory device, and its client in the same thread. The client is
 * always ours; the server is our stack or, where it is installed, lwIP. Both meet the same packets, in turn.
 *
 *   stack_bench segment [rounds]     one in-order data segment in, event out
 *   stack_bench echo [rounds]        60-byte echo on one connection: the server's half, and the round
 *   stack_bench batch [rounds]       the same on 128 connections at once: of a message, the server's half
 *   stack_bench bulk [MiB]           one connection, MTU 1500, checksums computed and verified, in and out
 *   stack_bench curve [largest]      the echo over 10^0 … connections, one at random each time, and what they cost
 *   stack_bench crowd [largest]      128 messages at once on 10^3 ... connections, on others each time
 *   stack_bench shards [how many]    the echo on the shards of one server, in turn (ours alone)
 *   stack_bench memory|netmap|netmap-exchange [bytes]   a packet of so many, sent and received by this device alone
 *
 * STACK_BENCH_SERVER in the environment names one server to measure alone. A line of output is what was measured, the
 * server, the figure and its unit, with tabs between; tools/stack_bench.py makes a table of them, and counts
 * instructions with callgrind: what is counted are the functions measured_… of a server. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "client.h"
#include "devices.h"
#include "server.h"
#include "shards.h"

enum {
    NAME = 80,
    RUNS = 9,
    SLOTS = 4096,
    FRAMES_FEW = 1024,
    FRAMES_BULK = 8192,
    FRAMES_MANY = 16384,
    BATCH = 128,
    CURVE_ROUNDS = 20000,
    CROWD_ROUNDS = 200,
    SHARDS_ROUNDS = 4000
};

static const struct server *const servers[] = {
    &server_usnet,
#ifdef HAVE_LWIP
    &server_lwip,
#endif
};

enum { SERVERS = sizeof servers / sizeof *servers };

/* A server and its client. */
struct world {
    const struct server *server;
    struct client client;
};

static uint64_t wall_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static int compare(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static double median(double *values)
{
    qsort(values, RUNS, sizeof *values, compare);
    return values[RUNS / 2];
}

static void say(const char *what, const struct server *server, double value, const char *unit)
{
    printf("%s\t%s\t%.1f\t%s\n", what, server->name, value, unit);
    fflush(stdout);
}

/* ---- worlds ---- */

static void world_start(struct world *world, const struct server *server, struct host_size size, enum server_work work)
{
    struct un_device *ends[2];
    struct un_device_capabilities capabilities[2] = {{.mac = {2, 0, 0, 0, 0, 1}, .mtu = 1500, .queues = 1},
                                                     {.mac = {2, 0, 0, 0, 0, 2}, .mtu = 1500, .queues = 1}};
    un_assert(un_memory_pair(ends, capabilities, SLOTS) == 0);
    world->server = server;
    client_start(&world->client, ends[0], size);
    server->start(ends[1], size, work);
}

static void world_stop(struct world *world)
{
    world->server->stop();
    client_stop(&world->client);
}

static bool is_wanted(const struct server *server, uint32_t connections)
{
    const char *only = getenv("STACK_BENCH_SERVER");
    return connections <= server->connections_max && (!only || strcmp(only, server->name) == 0);
}

static void worlds_stop(struct world *worlds, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        world_stop(&worlds[i]);
}

/* One for each server, with so many connections. How many there are. */
static uint32_t worlds_connect(struct world *worlds, uint32_t connections, uint32_t frames, enum server_work work)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < SERVERS; i++) {
        if (!is_wanted(servers[i], connections))
            continue;
        world_start(&worlds[count], servers[i], (struct host_size){connections < 16 ? 16 : connections, frames}, work);
        client_open(&worlds[count++].client, connections, servers[i]->serve);
    }
    return count;
}

/* ---- segment ---- */

static double segment_ns(struct world *world, uint32_t rounds)
{
    struct client *client = &world->client;
    uint64_t spent = 0;
    for (uint32_t i = 0; i < rounds; i++) {
        client_send(client, client->handles[0]);
        uint64_t before = wall_ns();
        world->server->segment();
        spent += wall_ns() - before;
        world->server->let_go();
        client_turn(client);
    }
    return (double)spent / rounds;
}

static void run_segment(uint32_t rounds)
{
    struct world worlds[SERVERS];
    double runs[SERVERS][RUNS];
    uint32_t count = worlds_connect(worlds, 1, FRAMES_FEW, SERVER_HOLD);
    for (int run = 0; run < RUNS; run++)
        for (uint32_t i = 0; i < count; i++)
            runs[i][run] = segment_ns(&worlds[i], rounds);
    for (uint32_t i = 0; i < count; i++)
        say("segment", worlds[i].server, median(runs[i]), "ns");
    worlds_stop(worlds, count);
}

/* ---- echo ---- */

struct echo_cost {
    double half[RUNS];
    double round[RUNS];
};

static void echo_rounds(struct world *world, uint32_t rounds, double *half, double *round)
{
    struct client *client = &world->client;
    uint64_t random = 88172645463325252u, spent = 0, began = wall_ns();
    for (uint32_t i = 0; i < rounds; i++) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        uint64_t handle = client->handles[random % client->count];
        client_send(client, handle);
        do {
            uint64_t before = wall_ns();
            world->server->turn();
            spent += wall_ns() - before;
        } while (!client_take(client, handle));
    }
    *half = (double)spent / rounds;
    *round = (double)(wall_ns() - began) / rounds;
}

static void measure_echo(struct world *worlds, uint32_t count, uint32_t rounds, const char *what)
{
    struct echo_cost costs[SERVERS];
    char name[NAME];
    for (int run = 0; run < RUNS; run++)
        for (uint32_t i = 0; i < count; i++)
            echo_rounds(&worlds[i], rounds, &costs[i].half[run], &costs[i].round[run]);
    for (uint32_t i = 0; i < count; i++) {
        say(what, worlds[i].server, median(costs[i].half), "ns");
        snprintf(name, sizeof name, "%s round", what);
        say(name, worlds[i].server, median(costs[i].round), "ns");
    }
}

static void run_echo(uint32_t rounds)
{
    struct world worlds[SERVERS];
    uint32_t count = worlds_connect(worlds, 1, FRAMES_FEW, SERVER_ECHO);
    measure_echo(worlds, count, rounds, "echo");
    worlds_stop(worlds, count);
}

/* ---- batch ---- */

/* On BATCH connections, other ones in each round. */
static double batch_ns(struct world *world, uint32_t rounds)
{
    struct client *client = &world->client;
    struct client_some some = {.step = client->count / BATCH, .count = BATCH};
    uint64_t spent = 0;
    for (uint32_t i = 0; i < rounds; i++, some.first++) {
        client_ask(client, &some);
        for (uint32_t answers = 0; answers < BATCH; answers += client_answers(client, &some)) {
            uint64_t before = wall_ns();
            world->server->turn();
            spent += wall_ns() - before;
        }
    }
    return (double)spent / (rounds * BATCH);
}

static void measure_batch(struct world *worlds, uint32_t count, uint32_t rounds, const char *what)
{
    double runs[SERVERS][RUNS];
    for (int run = 0; run < RUNS; run++)
        for (uint32_t i = 0; i < count; i++)
            runs[i][run] = batch_ns(&worlds[i], rounds);
    for (uint32_t i = 0; i < count; i++)
        say(what, worlds[i].server, median(runs[i]), "ns");
}

static void run_batch(uint32_t rounds)
{
    struct world worlds[SERVERS];
    uint32_t count = worlds_connect(worlds, BATCH, FRAMES_FEW, SERVER_ECHO);
    measure_batch(worlds, count, rounds, "batch");
    worlds_stop(worlds, count);
}

/* ---- curve ---- */

static uint64_t resident_bytes(void)
{
    unsigned long size, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    un_assert(file != NULL && fscanf(file, "%lu %lu", &size, &resident) == 2);
    fclose(file);
    return resident * UINT64_C(4096);
}

/* All connections are opened, by both ends on one core. */
static void open_all(struct world *world, uint32_t connections, uint64_t before)
{
    char what[NAME / 2];
    uint64_t began = wall_ns();
    client_open(&world->client, connections, world->server->serve);
    double seconds = (double)(wall_ns() - began) / 1e9;
    snprintf(what, sizeof what, "open %" PRIu32, connections);
    say(what, world->server, connections / seconds, "/s");
    uint64_t taken = resident_bytes() - before - connections * sizeof *world->client.handles;
    snprintf(what, sizeof what, "memory %" PRIu32, connections);
    say(what, world->server, (double)taken / (1 << 20), "MiB");
}

static void curve_point(uint32_t connections)
{
    struct world worlds[SERVERS];
    struct host_size size = {connections < 16 ? 16 : connections, FRAMES_MANY};
    char what[NAME / 2];
    uint32_t count = 0;
    for (uint32_t i = 0; i < SERVERS; i++) {
        uint64_t before = resident_bytes();
        if (!is_wanted(servers[i], connections))
            continue;
        world_start(&worlds[count], servers[i], size, SERVER_ECHO);
        open_all(&worlds[count++], connections, before);
    }
    snprintf(what, sizeof what, "echo %" PRIu32, connections);
    measure_echo(worlds, count, CURVE_ROUNDS, what);
    worlds_stop(worlds, count);
}

static void run_curve(uint32_t largest)
{
    for (uint32_t connections = 1; connections <= largest; connections *= 10)
        curve_point(connections);
}

/* ---- crowd ---- */

static void run_crowd(uint32_t largest)
{
    struct world worlds[SERVERS];
    char what[NAME / 2];
    for (uint32_t connections = 1000; connections <= largest; connections *= 10) {
        uint32_t count = worlds_connect(worlds, connections, FRAMES_MANY, SERVER_ECHO);
        snprintf(what, sizeof what, "crowd %" PRIu32, connections);
        measure_batch(worlds, count, CROWD_ROUNDS, what);
        worlds_stop(worlds, count);
    }
}

/* ---- bulk ---- */

struct bulk_cost {
    double both[RUNS];
    double server[RUNS];
};

static double gbit_s(uint64_t bytes, uint64_t ns)
{
    return (double)bytes * 8 / (double)ns;
}

/* One turn of each end; the bytes that arrived, at the client of a source or at the server. */
static uint64_t bulk_turn(struct world *world, bool is_source, uint64_t *left, uint64_t *spent)
{
    uint64_t drained = 0, had = world->server->received();
    if (is_source)
        drained = client_drain(&world->client);
    else
        *left -= client_pour(&world->client, *left);
    uint64_t before = wall_ns();
    world->server->turn();
    *spent += wall_ns() - before;
    return is_source ? drained : world->server->received() - had;
}

static void bulk_run(struct world *world, bool is_source, uint64_t bytes, double *both, double *server)
{
    uint64_t left = bytes, arrived = 0, spent = 0, began = wall_ns();
    while (arrived < bytes)
        arrived += bulk_turn(world, is_source, &left, &spent);
    *both = gbit_s(arrived, wall_ns() - began);
    *server = gbit_s(arrived, spent);
}

static void measure_bulk(enum server_work work, uint32_t mib, const char *what)
{
    struct world worlds[SERVERS];
    struct bulk_cost costs[SERVERS];
    char name[NAME];
    uint32_t count = worlds_connect(worlds, 1, FRAMES_BULK, work);
    for (int run = 0; run < RUNS; run++)
        for (uint32_t i = 0; i < count; i++)
            bulk_run(&worlds[i], work == SERVER_SOURCE, (uint64_t)mib << 20, &costs[i].both[run],
                     &costs[i].server[run]);
    for (uint32_t i = 0; i < count; i++) {
        say(what, worlds[i].server, median(costs[i].server), "Gbit/s");
        snprintf(name, sizeof name, "%s both", what);
        say(name, worlds[i].server, median(costs[i].both), "Gbit/s");
    }
    worlds_stop(worlds, count);
}

static void run_bulk(uint32_t mib)
{
    measure_bulk(SERVER_SINK, mib, "bulk in");
    measure_bulk(SERVER_SOURCE, mib, "bulk out");
}

/* ---- shards ---- */

static void run_shards(uint32_t count)
{
    char what[NAME];
    uint64_t spent = 0;
    shards_start(count);
    for (uint32_t i = 0; i < SHARDS_ROUNDS; i++) {
        shards_ask(i % count);
        do {
            uint64_t before = wall_ns();
            shards_turn(i % count);
            spent += wall_ns() - before;
        } while (!shards_answered(i % count));
    }
    shards_stop(count);
    snprintf(what, sizeof what, "shards %" PRIu32, count);
    say(what, &server_usnet, (double)spent / SHARDS_ROUNDS, "ns");
}

/* ---- devices ---- */

static void say_device(const char *name, uint32_t bytes, struct device_cost cost)
{
    char what[NAME];
    snprintf(what, sizeof what, "%s %" PRIu32 " sent", name, bytes);
    say(what, &server_usnet, cost.sent, "ns");
    snprintf(what, sizeof what, "%s %" PRIu32 " received", name, bytes);
    say(what, &server_usnet, cost.received, "ns");
}

static void run_memory(uint32_t bytes)
{
    say_device("memory", bytes, devices_memory(bytes));
}

static void run_netmap(uint32_t bytes)
{
    say_device("netmap", bytes, devices_netmap(bytes));
}

static void run_netmap_exchange(uint32_t bytes)
{
    say_device("netmap-exchange", bytes, devices_netmap_exchange(bytes));
}

static const struct {
    const char *name;
    void (*run)(uint32_t number);
    uint32_t number;
} parts[] = {{"segment", run_segment, 200000},
             {"echo", run_echo, 200000},
             {"batch", run_batch, 2000},
             {"bulk", run_bulk, 256},
             {"curve", run_curve, 1000000},
             {"crowd", run_crowd, 100000},
             {"shards", run_shards, 8},
             {"memory", run_memory, 1514},
             {"netmap", run_netmap, 1514},
             {"netmap-exchange", run_netmap_exchange, 1514}};

int main(int argc, char **argv)
{
    uint32_t number = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 0;
    for (size_t i = 0; argc > 1 && i < sizeof parts / sizeof *parts; i++) {
        if (strcmp(argv[1], parts[i].name) != 0)
            continue;
        parts[i].run(number ? number : parts[i].number);
        return 0;
    }
    return fprintf(stderr, "usage: stack_bench segment|echo|batch|bulk|curve|crowd|shards|memory|netmap|"
                           "netmap-exchange [how much]\n"), 2;
}
