/* See capture_ring.h. */
#include "engine/capture_ring.h"

#include <errno.h>
#include <string.h>

static bool is_ring(const struct un_capture_ring *ring, uint64_t bytes)
{
    if (bytes < sizeof *ring || ring->magic != UN_CAPTURE_MAGIC)
        return false;
    uint64_t data_bytes = bytes - sizeof *ring;
    return ring->data_bytes == data_bytes && data_bytes >= UN_CAPTURE_DATA_MIN &&
           (data_bytes & (data_bytes - 1)) == 0 && ring->snaplen > 0 && ring->snaplen <= UN_CAPTURE_SNAPLEN_MAX &&
           ring->program_count <= UN_CAPTURE_PROGRAM_MAX;
}

int un_capture_end_open(struct un_capture_end *end, void *memory, uint64_t bytes)
{
    struct un_capture_ring *ring = memory;
    if (!is_ring(ring, bytes))
        return -EINVAL;
    end->ring = ring;
    end->data = (uint8_t *)memory + sizeof *ring;
    end->data_bytes = bytes - sizeof *ring;
    end->produced = un_load(&ring->produced) & ~(uint64_t)(UN_CAPTURE_ALIGN - 1);
    end->snaplen = ring->snaplen < UN_CAPTURE_SNAPLEN_MAX ? ring->snaplen : UN_CAPTURE_SNAPLEN_MAX;
    end->drops_only = ring->drops_only;
    end->program_count = ring->program_count;
    if (end->program_count > UN_CAPTURE_PROGRAM_MAX)
        return -EINVAL;
    memcpy(end->program, ring->program, end->program_count * sizeof *end->program);
    if (end->program_count > 0 && !un_capture_filter_check(end->program, end->program_count))
        return -EINVAL;
    return 0;
}

bool un_capture_wants(struct un_capture_end *end, const struct iovec *pieces, int count, uint32_t length)
{
    un_count(&end->ring->seen, 1);
    return end->program_count == 0 || un_capture_filter_takes(end->program, pieces, count, length);
}

static struct un_captured *record_at(const struct un_capture_end *end, uint64_t index)
{
    return (struct un_captured *)(void *)(end->data + (index & (end->data_bytes - 1)));
}

/* NULL: there is no room for so many bytes in a row. */
static struct un_captured *reserve(struct un_capture_end *end, uint32_t bytes)
{
    uint64_t used = end->produced - un_observe(&end->ring->consumed);
    uint64_t to_end = end->data_bytes - (end->produced & (end->data_bytes - 1));
    uint64_t skip = to_end < bytes ? to_end : 0;
    if (used > end->data_bytes || skip + bytes > end->data_bytes - used)
        return NULL;
    if (skip > 0) {
        struct un_captured *rest = record_at(end, end->produced);
        rest->bytes = (uint32_t)skip;
        rest->kind = UN_CAPTURED_SKIP;
        end->produced += skip;
    }
    struct un_captured *record = record_at(end, end->produced);
    end->produced += bytes;
    return record;
}

static void copy(uint8_t *to, const struct iovec *pieces, int count, uint32_t most)
{
    for (int i = 0; i < count && most > 0; i++) {
        uint32_t part = pieces[i].iov_len < most ? (uint32_t)pieces[i].iov_len : most;
        memcpy(to, pieces[i].iov_base, part);
        to += part;
        most -= part;
    }
}

struct un_captured *un_capture_write(struct un_capture_end *end, uint16_t flags, const struct iovec *pieces, int count,
                                     uint32_t length)
{
    uint32_t captured = length < end->snaplen ? length : end->snaplen;
    uint32_t bytes = ((uint32_t)sizeof(struct un_captured) + captured + UN_CAPTURE_ALIGN - 1) & ~(UN_CAPTURE_ALIGN - 1);
    struct un_captured *record = reserve(end, bytes);
    if (!record)
        return NULL;
    *record = (struct un_captured){
        .bytes = bytes, .kind = UN_CAPTURED_PACKET, .flags = flags, .captured = captured, .original = length};
    copy((uint8_t *)(record + 1), pieces, count, captured);
    return record;
}

void un_capture_drop(struct un_capture_end *end, struct un_captured *record, uint64_t before, uint64_t behind)
{
    if (end->produced == behind)
        end->produced = before;
    else
        record->kind = UN_CAPTURED_SKIP;
}
