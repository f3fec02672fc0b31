/* One life of a shard whose first workers have gone mad. Seat 1 of the arena is honest; at either port of seat 0 sits a
 * mad one.
 *
 * The script begins with a byte that says what carries the connections, and is then a list of steps: the mad worker
 * writes plausible or arbitrary words, commands, releases and dirty bytes into everything it may write, and fills,
 * empties or blocks its descriptors; its peers send, shut down, close and connect anew; the supervisor replaces a
 * worker, or the engine; seat 1 changes hands; the engine takes turns. Three invariants:
 *
 *   The engine never crashes: no assertion of its own fails, and no sanitizer has anything to say.
 *   No other seat is touched: connections of seat 1 stay open, keep their state, and get exactly their echo.
 *   No bytes go astray: what lies before and after the mad worker's memory, and what seat 1 carries, never reaches a
 *   peer of seat 0.
 *
 * At the end the mad worker is replaced by an honest one, which must find a memory it can work with, and when all
 * connections are gone every send node, send frame and receive frame must be
 * accounted for. */
#include "hostile.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../tests/check.h"
#include "arena.h"
#include "base/wake.h"
#include "engine/link.h"

enum { TURNS_TO_MOVE = 100 };

/* The script. */

static const uint8_t *script_at;
static size_t script_left;

static uint8_t next_byte(void)
{
    if (script_left == 0)
        return 0;
    script_left--;
    return *script_at++;
}

static uint64_t next_word(void)
{
    uint64_t word = 0;
    for (int i = 0; i < 8; i++)
        word = word << 8 | next_byte();
    return word;
}

/* The mad worker. */

static uint32_t mad_port; /* of the one that does something now */

static struct un_port_memory *mad(void)
{
    return arena.setup.ports[mad_port];
}

static void add_to_commit(uint32_t events, uint32_t commands)
{
    uint64_t word = un_load(&mad()->commit);
    un_publish(&mad()->commit, UN_COMMIT(UN_COMMIT_EVENTS(word) + events, UN_COMMIT_COMMANDS(word) + commands));
}

/* Mostly an id that exists: of any peer, whosever it is. */
static uint64_t some_conn(void)
{
    uint8_t choice = next_byte();
    if (choice < 200)
        return arena.peers[choice % PEERS].conn;
    return choice < 230 ? UN_ID(0, choice % (2 * CONN_MAX), 1 + next_byte()) : next_word();
}

/* Mostly a small number or one near a limit. */
static uint32_t some_number(uint32_t limit)
{
    uint8_t choice = next_byte();
    if (choice < 128)
        return (uint32_t)next_byte() * 9;
    return choice < 230 ? limit + choice % 5 - 2 : (uint32_t)next_word();
}

static void mad_commands(void)
{
    struct un_command *ring = un_command_ring(arena.setup.public, mad());
    uint32_t produced = UN_COMMIT_COMMANDS(un_load(&mad()->commit));
    uint32_t count = 1 + next_byte() % 8;
    for (uint32_t i = 0; i < count; i++)
        ring[(produced + i) % arena.config.command_slots] = (struct un_command){
            .op = next_byte() % 12,
            .conn = some_conn(),
            .length = some_number(arena.config.tx_frame_bytes),
            .frame = next_byte() % (arena.config.tx_frames + 1),
            .offset = some_number(arena.config.tx_frame_bytes),
            .arg = next_byte(),
        };
    add_to_commit(0, count);
}

static void mad_releases(void)
{
    uint32_t *ring = un_release_ring(arena.setup.public, mad());
    uint32_t produced = un_load(&mad()->releases_produced);
    uint32_t count = 1 + next_byte() % 8;
    for (uint32_t i = 0; i < count; i++)
        ring[(produced + i) % arena.layout.release_ring.items] = next_byte() % (arena.config.rx_frames + 1);
    un_publish(&mad()->releases_produced, produced + count);
}

