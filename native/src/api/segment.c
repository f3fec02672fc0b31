/* The exported symbols of a shard's shared memory: see usnet_segment.h.
 *
 * A reader keeps its own copy of the header, so that no offset is ever taken from memory that others may write: the
 * inline worker writes the public memory, too. Indices and lengths are clamped where they are used. */
#include "usnet_segment.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "api/counters.h"
#include "base/child.h"
#include "base/privileges.h"
#include "engine/formats.h"
#include "engine/stack_counters.h"
#include "shard/segment.h"

struct usnet_segment {
    const void *public;
    struct un_segment_config config;
    struct un_segment_layout layout;
    struct un_engine_options options;
    const struct un_port_memory *ports[UN_PORTS_MAX]; /* NULL: not mapped */
};

UN_STATIC_ASSERT(sizeof(struct usnet_endpoint) == sizeof(struct un_endpoint), "one struct, two names");
UN_STATIC_ASSERT(offsetof(struct usnet_endpoint, scope) == offsetof(struct un_endpoint, scope),
                 "one struct, two names");

/* Open and close. */

/* The copy is what is checked and used: the original may change between two looks at it. */
static int copy_header(struct usnet_segment *segment, const void *public_memory, uint64_t public_bytes)
{
    struct un_segment_header header;
    struct un_segment_layout layout;
    const char *why;
    if (public_bytes < sizeof header)
        return -EINVAL;
    memcpy(&header, public_memory, sizeof header);
    if (header.magic != UN_SEGMENT_MAGIC || header.hash != un_layout_hash() ||
        header.formats != un_formats_hash())
        return -EINVAL;
    if (un_segment_plan(&header.config, &layout, &why) < 0 || public_bytes < layout.public_bytes)
        return -EINVAL;
    segment->public = public_memory;
    segment->config = header.config;
    segment->layout = layout;
    segment->options = header.options;
    return 0;
}

static int take_ports(struct usnet_segment *segment, const void *const *ports, const uint64_t *port_bytes,
                      uint32_t port_count)
{
    if (port_count > un_port_count(&segment->config))
        return -EINVAL;
    for (uint32_t port = 0; port < port_count; port++) {
        if (ports[port] && port_bytes[port] < segment->layout.port_bytes)
            return -EINVAL;
        segment->ports[port] = ports[port];
    }
    return 0;
}

int usnet_segment_open(struct usnet_segment **segment, const void *public_memory, uint64_t public_bytes,
                       const void *const *ports, const uint64_t *port_bytes, uint32_t port_count)
{
    struct usnet_segment *opened = calloc(1, sizeof *opened);
    if (!opened)
        return -ENOMEM;
    int status = copy_header(opened, public_memory, public_bytes);
    if (status == 0)
        status = take_ports(opened, ports, port_bytes, port_count);
    if (status < 0) {
        free(opened);
        return status;
    }
    *segment = opened;
    return 0;
}

void usnet_segment_close(struct usnet_segment *segment)
{
    free(segment);
}

void usnet_segment_numbers(const struct usnet_segment *segment, uint32_t *numbers)
{
    memcpy(numbers, &segment->config, sizeof segment->config);
}

int usnet_segment_options(const struct usnet_segment *segment, uint64_t *values, uint32_t max)
{
    uint32_t count = max < UN_ENGINE_OPTION_COUNT ? max : UN_ENGINE_OPTION_COUNT;
    memcpy(values, &segment->options, count * sizeof *values); /* the numbers come first */
    return (int)count;
}

/* Where things lie, by the private copy of the layout. */

static const struct un_engine_public *engine_public(const struct usnet_segment *segment)
{
    return un_at(segment->public, segment->layout.engine.at);
}

static const struct un_port_public *port_public(const struct usnet_segment *segment, uint32_t port)
{
    return (const struct un_port_public *)un_at(segment->public, segment->layout.ports.at) + port;
}

/* Of a port where nobody sat yet no page is read: that would make it one that is used. */
static const struct un_port_memory *port_memory(const struct usnet_segment *segment, uint32_t port)
{
    static const struct un_port_memory zeros;
    const struct un_port_memory *memory = segment->ports[port];
    return memory && un_load(&port_public(segment, port)->serial) ? memory : &zeros;
}

/* Counters. */

static const struct un_api_counter engine_counters[] = {UN_ENGINE_COUNTERS(UN_API_COUNTER)};
static const struct un_api_counter seat_counters[] = {UN_WORKER_COUNTERS(UN_API_COUNTER)};

