/* A script: two bytes of settings (of the stack; of the world: another shard, connections there are already), then
 * steps, each a byte that says which and the bytes it takes: what the attacker sends (attacker.h), what the application
 * does, time. */
#include "frames.h"

#include <string.h>

#include "attacker.h"
#include "stack/arena.h"

enum { STEPS_MAX = 80, FIRST_PORT = 2000, WRITTEN = 6000 };

/* Of the second byte; the next two bits say how many connections. */
enum beginning { WITH_SHARDS = 1, OVER_IPV6 = 8, WITH_FLIGHT = 16, WITH_CLAIM = 32, SHARED = 64 };

/* As it is, or one that passes the application's own gates. */
static uint64_t choose_handle(struct script *script)
{
    struct un_tcb *tcb = choose_conn(script);
    return tcb ? un_stack_handle(&world.it.stack, tcb) : 1;
}

/* ---- the application ---- */

/* Small values more often than others. */
static void set_option(struct script *script, uint64_t conn)
{
    uint8_t which = script_8(script);
    enum un_stack_option option = which % UN_OPTIONS;
    uint32_t value = which & 128 ? script_16(script) : script_8(script) % 8u;
    if (un_stack_set_option(&world.it.stack, conn, option, value) == 0)
        CHECK_EQ(un_stack_get_option(&world.it.stack, conn, option, &value), 0);
}

static void act_on_conn(struct script *script)
{
    struct un_stack *stack = &world.it.stack;
    uint64_t conn = choose_handle(script);
    uint8_t bytes[1500] = {0}, how = script_8(script);
    struct un_piece pieces[4];
    struct un_piece piece = {bytes, script_8(script) * 5u, UN_NONE};
    switch (how % 10) {
    case 0:
    case 1:
        un_stack_read(stack, conn, bytes, piece.length);
        break;
    case 2:
        if (un_stack_peek(stack, conn, pieces, 4) > 0)
            un_stack_consume(stack, conn, 1);
        break;
    case 3:
    case 4:
        un_stack_write(stack, conn, &piece, 1);
        break;
    case 5:
        un_stack_shutdown(stack, conn);
        break;
    case 6:
        un_stack_close(stack, conn);
        break;
    case 7:
        un_stack_abort(stack, conn);
        break;
    case 8:
        un_stack_accept(stack, conn, 1);
        break;
    default:
        set_option(script, conn);
    }
}

static void act(struct script *script)
{
    struct un_stack *stack = &world.it.stack;
    uint8_t how = script_8(script), bytes[500] = {0};
    uint64_t conn;
    struct un_stack_peer attacker = {world_attacker(how & 1), 3000};
    struct un_stack_peer other = {ip6((uint8_t)(20 + how)), 3000};
    if (how & 16)
        other.ip.bytes[1] = 1; /* beyond the link */
    switch ((how >> 1 & 7) + (how & 64 ? 1 : 0)) {
    case 0:
    case 1:
        un_stack_connect(stack, &attacker, NULL, 0, &conn);
        break;
    case 2:
        un_stack_connect(stack, &other, NULL, 0, &conn);
        break;
    case 3:
        un_stack_udp_send(stack, 0, how & 32 ? &attacker : &other, bytes, sizeof bytes);
        break;
    case 4:
        un_stack_udp_receive(stack, 0, &attacker, bytes, 100);
        break;
    case 5:
        un_stack_unlisten(stack, 1);
        un_stack_listen(stack, &(struct un_ip){{0}}, WORLD_PORT, WORLD_BACKLOG, 0);
        break;
    case 6:
        un_stack_pause_listener(stack, 1, how & 1);
        break;
    case 7:
        host_move(&world.it);
        break;
    default:
        un_stack_poll_output(stack, world.now_ns);
    }
}

static void pass_time(struct script *script)
{
    static const uint64_t durations_ms[] = {0, 1, 40, 200, 1000, 3000, 30000, 130000};
    uint8_t how = script_8(script);
    world.is_quiet = how & 8;
    world_wait(durations_ms[how & 7] * UN_MS_NS + how);
}

static void take_events(struct script *script)
{
    struct un_stack_event event;
    (void)script;
    for (int i = 0; i < 64 && un_stack_next_event(&world.it.stack, &event); i++)
        ;
}

/* ---- play ---- */

/* The application has accepted his connections, and may have written. */
static void accept_all(bool writes)
{
    static const uint8_t zeros[WRITTEN];
    struct un_stack *stack = &world.it.stack;
    struct un_piece piece = {zeros, WRITTEN, UN_NONE};
    for (uint32_t slot = 0; slot < stack->own->conn_fresh; slot++) {
        uint64_t conn = un_stack_handle(stack, &stack->tcp.tcbs[slot]);
        if (stack->tcp.tcbs[slot].local_port != WORLD_PORT)
            continue;
        un_stack_accept(stack, conn, 1);
        if (writes)
            un_stack_write(stack, conn, &piece, 1);
    }
}

/* Few scripts would come so far by themselves. */
static void begin(uint8_t how)
{
    if (how & WITH_SHARDS)
        world_share();
    for (int family = 0; (how & (WITH_CLAIM | SHARED)) == WITH_CLAIM && family < 2; family++) {
        struct un_ip claim = attacker_claim(family);
        CHECK(un_stack_add_address(&world.it.stack, &claim, family ? 64 : 24) >= 0);
    }
    for (uint16_t i = 0; i < (how >> 1 & 3); i++)
        attacker_connect((uint16_t)(FIRST_PORT + i), how & OVER_IPV6);
    accept_all(how & WITH_FLIGHT);
}

void frames_run(const uint8_t *bytes, size_t length)
{
    static void (*const steps[])(struct script *) = {
        send_segment, send_segment,   send_segment,  send_next,      act_on_conn, act_on_conn,     act_on_conn,
        act,          pass_time,      send_syn,      send_raw,       send_error,  send_transport,  send_spoofed,
        send_fragment, send_datagram, send_discovery, take_events,   send_syns,   send_ack_of_syn, send_in_fragments,
        send_query,   choose_offloads, send_claim,
    };
    struct script script = {bytes, bytes + length};
    if (length == 0 || length > FRAMES_SCRIPT_MAX)
        return;
    uint8_t settings = script_8(&script), how = script_8(&script);
    if (how & SHARED)
        world_open_shared(settings, bytes, length);
    else
        world_open(settings, bytes, length);
    begin(how);
    for (int i = 0; i < STEPS_MAX && script_goes_on(&script); i++) {
        uint8_t step = script_8(&script);
        world_speak(40);
        steps[step % (sizeof steps / sizeof steps[0])](&script);
        if (!(step & 0x80))
            world_settle();
    }
    world_expect_heard();
    world_close();
}
