/* See afxdp_rings.h. */
#include "device/afxdp_rings.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/socket.h>

static int map(struct un_afxdp_ring *ring, int fd, off_t where, const struct xdp_ring_offset *offset, uint32_t slots,
               size_t slot_bytes)
{
    size_t bytes = offset->desc + slots * slot_bytes;
    uint8_t *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, where);
    if (base == MAP_FAILED)
        return -errno;
    madvise(base, bytes, MADV_DONTFORK); /* a child of a handler would keep the queue for as long as it lives */
    *ring = (struct un_afxdp_ring){
        .producer = (un_shared32 *)(base + offset->producer),
        .consumer = (un_shared32 *)(base + offset->consumer),
        .flags = (un_shared32 *)(base + offset->flags),
        .slots = base + offset->desc,
        .mask = slots - 1,
        .map = base,
        .map_bytes = bytes,
    };
    return 0;
}

int un_afxdp_rings_map(struct un_afxdp_rings *rings, int fd, const struct un_afxdp_memory *memory)
{
    struct xdp_mmap_offsets at;
    socklen_t bytes = sizeof at;
    *rings = (struct un_afxdp_rings){.fill = {.map = NULL}};
    if (getsockopt(fd, SOL_XDP, XDP_MMAP_OFFSETS, &at, &bytes) < 0)
        return -errno;
    if (bytes != sizeof at)
        return -EOPNOTSUPP; /* a kernel before 5.4 has no flags */
    int error =
        map(&rings->fill, fd, (off_t)XDP_UMEM_PGOFF_FILL_RING, &at.fr, memory->fill_slots, sizeof(uint64_t));
    if (!error)
        error = map(&rings->completion, fd, (off_t)XDP_UMEM_PGOFF_COMPLETION_RING, &at.cr, memory->completion_slots,
                    sizeof(uint64_t));
    if (!error)
        error = map(&rings->rx, fd, XDP_PGOFF_RX_RING, &at.rx, memory->rx_slots, sizeof(struct xdp_desc));
    if (!error)
        error = map(&rings->tx, fd, XDP_PGOFF_TX_RING, &at.tx, memory->tx_slots, sizeof(struct xdp_desc));
    if (error)
        un_afxdp_rings_unmap(rings);
    return error;
}

static void unmap(struct un_afxdp_ring *ring)
{
    if (ring->map)
        munmap(ring->map, ring->map_bytes);
    ring->map = NULL;
}

void un_afxdp_rings_unmap(struct un_afxdp_rings *rings)
{
    unmap(&rings->fill);
    unmap(&rings->completion);
    unmap(&rings->rx);
    unmap(&rings->tx);
}
