/* The port, each of its rules alone: send frames, credit, commands, releases, and what a second worker finds.
 *
 * The engine is the model of model.h: it finds a send frame that is filled again too early and a receive frame that is
 * released twice. port_random_test.c does everything
 * at once. */
#include <string.h>

#include "check.h"
#include "model.h"
#include "shard/port.h"

static struct model model;
static struct un_port port;

static void open_with(struct un_segment_config config)
{
    model_open(&model, config, 0u - 5);
    CHECK_EQ(un_port_attach(&port, model.public, model.seat, 0, -1), 0);
}

static void open_world(void)
{
    open_with(model_config());
}

static void close_world(void)
{
    un_port_close(&port);
    model_close(&model);
}

static uint32_t send_bytes(uint32_t slot, uint32_t length)
{
    static uint8_t bytes[1 << 16];
    return un_port_send(&port, model_conn_id(slot), bytes, length);
}

static void commit_and_take(void)
{
    un_port_commit(&port);
    model_take(&model);
}

/* Send frames. */

static void small_sends_grow_one_descriptor(void)
{
    open_world();
    for (int i = 0; i < 30; i++)
        CHECK_EQ(send_bytes(1, 60), 60);
    commit_and_take();
    CHECK_EQ(model.descriptor_count, 1);
    CHECK_EQ(model.descriptors[0].length, 30 * 60);
    close_world();
}

static void a_committed_descriptor_does_not_grow(void)
{
    open_world();
    CHECK_EQ(send_bytes(1, 60), 60);
    un_port_commit(&port);
    CHECK_EQ(send_bytes(1, 60), 60);
    commit_and_take();
    CHECK_EQ(model.descriptor_count, 2);
    CHECK_EQ(model.descriptors[1].frame, model.descriptors[0].frame);
    CHECK_EQ(model.descriptors[1].offset, 60);
    close_world();
}

static void connections_share_a_frame_not_a_descriptor(void)
{
    open_world();
    for (uint32_t slot = 0; slot < 4; slot++)
        CHECK_EQ(send_bytes(slot, 100), 100);
    CHECK_EQ(send_bytes(0, 100), 100);
    commit_and_take();
    CHECK_EQ(model.descriptor_count, 5);
    for (uint32_t i = 0; i < 5; i++) {
        CHECK_EQ(model.descriptors[i].frame, model.descriptors[0].frame);
        CHECK_EQ(model.descriptors[i].conn, model_conn_id(i % 4));
    }
    close_world();
}

static void a_command_between_two_sends_keeps_their_order(void)
{
    open_world();
    CHECK_EQ(send_bytes(1, 10), 10);
    CHECK(un_port_command(&port, UN_COMMAND_WANT_DRAIN, model_conn_id(1), 0));
    CHECK_EQ(send_bytes(1, 10), 10);
    un_port_commit(&port);
    CHECK_EQ(UN_COMMIT_COMMANDS(un_load(&model.memory->commit)) - (0u - 5), 3);
    close_world();
}

static void a_small_send_is_not_cut(void)
{
    open_world();
    CHECK_EQ(send_bytes(1, 1800), 1800);
    CHECK_EQ(send_bytes(2, 300), 300); /* 248 bytes are left */
    commit_and_take();
    CHECK_EQ(model.descriptor_count, 2);
    CHECK_EQ(model.descriptors[1].length, 300);
    CHECK(model.descriptors[1].frame != model.descriptors[0].frame);
    close_world();
}

static void a_large_send_fills_frames(void)
{
    open_world();
    CHECK_EQ(send_bytes(1, 100), 100);
    CHECK_EQ(send_bytes(2, 5000), 5000);
    commit_and_take();
    CHECK_EQ(model.descriptor_count, 4);
    CHECK_EQ(model.descriptors[1].length, 2048 - 100);
    CHECK_EQ(model.descriptors[2].length, 2048);
    close_world();
}

