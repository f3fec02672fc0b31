/* See world.h. */
#include "world.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/siphash.h"
#include "stack/arena.h"
#include "stack/kernel_table.h"
#include "stack/neighbour.h"
#include "wire/arp.h"
#include "wire/checksum.h"
#include "wire/icmp.h"

enum {
    HANDED_MAX = 64,
    SLOTS = 64,
    TURNS_MAX = 3000,
    CONN_MAX = 12,
    FRAMES = 160,
    FRAMES_FEW = 64,
    TCP_CHECKSUM = 16,
    ICMP_CHECKSUM = 2
};

enum setting {
    WITHOUT_TIMESTAMPS = 1 << 0,
    WITHOUT_SACK = 1 << 1,
    WITHOUT_WINDOW_SCALING = 1 << 2,
    WITHOUT_ECN = 1 << 3,
    WITH_OFFLOADS = 1 << 4,
    WITH_PARTIAL_CHECKSUMS = 1 << 5,
    WITH_RENO = 1 << 6,
    WITH_LARGE_FRAMES = 1 << 7,
};

struct world world;
const uint8_t world_attacker_mac[UN_MAC_BYTES] = {2, 0, 0, 0, 0, 9};
static const struct un_ip any;

struct un_ip world_attacker(bool is_v6)
{
    return is_v6 ? ip6(9) : ip4(10, 0, 0, 9);
}

struct un_ip world_own(bool is_v6)
{
    return is_v6 ? ip6(1) : ip4(10, 0, 0, 1);
}

static uint8_t pattern(uint32_t at)
{
    return (uint8_t)(at * 31 + (at >> 8));
}

/* ---- another shard ---- */

static struct {
    uint8_t bytes[HANDED_MAX][WORLD_FRAME_MAX];
    struct un_rx packets[HANDED_MAX];
    uint32_t count;
} handed;

/* What does not fit is lost, as in a ring between processes. */
static void hand_over(void *context, uint32_t shard, const struct un_rx *packet)
{
    const struct un_pool *pool = &world.it.stack.tcp.pool;
    (void)context;
    if (shard == UN_NONE || handed.count == HANDED_MAX || packet->length > WORLD_FRAME_MAX)
        return;
    uint8_t *to = handed.bytes[handed.count];
    for (uint32_t at = packet->frame; at != UN_NONE; at = pool->frames[at].next) {
        const struct un_frame *part = &pool->frames[at];
        memcpy(to, un_pool_bytes(pool, at) + part->offset, part->length);
        to += part->length;
    }
    handed.packets[handed.count++] = *packet;
}

/* One packet into frames of the stack; it is lost where it has none. */
static void take_over(const uint8_t *bytes, struct un_rx packet)
{
    struct un_pool *pool = &world.it.stack.tcp.pool;
    uint32_t *link = &packet.frame;
    for (uint32_t left = packet.length; left > 0;) {
        uint32_t frame = un_pool_take(pool);
        *link = frame;
        if (frame == UN_NONE) {
            un_pool_drop_chain(pool, packet.frame);
            return;
        }
        uint32_t step = left < pool->own->frame_bytes ? left : pool->own->frame_bytes;
        memcpy(un_pool_bytes(pool, frame), bytes, step);
        pool->frames[frame].length = (uint16_t)step;
        link = &pool->frames[frame].next;
        bytes += step;
        left -= step;
    }
    un_stack_input(&world.it.stack, &packet);
}

static uint32_t return_what_was_handed_over(void)
{
    uint32_t count = handed.count;
    handed.count = 0; /* nothing is handed over twice */
    for (uint32_t i = 0; i < count; i++)
        take_over(handed.bytes[i], handed.packets[i]);
    return count;
}

void world_share(void)
{
    struct un_stack_shards view = {.shard = 0, .shards = 2, .hand_over = hand_over};
    un_stack_set_shards(&world.it.stack, &view);
}

/* ---- begin ---- */

