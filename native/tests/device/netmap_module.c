/* See netmap_module.h. */
#include "netmap_module.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "../check.h"
#include "device/device.h"
#include "device/netmap_host.h"

struct module *module;

static uint32_t next(uint32_t at)
{
    return (at + 1) % MODULE_SLOTS;
}

static uint32_t distance(uint32_t from, uint32_t to)
{
    return (to + MODULE_SLOTS - from) % MODULE_SLOTS;
}

static void make_ring(struct module_ring *ring, uint16_t is_tx, uint32_t first_buffer)
{
    *ring = (struct module_ring){.ring = {
        .buffers = (uint8_t *)module->buffers - (uint8_t *)ring,
        .slot_count = MODULE_SLOTS,
        .buffer_bytes = MODULE_BUFFER_BYTES,
        .is_tx = is_tx,
        .tail = is_tx ? MODULE_SLOTS - 1 : 0,
    }};
    for (uint32_t i = 0; i < MODULE_SLOTS; i++)
        ring->slots[i].buffer = first_buffer + i;
}

void module_begin(void)
{
    if (!module)
        module = mmap(NULL, sizeof *module, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(module != MAP_FAILED);
    memset(module, 0, sizeof *module);
    module->port = (struct un_netmap_if){.tx_rings = 1, .rx_rings = 1, .host_tx_rings = 1, .host_rx_rings = 1};
    module->rings[0] = (uint8_t *)&module->tx - (uint8_t *)&module->port;
    module->rings[1] = (uint8_t *)&module->host_tx - (uint8_t *)&module->port;
    module->rings[2] = (uint8_t *)&module->rx - (uint8_t *)&module->port;
    module->rings[3] = (uint8_t *)&module->host_rx - (uint8_t *)&module->port;
    make_ring(&module->tx, 1, 2);
    make_ring(&module->rx, 0, 2 + MODULE_SLOTS);
    make_ring(&module->host_tx, 1, 2 + 2 * MODULE_SLOTS);
    make_ring(&module->host_rx, 0, 2 + 3 * MODULE_SLOTS);
    module->tx_seen = module->tx;
    module->rx_seen = module->rx;
    module->host_rx_seen = module->host_rx;
}

struct un_device *module_open(uint16_t mtu, uint16_t flags)
{
    struct un_netmap_pair pair;
    const struct un_netmap_memory memory = {
        .magic = UN_NETMAP_MAGIC, .mtu = mtu, .mac = {2, 0, 0, 0, 0, 1}, .flags = flags,
        .memory_bytes = sizeof *module};
    CHECK_EQ(un_netmap_find(&pair, module, &memory), 0);
    struct un_device *device = un_netmap_over(&pair, &memory, MODULE_FD);
    CHECK(device != NULL);
    return device;
}

void module_carries(struct un_device *device)
{
    struct un_netmap_pair pair;
    const struct un_netmap_memory memory = {
        .magic = UN_NETMAP_MAGIC, .flags = UN_NETMAP_IS_HOST, .memory_bytes = sizeof *module};
    CHECK_EQ(un_netmap_find(&pair, module, &memory), 0);
    struct un_netmap_host *host = un_netmap_host_over(&pair, MODULE_HOST_FD);
    CHECK(host != NULL);
    un_netmap_carries_for(device, host, MODULE_FD);
}

/* ---- rules ---- */

static void stands_in_slots(bool *stands)
{
    const struct module_ring *rings[] = {&module->tx, &module->host_tx, &module->rx, &module->host_rx};
    for (uint32_t i = 0; i < 4 * MODULE_SLOTS; i++) {
        uint32_t buffer = rings[i / MODULE_SLOTS]->slots[i % MODULE_SLOTS].buffer;
        CHECK(buffer >= 2 && buffer < MODULE_BUFFERS);
        CHECK(!stands[buffer]);
        stands[buffer] = true;
    }
}

void module_no_buffer_twice(void)
{
    stands_in_slots((bool[MODULE_BUFFERS]){false});
}

static uint32_t *extra_after(uint32_t buffer)
{
    return (uint32_t *)(void *)module->buffers[buffer];
}

void module_give_extra(void)
{
    for (uint32_t buffer = MODULE_BUFFERS - MODULE_EXTRA; buffer < MODULE_BUFFERS; buffer++)
        *extra_after(buffer) = buffer + 1 < MODULE_BUFFERS ? buffer + 1 : 0;
    module->port.extra_buffers = MODULE_BUFFERS - MODULE_EXTRA;
}

void module_has_extra_again(void)
{
    bool stands[MODULE_BUFFERS] = {false};
    uint32_t count = 0;
    stands_in_slots(stands);
    for (uint32_t buffer = module->port.extra_buffers; buffer != 0; buffer = *extra_after(buffer), count++) {
        CHECK(buffer < MODULE_BUFFERS && !stands[buffer]);
        stands[buffer] = true;
    }
    CHECK_EQ(count, MODULE_EXTRA);
}

/* Of a slot that is handed back. */
static void check_buffer(const struct un_netmap_slot *slot, const struct un_netmap_slot *seen)
{
    CHECK(slot->buffer == seen->buffer || slot->flags & UN_NETMAP_BUFFER_CHANGED);
}

/* Of the ring as the user hands it over: how many slots are the module's now. */
static uint32_t check(const struct module_ring *ring, const struct module_ring *seen)
{
    uint32_t was = seen->ring.head, tail = seen->ring.tail, head = ring->ring.head;
    CHECK_EQ(ring->ring.tail, tail);
    CHECK_EQ(ring->ring.slot_count, MODULE_SLOTS);
    CHECK_EQ(ring->ring.buffers, seen->ring.buffers);
    CHECK(head < MODULE_SLOTS && ring->ring.cur < MODULE_SLOTS);
    CHECK(distance(was, head) <= distance(was, tail));
    CHECK(distance(head, ring->ring.cur) <= distance(head, tail)); /* a process may have died before it stored head */
    for (uint32_t at = tail; at != was; at = next(at)) /* between the two calls they were the module's */
        CHECK(memcmp(&ring->slots[at], &seen->slots[at], sizeof seen->slots[at]) == 0);
    for (uint32_t at = was; at != head; at = next(at))
        check_buffer(&ring->slots[at], &seen->slots[at]);
    module_no_buffer_twice();
    return distance(was, head);
}

/* ---- the call ---- */

static void send_slot(const struct un_netmap_slot *slot)
{
    uint32_t length = 0;
    CHECK(slot->length > 0 && slot->length <= MODULE_BUFFER_BYTES);
    CHECK((slot->flags & ~(UN_NETMAP_MORE_PARTS | UN_NETMAP_REPORT)) == 0);
    CHECK(module->sent_end + sizeof length + slot->length <= MODULE_SENT_BYTES);
    if (!module->is_open) {
        module->packet = module->sent_end;
        module->sent_end += (uint32_t)sizeof length;
    }
    memcpy(module->sent + module->sent_end, module->buffers[slot->buffer], slot->length);
    module->sent_end += slot->length;
    length = module->sent_end - module->packet - (uint32_t)sizeof length;
    memcpy(module->sent + module->packet, &length, sizeof length);
    module->is_open = slot->flags & UN_NETMAP_MORE_PARTS;
}

static void synchronise_tx(void)
{
    module->tx_calls++;
    for (uint32_t count = check(&module->tx, &module->tx_seen); count > 0; count--) {
        send_slot(&module->tx.slots[module->tx_sent]);
        module->tx_sent = next(module->tx_sent);
    }
    CHECK(!module->is_open); /* packets are handed over whole */
    if (!module->keeps)
        module->tx.ring.tail = (module->tx_sent + MODULE_SLOTS - 1) % MODULE_SLOTS;
    module->tx_seen = module->tx;
}

static void synchronise_rx(void)
{
    uint32_t at = module->rx_seen.ring.head;
    module->rx_calls++;
    for (uint32_t left = check(&module->rx, &module->rx_seen); left > 0; left--, at = next(at))
        module->forwarded += module->rx.ring.flags & UN_NETMAP_RING_FORWARDS &&
                             module->rx.slots[at].flags & UN_NETMAP_FORWARD;
    module->rx.ring.tail = module->rx_filled;
    module->rx_seen = module->rx;
}

static void synchronise_host(void)
{
    check(&module->host_rx, &module->host_rx_seen);
    module->host_rx.ring.tail = module->host_filled;
    module->host_rx_seen = module->host_rx;
}

int ioctl(int fd, unsigned long request, ...)
{
    CHECK(fd == MODULE_FD || (fd == MODULE_HOST_FD && request == UN_NETMAP_SYNC_RX));
    CHECK(request == UN_NETMAP_SYNC_TX || request == UN_NETMAP_SYNC_RX);
    if (module->is_scribbled)
        return 0;
    if (module->gone) {
        errno = ENXIO;
        return -1;
    }
    module->is_busy = true;
    if (fd == MODULE_HOST_FD)
        synchronise_host();
    else if (request == UN_NETMAP_SYNC_TX)
        synchronise_tx();
    else
        synchronise_rx();
    module->is_busy = false;
    return 0;
}

static int fill(struct module_ring *ring, struct module_ring *seen, uint32_t *filled, const void *bytes,
                struct un_netmap_slot what)
{
    if (next(*filled) == seen->ring.head)
        return -1;
    struct un_netmap_slot *slot = &ring->slots[*filled];
    slot->length = what.length;
    slot->flags = what.flags;
    if (what.length <= MODULE_BUFFER_BYTES)
        memcpy(module->buffers[slot->buffer], bytes, what.length);
    seen->slots[*filled] = *slot;
    *filled = next(*filled);
    return 0;
}

int module_receive(const void *bytes, uint16_t length, uint16_t flags)
{
    return fill(&module->rx, &module->rx_seen, &module->rx_filled, bytes,
                (struct un_netmap_slot){.length = length, .flags = flags});
}

int module_kernel_sends(const void *bytes, uint16_t length)
{
    return fill(&module->host_rx, &module->host_rx_seen, &module->host_filled, bytes,
                (struct un_netmap_slot){.length = length});
}

uint32_t module_sent(uint8_t *bytes, uint32_t most)
{
    uint32_t length, *begin = &module->sent_begin;
    if (*begin == module->sent_end)
        return *begin = module->sent_end = 0;
    memcpy(&length, module->sent + *begin, sizeof length);
    CHECK(length <= most);
    memcpy(bytes, module->sent + *begin + sizeof length, length);
    *begin += (uint32_t)sizeof length + length;
    return length;
}
