/* Distrust (P4), without a fuzzer: seeded random scripts for the mad worker of hostile.c, and one that is a process. */
#include "../tests/check.h"
#include "arena.h"
#include "hostile.h"

enum { SCRIPT_MAX = 3000, SCRIPTS = 5000 };

static void scribble(uint64_t seed)
{
    uint8_t script[SCRIPT_MAX];
    uint64_t random = seed;
    uint32_t length = random_below(&random, SCRIPT_MAX);
    for (uint32_t i = 0; i < length; i++)
        script[i] = (uint8_t)random_next(&random);
    hostile_run(script, length);
}

static void a_mad_worker_hurts_its_own_connections_only(void)
{
    for_each_seed(SCRIPTS, scribble);
}

static void fill_ring_of_seat_0(void)
{
    for (uint32_t i = 0; i < 2 * arena.config.event_slots; i++) {
        for (uint32_t peer = 0; peer < PEERS; peer++)
            if (arena.peers[peer].seat == MAD)
                peer_write(&arena.peers[peer], 1);
        arena_turn();
    }
}

/* Connections of seat 0 wait for space in its ring, and are gone with their worker. Who gets their slots must not wait
 * for the ring of seat 0. */
static void a_connection_does_not_stand_in_the_line_of_another_seat(void)
{
    arena_open(&carrier_sockets);
    un_engine_attach_worker(arena.engine, MAD_PORT, ++arena.serial, false);
    struct un_port_memory *memory = arena.setup.ports[MAD_PORT];
    un_publish(&memory->commit, UN_COMMIT(PEERS / 2, 0)); /* it knows its connections */
    fill_ring_of_seat_0();
    un_engine_lost_worker(arena.engine, MAD_PORT, UN_LOSS_DIED);
    for (uint32_t i = 0; i < PEERS; i++)
        if (arena.peers[i].seat == MAD)
            peer_read(&arena.peers[i]); /* reset */
    for (uint32_t i = 0; i < PEERS; i++) {
        if (arena.peers[i].fd < 0)
            peer_connect(&arena.peers[i]);
        CHECK(arena.peers[i].fd >= 0);
        CHECK_EQ(arena.peers[i].seat, HONEST);
        honest_serve(&arena.honest);
        honest_check(&arena.peers[i], 100);
    }
    arena_close();
}

static void race(uint64_t seed)
{
    hostile_race(seed, 400);
}

static void it_does_no_harm_by_writing_while_the_engine_reads(void)
{
    for_each_seed(10, race);
}

int main(void)
{
    RUN(a_connection_does_not_stand_in_the_line_of_another_seat);
    RUN(a_mad_worker_hurts_its_own_connections_only);
    RUN(it_does_no_harm_by_writing_while_the_engine_reads);
    return 0;
}