static struct un_stack_config make_config(uint8_t settings, const uint8_t *script, size_t length)
{
    static const uint8_t key[16] = {1};
    struct un_stack_config config = net_config();
    uint64_t hash = un_siphash(key, script, (uint32_t)length);
    for (uint32_t i = 0; i < UN_SECRET_BYTES; i++)
        config.secret[i] = (uint8_t)(hash >> i % 8 * 8) ^ (uint8_t)i;
    config.seed = hash;
    config.conn_max = CONN_MAX;
    config.time_wait_max = 4;
    config.udp_max = 4;
    config.frames = settings & WITH_LARGE_FRAMES ? FRAMES_FEW : FRAMES;
    config.frame_bytes = settings & WITH_LARGE_FRAMES ? 2048 : 512;
    config.sents = 128;
    config.resets_per_s = config.icmp_per_s = 100;
    config.accept_partial_checksum = settings & WITH_PARTIAL_CHECKSUMS;
    config.tcp.rcv_limit = config.tcp.snd_limit = 16384;
    config.tcp.ooo_frames_max = 12;
    config.tcp.rcv_frames_max = 12;
    config.tcp.timestamps = !(settings & WITHOUT_TIMESTAMPS);
    config.tcp.sack = !(settings & WITHOUT_SACK);
    config.tcp.window_scaling = !(settings & WITHOUT_WINDOW_SCALING);
    config.tcp.ecn = !(settings & WITHOUT_ECN);
    config.tcp.congestion = settings & WITH_RENO ? UN_CONGESTION_RENO : UN_CONGESTION_CUBIC;
    return config;
}

/* ---- a kernel that has its addresses as well ---- */

static struct un_kernel_table kernel;

static void tell(bool knows_attacker)
{
    const struct un_kernel_address addresses[] = {{world_own(false), 24}, {world_own(true), 64}};
    const struct un_kernel_route routes[] = {{.network = ip4(10, 0, 0, 0), .prefix = 24},
                                             {.network = ip6(0), .prefix = 64}};
    struct un_kernel_neighbour neighbours[4] = {{.ip = ip4(10, 0, 0, 2)}, {.ip = ip6(2)},
                                                {.ip = world_attacker(false)}, {.ip = world_attacker(true)}};
    for (uint32_t i = 0; i < 4; i++)
        memcpy(neighbours[i].mac, i < 2 ? world.friend.device->capabilities.mac : world_attacker_mac, UN_MAC_BYTES);
    un_kernel_write(&kernel, &(struct un_kernel_news){addresses, routes, neighbours, 2, 2, knows_attacker ? 4 : 2});
}

/* It answers the friend for the addresses that they share. */
static void answer_friend(void)
{
    for (int family = 0; family < 2; family++) {
        const struct un_ip ip = world_own(family);
        struct un_neighbour *neighbour = un_neighbour_make(&world.friend.stack, &ip);
        if (neighbour && neighbour->state != UN_NEIGHBOUR_REACHABLE)
            un_neighbour_learn(&world.friend.stack, neighbour, world.it.device->capabilities.mac, true);
    }
}

static void act_as_kernel(void)
{
    struct un_ip wanted;
    bool is_asked = false;
    while (un_stack_next_question(&world.it.stack, &wanted)) {
        const struct un_ip v4 = world_attacker(false), v6 = world_attacker(true);
        is_asked |= un_ip_equal(&wanted, &v4) || un_ip_equal(&wanted, &v6);
    }
    if (is_asked)
        tell(!world.is_quiet);
    un_stack_follow(&world.it.stack);
    answer_friend();
}

static void give_addresses(void)
{
    host_address(&world.friend, 2);
    if (!world.it.stack.config->shared) {
        host_address(&world.it, 1);
        return;
    }
    memset(&kernel, 0, sizeof kernel);
    tell(false);
    world.it.kernel = &kernel;
    un_stack_share(&world.it.stack, &kernel);
    answer_friend();
}

static void make_hosts(uint8_t settings, bool is_shared, const uint8_t *script, size_t length)
{
    struct un_stack_config config = make_config(settings, script, length);
    struct un_device_capabilities mine = net_capabilities(1), others = net_capabilities(2);
    if (settings & WITH_OFFLOADS) {
        mine.tx_checksum = true;
        mine.tx_segment_bytes = 8000;
        others.rx_checksum = others.rx_coalesce = true;
    }
    config.shared = is_shared;
    host_make(&world.it, &config, un_hand_open(&mine, SLOTS));
    config.shared = false;
    config.secret[0] ^= 0xff;
    host_make(&world.friend, &config, un_hand_open(&others, SLOTS));
    give_addresses();
}

