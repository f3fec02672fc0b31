/* See adopt_world.h. */
#include "adopt_world.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "stack/packets.h"

#define PATIENCE_NS (120 * NET_SECOND)

struct adopt_world world;
static const struct un_ip any;

/* ---- streams ---- */

static uint32_t number_of(const struct un_tcb *tcb)
{
    return (uint32_t)(tcb->local_port == SERVER_PORT ? tcb->peer_port : tcb->local_port) - CLIENT_PORT;
}

static uint32_t total(uint32_t number, bool from_peer)
{
    if (number == TIME_WAIT)
        return 300;
    return number == (from_peer ? CLOSE_WAIT : FIN_WAIT) ? 700 : 2500;
}

static uint8_t stream_byte(uint32_t number, bool from_peer, uint32_t at)
{
    return (uint8_t)(at * 7 + (at >> 8) + number * 31 + from_peer * 101);
}

static uint32_t written(const struct un_tcb *tcb)
{
    return tcb->snd_una - tcb->iss - 1 + tcb->snd_bytes;
}

static uint32_t read_so_far(const struct un_tcb *tcb)
{
    return tcb->rcv_nxt - tcb->irs - 1 - tcb->rcv_bytes - !!(tcb->flags & UN_TCB_FIN_RECEIVED);
}

uint32_t slot_of(const struct side *side, uint32_t number)
{
    for (uint32_t slot = 0; slot < side->stack.own->conn_fresh; slot++) {
        const struct un_tcb *tcb = &side->stack.tcp.tcbs[slot];
        if (tcb->state != UN_TCP_CLOSED && number_of(tcb) == number)
            return slot;
    }
    return UN_NONE;
}

static struct un_tcb *tcb_of(struct side *side, uint32_t number)
{
    uint32_t slot = slot_of(side, number);
    CHECK(slot != UN_NONE);
    return &side->stack.tcp.tcbs[slot];
}

uint64_t handle_of(struct side *side, uint32_t number)
{
    return un_stack_handle(&side->stack, tcb_of(side, number));
}

/* As un_stack_write says it. */
static int64_t write_some(struct side *side, struct un_tcb *tcb, uint32_t most)
{
    uint8_t bytes[4096];
    uint32_t at = written(tcb), number = number_of(tcb);
    bool from_peer = side == &world.peer;
    for (uint32_t i = 0; i < most; i++)
        bytes[i] = stream_byte(number, from_peer, at + i);
    struct un_piece piece = {bytes, most, UN_NONE};
    return un_stack_write(&side->stack, un_stack_handle(&side->stack, tcb), &piece, 1);
}

void side_write(struct side *side, uint32_t number, uint32_t bytes)
{
    write_some(side, tcb_of(side, number), bytes);
}

/* What was read, as un_stack_read says it. */
static int64_t read_some(struct side *side, struct un_tcb *tcb, uint32_t most)
{
    uint8_t bytes[4096];
    uint32_t at = read_so_far(tcb), number = number_of(tcb);
    int64_t got = un_stack_read(&side->stack, un_stack_handle(&side->stack, tcb), bytes, most);
    for (int64_t i = 0; i < got; i++)
        CHECK_EQ(bytes[i], stream_byte(number, side == &world.it, at + (uint32_t)i));
    return got;
}

void side_lend(struct side *side, uint32_t number, uint32_t bytes)
{
    struct un_tcb *tcb = tcb_of(side, number);
    CHECK(bytes <= sizeof world.remains->lent);
    for (uint32_t i = 0; i < bytes; i++)
        world.remains->lent[i] = stream_byte(number, side == &world.peer, written(tcb) + i);
    struct un_piece piece = {world.remains->lent, bytes, UN_NONE};
    un_stack_lend(&side->stack, un_stack_handle(&side->stack, tcb), 0, &piece, 1);
}

