/* See model.h. */
#include "model.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "check.h"

struct un_segment_config model_config(void)
{
    return (struct un_segment_config){
        .seats = 1,
        .conn_max = MODEL_CONNS,
        .state_bytes = 64,
        .event_slots = 8,
        .command_slots = 16,
        .rx_frame_bytes = 2048,
        .rx_frames = 64,
        .tx_frame_bytes = 2048,
        .tx_frames = 6,
        .rx_budget = 65536,
        .tx_budget = 65536,
        .hold_max = 8,
    };
}

uint64_t model_conn_id(uint32_t slot)
{
    return UN_ID(0, slot, slot + 1);
}

static void open_conns(struct model *model)
{
    for (uint32_t slot = 0; slot < MODEL_CONNS; slot++) {
        struct un_conn *conn = un_conn_at(model->public, slot);
        conn->state = UN_CONN_OPEN;
        un_store(&conn->id, model_conn_id(slot));
        model->conns[slot].output = malloc(MODEL_OUTPUT_MAX);
        CHECK(model->conns[slot].output != NULL);
    }
}

static void set_indices(struct model *model, uint32_t start)
{
    un_ring_init(&model->events, model->config.event_slots, start, start);
    un_ring_init(&model->commands, model->config.command_slots, start, start);
    un_ring_init(&model->releases, (uint32_t)model->layout.release_ring.items, start, start);
    un_store(&model->published->events_produced, start);
    un_store(&model->published->commands_consumed, start);
    un_store(&model->published->releases_consumed, start);
    un_store(&model->memory->commit, UN_COMMIT(start, start));
    un_store(&model->memory->releases_produced, start);
}

static void tell_free_nodes(struct model *model)
{
    un_store(&model->published->tx_nodes_free, model->node_count - model->descriptor_count);
}

