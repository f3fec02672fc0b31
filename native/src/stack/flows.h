/* Look-up of connections by peer, ports and local address.
 *
 * Buckets of one cache line with seven entries each, four of them used on average when the table is full: what is
 * searched is found in the first line in nineteen of twenty cases, and the block of a connection is only touched when
 * all 32 bits of the hash agree. An entry that found its bucket full lies in one of the next; every bucket it was
 * carried past counts it in `spilled`, so that a search goes on only where it has to and removal leaves no tombstone.
 *
 * The hash is keyed: multilinear hashing in pairs of words (Lemire and Kaser, "Strongly universal string hashing is
 * fast"), for which any two different flows collide with probability 2^-32 over the choice of the key, whatever the
 * peer chose them to be. Three multiplications.
 *
 * The table is a cache: un_flows_clear and un_flows_insert of every connection make it anew. */
#ifndef UN_FLOWS_H
#define UN_FLOWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "tcp/tcb.h"
#include "wire/ip.h"

#define UN_FLOWS_ENTRIES 7u
#define UN_FLOWS_LOAD 4u /* entries per bucket of a full table: 16 bytes a connection */

struct un_flows_bucket {
    uint32_t hashes[UN_FLOWS_ENTRIES];
    uint32_t spilled;                 /* entries that were carried past this bucket */
    uint32_t conns[UN_FLOWS_ENTRIES]; /* index + 1; 0: free */
    uint32_t used;                    /* entries in this bucket */
};
UN_STATIC_ASSERT(sizeof(struct un_flows_bucket) == 64, "one cache line");

/* A process's view; the buckets lie in the arena, aligned to 64. */
struct un_flows {
    struct un_flows_bucket *buckets;
    uint32_t count;
};

struct un_flows_key {
    uint64_t words[7];
};

void un_flows_key_init(struct un_flows_key *key, const uint8_t *secret); /* UN_SIPHASH_KEY_BYTES of it */

/* What tells the connections with a peer apart, in the order of a block: compared in one. */
static inline uint64_t un_flows_ends(uint16_t peer_port, uint16_t local_port, uint16_t local)
{
    return (uint64_t)local << 32 | (uint32_t)local_port << 16 | peer_port;
}

static inline uint64_t un_flows_ends_of(const struct un_tcb *tcb)
{
    UN_STATIC_ASSERT(offsetof(struct un_tcb, local_port) == offsetof(struct un_tcb, peer_port) + 2 &&
                         offsetof(struct un_tcb, local) == offsetof(struct un_tcb, peer_port) + 4,
                     "they follow one another");
    uint64_t word;
    memcpy(&word, &tcb->peer_port, sizeof word);
    return word & UINT64_C(0xffffffffffff);
}

static inline uint32_t un_flows_hash(const struct un_flows_key *key, const struct un_ip *peer, uint64_t ends)
{
    const uint64_t *words = key->words;
    struct un_ip_words ip = un_ip_words(peer);
    uint64_t sum = words[0];
    sum += (words[1] + (uint32_t)ip.first) * (words[2] + (ip.first >> 32));
    sum += (words[3] + (uint32_t)ip.second) * (words[4] + (ip.second >> 32));
    sum += (words[5] + (uint32_t)ends) * (words[6] + (ends >> 32));
    return (uint32_t)(sum >> 32);
}

/* Buckets of a table for so many connections. */
static inline uint32_t un_flows_buckets(uint32_t conn_max)
{
    return conn_max / UN_FLOWS_LOAD + 1;
}

void un_flows_clear(struct un_flows *flows);

/* The block's hash, peer, ports and local are set, and stay as they are until it is removed. */
void un_flows_insert(struct un_flows *flows, const struct un_tcb *tcbs, uint32_t index);
void un_flows_remove(struct un_flows *flows, const struct un_tcb *tcbs, uint32_t index);

static inline uint32_t un_flows_home(const struct un_flows *flows, uint32_t hash)
{
    return (uint32_t)((uint64_t)hash * flows->count >> 32);
}

static inline uint32_t un_flows_next(const struct un_flows *flows, uint32_t bucket)
{
    return bucket + 1 < flows->count ? bucket + 1 : 0;
}

static inline bool un_flows_is(const struct un_tcb *tcb, const struct un_ip *peer, uint64_t ends)
{
    return un_flows_ends_of(tcb) == ends && un_ip_equal(&tcb->peer, peer);
}

/* The first entry of this hash, UN_FLOWS_ENTRIES: none. */
static inline uint32_t un_flows_entry(const struct un_flows_bucket *bucket, uint32_t hash)
{
    uint32_t entry = 0;
    while (entry < UN_FLOWS_ENTRIES && (bucket->hashes[entry] != hash || bucket->conns[entry] == 0))
        entry++;
    return entry;
}

uint32_t un_flows_search(const struct un_flows *flows, const struct un_tcb *tcbs, uint32_t hash,
                         const struct un_ip *peer, uint64_t ends);

/* The index, or UN_NONE. hash is un_flows_hash of the rest. Inline, as every packet is looked up: the first entry of
 * the hash in the first bucket it is, or there is nothing to find; but for one in thousands, which are searched for. */
static inline uint32_t un_flows_find(const struct un_flows *flows, const struct un_tcb *tcbs, uint32_t hash,
                                     const struct un_ip *peer, uint64_t ends)
{
    const struct un_flows_bucket *bucket = &flows->buckets[un_flows_home(flows, hash)];
    uint32_t entry = un_flows_entry(bucket, hash);
    if (__builtin_expect(entry < UN_FLOWS_ENTRIES, 1)) {
        uint32_t index = bucket->conns[entry] - 1;
        if (__builtin_expect(un_flows_is(&tcbs[index], peer, ends), 1))
            return index;
    } else if (bucket->spilled == 0) {
        return UN_NONE;
    }
    struct un_ip ip = *peer; /* that of the caller may live in registers */
    return un_flows_search(flows, tcbs, hash, &ip, ends);
}

#endif
