/* Connections of each peer, counted beside an array that is simply searched (engine/peers.h). */
#include "engine/peers.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"

enum { CONNS = 64, ADDRESSES = 24, STEPS = 20000, LIMIT = 4 };

static struct un_private own;
static struct un_engine_options options = {.max_connections_per_peer = LIMIT};
static struct un_segment_config config = {.conn_max = CONNS};
static struct un_engine engine = {.own = &own, .options = &options, .config = &config};

static void open_table(void)
{
    engine.peers = calloc(CONNS, sizeof *engine.peers);
    engine.peer_buckets = calloc(UN_PEER_BUCKETS(CONNS), sizeof *engine.peer_buckets);
    CHECK(engine.peers != NULL);
    un_peers_reset(&engine);
}

static struct un_endpoint v4(uint8_t last)
{
    return (struct un_endpoint){.ip = {192, 0, 2, last}, .family = UN_FAMILY_IPV4, .port = (uint16_t)rand()};
}

static struct un_endpoint v6(const char *prefix, uint8_t last)
{
    struct un_endpoint peer = {.family = UN_FAMILY_IPV6, .port = (uint16_t)rand()};
    memcpy(peer.ip, prefix, 8);
    peer.ip[15] = last;
    return peer;
}

static void as_many_as_were_added_are_there(void)
{
    uint8_t conns[CONNS];
    uint32_t count = 0, counts[ADDRESSES] = {0};
    srand(1);
    open_table();
    for (int step = 0; step < STEPS; step++) {
        uint8_t address = (uint8_t)(rand() % ADDRESSES);
        struct un_endpoint peer = v4(address);
        CHECK_EQ(un_peers_is_full(&engine, &peer), counts[address] >= LIMIT);
        if (count < CONNS && rand() % 2 && counts[address] < LIMIT) {
            un_peers_add(&engine, &peer);
            counts[address]++;
            conns[count++] = address;
        } else if (count > 0) {
            uint32_t which = (uint32_t)rand() % count;
            peer = v4(conns[which]);
            counts[conns[which]]--;
            conns[which] = conns[--count];
            un_peers_remove(&engine, &peer);
        }
    }
    free(engine.peers);
    free(engine.peer_buckets);
}

static void a_host_has_all_of_its_64(void)
{
    struct un_endpoint peer;
    open_table();
    for (uint8_t i = 0; i < LIMIT; i++) {
        peer = v6("\x20\x01\x0d\xb8\0\0\0\1", i);
        un_peers_add(&engine, &peer);
        peer = v6("\xfe\x80\0\0\0\0\0\0", i);
        un_peers_add(&engine, &peer);
    }
    peer = v6("\x20\x01\x0d\xb8\0\0\0\1", 99);
    CHECK(un_peers_is_full(&engine, &peer));
    peer = v6("\x20\x01\x0d\xb8\0\0\0\2", 0);
    CHECK(!un_peers_is_full(&engine, &peer));
    peer = v6("\xfe\x80\0\0\0\0\0\0", 0); /* hosts of one link */
    CHECK(!un_peers_is_full(&engine, &peer));
    free(engine.peers);
    free(engine.peer_buckets);
}

static void unix_sockets_have_no_peer(void)
{
    struct un_endpoint peer = {.family = UN_FAMILY_UNIX};
    open_table();
    for (int i = 0; i < 2 * LIMIT; i++)
        un_peers_add(&engine, &peer);
    CHECK(!un_peers_is_full(&engine, &peer));
    un_peers_remove(&engine, &peer);
    free(engine.peers);
    free(engine.peer_buckets);
}

int main(void)
{
    RUN(as_many_as_were_added_are_there);
    RUN(a_host_has_all_of_its_64);
    RUN(unix_sockets_have_no_peer);
    return 0;
}
