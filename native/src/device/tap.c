/* One queue of a TAP interface: Ethernet frames to and from the kernel of this machine, with checksum and segmentation
 * offload both ways (IFF_VNET_HDR: a virtio-net header in front of every frame).
 *
 * Receive. A packet may have 64 KiB, but most are small. A read scatters over as many spare frames as the largest
 * packet takes. The packet keeps the frames that it filled; the others serve the next read. The spare frames lie at the
 * end of the iovec, so only those that were used have to be replaced. The entry of the header moves in front of the
 * first one:
 *
 *     iov   … | header | spare | spare | …         holes = 1: one frame was used, and none was free to replace it
 *
 * Small packets. The kernel takes long to look at many pieces: a tenth of a small read. So after WIDE_FOR small packets
 * in a row only the first NARROW frames are offered. Behind them stands a buffer (`rest`) for the case that the packet
 * is large after all; what lands there is copied into the spare frames.
 *
 * Lone packets. A read that finds nothing costs nearly as much as one that finds a packet, and in an exchange of
 * requests and answers every packet comes alone. So after LONE_ENOUGH packets that came alone, a peek reads one packet
 * and does not look for a second. If there is one, the descriptor stays readable. Every LONE_LOOK-th time the queue is
 * read to its end all the same.
 *
 * Few frames. When the pool runs short, fewer frames are offered, and a packet that does not fit is dropped. When there
 * is none, packets wait in the kernel's queue, and the descriptor stays readable all the time.
 *
 * Send. submit makes one write for each packet; the kernel has copied the packet when the write returns. Only a write
 * shows whether there is room. A packet that the kernel does not take is dropped and counted, and the device reports no
 * room until the next flush. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/interface.h"
#include "device/device.h"
#include "device/why.h"

#define PACKET_BYTES_MAX 65553u /* 64 KiB - 1 of IP packet, Ethernet, a VLAN tag */
#define SEGMENT_BYTES_MAX 65455u /* of payload: what an IPv4 packet has room for besides 20 and 60 bytes of headers */
#define SPARE_MAX 1023u /* IOV_MAX - 1 */
#define NARROW 6u /* frames offered when a small packet is expected: up to 8 pieces are quick (UIO_FASTIOV) */
#define HEADER_BYTES sizeof(struct virtio_net_hdr)
#define BATCH 64u
/* a batch ends here; a larger one would push its own packets out of the L2 cache */
#define BATCH_BYTES (128u * 1024)
#define WIDE_FOR 32u   /* small packets after a large one: the acknowledgements of bulk the other way */
#define LONE_ENOUGH 4u /* packets in a row that came alone: then the next one is expected to */
#define LONE_LOOK 16u  /* after each so many such packets the queue is read to its end */

struct tap {
    struct un_device device; /* first */
    struct virtio_net_hdr header; /* of the packet being read */
    uint32_t spare_count;    /* frames for the largest packet */
    uint32_t holes;          /* entries at the front without a frame */
    uint32_t waiting;        /* packets read and not released: from `first` in ready, a ring */
    uint32_t first;
    uint32_t lone;           /* packets in a row that came alone, as far as we know */
    bool full;
    uint32_t wide;           /* a large packet came lately: small packets until all frames are no longer offered */
    struct un_rx ready[BATCH];
    uint32_t spares[SPARE_MAX];
    struct iovec iov[SPARE_MAX + 1]; /* iov[i + 1] is spares[i] */
    uint8_t rest[PACKET_BYTES_MAX];
};

static struct tap *tap_of(struct un_device *device)
{
    return (struct tap *)device;
}

static void tap_attach(struct un_device *device, struct un_pool *pool)
{
    struct tap *tap = tap_of(device);
    uint32_t frames = (PACKET_BYTES_MAX + pool->own->frame_bytes - 1) / pool->own->frame_bytes;
    tap->spare_count = frames < SPARE_MAX ? frames : SPARE_MAX;
    tap->holes = tap->spare_count;
    tap->waiting = 0;
}

