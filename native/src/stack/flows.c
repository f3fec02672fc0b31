/* See flows.h. */
#include "stack/flows.h"

#include <stdbool.h>

#include "base/siphash.h"

void un_flows_key_init(struct un_flows_key *key, const uint8_t *secret)
{
    for (uint32_t word = 0; word < sizeof key->words / sizeof key->words[0]; word++) {
        uint8_t label[] = {'f', 'l', 'o', 'w', 's', (uint8_t)word};
        key->words[word] = un_siphash(secret, label, sizeof label);
    }
}

void un_flows_clear(struct un_flows *flows)
{
    memset(flows->buckets, 0, sizeof *flows->buckets * (size_t)flows->count);
}

void un_flows_insert(struct un_flows *flows, const struct un_tcb *tcbs, uint32_t index)
{
    uint32_t hash = tcbs[index].hash;
    uint32_t at = un_flows_home(flows, hash);
    for (uint32_t step = 0; flows->buckets[at].used == UN_FLOWS_ENTRIES; step++) {
        un_assert(step < flows->count); /* more connections than the table is made for */
        flows->buckets[at].spilled++;
        at = un_flows_next(flows, at);
    }
    struct un_flows_bucket *bucket = &flows->buckets[at];
    uint32_t entry = 0;
    while (bucket->conns[entry] != 0)
        entry++;
    bucket->hashes[entry] = hash;
    bucket->conns[entry] = index + 1;
    bucket->used++;
}

static bool take_out(struct un_flows_bucket *bucket, uint32_t index)
{
    for (uint32_t entry = 0; entry < UN_FLOWS_ENTRIES; entry++) {
        if (bucket->conns[entry] != index + 1)
            continue;
        bucket->conns[entry] = 0;
        bucket->used--;
        return true;
    }
    return false;
}

void un_flows_remove(struct un_flows *flows, const struct un_tcb *tcbs, uint32_t index)
{
    uint32_t at = un_flows_home(flows, tcbs[index].hash);
    while (!take_out(&flows->buckets[at], index)) {
        un_assert(flows->buckets[at].spilled > 0); /* it stands in no bucket */
        flows->buckets[at].spilled--;
        at = un_flows_next(flows, at);
    }
}

static uint32_t look(const struct un_flows_bucket *bucket, const struct un_tcb *tcbs, uint32_t hash,
                     const struct un_ip *peer, uint64_t ends)
{
    for (uint32_t entry = 0; entry < UN_FLOWS_ENTRIES; entry++) {
        uint32_t index = bucket->conns[entry] - 1; /* UN_NONE: free */
        if (bucket->hashes[entry] == hash && index != UN_NONE && un_flows_is(&tcbs[index], peer, ends))
            return index;
    }
    return UN_NONE;
}

uint32_t un_flows_search(const struct un_flows *flows, const struct un_tcb *tcbs, uint32_t hash,
                         const struct un_ip *peer, uint64_t ends)
{
    uint32_t at = un_flows_home(flows, hash);
    for (uint32_t step = 0; step < flows->count; step++) {
        uint32_t index = look(&flows->buckets[at], tcbs, hash, peer, ends);
        if (index != UN_NONE || flows->buckets[at].spilled == 0)
            return index;
        at = un_flows_next(flows, at);
    }
    return UN_NONE;
}
