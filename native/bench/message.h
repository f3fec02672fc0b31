/* Numbered, checksummed messages of a fixed size, for an echo that must lose, repeat, reorder and change nothing.
 *
 *   offset 0  sequence    u64, from 0 on each connection
 *          8  connection  u32, the load generator's own number of it
 *         12  crc         u32, CRC-32C of everything else in the message
 *         16  payload     a function of connection and sequence
 *
 * A message can be made again at any time from its two numbers, so nothing that was sent has to be kept.
 * Numbers are in host order: what reads a message is the process that
 * wrote it. */
#ifndef MESSAGE_H
#define MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MESSAGE_HEADER_BYTES 16

struct message {
    uint64_t sequence;
    uint32_t connection;
    uint32_t crc;
};

_Static_assert(sizeof(struct message) == MESSAGE_HEADER_BYTES, "a message's header has no padding");

/* Once, before anything else here. */
void message_setup(void);

void message_write(unsigned char *bytes, size_t size, uint32_t connection, uint64_t sequence);

/* False when the checksum is wrong; `message` then holds what the header says, to be believed by nobody. */
bool message_read(const unsigned char *bytes, size_t size, struct message *message);

#endif
