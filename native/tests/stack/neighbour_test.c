/* ARP and neighbour discovery, router advertisements, what is announced, what waits for an answer. */
#include <errno.h>
#include <string.h>

#include "far.h"
#include "stack/arena.h"
#include "stack/local.h"
#include "stack/neighbour_table.h"
#include "stack/route.h"
#include "wire/udp.h"

static struct far far;
static struct un_stack_config config;
static const uint8_t other_mac[UN_MAC_BYTES] = {2, 0, 0, 0, 0, 8};

static void open(void)
{
    config = net_config();
    far_open(&far, &config);
}

static void open_quiet(void)
{
    struct far_packet packet;
    open();
    far_wait(&far, 15 * NET_SECOND);
    while (far_take(&far, &packet))
        ;
}

static struct un_neighbour *neighbour(const struct un_ip *ip)
{
    return un_neighbour_find(&far.host.stack, ip);
}

static int udp_open(void)
{
    return un_stack_udp_open(&far.host.stack, &(struct un_stack_peer){.port = 1000}, 0);
}

static int64_t udp_send(const struct un_ip *to)
{
    return un_stack_udp_send(&far.host.stack, 0, &(struct un_stack_peer){*to, 2000}, "x", 1);
}

static void addresses_are_announced_and_routers_asked(void)
{
    struct far_packet packet;
    uint32_t probes = 0, arp = 0, questions = 0, advertisements = 0, solicitations = 0, reports = 0;
    open();
    far_wait(&far, 15 * NET_SECOND);
    while (far_take(&far, &packet)) {
        const uint8_t *at = packet.bytes + packet.packet.transport;
        bool is_arp = packet.packet.ether_type == UN_ETHER_ARP;
        bool is_probe = is_arp && memcmp(packet.bytes + packet.packet.network + 14, "\0\0\0\0", 4) == 0;
        CHECK(!is_arp || packet.bytes[0] == 0xff);
        probes += is_probe;
        arp += is_arp && !is_probe;
        questions += !is_arp && at[0] == 135;
        advertisements += !is_arp && at[0] == 136;
        solicitations += !is_arp && at[0] == 133;
        reports += !is_arp && at[0] == 143;
    }
    CHECK_EQ(probes, 3);
    CHECK_EQ(arp, 2);
    CHECK_EQ(questions, 2); /* fd00::1 and the link-local address */
    CHECK_EQ(advertisements, 4);
    CHECK_EQ(solicitations, 3);
    CHECK_EQ(reports, 2);
    far_close(&far);
}

static void a_question_is_answered_and_the_asker_learnt(void)
{
    open_quiet();
    far_send_arp(&far, UN_ARP_REQUEST, &far.ip4, &far.stack4);
    struct un_arp reply = far_expect_arp(&far);
    CHECK_EQ(reply.operation, UN_ARP_REPLY);
    CHECK(un_ip_equal(&reply.sender, &far.stack4) && un_ip_equal(&reply.target, &far.ip4));
    CHECK_EQ(neighbour(&far.ip4)->state, UN_NEIGHBOUR_STALE);
    struct un_ip other = ip4(10, 0, 0, 3);
    far_send_arp(&far, UN_ARP_REQUEST, &far.ip4, &other);
    far_expect_nothing(&far);
    far_close(&far);
}

static void an_announcement_makes_no_entry_and_changes_one(void)
{
    open_quiet();
    struct un_ip stranger = ip4(10, 0, 0, 5);
    far_send_arp(&far, UN_ARP_REPLY, &stranger, &stranger);
    CHECK(!neighbour(&stranger));
    far_send_arp(&far, UN_ARP_REQUEST, &far.ip4, &far.stack4);
    struct un_neighbour *known = neighbour(&far.ip4);
    memcpy(known->ethernet, other_mac, UN_MAC_BYTES);
    known->state = UN_NEIGHBOUR_REACHABLE;
    far_send_arp(&far, UN_ARP_REQUEST, &far.ip4, &far.ip4);
    CHECK_EQ(known->state, UN_NEIGHBOUR_STALE);
    CHECK_EQ(known->ethernet[5], 9);
    far_close(&far);
}

