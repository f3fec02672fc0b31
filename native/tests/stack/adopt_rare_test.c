/* Adoption (P10), by steps: what happens seldom. A peer that throws away what it said it had, a larger path, congestion
 * that routers mark, two SYNs that cross, IPv6, resets that find no room, round trips that differ. See adopt_try.h.
 * Each call says what it was to do, so that a path is known to have been taken. */
#include <string.h>

#include "adopt_try.h"
#include "base/bytes.h"
#include "stack/output.h"
#include "stack/packets.h"
#include "tcp/internal.h"
#include "wire/packet.h"

static struct un_tcp *tcp(void)
{
    return &world.it.stack.tcp;
}

static void lose_all(struct wire *wire)
{
    lose(wire, wire->put - wire->taken);
}

static void pass(uint64_t duration_ns)
{
    world.now_ns += duration_ns;
}

/* From the peer's address: what the peer itself would not send. */
static void inject(uint32_t number, uint8_t flags, enum un_ecn ecn, uint32_t ack)
{
    const struct un_tcb *to = tcb(number);
    const uint8_t from_mac[] = {2, 0, 0, 0, 0, 2}, to_mac[] = {2, 0, 0, 0, 0, 1};
    uint8_t packet[200];
    struct un_seg seg = {.seq = to->rcv_nxt, .ack = ack, .wnd = 8000, .flags = flags, .source_port = to->peer_port,
                         .destination_port = to->local_port, .options = UN_SEG_TIMESTAMP, .tsval = to->ts_recent};
    struct un_ip_header ip = {.source = to->peer, .destination = ip4(10, 0, 0, 1), .protocol = UN_PROTOCOL_TCP,
                              .hop_limit = 64, .ecn = ecn, .payload_length = un_seg_header_length(&seg)};
    uint32_t end = un_eth_emit(packet, to_mac, from_mac, UN_ETHER_IPV4);
    end += un_ip_emit(packet + end, &ip);
    un_seg_emit(&seg, packet + end);
    struct un_piece piece = {packet + end, ip.payload_length, UN_NONE};
    uint16_t checksum = un_stack_checksum(&ip, UN_PROTOCOL_TCP, &piece, 1);
    memcpy(packet + end + 16, &checksum, sizeof checksum);
    world_inject(packet, end + ip.payload_length);
    world_card();
}

/* ---- a peer that reneges ---- */

/* Of three segments the first is lost; the others are there, says the peer. When it has all of them, it acknowledges
 * the first alone. */
static void peer_reneges(void)
{
    side_write(&world.it, IDLE, 2500);
    side_poll(&world.it);
    lose(&world.remains->to_peer, 1);
    let_peer_send();
    side_poll(&world.it);
    if (world.remains->to_peer.put == world.remains->to_peer.taken) {
        pass(un_tcp_deadline_ns(tcb(IDLE)) + 2 * UN_MS_NS - world.now_ns); /* the wheel is late by a tick */
        side_poll(&world.it);
    }
    world_card();
    side_poll(&world.peer);
    lose_all(&world.remains->to_it);
    CHECK(tcb(IDLE)->sacked_bytes > 0);
    const struct un_sent *first = &tcp()->sents[tcb(IDLE)->sent_head];
    CHECK(tcp()->sents[first->next].flags & UN_SENT_SACKED);
    world_ack(IDLE, first->length);
    world_card();
}

static void poll_reneged(void)
{
    uint32_t before = tcb(IDLE)->sacked_bytes;
    poll();
    CHECK(tcb(IDLE)->sacked_bytes < before);
    CHECK(tcp()->sents[tcb(IDLE)->sent_head].flags & UN_SENT_RESENT);
}

/* ---- the path carries more ---- */

static void path_probe_has_arrived(void)
{
    struct un_tcb *idle = tcb(IDLE);
    idle->path_mtu = 552;
    idle->snd_mss = 552 - UN_TCP_IPV4_HEADERS;
    idle->path_minute = (uint8_t)(un_tcp_clock_minute(tcp()) - 10);
    side_write(&world.it, IDLE, 2500);
    side_poll(&world.it);
    world_card();
    CHECK_EQ(stack()->published->tcp.path_mtu_probes, 1);
    let_peer_send();
}

static void poll_probed(void)
{
    poll();
    CHECK_EQ(stack()->published->tcp.path_mtu_raised, 1);
}

/* ---- congestion ---- */

static void congestion_is_marked(void)
{
    CHECK(tcb(IDLE)->flags & UN_TCB_ECN);
    side_write(&world.peer, IDLE, 1000);
    un_stack_poll_output(&world.peer.stack, world.now_ns);
    struct wire *wire = &world.remains->to_it;
    uint8_t *ip = wire->packets[wire->taken % WIRE_SLOTS].bytes + UN_ETH_BYTES; /* of the card's, too */
    CHECK_EQ(ip[1] & 3, UN_ECN_ECT0);
    ip[1] |= UN_ECN_CE;
    un_put16(ip + 10, (uint16_t)(un_get16(ip + 10) - 1)); /* its checksum: one bit more in the first word */
    world_card();
}