static void fill_holes(struct tap *tap)
{
    struct un_pool *pool = tap->device.pool;
    while (tap->holes > 0) {
        uint32_t frame = un_pool_take(pool);
        if (frame == UN_NONE)
            return;
        tap->spares[--tap->holes] = frame;
        tap->iov[tap->holes + 1] = (struct iovec){un_pool_bytes(pool, frame), pool->own->frame_bytes};
    }
}

/* A packet of so many bytes lies in the first spare frames: make them its chain. */
static uint32_t take_chain(struct tap *tap, uint32_t length)
{
    struct un_pool *pool = tap->device.pool;
    uint32_t head = tap->spares[tap->holes];
    for (;;) {
        struct un_frame *frame = &pool->frames[tap->spares[tap->holes++]];
        frame->length = (uint16_t)(length < pool->own->frame_bytes ? length : pool->own->frame_bytes);
        length -= frame->length;
        if (length == 0)
            return head;
        frame->next = tap->spares[tap->holes];
    }
}

static struct un_rx describe(const struct virtio_net_hdr *header, uint32_t frame, uint32_t length)
{
    uint8_t segments = header->gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;
    bool good = header->flags & (VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID);
    return (struct un_rx){
        .frame = frame,
        .length = length,
        .flags = good ? UN_RX_CHECKSUM_GOOD : 0,
        .segment_bytes = segments == VIRTIO_NET_HDR_GSO_NONE ? 0 : header->gso_size,
    };
}

/* Copy the end of an unexpectedly large packet from `rest` into the frames where it belongs. */
static void spread_rest(struct tap *tap, uint32_t length)
{
    uint32_t frame_bytes = tap->device.pool->own->frame_bytes;
    const uint8_t *from = tap->rest;
    for (struct iovec *to = &tap->iov[tap->holes + NARROW + 1]; length > 0; to++) {
        uint32_t step = length < frame_bytes ? length : frame_bytes;
        memcpy(to->iov_base, from, step);
        from += step;
        length -= step;
    }
}

/* Has the effect of readv into the header and all spare frames. */
static ssize_t read_packet(struct tap *tap, uint32_t spares)
{
    struct iovec *iov = &tap->iov[tap->holes];
    *iov = (struct iovec){&tap->header, HEADER_BYTES};
    if (tap->wide || spares <= NARROW)
        return readv(tap->device.fd, iov, (int)spares + 1);
    struct iovec *last = &iov[NARROW + 1], spare = *last;
    *last = (struct iovec){tap->rest, sizeof tap->rest};
    ssize_t got = readv(tap->device.fd, iov, NARROW + 2);
    *last = spare;
    return got;
}

/* Read one packet; false when there is none, or none can be taken. */
static bool receive(struct tap *tap)
{
    struct un_device_counters *counters = tap->device.counters;
    fill_holes(tap);
    uint32_t spares = tap->spare_count - tap->holes, frame_bytes = tap->device.pool->own->frame_bytes;
    counters->rx_no_frame += tap->holes > 0;
    tap->device.lacks_frames = spares == 0;
    if (spares == 0)
        return false;
    ssize_t got = read_packet(tap, spares);
    if (got < 0) {
        counters->rx_errors += errno != EAGAIN;
        return false;
    }
    uint32_t length = (uint32_t)got - (uint32_t)HEADER_BYTES;
    if (got < (ssize_t)(HEADER_BYTES + UN_ETHERNET_BYTES) || length >= spares * frame_bytes) {
        counters->rx_dropped++; /* too short for Ethernet, or cut off */
        return true;
    }
    bool large = length > NARROW * frame_bytes;
    if (large && !tap->wide)
        spread_rest(tap, length - NARROW * frame_bytes);
    tap->wide = large ? WIDE_FOR : tap->wide - (tap->wide > 0);
    uint32_t at = (tap->first + tap->waiting++) % BATCH;
    tap->ready[at] = describe(&tap->header, take_chain(tap, length), length);
    counters->rx_packets++;
    counters->rx_bytes += length;
    return true;
}

