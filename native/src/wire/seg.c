/* TCP headers in and out. Both have a short way for what a connection with timestamps exchanges all the time: a header
 * of 32 bytes whose options are NOP, NOP, timestamp (RFC 7323 appendix A). */
#include "wire/seg.h"

#include <stdbool.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/attributes.h"

enum option_kind {
    KIND_END = 0,
    KIND_NOP = 1,
    KIND_MSS = 2,
    KIND_WSCALE = 3,
    KIND_SACK_PERMITTED = 4,
    KIND_SACK = 5,
    KIND_TIMESTAMP = 8,
};

enum { MSS_BYTES = 4, WSCALE_BYTES = 3, SACK_PERMITTED_BYTES = 2, TIMESTAMP_BYTES = 10, SACK_BLOCK_BYTES = 8 };

/* As they stand on the wire. */
UN_STATIC_ASSERT(UN_TCP_NOP_NOP_TIMESTAMP == (KIND_NOP << 24 | KIND_NOP << 16 | KIND_TIMESTAMP << 8 | TIMESTAMP_BYTES),
                 "what the short ways know");
#define NOP_NOP_SACK (KIND_NOP << 24 | KIND_NOP << 16 | KIND_SACK << 8)
#define NOP_NOP_SACK_PERMITTED (KIND_NOP << 24 | KIND_NOP << 16 | KIND_SACK_PERMITTED << 8 | SACK_PERMITTED_BYTES)
#define SACK_PERMITTED_TIMESTAMP                                                                                       \
    (KIND_SACK_PERMITTED << 24 | SACK_PERMITTED_BYTES << 16 | KIND_TIMESTAMP << 8 | TIMESTAMP_BYTES)
#define NOP_WSCALE (KIND_NOP << 24 | KIND_WSCALE << 16 | WSCALE_BYTES << 8)
#define MSS_OPTION (KIND_MSS << 24 | MSS_BYTES << 16)

static void parse_timestamp(struct un_seg *seg, const uint8_t *at)
{
    seg->options |= UN_SEG_TIMESTAMP;
    seg->tsval = un_get32(at);
    seg->tsecr = un_get32(at + 4);
}

static void parse_sacks(struct un_seg *seg, const uint8_t *at, uint32_t length)
{
    if (length % SACK_BLOCK_BYTES != 0)
        return;
    /* 40 bytes of options hold no more than there is room for */
    seg->sack_count = (uint8_t)(length / SACK_BLOCK_BYTES);
    for (uint32_t i = 0; i < seg->sack_count; i++, at += SACK_BLOCK_BYTES)
        seg->sacks[i] = (struct un_sack_block){.start = un_get32(at), .end = un_get32(at + 4)};
}

/* What only a SYN may carry. `at` is behind kind and length. */
static void parse_syn_option(struct un_seg *seg, uint8_t kind, const uint8_t *at, uint32_t length)
{
    if (kind == KIND_MSS && length == MSS_BYTES && un_get16(at) > 0) {
        seg->options |= UN_SEG_MSS;
        seg->mss = un_get16(at);
    } else if (kind == KIND_WSCALE && length == WSCALE_BYTES) {
        seg->options |= UN_SEG_WSCALE;
        seg->wscale = at[0];
    } else if (kind == KIND_SACK_PERMITTED && length == SACK_PERMITTED_BYTES) {
        seg->options |= UN_SEG_SACK_PERMITTED;
    }
}

static void parse_option(struct un_seg *seg, uint8_t kind, const uint8_t *at, uint32_t length)
{
    if (kind == KIND_TIMESTAMP && length == TIMESTAMP_BYTES)
        parse_timestamp(seg, at);
    else if (seg->flags & UN_TCP_SYN)
        parse_syn_option(seg, kind, at, length);
    else if (kind == KIND_SACK)
        parse_sacks(seg, at, length - 2);
}

static __attribute__((noinline)) enum un_drop parse_options(struct un_seg *seg, const uint8_t *at, uint32_t length)
{
    for (uint32_t i = 0; i < length && at[i] != KIND_END;) {
        if (at[i] == KIND_NOP) {
            i++;
            continue;
        }
        if (length - i < 2 || at[i + 1] < 2 || at[i + 1] > length - i)
            break;
        parse_option(seg, at[i], at + i + 2, at[i + 1]);
        i += at[i + 1];
    }
    return UN_DROP_NONE;
}