static void poll_marked(void)
{
    poll();
    CHECK_EQ(stack()->published->tcp.ecn_marks, 1);
}

static void congestion_is_echoed(void)
{
    side_write(&world.it, IDLE, 2500);
    side_poll(&world.it);
    world_card();
    side_poll(&world.peer);
    lose_all(&world.remains->to_it);
    inject(IDLE, UN_TCP_ACK | UN_TCP_ECE, UN_ECN_NONE, tcb(IDLE)->snd_una + 100);
}

static void poll_echoed(void)
{
    uint32_t before = tcb(IDLE)->cwnd;
    poll();
    CHECK(tcb(IDLE)->cwnd < before);
}

/* ---- two SYNs that cross ---- */

static void syns_cross(void)
{
    struct un_stack_peer left = {ip4(10, 0, 0, 1), CLIENT_PORT + NEW}, right = {ip4(10, 0, 0, 2), SERVER_PORT};
    uint64_t conn;
    world.streams = NEW + 1;
    CHECK_EQ(un_stack_connect(stack(), &right, &left, 0, &conn), 0);
    CHECK_EQ(un_stack_connect(&world.peer.stack, &left, &right, 0, &conn), 0);
    un_stack_poll_output(stack(), world.now_ns);
    un_stack_poll_output(&world.peer.stack, world.now_ns);
    world_card();
    CHECK_EQ(tcb(NEW)->state, UN_TCP_SYN_SENT);
}

static void poll_crossed(void)
{
    poll();
    CHECK_EQ(tcb(NEW)->state, UN_TCP_SYN_RECEIVED);
}

static void syn_acks_cross(void)
{
    syns_cross();
    side_poll(&world.it);
    world_card();
    CHECK_EQ(tcb(NEW)->state, UN_TCP_SYN_RECEIVED);
    let_peer_send();
}

static void poll_opened(void)
{
    poll();
    CHECK_EQ(tcb(NEW)->state, UN_TCP_ESTABLISHED);
}

/* ---- IPv6 ---- */

/* Addresses that nobody else has (RFC 4862 section 5.4). */
static void take_ipv6_addresses(void)
{
    struct un_ip left = ip6(1), right = ip6(2);
    CHECK_EQ(un_stack_add_address(stack(), &left, 64), 0);
    CHECK_EQ(un_stack_add_address(&world.peer.stack, &right, 64), 0);
    for (int i = 0; i < 4; i++) {
        world_settle();
        pass(NET_SECOND);
    }
    world_settle();
}

static void ipv6_neighbour_asks(void)
{
    struct un_stack_peer left = {ip6(1), SERVER_PORT}, right = {ip6(2), CLIENT_PORT + NEW};
    uint64_t conn;
    take_ipv6_addresses();
    world.streams = NEW + 1;
    CHECK_EQ(un_stack_connect(&world.peer.stack, &left, &right, 0, &conn), 0);
    let_peer_send();
}

static void ipv6_syn_comes(void)
{
    ipv6_neighbour_asks();
    side_poll(&world.it);
    let_peer_send();
}

static void poll_syn(void)
{
    poll();
    CHECK_EQ(tcb(NEW)->state, UN_TCP_SYN_RECEIVED);
}

static void ipv6_connection_is_there(void)
{
    ipv6_syn_comes();
    world_settle();
    CHECK_EQ(un_stack_accept(stack(), handle_of(&world.it, NEW), 0), 0);
    fetch_events(&world.it);
}

static void ipv6_data_comes(void)
{
    ipv6_connection_is_there();
    side_write(&world.peer, NEW, 1500);
    let_peer_send();
}

static void ipv6_data_is_acknowledged(void)
{
    ipv6_connection_is_there();
    side_write(&world.it, NEW, 1500);
    side_poll(&world.it);
    let_peer_send();
}

static void write_new(void)
{
    side_write(&world.it, NEW, 1500);
}

static void write_idle(void)
{
    side_write(&world.it, IDLE, 100);
}

/* ---- resets ---- */

/* Of connections that ended at once, over a device that takes nothing. */
static void farewells_are_many(void)
{
    struct un_farewells *farewells = &stack()->own->farewells;
    for (uint32_t i = 0; i < UN_FAREWELLS_MAX; i++)
        farewells->ring[i] = (struct un_farewell){
            .peer = tcb(FLIGHT)->peer, .local = tcb(FLIGHT)->local, .peer_port = 9, .local_port = 9,
            .flags = UN_TCP_RST, .seq = i};
    farewells->put = farewells->taken + UN_FAREWELLS_MAX;
}

/* It leaves at once, or not at all: nothing keeps it for the next process. */
static void abort_flight(void)
{
    un_stack_abort(stack(), handle_of(&world.it, FLIGHT));
    const struct un_farewells *farewells = &stack()->own->farewells;
    CHECK_EQ(farewells->put - farewells->taken, UN_FAREWELLS_MAX);
    CHECK(slot_of(&world.it, FLIGHT) == UN_NONE || tcb(FLIGHT)->flags & UN_TCB_DETACHED);
}

