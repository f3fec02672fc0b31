/* One queue of a network card through an AF_XDP socket: Ethernet frames that the kernel puts into our frames, and takes
 * from them.
 *
 * The socket was made and bound elsewhere (afxdp_socket.c), and the pool's frames are registered with it, so a frame of
 * the pool is a chunk of the kernel's. Socket, rings and the memory beside them outlive the process. How the next one
 * finds out which frames the kernel has is in afxdp_memory.h.
 *
 * Receive. Free frames go to the kernel by `fill`, at most a quarter of the pool, and come back with packets; a packet
 * larger than a frame comes in several. The kernel says nothing about checksums. When it had none, and some became free
 * without a packet that came or went, it gets them before the next sleep.
 *
 * Send. The kernel takes whole frames, and the headers are only lent. So each packet is copied into frames of the
 * device's own, which are free again when the kernel has completed them. Where its kernel or card completes checksums,
 * that is asked for in front of the packet. flush makes one system call for all that was submitted; the kernel may take
 * less of it, and is called again as long as it takes some. What it leaves, as the queue behind it is full, it is
 * offered again before each sleep, and now and then while nothing comes: nobody may submit anything more.
 * A descriptor that the kernel finds invalid (tx_errors) is never completed, and nobody says which: its frame is the
 * kernel's until the socket ends, as one that is being sent.
 *
 * An interface that is removed takes the socket's queue with it, and neither poll nor the rings tell. A system call
 * does: each that sends, and one for this alone when nothing came since the last sleep. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "device/afxdp_rings.h"
#include "device/device.h"
#include "device/gather.h"
#include "device/why.h"

#define STATISTICS_EVERY 256u /* flushes and sleeps: then the socket's statistics are read */
#define IDLE_PEEKS 1024u /* in vain: then the kernel is offered what it left, and asked whether there is a queue */

struct afxdp {
    struct un_device device; /* first */
    struct un_afxdp_rings rings;
    struct un_afxdp_memory *memory;
    uint64_t memory_bytes;
    int memory_fd;
    uint32_t given;   /* frames with the note TO_FILL: on their way to the kernel, there, or on their way back */
    uint32_t sending; /* frames with the note TO_SEND */
    uint32_t looks;
    uint32_t idle;    /* peeks that found nothing */
    uint32_t seen;    /* packets that had come when its owner went to sleep last */
};

static struct afxdp *afxdp_of(const struct un_device *device)
{
    return (struct afxdp *)(uintptr_t)device;
}

static uint32_t frame_at(const struct afxdp *afxdp, uint64_t address)
{
    uint64_t frame = address / afxdp->memory->frame_bytes;
    un_assert(frame < afxdp->memory->frame_count);
    return (uint32_t)frame;
}

/* ---- what the kernel has ---- */

typedef uint64_t address_reader(const struct un_afxdp_ring *ring, uint32_t index);

static uint64_t address_of_slot(const struct un_afxdp_ring *ring, uint32_t index)
{
    return *un_afxdp_address(ring, index);
}

static uint64_t address_of_packet(const struct un_afxdp_ring *ring, uint32_t index)
{
    return un_afxdp_packet(ring, index)->addr;
}

/* The kernel has not seen this batch: its process died before the ring went on. */
static bool is_unseen(const struct un_afxdp_batch *batch, const struct un_afxdp_ring *ring)
{
    return batch->count > 0 && un_load(ring->producer) == batch->at;
}

static bool is_in_unseen(const struct afxdp *afxdp, const struct un_afxdp_batch *batch,
                         const struct un_afxdp_ring *ring, address_reader *read, uint32_t frame)
{
    if (!is_unseen(batch, ring))
        return false;
    for (uint32_t i = 0; i < batch->count; i++)
        if (frame_at(afxdp, read(ring, batch->at + i)) == frame)
            return true;
    return false;
}

static bool is_kernels(const struct afxdp *afxdp, uint32_t frame)
{
    const struct un_afxdp_memory *memory = afxdp->memory;
    const struct un_afxdp_rings *rings = &afxdp->rings;
    if (memory->notes[frame] == UN_AFXDP_TO_FILL)
        return !is_in_unseen(afxdp, &memory->filling, &rings->fill, address_of_slot, frame);
    if (memory->notes[frame] == UN_AFXDP_TO_SEND)
        return !is_in_unseen(afxdp, &memory->sending, &rings->tx, address_of_packet, frame);
    return false;
}