static void open_world(uint8_t settings, bool is_shared, const uint8_t *script, size_t length)
{
    memset(&world, 0, sizeof world);
    handed.count = 0;
    world.now_ns = NET_SECOND;
    make_hosts(settings, is_shared, script, length);
    CHECK_EQ(un_stack_listen(&world.it.stack, &any, WORLD_ECHO_PORT, 4, 0), 0);
    CHECK_EQ(un_stack_listen(&world.it.stack, &any, WORLD_PORT, WORLD_BACKLOG, 0), 1);
    CHECK_EQ(un_stack_udp_open(&world.it.stack, &(struct un_stack_peer){.port = WORLD_UDP_PORT}, 0), 0);
    struct un_stack_peer echo = {world_own(settings & 1), WORLD_ECHO_PORT};
    CHECK_EQ(un_stack_connect(&world.friend.stack, &echo, NULL, 0, &world.speaker), 0);
    world_speak(100);
    world_settle();
    CHECK_EQ(world.heard, 100);
}

void world_open(uint8_t settings, const uint8_t *script, size_t length)
{
    open_world(settings, false, script, length);
}

void world_open_shared(uint8_t settings, const uint8_t *script, size_t length)
{
    open_world(settings, true, script, length);
}

/* ---- the bystander ---- */

/* The server's end: what comes goes back. */
static void echo(struct un_tcb *tcb)
{
    struct un_stack *stack = &world.it.stack;
    uint64_t conn = un_stack_handle(stack, tcb);
    struct un_piece piece;
    un_stack_accept(stack, conn, 0);
    while (un_stack_peek(stack, conn, &piece, 1) > 0) {
        piece.frame = UN_NONE; /* copied */
        int64_t taken = un_stack_write(stack, conn, &piece, 1);
        if (taken <= 0)
            return;
        CHECK_EQ(un_stack_consume(stack, conn, (uint32_t)taken), 0);
    }
}

static void serve_echo(void)
{
    struct un_stack *stack = &world.it.stack;
    for (uint32_t slot = 0; slot < stack->own->conn_fresh; slot++) {
        struct un_tcb *tcb = &stack->tcp.tcbs[slot];
        bool is_open = tcb->state & (UN_TCP_ESTABLISHED | UN_TCP_CLOSE_WAIT);
        if (tcb->local_port == WORLD_ECHO_PORT && is_open && !(tcb->flags & UN_TCB_DETACHED))
            echo(tcb);
    }
}

static void hear(void)
{
    uint8_t bytes[2048];
    while (world.speaker) {
        int64_t got = un_stack_read(&world.friend.stack, world.speaker, bytes, sizeof bytes);
        if (got == -EAGAIN)
            return;
        CHECK(got > 0);
        for (int64_t i = 0; i < got; i++)
            CHECK_EQ(bytes[i], pattern(world.heard++));
        CHECK(world.heard <= world.spoken);
    }
}

/* What does not fit is not spoken. */
void world_speak(uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++) {
        uint8_t byte = pattern(world.spoken);
        int64_t taken = write_bytes(&world.friend, world.speaker, &byte, 1);
        if (taken == -ENOTCONN) {
            world_settle();
            taken = write_bytes(&world.friend, world.speaker, &byte, 1);
        }
        if (taken != 1) {
            CHECK(taken == -EAGAIN);
            return;
        }
        world.spoken++;
    }
}

void world_expect_heard(void)
{
    for (int tries = 0; tries < 60 && world.heard < world.spoken; tries++)
        world_wait(NET_SECOND);
    CHECK_EQ(world.heard, world.spoken);
}

/* ---- packets ---- */

/* What waits out of order: ascending, apart, behind what is in order, within the window. */
static void check_out_of_order(const struct un_stack *stack, const struct un_tcb *tcb)
{
    uint32_t end = tcb->rcv_nxt;
    for (uint32_t at = tcb->rcv_ooo.head; at != UN_NONE; at = stack->tcp.pool.frames[at].next) {
        const struct un_frame *frame = &stack->tcp.pool.frames[at];
        CHECK(un_seq_le(end, frame->seq) && frame->seq != tcb->rcv_nxt);
        end = frame->seq + frame->length;
    }
    CHECK(tcb->rcv_ooo.head == UN_NONE || un_seq_le(end, tcb->rcv_edge));
}

static void check(struct host *host)
{
    struct un_stack *stack = &host->stack;
    const char *wrong = un_stack_check(stack);
    for (uint32_t slot = 0; !wrong && slot < stack->own->conn_fresh; slot++) {
        const struct un_tcb *tcb = &stack->tcp.tcbs[slot];
        if (tcb->state & (UN_TCP_CLOSED | UN_TCP_DEAD))
            continue;
        wrong = un_recovery_check(&stack->tcp, tcb);
        check_out_of_order(stack, tcb);
    }
    if (wrong)
        check_failed(__FILE__, __LINE__, wrong);
}

