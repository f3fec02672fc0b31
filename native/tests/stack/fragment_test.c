/* Fragments of IPv6 that an attacker makes: fragments within fragments, neighbour discovery in fragments (RFC 6980),
 * and datagrams that are begun and never finished. */
#include <string.h>

#include "base/bytes.h"
#include "far.h"
#include "stack/arena.h"
#include "stack/neighbour.h"
#include "stack/neighbour_table.h"
#include "wire/checksum.h"

enum { FRAGMENT = 44, PART = 512 };

static struct far far;
static struct un_stack_config config;

static void open(void)
{
    config = net_config();
    far_open(&far, &config);
    far_introduce(&far);
}

static uint64_t dropped(enum un_drop why)
{
    return far.host.stack.tcp.drops[why];
}

static void send_part(uint8_t protocol, uint32_t id, const uint8_t *bytes, uint32_t start, uint32_t end, bool more)
{
    uint8_t part[2000] = {protocol};
    un_put16(part + 2, (uint16_t)(start | more));
    un_put32(part + 4, id);
    memcpy(part + 8, bytes + start, end - start);
    far_send_ip(&far, &far.ip6, &far.stack6, FRAGMENT, part, 8 + end - start, 0);
}

/* The whole is the first part of another datagram. */
static void a_fragment_of_a_fragment_is_refused(void)
{
    uint8_t inner[PART + 8] = {UN_PROTOCOL_UDP, 0, 0, 1};
    open();
    send_part(FRAGMENT, 1, inner, 0, 256, true);
    send_part(FRAGMENT, 1, inner, 256, sizeof inner, false);
    CHECK_EQ(far.host.stack.counters->reassembled, 1);
    CHECK_EQ(dropped(UN_DROP_ip_options), 1);
    for (uint32_t i = 0; i < UN_FRAGMENTS_MAX; i++)
        CHECK(!far.host.stack.own->fragments[i].is_used);
    far_close(&far);
}

static uint32_t make_solicitation(uint8_t *message)
{
    struct un_icmp icmp = {
        .kind = UN_ICMP_NEIGHBOUR_SOLICITATION, .target = far.stack6, .has_mac = true, .mac = {2, 9}};
    uint32_t length = un_icmp_emit(&icmp, true, message);
    uint64_t sum = un_sum(message, length) + un_sum_pseudo(&far.ip6, &far.stack6, UN_PROTOCOL_ICMPV6, length);
    uint16_t field = un_checksum(sum);
    memcpy(message + 2, &field, sizeof field);
    return length;
}

/* Sent with the hop limit that makes it credible. */
static void send_solicitation_part(const uint8_t *message, uint32_t start, uint32_t end, bool more)
{
    uint8_t frame[200];
    struct un_ip_header ip = {.source = far.ip6, .destination = far.stack6, .protocol = FRAGMENT, .hop_limit = 255,
                              .payload_length = 8 + end - start};
    uint32_t at = un_eth_emit(frame, far.to, (const uint8_t[]){2, 0, 0, 0, 0, 9}, UN_ETHER_IPV6);
    at += un_ip_emit(frame + at, &ip);
    memset(frame + at, 0, 8);
    frame[at] = UN_PROTOCOL_ICMPV6;
    un_put16(frame + at + 2, (uint16_t)(start | more));
    memcpy(frame + at + 8, message + start, end - start);
    far_send_bytes(&far, frame, at + 8 + end - start);
}

static void neighbour_discovery_in_fragments_is_ignored(void)
{
    uint8_t message[UN_ICMP_EMIT_MAX];
    open();
    uint32_t length = make_solicitation(message);
    send_solicitation_part(message, 0, 8, true);
    send_solicitation_part(message, 8, length, false);
    CHECK_EQ(far.host.stack.counters->reassembled, 1);
    CHECK_EQ(dropped(UN_DROP_nd_malformed), 1);
    send_solicitation_part(message, 0, length, false); /* a fragment header on a whole packet */
    CHECK_EQ(dropped(UN_DROP_nd_malformed), 2);
    far_expect_nothing(&far);
    CHECK(!un_neighbour_has_mac(un_neighbour_find(&far.host.stack, &far.ip6), (const uint8_t[]){2, 9, 0, 0, 0, 0}));
    far_close(&far);
}

/* Each datagram as large as one may become, one part of it missing for ever. */
static void begin_many(uint32_t datagrams)
{
    static const uint8_t zeros[65536];
    for (uint32_t id = 0; id < datagrams; id++)
        for (uint32_t start = 8; start < 60000; start += 1432)
            send_part(UN_PROTOCOL_UDP, id, zeros, start, start + 1432, true);
}

static void datagrams_that_are_never_finished_leave_frames_for_others(void)
{
    open();
    begin_many(100);
    const struct un_pool_memory *pool = &far.host.stack.own->pool;
    CHECK(pool->free_count >= pool->count / 4 - 1);
    CHECK(dropped(UN_DROP_fragment_budget) > 0);
    far_wait(&far, 61 * NET_SECOND);
    CHECK_EQ(pool->free_count, pool->count);
    far_close(&far);
}

int main(void)
{
    RUN(a_fragment_of_a_fragment_is_refused);
    RUN(neighbour_discovery_in_fragments_is_ignored);
    RUN(datagrams_that_are_never_finished_leave_frames_for_others);
    return 0;
}