/* Frames that stand in a ring which comes back, and have no note any more: a process died while it took them. */
static void hold_unnoted(const struct afxdp *afxdp, struct un_pool *pool, const struct un_afxdp_ring *ring,
                         address_reader *read)
{
    uint32_t first = un_load(ring->consumer), count = un_afxdp_ready(ring);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t frame = frame_at(afxdp, read(ring, first + i));
        if (afxdp->memory->notes[frame] == UN_AFXDP_OURS)
            un_assert(un_pool_hold(pool, frame));
    }
}

static void afxdp_held(const struct un_device *device, struct un_pool *pool)
{
    const struct afxdp *afxdp = afxdp_of(device);
    for (uint32_t frame = 0; frame < afxdp->memory->frame_count; frame++)
        if (is_kernels(afxdp, frame))
            un_assert(un_pool_hold(pool, frame));
    hold_unnoted(afxdp, pool, &afxdp->rings.rx, address_of_packet);
    hold_unnoted(afxdp, pool, &afxdp->rings.completion, address_of_slot);
}

/* What the ring will say again when the frames are taken from it. */
static void note_again(struct afxdp *afxdp, const struct un_afxdp_ring *ring, address_reader *read, uint8_t note)
{
    uint32_t first = un_load(ring->consumer), count = un_afxdp_ready(ring);
    for (uint32_t i = 0; i < count; i++)
        afxdp->memory->notes[frame_at(afxdp, read(ring, first + i))] = note;
}

static void forget_unseen(struct afxdp *afxdp, struct un_afxdp_batch *batch, const struct un_afxdp_ring *ring,
                          address_reader *read)
{
    for (uint32_t i = 0; is_unseen(batch, ring) && i < batch->count; i++)
        afxdp->memory->notes[frame_at(afxdp, read(ring, batch->at + i))] = UN_AFXDP_OURS;
    un_compiler_fence();
    batch->count = 0;
}

static void count_notes(struct afxdp *afxdp)
{
    afxdp->given = afxdp->sending = 0;
    for (uint32_t frame = 0; frame < afxdp->memory->frame_count; frame++) {
        afxdp->given += afxdp->memory->notes[frame] == UN_AFXDP_TO_FILL;
        afxdp->sending += afxdp->memory->notes[frame] == UN_AFXDP_TO_SEND;
    }
}

/* The places from the ring's end on hold these frames; they become the kernel's with the last store. */
static void put(struct afxdp *afxdp, struct un_afxdp_ring *ring, struct un_afxdp_batch *batch, const uint32_t *frames,
                uint32_t count, uint8_t note)
{
    uint32_t at = un_load(ring->producer);
    batch->at = at;
    un_compiler_fence();
    batch->count = count;
    un_compiler_fence();
    for (uint32_t i = 0; i < count; i++)
        afxdp->memory->notes[frames[i]] = note;
    un_publish(ring->producer, at + count);
    un_compiler_fence();
    batch->count = 0;
}

/* ---- receive ---- */

static uint32_t wanted(const struct afxdp *afxdp)
{
    uint32_t most = afxdp->device.pool->own->count / 4;
    return most < afxdp->memory->fill_slots ? most : afxdp->memory->fill_slots;
}

/* The last frames are left for acknowledgements to be sent from. */
static uint32_t take_frames(struct afxdp *afxdp, uint32_t *frames, uint32_t most)
{
    struct un_pool *pool = afxdp->device.pool;
    uint32_t count = 0;
    while (count < most && pool->own->free_count > pool->own->count / 64)
        frames[count++] = un_pool_take(pool);
    afxdp->device.counters->rx_no_frame += count < most;
    return count;
}

