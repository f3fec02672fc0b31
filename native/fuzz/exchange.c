/* See exchange.h. Shard 0 is honest, shard 1 is mad, shard 2 takes: what shard 0 gave is compared with what it was,
 * what shard 1 gave goes to a stack. Every byte of the script decides something: who does what, and what the mad one
 * writes.
 *
 * The mad one writes what is its own to write: records and index of its rings to others, the index by which it takes
 * from their rings to it, and every shard's words for being told and sleeping. */
#include "exchange.h"

#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "draw.h"
#include "engine/exchange_memory.h"
#include "stack/arena.h"
#include "../tests/stack/net.h"

enum { HONEST, MAD, TAKER, SHARDS };
enum { GIVEN_MAX = 4096, PACKET_MAX = 3000, HELD_MAX = 512, TAKES_MAX = 2 * (int)UN_EXCHANGE_CELLS };

static struct {
    int memory_fd;
    int wakes[SHARDS];
    struct un_exchange shards[SHARDS];
    struct host host; /* of shard 2 */
    uint64_t now_ns;
    uint32_t lengths[GIVEN_MAX]; /* of what shard 0 gave, by number */
    uint32_t given;
    uint32_t taken;
    uint32_t held[HELD_MAX]; /* frames */
    uint32_t held_count;
} play;

static struct un_exchange_memory *memory(void)
{
    return play.shards[MAD].memory;
}

static struct un_exchange_ring *ring(uint32_t from, uint32_t to)
{
    return &memory()->rings[from * SHARDS + to];
}

static struct un_pool *pool(void)
{
    return &play.host.stack.tcp.pool;
}

/* ---- the honest one ---- */

static uint8_t byte_of(uint32_t number, uint32_t at)
{
    return (uint8_t)(number * 31 + at * 7 + at / 251);
}

/* In frames of the taker's own pool, for a moment; UN_NONE: there are not enough. */
static struct un_rx make_packet(uint32_t number, uint32_t length)
{
    struct un_rx packet = {UN_NONE, length, (uint16_t)(number & 3), (uint16_t)number};
    uint32_t *link = &packet.frame;
    for (uint32_t at = 0; at < length;) {
        uint32_t frame = un_pool_take(pool());
        if (frame == UN_NONE) {
            un_pool_drop_chain(pool(), packet.frame);
            packet.frame = UN_NONE;
            return packet;
        }
        struct un_frame *record = &pool()->frames[frame];
        uint32_t most = pool()->own->frame_bytes;
        record->length = (uint16_t)(length - at < most ? length - at : most);
        for (uint32_t i = 0; i < record->length; i++)
            un_pool_bytes(pool(), frame)[i] = byte_of(number, at++);
        *link = frame;
        link = &record->next;
    }
    return packet;
}

static void give(void)
{
    uint32_t length = 1 + draw_below(PACKET_MAX);
    struct un_rx packet = make_packet(play.given, length);
    uint8_t to = draw() & 1 ? MAD : TAKER;
    if (packet.frame == UN_NONE || play.given == GIVEN_MAX)
        to = MAD;
    if (packet.frame != UN_NONE && un_exchange_give(&play.shards[HONEST], pool(), to, &packet) == 0 && to == TAKER)
        play.lengths[play.given++] = length;
    un_pool_drop_chain(pool(), packet.frame);
}

/* ---- the taker ---- */

static void check_given(const struct un_rx *packet)
{
    uint32_t number = play.taken, at = 0;
    CHECK(number < play.given);
    play.taken++;
    CHECK_EQ(packet->length, play.lengths[number]);
    CHECK_EQ(packet->segment_bytes, (uint16_t)number);
    for (uint32_t frame = packet->frame; frame != UN_NONE; frame = pool()->frames[frame].next)
        for (uint32_t i = 0; i < pool()->frames[frame].length; i++)
            CHECK_EQ(un_pool_bytes(pool(), frame)[pool()->frames[frame].offset + i], byte_of(number, at++));
    CHECK(at == packet->length || packet->frame == UN_NONE); /* none: no frames, and lost */
    un_pool_drop_chain(pool(), packet->frame);
}