static void expect_news(enum un_address_news what, const struct un_ip *ip)
{
    struct un_stack_address_news news;
    CHECK(un_stack_next_address_news(&far.host.stack, &news));
    CHECK_EQ(news.what, what);
    CHECK(un_ip_equal(&news.ip, ip));
    CHECK_EQ(news.mac[5], 9);
    CHECK(!un_stack_next_address_news(&far.host.stack, &news));
}

static void who_claims_our_address_is_not_believed(void)
{
    open_quiet();
    far_send_arp(&far, UN_ARP_REPLY, &far.stack4, &far.stack4);
    CHECK_EQ(far.host.stack.tcp.drops[UN_DROP_ip_source], 1);
    CHECK(!neighbour(&far.stack4));
    CHECK(un_stack_has_address(&far.host.stack, &far.stack4));
    struct un_arp defence = far_expect_arp(&far);
    CHECK(un_ip_equal(&defence.sender, &far.stack4) && un_ip_equal(&defence.target, &far.stack4));
    expect_news(UN_ADDRESS_IS_DEFENDED, &far.stack4);
    far_close(&far);
}

/* The one who has it is asked for it after a minute, and is gone after two. */
static void an_address_of_another_is_not_used(void)
{
    struct far_packet packet;
    struct un_stack *stack = &far.host.stack;
    struct un_ip any = {{0}};
    open();
    CHECK_EQ(un_stack_listen(stack, &any, 80, 8, 0), 0);
    far_turn(&far);
    far_send_arp(&far, UN_ARP_REPLY, &far.stack4, &far.stack4);
    expect_news(UN_ADDRESS_IS_TAKEN, &far.stack4);
    CHECK(!un_stack_has_address(stack, &far.stack4) && un_stack_has_address(stack, &far.stack6));
    far_wait(&far, 15 * NET_SECOND);
    while (far_take(&far, &packet))
        ;
    far_send_arp(&far, UN_ARP_REQUEST, &far.ip4, &far.stack4);
    far_expect_nothing(&far);
    far_wait(&far, 45 * NET_SECOND);
    CHECK_EQ(far_expect_arp(&far).operation, UN_ARP_REQUEST);
    far_send_arp(&far, UN_ARP_REPLY, &far.stack4, &far.stack4);
    far_wait(&far, 55 * NET_SECOND);
    CHECK(!un_stack_has_address(stack, &far.stack4));
    far_wait(&far, 6 * NET_SECOND);
    CHECK(un_stack_has_address(stack, &far.stack4));
    expect_news(UN_ADDRESS_IS_FREE, &far.stack4);
    far_close(&far);
}

static void a_solicitation_is_answered(void)
{
    struct far_packet packet;
    open_quiet();
    struct un_icmp question = {.kind = UN_ICMP_NEIGHBOUR_SOLICITATION, .target = far.stack6, .has_mac = true,
                               .mac = {2, 0, 0, 0, 0, 9}};
    struct un_ip group = {{0xff, 2, [11] = 1, 0xff, 0, 0, 1}};
    memcpy(far.to, "\x33\x33\xff\x00\x00\x01", UN_MAC_BYTES);
    far_send_icmp(&far, &far.ip6, &group, &question, "", 0);
    struct un_icmp answer = far_expect_icmp(&far, &packet, UN_ICMP_NEIGHBOUR_ADVERTISEMENT);
    CHECK(answer.is_solicited && answer.overrides && answer.has_mac);
    CHECK(un_ip_equal(&answer.target, &far.stack6));
    CHECK_EQ(packet.packet.hop_limit, 255);
    CHECK_EQ(neighbour(&far.ip6)->state, UN_NEIGHBOUR_DELAY);
    struct un_ip nobody = {{0}};
    question.has_mac = false;
    far_send_icmp(&far, &nobody, &group, &question, "", 0); /* is the address taken? */
    answer = far_expect_icmp(&far, &packet, UN_ICMP_NEIGHBOUR_ADVERTISEMENT);
    CHECK(!answer.is_solicited);
    CHECK_EQ(packet.bytes[0], 0x33);
    far_close(&far);
}

