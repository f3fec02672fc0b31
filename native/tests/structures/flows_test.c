/* The look-up table against a linear one, with hashes as they come and with hashes made to collide. */
#include "../check.h"

#include <stdbool.h>
#include <string.h>

#include "stack/flows.h"

#define CONNS 600

static struct un_tcb tcbs[CONNS];
static bool is_in[CONNS];
static _Alignas(64) struct un_flows_bucket buckets[CONNS];

enum hashing { KEYED, FEW, ONE_BUCKET, EQUAL, HASHINGS };

static uint32_t hash_for(enum hashing hashing, const struct un_flows_key *key, const struct un_tcb *tcb)
{
    uint32_t hash = un_flows_hash(key, &tcb->peer, un_flows_ends_of(tcb));
    switch (hashing) {
    case FEW:
        return hash & 0xc0000003;
    case ONE_BUCKET:
        return hash | 0xffff0000; /* the last one, so that it spills into the first */
    case EQUAL:
        return 0; /* what free entries hold, too */
    default:
        return hash;
    }
}

/* Few values for each part, so that many flows differ in one of them only. */
static struct un_tcb any_flow(uint64_t *random)
{
    uint8_t four[4] = {10, 0, 0, (uint8_t)random_below(random, 3)};
    return (struct un_tcb){.peer = un_ip_from_v4(four),
                           .peer_port = (uint16_t)(40000 + random_below(random, 12)),
                           .local_port = (uint16_t)(80 + random_below(random, 6)),
                           .local = (uint16_t)random_below(random, 4)};
}

static bool is_same(const struct un_tcb *left, const struct un_tcb *right)
{
    return un_ip_equal(&left->peer, &right->peer) && left->peer_port == right->peer_port &&
           left->local_port == right->local_port && left->local == right->local;
}

static uint32_t find_slowly(uint32_t conns, const struct un_tcb *flow)
{
    for (uint32_t i = 0; i < conns; i++)
        if (is_in[i] && is_same(&tcbs[i], flow))
            return i;
    return UN_NONE;
}

static uint32_t find(const struct un_flows *flows, const struct un_tcb *flow)
{
    return un_flows_find(flows, tcbs, flow->hash, &flow->peer, un_flows_ends_of(flow));
}

/* Every bucket counts what it holds, and each spilled count is explained by an entry. */
static void check_buckets(const struct un_flows *flows, uint32_t conns)
{
    uint32_t spilled = 0, used = 0, expected = 0;
    for (uint32_t at = 0; at < flows->count; at++) {
        uint32_t here = 0;
        for (uint32_t entry = 0; entry < UN_FLOWS_ENTRIES; entry++) {
            if (flows->buckets[at].conns[entry] == 0)
                continue;
            uint32_t hash = tcbs[flows->buckets[at].conns[entry] - 1].hash;
            uint32_t home = (uint32_t)((uint64_t)hash * flows->count >> 32);
            expected += (at + flows->count - home) % flows->count;
            here++;
        }
        CHECK_EQ(here, flows->buckets[at].used);
        used += here;
        spilled += flows->buckets[at].spilled;
    }
    CHECK_EQ(spilled, expected);
    for (uint32_t i = 0; i < conns; i++)
        used -= is_in[i];
    CHECK_EQ(used, 0);
}

static void change(struct un_flows *flows, const struct un_flows_key *key, enum hashing hashing, uint32_t conns,
                   uint64_t *random)
{
    uint32_t index = random_below(random, conns);
    struct un_tcb flow = any_flow(random);
    flow.hash = hash_for(hashing, key, &flow);
    CHECK_EQ(find(flows, &flow), find_slowly(conns, &flow));
    if (is_in[index]) {
        CHECK_EQ(find(flows, &tcbs[index]), index);
        un_flows_remove(flows, tcbs, index);
        is_in[index] = false;
        CHECK_EQ(find(flows, &tcbs[index]), UN_NONE);
    } else if (find_slowly(conns, &flow) == UN_NONE) {
        tcbs[index] = flow;
        un_flows_insert(flows, tcbs, index);
        is_in[index] = true;
        CHECK_EQ(find(flows, &flow), index);
    }
}

static void against_list(uint64_t seed)
{
    uint64_t random = seed;
    enum hashing hashing = (enum hashing)(seed % HASHINGS);
    uint32_t conns = 1 + random_below(&random, hashing == KEYED ? CONNS : 60);
    struct un_flows_key key;
    uint8_t secret[16] = {(uint8_t)seed};
    un_flows_key_init(&key, secret);
    struct un_flows flows = {buckets, un_flows_buckets(conns)};
    un_flows_clear(&flows);
    memset(is_in, 0, sizeof is_in);
    for (uint32_t step = 0; step < 3000; step++) {
        change(&flows, &key, hashing, conns, &random);
        if (step % 100 == 0)
            check_buckets(&flows, conns);
    }
    for (uint32_t i = 0; i < conns; i++) {
        if (is_in[i])
            un_flows_remove(&flows, tcbs, i);
        is_in[i] = false;
    }
    check_buckets(&flows, conns);
}

static void at_random(void)
{
    for_each_seed(80, against_list);
}

/* A full table has room for every connection, and nineteen of twenty lie in their first bucket. */
static void full(void)
{
    struct un_flows_key key;
    un_flows_key_init(&key, (const uint8_t[16]){7});
    struct un_flows flows = {buckets, un_flows_buckets(CONNS)};
    un_flows_clear(&flows);
    for (uint32_t i = 0; i < CONNS; i++) {
        uint8_t four[4] = {10, 0, (uint8_t)(i >> 8), (uint8_t)i};
        tcbs[i] = (struct un_tcb){.peer = un_ip_from_v4(four), .peer_port = 40000, .local_port = 80};
        tcbs[i].hash = hash_for(KEYED, &key, &tcbs[i]);
        un_flows_insert(&flows, tcbs, i);
    }
    uint32_t spilled = 0;
    for (uint32_t i = 0; i < flows.count; i++)
        spilled += flows.buckets[i].spilled;
    CHECK(spilled < CONNS / 20);
    for (uint32_t i = 0; i < CONNS; i++)
        CHECK_EQ(find(&flows, &tcbs[i]), i);
}

int main(void)
{
    RUN(at_random);
    RUN(full);
    return 0;
}