static bool take(void)
{
    struct un_rx packet;
    if (!un_exchange_take(&play.shards[TAKER], pool(), &packet))
        return false;
    uint32_t from = (play.shards[TAKER].next + SHARDS - 1) % SHARDS;
    CHECK(from != TAKER);
    if (from == HONEST)
        check_given(&packet);
    else if (packet.frame != UN_NONE)
        un_stack_input(&play.host.stack, &packet);
    return true;
}

static void take_some(void)
{
    for (uint32_t left = 1 + draw() % 64; left > 0 && take(); left--)
        ;
}

static void take_all(void)
{
    int takes = 0;
    while (take())
        CHECK(takes++ < TAKES_MAX); /* every one makes room */
}

static void turn(void)
{
    static const uint64_t durations_ms[] = {0, 1, 50, 3000};
    const char *wrong;
    uint8_t frame[4096];
    struct un_tx packet;
    play.now_ns += durations_ms[draw() % 4] * UN_MS_NS;
    un_stack_poll(&play.host.stack, play.now_ns);
    while (un_hand_output(play.host.device, frame, sizeof frame, &packet) > 0)
        ;
    wrong = un_stack_check(&play.host.stack);
    if (wrong)
        fprintf(stderr, "%s\n", wrong);
    CHECK(wrong == NULL);
}

static void sleep_and_wake(void)
{
    un_exchange_sleep(&play.shards[TAKER]);
    if (draw() & 1)
        un_exchange_awake(&play.shards[TAKER]);
}

static void succeed(void)
{
    un_exchange_close(&play.shards[TAKER]);
    CHECK_EQ(un_exchange_open(&play.shards[TAKER], play.memory_fd, TAKER, SHARDS, play.wakes), 0);
}

/* Others have the frames, or give them back. */
static void hold(void)
{
    uint32_t leave = draw();
    while (pool()->own->free_count > leave && play.held_count < HELD_MAX)
        play.held[play.held_count++] = un_pool_take(pool());
    while (pool()->own->free_count < leave && play.held_count > 0)
        un_pool_drop(pool(), play.held[--play.held_count]);
}

/* ---- the mad one ---- */

static uint8_t choose_other(void)
{
    return draw() & 7 ? TAKER : HONEST;
}

static void set_byte(uint8_t to, uint32_t at, uint8_t byte)
{
    struct un_exchange_ring *mine = ring(MAD, to);
    mine->cells[at % sizeof mine->cells] = byte;
}

/* Around one of the limits, or anything. */
static uint32_t choose_length(void)
{
    static const uint32_t limits[] = {
        0, 60, 1514, 2048, UN_EXCHANGE_PACKET_MAX, UN_EXCHANGE_CELLS * UN_EXCHANGE_CELL_BYTES, UINT32_MAX};
    uint8_t kind = draw();
    return kind < 224 ? limits[kind % 7] + draw() % 80u - 40 : (uint32_t)draw_int();
}

/* A record at the end of its ring, of a packet that begins as one for the stack might. */
static void mad_packet(void)
{
    uint8_t to = choose_other(), mac[UN_MAC_BYTES];
    struct un_exchange_ring *mine = ring(MAD, to);
    struct un_exchange_record record = {.length = choose_length(), .flags = draw(), .segment_bytes = draw() * 16u};
    uint32_t at = un_load(&mine->produced) * UN_EXCHANGE_CELL_BYTES, cells = 1 + record.length / UN_EXCHANGE_CELL_BYTES;
    memcpy(mac, play.host.device->capabilities.mac, sizeof mac);
    for (uint32_t i = 0; i < sizeof record; i++)
        set_byte(to, at++, ((const uint8_t *)&record)[i]);
    for (uint32_t i = 0; i < sizeof mac; i++)
        set_byte(to, at++, mac[i]);
    for (uint32_t left = draw() % 100; left > 0; left--)
        set_byte(to, at++, draw());
    uint8_t more = draw();
    un_publish(&mine->produced,
               un_load(&mine->produced) + (more < 200 ? cells % 1100 + (more == 7) : (uint32_t)draw_int()));
    un_store(&memory()->inboxes[to].pending, 1);
}

