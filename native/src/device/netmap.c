/* One ring pair of a netmap port: Ethernet frames in buffers of the module, which it and we both map.
 *
 * The port was opened elsewhere (netmap_port.c). Rings and buffers belong to its descriptor and outlive the process;
 * the places in the rings are all that there is to remember, and stand in the rings. The buffers are not our frames: a
 * packet is copied out of them, or into them, before its slot is handed on. So no frame of the pool ever stands in a
 * ring, and this device has no verb `held`. A process that dies between two stores has not taken the packet, or it has,
 * and the packet is lost as on any wire. (In a program that is one process, buffers may be frames: netmap_exchange.h.)
 *
 * Receive. Packets that came are copied into frames, and their slots are the kernel's again at once. A packet may lie
 * in several slots (MORE_PARTS); it is taken when all of it is there. When no frame is free, packets wait in the ring.
 * While the first one can only wait, its owner may sleep: the place where we want to be woken (cur) is set behind all
 * that has come, and frames are looked for again after a millisecond.
 *
 * Send. A packet is gathered into the buffers of the next slots. flush makes one system call for all that was
 * submitted. Slots come back in such a call too: one more is made when a reservation finds too few. The kernel is asked
 * to report (REPORT) only where few slots are left, as each report may be an interrupt.
 *
 * Where no packet is in the ring, peek asks the kernel: the call that a queue in busy polling lives of. Poll asks as
 * well, so whoever slept on the descriptor finds packets without it. Before a sleep the kernel has to be told of slots
 * that it may have again.
 *
 * A card may be shared with the kernel, which has all that is not for our station: netmap_host.h.
 *
 * An interface that is removed, or a module that goes, is told by each of these calls (ENXIO). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "device/device.h"
#include "device/gather.h"
#include "device/netmap_exchange.h"
#include "device/netmap_host.h"
#include "device/netmap_rings.h"
#include "device/why.h"

#define COPIED_MAX 64u /* packets that were copied and not released */
#define LARGEST_PACKET 65553u /* 64 KiB - 1 of IP packet, Ethernet, a VLAN tag */

struct netmap {
    struct un_device device; /* first */
    struct un_netmap_pair pair;
    int fd; /* of the pair */
    int memory_fd;
    uint16_t flags; /* enum un_netmap_memory_flag */
    struct un_netmap_host *host; /* the kernel's packets that we carry; NULL: none */
    struct un_netmap_exchange *buffers;  /* that are frames; NULL: none */
    struct un_netmap_exchange *exchange; /* the same, while the pool is of them; NULL: packets are copied */
    bool has_submitted; /* since the last call that sends */
    bool has_released;  /* slots of packets that came, since the last call that receives */
    bool is_stuck;      /* the next packet cannot be taken yet … */
    uint32_t stuck_at;  /* … not before the tail has moved from here, or, where frames are lacking … */
    uint32_t lacking;   /* … so many bytes of them are free; 0: it is not whole */
    uint32_t waiting;   /* packets copied and not released: from `first` in ready, a ring */
    uint32_t first;
    struct un_rx ready[COPIED_MAX];
    struct un_netmap_slot parts[UN_NETMAP_PACKET_PARTS]; /* copies of the next packet's slots, as `look` found them */
};

static struct netmap *netmap_of(struct un_device *device)
{
    return (struct netmap *)device;
}

static void synchronise(struct netmap *netmap, unsigned long request)
{
    if (ioctl(netmap->fd, request, NULL) < 0 && errno == ENXIO)
        netmap->device.gone = true;
}

static void synchronise_rx(struct netmap *netmap)
{
    synchronise(netmap, UN_NETMAP_SYNC_RX);
    netmap->has_released = false;
}

static void synchronise_tx(struct netmap *netmap)
{
    synchronise(netmap, UN_NETMAP_SYNC_TX);
    netmap->has_submitted = false;
}

/* What the process before may have put into the ring is sent, and the slots that it gave back are told. */
static void netmap_attach(struct un_device *device, struct un_pool *pool)
{
    struct netmap *netmap = netmap_of(device);
    bool is_of_buffers = netmap->buffers && pool->bytes == netmap->buffers->frames.bytes;
    netmap->exchange = is_of_buffers ? netmap->buffers : NULL;
    netmap->waiting = 0;
    netmap->is_stuck = false;
    netmap->has_released = true;
    synchronise_tx(netmap);
}

/* ---- receive ---- */