/* The last segment to the attacker is remembered; whatever is sent makes sense. */
static void look_at(const uint8_t *bytes, uint32_t length, const struct un_tx *out)
{
    struct iovec piece = {(void *)bytes, length};
    struct un_packet packet;
    CHECK_EQ(un_packet_parse(&packet, &piece, 1), UN_DROP_NONE);
    if (packet.ether_type == UN_ETHER_ARP || packet.is_fragment)
        return;
    CHECK(out->flags || un_packet_checksum_good(&packet, &piece, 1, UN_CHECKSUM_UNKNOWN));
    struct un_seg seg;
    if (packet.protocol != UN_PROTOCOL_TCP)
        return;
    CHECK_EQ(un_seg_parse(&seg, bytes + packet.transport, packet.transport_length, packet.transport_length),
             UN_DROP_NONE);
    if (memcmp(bytes, world_attacker_mac, UN_MAC_BYTES) == 0) {
        world.answer = seg;
        world.answer_to = packet.destination;
    }
}

void world_send(const uint8_t *bytes, uint32_t length)
{
    un_hand_input(world.it.device, bytes, length, world.rx_flags, world.rx_segment); /* or not */
}

static uint32_t begin_frame(uint8_t *frame, uint16_t ether_type)
{
    return un_eth_emit(frame, world.it.device->capabilities.mac, world_attacker_mac, ether_type);
}

void world_fill_checksum(const struct un_ip_header *ip, uint8_t *transport, uint32_t length, uint32_t checksum_offset)
{
    memset(transport + checksum_offset, 0, 2);
    uint64_t sum = un_sum(transport, length);
    if (ip->protocol != UN_PROTOCOL_ICMP)
        sum += un_sum_pseudo(&ip->source, &ip->destination, ip->protocol, length);
    uint16_t field = un_checksum(sum);
    memcpy(transport + checksum_offset, &field, sizeof field);
}

void world_send_ip(const struct un_ip_header *ip, const uint8_t *transport, uint32_t length, uint32_t checksum_offset)
{
    uint8_t frame[WORLD_FRAME_MAX];
    struct un_ip_header header = *ip;
    header.payload_length = length;
    uint32_t at = begin_frame(frame, un_ip_is_v4(&ip->destination) ? UN_ETHER_IPV4 : UN_ETHER_IPV6);
    at += un_ip_emit(frame + at, &header);
    CHECK(at + length <= sizeof frame);
    memcpy(frame + at, transport, length);
    if (checksum_offset && checksum_offset + 2 <= length)
        world_fill_checksum(ip, frame + at, length, checksum_offset);
    world_send(frame, at + length);
}

void world_send_seg(const struct un_ip *from, const struct un_ip *to, struct un_seg *seg, const uint8_t *options,
                    uint32_t option_bytes)
{
    uint8_t bytes[WORLD_FRAME_MAX] = {0};
    struct un_ip_header ip = {.source = *from, .destination = *to, .protocol = UN_PROTOCOL_TCP, .hop_limit = 64,
                              .ecn = seg->ecn};
    uint32_t header = un_seg_emit(seg, bytes);
    if (option_bytes) {
        header = UN_TCP_HEADER_BYTES + option_bytes;
        bytes[12] = (uint8_t)(header / 4 << 4);
        memcpy(bytes + UN_TCP_HEADER_BYTES, options, option_bytes);
    }
    for (uint32_t i = 0; i < seg->length; i++)
        bytes[header + i] = pattern(seg->seq + i);
    world_send_ip(&ip, bytes, header + seg->length, TCP_CHECKSUM);
}

static void answer_arp(const struct un_arp *question)
{
    uint8_t frame[64] = {0};
    struct un_arp answer = {.operation = UN_ARP_REPLY, .sender = question->target, .target = question->sender};
    memcpy(answer.sender_mac, world_attacker_mac, UN_MAC_BYTES);
    memcpy(answer.target_mac, question->sender_mac, UN_MAC_BYTES);
    uint32_t at = begin_frame(frame, UN_ETHER_ARP);
    world_send(frame, at + un_arp_emit(&answer, frame + at));
}

static void answer_solicitation(const struct un_packet *packet, const struct un_icmp *question)
{
    uint8_t message[UN_ICMP_EMIT_MAX];
    struct un_icmp answer = {.kind = UN_ICMP_NEIGHBOUR_ADVERTISEMENT, .target = question->target, .is_solicited = true,
                             .overrides = true, .has_mac = true};
    struct un_ip_header ip = {.source = question->target, .destination = packet->source, .protocol = UN_PROTOCOL_ICMPV6,
                              .hop_limit = 255};
    memcpy(answer.mac, world_attacker_mac, UN_MAC_BYTES);
    world_send_ip(&ip, message, un_icmp_emit(&answer, true, message), ICMP_CHECKSUM);
}