static bool expects_one(const struct tap *tap)
{
    return tap->lone >= LONE_ENOUGH && tap->lone % LONE_LOOK != 0;
}

static uint32_t tap_peek(struct un_device *device, struct un_rx *packets, uint32_t most)
{
    struct tap *tap = tap_of(device);
    if (most > BATCH)
        most = BATCH;
    bool fresh = tap->waiting == 0;
    uint32_t limit = fresh && expects_one(tap) ? 1 : most;
    uint64_t end = device->counters->rx_bytes + BATCH_BYTES;
    for (uint32_t tries = tap->waiting; tries < limit && device->counters->rx_bytes < end && receive(tap); tries++)
        ;
    uint32_t count = tap->waiting < most ? tap->waiting : most;
    if (count > 1)
        tap->lone = 0;
    else if (fresh && most > 1)
        tap->lone += count;
    for (uint32_t i = 0; i < count; i++)
        packets[i] = tap->ready[(tap->first + i) % BATCH];
    return count;
}

static void tap_release(struct un_device *device, uint32_t count)
{
    struct tap *tap = tap_of(device);
    un_assert(count <= tap->waiting);
    tap->first = (tap->first + count) % BATCH;
    tap->waiting -= count;
}

static struct virtio_net_hdr header_for(const struct un_tx *packet)
{
    struct virtio_net_hdr header = {0};
    if (packet->flags & (UN_TX_CHECKSUM | UN_TX_SEGMENT)) {
        header.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
        header.csum_start = packet->checksum_start;
        header.csum_offset = packet->checksum_offset;
    }
    /* What fits into one segment must not be marked for segmentation. */
    if ((packet->flags & UN_TX_SEGMENT) && packet->length > (uint32_t)packet->header_length + packet->segment_bytes) {
        header.gso_type = packet->flags & UN_TX_IPV6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4;
        header.gso_size = packet->segment_bytes;
        header.hdr_len = packet->header_length;
    }
    return header;
}

static void send_one(struct tap *tap, const struct un_tx *packet)
{
    struct un_device_counters *counters = tap->device.counters;
    struct virtio_net_hdr header = header_for(packet);
    struct iovec iov[UN_TX_PIECES_MAX + 1];
    un_assert(packet->count <= UN_TX_PIECES_MAX);
    iov[0] = (struct iovec){&header, HEADER_BYTES};
    for (uint32_t i = 0; i < packet->count; i++)
        iov[i + 1] = (struct iovec){(void *)(uintptr_t)packet->pieces[i].bytes, packet->pieces[i].length};
    if (writev(tap->device.fd, iov, packet->count + 1) < 0) {
        tap->full = errno == EAGAIN;
        counters->tx_full += errno == EAGAIN;
        counters->tx_errors++;
        return;
    }
    counters->tx_packets++;
    counters->tx_bytes += packet->length;
}

static uint32_t tap_reserve(struct un_device *device, uint32_t count)
{
    return tap_of(device)->full ? 0 : count;
}

static void tap_submit(struct un_device *device, const struct un_tx *packets, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        send_one(tap_of(device), &packets[i]);
}

static void tap_flush(struct un_device *device)
{
    tap_of(device)->full = false;
}

static bool tap_sleep(struct un_device *device)
{
    return tap_of(device)->waiting == 0; /* the descriptor says whether more came */
}

static void tap_close(struct un_device *device)
{
    struct tap *tap = tap_of(device);
    for (uint32_t i = 0; i < tap->waiting; i++)
        un_pool_drop_chain(device->pool, tap->ready[(tap->first + i) % BATCH].frame);
    for (uint32_t i = tap->holes; i < tap->spare_count; i++)
        un_pool_drop(device->pool, tap->spares[i]);
    close(device->fd);
    free(tap);
}

