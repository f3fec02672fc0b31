/* See port.h. */
#include "shard/port.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/wake.h"

#define UN_LOOKS_PER_CREDIT 256 /* bounds its time; a few turns see all frames of a usual segment */
#define UN_LOOKS_PER_FRAME 2u /* more than one frame comes free for each one opened, so the line stays short */

static const void *map_file(int fd, uint64_t *bytes, int protection)
{
    struct stat status;
    if (fstat(fd, &status) < 0)
        return MAP_FAILED;
    *bytes = (uint64_t)status.st_size;
    return mmap(NULL, *bytes, protection, MAP_SHARED, fd, 0);
}

/* A worker before us may have left commands that the engine has not taken yet; their frames are not free. */
static void count_untaken_commands(struct un_port *port, uint32_t taken)
{
    const struct un_segment_config *config = &port->header->config;
    for (uint32_t i = taken; i != port->command_ring.own; i++) {
        const struct un_command *command = &port->commands[un_ring_slot(&port->command_ring, i)];
        bool has_bytes = command->op == UN_COMMAND_SEND || command->op == UN_COMMAND_STATE;
        if (has_bytes && command->length > 0 && command->frame < config->tx_frames)
            port->tx_issued[command->frame]++;
    }
}

static void push_waiting(struct un_port *port, uint32_t frame)
{
    uint32_t frames = port->header->config.tx_frames;
    port->tx_waiting[(port->tx_waiting_first + port->tx_waiting_count++) % frames] = frame;
}

static int open_send_frames(struct un_port *port, uint32_t taken)
{
    uint32_t frames = port->header->config.tx_frames;
    port->tx_issued = calloc(frames, sizeof *port->tx_issued);
    port->tx_free = calloc(frames, sizeof *port->tx_free);
    port->tx_waiting = calloc(frames, sizeof *port->tx_waiting);
    if (!port->tx_issued || !port->tx_free || !port->tx_waiting)
        return -ENOMEM;
    for (uint32_t frame = 0; frame < frames; frame++)
        port->tx_issued[frame] = un_load(&port->tx_accounts[frame].queued);
    count_untaken_commands(port, taken);
    for (uint32_t frame = frames; frame-- > 0;) {
        if (un_observe(&port->tx_accounts[frame].done) == port->tx_issued[frame])
            port->tx_free[port->tx_free_count++] = frame;
        else
            push_waiting(port, frame);
    }
    port->tx_fill = port->header->config.tx_frame_bytes; /* no frame is open */
    port->tx_frame = UINT32_MAX;
    return 0;
}

/* Does the seat memory continue what the engine says? A faulty worker may have left anything there. */
static bool indices_are_sane(const struct un_port *port)
{
    uint32_t waiting = un_observe(&port->published->events_produced) - port->event_ring.own;
    return waiting <= port->event_ring.size && un_ring_used(&port->command_ring) <= port->command_ring.size &&
           un_ring_used(&port->release_ring) <= port->release_ring.size;
}

int un_port_attach(struct un_port *port, const void *public, void *seat_memory, uint32_t seat, int engine_wake_fd)
{
    const struct un_segment_header *header = un_header(public);
    const struct un_segment_layout *layout = &header->layout;
    if (seat >= header->config.seats)
        return -EINVAL;
    memset(port, 0, sizeof *port);
    port->public = public;
    port->seat = seat_memory;
    port->header = header;
    port->seat_number = seat;
    port->engine_wake_fd = engine_wake_fd;
    port->wake_fd = -1;
    port->engine = un_engine_public(public);
    port->published = un_seat_public(public, seat);
    port->mine = seat_memory;
    port->events = un_event_ring(public, seat);
    port->commands = un_command_ring(public, seat_memory);
    port->releases = un_release_ring(public, seat_memory);
    port->dirty = un_dirty_map(public, seat_memory);
    port->tx_frames = un_send_frames(public, seat_memory);
    port->tx_accounts = un_tx_accounts(public, seat);
    port->rx_frames = un_rx_frame(public, seat, 0);

    port->committed = un_observe(&port->mine->commit);
    port->released = un_load(&port->mine->releases_produced);
    uint32_t consumed = UN_COMMIT_EVENTS(port->committed);
    uint32_t produced = UN_COMMIT_COMMANDS(port->committed);
    uint32_t taken = un_observe(&port->published->commands_consumed);
    un_ring_init(&port->event_ring, header->config.event_slots, consumed, consumed);
    un_ring_init(&port->command_ring, header->config.command_slots, produced, taken);
    un_ring_init(&port->release_ring, (uint32_t)layout->release_ring.items, port->released,
                 un_observe(&port->published->releases_consumed));
    int status = indices_are_sane(port) ? open_send_frames(port, taken) : -EINVAL;
    if (status < 0)
        un_port_close(port);
    return status;
}

