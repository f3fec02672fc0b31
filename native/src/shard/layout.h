/* The layout of a shard's shared memory, as tables: the fields of every struct that crosses a process, and the regions
 * of the memories. A new one is a line here.
 *
 * What derives from them: the structs (segment.h), where each region lies (un_segment_plan), the hash by which readers
 * notice that a segment has another layout (un_layout_hash), what Python sees (usnet_segment.h), and the drawing in
 * ARCHITECTURE.md (make docs).
 *
 * Fields of struct S are X(S, type, name, count, line): count is empty or [N]; line is UN_LINE where a cache line
 * begins. */
#ifndef UN_LAYOUT_H
#define UN_LAYOUT_H

#include "base/barrier.h"

#define UN_LINE __attribute__((aligned(UN_CACHE_LINE)))

/* An end point. IPv4 uses the first four bytes of ip; a v4-mapped IPv6 address is stored as IPv4. */
#define UN_ENDPOINT_FIELDS(X, S)                                                                                       \
    X(S, uint8_t, ip, [16], )                                                                                          \
    X(S, uint16_t, port, , ) /* host order */                                                                          \
    X(S, uint16_t, family, , )                                                                                         \
    X(S, uint32_t, scope, , ) /* IPv6 zone index, else 0 */

/* Descriptors of both rings: half a cache line. */
#define UN_EVENT_FIELDS(X, S)                                                                                          \
    X(S, uint8_t, type, , )                                                                                            \
    X(S, uint8_t, reason, , ) /* of CLOSE */                                                                           \
    X(S, uint16_t, reserved, , )                                                                                       \
    X(S, uint32_t, length, , ) /* of DATA, bytes */                                                                    \
    X(S, uint64_t, conn, , )                                                                                           \
    X(S, uint32_t, frame, , )   /* of DATA: receive frame of this port */                                              \
    X(S, uint32_t, offset, , )  /* of DATA: first byte within the frame */                                             \
    X(S, uint64_t, time_ns, , ) /* CLOCK_MONOTONIC when it was put in the ring */

#define UN_COMMAND_FIELDS(X, S)                                                                                        \
    X(S, uint8_t, op, , )                                                                                              \
    X(S, uint8_t, reserved, [3], )                                                                                     \
    X(S, uint32_t, length, , ) /* of SEND and STATE, bytes */                                                          \
    X(S, uint64_t, conn, , )                                                                                           \
    X(S, uint32_t, frame, , ) /* of SEND and STATE: send frame of this port */                                         \
    X(S, uint32_t, offset, , )                                                                                         \
    X(S, uint64_t, arg, , )

/* An entry of the connection table, followed by its state blob. */
#define UN_CONN_FIELDS(X, S)                                                                                           \
    X(S, un_shared64, id, , ) /* 0 while the slot was never used */                                                    \
    X(S, uint8_t, state, , )                                                                                           \
    X(S, uint8_t, flags, , )                                                                                           \
    X(S, uint16_t, port, , ) /* where its events go and its commands come from */                                      \
    X(S, uint32_t, state_length, , ) /* bytes of the blob in force */                                                  \
    X(S, un_shared64, bytes_in, , )                                                                                    \
    X(S, un_shared64, bytes_queued, , ) /* accepted from the worker's commands */                                      \
    X(S, un_shared64, bytes_out, , )    /* taken by the transport */                                                   \
    X(S, uint64_t, opened_ns, , )                                                                                      \
    X(S, un_shared64, active_ns, , ) /* last receive or send; coarse */                                                \
    X(S, struct un_endpoint, peer, , )                                                                                 \
    X(S, struct un_endpoint, local, , )                                                                                \
    X(S, uint64_t, reserved, [3], )

/* What counters have besides those that UN_ENGINE_COUNTERS and UN_WORKER_COUNTERS name (segment.h). */
#define UN_ENGINE_GAUGE_FIELDS(X, S)                                                                                   \
    X(S, un_shared64, closed, [UN_REASONS], ) /* by enum un_reason */                                                  \
    X(S, un_shared64, active, , )             /* connections not FREE or CLOSED */                                     \
    X(S, un_shared64, engine_pid, , )                                                                                  \
    X(S, un_shared64, engine_epoch, , ) /* how many engines this segment has had */

#define UN_WORKER_GAUGE_FIELDS(X, S)                                                                                   \
    X(S, un_shared64, wait, [UN_WAIT_BUCKETS], ) /* last bucket: everything longer */                                  \
    X(S, un_shared64, held_frames, , )           /* slices held by views */                                            \
    X(S, un_shared64, overflow_bytes, , )        /* output waiting in worker memory */                                 \
    X(S, un_shared64, inbox_held, , )            /* worker memory that input takes while callbacks are slow */         \
    X(S, un_shared64, objects, , )               /* Connection objects alive */