static void a_datagram_waits_for_the_answer(void)
{
    struct far_packet packet;
    open_quiet();
    udp_open();
    for (int i = 0; i < 3; i++)
        CHECK_EQ(udp_send(&far.ip4), 1);
    far_turn(&far);
    struct un_arp question = far_expect_arp(&far);
    CHECK_EQ(question.operation, UN_ARP_REQUEST);
    CHECK(un_ip_equal(&question.target, &far.ip4));
    far_expect_nothing(&far);
    far_send_arp(&far, UN_ARP_REPLY, &far.ip4, &far.stack4);
    CHECK_EQ(neighbour(&far.ip4)->state, UN_NEIGHBOUR_REACHABLE);
    for (int i = 0; i < 3; i++) {
        CHECK(far_take(&far, &packet));
        CHECK_EQ(packet.packet.protocol, UN_PROTOCOL_UDP);
        CHECK_EQ(packet.bytes[5], 9);
    }
    far_expect_nothing(&far);
    far_close(&far);
}

static void waiting_packets_are_bounded_and_lost_in_the_end(void)
{
    open_quiet();
    udp_open();
    for (int i = 0; i < 20; i++)
        CHECK_EQ(udp_send(&far.ip4), 1);
    CHECK_EQ(neighbour(&far.ip4)->queued, 8);
    far_wait(&far, 4 * NET_SECOND);
    CHECK_EQ(neighbour(&far.ip4)->state, UN_NEIGHBOUR_FAILED);
    CHECK_EQ(far.host.stack.tcp.drops[UN_DROP_no_neighbour], 20);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(far_expect_arp(&far).operation, UN_ARP_REQUEST);
    far_expect_nothing(&far);
    CHECK_EQ(udp_send(&far.ip4), (uint64_t)-EHOSTUNREACH);
    far_wait(&far, 4 * NET_SECOND);
    CHECK_EQ(udp_send(&far.ip4), 1); /* asked anew */
    far_turn(&far);
    far_expect_arp(&far);
    far_wait(&far, 4 * NET_SECOND);
    far_close(&far);
}

static void what_is_used_and_not_confirmed_is_probed(void)
{
    struct far_packet packet;
    open_quiet();
    udp_open();
    far_send_arp(&far, UN_ARP_REQUEST, &far.ip4, &far.stack4);
    far_expect_arp(&far);
    CHECK_EQ(udp_send(&far.ip4), 1);
    far_turn(&far);
    CHECK(far_take(&far, &packet));
    CHECK_EQ(neighbour(&far.ip4)->state, UN_NEIGHBOUR_DELAY);
    far_wait(&far, 5 * NET_SECOND + NET_SECOND / 2);
    CHECK_EQ(neighbour(&far.ip4)->state, UN_NEIGHBOUR_PROBE);
    CHECK(far_take(&far, &packet));
    CHECK_EQ(packet.packet.ether_type, UN_ETHER_ARP);
    CHECK_EQ(packet.bytes[5], 9); /* to it alone */
    far_send_arp(&far, UN_ARP_REPLY, &far.ip4, &far.stack4);
    CHECK_EQ(neighbour(&far.ip4)->state, UN_NEIGHBOUR_REACHABLE);
    far_wait(&far, 31 * NET_SECOND);
    far_expect_nothing(&far); /* nobody asks for what nobody uses */
    CHECK_EQ(udp_send(&far.ip4), 1);
    CHECK_EQ(neighbour(&far.ip4)->state, UN_NEIGHBOUR_DELAY);
    far_wait(&far, 10 * NET_SECOND);
    CHECK_EQ(neighbour(&far.ip4)->state, UN_NEIGHBOUR_FAILED);
    far_close(&far);
}

