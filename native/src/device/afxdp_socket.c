/* An AF_XDP socket on one queue of an interface, with all that it needs before packets can come, but for the entry in
 * the map of the program that redirects packets to it.
 *
 * It needs CAP_NET_RAW, and CAP_IPC_LOCK or enough memlock for the frames, all of which are pinned. When the socket
 * before it on this queue was closed a moment ago, the kernel still tears it down and says EBUSY: it is tried again for
 * a second. */
#include <errno.h>
#include <net/if.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "device/afxdp_rings.h"
#include "device/device.h"
#include "device/why.h"

/* A queue of a card has up to 4,096 places; the kernel's own for a veth pair 256. */
#define FILL_SLOTS 2048u
#define RX_SLOTS 2048u
#define TX_SLOTS 1024u
#define TX_PACKETS_A_CALL 1024 /* instead of 32; since Linux 6.16 */
#define TX_BUDGET 9            /* XDP_MAX_TX_SKB_BUDGET */
#define SEND_BUFFER_BYTES (8 << 20) /* packets in copy mode that the interface has not sent yet */
#define BUSY_TRIES 100
#define BUSY_WAIT_NS 10000000L

static int set(int fd, int option, const void *value, socklen_t bytes)
{
    return setsockopt(fd, SOL_XDP, option, value, bytes) < 0 ? -errno : 0;
}

static int make_rings(int fd)
{
    const uint32_t fill = FILL_SLOTS, completion = TX_SLOTS, rx = RX_SLOTS, tx = TX_SLOTS;
    int error = set(fd, XDP_UMEM_FILL_RING, &fill, sizeof fill);
    if (!error)
        error = set(fd, XDP_UMEM_COMPLETION_RING, &completion, sizeof completion);
    if (!error)
        error = set(fd, XDP_RX_RING, &rx, sizeof rx);
    if (!error)
        error = set(fd, XDP_TX_RING, &tx, sizeof tx);
    return error;
}

static int register_frames(int fd, const struct un_afxdp_request *request, const char **why)
{
    struct xdp_umem_reg frames = {
        .addr = (uintptr_t)request->frames,
        .len = request->frame_count * request->frame_bytes,
        .chunk_size = request->frame_bytes,
    };
    int error = set(fd, XDP_UMEM_REG, &frames, sizeof frames);
    if (error == -ENOBUFS || error == -EPERM)
        *why = un_why("the kernel may not lock %llu MiB of frames for the queue: give the server CAP_IPC_LOCK, or "
                      "raise the limit (ulimit -l, LimitMEMLOCK=)",
                      (unsigned long long)(frames.len >> 20));
    else if (error)
        *why = un_why("the kernel does not take the frames for the queue: %s", strerror(-error));
    return error;
}

static int bind_queue(int fd, const struct un_afxdp_request *request, uint16_t flags)
{
    struct sockaddr_xdp address = {
        .sxdp_family = AF_XDP,
        .sxdp_flags = flags,
        .sxdp_ifindex = if_nametoindex(request->interface),
        .sxdp_queue_id = request->queue,
    };
    const struct timespec pause = {.tv_nsec = BUSY_WAIT_NS};
    int error = -EBUSY;
    for (int i = 0; i < BUSY_TRIES && error == -EBUSY; i++) {
        error = bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ? -errno : 0;
        if (error == -EBUSY)
            nanosleep(&pause, NULL);
    }
    return error;
}

static int bind_as_asked(int fd, const struct un_afxdp_request *request, const char **why)
{
    static const uint16_t modes[] = {
        [UN_AFXDP_ANY] = 0, [UN_AFXDP_COPY] = XDP_COPY, [UN_AFXDP_ZERO_COPY] = XDP_ZEROCOPY};
    const char *name = request->interface;
    int error = bind_queue(fd, request, modes[request->mode] | XDP_USE_NEED_WAKEUP);
    switch (error) {
    case 0:
        return 0;
    case -EBUSY:
        *why = un_why("queue %u of %s is used by another AF_XDP socket: stop that program", request->queue, name);
        break;
    case -EOPNOTSUPP:
        *why = un_why("the driver of %s has no zero-copy for AF_XDP", name);
        break;
    case -ENODEV:
        *why = un_why("there is no interface %s", name);
        break;
    case -ENETDOWN:
        *why = un_why("%s is down: ip link set %s up", name, name);
        break;
    case -EINVAL:
        *why = un_why("%s has no queue %u for AF_XDP", name, request->queue);
        break;
    default:
        *why = un_why("an AF_XDP socket cannot be bound to queue %u of %s: %s", request->queue, name, strerror(-error));
    }
    return error;
}

static int make_memory(const struct un_afxdp_request *request)
{
    uint64_t bytes = un_afxdp_memory_bytes(request->frame_count);
    if (ftruncate(request->memory_fd, (off_t)bytes) < 0)
        return -errno;
    struct un_afxdp_memory *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, request->memory_fd, 0);
    if (memory == MAP_FAILED)
        return -errno;
    *memory = (struct un_afxdp_memory){
        .magic = UN_AFXDP_MAGIC,
        .frame_count = (uint32_t)request->frame_count,
        .frame_bytes = request->frame_bytes,
        .fill_slots = FILL_SLOTS,
        .completion_slots = TX_SLOTS,
        .rx_slots = RX_SLOTS,
        .tx_slots = TX_SLOTS,
        .mtu = request->mtu,
    };
    memcpy(memory->mac, request->mac, sizeof memory->mac);
    memset(memory->notes, UN_AFXDP_OURS, request->frame_count);
    munmap(memory, bytes);
    return 0;
}

static int set_up(int fd, const struct un_afxdp_request *request, const char **why)
{
    const int budget = TX_PACKETS_A_CALL, send_bytes = SEND_BUFFER_BYTES;
    int error = register_frames(fd, request, why);
    if (error)
        return error;
    error = make_rings(fd);
    if (!error)
        error = make_memory(request);
    if (error) {
        *why = un_why("no rings for queue %u of %s: %s", request->queue, request->interface, strerror(-error));
        return error;
    }
    /* Neither is needed: they save system calls. */
    (void)setsockopt(fd, SOL_XDP, TX_BUDGET, &budget, sizeof budget);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &send_bytes, sizeof send_bytes);
    return bind_as_asked(fd, request, why);
}

int un_afxdp_socket(const struct un_afxdp_request *request, const char **why)
{
    if (UN_ETHERNET_TAGGED_BYTES + request->mtu + UN_AFXDP_HEADROOM > request->frame_bytes) {
        *why = un_why("packets of %s may have %u bytes, which do not fit into a frame: ip link set %s mtu %u",
                      request->interface, request->mtu, request->interface,
                      request->frame_bytes - UN_AFXDP_HEADROOM - UN_ETHERNET_TAGGED_BYTES);
        return -EMSGSIZE;
    }
    int fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        int error = -errno;
        *why = error == -EPERM ? "an AF_XDP socket needs CAP_NET_RAW: start the server as root, or give it that"
                               : un_why("this kernel has no AF_XDP sockets: %s", strerror(-error));
        return error;
    }
    int error = set_up(fd, request, why);
    if (error)
        close(fd);
    return error ? error : fd;
}
