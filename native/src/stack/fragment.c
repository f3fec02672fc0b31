/* Fragments put together (RFC 791, RFC 8200 section 4.5), in the frames they came in.
 *
 * Sixteen datagrams at a time, each of at most sixty-three frames, for thirty seconds (IPv4) or sixty (IPv6); when
 * there is no place, the oldest gives way. Small fragments that follow one another share a frame. A datagram of which
 * parts overlap is dropped as a whole (RFC 5722); what lies wholly within what is there already is a duplicate and
 * ignored. RFC 8200 section 4.5 would have a first fragment discarded that does not hold all headers: here what is put
 * together is looked at as a whole, so nothing can be hidden in such fragments. A complete datagram is one packet
 * again, its header says so, and it is the caller's.
 *
 * A datagram is in use with the last store of its beginning, and not with the first of its end; a part joins it with
 * one store. So whoever goes on after a sudden death (P10) has all parts but the one that came then. */
#include "stack/fragment.h"

#include "base/bytes.h"
#include "stack/arrival.h"
#include "stack/complain.h"
#include "wire/checksum.h"

#define UN_FRAGMENT_IPV4_NS (30 * UN_SECOND_NS) /* what others wait; RFC 1122 section 3.3.2 allows more */
#define UN_FRAGMENT_IPV6_NS (60 * UN_SECOND_NS) /* RFC 8200 section 4.5 */

#define UN_TRANSPORT_HEADERS 64u               /* TCP's with all options, and IPv6 extensions of usual length */

static void drop_datagram(struct un_stack *stack, struct un_fragments *datagram, enum un_drop why)
{
    datagram->is_used = false;
    un_compiler_fence();
    un_pool_drop_chain(&stack->tcp.pool, datagram->head);
    datagram->head = UN_NONE;
    un_stack_drop(stack, why);
}

/* Errors are not answered with errors: RFC 1122 section 3.2.2, RFC 4443 section 2.4 e. Of both families the types of
 * questions and answers are known, or high; behind further headers there may be anything. */
static bool may_be_icmp_error(const struct un_fragments *datagram, const uint8_t *payload)
{
    bool is_v4 = un_ip_is_v4(&datagram->source);
    /* the fragment header is the last before the payload */
    uint8_t protocol = is_v4 ? datagram->protocol : payload[-8];
    if (protocol == UN_PROTOCOL_TCP || protocol == UN_PROTOCOL_UDP)
        return false;
    if (is_v4)
        return protocol == UN_PROTOCOL_ICMP && payload[0] != 0 && payload[0] != 8;
    return protocol != UN_PROTOCOL_ICMPV6 || payload[0] < 0x80;
}

/* Its time is over. Who sent the first fragment is told (RFC 792, RFC 8200 section 4.5); what other fragments have been
 * joined to it is not quoted. */
static void tell_sender(struct un_stack *stack, const struct un_fragments *datagram)
{
    if (datagram->head == UN_NONE || stack->tcp.pool.frames[datagram->head].seq != 0)
        return;
    const struct un_frame *first = &stack->tcp.pool.frames[datagram->head];
    const uint8_t *payload = un_pool_bytes(&stack->tcp.pool, datagram->head) + first->offset;
    uint32_t header = (uint32_t)datagram->header_length - datagram->network;
    const uint8_t *at = payload - header;
    uint32_t length = un_ip_is_v4(&datagram->source) ? un_get16(at + 2) : UN_IPV6_BYTES + un_get16(at + 4);
    uint32_t there = header + first->length;
    if (!may_be_icmp_error(datagram, payload))
        un_icmp_give_up(stack, &datagram->destination, &datagram->source,
                        (struct un_piece){at, length < there ? length : there, datagram->head});
}

static bool is_part(const struct un_fragments *datagram, const struct un_packet *packet)
{
    /* The protocol tells datagrams of IPv4 apart; of IPv6 it may differ between fragments and the first one counts. */
    return datagram->is_used && datagram->id == packet->fragment_id &&
           un_ip_equal(&datagram->source, &packet->source) &&
           un_ip_equal(&datagram->destination, &packet->destination) &&
           (datagram->protocol == packet->protocol || !un_ip_is_v4(&packet->source));
}

/* The datagram that the packet is part of, else a free place, else that of the oldest. */
static struct un_fragments *find_place(struct un_stack *stack, const struct un_packet *packet)
{
    struct un_fragments *all = stack->own->fragments;
    struct un_fragments *best = &all[0];
    for (uint32_t i = 0; i < UN_FRAGMENTS_MAX; i++) {
        if (is_part(&all[i], packet))
            return &all[i];
        if (best->is_used && (!all[i].is_used || all[i].started_ns < best->started_ns))
            best = &all[i];
    }
    if (best->is_used)
        drop_datagram(stack, best, UN_DROP_fragment_budget);
    return best;
}

