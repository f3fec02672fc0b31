/* The far end of a wire in this process, with a pool of its own: for tests of the memory pair and of what wraps a
 * device. */
#ifndef UN_TEST_FAR_END_H
#define UN_TEST_FAR_END_H

#include "fixture.h"

#define FAR_SLOTS 128u

/* The near end in link->device. */
void far_end_open(struct fixture_link *link, const struct un_device_capabilities *both);
void far_end_close(struct fixture_link *link);
bool far_end_send(struct fixture_link *link, const uint8_t *bytes, uint32_t length);
uint32_t far_end_receive(struct fixture_link *link, uint8_t *bytes, uint32_t most);

/* The far end as a link of its own. */
struct fixture_link *far_end_link(struct fixture_link *link);

/* MTU 1500; everything is offloaded, or nothing. */
extern const struct un_device_capabilities far_end_offloads, far_end_plain;

#endif
