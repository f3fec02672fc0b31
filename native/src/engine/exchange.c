/* See exchange.h. */
#include "engine/exchange.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/exchange_memory.h"

static uint64_t memory_bytes(uint32_t shards)
{
    return sizeof(struct un_exchange_memory) + (uint64_t)shards * shards * sizeof(struct un_exchange_ring);
}

void un_exchange_close(struct un_exchange *exchange)
{
    if (exchange->memory)
        munmap(exchange->memory, memory_bytes(exchange->shards));
    exchange->memory = NULL;
}

const uint8_t *un_exchange_secret(const struct un_exchange *exchange)
{
    return exchange->memory->secret;
}

static struct un_exchange_ring *ring_between(const struct un_exchange *exchange, uint32_t from, uint32_t to)
{
    return &exchange->memory->rings[from * exchange->shards + to];
}

static uint32_t cells_of(uint32_t length)
{
    return (uint32_t)(sizeof(struct un_exchange_record) + length + UN_EXCHANGE_CELL_BYTES - 1) / UN_EXCHANGE_CELL_BYTES;
}

/* Bytes to or from the cells, from byte `at` of the ring on, around its end. */

static void put(struct un_exchange_ring *ring, uint32_t at, const void *bytes, uint32_t length)
{
    uint32_t start = at % sizeof ring->cells;
    uint32_t first = length < sizeof ring->cells - start ? length : (uint32_t)sizeof ring->cells - start;
    memcpy(ring->cells + start, bytes, first);
    memcpy(ring->cells, (const uint8_t *)bytes + first, length - first);
}

static void get(const struct un_exchange_ring *ring, uint32_t at, void *bytes, uint32_t length)
{
    uint32_t start = at % sizeof ring->cells;
    uint32_t first = length < sizeof ring->cells - start ? length : (uint32_t)sizeof ring->cells - start;
    memcpy(bytes, ring->cells + start, first);
    memcpy((uint8_t *)bytes + first, ring->cells, length - first);
}

static void wake(const struct un_exchange *exchange, uint32_t shard)
{
    uint64_t one = 1;
    ssize_t written = write(exchange->wake_fds[shard], &one, sizeof one);
    (void)written; /* EAGAIN: it has wake-ups enough */
}

static void tell(struct un_exchange *exchange, uint32_t shard)
{
    struct un_exchange_inbox *inbox = &exchange->memory->inboxes[shard];
    un_fence(); /* the packet is complete before `pending` says so */
    un_store(&inbox->pending, 1);
    un_fence();
    if (!un_load(&inbox->sleeping))
        return;
    un_store(&inbox->sleeping, 0);
    wake(exchange, shard);
}