static uint32_t fill_some(struct afxdp *afxdp, uint32_t most)
{
    struct un_afxdp_ring *fill = &afxdp->rings.fill;
    uint32_t frames[UN_AFXDP_BATCH_MAX], at = un_load(fill->producer);
    uint32_t room = afxdp->memory->fill_slots - un_afxdp_waiting(fill);
    most = most < UN_AFXDP_BATCH_MAX ? most : UN_AFXDP_BATCH_MAX;
    uint32_t count = take_frames(afxdp, frames, most < room ? most : room);
    for (uint32_t i = 0; i < count; i++)
        *un_afxdp_address(fill, at + i) = (uint64_t)frames[i] * afxdp->memory->frame_bytes;
    if (count > 0)
        put(afxdp, fill, &afxdp->memory->filling, frames, count, UN_AFXDP_TO_FILL);
    afxdp->given += count;
    return count;
}

/* In batches, or when few are left. */
static void refill(struct afxdp *afxdp)
{
    uint32_t most = wanted(afxdp), count = 1;
    if (afxdp->given + UN_AFXDP_BATCH_MAX > most && afxdp->given > most / 2)
        return;
    while (afxdp->given < most && count > 0)
        count = fill_some(afxdp, most - afxdp->given);
    if (un_afxdp_wants_wake(&afxdp->rings.fill))
        recvfrom(afxdp->device.fd, NULL, 0, MSG_DONTWAIT, NULL, NULL);
}

static void afxdp_attach(struct un_device *device, struct un_pool *pool)
{
    struct afxdp *afxdp = afxdp_of(device);
    struct un_afxdp_memory *memory = afxdp->memory;
    un_assert(pool->own->count <= memory->frame_count && pool->own->frame_bytes == memory->frame_bytes);
    forget_unseen(afxdp, &memory->filling, &afxdp->rings.fill, address_of_slot);
    forget_unseen(afxdp, &memory->sending, &afxdp->rings.tx, address_of_packet);
    note_again(afxdp, &afxdp->rings.rx, address_of_packet, UN_AFXDP_TO_FILL);
    note_again(afxdp, &afxdp->rings.completion, address_of_slot, UN_AFXDP_TO_SEND);
    count_notes(afxdp);
    refill(afxdp);
}

static bool has_more(const struct xdp_desc *part)
{
    return part->options & UN_AFXDP_PACKET_CONTINUES;
}

/* The packet that begins at this place of the ring; the place behind it, or `at` while a part of it has not come. */
static uint32_t describe(const struct afxdp *afxdp, uint32_t at, uint32_t end, struct un_rx *packet)
{
    struct un_frame *records = afxdp->device.pool->frames;
    uint32_t *link = &packet->frame, next = at;
    const struct xdp_desc *part;
    *packet = (struct un_rx){.length = 0};
    do {
        if (next == end)
            return at;
        part = un_afxdp_packet(&afxdp->rings.rx, next++);
        uint32_t frame = frame_at(afxdp, part->addr);
        records[frame].offset = (uint16_t)(part->addr % afxdp->memory->frame_bytes);
        records[frame].length = (uint16_t)part->len;
        records[frame].next = UN_NONE;
        *link = frame;
        link = &records[frame].next;
        packet->length += part->len;
    } while (has_more(part));
    return next;
}

