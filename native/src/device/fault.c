/* Around any device: packets are lost, doubled, damaged and reordered, both ways, as a seed says.
 *
 * Each direction has a generator of its own and draws the same number of times for every packet, so that what happens
 * to a packet depends on the seed and on how many went before it. A damaged packet is damaged as on a wire, behind the
 * device that completed its checksum: one flipped bit is always found. Where that cannot be had (a received packet that
 * says UN_RX_CHECKSUM_GOOD; ARP, which has only Ethernet's checksum) the damaged packet is dropped, as the NIC would
 * do.
 *
 * A packet that is held back waits for 1 to 8 later ones; when none follow, it is as good as lost. Packets that were
 * sent are passed on at once; only copies and late ones are kept here, and they go when the inner device has room
 * beyond what it promised to the owner. Counters are the inner device's, with what was lost here. */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "device/device.h"

#define HELD_MAX 16u
#define READY_MAX 256u /* a packet that comes may make two, and let all go that are held */
#define HOLD_MOST 8u
#define PROBABILITY_ONE 1000000u

struct held {
    uint32_t later; /* packets that have to pass first */
    struct un_rx rx;  /* of a received packet */
    struct un_tx tx;  /* of a sent one: its bytes are a piece of our own */
    uint8_t *bytes;
};

struct direction {
    uint64_t random;
    uint32_t held_count;
    struct held held[HELD_MAX];
};

struct fault {
    struct un_device device; /* first */
    struct un_device *inner;
    struct un_fault_profile profile;
    struct direction sent;
    struct direction received;
    uint32_t promised; /* packets the owner may still submit */
    uint32_t first;    /* of `waiting` packets in the ring `ready` */
    uint32_t waiting;
    struct un_rx ready[READY_MAX];
};

struct fate {
    bool lost;
    bool corrupt;
    bool duplicate;
    uint32_t hold; /* 0: not held back */
    uint32_t bit;  /* any number: which one to flip */
};

static struct fault *fault_of(struct un_device *device)
{
    return (struct fault *)device;
}