static void mad_index(void)
{
    uint8_t other = choose_other(), how = draw();
    un_shared32 *index = how & 1 ? &ring(MAD, other)->produced : &ring(other, MAD)->consumed;
    un_publish(index, how & 2 ? (uint32_t)draw_int() : un_load(index) + draw() % 9u - 4);
}

static void mad_words(void)
{
    struct un_exchange_inbox *inbox = &memory()->inboxes[draw() % SHARDS];
    un_store(draw() & 1 ? &inbox->pending : &inbox->sleeping, draw() & 1 ? draw() : (uint32_t)draw_int());
}

static void mad_scribble(void)
{
    uint8_t to = choose_other();
    uint32_t at = (uint32_t)draw_int();
    for (uint32_t left = draw(); left > 0; left--)
        set_byte(to, at++, draw());
}

/* Takes as others do: its rings are not always full. */
static void mad_takes(void)
{
    struct un_rx packet;
    for (uint32_t left = draw() % 16; left > 0 && un_exchange_take(&play.shards[MAD], pool(), &packet); left--)
        un_pool_drop_chain(pool(), packet.frame);
}

/* ---- a play ---- */

static void (*const steps[])(void) = {
    give,       give,       take_some,  take_some,  turn,      hold,      sleep_and_wake, succeed,
    mad_packet, mad_packet, mad_packet, mad_packet, mad_index, mad_words, mad_scribble,   mad_takes,
};

static void begin(void)
{
    struct un_stack_config config = net_config();
    struct un_device_capabilities capabilities = net_capabilities(1);
    config.conn_max = 8;
    config.frames = 128;
    config.sents = 32;
    play.memory_fd = memfd_create("exchange", MFD_CLOEXEC);
    CHECK(play.memory_fd >= 0);
    for (uint32_t i = 0; i < SHARDS; i++)
        CHECK((play.wakes[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) >= 0);
    for (uint32_t i = 0; i < SHARDS; i++)
        CHECK_EQ(un_exchange_open(&play.shards[i], play.memory_fd, i, SHARDS, play.wakes), 0);
    play.now_ns = 1000 * NET_SECOND;
    host_make(&play.host, &config, un_hand_open(&capabilities, 64));
    host_address(&play.host, 1);
    CHECK(un_stack_listen(&play.host.stack, &(struct un_ip){{0}}, 80, 4, 0) >= 0);
    un_stack_poll(&play.host.stack, play.now_ns);
}

/* The next thing that an honest shard gives is told of, and with it all that was there before. */
static void end(void)
{
    while (play.held_count > 0)
        un_pool_drop(pool(), play.held[--play.held_count]);
    draws = (struct draws){(const uint8_t *)"\x3b\0\0", 3}; /* to the taker */
    take_all();
    give();
    take_all();
    CHECK_EQ(play.taken, play.given);
    turn();
    for (uint32_t slot = 0; slot < un_stack_slots(&play.host.stack); slot++)
        un_stack_abort(&play.host.stack, un_stack_handle(&play.host.stack, &play.host.stack.tcp.tcbs[slot]));
    play.now_ns += 300 * NET_SECOND;
    turn();
    host_close(&play.host);
    for (uint32_t i = 0; i < SHARDS; i++) {
        un_exchange_close(&play.shards[i]);
        close(play.wakes[i]);
    }
    close(play.memory_fd);
}

void exchange_run(const uint8_t *script, size_t length)
{
    memset(&play, 0, sizeof play);
    draws.at = script;
    draws.left = length < EXCHANGE_SCRIPT_MAX ? length : EXCHANGE_SCRIPT_MAX;
    begin();
    while (draws.left > 0)
        steps[draw() % (sizeof steps / sizeof *steps)]();
    end();
}