static void a_complete_frame_is_filled_again(void)
{
    open_world();
    for (int round = 0; round < 100; round++) {
        CHECK_EQ(send_bytes(1, 2048), 2048);
        commit_and_take();
        CHECK_EQ(model.descriptors[0].frame, 0);
        model_complete_all(&model);
    }
    close_world();
}

static void a_frame_waits_for_all_of_its_descriptors(void)
{
    struct un_segment_config config = model_config();
    config.tx_frames = 2;
    open_with(config);
    CHECK_EQ(send_bytes(1, 1024), 1024);
    CHECK_EQ(send_bytes(2, 1024), 1024);
    CHECK_EQ(send_bytes(3, 2048), 2048);
    commit_and_take();
    model_complete(&model, 0);
    CHECK_EQ(send_bytes(4, 1000), 0);
    model_complete(&model, 0);
    CHECK(un_port_command(&port, UN_COMMAND_PAUSE, model_conn_id(4), 0));
    commit_and_take();
    CHECK_EQ(send_bytes(4, 3000), 2048);
    commit_and_take();
    CHECK_EQ(model.descriptors[1].frame, 0);
    close_world();
}

static void starved_of_frames_a_port_looks_again_after_a_commit(void)
{
    open_world();
    CHECK_EQ(send_bytes(1, 1 << 16), 6 * 2048);
    commit_and_take();
    CHECK_EQ(send_bytes(2, 10), 0);
    model_complete_all(&model);
    un_port_commit(&port); /* even if it has nothing to publish */
    CHECK_EQ(send_bytes(2, 1 << 16), 6 * 2048);
    close_world();
}

static void output_leaves_a_quarter_of_the_ring_to_commands(void)
{
    open_world();
    uint32_t sends = 0;
    while (send_bytes(sends % 2, 10) == 10)
        sends++;
    CHECK_EQ(sends, 12);
    for (int i = 0; i < 4; i++)
        CHECK(un_port_command(&port, UN_COMMAND_CLOSE, model_conn_id(1), 0));
    CHECK(!un_port_command(&port, UN_COMMAND_CLOSE, model_conn_id(1), 0));
    CHECK(!un_port_state(&port, model_conn_id(1), "x", 1));
    commit_and_take();
    CHECK_EQ(model.descriptor_count, 12);
    CHECK_EQ(model.journal_length, 4);
    CHECK_EQ(send_bytes(1, 10), 10);
    close_world();
}

/* State. */

static void a_state_blob_travels_in_order_with_output(void)
{
    open_world();
    CHECK(un_port_state(&port, model_conn_id(1), "first", 5));
    CHECK_EQ(send_bytes(1, 60), 60);
    CHECK(un_port_state(&port, model_conn_id(1), "second", 6));
    CHECK_EQ(send_bytes(1, 60), 60);
    CHECK(un_port_state(&port, model_conn_id(2), "", 0));
    commit_and_take();
    CHECK_EQ(model.conns[1].state_length, 6);
    CHECK(memcmp(model.conns[1].state, "second", 6) == 0);
    CHECK_EQ(model.conns[2].state_length, 0);
    CHECK_EQ(model.descriptor_count, 2); /* a blob between them keeps them apart */
    close_world();
}

static void a_state_blob_is_never_cut(void)
{
    uint8_t blob[64];
    memset(blob, 7, sizeof blob);
    open_world();
    CHECK_EQ(send_bytes(1, 2048 - 63), 2048 - 63);
    CHECK(un_port_state(&port, model_conn_id(1), blob, sizeof blob));
    commit_and_take();
    CHECK_EQ(model.conns[1].state_length, sizeof blob);
    CHECK(memcmp(model.conns[1].state, blob, sizeof blob) == 0);
    close_world();
}

static void a_state_blob_needs_a_frame(void)
{
    open_world();
    CHECK_EQ(send_bytes(1, 1 << 16), 6 * 2048);
    CHECK(!un_port_state(&port, model_conn_id(1), "x", 1));
    CHECK(un_port_state(&port, model_conn_id(1), "", 0)); /* an empty one does not */
    close_world();
}

