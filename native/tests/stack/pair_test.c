/* Two stacks on one wire: what an application sees, over both families, and what happens when a stack moves in between.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "net.h"
#include "stack/arena.h"

static struct net net;
static struct host client, server;
static const struct un_ip any;

static uint32_t open_pair(uint16_t port)
{
    net_pair(&net, &client, &server);
    int listener = un_stack_listen(&server.stack, &any, port, 8, 9);
    CHECK(listener >= 0);
    return (uint32_t)listener;
}

static void close_hosts(void)
{
    host_close(&client);
    host_close(&server);
}

/* Both ends let go; the one that closed first waits. */
static void close_conns(struct pair pair)
{
    CHECK_EQ(un_stack_close(&client.stack, pair.client), 0);
    net_settle(&net);
    CHECK_EQ(expect_event(&server, UN_TCP_EVENT_EOF).conn, pair.server);
    CHECK_EQ(un_stack_close(&server.stack, pair.server), 0);
    net_settle(&net);
    CHECK_EQ(un_stack_close(&server.stack, pair.server), -EBADF);
    CHECK_EQ(client.stack.tcp.tcbs[(uint32_t)pair.client].state, UN_TCP_TIME_WAIT);
    CHECK_EQ(server.stack.tcp.tcbs[(uint32_t)pair.server].state, UN_TCP_CLOSED);
}

static void frames_that_lack_are_looked_for(void)
{
    open_pair(80);
    net_settle(&net);
    CHECK(un_stack_deadline_ns(&client.stack) > net.now_ns + UN_MS_NS);
    client.device->lacks_frames = true;
    CHECK_EQ(un_stack_deadline_ns(&client.stack), net.now_ns + UN_MS_NS);
    client.device->lacks_frames = false;
    close_hosts();
}

static void echo(const struct un_ip *to)
{
    char bytes[64];
    open_pair(80);
    struct pair pair = connect_pair(&net, &client, &server, to, 80);
    CHECK_EQ(write_bytes(&client, pair.client, "hello", 5), 5);
    net_settle(&net);
    CHECK_EQ(expect_event(&server, UN_TCP_EVENT_READABLE).conn, pair.server);
    CHECK_EQ(un_stack_read(&server.stack, pair.server, bytes, sizeof bytes), 5);
    CHECK_EQ(un_stack_read(&server.stack, pair.server, bytes, sizeof bytes), -EAGAIN);
    CHECK_EQ(write_bytes(&server, pair.server, bytes, 5), 5);
    net_settle(&net);
    CHECK_EQ(expect_event(&client, UN_TCP_EVENT_READABLE).user, 7);
    memset(bytes, 0, sizeof bytes);
    CHECK_EQ(un_stack_read(&client.stack, pair.client, bytes, sizeof bytes), 5);
    CHECK(memcmp(bytes, "hello", 5) == 0);
    close_conns(pair);
    net_run(&net, 61 * NET_SECOND);
    CHECK_EQ(client.stack.own->conn_count, 0);
    close_hosts();
}

static void echo_over_ipv4(void)
{
    struct un_ip to = ip4(10, 0, 0, 2);
    echo(&to);
}

static void echo_over_ipv6(void)
{
    struct un_ip to = ip6(2);
    echo(&to);
}

static void names_are_those_of_both_ends(void)
{
    open_pair(80);
    struct un_ip to = ip4(10, 0, 0, 2), from = ip4(10, 0, 0, 1);
    struct pair pair = connect_pair(&net, &client, &server, &to, 80);
    struct un_stack_peer names[4];
    CHECK_EQ(un_stack_names(&client.stack, pair.client, &names[0], &names[1]), 0);
    CHECK_EQ(un_stack_names(&server.stack, pair.server, &names[2], &names[3]), 0);
    CHECK(un_ip_equal(&names[0].ip, &from) && un_ip_equal(&names[1].ip, &to));
    CHECK(un_ip_equal(&names[2].ip, &to) && un_ip_equal(&names[3].ip, &from));
    CHECK_EQ(names[1].port, 80);
    CHECK_EQ(names[0].port, names[3].port);
    CHECK(names[0].port >= 49152);
    close_conns(pair);
    close_hosts();
}

static void a_closed_port_refuses(void)
{
    net_pair(&net, &client, &server);
    struct un_stack_peer to = {ip4(10, 0, 0, 2), 81};
    uint64_t conn;
    CHECK_EQ(un_stack_connect(&client.stack, &to, NULL, 0, &conn), 0);
    net_settle(&net);
    struct un_stack_event event = expect_event(&client, UN_TCP_EVENT_CLOSED);
    CHECK_EQ(event.conn, conn);
    CHECK_EQ(event.reason, UN_TCP_REASON_REFUSED);
    CHECK_EQ(un_stack_close(&client.stack, conn), 0);
    close_hosts();
}

