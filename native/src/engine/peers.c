/* See peers.h.
 *
 * Peers lie in a table and are found by a hash with a key of this process's own, so that nobody can choose addresses
 * that fall together. One that has no connection left gives its entry back. */
#include "engine/peers.h"

#include <string.h>
#include <sys/random.h>

#include "base/siphash.h"

static bool is_on(const struct un_engine *engine)
{
    return engine->options->max_connections_per_peer > 0;
}

void un_peers_reset(struct un_engine *engine)
{
    if (!is_on(engine))
        return;
    un_assert(getrandom(engine->peer_key, sizeof engine->peer_key, 0) == sizeof engine->peer_key);
    for (uint32_t i = 0; i < UN_PEER_BUCKETS(engine->config->conn_max); i++)
        engine->peer_buckets[i] = UN_NONE;
    engine->own->peer_free = UN_NONE;
    engine->own->peer_high = 0;
}

static bool is_link_local(const uint8_t *ip)
{
    return ip[0] == 0xfe && (ip[1] & 0xc0) == 0x80;
}

bool un_peers_key(struct un_peer_key *key, const struct un_endpoint *peer)
{
    *key = (struct un_peer_key){.family = peer->family};
    if (peer->family == UN_FAMILY_IPV4)
        memcpy(key->ip, peer->ip, 4);
    else if (peer->family == UN_FAMILY_IPV6)
        memcpy(key->ip, peer->ip, is_link_local(peer->ip) ? 16 : 8);
    return peer->family == UN_FAMILY_IPV4 || peer->family == UN_FAMILY_IPV6;
}

/* The link that names the peer's entry, or ends the list that it would stand in. */
static uint32_t *find(const struct un_engine *engine, const struct un_peer_key *key)
{
    uint32_t mask = UN_PEER_BUCKETS(engine->config->conn_max) - 1;
    uint32_t *link = &engine->peer_buckets[un_siphash(engine->peer_key, key, sizeof *key) & mask];
    while (*link != UN_NONE && memcmp(&engine->peers[*link].key, key, sizeof *key) != 0)
        link = &engine->peers[*link].next;
    return link;
}

bool un_peers_is_full(const struct un_engine *engine, const struct un_endpoint *peer)
{
    struct un_peer_key key;
    if (!is_on(engine) || !un_peers_key(&key, peer))
        return false;
    uint32_t entry = *find(engine, &key);
    return entry != UN_NONE && engine->peers[entry].count >= engine->options->max_connections_per_peer;
}

static uint32_t take_entry(struct un_engine *engine)
{
    struct un_private *own = engine->own;
    uint32_t entry = own->peer_free;
    if (entry != UN_NONE)
        own->peer_free = engine->peers[entry].next;
    else
        entry = own->peer_high++;
    un_assert(entry < engine->config->conn_max); /* each has a connection */
    return entry;
}

void un_peers_add(struct un_engine *engine, const struct un_endpoint *peer)
{
    struct un_peer_key key;
    if (!is_on(engine) || !un_peers_key(&key, peer))
        return;
    uint32_t *link = find(engine, &key);
    if (*link == UN_NONE) {
        uint32_t entry = take_entry(engine);
        engine->peers[entry] = (struct un_peer){.key = key, .next = UN_NONE};
        *link = entry;
    }
    engine->peers[*link].count++;
}

void un_peers_remove(struct un_engine *engine, const struct un_endpoint *peer)
{
    struct un_peer_key key;
    if (!is_on(engine) || !un_peers_key(&key, peer))
        return;
    uint32_t *link = find(engine, &key), entry = *link;
    un_assert(entry != UN_NONE && engine->peers[entry].count > 0);
    if (--engine->peers[entry].count > 0)
        return;
    *link = engine->peers[entry].next;
    engine->peers[entry].next = engine->own->peer_free;
    engine->own->peer_free = entry;
}