enum un_drop un_seg_parse(struct un_seg *seg, const uint8_t *at, uint32_t length, uint32_t total)
{
    un_assert(length <= total);
    if (length < UN_TCP_HEADER_BYTES)
        return UN_DROP_tcp_malformed;
    uint32_t header = at[12] >> 2 & 0x3c; /* in words of four bytes */
    if (header < UN_TCP_HEADER_BYTES || header > length)
        return UN_DROP_tcp_malformed;
    seg->source_port = un_get16(at);
    seg->destination_port = un_get16(at + 2);
    seg->seq = un_get32(at + 4);
    seg->ack = un_get32(at + 8);
    seg->header_length = (uint8_t)header;
    seg->flags = at[13];
    seg->wnd = un_get16(at + 14);
    seg->urgent = un_get16(at + 18);
    seg->length = total - header;
    seg->ecn = 0;
    seg->options = 0;
    seg->sack_count = 0;
    const uint8_t *options = at + UN_TCP_HEADER_BYTES;
    if (header == UN_TCP_HEADER_TIMESTAMP && un_get32(options) == UN_TCP_NOP_NOP_TIMESTAMP)
        parse_timestamp(seg, options + 4);
    else if (header > UN_TCP_HEADER_BYTES)
        return parse_options(seg, options, header - UN_TCP_HEADER_BYTES);
    return UN_DROP_NONE;
}

/* Bytes of the header with all options but SACK blocks. Each option, or the pair of SACK-permitted and timestamp, is
 * padded to four bytes. */
static uint32_t length_without_sacks(uint8_t options)
{
    uint32_t length = UN_TCP_HEADER_BYTES;
    if (options & UN_SEG_TIMESTAMP)
        length += 12;
    else if (options & UN_SEG_SACK_PERMITTED)
        length += 4;
    if (options & UN_SEG_MSS)
        length += 4;
    if (options & UN_SEG_WSCALE)
        length += 4;
    return length;
}

/* How many SACK blocks fit behind a header of `length` bytes. */
static uint32_t sacks_that_fit(const struct un_seg *seg, uint32_t length)
{
    uint32_t room = (UN_TCP_HEADER_MAX - length - 4) / SACK_BLOCK_BYTES;
    return seg->sack_count < room ? seg->sack_count : room;
}

uint32_t un_seg_header_length(const struct un_seg *seg)
{
    uint32_t length = length_without_sacks(seg->options);
    if (seg->sack_count == 0)
        return length;
    uint32_t sacks = sacks_that_fit(seg, length);
    return sacks ? length + 4 + sacks * SACK_BLOCK_BYTES : length;
}

static uint8_t *emit_timestamp(const struct un_seg *seg, uint8_t *at)
{
    bool is_pair = seg->options & UN_SEG_SACK_PERMITTED;
    un_put32(at, is_pair ? SACK_PERMITTED_TIMESTAMP : UN_TCP_NOP_NOP_TIMESTAMP);
    un_put32(at + 4, seg->tsval);
    un_put32(at + 8, seg->tsecr);
    return at + 12;
}

static uint8_t *emit_syn_options(const struct un_seg *seg, uint8_t *at)
{
    if (seg->options & UN_SEG_MSS) {
        un_put32(at, MSS_OPTION | seg->mss);
        at += 4;
    }
    if (seg->options & UN_SEG_WSCALE) {
        un_put32(at, NOP_WSCALE | seg->wscale);
        at += 4;
    }
    if ((seg->options & (UN_SEG_SACK_PERMITTED | UN_SEG_TIMESTAMP)) == UN_SEG_SACK_PERMITTED) {
        un_put32(at, NOP_NOP_SACK_PERMITTED);
        at += 4;
    }
    return at;
}

static uint8_t *emit_sacks(const struct un_seg *seg, uint8_t *at, uint32_t count)
{
    un_put32(at, NOP_NOP_SACK | (2 + count * SACK_BLOCK_BYTES));
    at += 4;
    for (uint32_t i = 0; i < count; i++, at += SACK_BLOCK_BYTES) {
        un_put32(at, seg->sacks[i].start);
        un_put32(at + 4, seg->sacks[i].end);
    }
    return at;
}

UN_NEVER_INLINE uint32_t un_seg_emit(const struct un_seg *seg, uint8_t *at)
{
    uint8_t *end = at + UN_TCP_HEADER_BYTES;
    if (seg->options & ~UN_SEG_TIMESTAMP)
        end = emit_syn_options(seg, end);
    if (seg->options & UN_SEG_TIMESTAMP)
        end = emit_timestamp(seg, end);
    if (seg->sack_count > 0) {
        uint32_t sacks = sacks_that_fit(seg, (uint32_t)(end - at));
        if (sacks > 0)
            end = emit_sacks(seg, end, sacks);
    }
    uint32_t length = (uint32_t)(end - at);
    un_put16(at, seg->source_port);
    un_put16(at + 2, seg->destination_port);
    un_put32(at + 4, seg->seq);
    un_put32(at + 8, seg->ack);
    at[12] = (uint8_t)(length << 2);
    at[13] = seg->flags;
    un_put16(at + 14, seg->wnd);
    un_put16(at + 16, 0); /* checksum */
    un_put16(at + 18, seg->urgent);
    return length;
}
