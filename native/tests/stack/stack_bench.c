/* The cost of the stack itself, two of them on the memory device in one thread: `usnet-stack-bench`.
 *
 *   stack_bench echo [rounds]        60-byte echo on one connection: nanoseconds of the server's half
 *   stack_bench segment [rounds]     one in-order data segment in, event out, read
 *   stack_bench curve [largest]      the echo over 10^0 … connections, one at random each time, and what they cost
 *   stack_bench bulk [MiB]           one connection, MTU 1500, checksums computed and verified
 *
 * Instructions are counted by callgrind, of the functions that are marked here: measured_turn is the server's half of a
 * round, from the packet on the wire to the answer on the wire (native/bench/stack_instructions.sh).
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/assert.h"
#include "stack/stack.h"

enum { PORT = 7000, MESSAGE = 60, RUNS = 9, SLOTS = 4096, OPENING = 512, CLIENT_ADDRESSES = 10, PORTS = 2 };

struct host {
    struct un_stack stack;
    uint64_t bytes;
};

static struct host client, server;
static uint64_t clock_ns = UINT64_C(1000000000);

static uint64_t wall_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static struct un_ip address(uint8_t network, uint8_t host)
{
    const uint8_t four[4] = {10, 0, network, host};
    return un_ip_from_v4(four);
}

static void start(struct host *host, uint32_t connections, uint32_t frames, uint64_t seed)
{
    struct un_stack_config config;
    const char *why = "";
    un_stack_defaults(&config, connections);
    config.frames = frames;
    config.seed = seed;
    memset(config.secret, (int)seed, sizeof config.secret);
    int64_t bytes = un_stack_bytes(&config, &why);
    un_assert(bytes > 0);
    host->bytes = (uint64_t)bytes;
    void *memory = mmap(NULL, host->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    un_assert(memory != MAP_FAILED);
    un_assert(un_stack_create(&host->stack, memory, host->bytes, &config) == 0);
}

static void start_both(uint32_t connections, uint32_t frames)
{
    struct un_device *ends[2];
    struct un_device_capabilities capabilities[2] = {{.mac = {2, 0, 0, 0, 0, 1}, .mtu = 1500, .queues = 1},
                                                     {.mac = {2, 0, 0, 0, 0, 2}, .mtu = 1500, .queues = 1}};
    start(&client, connections, frames, 1);
    start(&server, connections, frames, 2);
    un_assert(un_memory_pair(ends, capabilities, SLOTS) == 0);
    un_stack_set_device(&client.stack, ends[0]);
    un_stack_set_device(&server.stack, ends[1]);
    for (uint8_t i = 0; i < CLIENT_ADDRESSES; i++) {
        struct un_ip ip = address(0, (uint8_t)(100 + i));
        un_assert(un_stack_add_address(&client.stack, &ip, 16) >= 0);
    }
    struct un_ip ip = address(0, 1), any = {{0}};
    un_assert(un_stack_add_address(&server.stack, &ip, 16) >= 0);
    for (uint16_t port = PORT; port < PORT + PORTS; port++)
        un_assert(un_stack_listen(&server.stack, &any, port, connections, 0) >= 0);
}

static void turn(struct host *host)
{
    clock_ns += 1000;
    un_stack_poll(&host->stack, clock_ns);
}

/* The server: echo what is there, accept what comes. */
static void serve_events(struct host *host)
{
    struct un_stack_event event;
    while (un_stack_next_event(&host->stack, &event)) {
        if (event.events & UN_TCP_EVENT_ACCEPTED)
        {
            un_stack_accept(&host->stack, event.conn, 0);
            un_stack_set_option(&host->stack, event.conn, UN_OPTION_NODELAY, 1);
        }
        if (event.events & UN_TCP_EVENT_READABLE) {
            uint8_t bytes[2048];
            int64_t length = un_stack_read(&host->stack, event.conn, bytes, sizeof bytes);
            struct un_piece piece = {bytes, (uint32_t)(length > 0 ? length : 0), UN_NONE};
            if (length > 0)
                un_assert(un_stack_write(&host->stack, event.conn, &piece, 1) == length);
        }
    }
}