static void a_router_advertisement_gives_the_default_route(void)
{
    struct far_packet packet;
    struct un_ip router = {{0xfe, 0x80, [15] = 9}}, all = {{0xff, 2, [15] = 1}};
    struct un_ip away = {{0x20, 1, 0xd, 0xb8, [15] = 1}}, next;
    open_quiet();
    CHECK_EQ(un_route_find(&far.host.stack, &away, &next), (uint64_t)-EHOSTUNREACH);
    struct un_icmp icmp = {.kind = UN_ICMP_ROUTER_ADVERTISEMENT, .router_lifetime_s = 100, .has_mac = true,
                           .mac = {2, 0, 0, 0, 0, 9}};
    far_send_icmp(&far, &far.ip6, &all, &icmp, "", 0); /* not link-local */
    CHECK_EQ(far.host.stack.tcp.drops[UN_DROP_nd_malformed], 1);
    far_send_icmp(&far, &router, &all, &icmp, "", 0);
    CHECK_EQ(un_route_find(&far.host.stack, &away, &next), 0);
    CHECK(un_ip_equal(&next, &router));
    udp_open();
    CHECK_EQ(udp_send(&away), 1);
    far_turn(&far);
    CHECK(far_take(&far, &packet));
    CHECK_EQ(packet.bytes[5], 9);
    CHECK(un_ip_equal(&packet.packet.source, &far.stack6));
    far_wait(&far, 101 * NET_SECOND);
    CHECK_EQ(un_route_find(&far.host.stack, &away, &next), (uint64_t)-EHOSTUNREACH);
    far_send_icmp(&far, &router, &all, &icmp, "", 0);
    icmp.router_lifetime_s = 0;
    far_send_icmp(&far, &router, &all, &icmp, "", 0);
    CHECK_EQ(un_route_find(&far.host.stack, &away, &next), (uint64_t)-EHOSTUNREACH);
    far_close(&far);
}

static void the_longest_prefix_wins(void)
{
    struct un_ip net8 = ip4(172, 16, 0, 0), net0 = ip4(0, 0, 0, 0), one = ip4(10, 0, 0, 101), two = ip4(10, 0, 0, 102);
    struct un_ip next, to = ip4(172, 16, 9, 9), away = ip4(8, 8, 8, 8), near = ip4(10, 0, 0, 44);
    open_quiet();
    CHECK_EQ(un_stack_add_route(&far.host.stack, &net0, 0, &one), 0);
    CHECK_EQ(un_stack_add_route(&far.host.stack, &net8, 12, &two), 0);
    CHECK_EQ(un_route_find(&far.host.stack, &to, &next), 0);
    CHECK(un_ip_equal(&next, &two));
    CHECK_EQ(un_route_find(&far.host.stack, &away, &next), 0);
    CHECK(un_ip_equal(&next, &one));
    CHECK_EQ(un_route_find(&far.host.stack, &near, &next), 0);
    CHECK(un_ip_equal(&next, &near));
    far_close(&far);
}

/* Those of Linux, its texts aside: `ip route add … via …`. */
static void a_gateway_is_on_the_link(void)
{
    struct un_ip any4 = ip4(0, 0, 0, 0), near = ip4(10, 0, 0, 44);
    struct un_ip beyond = ip4(192, 0, 2, 1), lone = ip4(192, 0, 2, 9), own = ip4(192, 0, 2, 3);
    struct un_ip any6 = {{0}}, beyond6 = {{0x20, 1, 0xd, 0xb8, [15] = 1}}, local6 = {{0xfe, 0x80, [15] = 7}};
    open_quiet();
    struct un_stack *stack = &far.host.stack;
    CHECK_EQ(un_stack_add_route(stack, &any4, 0, &beyond), (uint64_t)-ENETUNREACH);
    CHECK_EQ(un_stack_add_route(stack, &any6, 0, &beyond6), (uint64_t)-ENETUNREACH);
    CHECK_EQ(un_stack_add_route(stack, &any4, 0, &far.stack4), (uint64_t)-EINVAL);
    CHECK_EQ(un_stack_add_route(stack, &any6, 0, &far.stack6), (uint64_t)-EINVAL);
    CHECK_EQ(un_stack_add_route(stack, &any6, 0, &local6), 0);
    CHECK_EQ(un_stack_add_route(stack, &any4, 0, &near), 0);
    /* behind a gateway is not on the link */
    CHECK_EQ(un_stack_add_route(stack, &any4, 0, &beyond), (uint64_t)-ENETUNREACH);
    CHECK_EQ(un_stack_add_route(stack, &beyond, 32, &any4), 0); /* now it is said to be */
    CHECK_EQ(un_stack_add_route(stack, &any4, 0, &beyond), 0);
    CHECK_EQ(un_stack_add_route(stack, &any4, 0, &lone), (uint64_t)-ENETUNREACH);
    CHECK_EQ(un_stack_add_address(stack, &own, 28), 0);
    CHECK_EQ(un_stack_add_route(stack, &any4, 0, &lone), 0);
    far_close(&far);
}

