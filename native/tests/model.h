/* A segment in anonymous shared memory, and a naive engine on its other side: the oracle of the port's tests.
 *
 * The model keeps everything in plain arrays and trusts nothing to be unchanged: it copies the bytes of a send
 * descriptor when it takes the command and compares them when it completes it, so a send frame that was filled again
 * too early is found. Input frames are counted; a release of one that is not out is an error. One seat,
 * seat 0. */
#ifndef UN_TEST_MODEL_H
#define UN_TEST_MODEL_H

#include "base/ring.h"
#include "shard/segment.h"

enum {
    MODEL_CONNS = 16,
    MODEL_OUTPUT_MAX = 1 << 20,
    MODEL_DESCRIPTORS_MAX = 4096,
    MODEL_JOURNAL_MAX = 1 << 12,
};

/* A send descriptor that was taken and is not complete. */
struct model_descriptor {
    uint64_t conn;
    uint32_t frame;
    uint32_t offset;
    uint32_t length;
    uint8_t *bytes; /* what it held when it was taken */
};

/* What a connection's worker has asked for, in order. */
struct model_conn {
    uint8_t *output;
    uint32_t output_length;
    uint8_t state[UN_STATE_BYTES_MAX];
    uint32_t state_length;
};

struct model {
    struct un_segment_config config;
    struct un_segment_layout layout;
    void *public;
    void *seat;
    uint64_t bytes;

    struct un_port_public *published;
    struct un_port_memory *memory;
    struct un_ring events;
    struct un_ring commands;
    struct un_ring releases;
    uint32_t *references; /* per receive frame: events in the ring or slices out */
    struct model_descriptor descriptors[MODEL_DESCRIPTORS_MAX];
    uint32_t descriptor_count;
    uint32_t node_count;

    struct model_conn conns[MODEL_CONNS];
    struct un_command journal[MODEL_JOURNAL_MAX]; /* commands other than SEND and STATE, as taken */
    uint32_t journal_length;
    uint32_t releases_waiting_max; /* most releases seen waiting at once */
};

/* Small numbers, so that everything runs full and wraps. */
struct un_segment_config model_config(void);

/* A connection id of slot 0 to MODEL_CONNS - 1. */
uint64_t model_conn_id(uint32_t slot);

/* Map and format the memories and start the engine with its indices at `start`. */
void model_open(struct model *model, struct un_segment_config config, uint32_t start);
void model_close(struct model *model);

/* Put an event into the ring, DATA with a frame of its own; false when ring or frames are used up. */
bool model_push(struct model *model, enum un_event_type type, uint32_t slot, const void *bytes, uint32_t length);
void model_publish(struct model *model);

/* Take what the worker published: releases, commit, commands (at most `commands_max`). */
void model_take_releases(struct model *model);
void model_take_commit(struct model *model);
void model_take_commands(struct model *model, uint32_t commands_max);
void model_take(struct model *model);

/* Complete the i-th descriptor of those that may be completed: the oldest of each connection. */
void model_complete(struct model *model, uint32_t choice);
void model_complete_all(struct model *model);

/* The worker is dead: take its commits, sweep its frames, put its memory right for the next one. */
void model_lose_worker(struct model *model);

#endif