static void inject_segment(uint32_t number, uint32_t ack, uint32_t offset, uint32_t length)
{
    const struct un_tcb *tcb = tcb_of(&world.it, number);
    const uint8_t from[] = {2, 0, 0, 0, 0, 2}, to[] = {2, 0, 0, 0, 0, 1};
    uint32_t at = tcb->rcv_nxt - tcb->irs - 1 + offset;
    uint8_t packet[WIRE_PACKET_MAX];
    struct un_seg seg = {.seq = tcb->rcv_nxt + offset, .ack = ack, .wnd = 8000, .flags = UN_TCP_ACK,
                         .source_port = tcb->peer_port, .destination_port = tcb->local_port, .length = length,
                         .options = UN_SEG_TIMESTAMP, .tsval = tcb->ts_recent};
    struct un_ip_header ip = {.source = tcb->peer, .destination = ip4(10, 0, 0, 1), .protocol = UN_PROTOCOL_TCP,
                              .hop_limit = 64, .payload_length = un_seg_header_length(&seg) + length};
    uint32_t end = un_eth_emit(packet, to, from, UN_ETHER_IPV4);
    end += un_ip_emit(packet + end, &ip);
    uint8_t *tcp = packet + end;
    uint32_t header = un_seg_emit(&seg, tcp);
    for (uint32_t i = 0; i < length; i++)
        tcp[header + i] = stream_byte(number, true, at + i);
    struct un_piece piece = {tcp, header + length, UN_NONE};
    uint16_t checksum = un_stack_checksum(&ip, UN_PROTOCOL_TCP, &piece, 1);
    memcpy(tcp + 16, &checksum, sizeof checksum);
    world_inject(packet, end + header + length);
}

void world_segment(uint32_t number, uint32_t offset, uint32_t length)
{
    inject_segment(number, tcb_of(&world.it, number)->snd_nxt, offset, length);
}

void world_ack(uint32_t number, uint32_t bytes)
{
    inject_segment(number, tcb_of(&world.it, number)->snd_una + bytes, 0, 0);
}

void world_check_counts(void)
{
    for (uint32_t number = 0; number <= NEW; number++) {
        uint32_t slot = slot_of(&world.it, number);
        const struct un_tcb *tcb = slot == UN_NONE ? NULL : &world.it.stack.tcp.tcbs[slot];
        uint64_t taken, given;
        if (!tcb || !(tcb->state & UN_TCP_SYNCHRONIZED) || (tcb->flags & UN_TCB_DETACHED))
            continue;
        CHECK_EQ(un_stack_conn_counts(&world.it.stack, un_stack_handle(&world.it.stack, tcb), &taken, &given), 0);
        CHECK_EQ(taken, read_so_far(tcb));
        bool is_fin_acked = (tcb->flags & UN_TCB_FIN_SENT) && tcb->snd_una == tcb->snd_nxt;
        CHECK_EQ(given, written(tcb) - is_fin_acked);
    }
}

void side_read(struct side *side, uint32_t number, uint32_t bytes)
{
    CHECK_EQ(read_some(side, tcb_of(side, number), bytes), bytes);
}

/* ---- the application ---- */

static bool is_the_applications(const struct un_tcb *tcb)
{
    return !(tcb->state & (UN_TCP_CLOSED | UN_TCP_SYN_SENT | UN_TCP_SYN_RECEIVED)) && !(tcb->flags & UN_TCB_DETACHED);
}

static bool may_act(const struct side *side, const struct un_tcb *tcb)
{
    uint32_t slot = un_stack_slot(&side->stack, tcb);
    if (!is_the_applications(tcb))
        return false;
    return !side->by_events || (side->named[slot] && (!(tcb->flags & UN_TCB_ACTIVE) || side->connected[slot]) &&
                                (tcb->flags & (UN_TCB_ACTIVE | UN_TCB_ACCEPTED)));
}

/* Whether there was any room. */
static bool write_on(struct side *side, struct un_tcb *tcb, uint32_t left)
{
    bool *writable = &side->writable[un_stack_slot(&side->stack, tcb)];
    if (side->by_events && !*writable)
        return false;
    *writable = write_some(side, tcb, left) == left;
    return *writable;
}

/* One look at a connection: whether anything moved. */
static bool serve(struct side *side, struct un_tcb *tcb)
{
    struct un_stack *stack = &side->stack;
    uint64_t conn = un_stack_handle(stack, tcb);
    uint32_t number = number_of(tcb);
    bool from_peer = side == &world.peer, is_known = number <= NEW;
    int64_t got = read_some(side, tcb, 4096);
    if (got > 0)
        return true;
    if (got == 0 && is_known && read_so_far(tcb) == total(number, !from_peer))
        world.done[number][!from_peer] = true;
    bool may_write = (tcb->state & UN_TCP_CAN_SEND) && !(tcb->flags & UN_TCB_FIN_QUEUED);
    uint32_t left = may_write ? total(number, from_peer) - written(tcb) : 0;
    if (left > 0)
        return write_on(side, tcb, left);
    if (may_write)
        un_stack_shutdown(stack, conn);
    else if (got != -EAGAIN)
        un_stack_close(stack, conn);
    else
        return false;
    return true;
}

