/* See far_end.h. */
#include "far_end.h"

#include <stdlib.h>
#include <string.h>

#include "../check.h"

struct far_end {
    struct fixture_link link; /* first */
    struct un_pool pool;
};

const struct un_device_capabilities far_end_offloads = {
    .mac = {2, 0, 0, 0, 0, 1},
    .mtu = 1500,
    .tx_segment_bytes = 65000,
    .tx_checksum = true,
    .rx_checksum = true,
    .rx_coalesce = true,
    .queues = 1,
};

const struct un_device_capabilities far_end_plain = {.mac = {2, 0, 0, 0, 0, 1}, .mtu = 1500, .queues = 1};

void far_end_open(struct fixture_link *link, const struct un_device_capabilities *both)
{
    struct un_device *ends[2];
    const struct un_device_capabilities capabilities[2] = {*both, *both};
    struct far_end *far = calloc(1, sizeof *far);
    CHECK(far != NULL);
    CHECK_EQ(un_memory_pair(ends, capabilities, FAR_SLOTS), 0);
    far->pool = fixture_pool(2048, 2048);
    far->link = (struct fixture_link){.device = ends[1], .pool = &far->pool};
    un_device_attach(ends[1], &far->pool);
    link->device = ends[0];
    link->far = far;
}

void far_end_close(struct fixture_link *link)
{
    struct far_end *far = link->far;
    far->link.device->operations->close(far->link.device);
    CHECK_EQ(far->pool.own->free_count, far->pool.own->count);
    fixture_pool_free(&far->pool);
    free(far);
}

struct fixture_link *far_end_link(struct fixture_link *link)
{
    return link->far;
}

bool far_end_send(struct fixture_link *link, const uint8_t *bytes, uint32_t length)
{
    struct un_device *device = far_end_link(link)->device;
    if (device->operations->reserve(device, 1) == 0)
        return false;
    fixture_submit(device, bytes, length);
    device->operations->flush(device);
    return true;
}

uint32_t far_end_receive(struct fixture_link *link, uint8_t *bytes, uint32_t most)
{
    (void)most;
    return fixture_receive(far_end_link(link), bytes, NULL);
}
