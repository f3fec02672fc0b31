/* What a stack counts, as the supervisor reads it: the counters lie in the public memory of the shard, and the stack of
 * the engine writes them there itself, so that looking costs nobody anything (P9). One writer, plain words of
 * 64 bits. */
#ifndef UN_STACK_COUNTERS_H
#define UN_STACK_COUNTERS_H

#include "shard/segment.h"
#include "stack/stack.h"

UN_STATIC_ASSERT(sizeof(struct un_published_counters) <= UN_STACK_WORDS * sizeof(uint64_t),
                 "the segment has room for them");

static inline struct un_published_counters *un_published_counters(const void *public)
{
    return un_at(public, un_layout(public)->stack.at);
}

#endif
