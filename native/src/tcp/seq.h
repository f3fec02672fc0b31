/* Sequence numbers (RFC 9293 section 3.4): comparisons hold for numbers less than 2^31 apart. */
#ifndef UN_SEQ_H
#define UN_SEQ_H

#include <stdbool.h>
#include <stdint.h>

static inline int32_t un_seq_diff(uint32_t left, uint32_t right)
{
    return (int32_t)(left - right);
}

static inline bool un_seq_lt(uint32_t left, uint32_t right)
{
    return un_seq_diff(left, right) < 0;
}

static inline bool un_seq_le(uint32_t left, uint32_t right)
{
    return un_seq_diff(left, right) <= 0;
}

static inline uint32_t un_seq_max(uint32_t left, uint32_t right)
{
    return un_seq_lt(left, right) ? right : left;
}

static inline uint32_t un_seq_min(uint32_t left, uint32_t right)
{
    return un_seq_lt(left, right) ? left : right;
}

#endif