/* As they lie in struct un_published_counters, but for the reason that is none. */
#define PREFIXED(name, text) {PREFIX #name, text},
static const struct un_api_counter stack_counters[] = {
#define PREFIX "ip_"
    UN_STACK_COUNTERS(PREFIXED)
#undef PREFIX
#define PREFIX "tcp_"
    UN_TCP_COUNTERS(PREFIXED)
#undef PREFIX
#define PREFIX "device_"
    UN_DEVICE_COUNTERS(PREFIXED)
#undef PREFIX
#define PREFIX "drop_"
    UN_DROPS(PREFIXED)
#undef PREFIX
};
#undef PREFIXED

/* The counters of a struct are its first members, so that they can be read as an array. */
UN_STATIC_ASSERT(offsetof(struct un_engine_counters, closed) == sizeof(un_shared64) * UN_API_LENGTH(engine_counters),
                 "counters come first, without gaps");
UN_STATIC_ASSERT(offsetof(struct un_worker_counters, wait) == sizeof(un_shared64) * UN_API_LENGTH(seat_counters),
                 "counters come first, without gaps");

UN_STATIC_ASSERT(sizeof(struct un_published_counters) == sizeof(uint64_t) * (UN_API_LENGTH(stack_counters) + 1),
                 "and the one more");

static const struct counter_table {
    const struct un_api_counter *counters;
    uint32_t count;
} counter_tables[] = {
    [USNET_COUNTER_ENGINE] = {engine_counters, UN_API_LENGTH(engine_counters)},
    [USNET_COUNTER_SEAT] = {seat_counters, UN_API_LENGTH(seat_counters)},
    [USNET_COUNTER_STACK] = {stack_counters, UN_API_LENGTH(stack_counters)},
};

static const struct un_api_counter *counter_at(enum usnet_counter_kind kind, uint32_t index)
{
    return index < usnet_counter_count(kind) ? &counter_tables[kind].counters[index] : NULL;
}

uint32_t usnet_counter_count(enum usnet_counter_kind kind)
{
    return (uint32_t)kind < UN_API_LENGTH(counter_tables) ? counter_tables[kind].count : 0;
}

const char *usnet_counter_name(enum usnet_counter_kind kind, uint32_t index)
{
    const struct un_api_counter *counter = counter_at(kind, index);
    return counter ? counter->name : NULL;
}

const char *usnet_counter_help(enum usnet_counter_kind kind, uint32_t index)
{
    const struct un_api_counter *counter = counter_at(kind, index);
    return counter ? counter->help : NULL;
}

static int read_words(const un_shared64 *words, uint32_t count, uint64_t *values, uint32_t max)
{
    uint32_t read = count < max ? count : max;
    for (uint32_t i = 0; i < read; i++)
        values[i] = un_load(&words[i]);
    return (int)read;
}

int usnet_engine_counters(const struct usnet_segment *segment, uint64_t *values, uint32_t max)
{
    const un_shared64 *words = (const un_shared64 *)&engine_public(segment)->counters;
    return read_words(words, UN_API_LENGTH(engine_counters), values, max);
}

static const un_shared64 *worker_counters(const struct usnet_segment *segment, uint32_t port)
{
    return (const un_shared64 *)&port_memory(segment, port)->counters;
}

int usnet_port_counters(const struct usnet_segment *segment, uint32_t port, uint64_t *values, uint32_t max)
{
    if (port >= un_port_count(&segment->config))
        return -EINVAL;
    return read_words(worker_counters(segment, port), UN_API_LENGTH(seat_counters), values, max);
}

/* Sums over both ports grow only, as each of them does. */
static int add_words(const un_shared64 *words, const un_shared64 *more, uint32_t count, uint64_t *values, uint32_t max)
{
    int read = read_words(words, count, values, max);
    for (int i = 0; i < read; i++)
        values[i] += un_load(&more[i]);
    return read;
}

int usnet_seat_counters(const struct usnet_segment *segment, uint32_t seat, uint64_t *values, uint32_t max)
{
    if (seat >= segment->config.seats)
        return -EINVAL;
    uint32_t port = un_port_of_seat(seat, 0);
    return add_words(worker_counters(segment, port), worker_counters(segment, un_port_beside(port)),
                     UN_API_LENGTH(seat_counters), values, max);
}

int usnet_segment_stack_counters(const struct usnet_segment *segment, uint64_t *values, uint32_t max)
{
    const un_shared64 *words = un_at(segment->public, segment->layout.stack.at);
    const uint32_t before = offsetof(struct un_published_counters, drops) / sizeof(uint64_t);
    int read = read_words(words, before, values, max);
    if (max > before)
        read += read_words(words + before + 1, UN_DROP_COUNT - 1, values + before, max - before);
    return read;
}

int usnet_engine_closed(const struct usnet_segment *segment, uint64_t *values, uint32_t max)
{
    return read_words(engine_public(segment)->counters.closed, UN_REASONS, values, max);
}