/* The server's half of an echo, as an engine takes its turns: packet in, event, read, write, packet out. */
static __attribute__((noinline)) void measured_turn(void)
{
    turn(&server);
    serve_events(&server);
    un_stack_poll_output(&server.stack, clock_ns);
}

/* A data segment in, and its event out. The payload is let go outside. */
static __attribute__((noinline)) bool measured_segment(struct un_stack_event *event)
{
    turn(&server);
    return un_stack_next_event(&server.stack, event);
}

static void drain_events(struct host *host, uint32_t *connected)
{
    struct un_stack_event event;
    while (un_stack_next_event(&host->stack, &event)) {
        *connected += (event.events & UN_TCP_EVENT_CONNECTED) != 0;
        un_assert(!(event.events & UN_TCP_EVENT_CLOSED));
    }
}

static void open_some(uint64_t *handles, uint32_t from, uint32_t count)
{
    uint32_t connected = 0;
    for (uint32_t i = from; i < from + count; i++) {
        struct un_stack_peer remote = {address(0, 1), (uint16_t)(PORT + i / 60000 / CLIENT_ADDRESSES)};
        struct un_stack_peer local = {address(0, (uint8_t)(100 + i / 60000 % CLIENT_ADDRESSES)), (uint16_t)(1024 + i % 60000)};
        int status = un_stack_connect(&client.stack, &remote, &local, i, &handles[i]);
        un_assert(status == 0);
        un_stack_set_option(&client.stack, handles[i], UN_OPTION_NODELAY, 1);
    }
    for (int i = 0; connected < count; i++) {
        un_assert(i < 100000);
        turn(&client);
        drain_events(&client, &connected);
        turn(&server);
        serve_events(&server);
    }
    for (int i = 0; i < OPENING; i++) { /* a turn takes a batch: until all handshakes are over */
        turn(&server);
        serve_events(&server);
    }
}

static uint64_t *open_all(uint32_t count)
{
    uint64_t *handles = calloc(count, sizeof *handles);
    un_assert(handles != NULL);
    for (uint32_t i = 0; i < count; i += OPENING)
        open_some(handles, i, count - i < OPENING ? count - i : OPENING);
    return handles;
}

static void client_sends(uint64_t handle)
{
    static const uint8_t message[MESSAGE] = "a message of sixty bytes";
    struct un_piece piece = {message, MESSAGE, UN_NONE};
    un_assert(un_stack_write(&client.stack, handle, &piece, 1) == MESSAGE);
    turn(&client);
}

