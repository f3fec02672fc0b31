/* A peer made by hand at the far end of a stack's device: packets are written and read with wire/, nothing answers by
 * itself. It is 10.0.0.9 and fd00::9, the stack is 10.0.0.1 and fd00::1. */
#ifndef UN_TEST_FAR_H
#define UN_TEST_FAR_H

#include "net.h"
#include "wire/arp.h"
#include "wire/icmp.h"
#include "wire/packet.h"

struct far {
    struct host host;
    uint64_t now_ns;
    struct un_ip ip4, ip6;         /* its own */
    struct un_ip stack4, stack6;   /* the stack's */
    uint8_t to[UN_MAC_BYTES];      /* Ethernet destination of what it sends */
};

/* A packet that the stack sent. */
struct far_packet {
    uint8_t bytes[70000];
    uint32_t length;
    struct un_packet packet;
};

void far_open(struct far *far, const struct un_stack_config *config);
void far_close(struct far *far);
void far_turn(struct far *far); /* a turn of the stack, checked */
void far_wait(struct far *far, uint64_t duration_ns);

void far_send_bytes(struct far *far, const void *bytes, uint32_t length); /* a whole frame; then a turn */
void far_send_arp(struct far *far, uint16_t operation, const struct un_ip *sender, const struct un_ip *target);
/* A transport packet from `from`: its checksum, which lies at checksum_offset, is filled in; 0 leaves it. */
void far_send_ip(struct far *far, const struct un_ip *from, const struct un_ip *to, uint8_t protocol,
                 const void *transport, uint32_t length, uint32_t checksum_offset);
void far_send_icmp(struct far *far, const struct un_ip *from, const struct un_ip *to, const struct un_icmp *icmp,
                   const void *payload, uint32_t length);
void far_send_tcp(struct far *far, const struct un_ip *from, const struct un_ip *to, struct un_seg *seg);

/* The stack knows the far end's MAC address from here on, and what it said on the way is gone. */
void far_introduce(struct far *far);

bool far_take(struct far *far, struct far_packet *packet); /* parsed, its checksums verified */
void far_expect_nothing(struct far *far);
struct un_arp far_expect_arp(struct far *far);
struct un_icmp far_expect_icmp(struct far *far, struct far_packet *packet, enum un_icmp_kind kind);
struct un_seg far_expect_tcp(struct far *far, uint8_t flags);

#endif