static struct un_fragments *datagram_of(struct un_stack *stack, const struct un_packet *packet)
{
    struct un_fragments *datagram = find_place(stack, packet);
    if (datagram->is_used)
        return datagram;
    uint64_t life_ns = un_ip_is_v4(&packet->source) ? UN_FRAGMENT_IPV4_NS : UN_FRAGMENT_IPV6_NS;
    *datagram = (struct un_fragments){
        .source = packet->source,
        .destination = packet->destination,
        .id = packet->fragment_id,
        .protocol = packet->protocol,
        .head = UN_NONE,
        .started_ns = stack->tcp.now_ns,
        .deadline_ns = stack->tcp.now_ns + life_ns,
    };
    un_compiler_fence();
    datagram->is_used = true;
    stack->own->fragments_next_ns = un_min64(stack->own->fragments_next_ns, datagram->deadline_ns);
    return datagram;
}

static uint32_t end_of(const struct un_frame *frame)
{
    return frame->seq + frame->length;
}

/* Where a part goes: behind the frame `before`, or it is there already, or it overlaps. */
enum place { PLACE_FREE, PLACE_TAKEN, PLACE_OVERLAPS };

static enum place find_gap(const struct un_stack *stack, const struct un_fragments *datagram, uint32_t start,
                           uint32_t end, uint32_t *before)
{
    const struct un_frame *frames = stack->tcp.pool.frames;
    uint32_t at = datagram->head;
    *before = UN_NONE;
    while (at != UN_NONE && end_of(&frames[at]) <= start) {
        *before = at;
        at = frames[at].next;
    }
    if (at == UN_NONE || end <= frames[at].seq)
        return PLACE_FREE;
    uint32_t covered = start; /* from there on is covered by what is there, up to here */
    for (; at != UN_NONE && frames[at].seq <= covered; at = frames[at].next)
        covered = end_of(&frames[at]);
    return covered >= end ? PLACE_TAKEN : PLACE_OVERLAPS;
}

/* Into the room behind the part before it. */
static bool join(struct un_stack *stack, uint32_t before, uint32_t start, uint32_t frame)
{
    struct un_pool *pool = &stack->tcp.pool;
    const struct un_frame *part = &pool->frames[frame];
    if (before == UN_NONE || part->next != UN_NONE)
        return false;
    struct un_frame *target = &pool->frames[before];
    uint32_t end = (uint32_t)target->offset + target->length;
    if (end_of(target) != start || target->references != 1 || part->length > pool->own->frame_bytes - end)
        return false;
    memcpy(un_pool_bytes(pool, before) + end, un_pool_bytes(pool, frame) + part->offset, part->length);
    un_compiler_fence();
    target->length = (uint16_t)(target->length + part->length);
    un_pool_drop(pool, frame);
    return true;
}

static void insert(struct un_stack *stack, struct un_fragments *datagram, uint32_t before, uint32_t start,
                   uint32_t frame)
{
    struct un_frame *frames = stack->tcp.pool.frames;
    if (join(stack, before, start, frame))
        return;
    uint32_t *link = before == UN_NONE ? &datagram->head : &frames[before].next, last = frame;
    for (uint32_t at = frame; at != UN_NONE; at = frames[at].next) {
        frames[at].seq = start;
        start += frames[at].length;
        datagram->frames++;
        last = at;
    }
    frames[last].next = *link;
    un_compiler_fence();
    *link = frame;
}

/* What the part says about the length of the whole; false: that contradicts another one. */
static bool note_length(const struct un_stack *stack, struct un_fragments *datagram, const struct un_packet *packet)
{
    uint32_t end = (uint32_t)packet->fragment_offset + packet->transport_length;
    if (packet->more_fragments)
        return datagram->total == 0 || end <= datagram->total;
    if (datagram->total && datagram->total != end)
        return false;
    datagram->total = end;
    for (uint32_t at = datagram->head; at != UN_NONE; at = stack->tcp.pool.frames[at].next)
        if (end_of(&stack->tcp.pool.frames[at]) > end)
            return false;
    return true;
}

/* ---- whole again ---- */

static void rewrite_ipv4(uint8_t *at, uint32_t header, uint32_t total)
{
    un_put16(at + 2, (uint16_t)(header + total));
    un_put16(at + 6, 0);
    un_put16(at + 10, 0);
    uint16_t checksum = un_checksum(un_sum(at, header));
    memcpy(at + 10, &checksum, sizeof checksum);
}

/* The fragment header stays, and says that there is one fragment (RFC 6946). It is the last before the payload. */
static void rewrite_ipv6(uint8_t *at, uint32_t header, uint32_t total)
{
    un_put16(at + 4, (uint16_t)(header - UN_IPV6_BYTES + total));
    un_put16(at + header - 6, 0);
}

