/* The memory into which an engine copies the packets that a capture wants, and the engine's end of it.
 *
 *   memory   struct un_capture_ring | records, in a ring of bytes
 *
 * Whoever captures makes it (a sealed memfd, one for each shard), says in its head what is wanted, and reads it; the
 * engine writes records and never waits: a record that finds no room is lost and counted. Nobody is woken. The reader
 * looks now and then. Workers have no part in it.
 *
 * `produced` and `consumed` count bytes and run freely. A record lies in one piece, at a multiple of eight; where the
 * end of the ring is too near, a record of the kind SKIP fills it. The engine keeps `produced` for itself and reads
 * nothing back that it wrote; of what the reader writes it believes `consumed`, within bounds. The reader looks at each
 * number that it finds before it uses it. */
#ifndef UN_CAPTURE_RING_H
#define UN_CAPTURE_RING_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/assert.h"
#include "base/barrier.h"
#include "base/drop.h"
#include "engine/capture_filter.h"

#define UN_CAPTURE_MAGIC UINT64_C(0x31504143544e5355)
#define UN_CAPTURE_SNAPLEN_MAX 262144u /* what tcpdump takes of a packet; ours have 64 KiB and headers */
#define UN_CAPTURE_DATA_MIN (1u << 20) /* several of the largest records */
#define UN_CAPTURE_ALIGN 8u

struct un_capture_ring {
    /* what is wanted, written before an engine sees it */
    uint64_t magic;
    uint64_t data_bytes; /* of the ring: a power of two */
    uint32_t snaplen;    /* bytes of a packet that are copied at most */
    uint32_t drops_only; /* 1: only what was dropped */
    uint32_t program_count; /* 0: every packet */
    /* the engine's */
    _Alignas(UN_CACHE_LINE) un_shared64 produced;
    un_shared64 seen;    /* packets that passed */
    un_shared64 matched; /* those that were wanted */
    un_shared64 lost;    /* of these: there was no room */
    /* the reader's */
    _Alignas(UN_CACHE_LINE) un_shared64 consumed;
    _Alignas(UN_CACHE_LINE) struct sock_filter program[UN_CAPTURE_PROGRAM_MAX];
};
UN_STATIC_ASSERT(sizeof(struct un_capture_ring) % UN_CACHE_LINE == 0, "records are aligned");

enum un_captured_kind { UN_CAPTURED_SKIP, UN_CAPTURED_PACKET };

enum un_captured_flag {
    UN_CAPTURED_IN = 1 << 0,      /* it came; else it was sent */
    UN_CAPTURED_FOREIGN = 1 << 1, /* through the queue of another shard */
};

/* In front of the bytes of a packet. Of a record to skip, kind and bytes alone. */
struct un_captured {
    uint32_t bytes; /* of the record: a multiple of UN_CAPTURE_ALIGN */
    uint16_t kind;  /* enum un_captured_kind */
    uint16_t flags; /* enum un_captured_flag */
    uint64_t time_ns;  /* CLOCK_MONOTONIC, or the simulation's */
    uint64_t conn;     /* the engine's id; 0: none */
    uint64_t drops;    /* bit i: enum un_drop i was counted while the packet was looked at */
    uint32_t captured; /* bytes that follow */
    uint32_t original; /* bytes that the packet had */
};
UN_STATIC_ASSERT(sizeof(struct un_captured) == 40, "as the reader unpacks it: <IHHQQQII");
UN_STATIC_ASSERT(UN_DROP_COUNT <= 64, "a bit for each reason");

/* The engine's end. */
struct un_capture_end {
    struct un_capture_ring *ring;
    uint8_t *data;
    uint64_t data_bytes;
    uint64_t produced; /* published when what is before it is whole */
    uint32_t snaplen;
    bool drops_only;
    uint32_t program_count;
    struct sock_filter program[UN_CAPTURE_PROGRAM_MAX]; /* as it was checked */
};

/* Begin or go on with it. -EINVAL: the memory is no ring, or its program is none. */
int un_capture_end_open(struct un_capture_end *end, void *memory, uint64_t bytes);

/* Count a packet; whether the filter takes it. */
bool un_capture_wants(struct un_capture_end *end, const struct iovec *pieces, int count, uint32_t length);

/* A record with the packet's bytes, to be filled in and published; NULL: there is no room. `flags` is set, so are the
 * lengths. Several may be written before they are published. */
struct un_captured *un_capture_write(struct un_capture_end *end, uint16_t flags, const struct iovec *pieces, int count,
                                     uint32_t length);

/* It is wanted after all, be there a record or not. */
static inline void un_capture_keep(struct un_capture_end *end, const struct un_captured *record)
{
    un_count(&end->ring->matched, 1);
    if (!record)
        un_count(&end->ring->lost, 1);
}

/* Where the next record begins: what un_capture_drop is told. */
static inline uint64_t un_capture_mark(const struct un_capture_end *end)
{
    return end->produced;
}

/* It is not wanted, and was not published. It was written between these two marks; others may stand behind it. */
void un_capture_drop(struct un_capture_end *end, struct un_captured *record, uint64_t before, uint64_t behind);

static inline void un_capture_publish(struct un_capture_end *end)
{
    un_publish(&end->ring->produced, end->produced);
}

#endif