/* And the wire is full of what the peer will throw away. */
static void nothing_can_leave(void)
{
    struct wire *wire = &world.remains->to_peer;
    farewells_are_many();
    for (; wire->put - wire->taken < WIRE_SLOTS; wire->put++)
        wire->packets[wire->put % WIRE_SLOTS].length = 20;
    CHECK(tcp()->drops[UN_DROP_device_full] == 0);
}

static void abort_in_vain(void)
{
    abort_flight();
    CHECK_EQ(tcp()->drops[UN_DROP_device_full], 1);
}

/* Of a peer that nobody has heard of: it is asked for first. */
static void farewells_wait(uint32_t count)
{
    struct un_farewells *farewells = &stack()->own->farewells;
    farewells_are_many();
    for (uint32_t i = 0; i < UN_FAREWELLS_MAX; i++)
        farewells->ring[i].peer = ip4(10, 0, 0, 100);
    farewells->put = farewells->taken + count;
}

static void two_farewells_wait(void)
{
    farewells_wait(2);
}

/* As a process leaves them that dies when it has put the first one behind the others. */
static void first_is_last_too(void)
{
    farewells_wait(UN_FAREWELLS_MAX + 1);
}

static void send_farewells(void)
{
    un_stack_send_farewells(stack());
    CHECK(stack()->own->farewells.taken >= 2);
}

/* One of them twice at most. */
static void check_farewells(uint32_t least, uint32_t most)
{
    const struct un_farewells *farewells = &stack()->own->farewells;
    bool is_there[UN_FAREWELLS_MAX] = {false};
    uint32_t different = 0;
    for (uint32_t at = farewells->taken; at != farewells->put; at++) {
        bool *it = &is_there[farewells->ring[at % UN_FAREWELLS_MAX].seq];
        different += !*it;
        *it = true;
    }
    CHECK_EQ(different, least);
    CHECK(farewells->put - farewells->taken <= most);
}

static void both_wait(void)
{
    check_farewells(2, 3);
}

static void all_wait(void)
{
    check_farewells(UN_FAREWELLS_MAX, UN_FAREWELLS_MAX);
}

/* ---- round trips ---- */

/* The next segment in order brings a sample that differs from those before, a change of what is hot alone: keep.h. */
static void round_trip_is_longer(void)
{
    for (uint32_t i = 0; i < 2; i++) {
        side_write(&world.it, IDLE, 500);
        side_poll(&world.it);
        world_card();
        side_poll(&world.peer);
        pass((i + 1) * UN_MS_NS);
        side_write(&world.peer, IDLE, 100); /* else the ACK is delayed */
        let_peer_send();
        if (i == 0)
            side_poll(&world.it);
    }
}

static void poll_sampled(void)
{
    struct un_tcb before = *tcb(IDLE);
    poll();
    CHECK(tcb(IDLE)->srtt_us != before.srtt_us && tcb(IDLE)->rttvar_us != before.rttvar_us);
    CHECK(tcb(IDLE)->sampled_us != before.sampled_us);
}

/* ---- tests ---- */

static void losses(uint64_t seed)
{
    (void)seed;
    adopt_try(peer_reneges, poll_reneged, ONE(IDLE), 0);
    adopt_try(path_probe_has_arrived, poll_probed, ONE(IDLE), 0);
    adopt_try(round_trip_is_longer, poll_sampled, ANY, 0);
}

static void congestion(uint64_t seed)
{
    (void)seed;
    adopt_try(congestion_is_marked, poll_marked, ONE(IDLE), 0);
    adopt_try(congestion_is_echoed, poll_echoed, ONE(IDLE), 0);
}

static void openings(uint64_t seed)
{
    (void)seed;
    adopt_try(syns_cross, poll_crossed, ANY, 0);
    adopt_try(syn_acks_cross, poll_opened, ANY, 0);
}

static void ipv6(uint64_t seed)
{
    (void)seed;
    adopt_try(ipv6_neighbour_asks, poll, ANY, 0);
    adopt_try(ipv6_syn_comes, poll_syn, ANY, 0);
    adopt_try(ipv6_data_comes, poll, ANY, 0);
    adopt_try(ipv6_data_is_acknowledged, poll, ANY, 0);
    adopt_try(ipv6_connection_is_there, write_new, ONE(NEW), 0);
}

static void resets(uint64_t seed)
{
    (void)seed;
    adopt_try(farewells_are_many, abort_flight, ONE(FLIGHT), ONE(FLIGHT));
    if (!world.over_card) /* which would fill it first */
        adopt_try(nothing_can_leave, abort_in_vain, ONE(FLIGHT), ONE(FLIGHT));
    adopt_afterwards(both_wait);
    adopt_try(two_farewells_wait, send_farewells, 0, 0);
    adopt_afterwards(all_wait);
    adopt_try(first_is_last_too, write_idle, ONE(IDLE), 0);
    adopt_afterwards(NULL);
}

/* Arguments as adopt_paths_test.c has them. */
int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "";
    world_open(strcmp(how, "card") == 0, strcmp(how, "crowded") == 0);
    TRY(losses);
    TRY(congestion);
    TRY(openings);
    TRY(ipv6);
    TRY(resets);
    return 0;
}
