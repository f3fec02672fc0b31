/* Two shards of one server behind a switch that spreads packets at random: every packet finds its owner (P6), nobody
 * else answers, and what is for all is heard by all. */
#include <string.h>

#include "net.h"
#include "stack/arena.h"
#include "stack/steering.h"

enum { SHARDS = 2, CONNS = 24 };

static struct host client, shards[SHARDS];
static uint64_t now_ns, seed;
static const struct un_ip any;
static uint32_t given[SHARDS]; /* packets handed to each */

/* What the engine does with a ring between processes: a copy into frames of the other shard's pool. */
static void give(struct host *from, struct host *to, const struct un_rx *packet)
{
    struct un_pool *pool = &to->stack.tcp.pool;
    struct un_rx copy = {.frame = un_pool_take(pool), .length = packet->length, .flags = packet->flags};
    CHECK(copy.frame != UN_NONE);
    struct un_frame *frame = &pool->frames[copy.frame];
    for (uint32_t at = packet->frame; at != UN_NONE; at = from->stack.tcp.pool.frames[at].next) {
        const struct un_frame *part = &from->stack.tcp.pool.frames[at];
        CHECK(frame->length + part->length <= pool->own->frame_bytes);
        memcpy(un_pool_bytes(pool, copy.frame) + frame->length,
               un_pool_bytes(&from->stack.tcp.pool, at) + part->offset, part->length);
        frame->length = (uint16_t)(frame->length + part->length);
    }
    given[to - shards]++;
    un_stack_input(&to->stack, &copy);
}

static void hand_over(void *context, uint32_t shard, const struct un_rx *packet)
{
    struct host *from = context;
    for (uint32_t i = 0; i < SHARDS; i++)
        if (&shards[i] != from && (shard == i || shard == UN_NONE))
            give(from, &shards[i], packet);
}

static void open(uint64_t with_seed)
{
    struct un_stack_config config = net_config();
    struct un_device_capabilities capabilities = net_capabilities(1);
    seed = with_seed;
    now_ns = NET_SECOND;
    memset(given, 0, sizeof given);
    host_make(&client, &config, un_hand_open(&capabilities, 256));
    host_address(&client, 1);
    config.secret[1] = 0x55;
    capabilities.mac[5] = 2;
    for (uint32_t i = 0; i < SHARDS; i++) {
        struct un_stack_shards view = {.shard = i, .shards = SHARDS, .hand_over = hand_over, .context = &shards[i]};
        host_make(&shards[i], &config, un_hand_open(&capabilities, 256));
        un_stack_set_shards(&shards[i].stack, &view);
        host_address(&shards[i], 2);
        CHECK_EQ(un_stack_listen(&shards[i].stack, &any, 80, 64, 0), 0);
    }
}

static uint32_t turn(struct host *host)
{
    uint32_t done = un_stack_poll(&host->stack, now_ns);
    const char *wrong = un_stack_check(&host->stack);
    if (wrong)
        fprintf(stderr, "%s\n", wrong);
    CHECK(wrong == NULL);
    return done;
}

/* Packets of one host to another. */
static uint32_t carry(struct host *from, struct host *to, struct host *or_to)
{
    uint8_t bytes[4096];
    uint32_t count = 0;
    for (int length; (length = un_hand_output(from->device, bytes, sizeof bytes, NULL)) != 0; count++) {
        CHECK(length > 0);
        struct host *target = random_below(&seed, 2) ? to : or_to;
        CHECK_EQ(un_hand_input(target->device, bytes, (uint32_t)length, 0, 0), 0);
    }
    return count;
}

static void settle(void)
{
    uint32_t done = 1;
    while (done) {
        done = turn(&client) + carry(&client, &shards[0], &shards[1]);
        for (uint32_t i = 0; i < SHARDS; i++)
            done += turn(&shards[i]) + carry(&shards[i], &client, &client);
    }
}

static void pass(uint64_t duration_ns)
{
    uint64_t end = now_ns + duration_ns;
    for (settle(); now_ns < end; settle())
        now_ns += 10000000;
}

static void close_all(void)
{
    host_close(&client);
    for (uint32_t i = 0; i < SHARDS; i++)
        host_close(&shards[i]);
}

/* The shard that owns it must be the one that accepted it. */
static uint32_t accept_all(uint64_t *conns, uint32_t *owners)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < SHARDS; i++) {
        struct un_stack_event event;
        while (un_stack_next_event(&shards[i].stack, &event)) {
            struct un_stack_peer local, remote;
            CHECK_EQ(event.events, UN_TCP_EVENT_ACCEPTED);
            CHECK_EQ(un_stack_accept(&shards[i].stack, event.conn, 0), 0);
            CHECK_EQ(un_stack_names(&shards[i].stack, event.conn, &local, &remote), 0);
            uint32_t hash = un_steering_hash(&remote.ip, &local.ip, remote.port, local.port);
            CHECK_EQ(un_steering_shard(hash, SHARDS), i);
            conns[count] = event.conn;
            owners[count++] = i;
        }
    }
    return count;
}

