/* A pool of frames and the rest of struct un_tcp that the queues of payload look at. */
#ifndef UN_STRUCTURES_FIXTURE_H
#define UN_STRUCTURES_FIXTURE_H

#include "../check.h"

#include <string.h>

#include "tcp/tcp.h"

#define FIXTURE_FRAMES 512u
#define FIXTURE_BYTES (FIXTURE_FRAMES * 2048u)

struct fixture {
    struct un_tcp tcp;
    struct un_tcb tcb;
    struct un_pool_memory memory;
    struct un_frame frames[FIXTURE_FRAMES];
    struct un_tcp_config config;
    struct un_tcp_counters counters;
    uint8_t bytes[FIXTURE_BYTES];
};

static inline void fixture_start(struct fixture *fixture, uint32_t frames, uint32_t frame_bytes)
{
    CHECK(frames <= FIXTURE_FRAMES && frames * frame_bytes <= FIXTURE_BYTES);
    fixture->config = (struct un_tcp_config){.ooo_frames_max = 1000, .rcv_frames_max = 1000};
    fixture->counters = (struct un_tcp_counters){0};
    fixture->tcp = (struct un_tcp){.pool = {&fixture->memory, fixture->frames, fixture->bytes},
                                   .config = &fixture->config,
                                   .counters = &fixture->counters};
    un_pool_format(&fixture->tcp.pool, frames, frame_bytes);
    fixture->tcb = (struct un_tcb){.state = UN_TCP_ESTABLISHED,
                                   .flags = UN_TCB_SACK,
                                   .rcv = {UN_NONE, UN_NONE},
                                   .rcv_ooo = {UN_NONE, UN_NONE},
                                   .snd = {UN_NONE, UN_NONE},
                                   .unsent_frame = UN_NONE,
                                   .snd_limit = UINT32_MAX};
}

/* Nothing leaked, nothing was freed twice. */
static inline void fixture_check_whole(const struct fixture *fixture)
{
    uint32_t free_frames = 0;
    for (uint32_t at = fixture->memory.free_head; at != UN_NONE; at = fixture->frames[at].next) {
        CHECK_EQ(fixture->frames[at].references, 0);
        CHECK(free_frames++ < fixture->memory.count);
    }
    CHECK_EQ(free_frames, fixture->memory.free_count);
    CHECK_EQ(free_frames, fixture->memory.count);
}

#endif
