/* The key by which flows are hashed to shards (P6): 16 bits, repeated; symmetric, so both directions agree. */
#ifndef UN_STEERING_KEY_H
#define UN_STEERING_KEY_H

#define UN_STEERING_KEY 0x6d5au

#endif
