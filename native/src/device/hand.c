/* Packets in and out by hand: what an outside harness drives a stack with, packet by packet.
 *
 * Two lanes: input lies in frames of the owner's pool; output in frames of a pool of its own, large enough for as many
 * packets of the largest size as the lane has slots, so that only the slots bound it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "device/lane.h"

#define OUTPUT_FRAME_BYTES 2048u
/* Ethernet with a VLAN tag, and the longest packet that an IP header can tell */
#define INPUT_BYTES_MAX (18u + UINT16_MAX)

struct hand {
    struct un_device device; /* first */
    struct un_lane input;
    struct un_lane output;
    struct un_pool pool; /* of the output */
    struct un_pool_memory pool_memory;
};

static struct hand *hand_of(struct un_device *device)
{
    return (struct hand *)device;
}

static uint32_t hand_reserve(struct un_device *device, uint32_t count)
{
    uint32_t room = un_lane_room(&hand_of(device)->output, count);
    device->counters->tx_full += room < count;
    return room;
}

static void hand_submit(struct un_device *device, const struct un_tx *packets, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!un_lane_put(&hand_of(device)->output, &packets[i], 0, packets[i].segment_bytes)) {
            device->counters->tx_errors++;
            continue;
        }
        device->counters->tx_packets++;
        device->counters->tx_bytes += packets[i].length;
    }
}

static void hand_flush(struct un_device *device)
{
    (void)device;
}

static uint32_t hand_peek(struct un_device *device, struct un_rx *packets, uint32_t most)
{
    return un_lane_peek(&hand_of(device)->input, packets, most);
}

static void hand_release(struct un_device *device, uint32_t count)
{
    un_lane_release(&hand_of(device)->input, count);
}

static bool hand_sleep(struct un_device *device)
{
    return un_lane_used(&hand_of(device)->input) == 0;
}

static void hand_attach(struct un_device *device, struct un_pool *pool)
{
    un_lane_attach(&hand_of(device)->input, pool, 0);
}

static void hand_close(struct un_device *device)
{
    struct hand *hand = hand_of(device);
    un_lane_close(&hand->input);
    un_lane_close(&hand->output);
    free(hand->pool.frames);
    free(hand->pool.bytes);
    free(hand);
}

static const struct un_device_operations hand_operations = {
    .name = "hand",
    .attach = hand_attach,
    .reserve = hand_reserve,
    .submit = hand_submit,
    .flush = hand_flush,
    .peek = hand_peek,
    .release = hand_release,
    .sleep = hand_sleep,
    .close = hand_close,
};

/* A pool for `slots` packets of `packet_bytes`. The bytes are only touched as far as they are used. */
static int open_pool(struct hand *hand, uint32_t slots, uint32_t packet_bytes)
{
    uint32_t count = slots * ((packet_bytes + OUTPUT_FRAME_BYTES - 1) / OUTPUT_FRAME_BYTES);
    hand->pool.own = &hand->pool_memory;
    hand->pool.frames = calloc(count, sizeof *hand->pool.frames);
    hand->pool.bytes = malloc((size_t)count * OUTPUT_FRAME_BYTES);
    if (!hand->pool.frames || !hand->pool.bytes)
        return -ENOMEM;
    un_pool_format(&hand->pool, count, OUTPUT_FRAME_BYTES);
    un_lane_attach(&hand->output, &hand->pool, 0);
    return 0;
}

struct un_device *un_hand_open(const struct un_device_capabilities *capabilities, uint32_t slots)
{
    uint32_t packet_bytes = un_lane_packet_bytes(capabilities);
    struct hand *hand = calloc(1, sizeof *hand);
    if (!hand)
        return NULL;
    hand->device = (struct un_device){.operations = &hand_operations, .fd = -1, .counters = &hand->device.early,
                                     .capabilities = *capabilities};
    int error = un_lane_init(&hand->input, slots, packet_bytes);
    if (!error)
        error = un_lane_init(&hand->output, slots, packet_bytes);
    if (!error)
        error = open_pool(hand, slots, packet_bytes);
    if (error) {
        hand_close(&hand->device);
        errno = -error;
        return NULL;
    }
    return &hand->device;
}

int un_hand_input(struct un_device *device, const void *bytes, uint32_t length, uint16_t rx_flags,
                  uint16_t segment_bytes)
{
    struct un_piece piece = {.bytes = bytes, .length = length, .frame = UN_NONE};
    struct un_tx packet = {.pieces = &piece, .count = 1, .length = length};
    if (length > INPUT_BYTES_MAX)
        return -EMSGSIZE;
    if (!un_lane_put(&hand_of(device)->input, &packet, rx_flags, segment_bytes)) {
        device->counters->rx_no_frame++;
        return -ENOBUFS;
    }
    device->counters->rx_packets++;
    device->counters->rx_bytes += length;
    return 0;
}

bool un_hand_is(const struct un_device *device)
{
    return device->operations == &hand_operations;
}

static void copy_chain(const struct un_pool *pool, uint32_t frame, uint8_t *to)
{
    for (; frame != UN_NONE; frame = pool->frames[frame].next) {
        const struct un_frame *record = &pool->frames[frame];
        memcpy(to, un_pool_bytes(pool, frame) + record->offset, record->length);
        to += record->length;
    }
}

int un_hand_output(struct un_device *device, void *bytes, uint32_t most, struct un_tx *out)
{
    struct hand *hand = hand_of(device);
    if (un_lane_used(&hand->output) == 0)
        return 0;
    const struct un_lane_packet *packet = un_lane_at(&hand->output, hand->output.taken);
    uint32_t length = packet->rx.length;
    if (length > most)
        return -EMSGSIZE;
    copy_chain(&hand->pool, packet->rx.frame, bytes);
    if (out)
        *out = (struct un_tx){
            .flags = packet->tx_flags,
            .segment_bytes = packet->rx.segment_bytes,
            .header_length = packet->header_length,
            .checksum_start = packet->checksum_start,
            .checksum_offset = packet->checksum_offset,
            .length = length,
        };
    un_pool_drop_chain(&hand->pool, packet->rx.frame);
    un_lane_release(&hand->output, 1);
    return (int)length;
}