int un_exchange_open(struct un_exchange *exchange, int fd, uint32_t shard, uint32_t shards, const int *wake_fds)
{
    if (shards == 0 || shards > UN_EXCHANGE_SHARDS_MAX || shard >= shards)
        return -EINVAL;
    if (ftruncate(fd, (off_t)memory_bytes(shards)) < 0) /* every shard says the same */
        return -errno;
    void *memory = mmap(NULL, memory_bytes(shards), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        return -errno;
    *exchange = (struct un_exchange){.memory = memory, .shard = shard, .shards = shards, .wake_fds = wake_fds};
    for (uint32_t other = 0; other < shards; other++) {
        tell(exchange, other); /* a predecessor may have died before it told it, or before it took what it was told, */
        wake(exchange, other); /* or between clearing its `sleeping` and waking it */
    }
    return 0;
}

static bool give_to(struct un_exchange *exchange, const struct un_pool *pool, uint32_t shard,
                    const struct un_rx *packet)
{
    struct un_exchange_ring *ring = ring_between(exchange, exchange->shard, shard);
    uint32_t produced = un_load(&ring->produced), cells = cells_of(packet->length);
    if (packet->length > UN_EXCHANGE_PACKET_MAX || cells > UN_EXCHANGE_CELLS - (produced - un_observe(&ring->consumed)))
        return false;
    struct un_exchange_record record = {packet->length, packet->flags, packet->segment_bytes};
    uint32_t at = produced * UN_EXCHANGE_CELL_BYTES;
    put(ring, at, &record, sizeof record);
    at += (uint32_t)sizeof record;
    for (uint32_t frame = packet->frame; frame != UN_NONE; frame = pool->frames[frame].next) {
        put(ring, at, un_pool_bytes(pool, frame) + pool->frames[frame].offset, pool->frames[frame].length);
        at += pool->frames[frame].length;
    }
    un_publish(&ring->produced, produced + cells);
    tell(exchange, shard);
    return true;
}

uint32_t un_exchange_give(struct un_exchange *exchange, const struct un_pool *pool, uint32_t shard,
                          const struct un_rx *packet)
{
    uint32_t refused = 0;
    if (shard != UN_NONE)
        return !give_to(exchange, pool, shard, packet);
    for (uint32_t other = 0; other < exchange->shards; other++)
        if (other != exchange->shard)
            refused += !give_to(exchange, pool, other, packet);
    return refused;
}

/* Frames for so many bytes, offset 0, lengths set; UN_NONE when there are not enough. */
static uint32_t take_chain(struct un_pool *pool, uint32_t length)
{
    uint32_t head = UN_NONE, *link = &head;
    do {
        uint32_t frame = un_pool_take(pool);
        if (frame == UN_NONE) {
            un_pool_drop_chain(pool, head);
            return UN_NONE;
        }
        uint32_t part = length < pool->own->frame_bytes ? length : pool->own->frame_bytes;
        pool->frames[frame].length = (uint16_t)part;
        *link = frame;
        link = &pool->frames[frame].next;
        length -= part;
    } while (length > 0);
    return head;
}

/* A faulty shard may have written anything. */
static bool is_record(const struct un_exchange_record *record, uint32_t filled)
{
    return filled <= UN_EXCHANGE_CELLS && record->length > 0 && record->length <= UN_EXCHANGE_PACKET_MAX &&
           cells_of(record->length) <= filled;
}

static bool take_from(struct un_exchange_ring *ring, struct un_pool *pool, struct un_rx *packet)
{
    struct un_exchange_record record;
    uint32_t consumed = un_load(&ring->consumed), filled = un_observe(&ring->produced) - consumed;
    uint32_t at = consumed * UN_EXCHANGE_CELL_BYTES;
    if (filled == 0)
        return false;
    get(ring, at, &record, sizeof record);
    if (!is_record(&record, filled)) { /* nothing of it makes sense */
        un_publish(&ring->consumed, consumed + filled);
        return false;
    }
    uint32_t head = take_chain(pool, record.length);
    at += (uint32_t)sizeof record;
    for (uint32_t frame = head; frame != UN_NONE; frame = pool->frames[frame].next) {
        get(ring, at, un_pool_bytes(pool, frame), pool->frames[frame].length);
        at += pool->frames[frame].length;
    }
    *packet = (struct un_rx){head, record.length, record.flags, record.segment_bytes};
    un_publish(&ring->consumed, consumed + cells_of(record.length));
    return true;
}

/* One packet of the shards in turn. */
static bool take_next(struct un_exchange *exchange, struct un_pool *pool, struct un_rx *packet)
{
    for (uint32_t i = 0; i < exchange->shards; i++) {
        uint32_t from = exchange->next;
        exchange->next = from + 1 < exchange->shards ? from + 1 : 0;
        if (from != exchange->shard && take_from(ring_between(exchange, from, exchange->shard), pool, packet))
            return true;
    }
    return false;
}

bool un_exchange_take(struct un_exchange *exchange, struct un_pool *pool, struct un_rx *packet)
{
    struct un_exchange_inbox *inbox = &exchange->memory->inboxes[exchange->shard];
    if (!un_load(&inbox->pending))
        return false;
    if (take_next(exchange, pool, packet))
        return true;
    un_store(&inbox->pending, 0);
    un_fence(); /* what is told from now on is seen next time; what was told before is found by this look */
    if (!take_next(exchange, pool, packet))
        return false;
    un_store(&inbox->pending, 1);
    return true;
}

bool un_exchange_sleep(struct un_exchange *exchange)
{
    struct un_exchange_inbox *inbox = &exchange->memory->inboxes[exchange->shard];
    un_store(&inbox->sleeping, 1);
    un_fence();
    return !un_load(&inbox->pending);
}

void un_exchange_awake(struct un_exchange *exchange)
{
    un_store(&exchange->memory->inboxes[exchange->shard].sleeping, 0);
}
