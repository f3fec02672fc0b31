/* The pieces of a packet to send, copied into one place after another. */
#ifndef UN_GATHER_H
#define UN_GATHER_H

#include <string.h>

#include "device/device.h"

/* Where the next byte of a packet lies. */
struct un_gathered {
    const struct un_piece *piece;
    uint32_t at;
};

/* The next bytes, of which there are at least so many. */
static inline void un_gather(uint8_t *to, uint32_t length, struct un_gathered *from)
{
    while (length > 0) {
        uint32_t left = from->piece->length - from->at, count = left < length ? left : length;
        memcpy(to, from->piece->bytes + from->at, count);
        from->at += count;
        if (count == left)
            *from = (struct un_gathered){.piece = from->piece + 1};
        to += count;
        length -= count;
    }
}

#endif
