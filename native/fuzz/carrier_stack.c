/* Peers over our stack (carrier.h): the stack transport, and a stack of the peers' at the other end of a wire. */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../tests/check.h"
#include "arena.h"
#include "carrier.h"
#include "engine/stack_setup.h"

enum { SLOTS = 256, FRAMES = 512, FRAME_BYTES = 2048, PORT = 7000, HANDLES = 256, TURN_NS = 100000 };

static struct {
    struct un_stack_setup setup;
    struct un_device *wire[2]; /* the engine's, which it closes; the peers' */
    const struct un_device_operations *operations; /* of the engine's */
    struct un_device_operations lasting; /* the same, but for an engine that leaves it to the next one */
    struct un_stack far;
    void *far_memory;
    uint64_t far_bytes;
    uint64_t now_ns; /* of both ends: so equal scripts have equal lives */
    uint64_t handles[HANDLES]; /* by number of the peer; 0: free */
} it;

static void *map(uint64_t bytes, int kind)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, kind | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}

static struct un_stack_config small(uint32_t conn_max)
{
    struct un_stack_config config;
    un_stack_defaults(&config, conn_max);
    config.frames = FRAMES;
    config.frame_bytes = FRAME_BYTES;
    config.sents = FRAMES;
    config.udp_max = 0;
    config.time_wait_max = 4;
    config.detect_duplicates = false;
    return config;
}

static void open_wire(void)
{
    struct un_device_capabilities ends[2] = {{.mac = {2, 0, 0, 0, 0, 1}, .mtu = 1500, .queues = 1},
                                             {.mac = {2, 0, 0, 0, 0, 2}, .mtu = 1500, .queues = 1}};
    CHECK_EQ(un_memory_pair(it.wire, ends, SLOTS), 0);
}

static void open_near(void)
{
    struct un_stack_setup *setup = &it.setup;
    struct un_engine_options *options = &arena.options;
    options->queues = 1;
    options->backlog = 16;
    options->seed = 5;
    options->addresses.count = options->listeners.count = 1;
    options->addresses.at[0] = (struct un_option_address){{[10] = 0xff, 0xff, 10, 0, 0, 1}, 24};
    options->listeners.at[0] = (struct un_option_address){{[10] = 0xff, 0xff}, PORT}; /* 0.0.0.0 */
    setup->device = it.wire[0];
    setup->config = small(2 * CONN_MAX);
    setup->config.lent = arena.config.tx_frames / 2;
    setup->arena = map(un_stack_setup_arena_bytes(setup), MAP_SHARED);
    setup->frames = map(un_stack_setup_frames_bytes(setup), MAP_SHARED);
    CHECK((setup->exchange_fd = memfd_create("exchange", MFD_CLOEXEC)) >= 0);
    CHECK((setup->exchange_wake_fds[0] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) >= 0);
    arena.setup.stack = setup;
    arena.setup.time_ns = &it.now_ns;
}

static void open_far(void)
{
    struct un_stack_config config = small(2 * CONN_MAX);
    const uint8_t four[4] = {10, 0, 0, 2};
    struct un_ip ip = un_ip_from_v4(four);
    const char *why;
    config.seed = 7;
    int64_t bytes = un_stack_bytes(&config, &why);
    CHECK(bytes > 0);
    it.far_bytes = (uint64_t)bytes;
    it.far_memory = map(it.far_bytes, MAP_PRIVATE);
    struct un_stack_place place = {.arena = it.far_memory, .arena_bytes = it.far_bytes};
    CHECK_EQ(un_stack_create(&it.far, &place, &config), 0);
    un_stack_set_device(&it.far, it.wire[1]);
    CHECK(un_stack_add_address(&it.far, &ip, 24) >= 0);
}

static void leave_open(struct un_device *device)
{
    (void)device;
}

static void keep(bool is_kept)
{
    it.wire[0]->operations = is_kept ? &it.lasting : it.operations;
}

static void open_stacks(void)
{
    memset(&it, 0, sizeof it);
    it.now_ns = UINT64_C(1000000000);
    open_wire();
    it.operations = it.wire[0]->operations;
    it.lasting = *it.operations;
    it.lasting.close = leave_open;
    open_near();
    open_far();
}

static void turn(void)
{
    struct un_stack_event event;
    it.now_ns += TURN_NS;
    un_stack_poll(&it.far, it.now_ns);
    while (un_stack_next_event(&it.far, &event))
        ;
}

static int connect_peer(void)
{
    const uint8_t four[4] = {10, 0, 0, 1};
    struct un_stack_peer remote = {un_ip_from_v4(four), PORT};
    int peer = 0;
    while (it.handles[peer])
        CHECK(++peer < HANDLES);
    CHECK_EQ(un_stack_connect(&it.far, &remote, NULL, 0, &it.handles[peer]), 0);
    un_stack_set_option(&it.far, it.handles[peer], UN_OPTION_NODELAY, 1);
    turn();
    return peer;
}

static ssize_t as_call(int64_t status)
{
    if (status >= 0)
        return (ssize_t)status;
    errno = (int)-status;
    return -1;
}

static ssize_t receive(int peer, void *bytes, size_t most)
{
    turn();
    return as_call(un_stack_read(&it.far, it.handles[peer], bytes, (uint32_t)most));
}

static ssize_t send_bytes(int peer, const void *bytes, size_t length)
{
    struct un_piece piece = {bytes, (uint32_t)length, UN_NONE};
    ssize_t sent = as_call(un_stack_write(&it.far, it.handles[peer], &piece, 1));
    turn();
    return sent;
}

static void half_close(int peer)
{
    un_stack_shutdown(&it.far, it.handles[peer]);
    turn();
}

static void disconnect(int peer)
{
    un_stack_close(&it.far, it.handles[peer]);
    it.handles[peer] = 0;
    turn();
}

static void close_stacks(void)
{
    CHECK(un_stack_check(&it.far) == NULL);
    it.wire[1]->operations->close(it.wire[1]);
    close(it.setup.exchange_fd);
    close(it.setup.exchange_wake_fds[0]);
    munmap(it.setup.arena, un_stack_setup_arena_bytes(&it.setup));
    munmap(it.setup.frames, un_stack_setup_frames_bytes(&it.setup));
    munmap(it.far_memory, it.far_bytes);
}

const struct carrier carrier_stack = {
    .open = open_stacks,
    .connect = connect_peer,
    .receive = receive,
    .send = send_bytes,
    .half_close = half_close,
    .disconnect = disconnect,
    .turn = turn,
    .close = close_stacks,
    .keep = keep,
};
