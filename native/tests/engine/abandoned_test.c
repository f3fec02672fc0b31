/* A keeper is gone, and its stack's arena is still there: the first engine of the next keeper resets every connection
 * and begins the arena anew (engine/stack_abandoned.c). Killed at any instruction of that, it leaves an arena that
 * another engine finishes: in the end every peer has heard a reset that it believes, and no connection is left.
 * Sanitized, every 16th state is judged. */
#include <sys/mman.h>

#include "base/bytes.h"
#include "check.h"
#include "server.h"
#include "stack/arena.h"
#include "step.h"

enum { PEERS = CLIENTS + 1, TCP_SOURCE = UN_ETH_BYTES + UN_IPV4_BYTES };

/* A client as the wire sees it: the one number that a reset for it must have (RFC 5961 section 3.2). */
struct peer {
    uint16_t port;
    uint32_t rcv_nxt;
};

static struct peer peers[PEERS];
static bool *heard; /* by peer; shared, and as it was when the process died */
static uint32_t states;

/* ---- a wire that notes resets ---- */

static void wire_attach(struct un_device *device, struct un_pool *pool)
{
    (void)device;
    (void)pool;
}

static uint32_t wire_reserve(struct un_device *device, uint32_t count)
{
    (void)device;
    return count;
}

static void wire_submit(struct un_device *device, const struct un_tx *packets, uint32_t count)
{
    (void)device;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *at = packets[i].pieces[0].bytes;
        if (un_get16(at + 12) != UN_ETHER_IPV4 || at[UN_ETH_BYTES + 9] != UN_PROTOCOL_TCP)
            continue;
        const uint8_t *tcp = at + TCP_SOURCE;
        for (uint32_t peer = 0; peer < PEERS; peer++)
            if (un_get16(tcp + 2) == peers[peer].port && un_get32(tcp + 4) == peers[peer].rcv_nxt &&
                tcp[13] & UN_TCP_RST)
                heard[peer] = true;
    }
}

static void wire_flush(struct un_device *device)
{
    (void)device;
}

static uint32_t wire_peek(struct un_device *device, struct un_rx *packets, uint32_t most)
{
    (void)device;
    (void)packets;
    (void)most;
    return 0;
}

static bool wire_sleep(struct un_device *device)
{
    (void)device;
    return true;
}

static const struct un_device_operations wire_operations = {
    .name = "resets",
    .attach = wire_attach,
    .reserve = wire_reserve,
    .submit = wire_submit,
    .flush = wire_flush,
    .peek = wire_peek,
    .sleep = wire_sleep,
};

static struct un_device wire = {.operations = &wire_operations, .fd = -1};

/* ---- the next keeper ---- */

static void next_engine(void)
{
    CHECK(un_engine_start(&server.setup) != NULL);
}

static void check_end(void)
{
    struct un_engine *engine = un_engine_start(&server.setup);
    CHECK(engine != NULL);
    for (uint32_t peer = 0; peer < PEERS; peer++)
        CHECK(heard[peer]);
    CHECK_EQ(engine->own->active, 0);
    CHECK_EQ(engine->link->stack.own->conn_count, 0);
    const char *wrong = un_stack_check(&engine->link->stack);
    if (wrong)
        check_failed(__FILE__, __LINE__, wrong);
}

static void judge(void)
{
    if (!UN_TEST_SANITIZED || states++ % 16 == 0)
        step_judge(check_end);
}

static void note_peer(uint32_t number, uint64_t client)
{
    struct un_stack_peer local, remote;
    CHECK_EQ(un_stack_names(&server.far, client, &local, &remote), 0);
    peers[number] = (struct peer){local.port, un_stack_conn_find(&server.far, client)->rcv_nxt};
}

/* One connection has an answer in flight, one is idle, and of one the handshake is not over. Then the keeper is killed:
 * the next one has a segment and a private memory of its own. */
static void abandon(void)
{
    server_open();
    uint64_t opening = client_connect();
    for (int i = 0; i < 2; i++) {
        clients_turn();
        server_turn();
    }
    worker_send(server.conns[0], 1000);
    server_turn();
    clients_turn();
    for (uint32_t i = 0; i < CLIENTS; i++)
        note_peer(i, server.clients[i]);
    note_peer(CLIENTS, opening);
    un_stack_setup_abandon(&server.stack);
    memset(server.setup.private, 0, un_engine_private_bytes(&server.config));
    memset(server.setup.public, 0, server.layout.public_bytes);
    un_segment_format(server.setup.public, &server.config, &server.layout, &server.options);
    wire.capabilities = server.wire[0]->capabilities;
    server.stack.device = &wire;
}

static void killed_while_it_resets_what_was_abandoned(void)
{
    step_forget();
    heard = mmap(NULL, sizeof *heard * PEERS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(heard != MAP_FAILED);
    abandon();
    step_watch(server.setup.private, un_engine_private_bytes(&server.config));
    step_watch(server.setup.public, server.layout.public_bytes);
    step_watch(server.stack.arena, un_stack_setup_arena_bytes(&server.stack));
    step_watch(server.stack.frames, un_stack_setup_frames_bytes(&server.stack));
    step_watch(heard, sizeof *heard * PEERS);
    step_through(next_engine, judge);
    server_forget_packets();
    server_close();
    munmap(heard, sizeof *heard * PEERS);
}

int main(void)
{
    RUN(killed_while_it_resets_what_was_abandoned);
    return 0;
}
