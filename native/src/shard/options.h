/* Options of the engine, as the supervisor writes them into the segment's header. Keeper, engine and inline worker read
 * them there.
 *
 * A number is one line of the table, and is known by its name: to the supervisor through usnet_segment.h, to the engine
 * as engine->options->NAME. Descriptors are no options: each process has its own, on its command line. Zeros are valid:
 * an engine over the kernel's sockets that accepts nothing.
 *
 * The options are written once, before any other process maps the segment. The keeper checks them before it seals it
 * against writing. */
#ifndef UN_OPTIONS_H
#define UN_OPTIONS_H

#include <stdint.h>

#define UN_QUEUES_MAX 256u /* of a packet device; the kernel's interfaces of several queues have no more */
#define UN_LISTENERS_MAX 64u
#define UN_OWN_ADDRESSES_MAX 15u
#define UN_GATEWAYS_MAX 2u /* one for each family */
#define UN_DURATION_MAX ((uint64_t)INT64_MAX)

enum un_syscall_mode { UN_SYSCALLS_ANY = 0, UN_SYSCALLS_REFUSE = 1, UN_SYSCALLS_KILL = 2 };
enum un_poll_mode { UN_POLL_SLEEP = 0, UN_POLL_ADAPTIVE = 1, UN_POLL_BUSY = 2 };

/* X(name, largest value, meaning). Switches are 0 or 1. */
#define UN_ENGINE_OPTIONS(X)                                                                                           \
    X(connection_limit, UN_CONN_MAX, "connections that may be open; at most conn_max of the segment")                  \
    X(idle_timeout_ns, UN_DURATION_MAX, "a connection that was silent for so long is closed; 0: never")                \
    X(send_timeout_ns, UN_DURATION_MAX, "one whose output made no progress for so long is reset; 0: never")            \
    X(max_connections_per_peer, UN_CONN_MAX, "connections that one peer may have open; 0: any number")                 \
    X(refuse_poisoners, 1, "peers that poison workers again and again are refused for a while")                        \
    X(keep_idle_s, INT16_MAX, "a peer that was silent for so long is probed (keepalive); 0: never")                    \
    X(keep_interval_s, INT16_MAX, "from one probe to the next")                                                        \
    X(keep_count, INT8_MAX, "probes without an answer that a connection ends by")                                      \
    X(linger_ns, UN_DURATION_MAX, "how long a closed connection waits for the peer's FIN, or to take output")          \
    X(poll_mode, UN_POLL_BUSY, "how an idle engine waits: enum un_poll_mode")                                          \
    X(syscalls, UN_SYSCALLS_KILL, "what becomes of system calls that an engine has no use for: enum un_syscall_mode")  \
    X(queues, UN_QUEUES_MAX, "of the packet device, one for each shard; 0: the kernel's sockets")             \
    X(queue, UN_QUEUES_MAX - 1, "of this shard")                                                              \
    X(backlog, UINT16_MAX, "connections that wait to be accepted, for each listener of the stack")                     \
    X(shared, 1, "the interface's addresses are the kernel's, and ours: usnet_kernel.h")                               \
    X(outgoing_low, UINT16_MAX, "ports that connections of the stack leave from, up to outgoing_high; 0: as it likes") \
    X(outgoing_high, UINT16_MAX, "with shared addresses 0 is none at all, since the others are the kernel's")          \
    X(accept_partial_checksum, 1, "the packet device is a link within one host, where checksums may be left out")      \
    X(seed, UINT64_MAX, "of what looks random in the stack, where equal runs are to be equal; 0: drawn")

enum {
#define UN_FIELD(name, most, meaning) +1
    UN_ENGINE_OPTION_COUNT = 0 UN_ENGINE_OPTIONS(UN_FIELD)
#undef UN_FIELD
};

/* Lists of addresses, for a stack of our own. X(name, room) */
#define UN_ADDRESS_OPTIONS(X)                                                                                          \
    X(addresses, UN_OWN_ADDRESSES_MAX)                                                                                 \
    X(gateways, UN_GATEWAYS_MAX)                                                                                       \
    X(listeners, UN_LISTENERS_MAX)

struct un_option_address {
    uint8_t ip[16];  /* IPv4 in its mapped form, as struct un_ip has it */
    uint32_t number; /* the prefix of an address of ours, the port of a listener, 0 of a gateway */
};

struct un_engine_options {
#define UN_FIELD(name, most, meaning) uint64_t name;
    UN_ENGINE_OPTIONS(UN_FIELD)
#undef UN_FIELD
#define UN_FIELD(name, room)                                                                                           \
    struct {                                                                                                           \
        uint32_t count;                                                                                                \
        struct un_option_address at[room];                                                                             \
    } name;
    UN_ADDRESS_OPTIONS(UN_FIELD)
#undef UN_FIELD
};

/* NULL, or a sentence: why these options make no sense for a segment of conn_max connections. */
const char *un_options_fault(const struct un_engine_options *options, uint32_t conn_max);

#endif