static int prepare_wakes(int engine_wake_fd, int wake_fd)
{
    int status = engine_wake_fd < 0 ? 0 : un_wake_prepare(engine_wake_fd);
    if (status < 0 || wake_fd < 0)
        return status;
    status = un_wake_prepare(wake_fd);
    if (status == 0)
        un_wake_drain(wake_fd);
    return status;
}

int un_port_open(struct un_port *port, int public_fd, int seat_fd, uint32_t seat, int engine_wake_fd, int wake_fd)
{
    uint64_t public_bytes = 0, seat_bytes = 0;
    const void *public = map_file(public_fd, &public_bytes, PROT_READ);
    if (public == MAP_FAILED)
        return -errno;
    const char *why;
    if (un_segment_check(public, public_bytes, &why) < 0) {
        munmap((void *)(uintptr_t)public, public_bytes);
        return -EINVAL;
    }
    const void *seat_memory = map_file(seat_fd, &seat_bytes, PROT_READ | PROT_WRITE);
    int status = seat_memory == MAP_FAILED ? -errno : 0;
    if (status == 0 && seat_bytes < un_header(public)->layout.seat_bytes)
        status = -EINVAL;
    if (status == 0)
        status = prepare_wakes(engine_wake_fd, wake_fd);
    if (status == 0)
        status = un_port_attach(port, public, (void *)(uintptr_t)seat_memory, seat, engine_wake_fd);
    if (status < 0) {
        if (seat_memory != MAP_FAILED)
            munmap((void *)(uintptr_t)seat_memory, seat_bytes);
        munmap((void *)(uintptr_t)public, public_bytes);
        return status;
    }
    madvise(port->seat, seat_bytes, MADV_DONTFORK); /* one process writes there */
    port->owns_maps = true;
    port->wake_fd = wake_fd;
    return 0;
}

void un_port_close(struct un_port *port)
{
    free(port->tx_issued);
    free(port->tx_free);
    free(port->tx_waiting);
    if (port->owns_maps) {
        munmap(port->seat, port->header->layout.seat_bytes);
        munmap((void *)(uintptr_t)port->public, port->header->layout.public_bytes);
    }
    memset(port, 0, sizeof *port);
}

uint32_t un_port_peek(struct un_port *port)
{
    uint32_t ready = un_ring_peek(&port->event_ring);
    if (ready == 0) {
        un_assert(un_ring_consumer_saw(&port->event_ring, un_observe(&port->published->events_produced)));
        ready = un_ring_peek(&port->event_ring);
    }
    return ready;
}

void un_port_free_frame(struct un_port *port, uint32_t frame)
{
    if (un_ring_reserve(&port->release_ring) == 0)
        un_assert(un_ring_producer_saw(&port->release_ring, un_observe(&port->published->releases_consumed)));
    un_assert(un_ring_reserve(&port->release_ring) > 0);
    port->releases[un_ring_slot(&port->release_ring, port->release_ring.own)] = frame;
    un_ring_submit(&port->release_ring, 1);
}

/* Command slots left after `keep` are set aside. */
static bool has_command_slot(struct un_port *port, uint32_t keep)
{
    if (un_ring_reserve(&port->command_ring) <= keep)
        un_assert(un_ring_producer_saw(&port->command_ring, un_observe(&port->published->commands_consumed)));
    return un_ring_reserve(&port->command_ring) > keep;
}

static struct un_command *push_command(struct un_port *port)
{
    struct un_command *command = &port->commands[un_ring_slot(&port->command_ring, port->command_ring.own)];
    un_ring_submit(&port->command_ring, 1);
    return command;
}

static bool frame_is_complete(const struct un_port *port, uint32_t frame)
{
    return un_observe(&port->tx_accounts[frame].done) == port->tx_issued[frame];
}

