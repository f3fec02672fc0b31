/* What every device promises (device/device.h), as tests that run over any of them.
 *
 * A device is tested with somebody at its far end who can send it a packet and take what it sent. Packets are made from a
 * number, and checked against it; they are Ethernet of the ether type that is left to experiments (0x88b5). */
#ifndef UN_TEST_CONFORMANCE_H
#define UN_TEST_CONFORMANCE_H

#include "device/device.h"

struct conformance_link {
    struct un_device *device;
    struct un_pool *pool; /* that the device is attached to */
    void *far;
};

struct conformance_device {
    const char *name;
    /* Open link->device with somebody at its far end. The suite attaches the pool, and closes the device. */
    void (*open)(struct conformance_link *link);
    void (*close_far)(struct conformance_link *link);
    /* A packet to the device; false when there is no room on the way. */
    bool (*far_send)(struct conformance_link *link, const uint8_t *bytes, uint32_t length);
    /* The oldest packet the device sent: its length, 0 when there is none. */
    uint32_t (*far_receive)(struct conformance_link *link, uint8_t *bytes, uint32_t most);
    uint32_t slots;  /* packets on their way in each direction before back-pressure; 0: it cannot be said */
    bool keeps_mtu;  /* a packet larger than the MTU does not pass */
};

void conformance_run(const struct conformance_device *device);

/* For other tests of devices. */
struct un_pool conformance_pool(uint32_t frames, uint32_t frame_bytes);
void conformance_pool_free(struct un_pool *pool);
void conformance_packet(uint8_t *bytes, uint32_t length, uint32_t number);
bool conformance_packet_is(const uint8_t *bytes, uint32_t length, uint32_t number);
void conformance_copy(const struct un_pool *pool, const struct un_rx *packet, uint8_t *bytes);
/* Send bytes as one packet: headers lent, the rest in a second piece. */
void conformance_submit(struct un_device *device, const uint8_t *bytes, uint32_t length);
/* The next packet of the device into bytes, frames dropped; its length, 0 when none came within a second. */
uint32_t conformance_receive(struct conformance_link *link, uint8_t *bytes, struct un_rx *packet);
/* Wait until the device has something to look at, as its owner does: false after so many milliseconds. */
bool conformance_wait(struct un_device *device, int timeout_ms);

#endif
