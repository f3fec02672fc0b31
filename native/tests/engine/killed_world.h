/* A small server whose network process can be killed at any instruction, over real sockets.
 *
 * Real sockets cannot be copied, so a state is not judged in a copy, as step.h does it: for each instruction there is a
 * new world, in which the same thing happens up to there. The engine lives in a process of its own with a descriptor
 * table of its own, the keeper; what is to be stepped through is a clone that shares that table, as engines do, and
 * after its death the keeper goes on as the next engine. Clients and the worker are this process. */
#ifndef UN_TEST_KILLED_WORLD_H
#define UN_TEST_KILLED_WORLD_H

#include "engine/state.h"
#include "shard/port.h"

enum { KILLED_CLIENTS = 2 };

struct killed_client {
    int fd; /* -1: gone */
    uint64_t conn;
    uint64_t wrote; /* by the client */
    uint64_t heard; /* of that, by the worker */
    uint64_t answered; /* by the worker */
    uint64_t got;      /* of that, by the client */
    bool heard_eof, heard_close;
    int owner; /* the worker that knows it; -1: nobody, until one hears of it */
    uint8_t reason;
    bool got_eof, got_reset;
};

struct killed_world {
    bool is_unix;
    struct un_segment_config config;
    struct un_segment_layout layout;
    struct un_engine_options options;
    struct un_engine_setup setup;
    struct killed_worker {
        struct un_port end;
        bool sits;
    } workers[UN_PORTS]; /* left and right, at the ports of the only seat */
    uint32_t serials;
    int current; /* worker that came last */
    struct killed_client clients[KILLED_CLIENTS];
    uint32_t known; /* clients of which the worker has heard */
};

extern struct killed_world world;

/* The first `connected` clients are connected, and the worker knows them. */
void world_open(bool is_unix, uint32_t connected);
void world_close(void);

void world_turn(void);                   /* one turn of the engine, whole */
void client_connect(uint32_t client);    /* on its way */
void client_write(uint32_t client, uint32_t length);
void client_read(uint32_t client);       /* what is there */
void worker_serve(int worker);           /* all that is in its ring, taken and committed; questions by RELEASE */
void workers_serve(void);                /* those that sit */
void worker_answer(uint32_t client, uint32_t length); /* the one that has the connection; and commit */
void worker_order(uint32_t client, enum un_command_op op, uint64_t arg);
void worker_dies(int worker); /* the engine is to be told */

/* What a network process does: a turn, its start, in which it takes over from a dead one, or what the supervisor asks
 * for, which asks once more if it was not confirmed. */
enum killed_act { ACT_TURN, ACT_TAKEOVER, ACT_ATTACH_LEFT, ACT_ATTACH_RIGHT, ACT_LOSE_LEFT, ACT_LOSE_RIGHT,
                  ACT_END_ALL };
enum { LEFT, RIGHT };

void world_do(enum killed_act act); /* whole; a worker that was attached sits then */

/* Steps of it after which memory had changed, or that were system calls; it is done to the end. */
uint32_t world_record(enum killed_act act, uint32_t *steps, uint32_t most);

/* Kill it after so many steps. Another one is needed then: ACT_TAKEOVER. False: it was at its end. */
bool world_kill(enum killed_act act, uint32_t steps);
void world_take_over(void);

/* Turns until the condition holds; it must, in time. */
void world_until(bool (*condition)(void), const char *what);

#endif
