/* See capture_packets.h.
 *
 * What is sent passes through submit. What comes is taken from the inner device here, one packet at a time, and given
 * to the stack as it gives it to itself: why a packet was dropped is what the stack has counted meanwhile. Its record
 * is written before, since the stack may change or free the frames, and published afterwards, with the reason. Packets
 * that the stack sends while it looks at one stand behind that one.
 *
 * A packet that belongs to another shard is recorded there, once: TCP and UDP have one owner. What all shards hear of
 * (an ARP answer) is recorded where it came, and elsewhere only if it was dropped. */
#include "engine/capture_packets.h"

#include "base/bytes.h"
#include "engine/capture.h"
#include "engine/link.h"
#include "stack/input.h"
#include "stack/lists.h"
#include "stack/local.h"

/* A packet that the stack is about to look at. */
struct arriving {
    struct un_captured *record; /* NULL: there was no room */
    uint64_t before, behind;    /* marks of it */
    uint64_t handed_over;       /* counters, as they were */
    uint64_t drops[UN_DROP_COUNT];
    struct un_packet packet;
    struct iovec pieces[UN_TX_PIECES_MAX];
    int count;
    bool is_foreign;
    bool is_owned; /* of a protocol whose packets have one shard as their owner, and ports where we look for them */
};

static struct un_capture *capture_of(struct un_device *device)
{
    return ((struct un_capture_packets *)device)->capture;
}

/* ---- whose it is ---- */

static bool has_owner(const struct un_packet *packet, const struct iovec *pieces)
{
    bool has_ports = packet->protocol == UN_PROTOCOL_TCP || packet->protocol == UN_PROTOCOL_UDP;
    return has_ports && !packet->is_fragment && pieces[0].iov_len >= packet->transport + 4u;
}

/* The engine's id of its connection; 0: it has none, or none yet. */
static uint64_t conn_of(struct un_stack *stack, const struct un_packet *packet, const struct iovec *pieces, bool came)
{
    const uint8_t *ports = (const uint8_t *)pieces[0].iov_base + packet->transport;
    uint16_t source = un_get16(ports), destination = un_get16(ports + 2);
    int local = un_address_claimed(stack, came ? &packet->destination : &packet->source);
    if (packet->protocol != UN_PROTOCOL_TCP || local < 0)
        return 0;
    uint32_t slot = came ? un_stack_find_flow(stack, &packet->source, source, destination, (uint16_t)local)
                         : un_stack_find_flow(stack, &packet->destination, destination, source, (uint16_t)local);
    return slot == UN_NONE ? 0 : stack->tcp.tcbs[slot].user;
}

/* ---- packets that are sent ---- */

static int pieces_of_sent(const struct un_tx *packet, struct iovec *pieces)
{
    un_assert(packet->count <= UN_TX_PIECES_MAX);
    for (int i = 0; i < packet->count; i++)
        pieces[i] = (struct iovec){(void *)(uintptr_t)packet->pieces[i].bytes, packet->pieces[i].length};
    return packet->count;
}

static void record_sent(struct un_capture *capture, const struct un_tx *sent)
{
    struct iovec pieces[UN_TX_PIECES_MAX];
    struct un_packet packet;
    struct un_stack *stack = &capture->packets.engine->link->stack;
    int count = pieces_of_sent(sent, pieces);
    if (!un_capture_wants(&capture->end, pieces, count, sent->length) || capture->end.drops_only)
        return;
    struct un_captured *record = un_capture_write(&capture->end, 0, pieces, count, sent->length);
    un_capture_keep(&capture->end, record);
    if (!record)
        return;
    record->time_ns = un_engine_now_ns(capture->packets.engine);
    if (un_packet_parse(&packet, pieces, count) == UN_DROP_NONE && has_owner(&packet, pieces))
        record->conn = conn_of(stack, &packet, pieces, false);
    if (!capture->packets.is_arriving)
        un_capture_publish(&capture->end);
}

static void capture_submit(struct un_device *device, const struct un_tx *packets, uint32_t count)
{
    struct un_device *inner = ((struct un_capture_packets *)device)->inner;
    for (uint32_t i = 0; i < count; i++)
        record_sent(capture_of(device), &packets[i]);
    inner->operations->submit(inner, packets, count);
}

/* ---- packets that come ---- */

/* How many; of a chain that is longer than any packet, the beginning. */
static int pieces_of_received(const struct un_pool *pool, const struct un_rx *packet, struct iovec *pieces)
{
    int count = 0;
    for (uint32_t at = packet->frame; at != UN_NONE && count < (int)UN_TX_PIECES_MAX; at = pool->frames[at].next) {
        const struct un_frame *frame = &pool->frames[at];
        pieces[count++] = (struct iovec){un_pool_bytes(pool, at) + frame->offset, frame->length};
    }
    return count;
}

static uint32_t length_of(const struct iovec *pieces, int count)
{
    uint32_t length = 0;
    for (int i = 0; i < count; i++)
        length += (uint32_t)pieces[i].iov_len;
    return length;
}

