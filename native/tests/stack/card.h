/* A device whose rings outlive the process that uses it, and the card behind them, in memory that both share.
 *
 * As AF_XDP has it: free frames go to the card by the ring `fill`, and come back with packets by `came`. Packets to
 * send go by `send`; the count `sent` says, in order, which of their frames the card is done with. A packet is a row of
 * pieces, the last of which has no `more`. Between `fill` and `came` a frame is the card's, which nothing in the rings
 * says: so the process notes which frames it gave, and when.
 *
 * The card works only when it is told to (card_run): never while a process is stepped. Whenever it runs, it writes
 * nonsense into all frames that it was given, as a card may at any time. */
#ifndef UN_TEST_CARD_H
#define UN_TEST_CARD_H

#include "device/device.h"

enum { CARD_SLOTS = 64, CARD_FRAMES_MAX = 256, CARD_KEEPS = 5 };

struct card_piece {
    uint32_t frame;
    uint16_t offset;
    uint16_t length;
    bool more;
};

/* What was put and not taken stands in the ring; indices run freely. */
struct card_ring {
    uint32_t put;
    uint32_t taken;
    struct card_piece at[CARD_SLOTS];
};

struct card_memory {
    struct card_ring fill;
    struct card_ring came;
    struct card_ring send; /* `taken` is the card's … */
    uint32_t sent;         /* … which is done with those before this one … */
    uint32_t reaped;       /* … of which the process has taken back those before this one */
    uint32_t given[CARD_FRAMES_MAX]; /* index in `fill` + 1 at which the card got this frame; 0: it has it not */
    uint32_t keep_count;   /* frames that the card took from `fill` and has not filled */
    uint32_t keep[CARD_KEEPS];
};

struct card_device {
    struct un_device device; /* first */
    struct card_memory *memory;
};

void card_open(struct card_device *device, struct card_memory *memory,
               const struct un_device_capabilities *capabilities);

/* The other side: bytes of frames as the card finds them, and what it does with packets. */
struct card_work {
    uint8_t *frames;
    uint32_t frame_bytes;
    bool (*next)(void *context, const uint8_t **bytes, uint32_t *length); /* a packet comes from the wire */
    bool (*transmit)(void *context, const uint8_t *bytes, uint32_t length); /* false: the wire is full */
    void *context;
};
void card_run(struct card_memory *memory, const struct card_work *work);

/* How many frames are in rings or with the card. Each has an owner in the pool, and none is in the free list. */
uint32_t card_check(const struct card_memory *memory, const struct un_pool *pool);

#endif
