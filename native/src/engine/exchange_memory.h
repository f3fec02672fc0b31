/* What lies in the memory that the shards of a server share: private to exchange.c, and to tests that play a shard gone
 * mad. */
#ifndef UN_EXCHANGE_MEMORY_H
#define UN_EXCHANGE_MEMORY_H

#include "base/barrier.h"
#include "base/ring.h"
#include "engine/exchange.h"

#define UN_EXCHANGE_CELL_BYTES 64u
/* 256 KiB: three super-segments, or some thousand small packets, in one turn of the receiver */
#define UN_EXCHANGE_CELLS 4096u
#define UN_EXCHANGE_PACKET_MAX 65536u

struct un_exchange_record {
    uint32_t length;
    uint16_t flags; /* enum un_rx_flag */
    uint16_t segment_bytes;
};

struct un_exchange_ring {
    un_shared32 produced __attribute__((aligned(UN_CACHE_LINE)));
    un_shared32 consumed __attribute__((aligned(UN_CACHE_LINE)));
    uint8_t cells[UN_EXCHANGE_CELLS * UN_EXCHANGE_CELL_BYTES] __attribute__((aligned(UN_CACHE_LINE)));
};

struct un_exchange_inbox {
    un_shared32 pending __attribute__((aligned(UN_CACHE_LINE))); /* 1: some ring to this shard may hold a packet */
    un_shared32 sleeping;
};

struct un_exchange_memory {
    uint8_t secret[UN_EXCHANGE_SECRET_BYTES]; /* written by the supervisor */
    struct un_exchange_inbox inboxes[UN_EXCHANGE_SHARDS_MAX];
    struct un_exchange_ring rings[]; /* from × to */
};

#endif
