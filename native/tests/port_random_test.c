/* The port, everything at once: random operations, and an oracle that keeps what every connection ought to have sent.
 *
 * The worker sends, sets state, gives commands, consumes events, keeps and gives back slices, commits and is replaced;
 * the engine of model.h pushes events, looks, takes commands and completes sends, in any order. In the end every byte,
 * blob and command must have arrived as given, and no frame may be missing on
 * either side. */
#include <string.h>

#include "check.h"
#include "model.h"
#include "shard/port.h"

enum { RANDOM_STEPS = 3000, SEND_MAX = 3000 };

struct oracle {
    uint64_t random;
    struct model_conn conns[MODEL_CONNS]; /* what was given to the port */
    struct un_command journal[MODEL_JOURNAL_MAX];
    uint32_t journal_length;
    uint32_t held[64]; /* receive frames */
    uint32_t held_count;
    uint32_t events_pushed; /* numbered; the number is the event's payload */
    uint32_t events_seen;
};

static struct model model;
static struct un_port port;
static struct oracle oracle;

static void random_send(void)
{
    struct model_conn *conn = &oracle.conns[random_below(&oracle.random, MODEL_CONNS)];
    uint32_t slot = (uint32_t)(conn - oracle.conns);
    uint32_t length = 1 + random_below(&oracle.random, random_below(&oracle.random, 4) ? 200 : SEND_MAX);
    uint8_t *bytes = conn->output + conn->output_length;
    if (conn->output_length + length > MODEL_OUTPUT_MAX)
        return;
    for (uint32_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)random_next(&oracle.random);
    uint32_t taken = un_port_send(&port, model_conn_id(slot), bytes, length);
    CHECK(taken <= length);
    conn->output_length += taken;
}

static void random_state(void)
{
    uint32_t slot = random_below(&oracle.random, MODEL_CONNS);
    uint32_t length = random_below(&oracle.random, model.config.state_bytes + 1);
    uint8_t blob[64];
    for (uint32_t i = 0; i < length; i++)
        blob[i] = (uint8_t)random_next(&oracle.random);
    if (!un_port_state(&port, model_conn_id(slot), blob, length))
        return;
    oracle.conns[slot].state_length = length;
    memcpy(oracle.conns[slot].state, blob, length);
}

static void random_command(void)
{
    static const enum un_command_op ops[] = {UN_COMMAND_SEND_EOF, UN_COMMAND_CLOSE,  UN_COMMAND_ABORT,
                                             UN_COMMAND_PAUSE,    UN_COMMAND_RESUME, UN_COMMAND_WANT_DRAIN};
    struct un_command command = {.op = (uint8_t)ops[random_below(&oracle.random, 6)],
                                 .conn = model_conn_id(random_below(&oracle.random, MODEL_CONNS)),
                                 .arg = random_next(&oracle.random)};
    if (un_port_command(&port, command.op, command.conn, command.arg))
        oracle.journal[oracle.journal_length++] = command;
}

static void random_push(void)
{
    uint32_t slot = random_below(&oracle.random, MODEL_CONNS);
    if (model_push(&model, UN_EVENT_DATA, slot, &oracle.events_pushed, sizeof oracle.events_pushed))
        oracle.events_pushed++;
    if (random_below(&oracle.random, 2))
        model_publish(&model);
}

static void random_consume(void)
{
    uint32_t ready = un_port_peek(&port);
    uint32_t count = ready ? random_below(&oracle.random, ready + 1) : 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct un_event *event = un_port_event(&port, i);
        CHECK(memcmp(un_port_bytes(&port, event), &oracle.events_seen, sizeof oracle.events_seen) == 0);
        oracle.events_seen++;
        if (oracle.held_count < model.config.hold_max && random_below(&oracle.random, 3) == 0)
            oracle.held[oracle.held_count++] = event->frame;
        else
            un_port_free_frame(&port, event->frame);
    }
    un_port_release(&port, count);
}

static void random_give_back(void)
{
    if (oracle.held_count == 0)
        return;
    uint32_t chosen = random_below(&oracle.random, oracle.held_count);
    un_port_free_frame(&port, oracle.held[chosen]);
    oracle.held[chosen] = oracle.held[--oracle.held_count];
}