/* Whether the filter takes it. */
static bool begin(struct un_engine *engine, const struct un_rx *rx, struct arriving *arriving)
{
    struct un_capture *capture = engine->capture;
    struct un_stack *stack = &engine->link->stack;
    arriving->count = pieces_of_received(&stack->tcp.pool, rx, arriving->pieces);
    uint32_t length = length_of(arriving->pieces, arriving->count);
    if (!un_capture_wants(&capture->end, arriving->pieces, arriving->count, length))
        return false;
    uint16_t flags = UN_CAPTURED_IN | (arriving->is_foreign ? UN_CAPTURED_FOREIGN : 0);
    arriving->before = un_capture_mark(&capture->end);
    arriving->record = un_capture_write(&capture->end, flags, arriving->pieces, arriving->count, length);
    arriving->behind = un_capture_mark(&capture->end);
    bool is_parsed = un_packet_parse(&arriving->packet, arriving->pieces, arriving->count) == UN_DROP_NONE;
    arriving->is_owned = is_parsed && has_owner(&arriving->packet, arriving->pieces);
    if (arriving->record) {
        arriving->record->time_ns = un_engine_now_ns(engine);
        if (arriving->is_owned)
            arriving->record->conn = conn_of(stack, &arriving->packet, arriving->pieces, true);
    }
    memcpy(arriving->drops, stack->tcp.drops, sizeof arriving->drops);
    arriving->handed_over = stack->counters->handed_over;
    capture->packets.is_arriving = true;
    return true;
}

/* A bit for each reason that was counted. */
static uint64_t drops_since(const struct un_stack *stack, const uint64_t *before)
{
    uint64_t drops = 0;
    for (uint32_t i = 1; i < UN_DROP_COUNT; i++)
        drops |= (uint64_t)(stack->tcp.drops[i] != before[i]) << i;
    return drops;
}

static void finish(struct un_engine *engine, const struct arriving *arriving)
{
    struct un_capture *capture = engine->capture;
    const struct un_stack *stack = &engine->link->stack;
    uint64_t drops = drops_since(stack, arriving->drops);
    bool was_given_away = stack->counters->handed_over != arriving->handed_over;
    bool is_elsewhere = arriving->is_foreign ? !arriving->is_owned : arriving->is_owned && was_given_away;
    capture->packets.is_arriving = false;
    if (drops != 0 || !(is_elsewhere || capture->end.drops_only)) {
        if (arriving->record)
            arriving->record->drops = drops;
        un_capture_keep(&capture->end, arriving->record);
    } else if (arriving->record) {
        un_capture_drop(&capture->end, arriving->record, arriving->before, arriving->behind);
    }
    un_capture_publish(&capture->end);
}

static void arrive(struct un_engine *engine, const struct un_rx *rx, bool is_foreign)
{
    struct arriving arriving;
    arriving.is_foreign = is_foreign;
    bool is_wanted = begin(engine, rx, &arriving);
    if (is_foreign)
        un_stack_input(&engine->link->stack, rx);
    else
        un_stack_rx(&engine->link->stack, rx, 1, false);
    if (is_wanted)
        finish(engine, &arriving);
}

static uint32_t take_foreign(struct un_engine *engine)
{
    struct un_link *link = engine->link;
    struct un_rx packet;
    uint32_t taken = 0;
    for (; taken < UN_EPOLL_BATCH && un_exchange_take(&link->exchange, &link->stack.tcp.pool, &packet); taken++) {
        if (packet.frame == UN_NONE)
            link->stack.tcp.drops[UN_DROP_no_frame]++;
        else
            arrive(engine, &packet, true);
    }
    return taken;
}

static uint32_t take_own(struct un_engine *engine)
{
    struct un_rx packets[UN_TURN_PACKETS];
    struct un_capture_packets *between = &engine->capture->packets;
    uint32_t count = un_stack_take(&engine->link->stack, between->inner, packets);
    between->device.lacks_frames = between->inner->lacks_frames;
    for (uint32_t i = 0; i < count; i++)
        arrive(engine, &packets[i], false);
    return count;
}

uint32_t un_capture_take_in(struct un_engine *engine)
{
    struct un_stack *stack = &engine->link->stack;
    un_stack_set_now(stack, engine->now_ns);
    uint32_t taken = take_foreign(engine);
    taken += take_own(engine);
    return taken + un_stack_poll_input(stack, engine->now_ns);
}

/* ---- the device ---- */

static uint32_t capture_reserve(struct un_device *device, uint32_t count)
{
    struct un_device *inner = ((struct un_capture_packets *)device)->inner;
    return inner->operations->reserve(inner, count);
}

static void capture_flush(struct un_device *device)
{
    struct un_device *inner = ((struct un_capture_packets *)device)->inner;
    inner->operations->flush(inner);
}

/* They were taken from the inner one before. */
static uint32_t capture_peek(struct un_device *device, struct un_rx *packets, uint32_t most)
{
    (void)device;
    (void)packets;
    (void)most;
    return 0;
}

static void capture_release(struct un_device *device, uint32_t count)
{
    (void)device;
    un_assert(count == 0);
}

/* Only what the stack calls. */
static const struct un_device_operations capture_operations = {
    .name = "capture",
    .reserve = capture_reserve,
    .submit = capture_submit,
    .flush = capture_flush,
    .peek = capture_peek,
    .release = capture_release,
};

/* It is put in front of a device that is attached already, so nothing is lost. */
void un_capture_packets_begin(struct un_engine *engine, struct un_capture *capture)
{
    struct un_device *inner = engine->link->device;
    capture->packets = (struct un_capture_packets){
        .device = *inner, .inner = inner, .engine = engine, .capture = capture, .is_arriving = false};
    capture->packets.device.operations = &capture_operations;
    engine->link->stack.device = &capture->packets.device;
}

void un_capture_packets_end(struct un_engine *engine, struct un_capture *capture)
{
    engine->link->stack.device = capture->packets.inner;
}