static void take_events(struct side *side)
{
    struct un_stack_event event;
    while (un_stack_next_event(&side->stack, &event)) {
        if (event.is_udp)
            continue;
        uint32_t slot = (uint32_t)event.conn;
        side->named[slot] = true;
        side->connected[slot] = (side->connected[slot] && !(event.events & UN_TCP_EVENT_ACCEPTED)) ||
                                (event.events & UN_TCP_EVENT_CONNECTED);
        side->writable[slot] |= event.events & (UN_TCP_EVENT_ACCEPTED | UN_TCP_EVENT_CONNECTED | UN_TCP_EVENT_WRITABLE);
        if (event.events & UN_TCP_EVENT_ACCEPTED)
            un_stack_accept(&side->stack, event.conn, 0);
    }
}

static bool serve_all(struct side *side)
{
    struct un_stack_peer from;
    uint8_t bytes[2000];
    bool moved = false;
    take_events(side);
    for (uint32_t slot = 0; slot < side->stack.own->conn_fresh; slot++) {
        struct un_tcb *tcb = &side->stack.tcp.tcbs[slot];
        side->named[slot] = may_act(side, tcb) && serve(side, tcb);
        moved |= side->named[slot];
    }
    while (un_stack_udp_receive(&side->stack, 0, &from, bytes, sizeof bytes) >= 0)
        ;
    return moved;
}

/* ---- time ---- */

static void check(struct side *side)
{
    const char *wrong = un_stack_check(&side->stack);
    if (wrong)
        check_failed(__FILE__, __LINE__, wrong);
}

void side_poll(struct side *side)
{
    if (side == &world.it)
        world_card();
    un_stack_poll(&side->stack, world.now_ns);
    if (side == &world.it)
        world_card();
    check(side);
}

static bool turn(void)
{
    world_card();
    uint32_t done = un_stack_poll(&world.it.stack, world.now_ns);
    world_card();
    return done + un_stack_poll(&world.peer.stack, world.now_ns) > 0;
}

void world_settle(void)
{
    for (int turns = 0; turn(); turns++)
        CHECK(turns < 10000);
    check(&world.it);
    check(&world.peer);
}

static bool is_all_done(void)
{
    for (uint32_t number = 0; number < world.streams; number++)
        if (!world.done[number][0] || !world.done[number][1])
            return false;
    return true;
}

void world_finish(void)
{
    uint64_t end = world.now_ns + PATIENCE_NS;
    while (world.now_ns < end) {
        world_settle();
        bool moved = serve_all(&world.it);
        if (serve_all(&world.peer) || moved)
            continue;
        if (is_all_done())
            return;
        uint64_t next = un_min64(un_stack_deadline_ns(&world.it.stack), un_stack_deadline_ns(&world.peer.stack));
        next = un_min64(next, end);
        world.now_ns = next > world.now_ns ? next : world.now_ns + 1;
    }
}

void fetch_events(struct side *side)
{
    struct un_stack_event event;
    while (un_stack_next_event(&side->stack, &event))
        ;
}

/* ---- begin ---- */

static struct un_stack_config make_config(bool is_crowded)
{
    struct un_stack_config config = net_config();
    config.conn_max = SLOTS;
    config.frames = 256;
    config.frame_bytes = 512;
    config.sents = 64;
    config.neighbours = 8;
    config.udp_max = 2;
    config.time_wait_max = 4;
    config.lent = 8;
    if (is_crowded) {
        config.tcp.rcv_frames_max = 2;
        config.tcp.ooo_frames_max = 4;
    }
    config.tcp.rcv_limit = config.tcp.snd_limit = 8192;
    return config;
}

static void make_device(struct side *side, uint8_t number)
{
    side->wire = (struct wire_device){
        .device = {.operations = &world_wire_operations, .fd = -1, .capabilities = net_capabilities(number)}};
    side->wire.device.capabilities.mtu = 1280;
    side->device = &side->wire.device;
}

