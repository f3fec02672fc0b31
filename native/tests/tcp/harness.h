/* One connection of the state machine on a bench: the test is its peer, its application and its clock.
 *
 *   SEND(.flags = ACK, .seq = 1, .ack = 1, .length = 10);   a segment arrives; then dispatch runs if it was asked for
 *   EXPECT(.flags = ACK, .seq = 1, .ack = 11);               it was answered with this
 *   NOTHING();                                               and with nothing else
 *
 * Sequence numbers are relative: `seq` of a side's segments counts from its SYN, `ack` from the other side's. Whoever
 * sends or lets time pass must have looked at everything that was sent before. Payload is a pattern of its position, so
 * that both directions are verified. Every test runs with initial sequence numbers in the middle and short of 2^32. */
#ifndef UN_TCP_HARNESS_H
#define UN_TCP_HARNESS_H

#include <string.h>

#include "../check.h"
#include "tcp/internal.h"

#define FIN UN_TCP_FIN
#define SYN UN_TCP_SYN
#define RST UN_TCP_RST
#define PSH UN_TCP_PSH
#define ACK UN_TCP_ACK
#define URG UN_TCP_URG
#define ECE UN_TCP_ECE
#define CWR UN_TCP_CWR

enum {
    FRAMES = 1024,
    FRAME_BYTES = 2048,
    SENTS = 256,
    SENT_MAX = 512,
    MTU = 1500,
    MSS = 1460,
    PEER_WINDOW = 60000, /* of SYN-ACK and ACK, unless a test says otherwise */
};

struct sent_segment {
    struct un_seg seg; /* sequence numbers made relative */
    uint32_t segment_bytes;
};

struct bench {
    struct un_tcp tcp; /* first: operations find the bench by it */
    struct un_tcb tcb;
    struct un_tcp_config config;
    struct un_tcp_counters counters;
    uint64_t drops[UN_DROP_COUNT];
    struct un_sent_pool sent_pool;
    struct un_sent sents[SENTS];
    struct un_pool_memory pool_memory;
    struct un_frame frames[FRAMES];
    uint8_t *bytes;

    struct sent_segment out[SENT_MAX];
    uint32_t out_head;
    uint32_t out_tail;
    uint32_t events; /* since the test looked last */
    uint32_t written; /* by the application: position of the next byte */
    uint32_t read;
    bool wants_output;
    bool is_ended;
    bool is_blocked; /* emit says -EAGAIN */
    enum un_drop drop; /* of the last segment */
};

extern struct bench *bench; /* of the test that runs */
extern uint32_t bench_base; /* both initial sequence numbers are near it */

/* A fresh connection, not opened yet; configuration may still be changed. */
void bench_begin(void);
/* At the end of a test: nothing else was sent, and, when the connection is over, everything is given back. */
void bench_finish(void);

void bench_send(const char *file, int line, struct un_seg seg);
void bench_queue(struct un_seg seg); /* without dispatch: more follows in the same turn */
void bench_dispatch(void);
struct un_seg *bench_expect(const char *file, int line, struct un_seg want);
void bench_nothing(const char *file, int line);
bool bench_has_sent(void);
/* Everything that was sent is forgotten. */
void bench_ignore(void);
void bench_advance_us(const char *file, int line, uint64_t us);
uint32_t bench_take_events(void);

uint8_t bench_pattern(uint32_t position); /* what the application writes there, and the peer sends */
int64_t bench_write(uint32_t bytes);
/* Read and verify so many bytes, or what there is. */
uint32_t bench_read(uint32_t most);

#define SEND(...) bench_send(__FILE__, __LINE__, (struct un_seg){__VA_ARGS__})
#define QUEUE(...) bench_queue((struct un_seg){__VA_ARGS__})
#define EXPECT(...) bench_expect(__FILE__, __LINE__, (struct un_seg){__VA_ARGS__})
#define NOTHING() bench_nothing(__FILE__, __LINE__)
#define ADVANCE_MS(ms) bench_advance_us(__FILE__, __LINE__, (uint64_t)(ms) * 1000)

/* Ways to a state; the handshake's segments are verified. Options of the peer's SYN as in `syn`. */
void bench_listen(struct un_seg syn);   /* SYN-RECEIVED, SYN-ACK seen */
void bench_connect(void);               /* SYN-SENT, SYN seen */
void bench_establish(void);             /* by a peer, no options but MSS */
void bench_establish_with(uint8_t options); /* enum un_seg_option, window scale 7, timestamps from 100 */
void bench_establish_active(void);

/* Run with both bases. */
void bench_run(const char *name, void (*test)(void));
#define TEST(name) bench_run(#name, name)

#endif