int usnet_seat_wait(const struct usnet_segment *segment, uint32_t seat, uint64_t *values, uint32_t max)
{
    if (seat >= segment->config.seats)
        return -EINVAL;
    uint32_t port = un_port_of_seat(seat, 0);
    return add_words(port_memory(segment, port)->counters.wait,
                     port_memory(segment, un_port_beside(port))->counters.wait, UN_WAIT_BUCKETS, values, max);
}

/* Status. */

void usnet_engine_status(const struct usnet_segment *segment, struct usnet_engine_status *status)
{
    const struct un_engine_public *engine = engine_public(segment);
    *status = (struct usnet_engine_status){
        .active = un_load(&engine->counters.active),
        .pid = un_load(&engine->counters.engine_pid),
        .epoch = un_load(&engine->counters.engine_epoch),
        .sleeping = UN_SLEEP_MODE(un_load(&engine->sleeping)),
    };
    UN_STATIC_ASSERT(sizeof status->version == UN_VERSION_BYTES, "as the engine has it");
    memcpy(status->version, engine->version, sizeof status->version - 1);
}

static uint32_t waiting(uint32_t produced, uint32_t consumed, uint64_t slots)
{
    uint32_t count = produced - consumed;
    return count <= slots ? count : (uint32_t)slots;
}

int usnet_port_status(const struct usnet_segment *segment, uint32_t port, struct usnet_seat_status *status)
{
    if (port >= un_port_count(&segment->config))
        return -EINVAL;
    const struct un_port_public *published = port_public(segment, port);
    const struct un_port_memory *mine = port_memory(segment, port);
    /* Consumed before produced: both move on while we look, and a ring must not look emptier than empty. */
    uint32_t commands_consumed = un_observe(&published->commands_consumed);
    uint32_t releases_consumed = un_observe(&published->releases_consumed);
    uint64_t commit = un_observe(&mine->commit);
    uint32_t events_produced = un_observe(&published->events_produced);
    *status = (struct usnet_seat_status){
        .serial = un_load(&published->serial),
        .attached = un_load(&published->attached),
        .current = un_load(&published->current),
        .bad = un_load(&published->bad) != 0,
        .tx_nodes_free = un_load(&published->tx_nodes_free),
        .connections = un_load(&published->connections),
        .rx_frames_free = un_load(&published->rx_frames_free),
        .events_produced = events_produced,
        .events_consumed = UN_COMMIT_EVENTS(commit),
        .commands_produced = UN_COMMIT_COMMANDS(commit),
        .commands_consumed = commands_consumed,
        .events_waiting = waiting(events_produced, UN_COMMIT_EVENTS(commit), segment->config.event_slots),
        .commands_waiting = waiting(UN_COMMIT_COMMANDS(commit), commands_consumed, segment->config.command_slots),
        .releases_waiting =
            waiting(un_load(&mine->releases_produced), releases_consumed, segment->layout.release_ring.items),
        .sleeping = un_load(&mine->sleeping) != 0,
        .handling = un_load(&mine->handling),
        .held_frames = un_load(&mine->counters.held_frames),
        .overflow_bytes = un_load(&mine->counters.overflow_bytes),
        .inbox_held = un_load(&mine->counters.inbox_held),
        .objects = un_load(&mine->counters.objects),
    };
    return 0;
}

int usnet_seat_status(const struct usnet_segment *segment, uint32_t seat, struct usnet_seat_status *status)
{
    struct usnet_seat_status other;
    if (seat >= segment->config.seats)
        return -EINVAL;
    uint32_t port = un_port_of_seat(seat, un_load(&port_public(segment, un_port_of_seat(seat, 1))->current) != 0);
    usnet_port_status(segment, port, status);
    usnet_port_status(segment, un_port_beside(port), &other);
    status->connections += other.connections;
    status->events_waiting += other.events_waiting;
    status->commands_waiting += other.commands_waiting;
    status->releases_waiting += other.releases_waiting;
    status->held_frames += other.held_frames;
    status->overflow_bytes += other.overflow_bytes;
    status->inbox_held += other.inbox_held;
    status->objects += other.objects;
    return 0;
}

/* Names. */

const char *usnet_reason_name(uint32_t reason)
{
    static const char *const names[UN_REASONS] = {
        [UN_REASON_NONE] = "none",
        [UN_REASON_PEER] = "peer",
        [UN_REASON_LOCAL] = "local",
        [UN_REASON_ABORTED] = "aborted",
        [UN_REASON_RESET] = "reset",
        [UN_REASON_IDLE] = "idle",
        [UN_REASON_ERROR] = "error",
        [UN_REASON_WORKER_LOST] = "worker_lost",
        [UN_REASON_NETWORK_LOST] = "network_lost",
        [UN_REASON_POISONED] = "poisoned",
        [UN_REASON_SHUTDOWN] = "shutdown",
        [UN_REASON_SYSTEM] = "system",
        [UN_REASON_STALLED] = "stalled",
    };
    return reason < UN_REASONS ? names[reason] : NULL;
}