/* What the next packet of a ring is. */
struct arrived {
    uint32_t parts; /* 0: not all of it has come */
    uint32_t length;
    bool is_valid;   /* not, when what the slots say cannot be */
    uint32_t owners; /* of a valid one */
};

/* A buffer that may stand in this slot. */
static inline bool is_known(const struct netmap *netmap, uint32_t at, uint32_t buffer)
{
    const struct un_netmap_exchange *exchange = netmap->exchange;
    return exchange ? buffer == exchange->first + exchange->stands[at] : buffer < netmap->pair.rx.buffer_count;
}

static struct arrived look(struct netmap *netmap, uint32_t ready)
{
    const struct un_netmap_side *rx = &netmap->pair.rx;
    struct arrived packet = {.is_valid = true};
    for (uint32_t at = rx->head, parts = 1; parts <= ready; parts++, at = un_netmap_next(rx, at)) {
        const struct un_netmap_slot slot = netmap->parts[parts - 1] = un_netmap_slot(rx, at);
        packet.length += slot.length;
        packet.is_valid &= slot.length <= rx->buffer_bytes && is_known(netmap, at, slot.buffer);
        bool has_more = slot.flags & UN_NETMAP_MORE_PARTS, is_last = !has_more || parts == UN_NETMAP_PACKET_PARTS;
        packet.is_valid &= packet.length <= LARGEST_PACKET && !(has_more && is_last);
        if (is_last) {
            packet.parts = parts;
            return packet;
        }
    }
    /* A packet that fills the ring would never be complete. */
    packet.parts = ready + 1 == rx->slot_count ? ready : 0;
    packet.is_valid = false;
    return packet;
}

/* The slots of a packet into a chain of frames, of which there are enough. */
static uint32_t copy_out(struct netmap *netmap, const struct arrived *packet)
{
    const struct un_netmap_side *rx = &netmap->pair.rx;
    struct un_pool *pool = netmap->device.pool;
    uint32_t frame_bytes = pool->own->frame_bytes, head = un_pool_take(pool), last = head;
    if (packet->parts == 1 && packet->length <= frame_bytes) { /* as most are */
        memcpy(un_pool_bytes(pool, head), un_netmap_buffer(rx, netmap->parts[0].buffer), packet->length);
        pool->frames[head].length = (uint16_t)packet->length;
        return head;
    }
    for (uint32_t part = 0; part < packet->parts; part++) {
        const uint8_t *from = un_netmap_buffer(rx, netmap->parts[part].buffer);
        for (uint32_t left = netmap->parts[part].length; left > 0;) {
            if (pool->frames[last].length == frame_bytes)
                last = pool->frames[last].next = un_pool_take(pool);
            struct un_frame *record = &pool->frames[last];
            uint32_t room = frame_bytes - record->length, count = left < room ? left : room;
            memcpy(un_pool_bytes(pool, last) + record->length, from, count);
            record->length = (uint16_t)(record->length + count);
            from += count;
            left -= count;
        }
    }
    return head;
}

/* Of a packet in one slot: its buffer is the frame, and a free one stands there. */
static uint32_t take_out(struct netmap *netmap, const struct arrived *packet)
{
    const struct un_netmap_side *rx = &netmap->pair.rx;
    struct un_pool *pool = netmap->device.pool;
    uint32_t frame = un_netmap_put(netmap->exchange, rx, rx->head, un_pool_take(pool));
    pool->frames[frame] = (struct un_frame){.next = UN_NONE, .length = (uint16_t)packet->length, .references = 1};
    return frame;
}

/* Slots that may have been written over name the frames that stand there. */
static void put_right(struct netmap *netmap, uint32_t parts)
{
    const struct un_netmap_side *rx = &netmap->pair.rx;
    for (uint32_t at = rx->head; parts > 0; parts--, at = un_netmap_next(rx, at))
        un_netmap_put(netmap->exchange, rx, at, netmap->exchange->stands[at]);
}

enum { OURS = 1, KERNELS = 2 };

/* Whose the next packet is, or nobody's: what is for all stations of a switch comes to each of our ports there. */
static uint32_t owners(const struct netmap *netmap)
{
    const uint8_t *target = un_netmap_buffer(&netmap->pair.rx, netmap->parts[0].buffer);
    bool is_for_group = target[0] & 1;
    if (netmap->flags & UN_NETMAP_IGNORES_GROUPS)
        return is_for_group ? 0 : OURS;
    if (!(netmap->flags & UN_NETMAP_SHARES))
        return OURS;
    if (is_for_group)
        return OURS | KERNELS;
    return memcmp(target, netmap->device.capabilities.mac, 6) == 0 ? OURS : KERNELS;
}