/* Look at the frames that wait longest: complete ones are free, the others go to the end of the line. */
static void look_at_waiting(struct un_port *port, uint32_t looks)
{
    uint32_t frames = port->header->config.tx_frames;
    for (looks = looks < port->tx_waiting_count ? looks : port->tx_waiting_count; looks > 0; looks--) {
        uint32_t frame = port->tx_waiting[port->tx_waiting_first];
        port->tx_waiting_first = (port->tx_waiting_first + 1) % frames;
        port->tx_waiting_count--;
        if (frame_is_complete(port, frame))
            port->tx_free[port->tx_free_count++] = frame;
        else
            push_waiting(port, frame);
    }
}

/* Open a frame to fill: the one at hand when it is complete, else one that has become free lately (its memory is in the
 * cache, and pages never used stay unused), else any free one. */
static bool open_frame(struct un_port *port)
{
    if (port->tx_frame != UINT32_MAX) {
        if (frame_is_complete(port, port->tx_frame)) {
            port->tx_fill = 0;
            return true;
        }
        push_waiting(port, port->tx_frame);
        port->tx_frame = UINT32_MAX;
        port->tx_fill = port->header->config.tx_frame_bytes;
    }
    look_at_waiting(port, UN_LOOKS_PER_FRAME);
    if (port->tx_free_count == 0 && !port->tx_starved)
        look_at_waiting(port, port->tx_waiting_count);
    if (port->tx_free_count == 0) {
        port->tx_starved = true;
        return false;
    }
    port->tx_frame = port->tx_free[--port->tx_free_count];
    port->tx_fill = 0;
    return true;
}

/* Room for `want` bytes in one piece, or less when want is large; 0 when there is no frame. */
static uint32_t frame_room(struct un_port *port, uint32_t want)
{
    uint32_t size = port->header->config.tx_frame_bytes;
    uint32_t room = size - port->tx_fill;
    bool too_small_to_cut = want <= size / 4;
    if (room == 0 || (room < want && too_small_to_cut)) {
        if (!open_frame(port))
            return 0;
        room = size;
    }
    return room < want ? room : want;
}

static uint8_t *fill_pointer(struct un_port *port)
{
    return port->tx_frames + (uint64_t)port->tx_frame * port->header->config.tx_frame_bytes + port->tx_fill;
}

/* The last command, if it is an uncommitted SEND to this connection that ends where the next byte goes. */
static struct un_command *growable_command(struct un_port *port, uint64_t conn)
{
    if (port->command_ring.own == UN_COMMIT_COMMANDS(port->committed))
        return NULL;
    struct un_command *last = &port->commands[un_ring_slot(&port->command_ring, port->command_ring.own - 1)];
    bool grows = last->op == UN_COMMAND_SEND && last->conn == conn && last->frame == port->tx_frame &&
                 last->offset + last->length == port->tx_fill;
    return grows ? last : NULL;
}

static void push_bytes(struct un_port *port, enum un_command_op op, uint64_t conn, const void *bytes, uint32_t length)
{
    memcpy(fill_pointer(port), bytes, length);
    *push_command(port) = (struct un_command){
        .op = (uint8_t)op, .length = length, .conn = conn, .frame = port->tx_frame, .offset = port->tx_fill};
    port->tx_issued[port->tx_frame]++;
    port->tx_fill += length;
}

uint32_t un_port_send(struct un_port *port, uint64_t conn, const void *bytes, uint32_t length)
{
    uint32_t taken = 0;
    while (taken < length) {
        uint32_t piece = frame_room(port, length - taken);
        if (piece == 0)
            break;
        const uint8_t *from = (const uint8_t *)bytes + taken;
        struct un_command *growing = growable_command(port, conn);
        if (growing) {
            memcpy(fill_pointer(port), from, piece);
            growing->length += piece;
            port->tx_fill += piece;
        } else if (has_command_slot(port, port->command_ring.size / 4)) {
            push_bytes(port, UN_COMMAND_SEND, conn, from, piece);
        } else {
            break;
        }
        taken += piece;
    }
    return taken;
}

bool un_port_command(struct un_port *port, enum un_command_op op, uint64_t conn, uint64_t arg)
{
    if (!has_command_slot(port, 0))
        return false;
    *push_command(port) = (struct un_command){.op = (uint8_t)op, .conn = conn, .arg = arg};
    return true;
}

