/* The commit (P1): a worker killed at any instruction has done a batch or not done it.
 *
 * A forked worker handles events over shared memory and is single-stepped from its first event to its last commit. Each
 * state of the memory that it leaves after an instruction is judged: the commit word must name a boundary between
 * batches; what the engine takes is what an oracle says of the events up to there; and a second worker that attaches
 * finds exactly the others, after which every output is complete and nothing came twice. Then the same with real
 * deaths: runs that end by SIGKILL after k instructions, k all over the run.
 *
 * The engine is the model of model.h. In one variant it notices the death first (as it does in the server), in the
 * other the second worker attaches while commands of the first
 * still wait. */
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "model.h"
#include "shard/port.h"

enum {
    EVENTS = 6,
    BATCH = 2,
    BATCHES = EVENTS / BATCH,
    CONNS = 2,
    REPLY_MAX = 2500,     /* more than a send frame */
    START = -3,           /* indices wrap within the run */
    STEPS_KILLED = 150000, /* instructions stepped in all the runs that end by SIGKILL */
};

static struct un_segment_config config(void)
{
    struct un_segment_config sizes = model_config();
    sizes.command_slots = 64;
    sizes.tx_frames = 12;
    return sizes;
}

/* The handler and, from the same pure functions, the oracle. */

static uint32_t reply_length(uint32_t number)
{
    return number % 3 == 2 ? REPLY_MAX : 20 + number;
}

static uint8_t replies[EVENTS][REPLY_MAX];

static void make_replies(void)
{
    for (uint32_t number = 0; number < EVENTS; number++)
        for (uint32_t i = 0; i < REPLY_MAX; i++)
            replies[number][i] = (uint8_t)(number * 7 + i);
}

static void handle(struct un_port *port, const struct un_event *event)
{
    uint32_t number;
    memcpy(&number, un_port_bytes(port, event), sizeof number);
    uint32_t length = reply_length(number);
    CHECK_EQ(un_port_send(port, event->conn, replies[number], 5), 5);
    CHECK_EQ(un_port_send(port, event->conn, replies[number] + 5, length - 5), length - 5); /* grows the descriptor */
    CHECK(un_port_state(port, event->conn, &number, sizeof number));
    CHECK(un_port_command(port, UN_COMMAND_WANT_DRAIN, event->conn, number));
}

static void handle_batch(struct un_port *port)
{
    uint32_t ready = un_port_peek(port);
    uint32_t count = ready < BATCH ? ready : BATCH;
    for (uint32_t i = 0; i < count; i++) {
        const struct un_event *event = un_port_event(port, i);
        un_port_handling(port, i);
        handle(port, event);
        un_port_handled(port);
        un_port_free_frame(port, event->frame);
    }
    un_port_release(port, count);
    un_port_commit(port);
}

static void push_events(struct model *model)
{
    for (uint32_t number = 0; number < EVENTS; number++)
        CHECK(model_push(model, UN_EVENT_DATA, number % CONNS, &number, sizeof number));
    model_publish(model);
}

/* What the engine must have taken when the first `events` events are handled. */
static void check_taken(const struct model *model, uint32_t events)
{
    for (uint32_t slot = 0; slot < CONNS; slot++) {
        const struct model_conn *conn = &model->conns[slot];
        uint32_t length = 0, last = 0, handled = 0;
        for (uint32_t number = slot; number < events; number += CONNS) {
            CHECK(length + reply_length(number) <= conn->output_length);
            CHECK(memcmp(conn->output + length, replies[number], reply_length(number)) == 0);
            length += reply_length(number);
            last = number;
            handled++;
        }
        CHECK_EQ(conn->output_length, length);
        CHECK_EQ(conn->state_length, handled ? sizeof last : 0);
        CHECK(memcmp(conn->state, &last, conn->state_length) == 0);
    }
    CHECK_EQ(model->journal_length, events);
    for (uint32_t number = 0; number < events; number++)
        CHECK_EQ(model->journal[number].arg, number);
}

/* A worker under ptrace. */

static _Noreturn void be_worker(const struct model *model)
{
    struct un_port port;
    if (un_port_attach(&port, model->public, model->seat, 0, -1) < 0)
        _exit(1);
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    raise(SIGSTOP);
    for (int batch = 0; batch < BATCHES; batch++)
        handle_batch(&port);
    raise(SIGSTOP);
    _exit(0);
}

static pid_t start_worker(const struct model *model)
{
    int status;
    fflush(stdout);
    pid_t worker = fork();
    CHECK(worker >= 0);
    if (worker == 0)
        be_worker(model);
    CHECK_EQ(waitpid(worker, &status, 0), worker);
    CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    CHECK_EQ(ptrace(PTRACE_SETOPTIONS, worker, NULL, PTRACE_O_EXITKILL), 0);
    return worker;
}

/* One instruction; false when the worker said that it is done. */
static bool step_worker(pid_t worker)
{
    int status;
    CHECK_EQ(ptrace(PTRACE_SINGLESTEP, worker, NULL, NULL), 0);
    CHECK_EQ(waitpid(worker, &status, 0), worker);
    CHECK(WIFSTOPPED(status));
    CHECK(WSTOPSIG(status) == SIGTRAP || WSTOPSIG(status) == SIGSTOP);
    return WSTOPSIG(status) == SIGTRAP;
}

