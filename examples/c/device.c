/* A device of one's own: frames over a socket that keeps packets apart, as one end of a socketpair does.
 *
 * The promises that such a file has to keep stand in device/device.h, and usnet_framework.testing.conformance tests
 * them: tests/devices/test_own.py compiles this file against the installed headers and runs the suite over it.
 *
 *     cc -shared -fPIC $(pkg-config --cflags usnet) device.c -o device.so */
#include <device/device.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define MTU 1500u
#define PACKET_BYTES (MTU + 18u) /* Ethernet, with one VLAN tag */
#define WAITING 64u

struct own {
    struct un_device device; /* first */
    uint32_t first;          /* of `waiting` packets in the ring `packets`: received, not released */
    uint32_t waiting;
    struct un_rx packets[WAITING];
};

static struct own *own_of(struct un_device *device)
{
    return (struct own *)device;
}

/* Sockets are asked for room by trying. */
static uint32_t own_reserve(struct un_device *device, uint32_t count)
{
    (void)device;
    return count;
}

static void send_one(struct un_device *device, const struct un_tx *packet)
{
    struct iovec pieces[UN_TX_PIECES_MAX];
    for (uint32_t i = 0; i < packet->count; i++)
        pieces[i] = (struct iovec){(void *)packet->pieces[i].bytes, packet->pieces[i].length};
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = packet->count};
    if (packet->length > PACKET_BYTES || sendmsg(device->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
        device->counters->tx_errors++;
        return;
    }
    device->counters->tx_packets++;
    device->counters->tx_bytes += packet->length;
}

static void own_submit(struct un_device *device, const struct un_tx *packets, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        send_one(device, &packets[i]);
}

static void own_flush(struct un_device *device)
{
    (void)device; /* all has left in submit */
}

/* Spread a packet over as many frames as it takes, of which there are enough: its first one. */
static uint32_t to_frames(struct un_pool *pool, const uint8_t *bytes, uint32_t length)
{
    uint32_t head = UN_NONE, *link = &head;
    while (length > 0) {
        uint32_t frame = *link = un_pool_take(pool);
        un_assert(frame != UN_NONE);
        uint32_t step = length < pool->own->frame_bytes ? length : pool->own->frame_bytes;
        memcpy(un_pool_bytes(pool, frame), bytes, step);
        pool->frames[frame].length = (uint16_t)step;
        link = &pool->frames[frame].next;
        bytes += step;
        length -= step;
    }
    return head;
}

/* False: nothing there, or no frame for it. */
static bool receive_one(struct own *own)
{
    uint8_t bytes[PACKET_BYTES];
    struct un_device *device = &own->device;
    if (device->pool->own->free_count * device->pool->own->frame_bytes < PACKET_BYTES) {
        device->counters->rx_no_frame++; /* it waits in the socket */
        return false;
    }
    ssize_t length = recv(device->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (length <= 0)
        return false;
    uint32_t at = (own->first + own->waiting++) % WAITING;
    own->packets[at] =
        (struct un_rx){.frame = to_frames(device->pool, bytes, (uint32_t)length), .length = (uint32_t)length};
    device->counters->rx_packets++;
    device->counters->rx_bytes += (uint64_t)length;
    return true;
}

static uint32_t own_peek(struct un_device *device, struct un_rx *packets, uint32_t most)
{
    struct own *own = own_of(device);
    most = most < WAITING ? most : WAITING;
    while (own->waiting < most && receive_one(own))
        continue;
    uint32_t count = own->waiting < most ? own->waiting : most;
    for (uint32_t i = 0; i < count; i++)
        packets[i] = own->packets[(own->first + i) % WAITING];
    return count;
}

static void own_release(struct un_device *device, uint32_t count)
{
    struct own *own = own_of(device);
    un_assert(count <= own->waiting);
    own->first = (own->first + count) % WAITING;
    own->waiting -= count;
}

static bool own_sleep(struct un_device *device)
{
    return own_of(device)->waiting == 0; /* the descriptor tells of the rest */
}

static void own_attach(struct un_device *device, struct un_pool *pool)
{
    (void)pool;
    own_of(device)->waiting = 0; /* their frames are somebody else's now */
}

static void own_close(struct un_device *device)
{
    struct own *own = own_of(device);
    for (; own->waiting > 0; own_release(device, 1))
        un_pool_drop_chain(device->pool, own->packets[own->first].frame);
    close(device->fd);
    free(own);
}

static const struct un_device_operations own_operations = {
    .name = "own",
    .attach = own_attach,
    .reserve = own_reserve,
    .submit = own_submit,
    .flush = own_flush,
    .peek = own_peek,
    .release = own_release,
    .sleep = own_sleep,
    .close = own_close,
};

/* Over a socket that is the device's from then on; NULL, with errno. What it returns is a `struct usnet_device
 * *` too. */
struct un_device *own_open(int socket_fd);

struct un_device *own_open(int socket_fd)
{
    struct own *own = calloc(1, sizeof *own);
    if (own)
        own->device = (struct un_device){
            .operations = &own_operations,
            .fd = socket_fd,
            .capabilities = {.mac = {2, 0, 0, 0, 0, 0x51}, .mtu = MTU, .queues = 1},
        };
    return own ? &own->device : NULL;
}