/* What another station claims can be ours again, and routes are added once. */
static void a_claimed_address_is_on_the_link_as_well(void)
{
    struct un_ip any4 = ip4(0, 0, 0, 0), near = ip4(10, 0, 0, 44);
    open();
    struct un_stack *stack = &far.host.stack;
    stack->own->addresses[un_address_find(stack, &far.stack4)].state = UN_ADDRESS_TAKEN;
    CHECK(un_address_find(stack, &far.stack4) < 0);
    CHECK_EQ(un_stack_add_route(stack, &any4, 0, &near), 0);
    far_close(&far);
}

static void a_full_table_keeps_those_in_use(void)
{
    struct far_packet packet;
    open_quiet();
    udp_open();
    far_send_arp(&far, UN_ARP_REQUEST, &far.ip4, &far.stack4);
    udp_send(&far.ip4);
    far_send_arp(&far, UN_ARP_REPLY, &far.ip4, &far.stack4);
    while (far_take(&far, &packet))
        ;
    for (uint32_t i = 10; i < 250; i++) {
        struct un_ip invented = ip4(10, 0, 0, (uint8_t)i);
        far_send_arp(&far, UN_ARP_REQUEST, &invented, &far.stack4);
        far_expect_arp(&far);
    }
    CHECK(neighbour(&far.ip4) && neighbour(&far.ip4)->state == UN_NEIGHBOUR_REACHABLE);
    far_close(&far);
}

/* More next hops that do not answer than a set has places: nobody pushes anybody out, and nothing spins. */
static void connections_to_many_silent_neighbours_wait_in_peace(void)
{
    uint64_t conns[40];
    open_quiet();
    for (uint32_t i = 0; i < 40; i++) {
        struct un_stack_peer remote = {ip4(10, 0, 0, (uint8_t)(100 + i)), 80};
        CHECK_EQ(un_stack_connect(&far.host.stack, &remote, NULL, 0, &conns[i]), 0);
    }
    far_turn(&far);
    uint64_t asked = far.host.stack.counters->arp_out;
    far_wait(&far, NET_SECOND / 2);
    CHECK_EQ(far.host.stack.counters->arp_out, asked);
    CHECK(far.host.stack.tcp.drops[UN_DROP_no_neighbour] > 0);
    struct un_stack_event event;
    for (int i = 0; i < 20; i++) {
        struct far_packet packet;
        far_wait(&far, 10 * NET_SECOND);
        while (far_take(&far, &packet))
            ;
    }
    for (uint32_t i = 0; i < 40; i++) {
        CHECK(un_stack_next_event(&far.host.stack, &event));
        CHECK_EQ(event.events, UN_TCP_EVENT_CLOSED);
        CHECK_EQ(un_stack_close(&far.host.stack, event.conn), 0);
    }
    far_close(&far);
}

int main(void)
{
    RUN(addresses_are_announced_and_routers_asked);
    RUN(a_question_is_answered_and_the_asker_learnt);
    RUN(an_announcement_makes_no_entry_and_changes_one);
    RUN(who_claims_our_address_is_not_believed);
    RUN(an_address_of_another_is_not_used);
    RUN(a_solicitation_is_answered);
    RUN(a_datagram_waits_for_the_answer);
    RUN(waiting_packets_are_bounded_and_lost_in_the_end);
    RUN(what_is_used_and_not_confirmed_is_probed);
    RUN(a_router_advertisement_gives_the_default_route);
    RUN(the_longest_prefix_wins);
    RUN(a_gateway_is_on_the_link);
    RUN(a_claimed_address_is_on_the_link_as_well);
    RUN(a_full_table_keeps_those_in_use);
    RUN(connections_to_many_silent_neighbours_wait_in_peace);
    return 0;
}