static void mad_word(void)
{
    uint64_t word = next_word();
    switch (next_byte() % 6) {
    case 0: un_store(&mad()->commit, word); break;
    case 1: un_store(&mad()->releases_produced, (uint32_t)word); break;
    case 2: un_store(&mad()->handling, word); break;
    case 3: un_store(&mad()->sleeping, (uint32_t)word); break;
    case 4: un_store(&mad()->want_space, (uint32_t)word); break;
    default: un_store(&mad()->handling, UN_HANDLING(UN_COMMIT_EVENTS(un_load(&mad()->commit)) + word % 10));
    }
}

static void mad_scribble(void)
{
    uint64_t at = next_word() % arena.layout.port_bytes;
    uint64_t length = next_byte();
    for (uint64_t i = 0; i < length && at + i < arena.layout.port_bytes; i++)
        ((uint8_t *)mad())[at + i] = next_byte();
}

static void mad_dirty(void)
{
    uint8_t *dirty = un_dirty_map(arena.setup.public, mad());
    dirty[next_byte() % CONN_MAX] = next_byte();
}

/* Its ends of the pipes: filled or emptied, and left so that they block. */
static void mad_descriptors(void)
{
    static const char bytes[1024];
    char waste[sizeof bytes];
    const struct worker_wakes *ends = &arena.worker_wakes[mad_port];
    uint8_t choice = next_byte();
    CHECK_EQ(un_wake_prepare(ends->to_engine) | un_wake_prepare(ends->from_engine), 0);
    for (int left = 4 * (choice & 31); left > 0; left--)
        if (choice & 128 ? write(ends->to_engine, bytes, sizeof bytes) < 0
                         : read(ends->from_engine, waste, sizeof waste) < 0)
            break;
    if (choice & 64)
        CHECK_EQ(fcntl(ends->to_engine, F_SETFL, 0) | fcntl(ends->from_engine, F_SETFL, 0), 0);
}

/* The supervisor replaces a mad worker by another mad one, if the port is free; or the other one comes back, or one
 * goes. */
static void replace_mad_worker(uint8_t choice)
{
    bool resumes = choice & 1;
    uint32_t port = MAD_PORT + (choice >> 1 & 1);
    if (choice & 12)
        un_engine_lost_worker(arena.engine, port, choice & 16 ? UN_LOSS_HUNG : UN_LOSS_DIED);
    if ((choice & 12) != 12)
        un_engine_attach_worker(arena.engine, port, ++arena.serial, resumes);
}

/* The engine dies between two turns, and another one goes on. */
static void replace_engine(void)
{
    if (!arena.carrier->keep)
        return;
    arena.carrier->keep(true);
    un_engine_free(arena.engine);
    arena.carrier->keep(false);
    CHECK((arena.engine = un_engine_start(&arena.setup)) != NULL);
    CHECK(un_stack_check(&arena.engine->link->stack) == NULL);
}

static void mad_peer(void)
{
    uint8_t choice = next_byte();
    struct peer *peer = &arena.peers[choice % PEERS];
    if (peer->fd < 0) {
        peer_connect(peer);
        honest_serve(&arena.honest);
    } else if (peer->seat == MAD) {
        switch (choice / PEERS % 5) {
        case 0: peer_disconnect(peer); break;
        case 1: arena.carrier->half_close(peer->fd); break;
        case 2: peer_read(peer); break;
        default: peer_write(peer, 1 + next_byte() % ECHO_MAX);
        }
    }
}

/* Every honest peer says something and gets it back whole. */
static void check_seat_1(void)
{
    for (uint32_t i = 0; i < PEERS; i++)
        if (arena.peers[i].fd >= 0 && arena.peers[i].seat == HONEST)
            honest_check(&arena.peers[i], 1 + next_byte() % ECHO_MAX);
}

/* A successor takes the honest seat over; its predecessor helps, or is dead. */
static void change_honest_hands(uint8_t choice)
{
    if (choice & 1)
        honest_die();
    honest_sit();
    if (choice & 2)
        check_seat_1();
    honest_follow();
}

