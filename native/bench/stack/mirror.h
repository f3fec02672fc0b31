/* An echo server without a TCP stack: a segment is turned round where it lies, sequence number and acknowledgement
 * exchanged, and nothing is remembered. No server can do with less work of its own; one that answers in larger batches
 * may still come to more where the load's core is what is full. Loss, windows and order are beyond it: it serves small
 * echoes of a kernel at the other end, in IPv4, and nothing else.
 *
 * What is left is how packets come and go: usnet-echo-mirror-tap and usnet-echo-mirror-afxdp. */
#ifndef MIRROR_H
#define MIRROR_H

#include <stdbool.h>
#include <stdint.h>

struct mirror {
    const char *interface;
    uint8_t address[4];
    uint16_t port;
};

extern const uint8_t mirror_mac[6];

/* Of the arguments INTERFACE ADDRESS/PREFIX PORT. Prints the usage and exits with 2 when they are others. */
void mirror_parse(struct mirror *mirror, int argc, char **argv);

/* An answer in place of an Ethernet frame; false: it needs none. The checksum of a segment is as it came. */
bool mirror_turn(const struct mirror *mirror, uint8_t *ethernet, uint32_t length);

/* The checksum of the segment in such an answer, if it has one, for a device that does not make it. */
void mirror_complete_checksum(uint8_t *ethernet);

#endif