static void kill_worker(pid_t worker)
{
    int status;
    CHECK_EQ(kill(worker, SIGKILL), 0);
    CHECK_EQ(waitpid(worker, &status, 0), worker);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* Two cores would only wake each other up. */
static void stay_on_this_core(void)
{
    cpu_set_t set;
    int core = sched_getcpu();
    CPU_ZERO(&set);
    CPU_SET(core < 0 ? 0 : core, &set);
    sched_setaffinity(0, sizeof set, &set);
}

/* Where the commit word may stand: after each batch. */
static uint64_t boundaries[BATCHES + 1];
static void learn_boundaries(void)
{
    struct model model;
    struct un_port port;
    model_open(&model, config(), START);
    push_events(&model);
    boundaries[0] = un_load(&model.memory->commit);
    CHECK_EQ(un_port_attach(&port, model.public, model.seat, 0, -1), 0);
    for (int batch = 0; batch < BATCHES; batch++) {
        handle_batch(&port);
        boundaries[batch + 1] = un_load(&model.memory->commit);
        CHECK_EQ(UN_COMMIT_EVENTS(boundaries[batch + 1]), (uint32_t)(START + (batch + 1) * BATCH));
    }
    model_take(&model);
    check_taken(&model, EVENTS);
    un_port_close(&port);
    model_close(&model);
}

static uint32_t committed_events(const struct model *model)
{
    uint64_t word = un_load(&model->memory->commit);
    uint32_t batch = 0;
    while (batch <= BATCHES && boundaries[batch] != word)
        batch++;
    CHECK(batch <= BATCHES); /* else both halves of the word do not belong to one batch */
    return batch * BATCH;
}

static void check_handling(const struct model *model, uint32_t committed)
{
    uint64_t handling = un_load(&model->memory->handling);
    if (handling == 0)
        return;
    CHECK_EQ(handling >> 32, 1);
    CHECK((uint32_t)handling - (uint32_t)START - committed < EVENTS - committed);
}

static void check_redelivered(struct un_port *port, uint32_t committed)
{
    CHECK_EQ(un_port_peek(port), EVENTS - committed);
    for (uint32_t i = 0; i < EVENTS - committed; i++) {
        uint32_t number;
        memcpy(&number, un_port_bytes(port, un_port_event(port, i)), sizeof number);
        CHECK_EQ(number, committed + i);
        CHECK_EQ(un_port_event(port, i)->conn, model_conn_id(number % CONNS));
    }
}

/* Everything was sent: a third worker finds every send frame free, and every receive frame came back. */
static void check_no_frame_is_lost(struct model *model)
{
    struct un_port port;
    uint8_t filling[2048] = {0};
    model_complete_all(model);
    CHECK_EQ(un_port_attach(&port, model->public, model->seat, 0, -1), 0);
    for (uint32_t frame = 0; frame < model->config.tx_frames; frame++)
        CHECK_EQ(un_port_send(&port, model_conn_id(CONNS), filling, sizeof filling), sizeof filling);
    CHECK_EQ(un_port_send(&port, model_conn_id(CONNS), filling, 1), 0);
    un_port_close(&port);
    for (uint32_t frame = 0; frame < model->config.rx_frames; frame++)
        CHECK_EQ(model->references[frame], 0);
}

/* The worker is dead and left this memory. */
static void judge(struct model *model, bool engine_notices)
{
    struct un_port port;
    uint32_t committed = committed_events(model);
    check_handling(model, committed);
    if (engine_notices) {
        model_lose_worker(model);
        check_taken(model, committed);
    }
    CHECK_EQ(un_port_attach(&port, model->public, model->seat, 0, -1), 0);
    check_redelivered(&port, committed);
    while (un_port_peek(&port) > 0)
        handle_batch(&port);
    model_take(model);
    check_taken(model, EVENTS);
    un_port_close(&port);
    if (engine_notices)
        check_no_frame_is_lost(model);
}

static void judge_copy(const struct model *original, bool engine_notices)
{
    struct model copy;
    model_open(&copy, config(), START);
    push_events(&copy);
    memcpy(copy.public, original->public, copy.bytes);
    judge(&copy, engine_notices);
    model_close(&copy);
}

static uint64_t run_steps; /* instructions of a run that is not killed */

static void every_state_of_the_memory_is_sound(void)
{
    struct model model;
    uint64_t states = 0;
    model_open(&model, config(), START);
    push_events(&model);
    uint8_t *last = malloc(model.layout.port_bytes);
    CHECK(last != NULL);
    memcpy(last, model.seat, model.layout.port_bytes);
    pid_t worker = start_worker(&model);
    for (run_steps = 0; step_worker(worker); run_steps++) {
        if (memcmp(last, model.seat, model.layout.port_bytes) == 0)
            continue;
        memcpy(last, model.seat, model.layout.port_bytes);
        judge_copy(&model, true);
        judge_copy(&model, false);
        states++;
    }
    kill_worker(worker);
    CHECK(states > 100);
    printf("# %" PRIu64 " states in %" PRIu64 " instructions\n", states, run_steps);
    model_take(&model);
    check_taken(&model, EVENTS);
    free(last);
    model_close(&model);
}

static void die_after(uint64_t steps, bool engine_notices)
{
    struct model model;
    model_open(&model, config(), START);
    push_events(&model);
    pid_t worker = start_worker(&model);
    while (steps-- > 0)
        CHECK(step_worker(worker));
    kill_worker(worker);
    judge(&model, engine_notices);
    model_close(&model);
}

static void killed_anywhere_a_batch_is_done_or_not(void)
{
    uint64_t deaths = 2 * STEPS_KILLED / run_steps + 2; /* half a run on average */
    for (uint64_t death = 0; death < deaths; death++)
        die_after(run_steps * death / (deaths - 1), death % 2 == 0);
    printf("# %" PRIu64 " deaths\n", deaths);
}

int main(void)
{
    stay_on_this_core();
    make_replies();
    RUN(learn_boundaries);
    RUN(every_state_of_the_memory_is_sound);
    RUN(killed_anywhere_a_batch_is_done_or_not);
    return 0;
}