/* splitmix64 */
static uint64_t draw(struct direction *direction)
{
    uint64_t z = direction->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static bool happens(struct direction *direction, uint32_t probability)
{
    return draw(direction) % PROBABILITY_ONE < probability;
}

static struct fate decide(struct direction *direction, const struct un_fault_profile *profile)
{
    struct fate fate;
    fate.lost = happens(direction, profile->loss);
    fate.corrupt = happens(direction, profile->corrupt);
    fate.duplicate = happens(direction, profile->duplicate);
    bool hold = happens(direction, profile->reorder);
    uint64_t more = draw(direction);
    fate.hold = hold ? 1 + (uint32_t)(more % HOLD_MOST) : 0;
    fate.bit = (uint32_t)(more >> 32);
    return fate;
}

/* Keep the packet for later: false when too many are kept. */
static bool hold(struct direction *direction, const struct held *packet)
{
    if (direction->held_count == HELD_MAX)
        return false;
    direction->held[direction->held_count++] = *packet;
    return true;
}

static void one_has_passed(struct direction *direction)
{
    for (uint32_t i = 0; i < direction->held_count; i++)
        direction->held[i].later -= direction->held[i].later > 0;
}

/* The oldest packet whose time has come; false when there is none. */
static bool take_due(struct direction *direction, struct held *packet)
{
    for (uint32_t i = 0; i < direction->held_count; i++) {
        if (direction->held[i].later > 0)
            continue;
        *packet = direction->held[i];
        direction->held_count--;
        memmove(&direction->held[i], &direction->held[i + 1], (direction->held_count - i) * sizeof *packet);
        return true;
    }
    return false;
}

static bool is_ip(const uint8_t *frame, uint32_t length)
{
    uint16_t type = length > UN_ETHERNET_BYTES ? un_get16(frame + 12) : 0;
    return type == 0x0800 || type == 0x86dd;
}

/* Which byte of the packet, and which bit of it. */
static uint32_t choose_byte(uint32_t length, uint32_t bit)
{
    return UN_ETHERNET_BYTES + bit / 8 % (length - UN_ETHERNET_BYTES);
}

/* Received. */

static void put_ready(struct fault *fault, const struct un_rx *packet)
{
    un_assert(fault->waiting < READY_MAX);
    fault->ready[(fault->first + fault->waiting++) % READY_MAX] = *packet;
}

static bool corrupt_received(struct fault *fault, const struct un_rx *packet, uint32_t bit)
{
    const struct un_pool *pool = fault->device.pool;
    uint32_t at = packet->frame;
    const struct un_frame *frame = &pool->frames[at];
    if ((packet->flags & UN_RX_CHECKSUM_GOOD) || !is_ip(un_pool_bytes(pool, at) + frame->offset, frame->length))
        return false;
    uint32_t byte = choose_byte(packet->length, bit);
    while (byte >= frame->length) {
        byte -= frame->length;
        at = frame->next;
        frame = &pool->frames[at];
    }
    un_pool_bytes(pool, at)[frame->offset + byte] ^= (uint8_t)(1u << bit % 8);
    return true;
}

/* A copy in frames of its own, or false when there are not enough. */
static bool copy_received(struct fault *fault, const struct un_rx *packet, struct un_rx *copy)
{
    struct un_pool *pool = fault->device.pool;
    uint32_t *link = &copy->frame;
    *copy = *packet;
    for (uint32_t from = packet->frame; from != UN_NONE; from = pool->frames[from].next) {
        uint32_t to = *link = un_pool_take(pool);
        if (to == UN_NONE) {
            un_pool_drop_chain(pool, copy->frame);
            return false;
        }
        pool->frames[to].offset = pool->frames[from].offset;
        pool->frames[to].length = pool->frames[from].length;
        memcpy(un_pool_bytes(pool, to) + pool->frames[to].offset,
               un_pool_bytes(pool, from) + pool->frames[from].offset, pool->frames[to].length);
        link = &pool->frames[to].next;
    }
    return true;
}

static void receive(struct fault *fault, const struct un_rx *packet)
{
    struct fate fate = decide(&fault->received, &fault->profile);
    struct held late = {.later = fate.hold, .rx = *packet};
    struct un_rx copy;
    one_has_passed(&fault->received);
    if (fate.lost || (fate.corrupt && !corrupt_received(fault, packet, fate.bit))) {
        un_pool_drop_chain(fault->device.pool, packet->frame);
        fault->device.counters->rx_dropped++;
    } else {
        if (fate.duplicate && copy_received(fault, packet, &copy))
            put_ready(fault, &copy);
        if (!fate.hold || !hold(&fault->received, &late))
            put_ready(fault, packet);
    }
    while (take_due(&fault->received, &late))
        put_ready(fault, &late.rx);
}

/* Sent. */

static void pass_on(struct fault *fault, const struct un_tx *packet)
{
    fault->inner->operations->submit(fault->inner, packet, 1);
}

/* A packet the owner did not ask for goes only into room that was not promised to it. */
static bool has_room(struct fault *fault)
{
    return fault->inner->operations->reserve(fault->inner, fault->promised + 1) > fault->promised;
}

static bool copy_sent(const struct un_tx *packet, struct held *copy)
{
    copy->tx = *packet;
    copy->bytes = malloc(packet->length);
    if (!copy->bytes)
        return false;
    uint32_t at = 0;
    for (uint32_t i = 0; i < packet->count; at += packet->pieces[i].length, i++)
        memcpy(copy->bytes + at, packet->pieces[i].bytes, packet->pieces[i].length);
    return true;
}

static void pass_copy(struct fault *fault, struct held *copy)
{
    struct un_piece piece = {.bytes = copy->bytes, .length = copy->tx.length, .frame = UN_NONE};
    copy->tx.pieces = &piece;
    copy->tx.count = 1;
    pass_on(fault, &copy->tx);
}

/* What the device would have done to the packet before it went on the wire. */
static void complete_checksum(struct un_tx *packet, uint8_t *bytes)
{
    uint64_t sum = 0;
    uint32_t at = packet->checksum_start;
    if (!(packet->flags & (UN_TX_CHECKSUM | UN_TX_SEGMENT)))
        return;
    for (; at + 1 < packet->length; at += 2)
        sum += un_get16(bytes + at);
    if (at < packet->length)
        sum += (uint64_t)bytes[at] << 8;
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    un_put16(bytes + packet->checksum_start + packet->checksum_offset, (uint16_t)~sum);
    packet->flags &= (uint16_t)~(UN_TX_CHECKSUM | UN_TX_SEGMENT);
    packet->segment_bytes = 0;
}

static bool corrupt_sent(struct held *copy, uint32_t bit)
{
    if (!is_ip(copy->bytes, copy->tx.length))
        return false;
    complete_checksum(&copy->tx, copy->bytes);
    copy->bytes[choose_byte(copy->tx.length, bit)] ^= (uint8_t)(1u << bit % 8);
    return true;
}

/* A packet that is damaged, doubled or late. */
static void send_strangely(struct fault *fault, const struct un_tx *packet, const struct fate *fate)
{
    struct held copy = {.later = fate->hold};
    if (!copy_sent(packet, &copy) || (fate->corrupt && !corrupt_sent(&copy, fate->bit))) {
        fault->device.counters->tx_errors++;
        free(copy.bytes);
        return;
    }
    if (fate->duplicate && has_room(fault))
        pass_copy(fault, &copy);
    if (fate->hold && hold(&fault->sent, &copy))
        return;
    pass_copy(fault, &copy);
    free(copy.bytes);
}

static void send_due(struct fault *fault)
{
    struct held late;
    while (has_room(fault) && take_due(&fault->sent, &late)) {
        pass_copy(fault, &late);
        free(late.bytes);
    }
}

static void send_one(struct fault *fault, const struct un_tx *packet)
{
    struct fate fate = decide(&fault->sent, &fault->profile);
    one_has_passed(&fault->sent);
    fault->device.counters->tx_errors += fate.lost;
    if (!fate.lost && (fate.corrupt || fate.duplicate || fate.hold))
        send_strangely(fault, packet, &fate);
    else if (!fate.lost)
        pass_on(fault, packet);
    if (fault->sent.held_count > 0)
        send_due(fault);
}

/* The device. */

static void fault_attach(struct un_device *device, struct un_pool *pool)
{
    struct fault *fault = fault_of(device);
    fault->waiting = 0;
    fault->received.held_count = 0;
    un_device_count_into(fault->inner, device->counters);
    un_device_attach(fault->inner, pool);
}

/* What is delayed here is lost with the process, as it has left the inner device's rings. */
static void fault_held(const struct un_device *device, struct un_pool *pool)
{
    un_device_hold(((const struct fault *)device)->inner, pool);
}

static uint32_t fault_reserve(struct un_device *device, uint32_t count_wanted)
{
    struct fault *fault = fault_of(device);
    fault->promised = fault->inner->operations->reserve(fault->inner, count_wanted);
    return fault->promised;
}

static void fault_submit(struct un_device *device, const struct un_tx *packets, uint32_t packet_count)
{
    struct fault *fault = fault_of(device);
    for (uint32_t i = 0; i < packet_count; i++) {
        fault->promised -= fault->promised > 0;
        send_one(fault, &packets[i]);
    }
}

static void fault_flush(struct un_device *device)
{
    struct fault *fault = fault_of(device);
    fault->promised = 0;
    send_due(fault);
    fault->inner->operations->flush(fault->inner);
}

static uint32_t fault_peek(struct un_device *device, struct un_rx *packets, uint32_t most)
{
    struct fault *fault = fault_of(device);
    struct un_device *inner = fault->inner;
    struct un_rx came;
    for (uint32_t tries = 0; tries < READY_MAX && fault->waiting < most && fault->waiting < READY_MAX - HELD_MAX - 2;
         tries++) {
        if (inner->operations->peek(inner, &came, 1) == 0)
            break;
        inner->operations->release(inner, 1);
        receive(fault, &came);
    }
    uint32_t found = fault->waiting < most ? fault->waiting : most;
    for (uint32_t i = 0; i < found; i++)
        packets[i] = fault->ready[(fault->first + i) % READY_MAX];
    return found;
}

static void fault_release(struct un_device *device, uint32_t released)
{
    struct fault *fault = fault_of(device);
    un_assert(released <= fault->waiting);
    fault->first = (fault->first + released) % READY_MAX;
    fault->waiting -= released;
}

static bool fault_sleep(struct un_device *device)
{
    struct fault *fault = fault_of(device);
    bool may_sleep = fault->waiting == 0 && fault->inner->operations->sleep(fault->inner);
    device->lacks_frames = fault->inner->lacks_frames;
    return may_sleep;
}

static void fault_close(struct un_device *device)
{
    struct fault *fault = fault_of(device);
    for (uint32_t i = 0; i < fault->waiting; i++)
        un_pool_drop_chain(device->pool, fault->ready[(fault->first + i) % READY_MAX].frame);
    for (uint32_t i = 0; i < fault->received.held_count; i++)
        un_pool_drop_chain(device->pool, fault->received.held[i].rx.frame);
    for (uint32_t i = 0; i < fault->sent.held_count; i++)
        free(fault->sent.held[i].bytes);
    fault->inner->operations->close(fault->inner);
    free(fault);
}

static const struct un_device_operations fault_operations = {
    .name = "fault",
    .attach = fault_attach,
    .held = fault_held,
    .reserve = fault_reserve,
    .submit = fault_submit,
    .flush = fault_flush,
    .peek = fault_peek,
    .release = fault_release,
    .sleep = fault_sleep,
    .close = fault_close,
};

struct un_device *un_fault_wrap(struct un_device *inner, const struct un_fault_profile *profile)
{
    struct fault *fault = calloc(1, sizeof *fault);
    if (!fault)
        return NULL;
    fault->device = *inner;
    fault->device.operations = &fault_operations;
    fault->inner = inner;
    fault->profile = *profile;
    fault->sent.random = profile->seed;
    fault->received.random = ~profile->seed;
    return &fault->device;
}