static void use_card(struct card_memory *memory)
{
    card_open(&world.card, memory, &world.it.wire.device.capabilities);
    world.it.device = &world.card.device;
}

static void connect_wires(struct remains *remains)
{
    world.it.wire.in = world.peer.wire.out = &remains->to_it;
    world.it.wire.out = world.peer.wire.in = &remains->to_peer;
}

struct un_stack_place world_place(void)
{
    uint8_t *arena = world.remains->arena;
    return (struct un_stack_place){
        .arena = arena,
        .arena_bytes = world.arena_bytes,
        .frames = world.over_card ? arena + world.arena_bytes : NULL,
        .device = world.it.device,
    };
}

static void make_side(struct side *side, const struct un_stack_place *place, const struct un_stack_config *config,
                      uint8_t number)
{
    struct un_ip ip = ip4(10, 0, 0, number);
    CHECK_EQ(un_stack_create(&side->stack, place, config), 0);
    un_stack_set_device(&side->stack, side->device);
    CHECK_EQ(un_stack_add_address(&side->stack, &ip, 24), 0);
    CHECK_EQ(un_stack_listen(&side->stack, &any, SERVER_PORT, 8, 0), 0);
    CHECK_EQ(un_stack_udp_open(&side->stack, &(struct un_stack_peer){.port = UDP_PORT}, 0), 0);
}

