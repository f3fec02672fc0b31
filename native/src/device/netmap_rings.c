/* See netmap_rings.h. */
#include "device/netmap_rings.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define SLOTS_MAX (1u << 20)

/* A part of the memory: whether all of it lies there. */
static bool lies_in(uint64_t bytes, int64_t at, uint64_t length)
{
    return at >= 0 && (uint64_t)at <= bytes && length <= bytes - (uint64_t)at;
}

static bool find_side(struct un_netmap_side *side, uint8_t *map, uint64_t bytes, int64_t at)
{
    if (at % 8 || !lies_in(bytes, at, sizeof(struct un_netmap_ring)))
        return false;
    const volatile struct un_netmap_ring *found = (struct un_netmap_ring *)(map + at);
    uint32_t slot_count = found->slot_count, buffer_bytes = found->buffer_bytes, head = un_load(&found->head);
    int64_t buffers = found->buffers;
    uint64_t slots_bytes = (uint64_t)slot_count * sizeof found->slots[0];
    bool has_slots = slot_count > 1 && slot_count <= SLOTS_MAX && lies_in(bytes, at, sizeof *found + slots_bytes);
    bool has_buffers = buffer_bytes > 0 && buffer_bytes <= UINT16_MAX + 1u && buffers > -at &&
                       buffers < (int64_t)bytes - at;
    if (!has_slots || !has_buffers || head >= slot_count || un_load(&found->tail) >= slot_count)
        return false;
    uint64_t first = (uint64_t)(at + buffers);
    *side = (struct un_netmap_side){
        .ring = (struct un_netmap_ring *)(map + at),
        .buffers = map + first,
        .head = head,
        .slot_count = slot_count,
        .buffer_bytes = buffer_bytes,
        .buffer_count = (uint32_t)((bytes - first) / buffer_bytes),
    };
    return true;
}

int un_netmap_find(struct un_netmap_pair *pair, void *map, const struct un_netmap_memory *memory)
{
    uint64_t bytes = memory->memory_bytes, at = memory->if_at;
    if (memory->magic != UN_NETMAP_MAGIC || at % 8 || at > bytes || bytes - at < sizeof(struct un_netmap_if))
        return -EINVAL;
    const volatile struct un_netmap_if *port = (const struct un_netmap_if *)((uint8_t *)map + at);
    uint64_t tx_rings = port->tx_rings, rx_rings = port->rx_rings, host_tx_rings = port->host_tx_rings;
    uint64_t known = (bytes - at - sizeof *port) / sizeof port->rings[0];
    bool is_host = memory->flags & UN_NETMAP_IS_HOST;
    uint64_t tx_count = is_host ? host_tx_rings : tx_rings, rx_count = is_host ? port->host_rx_rings : rx_rings;
    uint64_t tx = (is_host ? tx_rings : 0) + memory->ring;
    uint64_t rx = tx_rings + host_tx_rings + (is_host ? rx_rings : 0) + memory->ring;
    if (memory->ring >= tx_count || memory->ring >= rx_count || tx >= known || rx >= known)
        return -EINVAL;
    *pair = (struct un_netmap_pair){.port = (struct un_netmap_if *)((uint8_t *)map + at), .map = map,
                                    .map_bytes = bytes};
    bool found = find_side(&pair->tx, map, bytes, (int64_t)(at + (uint64_t)port->rings[tx])) &&
                 find_side(&pair->rx, map, bytes, (int64_t)(at + (uint64_t)port->rings[rx]));
    return found ? 0 : -EINVAL;
}

int un_netmap_recall(struct un_netmap_memory *memory, int fd)
{
    const void *map = mmap(NULL, sizeof *memory, PROT_READ, MAP_SHARED, fd, 0);
    struct stat status;
    if (map == MAP_FAILED)
        return -errno;
    bool is_whole = fstat(fd, &status) == 0 && status.st_size >= (off_t)sizeof *memory;
    if (is_whole)
        memcpy(memory, map, sizeof *memory);
    munmap((void *)(uintptr_t)map, sizeof *memory);
    return is_whole ? 0 : -EINVAL;
}

int un_netmap_map(struct un_netmap_pair *pair, int fd, const struct un_netmap_memory *memory)
{
    void *map = mmap(NULL, memory->memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return -errno;
    madvise(map, memory->memory_bytes, MADV_DONTFORK); /* a child of a handler would keep the memory */
    int error = un_netmap_find(pair, map, memory);
    if (error)
        munmap(map, memory->memory_bytes);
    return error;
}

void un_netmap_unmap(struct un_netmap_pair *pair)
{
    munmap(pair->map, pair->map_bytes);
}