static void connect_all(const struct un_ip *to, uint64_t *conns)
{
    struct un_stack_peer remote = {*to, 80};
    for (uint32_t i = 0; i < CONNS; i++)
        CHECK_EQ(un_stack_connect(&client.stack, &remote, NULL, i, &conns[i]), 0);
    settle();
    for (uint32_t i = 0; i < CONNS; i++)
        expect_event(&client, UN_TCP_EVENT_CONNECTED);
    expect_no_event(&client);
}

static void echo_on(struct host *shard, uint64_t conn)
{
    char bytes[64];
    int64_t length = un_stack_read(&shard->stack, conn, bytes, sizeof bytes);
    CHECK_EQ(length, 5);
    CHECK_EQ(write_bytes(shard, conn, bytes, (uint32_t)length), length);
}

static void connections_work_whatever_queue_their_packets_take(uint64_t with_seed)
{
    uint64_t conns[CONNS], accepted[CONNS];
    uint32_t owners[CONNS];
    char bytes[64];
    open(with_seed);
    struct un_ip to = with_seed % 2 ? ip4(10, 0, 0, 2) : ip6(2);
    connect_all(&to, conns);
    CHECK_EQ(accept_all(accepted, owners), CONNS);
    CHECK(shards[0].stack.own->conn_count > 0 && shards[1].stack.own->conn_count > 0);
    for (uint32_t i = 0; i < CONNS; i++)
        CHECK_EQ(write_bytes(&client, conns[i], "hello", 5), 5);
    settle();
    for (uint32_t i = 0; i < CONNS; i++)
        echo_on(&shards[owners[i]], accepted[i]);
    settle();
    for (uint32_t i = 0; i < CONNS; i++) {
        CHECK_EQ(un_stack_read(&client.stack, conns[i], bytes, sizeof bytes), 5);
        CHECK_EQ(un_stack_close(&client.stack, conns[i]), 0);
        CHECK_EQ(un_stack_close(&shards[owners[i]].stack, accepted[i]), 0);
    }
    pass(2 * NET_SECOND);
    CHECK(given[0] > 0 && given[1] > 0);
    for (uint32_t i = 0; i < SHARDS; i++) {
        CHECK_EQ(shards[i].stack.counters->taken_over, given[i]);
        CHECK_EQ(shards[i].stack.tcp.counters->out_resets, 0);
    }
    close_all();
}

static void over_many_seeds(void)
{
    for_each_seed(20, connections_work_whatever_queue_their_packets_take);
}

static void a_shard_that_connects_gets_the_answers(void)
{
    open(7);
    CHECK_EQ(un_stack_listen(&client.stack, &any, 90, 64, 0), 0);
    struct un_stack_peer remote = {ip4(10, 0, 0, 1), 90};
    uint64_t conn;
    for (uint32_t i = 0; i < SHARDS * 8; i++)
        CHECK_EQ(un_stack_connect(&shards[i % SHARDS].stack, &remote, NULL, 0, &conn), 0);
    settle();
    for (uint32_t i = 0; i < SHARDS * 8; i++) {
        struct host *shard = &shards[i % SHARDS];
        CHECK_EQ(un_stack_abort(&shard->stack, expect_event(shard, UN_TCP_EVENT_CONNECTED).conn), 0);
    }
    settle();
    CHECK_EQ(un_stack_unlisten(&client.stack, 0), 0);
    struct un_stack_event event;
    while (un_stack_next_event(&client.stack, &event))
        un_stack_close(&client.stack, event.conn);
    close_all();
}

static void a_segment_of_no_connection_is_reset_once_by_its_owner(void)
{
    open(3);
    struct un_stack_peer remote = {ip4(10, 0, 0, 2), 81};
    uint64_t conn;
    for (uint32_t i = 0; i < 10; i++) {
        CHECK_EQ(un_stack_connect(&client.stack, &remote, NULL, 0, &conn), 0);
        settle();
        CHECK_EQ(expect_event(&client, UN_TCP_EVENT_CLOSED).reason, UN_TCP_REASON_REFUSED);
        CHECK_EQ(un_stack_close(&client.stack, conn), 0);
    }
    CHECK_EQ(shards[0].stack.tcp.counters->out_resets + shards[1].stack.tcp.counters->out_resets, 10);
    close_all();
}

int main(void)
{
    RUN(over_many_seeds);
    RUN(a_shard_that_connects_gets_the_answers);
    RUN(a_segment_of_no_connection_is_reset_once_by_its_owner);
    return 0;
}
