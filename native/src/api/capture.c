/* The exported symbols of a capture's memory: see usnet_capture.h. */
#include "usnet_capture.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "api/view.h"
#include "engine/capture_ring.h"

UN_API_SAME(USNET_CAPTURE_SNAPLEN_MAX, UN_CAPTURE_SNAPLEN_MAX);
UN_API_SAME(USNET_CAPTURE_PROGRAM_MAX, UN_CAPTURE_PROGRAM_MAX);
UN_API_SAME(sizeof(struct usnet_captured), sizeof(struct un_captured));
UN_API_SAME(offsetof(struct usnet_captured, drops), offsetof(struct un_captured, drops));

uint64_t usnet_capture_bytes(uint64_t data_bytes)
{
    return sizeof(struct un_capture_ring) + data_bytes;
}

int usnet_capture_format(void *memory, uint64_t bytes, uint32_t snaplen, uint32_t drops_only, const void *program,
                         uint32_t program_count)
{
    struct un_capture_ring *ring = memory;
    struct un_capture_end end;
    if (bytes < sizeof *ring || program_count > UN_CAPTURE_PROGRAM_MAX)
        return -EINVAL;
    ring->data_bytes = bytes - sizeof *ring;
    ring->snaplen = snaplen;
    ring->drops_only = drops_only != 0;
    ring->program_count = program_count;
    if (program_count > 0)
        memcpy(ring->program, program, program_count * sizeof *ring->program);
    ring->magic = UN_CAPTURE_MAGIC;
    return un_capture_end_open(&end, memory, bytes); /* it has all the checks */
}

/* What an engine has written, from `at` on. */
struct span {
    const uint8_t *data;
    uint64_t data_bytes;
    uint64_t at;
    uint64_t end;
};

/* A copy of the head of the next record, which is looked at once. false: no engine writes such a thing. */
static bool read_head(const struct span *span, struct un_captured *head)
{
    uint64_t offset = span->at & (span->data_bytes - 1), least = 2 * sizeof(uint32_t);
    uint64_t there = span->end - span->at, in_a_row = span->data_bytes - offset;
    there = there < in_a_row ? there : in_a_row;
    if (there < least)
        return false;
    memcpy(head, span->data + offset, there < sizeof *head ? there : sizeof *head);
    if (head->bytes < least || head->bytes > there || head->bytes % UN_CAPTURE_ALIGN)
        return false;
    return head->kind == UN_CAPTURED_SKIP ||
           (head->bytes >= sizeof *head && head->captured <= head->bytes - sizeof *head);
}

int64_t usnet_capture_read(void *memory, uint64_t bytes, void *into, uint64_t most)
{
    struct un_capture_ring *ring = memory;
    struct span span = {(const uint8_t *)memory + sizeof *ring, bytes - sizeof *ring, un_load(&ring->consumed),
                        un_observe(&ring->produced)};
    struct un_captured head;
    uint64_t taken = 0;
    if (span.end - span.at > span.data_bytes)
        return -EINVAL;
    for (; span.at != span.end; span.at += head.bytes) {
        if (!read_head(&span, &head))
            return -EINVAL;
        if (head.kind == UN_CAPTURED_SKIP)
            continue;
        if (head.bytes > most - taken)
            break;
        uint8_t *to = (uint8_t *)into + taken;
        memcpy(to, &head, sizeof head);
        memcpy(to + sizeof head, span.data + (span.at & (span.data_bytes - 1)) + sizeof head, head.bytes - sizeof head);
        taken += head.bytes;
    }
    un_publish(&ring->consumed, span.at);
    return (int64_t)taken;
}

void usnet_capture_count(const void *memory, struct usnet_capture_counts *counts)
{
    const struct un_capture_ring *ring = memory;
    *counts = (struct usnet_capture_counts){
        .seen = un_load(&ring->seen), .matched = un_load(&ring->matched), .lost = un_load(&ring->lost)};
}