static void a_silent_next_hop_is_unreachable(void)
{
    net_pair(&net, &client, &server);
    struct un_stack_peer to = {ip4(10, 0, 0, 77), 80};
    uint64_t conn;
    CHECK_EQ(un_stack_connect(&client.stack, &to, NULL, 0, &conn), 0);
    net_run(&net, NET_SECOND);
    expect_no_event(&client);
    net_run(&net, 3 * NET_SECOND);
    CHECK_EQ(expect_event(&client, UN_TCP_EVENT_CLOSED).reason, UN_TCP_REASON_UNREACHABLE);
    CHECK_EQ(client.stack.counters->neighbours_failed, 1);
    CHECK_EQ(un_stack_close(&client.stack, conn), 0);
    to.ip = ip4(192, 168, 0, 1);
    CHECK_EQ(un_stack_connect(&client.stack, &to, NULL, 0, &conn), -EHOSTUNREACH);
    close_hosts();
}

enum { TOTAL = 2000000 };
static uint8_t chunk[16384];

static uint8_t pattern(uint32_t at)
{
    return (uint8_t)(at * 2654435761u >> 24);
}

static uint32_t write_pattern(uint64_t conn, uint32_t from)
{
    for (int64_t taken = 1; from < TOTAL && taken > 0; from += taken > 0 ? (uint32_t)taken : 0) {
        uint32_t length = TOTAL - from < sizeof chunk ? TOTAL - from : (uint32_t)sizeof chunk;
        for (uint32_t i = 0; i < length; i++)
            chunk[i] = pattern(from + i);
        taken = write_bytes(&client, conn, chunk, length);
    }
    return from;
}

static uint32_t read_pattern(uint64_t conn, uint32_t from)
{
    for (int64_t length; (length = un_stack_read(&server.stack, conn, chunk, sizeof chunk)) > 0;
         from += (uint32_t)length)
        for (int64_t i = 0; i < length; i++)
            CHECK_EQ(chunk[i], pattern(from + (uint32_t)i));
    return from;
}

/* Everything from client to server; `between` after each round. */
static void bulk(struct pair pair, void (*between)(int round))
{
    uint32_t written = 0, read = 0;
    for (int round = 0; read < TOTAL; round++) {
        CHECK(round < 100000);
        written = write_pattern(pair.client, written);
        for (int turn = 0; turn < 3; turn++) {
            un_stack_poll(&client.stack, net.now_ns);
            un_stack_poll(&server.stack, net.now_ns);
        }
        read = read_pattern(pair.server, read);
        between(round);
        net_run(&net, 10000000);
    }
    struct un_stack_event event;
    while (un_stack_next_event(&client.stack, &event) || un_stack_next_event(&server.stack, &event))
        CHECK(event.events != 0);
}

static void move_both(int round)
{
    if (round % 7 == 3)
        host_move(&client);
    if (round % 5 == 2)
        host_move(&server);
}

static void stay(int round)
{
    (void)round;
}

static void bulk_arrives_whole_though_both_stacks_move(void)
{
    open_pair(80);
    struct un_ip to = ip4(10, 0, 0, 2);
    struct pair pair = connect_pair(&net, &client, &server, &to, 80);
    bulk(pair, move_both);
    close_conns(pair);
    close_hosts();
}

static void bulk_with_offloads(const struct un_ip *to)
{
    net_pair_offloads(&net, &client, &server, 2048);
    CHECK_EQ(un_stack_listen(&server.stack, &any, 80, 8, 9), 0);
    struct pair pair = connect_pair(&net, &client, &server, to, 80);
    bulk(pair, stay);
    CHECK(server.stack.counters->rx_packets < TOTAL / 1500 / 4); /* most of it came in super-segments */
    CHECK_EQ(server.stack.tcp.drops[UN_DROP_tcp_checksum], 0);
    close_conns(pair);
    close_hosts();
}

static void super_segments_are_sent_where_the_device_cuts_them(void)
{
    struct un_ip v4 = ip4(10, 0, 0, 2), v6 = ip6(2);
    bulk_with_offloads(&v4);
    bulk_with_offloads(&v6);
}