/* Somebody asks for the attacker's address. */
static void answer(const uint8_t *bytes, uint32_t length)
{
    struct iovec piece = {(void *)bytes, length};
    struct un_packet packet;
    struct un_arp arp;
    struct un_icmp icmp;
    struct un_ip v4 = world_attacker(false), v6 = world_attacker(true);
    if (world.is_quiet || un_packet_parse(&packet, &piece, 1))
        return;
    const uint8_t *at = bytes + packet.transport;
    if (packet.ether_type == UN_ETHER_ARP) {
        if (!un_arp_parse(&arp, bytes + packet.network, length - packet.network) && arp.operation == UN_ARP_REQUEST &&
            un_ip_equal(&arp.target, &v4))
            answer_arp(&arp);
    } else if (packet.protocol == UN_PROTOCOL_ICMPV6 &&
               !un_icmp_parse(&icmp, true, packet.hop_limit, at, packet.transport_length, packet.transport_length) &&
               icmp.kind == UN_ICMP_NEIGHBOUR_SOLICITATION && un_ip_equal(&icmp.target, &v6)) {
        answer_solicitation(&packet, &icmp);
    }
}

/* What a host sent goes to the other one where it is meant for it. */
static uint32_t ferry(struct host *from, struct host *to)
{
    static uint8_t bytes[70000];
    struct un_tx out;
    uint32_t count = 0;
    for (;; count++) {
        int length = un_hand_output(from->device, bytes, sizeof bytes, &out);
        if (length <= 0)
            return count;
        look_at(bytes, (uint32_t)length, &out);
        bool is_group = bytes[0] & 1;
        bool is_offloaded = out.flags & (UN_TX_CHECKSUM | UN_TX_SEGMENT);
        uint16_t segment = out.flags & UN_TX_SEGMENT ? out.segment_bytes : 0;
        if (is_group || memcmp(bytes, to->device->capabilities.mac, UN_MAC_BYTES) == 0)
            un_hand_input(to->device, bytes, (uint32_t)length, is_offloaded ? UN_RX_CHECKSUM_GOOD : 0, segment);
        if (is_group && from == &world.it)
            answer(bytes, (uint32_t)length);
    }
}

/* ---- time ---- */

static uint32_t turn(void)
{
    if (world.it.kernel)
        act_as_kernel();
    uint32_t done = un_stack_poll(&world.it.stack, world.now_ns) + return_what_was_handed_over();
    done += un_stack_poll(&world.friend.stack, world.now_ns);
    done += ferry(&world.it, &world.friend) + ferry(&world.friend, &world.it);
    serve_echo();
    hear();
    return done;
}

static void run_turns(void)
{
    for (int turns = 0; turn() > 0; turns++)
        CHECK(turns < TURNS_MAX);
}

void world_settle(void)
{
    run_turns();
    check(&world.it);
}

void world_wait(uint64_t duration_ns)
{
    uint64_t end = world.now_ns + duration_ns;
    run_turns();
    while (world.now_ns < end) {
        uint64_t next = un_min64(un_stack_deadline_ns(&world.it.stack), un_stack_deadline_ns(&world.friend.stack));
        next = un_min64(next, end);
        world.now_ns = next > world.now_ns ? next : world.now_ns + 1;
        run_turns();
    }
    check(&world.it);
}

/* ---- end ---- */

void world_close(void)
{
    struct un_stack *stack = &world.it.stack;
    CHECK_EQ(un_stack_abort(&world.friend.stack, world.speaker), 0);
    world.speaker = 0;
    for (uint32_t i = 0; i < UN_STACK_LISTENERS_MAX; i++)
        un_stack_unlisten(stack, i);
    for (uint32_t i = 0; i < stack->config->udp_max; i++)
        un_stack_udp_close(stack, i);
    for (uint32_t slot = 0; slot < stack->own->conn_fresh; slot++) {
        struct un_tcb *tcb = &stack->tcp.tcbs[slot];
        if (tcb->state != UN_TCP_CLOSED)
            un_stack_abort(stack, un_stack_handle(stack, tcb));
    }
    world_wait(500 * NET_SECOND); /* the user timeout, and the longest until somebody looks at it */
    host_close(&world.it);
    host_close(&world.friend);
}
