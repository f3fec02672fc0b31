/* ICMP errors about our packets: only those that quote what is in flight count, and only connection attempts end by
 * them (RFC 5927); a packet that was too big is sent again in smaller ones (RFC 1191, RFC 8201). */
#include <string.h>

#include "base/bytes.h"
#include "far.h"
#include "stack/arena.h"

static struct far far;
static struct un_stack_config config;
static struct far_packet sent; /* the packet of ours that the error is about */
static uint64_t conn;

static void open(void)
{
    config = net_config();
    far_open(&far, &config);
    far_introduce(&far);
}

static struct un_seg take_sent(void)
{
    struct un_seg seg;
    CHECK(far_take(&far, &sent));
    CHECK_EQ(sent.packet.protocol, UN_PROTOCOL_TCP);
    CHECK_EQ(un_seg_parse(&seg, sent.bytes + sent.packet.transport, sent.packet.transport_length,
                          sent.packet.transport_length), UN_DROP_NONE);
    return seg;
}

static void send_error(const struct un_ip *from, enum un_icmp_kind kind, uint32_t mtu, int32_t seq_off)
{
    struct un_icmp icmp = {.kind = kind, .mtu = mtu};
    struct un_ip to = sent.packet.source;
    uint8_t *seq = sent.bytes + sent.packet.transport + 4;
    un_put32(seq, un_get32(seq) + (uint32_t)seq_off);
    far_send_icmp(&far, from, &to, &icmp, sent.bytes + sent.packet.network, 60);
    un_put32(seq, un_get32(seq) - (uint32_t)seq_off);
}

static struct un_seg start_connect(bool is_v6)
{
    struct un_stack_peer remote = {is_v6 ? far.ip6 : far.ip4, 9};
    CHECK_EQ(un_stack_connect(&far.host.stack, &remote, NULL, 0, &conn), 0);
    far_turn(&far);
    return take_sent();
}

static void establish(bool is_v6)
{
    struct un_seg syn = start_connect(is_v6);
    struct un_seg answer = {.seq = 100, .ack = syn.seq + 1, .flags = UN_TCP_SYN | UN_TCP_ACK, .wnd = 60000,
                            .options = UN_SEG_MSS, .mss = 1440, .source_port = 9, .destination_port = syn.source_port};
    far_send_tcp(&far, is_v6 ? &far.ip6 : &far.ip4, is_v6 ? &far.stack6 : &far.stack4, &answer);
    far_expect_tcp(&far, UN_TCP_ACK);
    expect_event(&far.host, UN_TCP_EVENT_CONNECTED);
}

static void a_refused_attempt_ends_at_once(void)
{
    for (int family = 0; family < 2; family++) {
        open();
        start_connect(family);
        send_error(family ? &far.ip6 : &far.ip4, UN_ICMP_UNREACHABLE_PORT, 0, 1); /* not what was sent */
        CHECK_EQ(far.host.stack.tcp.drops[UN_DROP_icmp_unmatched], 1);
        expect_no_event(&far.host);
        send_error(family ? &far.ip6 : &far.ip4, UN_ICMP_UNREACHABLE_PORT, 0, 0);
        CHECK_EQ(expect_event(&far.host, UN_TCP_EVENT_CLOSED).reason, UN_TCP_REASON_REFUSED);
        CHECK_EQ(un_stack_close(&far.host.stack, conn), 0);
        far_close(&far);
    }
}

static void an_error_about_somebody_else_is_ignored(void)
{
    open();
    start_connect(false);
    sent.bytes[sent.packet.transport + 1] ^= 1; /* another port */
    send_error(&far.ip4, UN_ICMP_UNREACHABLE_PORT, 0, 0);
    CHECK_EQ(far.host.stack.tcp.drops[UN_DROP_icmp_unmatched], 1);
    expect_no_event(&far.host);
    CHECK_EQ(un_stack_abort(&far.host.stack, conn), 0);
    far_close(&far);
}

static void an_established_connection_survives_errors(void)
{
    open();
    establish(false);
    CHECK_EQ(write_bytes(&far.host, conn, "x", 1), 1);
    far_turn(&far);
    take_sent();
    send_error(&far.ip4, UN_ICMP_UNREACHABLE_HOST, 0, 0);
    send_error(&far.ip4, UN_ICMP_UNREACHABLE_PORT, 0, 0);
    send_error(&far.ip4, UN_ICMP_TIME_EXCEEDED, 0, 0);
    expect_no_event(&far.host);
    CHECK_EQ(un_stack_conn_find(&far.host.stack, conn)->state, UN_TCP_ESTABLISHED);
    CHECK_EQ(un_stack_abort(&far.host.stack, conn), 0);
    far_close(&far);
}

static void what_was_too_big_is_sent_again_in_smaller_packets(void)
{
    static const uint16_t smaller[] = {1300, 1280};
    static uint8_t bytes[1400];
    for (int family = 0; family < 2; family++) {
        open();
        establish(family);
        CHECK_EQ(write_bytes(&far.host, conn, bytes, sizeof bytes), sizeof bytes);
        far_turn(&far);
        CHECK_EQ(take_sent().length, 1400);
        send_error(family ? &far.ip6 : &far.ip4, UN_ICMP_PACKET_TOO_BIG, smaller[family], 0);
        CHECK_EQ(un_stack_conn_find(&far.host.stack, conn)->path_mtu, smaller[family]);
        CHECK_EQ(take_sent().length, smaller[family] - (family ? 60u : 40u));
        CHECK_EQ(un_stack_abort(&far.host.stack, conn), 0);
        far_close(&far);
    }
}

static void a_router_that_does_not_say_gets_the_next_plateau(void)
{
    static uint8_t bytes[1400];
    open();
    establish(false);
    CHECK_EQ(write_bytes(&far.host, conn, bytes, sizeof bytes), sizeof bytes);
    far_turn(&far);
    take_sent();
    send_error(&far.ip4, UN_ICMP_PACKET_TOO_BIG, 0, 0);
    CHECK_EQ(un_stack_conn_find(&far.host.stack, conn)->path_mtu, 1492);
    send_error(&far.ip4, UN_ICMP_PACKET_TOO_BIG, 68, 0); /* an attack, more likely */
    CHECK_EQ(un_stack_conn_find(&far.host.stack, conn)->path_mtu, 552);
    CHECK_EQ(un_stack_abort(&far.host.stack, conn), 0);
    far_close(&far);
}

int main(void)
{
    RUN(a_refused_attempt_ends_at_once);
    RUN(an_error_about_somebody_else_is_ignored);
    RUN(an_established_connection_survives_errors);
    RUN(what_was_too_big_is_sent_again_in_smaller_packets);
    RUN(a_router_that_does_not_say_gets_the_next_plateau);
    return 0;
}