/* Dead between half a write and the other. */
static void a_change_that_was_not_finished_is_undone(void)
{
    char bytes[8];
    open_pair(80);
    struct un_ip to = ip4(10, 0, 0, 2);
    struct pair pair = connect_pair(&net, &client, &server, &to, 80);
    struct un_tcb *tcb = un_stack_conn_find(&server.stack, pair.server);
    CHECK_EQ(write_bytes(&server, pair.server, "on", 2), 2);
    un_stack_busy(&server.stack, tcb);
    un_keep_frame(&server.stack.tcp, tcb->snd.head);
    server.stack.tcp.pool.frames[tcb->snd.head].length = 200;
    tcb->snd_bytes = 7;
    tcb->rcv.head = 3;
    tcb->state = UN_TCP_DEAD;
    host_move(&server);
    CHECK_EQ(expect_event(&server, UN_TCP_EVENT_WRITABLE).conn, pair.server);
    net_settle(&net);
    CHECK_EQ(expect_event(&client, UN_TCP_EVENT_READABLE).conn, pair.client);
    CHECK_EQ(un_stack_read(&client.stack, pair.client, bytes, sizeof bytes), 2);
    CHECK(memcmp(bytes, "on", 2) == 0);
    close_conns(pair);
    close_hosts();
}

static void what_was_fetched_is_told_again_after_adoption(void)
{
    open_pair(80);
    struct un_ip to = ip4(10, 0, 0, 2);
    struct un_stack_peer remote = {to, 80};
    uint64_t conn;
    CHECK_EQ(un_stack_connect(&client.stack, &remote, NULL, 7, &conn), 0);
    net_settle(&net);
    struct un_stack_event event = expect_event(&server, UN_TCP_EVENT_ACCEPTED);
    expect_event(&client, UN_TCP_EVENT_CONNECTED);
    host_move(&server);
    CHECK_EQ(expect_event(&server, UN_TCP_EVENT_ACCEPTED).conn, event.conn);
    CHECK_EQ(un_stack_accept(&server.stack, event.conn, 0), 0);
    host_move(&server);
    expect_event(&server, UN_TCP_EVENT_WRITABLE);
    host_move(&client);
    expect_event(&client, UN_TCP_EVENT_CONNECTED | UN_TCP_EVENT_WRITABLE);
    CHECK_EQ(un_stack_shutdown(&client.stack, conn), 0);
    net_settle(&net);
    expect_event(&server, UN_TCP_EVENT_EOF);
    host_move(&server);
    expect_event(&server, UN_TCP_EVENT_EOF | UN_TCP_EVENT_WRITABLE);
    host_move(&client);
    expect_event(&client, UN_TCP_EVENT_CONNECTED); /* no more room: it has said that it will not write */
    CHECK_EQ(un_stack_close(&server.stack, event.conn), 0);
    CHECK_EQ(un_stack_close(&client.stack, conn), 0);
    net_settle(&net);
    close_hosts();
}

static void unlisten_resets_what_was_not_accepted(void)
{
    uint32_t listener = open_pair(80);
    struct un_stack_peer remote = {ip4(10, 0, 0, 2), 80};
    uint64_t conn;
    CHECK_EQ(un_stack_connect(&client.stack, &remote, NULL, 7, &conn), 0);
    net_settle(&net);
    uint64_t accepted = expect_event(&server, UN_TCP_EVENT_ACCEPTED).conn;
    CHECK_EQ(un_stack_unlisten(&server.stack, listener), 0);
    CHECK_EQ(un_stack_accept(&server.stack, accepted, 0), -EBADF);
    CHECK_EQ(un_stack_unlisten(&server.stack, listener), -EBADF);
    net_settle(&net);
    CHECK_EQ(expect_event(&client, UN_TCP_EVENT_CONNECTED | UN_TCP_EVENT_CLOSED).reason, UN_TCP_REASON_RESET);
    CHECK_EQ(un_stack_close(&client.stack, conn), 0);
    close_hosts();
}

static void time_wait_is_bounded_and_the_oldest_give_way(void)
{
    open_pair(80);
    struct un_ip to = ip4(10, 0, 0, 2);
    struct pair first = connect_pair(&net, &client, &server, &to, 80);
    close_conns(first);
    for (uint32_t i = 0; i < client.stack.config->time_wait_max; i++)
        close_conns(connect_pair(&net, &client, &server, &to, 80));
    CHECK_EQ(client.stack.own->conn_count, client.stack.config->time_wait_max);
    CHECK(client.stack.tcp.tcbs[(uint32_t)first.client].generation != first.client >> 32 ||
          client.stack.tcp.tcbs[(uint32_t)first.client].state == UN_TCP_CLOSED);
    close_hosts();
}

