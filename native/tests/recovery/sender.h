/* A sender for tests of loss recovery: a connection without state machine, a clock that stands still until it is moved,
 * and a log of what was sent. After every step the records are checked against the sums over them.
 *
 * Sequence numbers in tests are relative: 0 is the first byte of payload. */
#ifndef UN_TEST_SENDER_H
#define UN_TEST_SENDER_H

#include "../check.h"
#include "tcp/tcp.h"

#define SENDER_FRAMES 2048u
#define SENDER_SENTS 4096u
#define SENDER_LOG 8192u
#define MSS 1000u

struct packet {
    uint32_t seq;
    uint32_t length; /* of payload */
    uint32_t tsval;
    bool is_resent;
};

struct sender {
    struct un_tcp tcp;
    struct un_tcb tcb;
    struct un_tcp_config config;
    struct un_tcp_counters counters;
    struct un_sent_pool sent_pool;
    struct un_pool_memory pool_memory;
    struct un_frame frames[SENDER_FRAMES];
    struct un_sent sents[SENDER_SENTS];
    uint64_t drops[UN_DROP_COUNT];
    uint8_t bytes[SENDER_FRAMES * 2048u];
    struct packet log[SENDER_LOG];
    uint32_t logged; /* packets in all */
    uint32_t seen;   /* of them, by EXPECT */
    uint32_t burst;  /* segments of a super-segment */
    bool wants_output;
};

extern struct sender sender;

/* An established connection with these un_tcb_flags, MSS of MSS without options, RTO at its initial second, and no
 * sample. */
void open_sender(uint32_t flags, uint32_t congestion);
/* The same at any sequence number and segment size. */
void open_sender_at(uint32_t flags, uint32_t congestion, uint32_t iss, uint16_t mss);
void measure_us(uint32_t rtt_us); /* as if the handshake had given this round trip */

uint32_t relative(uint32_t seq);
uint8_t payload_at(uint32_t relative_seq); /* what the stream holds there */

void write_bytes(uint32_t length); /* queue, and send what may be sent */
void dispatch(void);
void wait_us(uint64_t us); /* timers fire on their way */
uint64_t timer_us(enum un_timer timer); /* until it fires; UINT64_MAX: it does not run */

struct blocks {
    uint32_t count;
    struct un_sack_block at[UN_SACK_BLOCKS_MAX];
};
#define NO_SACK ((struct blocks){0})
#define SACK(start, end) ((struct blocks){1, {{start, end}}})
#define SACK2(s1, e1, s2, e2) ((struct blocks){2, {{s1, e1}, {s2, e2}}})

/* An ACK arrives that echoes the newest timestamp, or this one; then what may leave leaves. */
void receive_ack(uint32_t ack, struct blocks blocks);
void receive_ack_echo(uint32_t ack, struct blocks blocks, uint32_t tsecr);
/* The segment as it is, sequence numbers absolute. */
void receive_segment(const struct un_seg *seg);

/* The next packet that was sent is this one; nothing else was sent. */
#define EXPECT_SENT(seq, length) expect_sent(__LINE__, seq, length, false)
#define EXPECT_RESENT(seq, length) expect_sent(__LINE__, seq, length, true)
#define EXPECT_NOTHING() expect_nothing(__LINE__)
void expect_sent(int line, uint32_t seq, uint32_t length, bool is_resent);
void expect_nothing(int line);
void forget_log(void);

void check_sender(void);

#endif
