/* How many connections each peer has open, where that is limited (options->max_connections_per_peer).
 *
 * A peer is an IPv4 address, or the /64 of an IPv6 address: a host has all of one. Of link-local addresses it is the
 * whole address, since all hosts of a link share their /64. Peers of unix sockets have no address, and no limit.
 *
 * The table is a cache in private memory: a takeover counts the living connections anew. */
#ifndef UN_PEERS_H
#define UN_PEERS_H

#include "engine/state.h"

struct un_peer {
    struct un_peer_key key;
    uint32_t count;
    uint32_t next; /* of its bucket, or free */
};

/* The power of two that is not less than conn_max. */
#define UN_PEER_BUCKETS(conn_max) ((conn_max) < 2 ? 1u : 1u << (32 - __builtin_clz((conn_max) - 1)))

/* False: a peer without an address. */
bool un_peers_key(struct un_peer_key *key, const struct un_endpoint *peer);

void un_peers_reset(struct un_engine *engine); /* there are none; at start */

bool un_peers_is_full(const struct un_engine *engine, const struct un_endpoint *peer);
void un_peers_add(struct un_engine *engine, const struct un_endpoint *peer);
void un_peers_remove(struct un_engine *engine, const struct un_endpoint *peer);

#endif
