/* For tests of devices: packets that are made from a number and checked against it, and an owner who sends and receives
 * them. What every device promises is tested by usnet_framework.testing.conformance; here are the tests of each kind's
 * own.
 *
 * Packets are Ethernet of the ether type that is left to experiments (0x88b5). */
#ifndef UN_TEST_DEVICE_FIXTURE_H
#define UN_TEST_DEVICE_FIXTURE_H

#include "device/device.h"

struct fixture_link {
    struct un_device *device;
    struct un_pool *pool; /* that the device is attached to */
    void *far;
};

struct un_pool fixture_pool(uint32_t frames, uint32_t frame_bytes);
struct un_pool fixture_pool_of(const struct un_device *device); /* of frames of its own, which go with it */
void fixture_pool_free(struct un_pool *pool);
void fixture_packet(uint8_t *bytes, uint32_t length, uint32_t number);
bool fixture_packet_is(const uint8_t *bytes, uint32_t length, uint32_t number);
void fixture_copy(const struct un_pool *pool, const struct un_rx *packet, uint8_t *bytes);
/* Send bytes as one packet: headers lent, the rest in a second piece. */
void fixture_submit(struct un_device *device, const uint8_t *bytes, uint32_t length);
/* The next packet of the device into bytes, frames dropped; its length, 0 when none came within a second. */
uint32_t fixture_receive(struct fixture_link *link, uint8_t *bytes, struct un_rx *packet);
/* Wait until the device has something to look at, as its owner does: false after so many milliseconds. */
bool fixture_wait(struct un_device *device, int timeout_ms);

#endif