/* Whether the answer was there: turns take batches, and delayed ACKs of other connections may come first. */
static bool client_takes(uint64_t handle)
{
    uint8_t bytes[2048];
    struct un_stack_event event;
    turn(&client);
    while (un_stack_next_event(&client.stack, &event))
        continue;
    return un_stack_read(&client.stack, handle, bytes, sizeof bytes) == MESSAGE;
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

/* Nanoseconds of the server's half and of the whole round, medians of the runs. */
static void echo_rounds(const uint64_t *handles, uint32_t connections, uint32_t rounds, double *half, double *whole)
{
    double halves[RUNS], wholes[RUNS];
    uint64_t random = 88172645463325252u;
    for (int run = 0; run < RUNS; run++) {
        uint64_t spent = 0, began = wall_ns();
        for (uint32_t i = 0; i < rounds; i++) {
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            uint64_t handle = handles[random % connections];
            client_sends(handle);
            do {
                uint64_t before = wall_ns();
                measured_turn();
                spent += wall_ns() - before;
            } while (!client_takes(handle));
        }
        halves[run] = (double)spent / rounds;
        wholes[run] = (double)(wall_ns() - began) / rounds;
    }
    *half = median(halves);
    *whole = median(wholes);
}

static void run_echo(uint32_t rounds)
{
    double half, whole;
    start_both(16, 1024);
    uint64_t *handles = open_all(1);
    echo_rounds(handles, 1, rounds, &half, &whole);
    printf("echo of %d bytes, one connection: server %.0f ns, both sides %.0f ns\n", MESSAGE, half, whole);
    free(handles);
}

static void run_segment(uint32_t rounds)
{
    double runs[RUNS];
    start_both(16, 1024);
    uint64_t *handles = open_all(1);
    for (int run = 0; run < RUNS; run++) {
        uint64_t spent = 0;
        for (uint32_t i = 0; i < rounds; i++) {
            struct un_stack_event event;
            client_sends(handles[0]);
            uint64_t before = wall_ns();
            un_assert(measured_segment(&event));
            spent += wall_ns() - before;
            un_assert(un_stack_consume(&server.stack, event.conn, MESSAGE) == 0);
            turn(&server);
            turn(&client);
        }
        runs[run] = (double)spent / rounds;
    }
    printf("data segment of %d bytes in, event out: %.0f ns\n", MESSAGE, median(runs));
    free(handles);
}

static uint64_t resident_bytes(void)
{
    unsigned long size, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    un_assert(file != NULL && fscanf(file, "%lu %lu", &size, &resident) == 2);
    fclose(file);
    return resident * UINT64_C(4096);
}

static void run_curve(uint32_t largest)
{
    printf("%12s %14s %14s %12s %14s %14s\n", "connections", "opened per s", "bytes each", "MiB both", "server ns", "round ns");
    for (uint32_t count = 1; count <= largest; count *= 10) {
        double half, whole;
        uint64_t before = resident_bytes();
        start_both(count < 16 ? 16 : count, 16384);
        uint64_t began = wall_ns();
        uint64_t *handles = open_all(count);
        double seconds = (double)(wall_ns() - began) / 1e9;
        uint64_t taken = resident_bytes() - before - count * sizeof *handles;
        echo_rounds(handles, count, 100000, &half, &whole);
        printf("%12" PRIu32 " %14.0f %14.0f %12.1f %14.0f %14.0f\n", count, count / seconds, (double)taken / 2 / count,
               (double)taken / (1 << 20), half, whole);
        fflush(stdout);
        free(handles);
        munmap(client.stack.own, client.bytes);
        munmap(server.stack.own, server.bytes);
    }
}

static void run_bulk(uint32_t mib)
{
    static uint8_t chunk[65536];
    double runs[RUNS];
    start_both(16, 8192);
    uint64_t *handles = open_all(1);
    struct un_piece piece = {chunk, sizeof chunk, UN_NONE};
    for (int run = 0; run < RUNS; run++) {
        uint64_t left = (uint64_t)mib << 20, sent = left, began = wall_ns();
        while (left > 0) {
            if (sent > 0) {
                piece.length = sent < sizeof chunk ? (uint32_t)sent : sizeof chunk;
                int64_t wrote = un_stack_write(&client.stack, handles[0], &piece, 1);
                sent -= wrote > 0 ? (uint64_t)wrote : 0;
            }
            struct un_stack_event event;
            turn(&client);
            turn(&server);
            while (un_stack_next_event(&server.stack, &event)) {
                struct un_piece pieces[64];
                for (int count; (count = un_stack_peek(&server.stack, event.conn, pieces, 64)) > 0;) {
                    uint32_t bytes = 0;
                    for (int i = 0; i < count; i++)
                        bytes += pieces[i].length;
                    un_assert(un_stack_consume(&server.stack, event.conn, bytes) == 0);
                    left -= bytes;
                }
            }
            turn(&server);
            while (un_stack_next_event(&client.stack, &event))
                continue;
        }
        runs[run] = (double)((uint64_t)mib << 23) / (double)(wall_ns() - began);
    }
    printf("bulk, MTU 1500, both stacks on one core: %.1f Gbit/s of payload\n", median(runs));
    free(handles);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    uint32_t number = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 0;
    if (strcmp(what, "echo") == 0)
        run_echo(number ? number : 200000);
    else if (strcmp(what, "segment") == 0)
        run_segment(number ? number : 200000);
    else if (strcmp(what, "curve") == 0)
        run_curve(number ? number : 1000000);
    else if (strcmp(what, "bulk") == 0)
        run_bulk(number ? number : 256);
    else
        return fprintf(stderr, "usage: stack_bench echo|segment|curve|bulk [how much]\n"), 2;
    return 0;
}
