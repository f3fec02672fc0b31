/* See adopt_try.h. */
#include "adopt_try.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../step.h"

enum { JUDGED = 8 }; /* states of each call, when not all are */

struct act {
    void (*prepare)(void);
    void (*run)(void);
    uint32_t changes;
    uint32_t ends;
};

static const struct act *act;
static uint32_t slots_before[NEW + 1]; /* where each connection lay before the call */
static uint32_t generations[32];
static uint32_t datagrams_least = 1, datagrams_most = 1;
static void (*afterwards)(void);

const char adopt_datagram[8] = "datagram";

void adopt_datagrams(uint32_t least, uint32_t most)
{
    datagrams_least = least;
    datagrams_most = most;
}

void adopt_afterwards(void (*run)(void))
{
    afterwards = run;
}

/* ---- the judge ---- */

static const struct remains *judged;
static const uint8_t *begun; /* the tables of the arena as they were when the change that was going on began */

static uint64_t tables_bytes(void)
{
    return (uint64_t)(world.it.stack.tcp.pool.bytes - world.remains->arena);
}

/* What was being changed is one of those that may be, or began with the call. */
static void check_busy(uint32_t busy)
{
    for (uint32_t number = 0; number < world.streams && busy; number++)
        CHECK((act->changes & ONE(number)) || slots_before[number] != busy - 1);
}

static void check_generations(void)
{
    for (uint32_t slot = 0; slot < world.it.stack.own->conn_fresh; slot++)
        CHECK(world.it.stack.tcp.tcbs[slot].generation >= generations[slot]);
}

/* Who came to a listener that is no more was reset. */
static void check_listeners(void)
{
    for (uint32_t i = 0; i < UN_STACK_LISTENERS_MAX; i++) {
        const struct un_listener *listener = &world.it.stack.own->listeners[i];
        CHECK(listener->is_open || listener->half_open + listener->ready == 0);
    }
}

static void check_datagrams(void)
{
    struct un_stack_peer from;
    char bytes[2000];
    uint32_t count = 0;
    for (int64_t length; (length = un_stack_udp_receive(&world.it.stack, 0, &from, bytes, sizeof bytes)) >= 0; count++)
        CHECK(length >= (int64_t)sizeof adopt_datagram && memcmp(bytes, adopt_datagram, sizeof adopt_datagram) == 0);
    CHECK(count >= datagrams_least && count <= datagrams_most);
}

static void check_streams(uint32_t busy)
{
    for (uint32_t number = 0; number < world.streams; number++) {
        if ((act->ends & ONE(number)) || (world.done[number][0] && world.done[number][1]))
            continue;
        fprintf(stderr, "%u came %s and went %s, slot %u was being changed\n", number,
                world.done[number][1] ? "whole" : "in part", world.done[number][0] ? "whole" : "in part", busy - 1);
        check_failed(__FILE__, __LINE__, "all connections are whole");
    }
}

/* What adoption makes anew does not count. */
static struct un_tcb essence(const struct un_tcb *tcb)
{
    struct un_tcb only = *tcb;
    only.event_next = only.output_next = only.wheel_at = only.next_hop = only.accept_previous = 0;
    only.wheel_ns = 0;
    only.listed = 0;
    only.events = only.wheel_next = only.wheel_prev = only.next_free = 0;
    only.flags &= ~UN_TCB_NO_NEIGHBOUR;
    return only;
}

static void check_queue(const struct un_frame *is, const struct un_frame *was, const struct un_queue *queue)
{
    for (uint32_t at = queue->head; at != UN_NONE; at = is[at].next) {
        struct un_frame before = was[at];
        before.references = is[at].references;
        CHECK(memcmp(&is[at], &before, sizeof before) == 0);
    }
}

static void check_undone(uint32_t slot)
{
    const struct un_tcp *tcp = &world.it.stack.tcp;
    const uint8_t *arena = (const uint8_t *)world.it.stack.own;
    const struct un_frame *frames = (const struct un_frame *)(begun + ((const uint8_t *)tcp->pool.frames - arena));
    const struct un_sent *sents = (const struct un_sent *)(begun + ((const uint8_t *)tcp->sents - arena));
    const struct un_tcb *before = (const struct un_tcb *)(begun + ((const uint8_t *)&tcp->tcbs[slot] - arena));
    struct un_tcb is = essence(&tcp->tcbs[slot]), was = essence(before);
    if (was.state == 0)
        was.state = UN_TCP_CLOSED;
    CHECK(memcmp(&is, &was, sizeof was) == 0);
    if (is.state == UN_TCP_CLOSED)
        return;
    check_queue(tcp->pool.frames, frames, &is.rcv);
    check_queue(tcp->pool.frames, frames, &is.rcv_ooo);
    check_queue(tcp->pool.frames, frames, &is.snd);
    for (uint32_t at = is.sent_head; at != UN_NONE; at = tcp->sents[at].next)
        CHECK(memcmp(&tcp->sents[at], &sents[at], sizeof sents[at]) == 0);
}

