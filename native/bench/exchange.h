/* Messages and answers of different lengths, so that a load can go one way: much up and little down, or the reverse.
 *
 * A message says in its first 16 bytes how long it is, those included, and how long the answer has to be; what follows,
 * and the answer, are any bytes. A connection carries messages one behind the other. Numbers are in host order: both
 * ends are on
 * one machine. */
#ifndef EXCHANGE_H
#define EXCHANGE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct exchange {
    uint64_t message;
    uint64_t answer;
};

#define EXCHANGE_HEADER_BYTES sizeof(struct exchange)

_Static_assert(EXCHANGE_HEADER_BYTES == 16, "a header has no padding");

/* The server's side of one connection, all zero at first. */
struct exchange_reader {
    struct exchange header; /* of the message that is being received */
    uint64_t fill;          /* bytes of it that are here */
};

/* Bytes that came: how many have to be answered because of them. */
static inline uint64_t exchange_take(struct exchange_reader *reader, const void *bytes, size_t count)
{
    const unsigned char *from = bytes;
    uint64_t owed = 0;
    while (count > 0) {
        uint64_t end = reader->fill < EXCHANGE_HEADER_BYTES ? EXCHANGE_HEADER_BYTES : reader->header.message;
        size_t part = end - reader->fill < count ? (size_t)(end - reader->fill) : count;
        if (reader->fill < EXCHANGE_HEADER_BYTES)
            memcpy((unsigned char *)&reader->header + reader->fill, from, part);
        reader->fill += part;
        from += part;
        count -= part;
        if (reader->fill >= EXCHANGE_HEADER_BYTES && reader->fill >= reader->header.message) {
            owed += reader->header.answer;
            reader->fill = 0;
        }
    }
    return owed;
}

#endif