/* Something that a worker can do by itself. */
static void mad_step(uint8_t choice)
{
    switch (choice % 8) {
    case 0: case 1: mad_commands(); break;
    case 2: mad_descriptors(); break;
    case 3: add_to_commit(next_byte() % 10, 0); break;
    case 4: mad_releases(); break;
    case 5: mad_word(); break;
    case 6: mad_scribble(); break;
    default: mad_dirty();
    }
}

static bool is_bad(uint32_t port)
{
    return un_load(&un_port_public(arena.setup.public, port)->bad);
}

/* What the supervisor does about those that wrote nonsense. */
static void replace_bad(void)
{
    for (uint32_t side = 0; side < UN_PORTS; side++)
        if (is_bad(MAD_PORT + side))
            replace_mad_worker((uint8_t)((next_byte() & ~14u) | side << 1 | 4));
}

static void step(void)
{
    uint8_t choice = next_byte();
    mad_port = MAD_PORT + (choice >> 7);
    choice %= 16;
    switch (choice) {
    case 8: case 9: case 10: mad_peer(); break;
    case 11: replace_mad_worker(next_byte()); break;
    case 12: next_byte() % 4 ? check_seat_1() : change_honest_hands(next_byte()); break;
    case 13: case 14: arena_turn(); break;
    case 15: next_byte() % 4 ? arena_turn() : replace_engine(); break;
    default: mad_step(choice);
    }
    replace_bad();
}

/* The end. */

/* To the port that is not being emptied. */
static void attach_where_it_may_be(void)
{
    mad_port = MAD_PORT + 1;
    if (un_engine_attach_worker(arena.engine, mad_port, ++arena.serial, true) == -EBUSY) {
        mad_port = MAD_PORT;
        CHECK_EQ(un_engine_attach_worker(arena.engine, mad_port, ++arena.serial, true), 0);
    }
}

/* An honest worker takes the mad ones' place and can work; whatever they had becomes its own. */
static void check_seat_0_recovers(void)
{
    struct un_port port;
    for (uint32_t side = 0; side < UN_PORTS; side++)
        un_engine_lost_worker(arena.engine, MAD_PORT + side, UN_LOSS_DIED);
    attach_where_it_may_be();
    const struct un_port_end *other = &arena.engine->own->ports[un_port_beside(mad_port)];
    int to_engine = arena.worker_wakes[mad_port].to_engine;
    CHECK_EQ(un_wake_prepare(to_engine), 0);
    CHECK_EQ(un_port_attach(&port, arena.setup.public, mad(), mad_port, to_engine), 0);
    for (int turns = 0; turns == 0 || (turns < TURNS_TO_MOVE && other->slots > 0); turns++) {
        arena_turn();
        honest_serve(&port);
    }
    CHECK_EQ(other->slots, 0);
    CHECK_EQ(un_ring_used(&other->events), 0);
    un_port_close(&port);
    for (uint32_t i = 0; i < PEERS; i++)
        peer_read(&arena.peers[i]);
}

/* Both workers gave all slices back: what is kept is what came after they had looked. The open frame has no reference
 * of its own. */
static uint32_t references_needed(uint32_t port, uint32_t frame)
{
    const struct un_port_end *state = &arena.engine->own->ports[port];
    uint32_t needed = 0;
    for (uint32_t i = state->events.seen; i != state->events.own; i++) {
        const struct un_event *event = &un_event_ring(arena.setup.public, port)[un_ring_slot(&state->events, i)];
        needed += event->type == UN_EVENT_DATA && event->frame == frame;
    }
    return needed;
}

