/* The arena of a mad worker: a real engine with two seats, peers over sockets or our stack, and an honest worker on
 * seat 1.
 *
 * The memories of the ports of seat 0 lie between pages that hold a secret, and guard pages beyond those. Peers of
 * seat 1 send the secret too. Whoever of seat 0 receives it has been sent what it must not see; the peers check that as
 * they read, and that an honest connection gets exactly its echo and is never closed. */
#ifndef UN_FUZZ_ARENA_H
#define UN_FUZZ_ARENA_H

#include "carrier.h"
#include "engine/state.h"
#include "shard/port.h"

enum {
    MAD = 0,
    HONEST = 1,
    SEATS = 2,
    MAD_PORT = 0,
    HONEST_PORT = 2,
    PORTS = 4,
    PEERS = 6,
    CONN_MAX = 16,
    PAGE = 4096,
    ECHO_MAX = 200, /* bytes an honest peer sends at once */
    STATE_LENGTH = 8,
};

struct peer {
    int fd; /* its number at the carrier; -1: not connected */
    uint32_t seat;
    uint64_t conn;
    uint64_t sent;
    uint64_t received;
};

/* A worker's ends of its pipes: base/wake.h. */
struct worker_wakes {
    int to_engine;
    int from_engine;
};

struct arena {
    const struct carrier *carrier;
    struct un_segment_config config;
    struct un_segment_layout layout;
    struct un_engine_options options;
    struct un_engine_setup setup;
    struct un_engine *engine;
    uint8_t *region; /* guard, secret, memory of port 0, secret, memory of port 1, secret, guard */
    uint64_t region_bytes;
    struct worker_wakes worker_wakes[PORTS];
    struct un_port honest; /* at honest_port */
    uint32_t honest_port;
    struct un_port leaving; /* at the other one, while is_leaving */
    bool is_leaving;
    struct peer peers[PEERS];
    uint32_t serial;
};

extern struct arena arena;

/* Make the secret of a script, so that a fuzzer that sees it compared cannot put it into one: another script has
 * another. */
void arena_hide(const uint8_t *script, size_t length);

void arena_open(const struct carrier *carrier);
void arena_close(void);

/* One turn of the engine. */
void arena_turn(void);

/* Peers. Connecting may fail when the table is full: fd stays -1. */
void peer_connect(struct peer *peer);
void peer_disconnect(struct peer *peer);
void peer_read(struct peer *peer);
void peer_write(struct peer *peer, uint32_t length);

/* An honest worker: echo all that is in the ring, and give up what is asked for. The one that leaves, if any, does so
 * too. */
void honest_serve(struct un_port *port);

/* Its successor sits down at the other port of seat 1; until it is followed, both are there, unless the first one died
 * before. */
void honest_die(void);
void honest_sit(void);
void honest_follow(void); /* the first one has nothing left, and goes */

/* An honest peer says `length` bytes and gets them back whole; its table entry is as it ought to be. */
void honest_check(struct peer *peer, uint32_t length);

#endif