/* What the engine tells every worker. */
#define UN_ENGINE_PUBLIC_FIELDS(X, S)                                                                                  \
    X(S, un_shared64, sleeping, , UN_LINE) /* UN_SLEEP_MODE, which sleep */                                            \
    X(S, char, version, [UN_VERSION_BYTES], UN_LINE) /* of the package that the engine is of; zero ends it */          \
    X(S, struct un_engine_counters, counters, , )

/* What the engine tells one port; each index on a line of its own. */
#define UN_PORT_PUBLIC_FIELDS(X, S)                                                                                    \
    X(S, un_shared32, events_produced, , UN_LINE)                                                                      \
    X(S, un_shared32, commands_consumed, , UN_LINE)                                                                    \
    X(S, un_shared32, releases_consumed, , )                                                                           \
    X(S, un_shared32, tx_nodes_free, , )     /* send descriptors the engine can still queue for this port */           \
    X(S, un_shared32, serial, , UN_LINE)     /* of the worker attached; 0: none */                                     \
    X(S, un_shared32, attached, , )          /* 1 between attach and loss */                                           \
    X(S, un_shared32, current, , )           /* 1: its seat's new connections come here */                             \
    X(S, un_shared32, reserved, , )                                                                                    \
    X(S, un_shared64, rx_frames_free, , )    /* gauge */                                                               \
    X(S, un_shared64, connections, , )       /* gauge */                                                               \
    X(S, un_shared64, bad, , )               /* 1: this worker wrote nonsense; it is to be replaced */

/* What the worker at a port tells the engine. */
#define UN_PORT_MEMORY_FIELDS(X, S)                                                                                    \
    X(S, un_shared64, commit, , UN_LINE)            /* UN_COMMIT(events consumed, commands produced) */                \
    X(S, un_shared32, sleeping, , UN_LINE)          /* 1: wake me when events come */                                  \
    X(S, un_shared32, want_space, , )               /* 1: wake me when commands were consumed */                       \
    X(S, un_shared32, releases_produced, , UN_LINE)                                                                    \
    X(S, un_shared64, handling, , UN_LINE)          /* UN_HANDLING, UN_HANDLING_TASK, or 0 */                          \
    X(S, struct un_worker_counters, counters, , )

/* A send frame as the engine accounts for it: the worker may fill it again when both are equal to the number of
 * descriptors it issued. Both only grow. */
#define UN_TX_ACCOUNT_FIELDS(X, S)                                                                                     \
    X(S, un_shared32, queued, , ) /* descriptors taken from the command ring */                                        \
    X(S, un_shared32, done, , )   /* descriptors completed */

/* A poisoned event, kept for the supervisor until the port's next worker attaches. Its bytes follow. */
#define UN_QUARANTINE_FIELDS(X, S)                                                                                     \
    X(S, un_shared32, valid, , )                                                                                       \
    X(S, uint32_t, length, , ) /* bytes kept, at most the receive frame */                                             \
    X(S, uint32_t, event_type, , )                                                                                     \
    X(S, uint32_t, reserved, , )                                                                                       \
    X(S, uint64_t, conn, , )                                                                                           \
    X(S, struct un_endpoint, peer, , )

/* How large everything is; the same numbers for every port of a shard. */
#define UN_SEGMENT_CONFIG_FIELDS(X, S)                                                                                 \
    X(S, uint32_t, shard, , )                                                                                          \
    X(S, uint32_t, seats, , )                                                                                          \
    X(S, uint32_t, conn_max, , )                                                                                       \
    X(S, uint32_t, state_bytes, , )    /* of the state blob of a connection; multiple of 64 */                         \
    X(S, uint32_t, event_slots, , )    /* power of two; the release ring has four times as many */                     \
    X(S, uint32_t, command_slots, , )  /* power of two */                                                              \
    X(S, uint32_t, rx_frame_bytes, , ) /* power of two */                                                              \
    X(S, uint32_t, rx_frames, , )                                                                                      \
    X(S, uint32_t, tx_frame_bytes, , ) /* power of two */                                                              \
    X(S, uint32_t, tx_frames, , )                                                                                      \
    X(S, uint32_t, rx_budget, , )  /* bytes of one connection that may wait unconsumed */                              \
    X(S, uint32_t, tx_budget, , )  /* bytes of one connection that may wait in send frames */                          \
    X(S, uint32_t, hold_max, , )   /* receive slices a worker may keep beyond its callback before it gets copies */    \
    X(S, uint32_t, buffer_mib, , ) /* MiB of output, and as many of input, that may wait in a worker's own memory */

/* Where a region lies: of part p and item i, at + p * part_bytes + i * item_bytes. */
#define UN_REGION_FIELDS(X, S)                                                                                         \
    X(S, uint64_t, at, , )                                                                                             \
    X(S, uint64_t, part_bytes, , )                                                                                     \
    X(S, uint64_t, item_bytes, , )                                                                                     \
    X(S, uint64_t, items, , ) /* of a part */