static void check_receive_frames(uint32_t port)
{
    const struct un_port_end *state = &arena.engine->own->ports[port];
    uint32_t listed = 0, unused = 0;
    for (uint32_t frame = state->rx_free; frame != UN_NONE; frame = arena.engine->rx_frames[port][frame].next_free) {
        CHECK(listed++ < arena.config.rx_frames);
        CHECK_EQ(arena.engine->rx_frames[port][frame].references, 0);
    }
    for (uint32_t frame = 0; frame < arena.config.rx_frames; frame++) {
        CHECK_EQ(arena.engine->rx_frames[port][frame].references, references_needed(port, frame));
        unused += arena.engine->rx_frames[port][frame].references == 0 && frame != state->rx_open;
    }
    CHECK_EQ(listed, unused);
    CHECK_EQ(listed, state->rx_free_count);
}

static void check_nothing_is_lost(uint32_t port)
{
    if (!arena.engine->own->ports[port].used)
        return;
    const struct un_tx_account *accounts = un_tx_accounts(arena.setup.public, port);
    CHECK_EQ(arena.engine->own->ports[port].node_free_count, arena.engine->node_count);
    CHECK_EQ(arena.engine->own->ports[port].connections, 0);
    for (uint32_t frame = 0; frame < arena.config.tx_frames; frame++)
        CHECK_EQ(un_load(&accounts[frame].queued), un_load(&accounts[frame].done));
    check_receive_frames(port);
}

static void check_the_end(void)
{
    arena_turn();
    check_seat_1();
    check_seat_0_recovers();
    check_seat_1();
    un_engine_end_all(arena.engine, UN_REASON_SHUTDOWN);
    for (uint32_t port = 0; port < PORTS; port++)
        check_nothing_is_lost(port);
    if (arena.setup.stack)
        CHECK(un_stack_check(&arena.engine->link->stack) == NULL);
}

void hostile_run(const uint8_t *script, size_t length)
{
    script_at = script;
    script_left = length;
    arena_hide(script, length);
    arena_open(next_byte() & 1 ? &carrier_stack : &carrier_sockets);
    check_seat_1();
    while (script_left > 0)
        step();
    check_the_end();
    arena_close();
}

/* A mad worker of flesh and blood: a process that writes while the engine reads. */

static void refill_script(uint8_t *script, size_t length, uint64_t *random)
{
    for (size_t i = 0; i < length; i++)
        script[i] = (uint8_t)random_next(random);
    script_at = script;
    script_left = length;
}

static _Noreturn void be_mad_for_ever(uint64_t seed)
{
    uint8_t script[256];
    for (uint64_t random = seed;;) {
        uint8_t choice = (uint8_t)random_next(&random);
        bool arbitrary_word = choice % 8 == 5;
        if (arbitrary_word && random_below(&random, 64)) /* most of them condemn the worker at once */
            continue;
        refill_script(script, sizeof script, &random);
        mad_port = MAD_PORT + (choice >> 7);
        mad_step(choice);
    }
}

static pid_t start_mad_worker(uint64_t seed)
{
    pid_t parent = getpid(), worker = fork();
    CHECK(worker >= 0);
    if (worker > 0)
        return worker;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
        _exit(1);
    be_mad_for_ever(seed);
}

static void kill_mad_worker(pid_t worker)
{
    CHECK_EQ(kill(worker, SIGKILL), 0);
    CHECK_EQ(waitpid(worker, NULL, 0), worker);
}

void hostile_race(uint64_t seed, uint32_t turns)
{
    uint8_t script[64];
    arena_open(seed & 1 ? &carrier_stack : &carrier_sockets);
    pid_t worker = start_mad_worker(++seed);
    for (uint64_t random = seed; turns > 0; turns--) {
        refill_script(script, sizeof script, &random);
        arena_turn();
        mad_peer();
        if (turns % 16 == 0)
            check_seat_1();
        if (is_bad(MAD_PORT) || is_bad(MAD_PORT + 1) || turns % 64 == 0) {
            kill_mad_worker(worker);
            replace_mad_worker((uint8_t)(next_byte() | 4));
            replace_bad();
            worker = start_mad_worker(++seed);
        }
    }
    kill_mad_worker(worker);
    check_the_end();
    arena_close();
}