/* Parsers want headers in a row, however small the parts were that they came in. */
static void pull_up(struct un_pool *pool, uint32_t head, uint32_t most)
{
    struct un_frame *first = &pool->frames[head];
    uint32_t room = pool->own->frame_bytes - first->offset;
    uint32_t want = most < room ? most : room;
    while (first->length < want && first->next != UN_NONE) {
        uint32_t from = first->next;
        struct un_frame *next = &pool->frames[from];
        uint32_t more = want - first->length < next->length ? want - first->length : next->length;
        memcpy(un_pool_bytes(pool, head) + first->offset + first->length, un_pool_bytes(pool, from) + next->offset,
               more);
        first->length = (uint16_t)(first->length + more);
        next->offset = (uint16_t)(next->offset + more);
        next->length = (uint16_t)(next->length - more);
        if (next->length > 0)
            return;
        first->next = next->next;
        un_pool_drop(pool, from);
    }
}

/* As one packet; its frame is UN_NONE when it is too long to be one. */
static struct un_rx put_together(struct un_stack *stack, struct un_fragments *datagram)
{
    struct un_pool *pool = &stack->tcp.pool;
    struct un_frame *first = &pool->frames[datagram->head];
    struct un_rx packet = {.frame = datagram->head, .length = datagram->header_length + datagram->total};
    uint32_t header = (uint32_t)datagram->header_length - datagram->network;
    uint32_t told = un_ip_is_v4(&datagram->source) ? header : header - UN_IPV6_BYTES; /* in the header's length field */
    if (told + datagram->total > UINT16_MAX) {
        drop_datagram(stack, datagram, UN_DROP_fragment_malformed);
        return (struct un_rx){.frame = UN_NONE};
    }
    datagram->is_used = false;
    un_compiler_fence();
    first->offset = (uint16_t)(first->offset - datagram->header_length);
    first->length = (uint16_t)(first->length + datagram->header_length);
    uint8_t *at = un_pool_bytes(pool, datagram->head) + first->offset + datagram->network;
    if (un_ip_is_v4(&datagram->source))
        rewrite_ipv4(at, header, datagram->total);
    else
        rewrite_ipv6(at, header, datagram->total);
    pull_up(pool, datagram->head, datagram->header_length + UN_TRANSPORT_HEADERS);
    datagram->head = UN_NONE;
    stack->counters->reassembled++;
    return packet;
}

static bool is_whole(const struct un_fragments *datagram)
{
    return datagram->total && datagram->received == datagram->total;
}

enum un_drop un_fragment_input(struct un_stack *stack, struct un_arrival *arrival, struct un_rx *whole)
{
    const struct un_packet *packet = &arrival->packet;
    uint32_t start = packet->fragment_offset;
    uint32_t length = packet->transport_length;
    stack->counters->fragments_in++;
    whole->frame = UN_NONE;
    if (length == 0 || (start == 0 && un_arrival_contiguous(arrival) == 0))
        return UN_DROP_fragment_malformed;
    if (un_pool_is_short(&stack->tcp.pool))
        return UN_DROP_fragment_budget;
    struct un_fragments *datagram = datagram_of(stack, packet);
    uint32_t before;
    enum place place = find_gap(stack, datagram, start, start + length, &before);
    if (place == PLACE_TAKEN)
        return UN_DROP_NONE;
    bool fits = datagram->frames + arrival->count <= (int)UN_FRAGMENT_FRAMES_MAX;
    if (place == PLACE_OVERLAPS || !fits || !note_length(stack, datagram, packet)) {
        drop_datagram(stack, datagram, fits ? UN_DROP_fragment_malformed : UN_DROP_fragment_budget);
        return UN_DROP_NONE;
    }
    if (start == 0) {
        datagram->header_length = packet->transport;
        datagram->network = packet->network;
    }
    datagram->received += length;
    insert(stack, datagram, before, start, un_arrival_payload(stack, arrival, 0));
    if (is_whole(datagram))
        *whole = put_together(stack, datagram);
    return UN_DROP_NONE;
}

void un_fragments_run(struct un_stack *stack)
{
    struct un_stack_memory *own = stack->own;
    own->fragments_next_ns = UINT64_MAX;
    for (uint32_t i = 0; i < UN_FRAGMENTS_MAX; i++) {
        struct un_fragments *datagram = &own->fragments[i];
        if (!datagram->is_used)
            continue;
        if (datagram->deadline_ns > own->now_ns) {
            own->fragments_next_ns = un_min64(own->fragments_next_ns, datagram->deadline_ns);
            continue;
        }
        tell_sender(stack, datagram);
        drop_datagram(stack, datagram, UN_DROP_fragment_timeout);
    }
}
