/* See poisoners.h. */
#include "engine/poisoners.h"

#include <string.h>

#include "engine/peers.h"

#define UN_POISON_MANY 3u
#define UN_POISON_WINDOW_NS UINT64_C(60000000000)

/* The peer's entry, or NULL. */
static struct un_poisoner *find(const struct un_engine *engine, const struct un_endpoint *peer)
{
    struct un_peer_key key;
    if (!un_peers_key(&key, peer))
        return NULL;
    for (uint32_t i = 0; i < UN_POISONERS; i++) {
        struct un_poisoner *poisoner = &engine->own->poisoners[i];
        if (poisoner->suspected_ns > 0 && memcmp(&poisoner->key, &key, sizeof key) == 0)
            return poisoner;
    }
    return NULL;
}

/* A free one, or the one suspected longest ago. */
static struct un_poisoner *make(struct un_engine *engine, const struct un_endpoint *peer)
{
    struct un_peer_key key;
    struct un_poisoner *oldest = engine->own->poisoners;
    if (!un_peers_key(&key, peer))
        return NULL;
    for (struct un_poisoner *other = oldest; other < engine->own->poisoners + UN_POISONERS; other++)
        if (other->suspected_ns < oldest->suspected_ns)
            oldest = other;
    oldest->suspected_ns = 0;
    un_compiler_fence(); /* nothing of another one's is its own */
    oldest->key = key;
    oldest->count = 0;
    oldest->since_ns = oldest->refused_until_ns = 0;
    un_compiler_fence();
    return oldest;
}

void un_poisoners_suspect(struct un_engine *engine, const struct un_endpoint *peer)
{
    struct un_poisoner *poisoner = find(engine, peer);
    if (!poisoner)
        poisoner = make(engine, peer);
    if (poisoner)
        poisoner->suspected_ns = engine->now_ns;
}

void un_poisoners_count(struct un_engine *engine, const struct un_endpoint *peer)
{
    struct un_poisoner *poisoner = find(engine, peer);
    if (!poisoner)
        return;
    if (engine->now_ns > poisoner->since_ns + UN_POISON_WINDOW_NS) {
        poisoner->count = 0;
        un_compiler_fence();
        poisoner->since_ns = engine->now_ns;
    }
    if (++poisoner->count >= UN_POISON_MANY)
        poisoner->refused_until_ns = engine->now_ns + UN_POISON_WINDOW_NS;
}

bool un_poisoners_suspected(const struct un_engine *engine, const struct un_endpoint *peer)
{
    const struct un_poisoner *poisoner = find(engine, peer);
    return poisoner && engine->now_ns <= poisoner->suspected_ns + UN_POISON_WINDOW_NS;
}

bool un_poisoners_refused(const struct un_engine *engine, const struct un_endpoint *peer)
{
    const struct un_poisoner *poisoner = engine->options->refuse_poisoners ? find(engine, peer) : NULL;
    return poisoner && poisoner->refused_until_ns > engine->now_ns;
}