const char *usnet_connection_state_name(uint32_t state)
{
    static const char *const names[] = {
        [UN_CONN_FREE] = "free",
        [UN_CONN_OPEN] = "open",
        [UN_CONN_CLOSING] = "closing",
        [UN_CONN_LINGER] = "linger",
        [UN_CONN_CLOSED] = "closed",
    };
    return state < UN_API_LENGTH(names) ? names[state] : NULL;
}

const char *usnet_connection_flag_name(uint32_t bit)
{
    static const char *const names[] = {"eof_in", "eof_out", "paused", "blocked"};
    UN_STATIC_ASSERT(UN_CONN_BLOCKED == 1 << 3, "names are in the order of the bits");
    return bit < UN_API_LENGTH(names) ? names[bit] : NULL;
}

/* Connections. */

static struct usnet_endpoint outer_endpoint(const struct un_endpoint *endpoint)
{
    struct usnet_endpoint outer;
    memcpy(&outer, endpoint, sizeof outer);
    return outer;
}

static bool copy_connection(const struct usnet_segment *segment, uint32_t slot, struct usnet_connection *connection)
{
    const struct un_conn *conn = un_item(segment->public, &segment->layout.conns, 0, slot);
    uint64_t id = un_observe(&conn->id);
    if (id == 0 || conn->state == UN_CONN_FREE)
        return false;
    *connection = (struct usnet_connection){
        .id = id,
        .bytes_in = un_load(&conn->bytes_in),
        .bytes_queued = un_load(&conn->bytes_queued),
        .bytes_out = un_load(&conn->bytes_out),
        .opened_ns = conn->opened_ns,
        .active_ns = un_load(&conn->active_ns),
        .shard = segment->config.shard,
        .slot = slot,
        .seat = (uint16_t)un_seat_of(conn->port),
        .port = conn->port,
        .state = conn->state,
        .flags = conn->flags,
        .state_length = conn->state_length,
        .peer = outer_endpoint(&conn->peer),
        .local = outer_endpoint(&conn->local),
    };
    return un_observe(&conn->id) == id; /* else the slot changed hands meanwhile */
}

int usnet_connection_list(const struct usnet_segment *segment, uint32_t *next_slot,
                          struct usnet_connection *connections, uint32_t max)
{
    uint32_t count = 0;
    while (*next_slot < segment->config.conn_max && count < max) {
        count += copy_connection(segment, *next_slot, &connections[count]);
        *next_slot += 1;
    }
    return (int)count;
}

/* Quarantine. */

int usnet_quarantine_read(const struct usnet_segment *segment, uint32_t port, struct usnet_quarantine *record,
                          uint8_t *bytes, uint32_t max)
{
    if (port >= un_port_count(&segment->config))
        return -EINVAL;
    if (!un_load(&port_public(segment, port)->serial))
        return 0;
    const struct un_quarantine *kept = un_item(segment->public, &segment->layout.quarantines, port, 0);
    if (un_observe(&kept->valid) == 0)
        return 0;
    uint32_t length = kept->length;
    if (length > segment->config.rx_frame_bytes)
        length = segment->config.rx_frame_bytes;
    if (length > max)
        length = max;
    *record = (struct usnet_quarantine){
        .conn = kept->conn, .event_type = kept->event_type, .length = length, .peer = outer_endpoint(&kept->peer)};
    memcpy(bytes, kept + 1, length);
    return 1;
}

/* Processes. */

int usnet_die_with_parent(int signal, int parent_pid)
{
    return un_child_die_with_parent(signal, parent_pid);
}

int usnet_drop_privileges(const struct usnet_privileges *privileges, int signal, int parent_pid)
{
    const struct un_privileges inner = {
        .change_user = privileges->change_user,
        .uid = privileges->uid,
        .gid = privileges->gid,
        .groups = privileges->groups,
        .group_count = privileges->group_count,
        .drop_capabilities = privileges->drop_capabilities,
        .debuggable = privileges->debuggable,
    };
    return un_privileges_drop(&inner, signal, parent_pid);
}

int usnet_set_dumpable(int dumpable)
{
    int before = prctl(PR_GET_DUMPABLE);
    return prctl(PR_SET_DUMPABLE, dumpable) < 0 ? -errno : before == 1;
}