/* Credit. */

static void credit_shrinks_with_the_frames(void)
{
    open_world();
    uint32_t last = un_port_credit(&port);
    CHECK_EQ(last, model.config.tx_budget);
    for (uint32_t frame = 0; frame < 6; frame++) {
        CHECK_EQ(send_bytes(1, 2048), 2048);
        commit_and_take();
        CHECK(un_port_credit(&port) <= last);
        last = un_port_credit(&port);
    }
    CHECK_EQ(send_bytes(1, 1), 0);
    CHECK_EQ(un_port_credit(&port), 0);
    model_complete_all(&model);
    CHECK(un_port_command(&port, UN_COMMAND_PAUSE, model_conn_id(2), 0));
    un_port_commit(&port);
    CHECK(un_port_credit(&port) > model.config.tx_budget / 2);
    close_world();
}

static void credit_shrinks_with_the_nodes_of_the_engine(void)
{
    open_world();
    un_store(&model.published->tx_nodes_free, 0);
    CHECK_EQ(un_port_credit(&port), 0);
    un_store(&model.published->tx_nodes_free, UINT32_MAX);
    CHECK_EQ(un_port_credit(&port), model.config.tx_budget);
    close_world();
}

/* Commit. */

static void nothing_shows_before_the_commit(void)
{
    uint32_t number = 9;
    open_world();
    CHECK(model_push(&model, UN_EVENT_DATA, 1, &number, sizeof number));
    model_publish(&model);
    CHECK(!un_port_pending(&port));
    CHECK_EQ(un_port_peek(&port), 1);
    CHECK_EQ(send_bytes(1, 60), 60);
    un_port_free_frame(&port, un_port_event(&port, 0)->frame);
    un_port_release(&port, 1);
    CHECK(un_port_pending(&port));
    model_take(&model);
    CHECK_EQ(model.descriptor_count, 0);
    CHECK_EQ(model.references[0], 1);
    CHECK_EQ(un_ring_used(&model.events), 1);
    commit_and_take();
    CHECK(!un_port_pending(&port));
    CHECK_EQ(model.descriptor_count, 1);
    CHECK_EQ(model.references[0], 0);
    CHECK_EQ(un_ring_used(&model.events), 0);
    close_world();
}

static void handling_names_the_event(void)
{
    open_world();
    CHECK(model_push(&model, UN_EVENT_CONNECT, 1, NULL, 0));
    CHECK(model_push(&model, UN_EVENT_EOF, 1, NULL, 0));
    model_publish(&model);
    CHECK_EQ(un_port_peek(&port), 2);
    un_port_handling(&port, 1);
    CHECK_EQ(un_load(&model.memory->handling), UN_HANDLING(0u - 4));
    un_port_handled(&port);
    CHECK_EQ(un_load(&model.memory->handling), 0);
    close_world();
}

static void a_stale_id_finds_no_entry(void)
{
    open_world();
    CHECK(un_port_conn(&port, model_conn_id(3)) == un_conn_at(model.public, 3));
    CHECK(un_port_conn(&port, model_conn_id(3) + 1) == NULL);
    CHECK(un_port_conn(&port, UN_ID(0, MODEL_CONNS, 1)) == NULL);
    CHECK(un_port_conn(&port, UINT64_MAX) == NULL);
    close_world();
}

/* The release ring. */

/* A worker that takes a whole ring of events and keeps `held` slices of earlier ones. */
static void consume_all(uint32_t *held, uint32_t *held_count)
{
    uint32_t ready = un_port_peek(&port);
    for (uint32_t i = 0; i < ready; i++)
        held[(*held_count)++] = un_port_event(&port, i)->frame;
    un_port_release(&port, ready);
}