static const struct un_device_operations tap_operations = {
    .name = "tap",
    .attach = tap_attach,
    .reserve = tap_reserve,
    .submit = tap_submit,
    .flush = tap_flush,
    .peek = tap_peek,
    .release = tap_release,
    .sleep = tap_sleep,
    .close = tap_close,
};

/* Our MAC address, from the names of interface and host: all queues and every start have the same one, and another host
 * has another one even if its interface has the same name. It differs from that of the kernel's end. */
static void choose_mac(uint8_t *mac, const char *name, const uint8_t *kernel_mac)
{
    char text[IFNAMSIZ + 256] = {0};
    memcpy(text, name, strlen(name));
    gethostname(text + IFNAMSIZ, 255);
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    for (uint32_t i = 0; i < sizeof text; i++)
        hash = (hash ^ (uint8_t)text[i]) * UINT64_C(0x100000001b3);
    memcpy(mac, &hash, 6);
    mac[0] = 0x02; /* locally administered, one station */
    if (memcmp(mac, kernel_mac, 6) == 0)
        mac[5] ^= 1;
}

/* Is the descriptor a queue as un_tap_queue makes them? Switch on the offloads that the capabilities promise. */
static int check_queue(int fd, char *name, const char **why)
{
    const short kind = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    struct ifreq request = {0};
    if (ioctl(fd, TUNGETIFF, &request) < 0) {
        *why = un_why("the descriptor is no queue of a TAP interface: %s", strerror(errno));
        return -EINVAL;
    }
    memcpy(name, request.ifr_name, IFNAMSIZ);
    if ((request.ifr_flags & kind) != kind) {
        *why = un_why("the queue of %s was not opened as TAP with IFF_NO_PI and IFF_VNET_HDR", name);
        return -EINVAL;
    }
    int header_bytes = HEADER_BYTES;
    if (fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK) < 0 || ioctl(fd, TUNSETVNETHDRSZ, &header_bytes) < 0 ||
        ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6) < 0) {
        *why = un_why("%s does not offload checksums and segmentation: %s", name, strerror(errno));
        return -EOPNOTSUPP;
    }
    return 0;
}

static int ask_interface(int fd, const char *name, struct un_device_capabilities *capabilities, const char **why)
{
    struct ifreq request = {0};
    int error = un_interface_ask(name, SIOCGIFMTU, &request);
    capabilities->mtu = (uint16_t)request.ifr_mtu;
    if (error == 0 && ioctl(fd, SIOCGIFHWADDR, &request) < 0)
        error = -errno;
    if (error)
        *why =
            un_why("%s cannot be asked for its MTU and address in this network namespace: %s", name, strerror(-error));
    else
        choose_mac(capabilities->mac, name, (const uint8_t *)request.ifr_hwaddr.sa_data);
    return error;
}

struct un_device *un_tap_open(int fd, uint16_t queue, uint16_t queues, const char **why)
{
    char name[IFNAMSIZ];
    struct un_device_capabilities capabilities = {
        .tx_segment_bytes = SEGMENT_BYTES_MAX,
        .tx_checksum = true,
        .rx_checksum = true,
        .rx_coalesce = true,
        .queues = queues,
        .queue = queue,
    };
    int error = check_queue(fd, name, why);
    if (!error)
        error = ask_interface(fd, name, &capabilities, why);
    struct tap *tap = error ? NULL : calloc(1, sizeof *tap);
    if (!tap) {
        if (!error)
            *why = strerror(ENOMEM);
        errno = error ? -error : ENOMEM;
        return NULL;
    }
    tap->device = (struct un_device){.operations = &tap_operations, .fd = fd, .capabilities = capabilities};
    return &tap->device;
}