bool un_port_state(struct un_port *port, uint64_t conn, const void *bytes, uint32_t length)
{
    un_assert(length <= port->header->config.state_bytes);
    if (!has_command_slot(port, 0))
        return false;
    if (length == 0) {
        *push_command(port) = (struct un_command){.op = UN_COMMAND_STATE, .conn = conn};
        return true;
    }
    uint32_t room = port->header->config.tx_frame_bytes - port->tx_fill;
    if (room < length && !open_frame(port))
        return false;
    push_bytes(port, UN_COMMAND_STATE, conn, bytes, length);
    return true;
}

uint32_t un_port_credit(struct un_port *port)
{
    const struct un_segment_config *config = &port->header->config;
    look_at_waiting(port, UN_LOOKS_PER_CREDIT);
    uint64_t frames = port->tx_free_count; /* those that slow peers keep do not count */
    uint64_t nodes = un_load(&port->published->tx_nodes_free);
    uint64_t by_frames = config->tx_budget * frames / config->tx_frames;
    uint64_t by_nodes = config->tx_budget * nodes / (config->tx_frames + config->command_slots);
    uint64_t credit = by_frames < by_nodes ? by_frames : by_nodes;
    return credit < config->tx_budget ? (uint32_t)credit : config->tx_budget;
}

bool un_port_pending(const struct un_port *port)
{
    return port->committed != UN_COMMIT(port->event_ring.own, port->command_ring.own) ||
           port->released != port->release_ring.own;
}

static bool wants_wake(uint64_t sleeping, bool new_commands)
{
    uint32_t mode = UN_SLEEP_MODE(sleeping);
    return mode == UN_ENGINE_WAKE_ON_ANYTHING || (mode == UN_ENGINE_WAKE_ON_COMMANDS && new_commands);
}

/* Once for each of its sleeps. */
static void wake_engine(struct un_port *port, bool new_commands)
{
    uint64_t sleeping = un_load(&port->engine->sleeping);
    if (sleeping == port->woken || !wants_wake(sleeping, new_commands) || !un_wake_send(port->engine_wake_fd))
        return;
    port->woken = sleeping;
    un_count(&port->mine->counters.engine_wakes, 1);
}

void un_port_commit(struct un_port *port)
{
    port->tx_starved = false;
    if (!un_port_pending(port))
        return;
    bool new_commands = UN_COMMIT_COMMANDS(port->committed) != port->command_ring.own;
    port->committed = UN_COMMIT(port->event_ring.own, port->command_ring.own);
    un_publish(&port->mine->commit, port->committed);
    port->released = port->release_ring.own;
    un_publish(&port->mine->releases_produced, port->released);
    un_count(&port->mine->counters.worker_commits, 1);
    if (port->engine_wake_fd < 0)
        return;
    un_fence();
    wake_engine(port, new_commands);
}

/* Did command slots or send frames come free since the last look? The engine may have looked at want_space before that
 * was set, so it is our turn to look, as with events. */
static bool space_came(struct un_port *port)
{
    uint32_t free_slots = un_ring_reserve(&port->command_ring);
    un_assert(un_ring_producer_saw(&port->command_ring, un_observe(&port->published->commands_consumed)));
    bool frames_ran_out = port->tx_free_count == 0;
    if (frames_ran_out)
        look_at_waiting(port, port->tx_waiting_count);
    port->tx_starved = port->tx_free_count == 0;
    return un_ring_reserve(&port->command_ring) != free_slots || (frames_ran_out && !port->tx_starved);
}

bool un_port_sleep(struct un_port *port, bool want_space)
{
    un_store(&port->mine->want_space, want_space);
    un_store(&port->mine->sleeping, 1);
    un_fence();
    if (un_port_peek(port) == 0 && !(want_space && space_came(port))) {
        un_count(&port->mine->counters.worker_sleeps, 1);
        return true;
    }
    un_port_awake(port);
    return false;
}

void un_port_awake(struct un_port *port)
{
    un_store(&port->mine->sleeping, 0);
    un_store(&port->mine->want_space, 0);
    if (port->wake_fd >= 0)
        un_wake_heard(port->wake_fd, &port->heard);
}

const struct un_conn *un_port_conn(const struct un_port *port, uint64_t conn)
{
    uint32_t slot = UN_ID_SLOT(conn);
    if (slot >= port->header->config.conn_max)
        return NULL;
    const struct un_conn *entry = un_conn_at(port->public, slot);
    return un_load(&entry->id) == conn ? entry : NULL;
}