static void datagrams(const struct un_ip *from, const struct un_ip *to)
{
    net_pair(&net, &client, &server);
    struct un_stack_peer local = {any, 53}, peer = {*to, 53}, sender;
    int left = un_stack_udp_open(&client.stack, &(struct un_stack_peer){.port = 0}, 1);
    int right = un_stack_udp_open(&server.stack, &local, 2);
    CHECK(left >= 0 && right >= 0);
    char bytes[2000] = {0};
    CHECK_EQ(un_stack_udp_send(&client.stack, (uint32_t)left, &peer, "one", 3), 3);
    CHECK_EQ(un_stack_udp_send(&client.stack, (uint32_t)left, &peer, "", 0), 0);
    CHECK_EQ(un_stack_udp_send(&client.stack, (uint32_t)left, &peer, bytes, 1400), 1400);
    CHECK_EQ(un_stack_udp_send(&client.stack, (uint32_t)left, &peer, bytes, 2000), -EMSGSIZE);
    net_settle(&net);
    struct un_stack_event event = expect_event(&server, UN_TCP_EVENT_READABLE);
    CHECK(event.is_udp);
    CHECK_EQ(event.user, 2);
    host_move(&server);
    CHECK_EQ(un_stack_udp_receive(&server.stack, (uint32_t)right, &sender, bytes, sizeof bytes), 3);
    CHECK(memcmp(bytes, "one", 3) == 0);
    CHECK(un_ip_equal(&sender.ip, from));
    CHECK_EQ(un_stack_udp_receive(&server.stack, (uint32_t)right, &sender, bytes, sizeof bytes), 0);
    CHECK_EQ(un_stack_udp_receive(&server.stack, (uint32_t)right, &sender, bytes, 100), 100);
    CHECK_EQ(un_stack_udp_receive(&server.stack, (uint32_t)right, &sender, bytes, 100), -EAGAIN);
    CHECK_EQ(un_stack_udp_send(&server.stack, (uint32_t)right, &sender, "two", 3), 3);
    net_settle(&net);
    CHECK_EQ(un_stack_udp_receive(&client.stack, (uint32_t)left, &sender, bytes, sizeof bytes), 3);
    CHECK(un_ip_equal(&sender.ip, to));
    CHECK_EQ(un_stack_udp_close(&client.stack, (uint32_t)left), 0);
    CHECK_EQ(un_stack_udp_close(&client.stack, (uint32_t)left), -EBADF);
    close_hosts();
}

static void datagrams_over_ipv4(void)
{
    struct un_ip from = ip4(10, 0, 0, 1), to = ip4(10, 0, 0, 2);
    datagrams(&from, &to);
}

static void datagrams_over_ipv6(void)
{
    struct un_ip from = ip6(1), to = ip6(2);
    datagrams(&from, &to);
}

static void a_full_udp_queue_drops(void)
{
    net_pair(&net, &client, &server);
    struct un_stack_peer local = {any, 53}, peer = {ip4(10, 0, 0, 2), 53};
    int left = un_stack_udp_open(&client.stack, &(struct un_stack_peer){.port = 0}, 1);
    CHECK(un_stack_udp_open(&server.stack, &local, 2) == 0);
    for (int i = 0; i < 600; i++) {
        un_stack_udp_send(&client.stack, (uint32_t)left, &peer, "x", 1);
        if (i % 16 == 15)
            net_settle(&net);
    }
    net_settle(&net);
    CHECK(server.stack.tcp.drops[UN_DROP_udp_full] > 0);
    CHECK_EQ(server.stack.endpoints[0].frames, UN_UDP_FRAMES_MAX);
    CHECK_EQ(un_stack_udp_close(&server.stack, 0), 0);
    close_hosts();
}

int main(void)
{
    RUN(frames_that_lack_are_looked_for);
    RUN(datagrams_over_ipv4);
    RUN(datagrams_over_ipv6);
    RUN(a_full_udp_queue_drops);
    RUN(echo_over_ipv4);
    RUN(echo_over_ipv6);
    RUN(names_are_those_of_both_ends);
    RUN(a_closed_port_refuses);
    RUN(a_silent_next_hop_is_unreachable);
    RUN(bulk_arrives_whole_though_both_stacks_move);
    RUN(super_segments_are_sent_where_the_device_cuts_them);
    RUN(a_change_that_was_not_finished_is_undone);
    RUN(what_was_fetched_is_told_again_after_adoption);
    RUN(unlisten_resets_what_was_not_accepted);
    RUN(time_wait_is_bounded_and_the_oldest_give_way);
    return 0;
}