/* The head of the public memory. */
#define UN_SEGMENT_HEADER_FIELDS(X, S)                                                                                 \
    X(S, uint64_t, magic, , )                                                                                          \
    X(S, uint64_t, hash, , )    /* un_layout_hash of whoever wrote it */                                               \
    X(S, uint64_t, formats, , ) /* un_formats_hash of whoever wrote it: engine/formats.h */                            \
    X(S, struct un_segment_config, config, , )                                                                         \
    X(S, struct un_segment_layout, layout, , )                                                                         \
    X(S, struct un_engine_options, options, , )

/* Regions, in the order in which they lie. A region has parts, one after another, each a number of items; region and
 * parts begin at multiples of `align`.
 * X(name, memory, writer, parts, items, bytes of an item, align, what it holds) */
#define UN_REGIONS(X)                                                                                                  \
    X(header, public, supervisor, 1, 1, sizeof(struct un_segment_header), UN_CACHE_LINE,                               \
      "hash of the layout, sizes, offsets, options of the engine")                                                     \
    X(engine, public, engine, 1, 1, sizeof(struct un_engine_public), UN_PAGE, "does it sleep; its counters")           \
    X(stack, public, engine, 1, UN_STACK_WORDS, sizeof(uint64_t), UN_CACHE_LINE, "counters of a stack of our own")     \
    X(ports, public, engine, 1, config->seats * UN_PORTS, sizeof(struct un_port_public), UN_PAGE,                      \
      "indices of the rings; who sits there")                                                                          \
    X(conns, public, engine, 1, config->conn_max, sizeof(struct un_conn) + config->state_bytes, UN_PAGE,               \
      "the connection table, with state blobs")                                                                        \
    X(event_rings, public, engine, config->seats * UN_PORTS, config->event_slots, sizeof(struct un_event), UN_PAGE,    \
      "events for the worker")                                                                                         \
    X(tx_accounts, public, engine, config->seats * UN_PORTS, config->tx_frames, sizeof(struct un_tx_account), UN_PAGE, \
      "which send frames are done")                                                                                    \
    X(quarantines, public, engine, config->seats * UN_PORTS, 1,                                                        \
      sizeof(struct un_quarantine) + config->rx_frame_bytes, UN_PAGE,                                                  \
      "the event that killed two workers")                                                                             \
    X(rx_frames, public, engine, config->seats * UN_PORTS, config->rx_frames, config->rx_frame_bytes, UN_PAGE,         \
      "received bytes")                                                                                                \
    X(progress, port, worker, 1, 1, sizeof(struct un_port_memory), UN_CACHE_LINE,                                      \
      "the commit word; does it sleep; its counters")                                                                  \
    X(command_ring, port, worker, 1, config->command_slots, sizeof(struct un_command), UN_PAGE,                        \
      "commands for the engine")                                                                                       \
    X(release_ring, port, worker, 1, 4 * (uint64_t)config->event_slots, sizeof(uint32_t), UN_PAGE,                     \
      "receive frames that are given back")                                                                            \
    X(dirty, port, worker, 1, config->conn_max, 1, UN_PAGE, "connections that are not part of a commit")               \
    X(tx_frames, port, worker, 1, config->tx_frames, config->tx_frame_bytes, UN_PAGE, "bytes to send")

/* All structs that cross a process: X(S, fields). */
#define UN_SHARED_STRUCTS(X)                                                                                           \
    X(un_endpoint, UN_ENDPOINT_FIELDS)                                                                                 \
    X(un_event, UN_EVENT_FIELDS)                                                                                       \
    X(un_command, UN_COMMAND_FIELDS)                                                                                   \
    X(un_conn, UN_CONN_FIELDS)                                                                                         \
    X(un_engine_counters, UN_ENGINE_GAUGE_FIELDS)                                                                      \
    X(un_worker_counters, UN_WORKER_GAUGE_FIELDS)                                                                      \
    X(un_engine_public, UN_ENGINE_PUBLIC_FIELDS)                                                                       \
    X(un_port_public, UN_PORT_PUBLIC_FIELDS)                                                                           \
    X(un_port_memory, UN_PORT_MEMORY_FIELDS)                                                                           \
    X(un_tx_account, UN_TX_ACCOUNT_FIELDS)                                                                             \
    X(un_quarantine, UN_QUARANTINE_FIELDS)                                                                             \
    X(un_segment_config, UN_SEGMENT_CONFIG_FIELDS)                                                                     \
    X(un_region, UN_REGION_FIELDS)                                                                                     \
    X(un_segment_header, UN_SEGMENT_HEADER_FIELDS)

#define UN_MEMBER(S, type, name, count, line) type name count line;

#endif