static void pass_to_kernel(struct netmap *netmap, const struct arrived *packet)
{
    if (packet->parts > 1) { /* the module does not */
        netmap->device.counters->rx_dropped++;
        return;
    }
    un_netmap_forward(&netmap->pair.rx);
    netmap->device.counters->rx_passed++;
}

static void take_packet(struct netmap *netmap, const struct arrived *packet)
{
    struct un_device_counters *counters = netmap->device.counters;
    if (packet->owners & OURS) {
        uint32_t at = (netmap->first + netmap->waiting++) % COPIED_MAX;
        bool stays = netmap->exchange && packet->parts == 1 && !(packet->owners & KERNELS);
        netmap->ready[at] = (struct un_rx){.frame = stays ? take_out(netmap, packet) : copy_out(netmap, packet),
                                           .length = packet->length};
        counters->rx_packets++;
        counters->rx_bytes += packet->length;
    }
    if (packet->owners & KERNELS)
        pass_to_kernel(netmap, packet);
}

static bool has_frames(const struct netmap *netmap, uint32_t bytes)
{
    const struct un_pool_memory *pool = netmap->device.pool->own;
    return bytes <= (uint64_t)pool->free_count * pool->frame_bytes;
}

/* For so many bytes of frames (0: for the rest of the packet), as none of those that are ready can be taken. */
static void get_stuck(struct netmap *netmap, uint32_t lacking, uint32_t ready)
{
    const struct un_netmap_side *rx = &netmap->pair.rx;
    netmap->is_stuck = true;
    netmap->stuck_at = (rx->head + ready) % rx->slot_count;
    netmap->lacking = lacking;
}

/* The next packet of the ring; false: there is none, or it has to wait. */
static bool receive(struct netmap *netmap)
{
    struct un_netmap_side *rx = &netmap->pair.rx;
    uint32_t ready = un_netmap_ready(rx);
    netmap->is_stuck = false;
    if (ready == 0)
        return false;
    struct arrived packet = look(netmap, ready);
    if (packet.parts == 0) {
        get_stuck(netmap, 0, ready);
        return false;
    }
    packet.is_valid &= packet.length >= UN_ETHERNET_BYTES;
    packet.owners = packet.is_valid ? owners(netmap) : 0;
    if (packet.owners & OURS && !has_frames(netmap, packet.length)) {
        get_stuck(netmap, packet.length, ready);
        return false;
    }
    netmap->device.counters->rx_errors += !packet.is_valid;
    if (!packet.is_valid && netmap->exchange)
        put_right(netmap, packet.parts);
    take_packet(netmap, &packet);
    uint32_t head = rx->head + packet.parts;
    un_netmap_give(rx, head < rx->slot_count ? head : head - rx->slot_count);
    netmap->has_released = true;
    return true;
}

/* As many as are asked for; whether there was one at all. */
static bool receive_all(struct netmap *netmap, uint32_t most)
{
    bool found = false;
    for (uint32_t left = netmap->pair.rx.slot_count; left > 0 && netmap->waiting < most && receive(netmap); left--)
        found = true;
    return found;
}

/* What finds no room although the module was called is dropped. */
static void carry(struct netmap *netmap, bool must_ask)
{
    if (!netmap->host || !un_netmap_ask_host(netmap->host, must_ask))
        return;
    struct un_device_counters *counters = netmap->device.counters;
    struct un_netmap_carried count;
    uint32_t left = un_netmap_ready(&netmap->host->pair.rx);
    do {
        synchronise_tx(netmap);
        count = un_netmap_carry(netmap->host, &netmap->pair.tx, left);
        left -= count.taken;
        counters->tx_passed += count.copied;
        counters->tx_errors += count.taken - count.copied;
    } while (count.taken > 0);
    counters->tx_errors += un_netmap_drop_host(netmap->host);
}

static uint32_t netmap_peek(struct un_device *device, struct un_rx *packets, uint32_t most)
{
    struct netmap *netmap = netmap_of(device);
    most = most < COPIED_MAX ? most : COPIED_MAX;
    if (netmap->waiting < most && !receive_all(netmap, most)) {
        synchronise_rx(netmap);
        receive_all(netmap, most);
    }
    device->lacks_frames = netmap->is_stuck && netmap->lacking > 0;
    device->counters->rx_no_frame += device->lacks_frames;
    carry(netmap, false);
    uint32_t count = netmap->waiting < most ? netmap->waiting : most;
    for (uint32_t i = 0; i < count; i++)
        packets[i] = netmap->ready[(netmap->first + i) % COPIED_MAX];
    return count;
}

