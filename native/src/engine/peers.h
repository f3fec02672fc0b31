/* How many connections each peer has open, where that is limited (options->max_connections_per_peer).
 *
 * A peer is an IPv4 address, or the /64 of an IPv6 address: a host has all of one. Of link-local addresses it is the
 * whole address, since all hosts of a link share their /64. Peers of unix sockets have no address, and no limit.
 *
 * The table is a cache in private memory: a takeover counts the living connections anew. */
#ifndef UN_PEERS_H
#define UN_PEERS_H

#include "engine/state.h"

uint64_t un_peers_bytes(uint32_t conn_max);
void un_peers_reset(struct un_engine *engine); /* there are none; at start */

bool un_peers_is_full(const struct un_engine *engine, const struct un_endpoint *peer);
void un_peers_add(struct un_engine *engine, const struct un_endpoint *peer);
void un_peers_remove(struct un_engine *engine, const struct un_endpoint *peer);

#endif