static void give_back_all(const uint32_t *held, uint32_t *held_count)
{
    for (uint32_t i = 0; i < *held_count; i++)
        un_port_free_frame(&port, held[i]);
    *held_count = 0;
}

static void fill_ring(void)
{
    while (model_push(&model, UN_EVENT_DATA, 1, "x", 1))
        ;
    model_publish(&model);
}

/* As bad as it gets: the engine looks at the releases, then the worker consumes a full ring, the engine sees that
 * commit and fills the ring again, and the worker gives back those, the ones it held, and the new ones. */
static void the_release_ring_holds_the_worst_case(void)
{
    uint32_t held[64], held_count = 0;
    open_world();
    fill_ring();
    consume_all(held, &held_count); /* hold_max = 8 slices stay in views */
    commit_and_take();
    fill_ring();
    model_take_releases(&model);
    consume_all(held, &held_count);
    un_port_commit(&port);
    model_take_commit(&model);
    fill_ring();
    consume_all(held, &held_count);
    CHECK_EQ(held_count, 3 * model.config.event_slots);
    give_back_all(held, &held_count);
    un_port_commit(&port);
    fill_ring(); /* no more comes: the engine has not seen this commit */
    CHECK_EQ(un_port_peek(&port), 0);
    CHECK_EQ(un_ring_reserve(&port.release_ring), model.config.event_slots);
    model_take(&model);
    CHECK_EQ(model.releases_waiting_max, 3 * model.config.event_slots);
    close_world();
}

/* A second worker. */

static void a_second_worker_respects_commands_that_wait(void)
{
    open_world();
    CHECK_EQ(send_bytes(1, 2048 * 2), 2048 * 2);
    CHECK(un_port_state(&port, model_conn_id(1), "blob", 4));
    un_port_commit(&port);
    model_take_commit(&model);
    model_take_commands(&model, 1); /* one taken, one waiting, and the blob */
    un_port_close(&port);
    CHECK_EQ(un_port_attach(&port, model.public, model.seat, 0, -1), 0);
    CHECK_EQ(send_bytes(2, 1 << 16), 3 * 2048);
    commit_and_take();
    model_complete_all(&model);
    CHECK(un_port_command(&port, UN_COMMAND_PAUSE, model_conn_id(2), 0));
    commit_and_take();
    CHECK_EQ(send_bytes(2, 1 << 16), 6 * 2048);
    commit_and_take();
    model_complete_all(&model);
    close_world();
}

static void uncommitted_work_did_not_happen(void)
{
    open_world();
    CHECK_EQ(send_bytes(1, 100), 100);
    un_port_commit(&port);
    CHECK_EQ(send_bytes(1, 100), 100);
    CHECK_EQ(send_bytes(2, 5000), 5000);
    un_port_close(&port);
    CHECK_EQ(un_port_attach(&port, model.public, model.seat, 0, -1), 0);
    CHECK_EQ(send_bytes(3, 10), 10);
    commit_and_take();
    CHECK_EQ(model.conns[1].output_length, 100);
    CHECK_EQ(model.conns[2].output_length, 0);
    CHECK_EQ(model.conns[3].output_length, 10);
    close_world();
}

static void check_refused(void)
{
    struct un_port second;
    CHECK(un_port_attach(&second, model.public, model.seat, 0, -1) < 0);
}

static void a_worker_does_not_sit_down_on_indices_that_cannot_be(void)
{
    open_world();
    uint64_t commit = un_load(&model.memory->commit);
    uint32_t releases = un_load(&model.memory->releases_produced);
    un_store(&model.memory->commit, UN_COMMIT(UN_COMMIT_EVENTS(commit) + 1, UN_COMMIT_COMMANDS(commit)));
    check_refused();
    un_store(&model.memory->commit, UN_COMMIT(UN_COMMIT_EVENTS(commit), UN_COMMIT_COMMANDS(commit) + 17));
    check_refused();
    un_store(&model.memory->commit, UN_COMMIT(UN_COMMIT_EVENTS(commit), UN_COMMIT_COMMANDS(commit) - 1));
    check_refused();
    un_store(&model.memory->commit, commit);
    un_store(&model.memory->releases_produced, releases - 1);
    check_refused();
    un_store(&model.memory->releases_produced, releases);
    struct un_port second;
    CHECK_EQ(un_port_attach(&second, model.public, model.seat, UN_PORTS, -1), -22); /* no such port */
    CHECK_EQ(un_port_attach(&second, model.public, model.seat, 0, -1), 0);
    un_port_close(&second);
    close_world();
}

