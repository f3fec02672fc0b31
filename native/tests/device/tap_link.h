/* TAP interfaces in a network namespace of the test's own, which vanishes with it. Without the privilege the test is
 * skipped and says so; under CI=true that is a failure. */
#ifndef UN_TEST_TAP_LINK_H
#define UN_TEST_TAP_LINK_H

#include "fixture.h"

#define TAP_NAME "usnet-tap0"
#define TAP_QUEUES_MAX 4u

void tap_enter_namespace(void);

/* Queue 0 of a new interface that is up; IPv6 is off until it is asked for, so that the kernel says nothing
 * by itself. */
struct un_device *tap_open(bool multi_queue);
struct un_device *tap_join(uint16_t queue, uint16_t queues);
void tap_enable_ipv6(void);

/* A packet socket on the kernel's end, non-blocking; with headers: a virtio-net header in front of every packet. */
int tap_far_open(uint16_t ether_type, bool headers);

/* As the far end of a link. */
void tap_far_attach(struct fixture_link *link, int fd);
void tap_far_close(struct fixture_link *link);
bool tap_far_send(struct fixture_link *link, const uint8_t *bytes, uint32_t length);
uint32_t tap_far_receive(struct fixture_link *link, uint8_t *bytes, uint32_t most);

void tap_ip(const char *arguments); /* run `ip …` */
void tap_kernel_mac(uint8_t *mac);

#endif
