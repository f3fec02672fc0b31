/* A TCP segment, between its bytes and the state machine: parsed once, emitted once (RFC 9293 section 3.1).
 *
 * The same struct describes what arrived and what is to be sent. Options are only those that both sides of a
 * connection may use; others are skipped. Lengths are checked while parsing, so nothing above looks at the bytes.
 *
 * An option of a known kind with a wrong length counts as absent; one that does not fit in the header ends them. MSS,
 * window scale and SACK-permitted count only in a SYN, SACK blocks only elsewhere (RFC 9293 section 3.2, RFC 7323
 * section 2.2, RFC 2018); an MSS of 0 does not count at all. Of several options of a kind the last one does. */
#ifndef UN_SEG_H
#define UN_SEG_H

#include <stdint.h>

#include "base/drop.h"

enum un_tcp_flag {
    UN_TCP_FIN = 0x01,
    UN_TCP_SYN = 0x02,
    UN_TCP_RST = 0x04,
    UN_TCP_PSH = 0x08,
    UN_TCP_ACK = 0x10,
    UN_TCP_URG = 0x20,
    UN_TCP_ECE = 0x40,
    UN_TCP_CWR = 0x80,
};

enum un_seg_option {
    UN_SEG_MSS = 1 << 0,
    UN_SEG_WSCALE = 1 << 1,
    UN_SEG_SACK_PERMITTED = 1 << 2,
    UN_SEG_TIMESTAMP = 1 << 3,
};

#define UN_TCP_HEADER_BYTES 20u
#define UN_TCP_HEADER_TIMESTAMP 32u /* with nothing but a timestamp, whose option begins with … */
#define UN_TCP_NOP_NOP_TIMESTAMP 0x0101080au
#define UN_TCP_HEADER_MAX 60u
#define UN_SACK_BLOCKS_MAX 4u

struct un_sack_block {
    uint32_t start;
    uint32_t end; /* one past */
};

struct un_seg {
    uint32_t seq;
    uint32_t ack;
    uint32_t length;  /* payload bytes, without SYN and FIN */
    uint16_t wnd;     /* as on the wire: not scaled */
    uint8_t flags;    /* enum un_tcp_flag */
    uint8_t options;  /* enum un_seg_option: which of the following are there */
    uint32_t tsval;
    uint32_t tsecr;
    uint16_t mss;
    uint8_t wscale;   /* as received; the reader caps it at 14 (RFC 7323 section 2.3) */
    uint8_t sack_count;
    uint8_t ecn;      /* the two ECN bits of the IP header, enum un_ecn: the parser leaves 0, the caller knows */
    uint8_t header_length; /* as parsed */
    uint16_t urgent;
    uint16_t source_port;
    uint16_t destination_port;
    struct un_sack_block sacks[UN_SACK_BLOCKS_MAX];
};

/* Sequence numbers the segment takes: payload, SYN and FIN. */
static inline uint32_t un_seg_space(const struct un_seg *seg)
{
    return seg->length + !!(seg->flags & UN_TCP_SYN) + !!(seg->flags & UN_TCP_FIN);
}

/* From a segment of `total` bytes, of which the first `length` (<= total) are contiguous at `at`: all headers must be.
 * Of the options, only what seg->options and sack_count name is set. UN_DROP_NONE or UN_DROP_tcp_malformed. The
 * checksum is the caller's business. */
enum un_drop un_seg_parse(struct un_seg *seg, const uint8_t *at, uint32_t length, uint32_t total);

/* The header with options, checksum field zero; returns its length, at most UN_TCP_HEADER_MAX. As many SACK blocks are
 * written as fit. un_seg_header_length says the same without writing. */
uint32_t un_seg_emit(const struct un_seg *seg, uint8_t *at);
uint32_t un_seg_header_length(const struct un_seg *seg);

#endif
