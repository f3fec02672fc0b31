/* See prefetch.h. */
#include "stack/prefetch.h"

#include "base/attributes.h"
#include "base/bytes.h"
#include "wire/packet_fast.h"

#define UN_BLOCK_HOT 384u /* bytes of a block that a usual segment touches */

/* What looks a flow up, in one place, so that the loops keep it in registers. */
struct finder {
    const struct un_frame *frames;
    const uint8_t *bytes; /* of the frames */
    uint64_t frame_bytes;
    struct un_flows flows;
    struct un_flows_key key;
    uint16_t local;
};

static inline const struct un_flows_bucket *bucket_of(const struct finder *finder, uint32_t hash)
{
    return &finder->flows.buckets[un_flows_home(&finder->flows, hash)];
}

/* As if it were a usual segment over IPv4, to the address that the last one was for. 0 of what is too short. */
static inline uint32_t hash_of(const struct finder *finder, uint32_t index)
{
    const struct un_frame *frame = &finder->frames[index];
    const uint8_t *ip = finder->bytes + index * finder->frame_bytes + frame->offset + UN_ETH_BYTES;
    const uint8_t *tcp = ip + UN_IPV4_BYTES;
    if (frame->length < un_packet_fast_bytes(UN_IPV4_BYTES, UN_TCP_HEADER_BYTES))
        return 0;
    struct un_ip peer = un_ip_from_v4(ip + 12);
    return un_flows_hash(&finder->key, &peer, un_flows_ends(un_get16(tcp), un_get16(tcp + 2), finder->local));
}

static inline void fetch_block(const struct finder *finder, const struct un_tcb *tcbs, uint32_t hash)
{
    const struct un_flows_bucket *bucket = bucket_of(finder, hash);
    uint32_t entry = un_flows_entry(bucket, hash);
    if (entry == UN_FLOWS_ENTRIES)
        return;
    const uint8_t *block = (const uint8_t *)&tcbs[bucket->conns[entry] - 1];
    for (uint32_t at = 0; at < UN_BLOCK_HOT; at += UN_CACHE_LINE)
        __builtin_prefetch(block + at, 1);
}

/* Not inlined: in one function with the fast path, both would run out of registers. */
UN_NEVER_INLINE void un_stack_prefetch(const struct un_stack *stack, const struct un_rx *packets, uint32_t count)
{
    const struct un_pool *pool = &stack->tcp.pool;
    const struct finder finder = {pool->frames,  pool->bytes,      pool->own->frame_bytes,
                                  stack->flows, stack->flows_key, stack->local_last};
    uint32_t hashes[UN_TURN_PACKETS];
    for (uint32_t i = 0; i < count; i++) {
        hashes[i] = hash_of(&finder, packets[i].frame);
        __builtin_prefetch(bucket_of(&finder, hashes[i]));
    }
    for (uint32_t i = 0; i < count; i++)
        fetch_block(&finder, stack->tcp.tcbs, hashes[i]);
    un_compiler_fence(); /* or a compiler that sees that nothing comes of the call leaves it out */
}
