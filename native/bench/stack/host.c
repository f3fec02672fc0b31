/* See host.h. */
#include "host.h"

#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"

enum { TURN_NS = 1000, BUFFER = 2048 };

static uint64_t clock_ns = UINT64_C(1000000000);

struct un_ip host_address(uint8_t network, uint8_t host)
{
    const uint8_t four[4] = {10, 0, network, host};
    return un_ip_from_v4(four);
}

void host_start(struct host *host, struct un_device *device, struct host_size size, uint64_t seed)
{
    struct un_stack_config config;
    const char *why = "";
    un_stack_defaults(&config, size.connections);
    config.frames = size.frames;
    config.seed = seed;
    memset(config.secret, (int)seed, sizeof config.secret);
    int64_t bytes = un_stack_bytes(&config, &why);
    un_assert(bytes > 0);
    host->bytes = (uint64_t)bytes;
    host->memory = mmap(NULL, host->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    un_assert(host->memory != MAP_FAILED);
    struct un_stack_place place = {.arena = host->memory, .arena_bytes = host->bytes};
    un_assert(un_stack_create(&host->stack, &place, &config) == 0);
    un_stack_set_device(&host->stack, device);
    host->device = device;
}

void host_stop(struct host *host)
{
    host->device->operations->close(host->device);
    munmap(host->memory, host->bytes);
}

void host_turn(struct host *host)
{
    clock_ns += TURN_NS;
    un_stack_poll(&host->stack, clock_ns);
}

void host_flush(struct host *host)
{
    un_stack_poll_output(&host->stack, clock_ns);
}

void host_echo(struct host *host, uint64_t conn)
{
    uint8_t bytes[BUFFER];
    int64_t length = un_stack_read(&host->stack, conn, bytes, sizeof bytes);
    struct un_piece piece = {bytes, (uint32_t)(length > 0 ? length : 0), UN_NONE};
    if (length > 0)
        un_assert(un_stack_write(&host->stack, conn, &piece, 1) == length);
}