static void make_sides(bool is_crowded)
{
    struct un_stack_config config = make_config(is_crowded);
    const char *why;
    uint64_t bytes = ((uint64_t)un_stack_bytes(&config, &why) + 4095) & ~UINT64_C(4095);
    world.arena_bytes = world.over_card ? (uint64_t)un_stack_tables_bytes(&config, &why) : bytes;
    world.frames_bytes = bytes - world.arena_bytes;
    uint64_t wires = (sizeof(struct remains) + 4095) & ~UINT64_C(4095);
    world.remains_bytes = wires + bytes;
    uint8_t *memory = mmap(NULL, world.remains_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    world.remains = (struct remains *)(memory + wires - sizeof(struct remains)); /* the arena begins with a page */
    struct un_stack_place peer = {.arena = aligned_alloc(4096, bytes), .arena_bytes = bytes};
    memset(peer.arena, 0, bytes);
    make_device(&world.it, 1);
    make_device(&world.peer, 2);
    connect_wires(world.remains);
    if (world.over_card)
        use_card(&world.remains->card);
    struct un_stack_place place = world_place();
    make_side(&world.it, &place, &config, 1);
    world.lenders[0] = world.remains->lent;
    world.it.stack.tcp.pool.lenders = world.lenders;
    config.secret[0] ^= 0xff;
    make_side(&world.peer, &peer, &config, 2);
}

void peer_connect(uint32_t number)
{
    struct un_stack_peer remote = {ip4(10, 0, 0, 1), SERVER_PORT};
    struct un_stack_peer local = {ip4(10, 0, 0, 2), (uint16_t)(CLIENT_PORT + number)};
    uint64_t conn;
    CHECK_EQ(un_stack_connect(&world.peer.stack, &remote, &local, 0, &conn), 0);
}

static void establish(uint32_t number)
{
    peer_connect(number);
    world_settle();
    if (number != READY)
        CHECK_EQ(un_stack_accept(&world.it.stack, handle_of(&world.it, number), 0), 0);
}

static void end_stream(struct side *side, uint32_t number)
{
    side_write(side, number, total(number, side == &world.peer));
    CHECK_EQ(un_stack_shutdown(&side->stack, handle_of(side, number)), 0);
    world_settle();
    struct side *other = side == &world.it ? &world.peer : &world.it;
    side_read(other, number, total(number, side == &world.peer));
}

static void come_to_time_wait(void)
{
    end_stream(&world.it, TIME_WAIT);
    end_stream(&world.peer, TIME_WAIT);
    CHECK_EQ(tcb_of(&world.it, TIME_WAIT)->state, UN_TCP_TIME_WAIT);
    world.done[TIME_WAIT][0] = world.done[TIME_WAIT][1] = true;
}

static void come_to_syn_received(void)
{
    peer_connect(SYN_RECEIVED);
    side_poll(&world.peer);
    side_poll(&world.it);
    side_poll(&world.peer);
    lose(&world.remains->to_it, 1);
    CHECK_EQ(tcb_of(&world.it, SYN_RECEIVED)->state, UN_TCP_SYN_RECEIVED);
}

static void come_to_syn_sent(void)
{
    struct un_stack_peer remote = {ip4(10, 0, 0, 2), SERVER_PORT};
    struct un_stack_peer local = {ip4(10, 0, 0, 1), CLIENT_PORT + SYN_SENT};
    uint64_t conn;
    CHECK_EQ(un_stack_connect(&world.it.stack, &remote, &local, 0, &conn), 0);
    side_poll(&world.it);
    lose(&world.remains->to_peer, 1);
}

static void lose_a_flight(void)
{
    side_write(&world.it, FLIGHT, 2000);
    side_poll(&world.it);
    lose(&world.remains->to_peer, 2);
}

static void lose_a_segment(void)
{
    side_write(&world.peer, HOLES, 2500);
    side_poll(&world.peer);
    lose(&world.remains->to_it, 1);
    side_poll(&world.it);
    lose(&world.remains->to_peer, world.remains->to_peer.put - world.remains->to_peer.taken);
    CHECK(tcb_of(&world.it, HOLES)->rcv_ooo_bytes > 0);
}

/* The application of `it` cannot write all at once; what it wrote is acknowledged. */
static void come_to_blocked(void)
{
    struct side *it = &world.it;
    CHECK_EQ(un_stack_set_option(&it->stack, handle_of(it, BLOCKED), UN_OPTION_SEND_BYTES, 1000), 0);
    side_write(it, BLOCKED, total(BLOCKED, false));
    CHECK(tcb_of(it, BLOCKED)->flags & UN_TCB_WANT_WRITE);
    world_settle();
    CHECK(tcb_of(it, BLOCKED)->events & UN_TCP_EVENT_WRITABLE);
}

void world_open(bool over_card, bool is_crowded)
{
    memset(&world, 0, sizeof world);
    world.over_card = over_card;
    world.is_special = over_card || is_crowded;
    world.streams = CONNS;
    world.now_ns = NET_SECOND;
    make_sides(is_crowded);
    world_settle();
    for (uint32_t number = 0; number < CONNS; number++)
        if (number != SYN_SENT && number != SYN_RECEIVED)
            establish(number);
    end_stream(&world.peer, CLOSE_WAIT);
    end_stream(&world.it, FIN_WAIT);
    come_to_time_wait();
    come_to_blocked();
    side_write(&world.peer, UNREAD, 2000);
    side_write(&world.peer, READY, 500);
    struct un_stack_peer udp = {ip4(10, 0, 0, 1), UDP_PORT};
    CHECK_EQ(un_stack_udp_send(&world.peer.stack, 0, &udp, "datagram", 8), 8);
    world_settle();
    come_to_syn_received();
    come_to_syn_sent();
    lose_a_flight();
    lose_a_segment();
    fetch_events(&world.it);
    check(&world.it);
}

/* ---- and goes on ---- */

static void *copy_of(const void *memory, uint64_t bytes)
{
    return memcpy(aligned_alloc(4096, bytes), memory, bytes);
}

void world_adopt(const struct remains *remains)
{
    struct un_stack_place place = {.arena = copy_of(remains->arena, world.arena_bytes),
                                   .arena_bytes = world.arena_bytes};
    struct remains *wires = malloc(sizeof *wires);
    memcpy(wires, remains, sizeof *wires);
    memset(&world.it.stack, 0xdb, sizeof world.it.stack);
    world.it.by_events = true;
    connect_wires(wires);
    if (world.over_card) {
        use_card(&wires->card);
        place.frames = copy_of(remains->arena + world.arena_bytes, world.frames_bytes);
        place.device = world.it.device;
    }
    CHECK_EQ(un_stack_adopt(&world.it.stack, &place), 0);
    world.it.stack.tcp.pool.lenders = world.lenders;
    CHECK_EQ(un_stack_frames_elsewhere(&world.it.stack), world_card_frames());
}

void world_go_on(void)
{
    un_stack_set_device(&world.it.stack, world.it.device);
    check(&world.it);
    CHECK_EQ(un_stack_frames_elsewhere(&world.it.stack), world_card_frames());
}