/* Sleeping. */

static void a_worker_with_events_does_not_sleep(void)
{
    open_world();
    CHECK(un_port_sleep(&port, false));
    CHECK_EQ(un_load(&model.memory->sleeping), 1);
    un_port_awake(&port);
    CHECK(model_push(&model, UN_EVENT_EOF, 1, NULL, 0));
    model_publish(&model);
    CHECK(!un_port_sleep(&port, false));
    CHECK_EQ(un_load(&model.memory->sleeping), 0);
    close_world();
}

static void a_worker_that_wants_space_does_not_sleep_when_it_just_came(void)
{
    open_world();
    while (send_bytes(port.command_ring.own % 2, 10) == 10)
        ;
    commit_and_take(); /* the engine looked at want_space before it was set */
    CHECK(!un_port_sleep(&port, true));
    CHECK_EQ(un_load(&model.memory->want_space), 0);
    CHECK(un_port_sleep(&port, true)); /* nothing new since */
    CHECK_EQ(un_load(&model.memory->want_space), 1);
    un_port_awake(&port);
    CHECK(un_port_sleep(&port, false));
    close_world();
}

static void a_worker_starved_of_frames_does_not_sleep_when_one_just_came(void)
{
    open_world();
    CHECK_EQ(send_bytes(1, 1 << 16), 6 * 2048);
    commit_and_take();
    CHECK_EQ(send_bytes(2, 10), 0);
    CHECK(!un_port_sleep(&port, true)); /* commands were taken since it looked */
    CHECK(un_port_sleep(&port, true));
    un_port_awake(&port);
    model_complete(&model, 0);
    CHECK(!un_port_sleep(&port, true));
    CHECK_EQ(send_bytes(2, 10), 10);
    close_world();
}

int main(void)
{
    RUN(small_sends_grow_one_descriptor);
    RUN(a_committed_descriptor_does_not_grow);
    RUN(connections_share_a_frame_not_a_descriptor);
    RUN(a_command_between_two_sends_keeps_their_order);
    RUN(a_small_send_is_not_cut);
    RUN(a_large_send_fills_frames);
    RUN(a_complete_frame_is_filled_again);
    RUN(a_frame_waits_for_all_of_its_descriptors);
    RUN(starved_of_frames_a_port_looks_again_after_a_commit);
    RUN(output_leaves_a_quarter_of_the_ring_to_commands);
    RUN(a_state_blob_travels_in_order_with_output);
    RUN(a_state_blob_is_never_cut);
    RUN(a_state_blob_needs_a_frame);
    RUN(credit_shrinks_with_the_frames);
    RUN(credit_shrinks_with_the_nodes_of_the_engine);
    RUN(nothing_shows_before_the_commit);
    RUN(handling_names_the_event);
    RUN(a_stale_id_finds_no_entry);
    RUN(the_release_ring_holds_the_worst_case);
    RUN(a_second_worker_respects_commands_that_wait);
    RUN(uncommitted_work_did_not_happen);
    RUN(a_worker_does_not_sit_down_on_indices_that_cannot_be);
    RUN(a_worker_with_events_does_not_sleep);
    RUN(a_worker_that_wants_space_does_not_sleep_when_it_just_came);
    RUN(a_worker_starved_of_frames_does_not_sleep_when_one_just_came);
    return 0;
}