static void netmap_release(struct un_device *device, uint32_t count)
{
    struct netmap *netmap = netmap_of(device);
    un_assert(count <= netmap->waiting);
    netmap->first = (netmap->first + count) % COPIED_MAX;
    netmap->waiting -= count;
}

/* ---- send ---- */

static uint32_t slots_for(const struct netmap *netmap, uint32_t length)
{
    uint32_t part = netmap->pair.tx.buffer_bytes;
    return length <= part ? 1 : (length + part - 1) / part;
}

static uint32_t largest_packet(const struct netmap *netmap)
{
    return UN_ETHERNET_TAGGED_BYTES + (uint32_t)netmap->device.capabilities.mtu;
}

static uint32_t netmap_reserve(struct un_device *device, uint32_t count)
{
    struct netmap *netmap = netmap_of(device);
    uint32_t slots = slots_for(netmap, largest_packet(netmap));
    if (un_netmap_ready(&netmap->pair.tx) < count * slots)
        synchronise_tx(netmap);
    uint32_t room = un_netmap_ready(&netmap->pair.tx) / slots;
    device->counters->tx_full += room == 0 && count > 0;
    return count < room ? count : room;
}

/* The packet in the slots from `at` on, `parts` of them; the place behind it, or `at`: a slot is out of order. */
static uint32_t copy_in(const struct un_netmap_side *tx, const struct un_tx *packet, uint32_t at, uint32_t parts)
{
    uint32_t left = packet->length, first = at;
    struct un_gathered from = {.piece = packet->pieces};
    for (uint32_t part = 0; part < parts; part++, at = un_netmap_next(tx, at)) {
        struct un_netmap_slot *slot = &tx->ring->slots[at];
        uint32_t length = left < tx->buffer_bytes ? left : tx->buffer_bytes;
        uint32_t buffer = un_netmap_slot(tx, at).buffer;
        if (buffer >= tx->buffer_count)
            return first;
        un_gather(un_netmap_buffer(tx, buffer), length, &from);
        left -= length;
        slot->length = (uint16_t)length;
        slot->flags = left > 0 ? UN_NETMAP_MORE_PARTS : 0;
    }
    return at;
}

static void send_one(struct netmap *netmap, const struct un_tx *packet)
{
    struct un_netmap_side *tx = &netmap->pair.tx;
    uint32_t parts = slots_for(netmap, packet->length), at = tx->head, next = at;
    if (packet->length <= largest_packet(netmap) && parts <= un_netmap_ready(tx))
        next = copy_in(tx, packet, at, parts);
    if (next == at) {
        netmap->device.counters->tx_errors++;
        return;
    }
    un_netmap_give(tx, next);
    netmap->has_submitted = true;
    netmap->device.counters->tx_packets++;
    netmap->device.counters->tx_bytes += packet->length;
}

/* Where few slots are left, the last one that was filled tells when it was sent. */
static void ask_for_report(const struct un_netmap_side *tx)
{
    uint32_t head = tx->head;
    if (un_netmap_ready(tx) < tx->slot_count / 4)
        tx->ring->slots[head > 0 ? head - 1 : tx->slot_count - 1].flags |= UN_NETMAP_REPORT;
}

static void netmap_submit(struct un_device *device, const struct un_tx *packets, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        send_one(netmap_of(device), &packets[i]);
}

static void netmap_flush(struct un_device *device)
{
    struct netmap *netmap = netmap_of(device);
    if (netmap->has_submitted) {
        ask_for_report(&netmap->pair.tx);
        synchronise_tx(netmap);
    }
}

/* The next packet, still; poll is told that we have seen what is there. */
static bool has_to_wait(struct netmap *netmap)
{
    struct un_netmap_ring *ring = netmap->pair.rx.ring;
    bool has_come = un_observe(&ring->tail) != netmap->stuck_at;
    if (!netmap->is_stuck || has_come || (netmap->lacking > 0 && has_frames(netmap, netmap->lacking)))
        return false;
    un_store(&ring->cur, netmap->stuck_at);
    return true;
}

