/* How often engines of a keeper have crashed, and whether that is too often to go on with their memory: then the shard
 * is made anew. What an engine has lived does not count: one that crashes over what its predecessors left, or over what
 * a peer sends again and again, may serve for a while each time. Fewer are borne, as connections stay open. Whoever is
 * killed from outside has not crashed. */
#ifndef UN_CRASHES_H
#define UN_CRASHES_H

#include <stdbool.h>
#include <stdint.h>

#define UN_CRASHES_MAX 10 /* as many within … */
#define UN_CRASHES_WITHIN_S 10

struct un_crashes {
    uint64_t at_ns[UN_CRASHES_MAX]; /* the last ones, a ring */
    uint64_t count;
};

/* One more; whether these are too many. */
static inline bool un_crashes_count(struct un_crashes *crashes, uint64_t now_ns)
{
    crashes->at_ns[crashes->count++ % UN_CRASHES_MAX] = now_ns;
    uint64_t oldest_ns = crashes->at_ns[crashes->count % UN_CRASHES_MAX];
    return crashes->count >= UN_CRASHES_MAX && now_ns - oldest_ns < UN_CRASHES_WITHIN_S * UINT64_C(1000000000);
}

#endif
