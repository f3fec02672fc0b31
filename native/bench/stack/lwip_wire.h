/* lwIP's network interface over a device of ours, so that lwIP meets the same wire as our stack.
 *
 * A received frame is lent to lwIP where it lies (a pbuf of our own kind), and is free again when lwIP frees it; what
 * it sends it hands over in one piece, and the device takes it from there. Neither side copies more than with our
 * stack. The device must not merge packets or leave checksums undone: lwIP verifies and computes all of them.
 *
 * lwIP is used from one thread, without a thread of its own (tcpip_init is not called). */
#ifndef LWIP_WIRE_H
#define LWIP_WIRE_H

#include <lwip/netif.h>

#include "device/device.h"

struct lwip_wire;

/* The interface, up, with an IPv4 address in host order; the device is the wire's from now on. NULL: no memory. */
struct lwip_wire *lwip_wire_open(struct un_device *device, uint32_t frames, uint32_t address, uint32_t prefix);

/* Packets in, and on their way out what they cause. How many came. */
uint32_t lwip_wire_poll(struct lwip_wire *wire);

/* Its connections are reset. */
void lwip_wire_close(struct lwip_wire *wire);

#endif
