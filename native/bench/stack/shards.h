/* The echo of stack_bench on the shards of a server, each on a wire of its own. What one of them does for a request
 * must not depend on how many others there are. */
#ifndef SHARDS_H
#define SHARDS_H

#include <stdbool.h>
#include <stdint.h>

enum { SHARDS_MAX = 64 };

/* So many, each with a client that has one connection. */
void shards_start(uint32_t count);
void shards_stop(uint32_t count);

/* Of the shard with this number: its client asks, it has a turn (the measured one), its client has the answer. */
void shards_ask(uint32_t number);
void shards_turn(uint32_t number);
bool shards_answered(uint32_t number);

#endif