/* The worker is replaced, the engine notices or has left commands untaken. */
static void random_replace(void)
{
    un_port_commit(&port);
    un_port_close(&port);
    if (random_below(&oracle.random, 2)) {
        model_lose_worker(&model);
        oracle.held_count = 0; /* swept */
    }
    CHECK_EQ(un_port_attach(&port, model.public, model.seat, 0, -1), 0);
}

/* The engine looks at the releases, then at the commit; the worker goes on meanwhile. */
static void random_look(void)
{
    model_take_releases(&model);
    if (random_below(&oracle.random, 2)) {
        random_consume();
        un_port_commit(&port);
    }
    model_take_commit(&model);
}

static void random_step(void)
{
    static const struct {
        uint32_t weight;
        void (*act)(void);
    } acts[] = {{30, random_send}, {6, random_state}, {6, random_command}, {20, random_push}, {12, random_consume},
                {8, random_give_back}, {1, random_replace}};
    uint32_t draw = random_below(&oracle.random, 100);
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++) {
        if (draw < acts[i].weight) {
            acts[i].act();
            return;
        }
        draw -= acts[i].weight;
    }
    if (draw < 5)
        un_port_commit(&port);
    else if (draw < 8)
        random_look();
    else if (draw < 12)
        model_take_commands(&model, random_below(&oracle.random, 8));
    else
        model_complete(&model, random_below(&oracle.random, 64));
}

static void check_against_oracle(void)
{
    for (uint32_t slot = 0; slot < MODEL_CONNS; slot++) {
        const struct model_conn *wanted = &oracle.conns[slot], *got = &model.conns[slot];
        CHECK_EQ(got->output_length, wanted->output_length);
        CHECK(memcmp(got->output, wanted->output, wanted->output_length) == 0);
        CHECK_EQ(got->state_length, wanted->state_length);
        CHECK(memcmp(got->state, wanted->state, wanted->state_length) == 0);
    }
    CHECK_EQ(model.journal_length, oracle.journal_length);
    CHECK(memcmp(model.journal, oracle.journal, oracle.journal_length * sizeof *oracle.journal) == 0);
    CHECK(model.releases_waiting_max <= 3 * model.config.event_slots);
}

static void settle(void)
{
    model_publish(&model);
    while (un_port_peek(&port) > 0)
        random_consume();
    while (oracle.held_count > 0)
        random_give_back();
    for (int i = 0; i < 3; i++) {
        un_port_commit(&port);
        model_complete_all(&model);
        model_take(&model);
    }
    model_complete_all(&model);
}

/* After all that, not a frame is missing: neither here nor there. */
static void check_no_frame_is_lost(void)
{
    for (uint32_t frame = 0; frame < model.config.rx_frames; frame++)
        CHECK_EQ(model.references[frame], 0);
    un_port_commit(&port);
    uint32_t room = model.config.tx_frame_bytes - port.tx_fill + (port.tx_free_count + port.tx_waiting_count) * 2048;
    uint32_t frames = port.tx_free_count + port.tx_waiting_count + (port.tx_frame != UINT32_MAX);
    CHECK_EQ(frames, model.config.tx_frames);
    static const uint8_t filling[1 << 16];
    CHECK_EQ(un_port_send(&port, model_conn_id(0), filling, sizeof filling), room);
}

static void random_run(uint64_t seed)
{
    memset(&oracle, 0, sizeof oracle);
    oracle.random = seed;
    model_open(&model, model_config(), 0u - 5);
    CHECK_EQ(un_port_attach(&port, model.public, model.seat, 0, -1), 0);
    for (uint32_t slot = 0; slot < MODEL_CONNS; slot++)
        CHECK((oracle.conns[slot].output = malloc(MODEL_OUTPUT_MAX)) != NULL);
    for (int step = 0; step < RANDOM_STEPS; step++)
        random_step();
    settle();
    check_against_oracle();
    check_no_frame_is_lost();
    for (uint32_t slot = 0; slot < MODEL_CONNS; slot++)
        free(oracle.conns[slot].output);
    un_port_close(&port);
    model_close(&model);
}

static void random_operations_agree_with_the_oracle(void)
{
    for_each_seed(UN_TEST_SANITIZED ? 30 : 300, random_run);
}

int main(void)
{
    RUN(random_operations_agree_with_the_oracle);
    return 0;
}
