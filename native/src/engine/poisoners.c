/* See poisoners.h. */
#include "engine/poisoners.h"

#include <string.h>

#include "engine/peers.h"

#define UN_POISON_MANY 3u
#define UN_POISON_WINDOW_NS UINT64_C(60000000000)

static struct un_poisoner *find(const struct un_engine *engine, const struct un_peer_key *key)
{
    for (uint32_t i = 0; i < UN_POISONERS; i++) {
        struct un_poisoner *poisoner = &engine->own->poisoners[i];
        if (poisoner->count > 0 && memcmp(&poisoner->key, key, sizeof *key) == 0)
            return poisoner;
    }
    return NULL;
}

/* A free one, or the one noted first. */
static struct un_poisoner *make(struct un_engine *engine, const struct un_peer_key *key)
{
    struct un_poisoner *oldest = engine->own->poisoners;
    for (struct un_poisoner *other = oldest; other < engine->own->poisoners + UN_POISONERS; other++)
        if (oldest->count > 0 && (other->count == 0 || other->since_ns < oldest->since_ns))
            oldest = other;
    oldest->count = 0;
    un_compiler_fence(); /* no count of another one's */
    oldest->key = *key;
    oldest->refused_until_ns = 0;
    return oldest;
}

void un_poisoners_note(struct un_engine *engine, const struct un_endpoint *peer)
{
    struct un_peer_key key;
    if (!engine->options->refuse_poisoners || !un_peers_key(&key, peer))
        return;
    struct un_poisoner *poisoner = find(engine, &key);
    if (!poisoner)
        poisoner = make(engine, &key);
    if (poisoner->count == 0 || engine->now_ns > poisoner->since_ns + UN_POISON_WINDOW_NS) {
        poisoner->count = 0;
        poisoner->since_ns = engine->now_ns;
    }
    un_compiler_fence();
    if (++poisoner->count >= UN_POISON_MANY)
        poisoner->refused_until_ns = engine->now_ns + UN_POISON_WINDOW_NS;
}

bool un_poisoners_refused(const struct un_engine *engine, const struct un_endpoint *peer)
{
    struct un_peer_key key;
    if (!engine->options->refuse_poisoners || !un_peers_key(&key, peer))
        return false;
    const struct un_poisoner *poisoner = find(engine, &key);
    return poisoner && poisoner->refused_until_ns > engine->now_ns;
}
