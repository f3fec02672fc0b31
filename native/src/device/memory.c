/* A wire within the process: each end sends into the lane from which the other one receives (lane.h).
 *
 * Packets are there as soon as they were submitted; flush has nothing to do. Back-pressure is reserve: it looks at the
 * room and at the frames of the other end, of which it leaves one in FRAMES_LEFT_PART alone. What is lost is counted:
 * at the receiver when it had no frame or was never attached, at the sender when the packet was too large to be one of
 * its capabilities or the other end is closed; at the receiver when it is too large for its MTU (a black hole, as on a
 * path with a narrow link). */
#include <errno.h>
#include <stdlib.h>

#include "device/lane.h"

#define FRAMES_LEFT_PART 32u

struct end {
    struct un_device device; /* first */
    struct end *peer;        /* NULL: closed */
    struct un_lane received;
};

static struct end *end_of(struct un_device *device)
{
    return (struct end *)device;
}

static uint32_t memory_reserve(struct un_device *device, uint32_t count)
{
    struct end *peer = end_of(device)->peer;
    uint32_t room = peer ? un_lane_room(&peer->received, count) : count;
    device->counters->tx_full += room < count;
    return room;
}

/* Bytes of the packet as it would stand on a real wire: of one part of a super-segment. */
static inline uint32_t part_length(const struct un_tx *packet)
{
    if (!(packet->flags & UN_TX_SEGMENT))
        return packet->length;
    uint32_t part = (uint32_t)packet->header_length + packet->segment_bytes;
    return part < packet->length ? part : packet->length;
}

static inline bool fits(const struct un_device *device, uint32_t part)
{
    return part <= device->capabilities.mtu + UN_ETHERNET_TAGGED_BYTES;
}

/* It asks the device for nothing that it did not offer. */
static inline bool may_send(const struct end *end, const struct un_tx *packet)
{
    const struct un_device_capabilities *can = &end->device.capabilities;
    if (!(packet->flags & (UN_TX_CHECKSUM | UN_TX_SEGMENT)))
        return true;
    return can->tx_checksum && (!(packet->flags & UN_TX_SEGMENT) ||
                                packet->length - packet->header_length <= can->tx_segment_bytes);
}

static inline void deliver(struct end *peer, const struct un_tx *packet, uint32_t part)
{
    bool is_segmented = packet->flags & UN_TX_SEGMENT;
    uint16_t flags = packet->flags & (UN_TX_CHECKSUM | UN_TX_SEGMENT) ? UN_RX_CHECKSUM_GOOD : 0;
    struct un_device_counters *counters = peer->device.counters;
    if (!fits(&peer->device, part)) {
        counters->rx_dropped++;
    } else if (un_lane_put(&peer->received, packet, flags, is_segmented ? packet->segment_bytes : 0)) {
        counters->rx_packets++;
        counters->rx_bytes += packet->length;
    } else {
        counters->rx_no_frame++;
        counters->rx_dropped++;
    }
}

static void memory_submit(struct un_device *device, const struct un_tx *packets, uint32_t count)
{
    struct end *end = end_of(device);
    for (const struct un_tx *packet = packets; packet < packets + count; packet++) {
        uint32_t part = part_length(packet);
        if (!end->peer || !may_send(end, packet) || !fits(device, part)) {
            device->counters->tx_errors++;
            continue;
        }
        deliver(end->peer, packet, part);
        device->counters->tx_packets++;
        device->counters->tx_bytes += packet->length;
    }
}

static void memory_flush(struct un_device *device)
{
    (void)device;
}

static uint32_t memory_peek(struct un_device *device, struct un_rx *packets, uint32_t most)
{
    return un_lane_peek(&end_of(device)->received, packets, most);
}

static void memory_release(struct un_device *device, uint32_t count)
{
    un_lane_release(&end_of(device)->received, count);
}

static bool memory_sleep(struct un_device *device)
{
    return un_lane_used(&end_of(device)->received) == 0;
}

static void memory_attach(struct un_device *device, struct un_pool *pool)
{
    un_lane_attach(&end_of(device)->received, pool, pool->own->count / FRAMES_LEFT_PART);
}

static void memory_close(struct un_device *device)
{
    struct end *end = end_of(device);
    if (end->peer)
        end->peer->peer = NULL;
    un_lane_close(&end->received);
    free(end);
}

static const struct un_device_operations memory_operations = {
    .name = "memory",
    .attach = memory_attach,
    .reserve = memory_reserve,
    .submit = memory_submit,
    .flush = memory_flush,
    .peek = memory_peek,
    .release = memory_release,
    .sleep = memory_sleep,
    .close = memory_close,
};

static int open_end(struct end **opened, const struct un_device_capabilities *own,
                    const struct un_device_capabilities *other, uint32_t slots)
{
    struct end *end = calloc(1, sizeof *end);
    if (!end)
        return -ENOMEM;
    int error = un_lane_init(&end->received, slots, un_lane_packet_bytes(other));
    if (error) {
        free(end);
        return error;
    }
    end->device = (struct un_device){.operations = &memory_operations, .fd = -1, .counters = &end->device.early,
                                     .capabilities = *own};
    *opened = end;
    return 0;
}

/* The wire completes and cuts nothing: what one end leaves undone, the other one has to take. */
static bool fit_together(const struct un_device_capabilities *sends, const struct un_device_capabilities *receives)
{
    return (!sends->tx_checksum || receives->rx_checksum) &&
           (!sends->tx_segment_bytes || (sends->tx_checksum && receives->rx_coalesce));
}

int un_memory_pair(struct un_device *ends[2], const struct un_device_capabilities capabilities[2], uint32_t slots)
{
    if (!fit_together(&capabilities[0], &capabilities[1]) || !fit_together(&capabilities[1], &capabilities[0]))
        return -EINVAL;
    struct end *left = NULL;
    struct end *right = NULL;
    int error = open_end(&left, &capabilities[0], &capabilities[1], slots);
    if (error)
        return error;
    error = open_end(&right, &capabilities[1], &capabilities[0], slots);
    if (error) {
        memory_close(&left->device);
        return error;
    }
    left->peer = right;
    right->peer = left;
    ends[0] = &left->device;
    ends[1] = &right->device;
    return 0;
}
