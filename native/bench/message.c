/* See message.h. */
#include "message.h"

#include <string.h>

#define CRC32C_POLYNOMIAL 0x82f63b78u /* reflected; RFC 3720 appendix B.4 has test vectors */

static uint32_t crc_table[256];

void message_setup(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ CRC32C_POLYNOMIAL : crc >> 1;
        crc_table[byte] = crc;
    }
}

static uint32_t crc32c(uint32_t crc, const unsigned char *bytes, size_t size)
{
    crc = ~crc;
    for (size_t i = 0; i < size; i++)
        crc = crc_table[(crc ^ bytes[i]) & 0xff] ^ crc >> 8;
    return ~crc;
}

static uint32_t message_crc(const unsigned char *bytes, size_t size)
{
    uint32_t crc = crc32c(0, bytes, offsetof(struct message, crc));
    return crc32c(crc, bytes + MESSAGE_HEADER_BYTES, size - MESSAGE_HEADER_BYTES);
}

/* One step of SplitMix64: well mixed, and any place of the sequence can be started from. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static void fill_payload(unsigned char *bytes, size_t size, uint64_t state)
{
    while (size > 0) {
        uint64_t word = next_random(&state);
        size_t part = size < sizeof word ? size : sizeof word;
        memcpy(bytes, &word, part);
        bytes += part;
        size -= part;
    }
}

void message_write(unsigned char *bytes, size_t size, uint32_t connection, uint64_t sequence)
{
    struct message header = {.sequence = sequence, .connection = connection};
    memcpy(bytes, &header, sizeof header);
    fill_payload(bytes + MESSAGE_HEADER_BYTES, size - MESSAGE_HEADER_BYTES, (uint64_t)connection << 40 ^ sequence);
    header.crc = message_crc(bytes, size);
    memcpy(bytes, &header, sizeof header);
}

bool message_read(const unsigned char *bytes, size_t size, struct message *message)
{
    memcpy(message, bytes, sizeof *message);
    return message->crc == message_crc(bytes, size);
}