static bool netmap_sleep(struct un_device *device)
{
    struct netmap *netmap = netmap_of(device);
    carry(netmap, true);
    netmap_flush(device);
    if (netmap->has_released)
        synchronise_rx(netmap);
    return netmap->waiting == 0 && (un_netmap_ready(&netmap->pair.rx) == 0 || has_to_wait(netmap));
}

/* ---- begin and end ---- */

static void netmap_close(struct un_device *device)
{
    struct netmap *netmap = netmap_of(device);
    for (uint32_t i = 0; i < netmap->waiting; i++)
        un_pool_drop_chain(device->pool, netmap->ready[(netmap->first + i) % COPIED_MAX].frame);
    if (netmap->buffers)
        un_netmap_exchange_close(netmap->buffers, &netmap->pair);
    if (netmap->memory_fd >= 0) {
        un_netmap_unmap(&netmap->pair);
        close(netmap->memory_fd);
        close(netmap->fd);
        if (netmap->host)
            close(device->fd);
    }
    if (netmap->host)
        un_netmap_host_close(netmap->host);
    free(netmap);
}

static void netmap_held(const struct un_device *device, struct un_pool *pool)
{
    const struct netmap *netmap = (const struct netmap *)device;
    un_netmap_exchange_held(netmap->buffers, netmap->pair.rx.slot_count, pool);
}

#define OPERATIONS                                                                                                     \
    .name = "netmap", .attach = netmap_attach, .reserve = netmap_reserve, .submit = netmap_submit,                     \
    .flush = netmap_flush, .peek = netmap_peek, .release = netmap_release, .sleep = netmap_sleep, .close = netmap_close

static const struct un_device_operations netmap_operations = {OPERATIONS};
static const struct un_device_operations exchanging_operations = {OPERATIONS, .held = netmap_held};

struct un_device *un_netmap_over(const struct un_netmap_pair *pair, const struct un_netmap_memory *memory, int fd)
{
    struct netmap *netmap = calloc(1, sizeof *netmap);
    if (!netmap)
        return NULL;
    *netmap = (struct netmap){
        .device = {.operations = &netmap_operations, .fd = fd, .capabilities = {.mtu = memory->mtu, .queues = 1}},
        .pair = *pair,
        .fd = fd,
        .memory_fd = -1,
        .flags = memory->flags,
    };
    memcpy(netmap->device.capabilities.mac, memory->mac, sizeof memory->mac);
    return &netmap->device;
}

bool un_netmap_exchanges(struct un_device *device, uint32_t extra_buffers)
{
    struct netmap *netmap = netmap_of(device);
    un_assert(device->operations == &netmap_operations);
    netmap->buffers = un_netmap_exchange_open(&netmap->pair, extra_buffers);
    if (!netmap->buffers)
        return false;
    device->operations = &exchanging_operations;
    device->own_frames = netmap->buffers->frames;
    return true;
}

void un_netmap_carries_for(struct un_device *device, struct un_netmap_host *host, int wait_fd)
{
    struct netmap *netmap = netmap_of(device);
    un_assert(device->operations == &netmap_operations && !netmap->host);
    netmap->host = host;
    device->fd = wait_fd;
}

int un_netmap_carries(struct un_device *device, int host_fd, int host_memory_fd, int wait_fd, const char **why)
{
    struct un_netmap_host *host = un_netmap_host_open(host_fd, host_memory_fd);
    if (!host) {
        int error = errno;
        *why = un_why("the kernel's rings of the netmap port cannot be used: %s", strerror(error));
        return -error;
    }
    un_netmap_carries_for(device, host, wait_fd);
    return 0;
}

struct un_device *un_netmap_open(int fd, int memory_fd, uint16_t queue, uint16_t queues, const char **why)
{
    struct un_netmap_memory memory;
    struct un_netmap_pair pair;
    int error = un_netmap_recall(&memory, memory_fd);
    if (!error)
        error = un_netmap_map(&pair, fd, &memory);
    struct un_device *device = error ? NULL : un_netmap_over(&pair, &memory, fd);
    if (!device) {
        if (!error)
            un_netmap_unmap(&pair);
        error = error ? error : -ENOMEM;
        *why = un_why("the rings of the netmap port cannot be used: %s", strerror(-error));
        errno = -error;
        return NULL;
    }
    device->capabilities.queue = queue;
    device->capabilities.queues = queues;
    netmap_of(device)->memory_fd = memory_fd;
    return device;
}