void model_open(struct model *model, struct un_segment_config config, uint32_t start)
{
    const char *why;
    memset(model, 0, sizeof *model);
    model->config = config;
    CHECK_EQ(un_segment_plan(&config, &model->layout, &why), 0);
    model->bytes = model->layout.public_bytes + model->layout.port_bytes;
    model->public = mmap(NULL, model->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(model->public != MAP_FAILED);
    model->seat = un_at(model->public, model->layout.public_bytes);
    un_segment_format(model->public, &config, &model->layout, NULL);
    model->published = un_port_public(model->public, 0);
    model->memory = model->seat;
    model->references = calloc(config.rx_frames, sizeof *model->references);
    CHECK(model->references != NULL);
    model->node_count = config.tx_frames + config.command_slots;
    CHECK(model->node_count <= MODEL_DESCRIPTORS_MAX);
    open_conns(model);
    set_indices(model, start);
    tell_free_nodes(model);
}

void model_close(struct model *model)
{
    for (uint32_t slot = 0; slot < MODEL_CONNS; slot++)
        free(model->conns[slot].output);
    for (uint32_t i = 0; i < model->descriptor_count; i++)
        free(model->descriptors[i].bytes);
    free(model->references);
    munmap(model->public, model->bytes);
}

/* Events. */

static uint32_t free_rx_frame(const struct model *model)
{
    uint32_t frame = 0;
    while (frame < model->config.rx_frames && model->references[frame] > 0)
        frame++;
    return frame;
}

bool model_push(struct model *model, enum un_event_type type, uint32_t slot, const void *bytes, uint32_t length)
{
    struct un_event event = {.type = (uint8_t)type, .conn = model_conn_id(slot), .length = length};
    if (un_ring_reserve(&model->events) == 0)
        return false;
    if (type == UN_EVENT_DATA) {
        event.frame = free_rx_frame(model);
        if (event.frame == model->config.rx_frames)
            return false;
        model->references[event.frame]++;
        memcpy(un_rx_frame(model->public, 0, event.frame), bytes, length);
    }
    un_event_ring(model->public, 0)[un_ring_slot(&model->events, model->events.own)] = event;
    un_ring_submit(&model->events, 1);
    return true;
}

void model_publish(struct model *model)
{
    un_publish(&model->published->events_produced, model->events.own);
}

/* What the worker publishes. */

void model_take_releases(struct model *model)
{
    const uint32_t *frames = un_release_ring(model->public, model->seat);
    CHECK(un_ring_consumer_saw(&model->releases, un_observe(&model->memory->releases_produced)));
    uint32_t waiting = un_ring_peek(&model->releases);
    if (waiting > model->releases_waiting_max)
        model->releases_waiting_max = waiting;
    for (; un_ring_peek(&model->releases) > 0; un_ring_release(&model->releases, 1)) {
        uint32_t frame = frames[un_ring_slot(&model->releases, model->releases.own)];
        CHECK(frame < model->config.rx_frames);
        CHECK(model->references[frame] > 0);
        model->references[frame]--;
    }
    un_publish(&model->published->releases_consumed, model->releases.own);
}

void model_take_commit(struct model *model)
{
    uint64_t word = un_observe(&model->memory->commit);
    CHECK(un_ring_producer_saw(&model->events, UN_COMMIT_EVENTS(word)));
    CHECK(un_ring_consumer_saw(&model->commands, UN_COMMIT_COMMANDS(word)));
}

static const uint8_t *command_bytes(const struct model *model, const struct un_command *command)
{
    CHECK(command->frame < model->config.tx_frames);
    CHECK(command->length > 0);
    CHECK(command->offset + command->length <= model->config.tx_frame_bytes);
    const uint8_t *frames = un_send_frames(model->public, model->seat);
    return frames + (uint64_t)command->frame * model->config.tx_frame_bytes + command->offset;
}

static struct un_tx_account *account_of(struct model *model, uint32_t frame)
{
    return &un_tx_accounts(model->public, 0)[frame];
}

static void take_send(struct model *model, struct model_conn *conn, const struct un_command *command)
{
    const uint8_t *bytes = command_bytes(model, command);
    struct model_descriptor *descriptor = &model->descriptors[model->descriptor_count++];
    CHECK(model->descriptor_count <= model->node_count);
    CHECK(conn->output_length + command->length <= MODEL_OUTPUT_MAX);
    *descriptor = (struct model_descriptor){.conn = command->conn,
                                            .frame = command->frame,
                                            .offset = command->offset,
                                            .length = command->length,
                                            .bytes = malloc(command->length)};
    CHECK(descriptor->bytes != NULL);
    memcpy(descriptor->bytes, bytes, command->length);
    memcpy(conn->output + conn->output_length, bytes, command->length);
    conn->output_length += command->length;
    un_count(&account_of(model, command->frame)->queued, 1);
    tell_free_nodes(model);
}

static void take_state(struct model *model, struct model_conn *conn, const struct un_command *command)
{
    conn->state_length = command->length;
    if (command->length == 0)
        return;
    CHECK(command->length <= model->config.state_bytes);
    memcpy(conn->state, command_bytes(model, command), command->length);
    un_count(&account_of(model, command->frame)->queued, 1);
    un_publish(&account_of(model, command->frame)->done, un_load(&account_of(model, command->frame)->done) + 1);
}

static void take_command(struct model *model, const struct un_command *command)
{
    uint32_t slot = UN_ID_SLOT(command->conn);
    CHECK(slot < MODEL_CONNS);
    CHECK_EQ(command->conn, model_conn_id(slot));
    if (command->op == UN_COMMAND_SEND) {
        take_send(model, &model->conns[slot], command);
    } else if (command->op == UN_COMMAND_STATE) {
        take_state(model, &model->conns[slot], command);
    } else {
        CHECK(model->journal_length < MODEL_JOURNAL_MAX);
        model->journal[model->journal_length++] = *command;
    }
}

void model_take_commands(struct model *model, uint32_t commands_max)
{
    const struct un_command *ring = un_command_ring(model->public, model->seat);
    while (un_ring_peek(&model->commands) > 0 && commands_max-- > 0 && model->descriptor_count < model->node_count) {
        take_command(model, &ring[un_ring_slot(&model->commands, model->commands.own)]);
        un_ring_release(&model->commands, 1);
    }
    un_publish(&model->published->commands_consumed, model->commands.own);
}

void model_take(struct model *model)
{
    model_take_releases(model);
    model_take_commit(model);
    model_take_commands(model, UINT32_MAX);
}

/* Completion. */

static bool is_oldest_of_its_conn(const struct model *model, uint32_t index)
{
    for (uint32_t i = 0; i < index; i++)
        if (model->descriptors[i].conn == model->descriptors[index].conn)
            return false;
    return true;
}

void model_complete(struct model *model, uint32_t choice)
{
    if (model->descriptor_count == 0)
        return;
    uint32_t index = choice % model->descriptor_count;
    while (!is_oldest_of_its_conn(model, index))
        index--;
    struct model_descriptor *descriptor = &model->descriptors[index];
    const uint8_t *frames = un_send_frames(model->public, model->seat);
    const uint8_t *now = frames + (uint64_t)descriptor->frame * model->config.tx_frame_bytes + descriptor->offset;
    CHECK(memcmp(now, descriptor->bytes, descriptor->length) == 0); /* nobody filled it again meanwhile */
    un_shared32 *done = &account_of(model, descriptor->frame)->done;
    un_publish(done, un_load(done) + 1);
    free(descriptor->bytes);
    model->descriptor_count--;
    memmove(descriptor, descriptor + 1, (model->descriptor_count - index) * sizeof *descriptor);
    tell_free_nodes(model);
}

void model_complete_all(struct model *model)
{
    while (model->descriptor_count > 0)
        model_complete(model, 0);
}

/* A dead worker. */

static void sweep_frames(struct model *model)
{
    memset(model->references, 0, model->config.rx_frames * sizeof *model->references);
    for (uint32_t i = model->events.seen; i != model->events.own; i++) {
        const struct un_event *event = &un_event_ring(model->public, 0)[un_ring_slot(&model->events, i)];
        if (event->type == UN_EVENT_DATA)
            model->references[event->frame]++;
    }
}

void model_lose_worker(struct model *model)
{
    model_take(model);
    sweep_frames(model);
    un_store(&model->memory->handling, 0);
    un_store(&model->memory->sleeping, 0);
    un_store(&model->memory->want_space, 0);
    un_store(&model->memory->releases_produced, model->releases.own);
}
