/* The client of a measurement: one of our stacks, whichever stack is measured. */
#ifndef CLIENT_H
#define CLIENT_H

#include "host.h"

enum {
    MESSAGE_BYTES = 60,
    SERVER_PORT = 7000,
    SERVER_PORTS = 2,      /* from SERVER_PORT on */
    CLIENT_ADDRESSES = 10, /* with 60,000 ports each */
    OPENED_AT_ONCE = 512,
};

struct client {
    struct host host;
    uint64_t *handles; /* of its connections */
    uint32_t count;
};

void client_start(struct client *client, struct un_device *device, struct host_size size);
void client_stop(struct client *client);

/* Open so many connections; `serve` lets the server have a turn. */
void client_open(struct client *client, uint32_t count, void (*serve)(void));

void client_send(struct client *client, uint64_t handle);

/* Whether the answer was there: turns take batches, and delayed ACKs of other connections may come first. */
bool client_take(struct client *client, uint64_t handle);

/* Different ones of its connections: count * step is at most how many there are. */
struct client_some {
    uint32_t first;
    uint32_t step;
    uint32_t count;
};

/* A message on each of them, in one turn; and a turn that takes answers of any of them: how many. */
void client_ask(struct client *client, const struct client_some *some);
uint32_t client_answers(struct client *client, const struct client_some *some);

/* Bulk over the first connection: write what there is room for, at most so many bytes, and let it go out; or read
 * what came, and acknowledge it. Bytes that were moved. */
uint64_t client_pour(struct client *client, uint64_t most);
uint64_t client_drain(struct client *client);

/* Packets and events that nobody waits for. */
void client_turn(struct client *client);

#endif