/* As long as the kernel takes something: a call takes no more than the socket's budget. */
static void kick(struct afxdp *afxdp)
{
    const struct un_afxdp_ring *tx = &afxdp->rings.tx;
    for (uint32_t waits = un_afxdp_waiting(tx), before = waits + 1; waits > 0 && waits < before;) {
        if (!un_afxdp_wants_wake(tx))
            return;
        if (sendto(afxdp->device.fd, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0 && errno == ENXIO)
            afxdp->device.gone = true;
        before = waits;
        waits = un_afxdp_waiting(tx);
    }
}

/* Whether there is still a queue: until the socket is bound again, which it never is, there is none. Of one that is
 * polled, the driver's work, which otherwise an interrupt would begin, is done within this call. */
static void ask(struct afxdp *afxdp)
{
    if (recvfrom(afxdp->device.fd, NULL, 0, MSG_DONTWAIT, NULL, NULL) < 0 && errno == ENXIO)
        afxdp->device.gone = true;
}

static uint32_t afxdp_peek(struct un_device *device, struct un_rx *packets, uint32_t most)
{
    struct afxdp *afxdp = afxdp_of(device);
    const struct un_afxdp_ring *rx = &afxdp->rings.rx;
    if (afxdp->memory->is_polled && un_afxdp_ready(rx) == 0)
        ask(afxdp);
    uint32_t at = un_load(rx->consumer), end = at + un_afxdp_ready(rx), count = 0;
    while (count < most) {
        uint32_t next = describe(afxdp, at, end, &packets[count]);
        if (next == at)
            break;
        at = next;
        count++;
    }
    if (count == 0 && ++afxdp->idle % IDLE_PEEKS == 0) {
        kick(afxdp);
        refill(afxdp);
        ask(afxdp);
    }
    return count;
}

/* The notes go first: until the ring goes on, it says that these frames are not free. */
static void afxdp_release(struct un_device *device, uint32_t count)
{
    struct afxdp *afxdp = afxdp_of(device);
    const struct un_afxdp_ring *rx = &afxdp->rings.rx;
    uint32_t first = un_load(rx->consumer), at = first, end = first + un_afxdp_ready(rx);
    device->counters->rx_packets += count;
    for (; count > 0; at++) {
        un_assert(at != end);
        const struct xdp_desc *part = un_afxdp_packet(rx, at);
        afxdp->memory->notes[frame_at(afxdp, part->addr)] = UN_AFXDP_OURS;
        device->counters->rx_bytes += part->len;
        count -= !has_more(part);
    }
    afxdp->given -= at - first;
    un_publish(rx->consumer, at);
    refill(afxdp);
}

/* ---- send ---- */

static uint32_t reap_some(struct afxdp *afxdp)
{
    const struct un_afxdp_ring *completion = &afxdp->rings.completion;
    uint32_t frames[UN_AFXDP_BATCH_MAX], first = un_load(completion->consumer), count = un_afxdp_ready(completion);
    count = count < UN_AFXDP_BATCH_MAX ? count : UN_AFXDP_BATCH_MAX;
    for (uint32_t i = 0; i < count; i++) {
        frames[i] = frame_at(afxdp, *un_afxdp_address(completion, first + i));
        afxdp->memory->notes[frames[i]] = UN_AFXDP_OURS;
    }
    un_publish(completion->consumer, first + count);
    for (uint32_t i = 0; i < count; i++)
        un_pool_drop(afxdp->device.pool, frames[i]);
    afxdp->sending -= count;
    return count;
}

static void reap(struct afxdp *afxdp)
{
    while (reap_some(afxdp) == UN_AFXDP_BATCH_MAX)
        ;
}

/* Of a frame: what a packet to send may fill. The kernel wants room for metadata in front of each, not of the first
 * alone. */
static uint32_t part_bytes(const struct afxdp *afxdp)
{
    return afxdp->memory->frame_bytes - afxdp->memory->metadata_bytes;
}

static uint32_t frames_for(const struct afxdp *afxdp, uint32_t length)
{
    uint32_t part = part_bytes(afxdp);
    return length <= part ? 1 : (length + part - 1) / part;
}

static uint32_t largest_packet(const struct afxdp *afxdp)
{
    return UN_ETHERNET_TAGGED_BYTES + (uint32_t)afxdp->memory->mtu;
}

static uint32_t room(const struct afxdp *afxdp)
{
    uint32_t slots = afxdp->memory->tx_slots - afxdp->sending, frames = afxdp->device.pool->own->free_count;
    return slots < frames ? slots : frames;
}

static uint32_t afxdp_reserve(struct un_device *device, uint32_t count)
{
    struct afxdp *afxdp = afxdp_of(device);
    reap(afxdp);
    uint32_t packets = room(afxdp) / frames_for(afxdp, largest_packet(afxdp));
    if (packets == 0 && count > 0) {
        device->counters->tx_full++;
        kick(afxdp); /* what was left lying while the interface was down: nobody submits anything more */
    }
    return count < packets ? count : packets;
}

/* Of a packet that begins at `bytes`; what its descriptor has to say. */
static uint32_t ask_for_checksum(uint8_t *bytes, const struct un_tx *packet)
{
    const struct un_afxdp_metadata metadata = {
        .flags = UN_AFXDP_METADATA_CHECKSUM,
        .checksum_start = packet->checksum_start,
        .checksum_offset = packet->checksum_offset,
    };
    memcpy(bytes - sizeof metadata, &metadata, sizeof metadata);
    return UN_AFXDP_PACKET_HAS_METADATA;
}

/* A packet in frames of its own, `count` of them, at these places of the ring. */
static void lay_out(struct afxdp *afxdp, const struct un_tx *packet, uint32_t at, uint32_t *frames, uint32_t count)
{
    uint32_t left = packet->length, metadata_bytes = afxdp->memory->metadata_bytes;
    struct un_gathered from = {.piece = packet->pieces};
    for (uint32_t i = 0; i < count; i++) {
        uint32_t part = i + 1 < count ? part_bytes(afxdp) : left, options = 0;
        frames[i] = un_pool_take(afxdp->device.pool);
        uint8_t *bytes = un_pool_bytes(afxdp->device.pool, frames[i]) + metadata_bytes;
        un_gather(bytes, part, &from);
        left -= part;
        if (i == 0 && packet->flags & UN_TX_CHECKSUM)
            options = ask_for_checksum(bytes, packet);
        *un_afxdp_packet(&afxdp->rings.tx, at + i) = (struct xdp_desc){
            .addr = (uint64_t)frames[i] * afxdp->memory->frame_bytes + metadata_bytes,
            .len = part,
            .options = options | (left > 0 ? UN_AFXDP_PACKET_CONTINUES : 0),
        };
    }
}

/* The packet at these places of the ring: how many. 0: it cannot be sent. */
static uint32_t prepare(struct afxdp *afxdp, const struct un_tx *packet, uint32_t at, uint32_t *frames)
{
    struct un_device_counters *counters = afxdp->device.counters;
    uint32_t count = frames_for(afxdp, packet->length);
    if (packet->length > largest_packet(afxdp) || count > room(afxdp)) {
        counters->tx_errors++;
        return 0;
    }
    lay_out(afxdp, packet, at, frames, count);
    afxdp->sending += count;
    counters->tx_packets++;
    counters->tx_bytes += packet->length;
    return count;
}

/* As many packets as fill a batch, each of them whole in it. */
static uint32_t submit_some(struct afxdp *afxdp, const struct un_tx *packets, uint32_t count)
{
    uint32_t frames[UN_AFXDP_BATCH_MAX], at = un_load(afxdp->rings.tx.producer), put_count = 0, done = 0;
    uint32_t most = UN_AFXDP_BATCH_MAX - frames_for(afxdp, largest_packet(afxdp));
    for (; done < count && put_count <= most; done++)
        put_count += prepare(afxdp, &packets[done], at + put_count, frames + put_count);
    if (put_count > 0)
        put(afxdp, &afxdp->rings.tx, &afxdp->memory->sending, frames, put_count, UN_AFXDP_TO_SEND);
    return done;
}

static void afxdp_submit(struct un_device *device, const struct un_tx *packets, uint32_t count)
{
    while (count > 0) {
        uint32_t done = submit_some(afxdp_of(device), packets, count);
        packets += done;
        count -= done;
    }
}

/* The socket's statistics go on with the socket, and so does the note of what was counted. */
static void look(struct afxdp *afxdp)
{
    uint64_t now[UN_AFXDP_STATISTICS] = {0}, *counted = afxdp->memory->counted;
    struct un_device_counters *counters = afxdp->device.counters;
    socklen_t bytes = sizeof now;
    UN_STATIC_ASSERT(sizeof now == sizeof(struct xdp_statistics), "as the kernel has them");
    if (afxdp->looks++ % STATISTICS_EVERY || getsockopt(afxdp->device.fd, SOL_XDP, XDP_STATISTICS, now, &bytes) < 0)
        return;
    enum { DROPPED, RX_INVALID, TX_INVALID, RX_FULL, FILL_EMPTY };
    counters->rx_dropped += now[DROPPED] - counted[DROPPED] + now[RX_FULL] - counted[RX_FULL];
    counters->rx_errors += now[RX_INVALID] - counted[RX_INVALID];
    counters->tx_errors += now[TX_INVALID] - counted[TX_INVALID];
    counters->rx_no_frame += now[FILL_EMPTY] - counted[FILL_EMPTY];
    memcpy(counted, now, sizeof now);
}

static void afxdp_flush(struct un_device *device)
{
    struct afxdp *afxdp = afxdp_of(device);
    kick(afxdp);
    reap(afxdp);
    refill(afxdp);
    look(afxdp);
}

static bool afxdp_sleep(struct un_device *device)
{
    struct afxdp *afxdp = afxdp_of(device);
    uint32_t seen = un_load(afxdp->rings.rx.consumer);
    afxdp_flush(device);
    if (seen == afxdp->seen)
        ask(afxdp);
    afxdp->seen = seen;
    return un_afxdp_ready(&afxdp->rings.rx) == 0;
}

/* ---- begin and end ---- */

static void afxdp_close(struct un_device *device)
{
    struct afxdp *afxdp = afxdp_of(device);
    un_afxdp_rings_unmap(&afxdp->rings);
    if (afxdp->memory_bytes > 0)
        munmap(afxdp->memory, afxdp->memory_bytes);
    if (afxdp->memory_fd >= 0)
        close(afxdp->memory_fd);
    if (device->fd >= 0)
        close(device->fd);
    free(afxdp);
}

static const struct un_device_operations afxdp_operations = {
    .name = "afxdp",
    .attach = afxdp_attach,
    .held = afxdp_held,
    .reserve = afxdp_reserve,
    .submit = afxdp_submit,
    .flush = afxdp_flush,
    .peek = afxdp_peek,
    .release = afxdp_release,
    .sleep = afxdp_sleep,
    .close = afxdp_close,
};

static struct un_afxdp_memory *map_memory(int fd, uint64_t *bytes)
{
    struct stat status;
    if (fstat(fd, &status) < 0 || status.st_size < (off_t)sizeof(struct un_afxdp_memory))
        return NULL;
    *bytes = (uint64_t)status.st_size;
    void *memory = mmap(NULL, *bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static bool is_valid(const struct un_afxdp_memory *memory, uint64_t bytes)
{
    return memory->magic == UN_AFXDP_MAGIC && un_afxdp_memory_bytes(memory->frame_count) <= bytes;
}

struct un_device *un_afxdp_over(const struct un_afxdp_rings *rings, struct un_afxdp_memory *memory, int fd)
{
    struct afxdp *afxdp = calloc(1, sizeof *afxdp);
    if (!afxdp)
        return NULL;
    *afxdp = (struct afxdp){
        .device = {.operations = &afxdp_operations, .fd = fd, .capabilities = {.mtu = memory->mtu, .queues = 1}},
        .rings = *rings,
        .memory = memory,
        .memory_fd = -1,
    };
    memcpy(afxdp->device.capabilities.mac, memory->mac, sizeof memory->mac);
    afxdp->device.capabilities.tx_checksum = memory->metadata_bytes > 0;
    return &afxdp->device;
}

/* The rings of a socket and a device over them; 0 or -errno. */
static int open_over(struct un_afxdp_memory *memory, int fd, struct un_device **device, const char **why)
{
    struct un_afxdp_rings rings;
    int error = un_afxdp_rings_map(&rings, fd, memory);
    if (error) {
        *why = un_why("the rings of the AF_XDP socket cannot be mapped: %s", strerror(-error));
        return error;
    }
    *device = un_afxdp_over(&rings, memory, fd);
    if (!*device) {
        *why = strerror(ENOMEM);
        un_afxdp_rings_unmap(&rings);
        return -ENOMEM;
    }
    (*device)->capabilities.tx_alone = un_afxdp_is_zero_copy(fd) != 1; /* the kernel copies one, and hands it on */
    return 0;
}

struct un_device *un_afxdp_open(int fd, int memory_fd, uint16_t queue, uint16_t queues, const char **why)
{
    uint64_t bytes = 0;
    struct un_device *device = NULL;
    struct un_afxdp_memory *memory = map_memory(memory_fd, &bytes);
    int error = memory && is_valid(memory, bytes) ? 0 : -EINVAL;
    if (error)
        *why = "the memory that was handed down with the AF_XDP socket is not the one that belongs to it";
    else
        error = open_over(memory, fd, &device, why);
    if (error) {
        if (memory)
            munmap(memory, bytes);
        errno = -error;
        return NULL;
    }
    device->capabilities.queue = queue;
    device->capabilities.queues = queues;
    afxdp_of(device)->memory_bytes = bytes;
    afxdp_of(device)->memory_fd = memory_fd;
    return device;
}
