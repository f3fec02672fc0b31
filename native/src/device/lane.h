/* One direction of a wire within a process: packets that were sent and not yet received, in frames of the receiver.
 *
 * The sender's bytes are gathered straight into frames of the receiver's pool, so that a byte is copied once. The ring
 * holds what the receiver is told (un_rx), and what the sender asked the device to do, for tools that look at it. Both
 * ends are used by one thread. Without a pool nothing receives at the far end, and packets are lost.
 *
 * When a lane is attached to another pool, it forgets what it holds: the new owner has counted those frames as free. */
#ifndef UN_LANE_H
#define UN_LANE_H

#include "device/device.h"

struct un_lane_packet {
    struct un_rx rx;
    uint16_t tx_flags;
    uint16_t header_length;
    uint16_t checksum_start;
    uint16_t checksum_offset;
};

struct un_lane {
    struct un_pool *pool;
    struct un_lane_packet *packets;
    uint32_t size; /* a power of two */
    uint32_t put;
    uint32_t taken;
    uint32_t packet_bytes; /* of the largest packet that may come, with its Ethernet header */
    uint32_t frames_each;  /* that it needs */
    uint32_t frames_left;  /* that a reservation leaves to the receiver's own needs */
};

/* The largest frame that a device with these capabilities is given to send. */
uint32_t un_lane_packet_bytes(const struct un_device_capabilities *capabilities);

int un_lane_init(struct un_lane *lane, uint32_t size, uint32_t packet_bytes); /* 0, -EINVAL, -ENOMEM */
void un_lane_attach(struct un_lane *lane, struct un_pool *pool, uint32_t frames_left);
void un_lane_close(struct un_lane *lane); /* drops the frames it holds */

/* How many of `count` packets may be put now: room in the ring, and frames even if all were of the largest size. */
uint32_t un_lane_room(const struct un_lane *lane, uint32_t count);

/* False: no room, no frame, or no pool; nothing was changed. */
bool un_lane_put(struct un_lane *lane, const struct un_tx *packet, uint16_t rx_flags, uint16_t segment_bytes);

static inline uint32_t un_lane_used(const struct un_lane *lane)
{
    return lane->put - lane->taken;
}

static inline struct un_lane_packet *un_lane_at(const struct un_lane *lane, uint32_t index)
{
    return &lane->packets[index & (lane->size - 1)];
}

static inline uint32_t un_lane_peek(const struct un_lane *lane, struct un_rx *packets, uint32_t most)
{
    uint32_t count = un_lane_used(lane) < most ? un_lane_used(lane) : most;
    for (uint32_t i = 0; i < count; i++)
        packets[i] = un_lane_at(lane, lane->taken + i)->rx;
    return count;
}

static inline void un_lane_release(struct un_lane *lane, uint32_t count)
{
    un_assert(count <= un_lane_used(lane));
    lane->taken += count;
}

#endif
