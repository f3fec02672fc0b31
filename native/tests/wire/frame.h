/* Whole frames for the tests of wire: made by the emitters (which have tests of their own), their checksums by the
 * naive sum, then bent by hand. */
#ifndef UN_TEST_WIRE_FRAME_H
#define UN_TEST_WIRE_FRAME_H

#include "bytes.h"
#include "wire/packet.h"

struct frame {
    uint8_t bytes[4096];
    uint32_t length;
};

/* Fields at random, within what they may be. */
struct un_ip_header random_header(uint64_t *random, bool is_v4, uint8_t protocol, uint32_t payload_length);

/* Ethernet, the header, and its payload: the bytes given, or zeros. */
void frame_of(struct frame *frame, const struct un_ip_header *header, const void *payload);

/* A TCP segment (UDP datagram) with a header of 20 (8) bytes and so many of payload, and a checksum that is right. */
void frame_tcp(struct frame *frame, bool is_v4, uint32_t payload);
void frame_udp(struct frame *frame, bool is_v4, uint32_t payload);

/* Changes of a frame as frame_of made it. */
void frame_pad(struct frame *frame, uint32_t bytes);
void frame_tag(struct frame *frame, uint16_t tag);
void frame_fix_ipv4(struct frame *frame);
void frame_ipv4_options(struct frame *frame, const char *hex, uint32_t length);
void frame_extension(struct frame *frame, uint8_t protocol, const char *hex); /* the bytes' first one is overwritten */

/* Parse it at the edge of readable memory. */
enum un_drop frame_parse(const struct frame *frame, struct un_packet *packet);
bool frame_checksum_good(const struct frame *frame, const struct un_packet *packet, enum un_checksum_state state);

#endif
