/* An engine over a stack of our own with an honest worker, and clients on a stack of theirs at the other end of a wire;
 * all of it in this process, small, so that it can be stepped through. Memories that outlive an engine are shared. */
#ifndef UN_TEST_SERVER_H
#define UN_TEST_SERVER_H

#include "engine/link.h"
#include "shard/port.h"
#include "stack/kernel_table.h"

enum { SERVER_CONN_MAX = 8, CLIENTS = 2, SERVER_PORT = 7000 };

struct server {
    struct un_segment_config config;
    struct un_segment_layout layout;
    struct un_engine_options options;
    struct un_stack_setup stack;
    struct un_engine_setup setup;
    struct un_engine *engine;
    struct un_port worker;
    struct un_device *wire[2]; /* ours, the clients' */
    struct un_stack far;
    void *far_memory;
    uint64_t far_bytes;
    uint64_t clients[CLIENTS]; /* handles of the clients' stack */
    uint64_t conns[CLIENTS];   /* the engine's ids */
    int control_fd;            /* the supervisor's end, of shared addresses; else -1 */
    bool is_shared;
    enum un_poll_mode poll_mode;
    int wake_fd; /* from the worker; -1: it is in this process */
    bool tx_alone;
    struct un_kernel_table *kernel; /* of shared addresses */
};

extern struct server server;

enum { LEFT, RIGHT }; /* the ports; the worker sits at the left one */

/* Everything, with CLIENTS connections that the worker knows. */
void server_open(void);
/* The same by an engine that waits like this, beside a worker that wakes it by this descriptor, or with it (-1). */
void server_open_polling(enum un_poll_mode mode, int wake_fd);
/* The same with it, adaptive, over a device that says so of what it sends (tx_alone). */
void server_open_alone(void);
/* The same, but a kernel has the server's address as well. Clients know its Ethernet address, as nobody answers ARP. */
void server_open_shared(void);
/* The kernel's table: 10.0.0.1/24, and who is at 10.0.0.2 unless that is NULL. */
void server_tell(const uint8_t *mac);
void server_close(void);

/* Another process has used the engine's memories: what the wire has put there is no more. */
void server_forget_packets(void);

/* Step through it (step.h) with all memories that outlive an engine watched; the server is closed then. */
void server_step(void (*act)(void), void (*look)(void));

/* The same by an engine that shares our descriptors (step_through_sharing). */
void server_step_sharing(void (*act)(void), void (*look)(void));

void server_turn(void);  /* one turn of the engine, nothing else */
void clients_turn(void); /* of the clients' stack */
uint64_t client_connect(void);
void client_send(uint64_t client, uint32_t length);
bool client_is_open(uint64_t client);

/* The worker takes all events, and gives up what it is asked for; what it is to answer it is told. */
void worker_take(void);
void worker_send(uint64_t conn, uint32_t length);

#endif
