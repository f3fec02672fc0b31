/* The public C API of a shard's shared memory: what a supervisor, a tool or a test needs of it.
 *
 * The part between the two `cffi` marks is read twice, as in usnet.h.
 *
 * Memory. A segment (native/src/shard/segment.h) is one public memory per shard and one per port. Seat s has two ports,
 * numbers 2 * s and 2 * s + 1: one is current, at the other one a worker leaves, or nobody sits.
 * This API formats fresh public memory once and reads from then on. A reader takes a private copy of the header when it
 * opens a segment and believes no offset, length or index that it finds in shared memory later: whatever a worker
 * writes into the memory of its port, a read here returns some numbers and never touches memory outside the two. The
 * memories must stay mapped and keep their size while the segment is open (seal the memfds against shrinking).
 *
 * Every function returns 0 or a count, or a negative errno. None is safe against a concurrent usnet_segment_close;
 * otherwise all may be called from
 * several threads. */
#ifndef USNET_SEGMENT_H
#define USNET_SEGMENT_H

#include <stdint.h>

#include "usnet.h"

#ifdef __cplusplus
extern "C" {
#endif

/* cffi: begin */

/* How large everything is in a segment, the same for every port of a shard: a number for each name, in this order
 * (native/src/shard/layout.h). Static strings, NULL past the last one. */
uint32_t usnet_segment_number_count(void);
const char *usnet_segment_number_name(uint32_t index);

struct usnet_segment_sizes {
    uint64_t public_bytes;
    uint64_t port_bytes; /* of the memory of each port */
};

/* Sizes of the two memories that a configuration asks for. -EINVAL with *why a sentence (static text). */
int usnet_segment_plan(const uint32_t *numbers, struct usnet_segment_sizes *sizes, const char **why);

/* What the layout is made of, for tests, tools and documentation: fields of structs, and regions of a segment of some
 * size. 0, or -ENOENT past the last one. */
struct usnet_layout_field {
    const char *of; /* the struct */
    const char *name;
    uint32_t offset;
    uint32_t bytes;
};

struct usnet_layout_region {
    const char *name;
    const char *memory; /* public, or port: one for each port */
    const char *writer;
    const char *parts; /* how many, as it stands in the table; so are items and item */
    const char *items;
    const char *item;
    const char *holds;
    uint64_t at; /* of part p and item i: at + p * part_bytes + i * item_bytes */
    uint64_t part_bytes;
    uint64_t item_bytes;
    uint64_t item_count; /* of a part */
};

int usnet_layout_field(uint32_t index, struct usnet_layout_field *field);
int usnet_layout_region(const uint32_t *numbers, uint32_t index, struct usnet_layout_region *region);

/* A number over all of it: a segment is read only by who computes the same. */
uint64_t usnet_layout_hash(void);

/* What the engine is asked to do: numbers, each known by its name (native/src/shard/options.h). A static string; NULL
 * past the last one. Names that end in _ns are durations. */
uint32_t usnet_option_count(void);
const char *usnet_option_name(uint32_t index);

enum usnet_poll_mode { USNET_POLL_SLEEP, USNET_POLL_ADAPTIVE, USNET_POLL_BUSY }; /* the option poll_mode */
enum usnet_syscall_mode { USNET_SYSCALLS_ANY, USNET_SYSCALLS_REFUSE, USNET_SYSCALLS_KILL }; /* the option syscalls */

/* Addresses of a stack of our own are options, too. */
enum usnet_address_kind { USNET_OWN_ADDRESS, USNET_GATEWAY, USNET_LISTENER };

struct usnet_address {
    uint32_t kind;   /* enum usnet_address_kind */
    uint32_t number; /* the prefix of an address of ours, the port of a listener, 0 of a gateway */
    uint8_t ip[16];  /* IPv4 in its mapped form ::ffff:a.b.c.d */
};

/* Write the header into fresh, zeroed public memory of public_bytes: `options` in the order of their numbers, as many
 * as there are, and `address_count` addresses. -EINVAL with *why a sentence (static text). */
int usnet_segment_format(void *public_memory, uint64_t public_bytes, const uint32_t *numbers,
                         const uint64_t *options, const struct usnet_address *addresses, uint32_t address_count,
                         const char **why);

/* 0, or -EINVAL with *why a sentence: this is no segment of this version, or it does not fit into public_bytes. */
int usnet_segment_check(const void *public_memory, uint64_t public_bytes, const char **why);

/* Sizes of the memories that a stack of our own has besides: the arena of what it knows, and the frames of packets. */
struct usnet_stack_sizes {
    uint64_t arena_bytes;
    uint64_t frames_bytes;
};

/* For a segment that was formatted. -EINVAL: it has not to do with such a stack, or is none (usnet_segment_check). */
int usnet_segment_stack(const void *public_memory, uint64_t public_bytes, struct usnet_stack_sizes *sizes);

/* Bytes of the frames alone, for an engine of so many connections, before there is a segment. */
uint64_t usnet_segment_frames(uint64_t connection_limit);

/* A segment opened for reading. */
struct usnet_segment;

/* Open mapped memories: ports[i] is the memory of port i, port_bytes[i] its size; a NULL one is read as zeros.
 * port_count may not exceed the ports of the segment. -EINVAL or -ENOMEM. */
int usnet_segment_open(struct usnet_segment **segment, const void *public_memory, uint64_t public_bytes,
                       const void *const *ports, const uint64_t *port_bytes, uint32_t port_count);
void usnet_segment_close(struct usnet_segment *segment);

/* The numbers that the segment was formatted with, and the first `max` of its options; returns how many. */
void usnet_segment_numbers(const struct usnet_segment *segment, uint32_t *numbers);
int usnet_segment_options(const struct usnet_segment *segment, uint64_t *values, uint32_t max);

/* Counters. They only grow (modulo 2^64) while the segment lives; each has one writer. */
enum usnet_counter_kind {
    USNET_COUNTER_ENGINE, /* written by the network process */
    USNET_COUNTER_SEAT, /* written by the worker: hearsay */
    USNET_COUNTER_STACK, /* written by the network process when a stack of our own carries the connections, else 0;
                          * names begin with ip_, tcp_, device_ or drop_ */
};

/* How many counters of a kind there are, and their name and help text: static strings, NULL past the last one. */
uint32_t usnet_counter_count(enum usnet_counter_kind kind);
const char *usnet_counter_name(enum usnet_counter_kind kind, uint32_t index);
const char *usnet_counter_help(enum usnet_counter_kind kind, uint32_t index);

/* Read the first `max` counters in index order; returns how many were read. -EINVAL: no such seat or port. Those of a
 * seat are the sums of its ports'. */
int usnet_engine_counters(const struct usnet_segment *segment, uint64_t *values, uint32_t max);
int usnet_seat_counters(const struct usnet_segment *segment, uint32_t seat, uint64_t *values, uint32_t max);
int usnet_port_counters(const struct usnet_segment *segment, uint32_t port, uint64_t *values, uint32_t max);
int usnet_segment_stack_counters(const struct usnet_segment *segment, uint64_t *values, uint32_t max);

/* Connections closed, by reason number; the name of a reason, NULL where the number has no meaning. */
int usnet_engine_closed(const struct usnet_segment *segment, uint64_t *values, uint32_t max);
const char *usnet_reason_name(uint32_t reason);

/* Events by the time they waited in the ring: bucket i counts waits of less than 2^i microseconds that bucket i - 1
 * does not count; the last one counts everything longer. */
int usnet_seat_wait(const struct usnet_segment *segment, uint32_t seat, uint64_t *values, uint32_t max);

struct usnet_engine_status {
    uint64_t active; /* connections */
    uint64_t pid;
    uint64_t epoch;    /* how many engines this segment has had */
    uint32_t sleeping; /* 0 awake, 1 woken by commands, 2 woken by anything */
    uint32_t reserved;
    char version[32]; /* of the package that the engine is of; empty inline */
};

void usnet_engine_status(const struct usnet_segment *segment, struct usnet_engine_status *status);

struct usnet_seat_status {
    /* as the engine says */
    uint32_t serial; /* of the worker attached; 0: none yet */
    uint32_t attached;
    uint32_t current; /* new connections come here */
    uint32_t bad;     /* the worker wrote nonsense and is to be replaced */
    uint32_t tx_nodes_free;
    uint32_t reserved;
    uint64_t connections;
    uint64_t rx_frames_free;
    /* from indices of both sides; a number that cannot be is shown as a full ring */
    uint32_t events_produced;
    uint32_t events_consumed;
    uint32_t commands_produced;
    uint32_t commands_consumed;
    uint32_t events_waiting;
    uint32_t commands_waiting;
    uint32_t releases_waiting;
    /* as the worker says */
    uint32_t sleeping;
    uint64_t handling; /* not 0 while a handler is being called; another number for each call */
    uint64_t held_frames;
    uint64_t overflow_bytes;
    uint64_t inbox_held; /* bytes of memory that input takes while callbacks are slow */
    uint64_t objects;
};

/* The status of a port; that of a seat is its current port's, with what is counted summed over both. */
int usnet_port_status(const struct usnet_segment *segment, uint32_t port, struct usnet_seat_status *status);
int usnet_seat_status(const struct usnet_segment *segment, uint32_t seat, struct usnet_seat_status *status);

struct usnet_connection {
    uint64_t id; /* shard 10 bits, slot 22 bits, generation 32 bits */
    uint64_t bytes_in;
    uint64_t bytes_queued; /* accepted from the worker */
    uint64_t bytes_out;    /* taken by the transport */
    uint64_t opened_ns;    /* CLOCK_MONOTONIC */
    uint64_t active_ns;    /* last receive or send, coarse */
    uint32_t shard;
    uint32_t slot;
    uint16_t seat;
    uint16_t port;
    uint8_t state; /* usnet_connection_state_name */
    uint8_t flags; /* bits, usnet_connection_flag_name */
    uint32_t state_length;
    struct usnet_endpoint peer;  /* family 1: a unix socket */
    struct usnet_endpoint local;
};

/* Copy out up to `max` connections in use, from slot *next_slot on, and set *next_slot to go on from; fewer than max
 * were the last. A connection that changes while it is copied may show a mixture of two moments, never another's id. */
int usnet_connection_list(const struct usnet_segment *segment, uint32_t *next_slot,
                          struct usnet_connection *connections, uint32_t max);

/* "open", "closing", …; NULL where the number has no meaning. Names of flag bits, bit 0 first. */
const char *usnet_connection_state_name(uint32_t state);
const char *usnet_connection_flag_name(uint32_t bit);

/* What an engine says when it is looked at (native/src/engine/look.h): entries of one word for each field. A static
 * string; NULL past the last one. */
enum usnet_look_kind { USNET_LOOK_CONNS, USNET_LOOK_NEIGHBOURS, USNET_LOOK_ROUTES, USNET_LOOK_ADDRESSES };
enum usnet_look_room { USNET_LOOK_ENTRIES = 128 }; /* of one answer, at most */
const char *usnet_look_field_name(enum usnet_look_kind kind, uint32_t index);

/* What numbers in some fields mean: phase of a connection, state of a neighbour, origin of a route, state of an
 * address. NULL where the number has no meaning. */
enum usnet_look_value {
    USNET_LOOK_PHASES,
    USNET_LOOK_NEIGHBOUR_STATES,
    USNET_LOOK_ORIGINS,
    USNET_LOOK_ADDRESS_STATES,
};
const char *usnet_look_value_name(enum usnet_look_value of, uint32_t number);

struct usnet_quarantine {
    uint64_t conn;
    uint32_t event_type;
    uint32_t length; /* bytes kept */
    struct usnet_endpoint peer;
};

/* 1 and the record with its bytes (up to `max` of them) when the port's quarantine holds an event, else 0. */
int usnet_quarantine_read(const struct usnet_segment *segment, uint32_t port, struct usnet_quarantine *record,
                          uint8_t *bytes, uint32_t max);

/* Let the kernel send `signal` to this process when the thread that spawned it ends. -ESRCH: parent_pid is gone
 * already, so the signal will never come; the caller must leave. */
int usnet_die_with_parent(int signal, int parent_pid);

/* What a process gives up for good: native/src/base/privileges.h. Switches are 0 or 1. */
struct usnet_privileges {
    int change_user; /* to the following; else they stay what they are */
    uint32_t uid;
    uint32_t gid;
    const uint32_t *groups; /* besides gid */
    uint32_t group_count;
    int drop_capabilities; /* all, and no program that it executes gets any */
    int debuggable;        /* open to others of the same user, as an ordinary process is */
};

/* Keep to `privileges` from now on, and let the kernel send `signal` as usnet_die_with_parent does. Called while the
 * process has one thread. */
int usnet_drop_privileges(const struct usnet_privileges *privileges, int signal, int parent_pid);

/* 1: others of the same user may open the memory and descriptors of this process. 0: they may not. What it was. */
int usnet_set_dumpable(int dumpable);

/* cffi: end */

#ifdef __cplusplus
}
#endif

#endif