static void check_state(void)
{
    uint32_t busy = ((const struct un_stack_memory *)judged->arena)->busy;
    check_busy(busy);
    world_adopt(judged);
    if (busy)
        check_undone(busy - 1);
    world_go_on();
    check_generations();
    check_listeners();
    world_check_counts();
    if (afterwards)
        afterwards();
    check_datagrams();
    world_finish();
    check_streams(busy);
    CHECK_EQ(un_stack_frames_elsewhere(&world.it.stack), world_card_frames());
}

/* ---- the states that a process leaves ---- */

static struct remains *kept[JUDGED]; /* each as likely as any other */
static uint8_t *kept_begun[JUDGED];
static uint8_t *last_begun;
static uint64_t kept_random;
static uint64_t states;

static uint64_t kept_bytes(void)
{
    return sizeof(struct remains) + world.arena_bytes + world.frames_bytes;
}

static void *copy_into(void *old, const void *memory, uint64_t bytes)
{
    return memcpy(old ? old : malloc(bytes), memory, bytes);
}

/* Of the first state of each change. */
static void remember_beginning(void)
{
    static uint32_t was_busy;
    uint32_t busy = ((const struct un_stack_memory *)world.remains->arena)->busy;
    if (busy != was_busy && busy)
        last_begun = copy_into(last_begun, world.remains->arena, tables_bytes());
    was_busy = busy;
}

void adopt_begun(void)
{
    last_begun = copy_into(last_begun, world.remains->arena, tables_bytes());
}

static void keep(void)
{
    uint64_t seen = states++;
    uint64_t place = seen < JUDGED ? seen : random_next(&kept_random) % states;
    remember_beginning();
    if (place >= JUDGED)
        return;
    kept[place] = copy_into(kept[place], world.remains, kept_bytes());
    if (last_begun)
        kept_begun[place] = copy_into(kept_begun[place], last_begun, tables_bytes());
}

/* In a process of its own. */
static void judge(const struct remains *remains, const uint8_t *beginning)
{
    int status;
    judged = remains;
    begun = beginning;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        check_state();
        _exit(0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}

static void judge_now(void)
{
    remember_beginning();
    judge(world.remains, last_begun);
}

static void judge_kept(void)
{
    for (uint32_t i = 0; i < JUDGED && kept[i]; i++)
        judge(kept[i], kept_begun[i]);
}

/* Everything but what frames hold, and how far the wires are. */
static void watch(void)
{
    step_watch(world.remains->arena, tables_bytes());
    step_watch(&world.remains->card, sizeof world.remains->card);
    step_watch(&world.remains->to_it.put, 2 * sizeof(uint32_t));
    step_watch(&world.remains->to_peer.put, 2 * sizeof(uint32_t));
}

static bool judges_all(void)
{
    return getenv("USNET_TEST_EVERY") || !(UN_TEST_SANITIZED || world.is_special);
}

static void play(void)
{
    if (act->prepare)
        act->prepare();
    for (uint32_t number = 0; number <= NEW; number++)
        slots_before[number] = slot_of(&world.it, number);
    for (uint32_t slot = 0; slot < world.it.stack.own->conn_fresh; slot++)
        generations[slot] = world.it.stack.tcp.tcbs[slot].generation;
    watch();
    kept_random = check_seed;
    step_through(act->run, judges_all() ? judge_now : keep);
    step_forget();
    judge_now(); /* nothing was cut */
    judge_kept();
    fflush(stdout);
}

/* In a process of its own, and with the arena as it was first, which the process of the last one shared with us. */
void adopt_try(void (*prepare)(void), void (*run)(void), uint32_t changes, uint32_t ends)
{
    static struct remains *first;
    struct act the_act = {prepare, run, changes, ends};
    int status;
    if (!first) {
        first = malloc(kept_bytes());
        memcpy(first, world.remains, kept_bytes());
    }
    memcpy(world.remains, first, kept_bytes());
    act = &the_act;
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        play();
        _exit(0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}
