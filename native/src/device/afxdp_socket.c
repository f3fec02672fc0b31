/* An AF_XDP socket on one queue of an interface, with all that it needs before packets can come, but for the entry in
 * the map of the program that redirects packets to it.
 *
 * It needs CAP_NET_RAW, and CAP_IPC_LOCK or enough memlock for the frames, all of which are pinned. When the socket
 * before it on this queue was closed a moment ago, the kernel still tears it down and says EBUSY: it is tried again for
 * ten seconds, as long as a machine may take that makes and removes interfaces all the time (shards/undo.py).
 *
 * What saves work is asked for and done without where the kernel refuses it; un_afxdp_modes says what is in force. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/interface.h"
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
#define BUSY_TRIES 1000
#define BUSY_WAIT_NS 10000000L

/* Later than the headers of some distributions. */
#define METADATA_FOLLOWS (1u << 2)    /* XDP_UMEM_TX_METADATA_LEN */
#define SEVERAL_FRAMES (1u << 4)      /* XDP_USE_SG */
#define PREFER_BUSY_POLL 69           /* SO_PREFER_BUSY_POLL, Linux 5.11 */
#define BUSY_POLL_BUDGET 70           /* SO_BUSY_POLL_BUDGET */
#define POLLED_US 20                  /* so long one call may look for packets, unless it is told not to wait */
#define POLLED_PACKETS 64             /* that it takes from the driver at most */

/* struct xdp_umem_reg of Linux 6.8; older kernels read its beginning. */
struct registration {
    uint64_t address;
    uint64_t bytes;
    uint32_t chunk_bytes;
    uint32_t headroom;
    uint32_t flags;
    uint32_t metadata_bytes;
};

static int set(int fd, int option, const void *value, socklen_t bytes)
{
    return setsockopt(fd, SOL_XDP, option, value, bytes) < 0 ? -errno : 0;
}

static bool set_number(int fd, int option, int value)
{
    return setsockopt(fd, SOL_SOCKET, option, &value, sizeof value) == 0;
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

/* *metadata_bytes: in front of each packet to send, as agreed with the kernel. */
static int register_frames(int fd, const struct un_afxdp_request *request, uint16_t *metadata_bytes, const char **why)
{
    struct registration frames = {
        .address = (uintptr_t)request->frames,
        .bytes = request->frame_count * request->frame_bytes,
        .chunk_bytes = request->frame_bytes,
    };
    int error = -EINVAL; /* as a kernel says that does not know the flag */
    if (request->tx_checksum) {
        frames.flags = METADATA_FOLLOWS;
        frames.metadata_bytes = sizeof(struct un_afxdp_metadata);
        error = set(fd, XDP_UMEM_REG, &frames, sizeof frames);
    }
    if (error == -EINVAL) {
        frames.flags = frames.metadata_bytes = 0;
        error = set(fd, XDP_UMEM_REG, &frames, sizeof frames);
    }
    *metadata_bytes = (uint16_t)frames.metadata_bytes;
    if (error == -ENOBUFS || error == -EPERM)
        *why = un_why("the kernel may not lock %llu MiB of frames for the queue: give the server CAP_IPC_LOCK, or "
                      "raise the limit (ulimit -l, LimitMEMLOCK=)",
                      (unsigned long long)(frames.bytes >> 20));
    else if (error)
        *why = un_why("the kernel does not take the frames for the queue: %s", strerror(-error));
    return error;
}

static int bind_queue(int fd, const struct un_afxdp_request *request, uint16_t flags)
{
    struct ifreq interface;
    int error = un_interface_ask(request->interface, SIOCGIFINDEX, &interface);
    if (error)
        return error;
    struct sockaddr_xdp address = {
        .sxdp_family = AF_XDP,
        .sxdp_flags = flags,
        .sxdp_ifindex = (uint32_t)interface.ifr_ifindex,
        .sxdp_queue_id = request->queue,
    };
    const struct timespec pause = {.tv_nsec = BUSY_WAIT_NS};
    error = -EBUSY;
    for (int i = 0; i < BUSY_TRIES && error == -EBUSY; i++) {
        error = bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ? -errno : 0;
        if (error == -EBUSY)
            nanosleep(&pause, NULL);
    }
    return error;
}

static bool is_larger_than_a_frame(const struct un_afxdp_request *request)
{
    return UN_ETHERNET_TAGGED_BYTES + request->mtu + UN_AFXDP_HEADROOM > request->frame_bytes;
}

static int bind_as_asked(int fd, const struct un_afxdp_request *request, const char **why)
{
    static const uint16_t modes[] = {
        [UN_AFXDP_ANY] = 0, [UN_AFXDP_COPY] = XDP_COPY, [UN_AFXDP_ZERO_COPY] = XDP_ZEROCOPY};
    const char *name = request->interface;
    uint16_t several = is_larger_than_a_frame(request) ? SEVERAL_FRAMES : 0;
    int error = bind_queue(fd, request, modes[request->mode] | XDP_USE_NEED_WAKEUP | several);
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
        *why = un_why("%s has no queue %u for AF_XDP%s", name, request->queue,
                      several ? ", or this kernel no packets of several frames (Linux 6.6): use a smaller MTU" : "");
        break;
    default:
        *why = un_why("an AF_XDP socket cannot be bound to queue %u of %s: %s", request->queue, name, strerror(-error));
    }
    return error;
}

/* What depends on the kernel. */
struct agreed {
    uint16_t metadata_bytes;
    bool is_polled;
};

static int make_memory(const struct un_afxdp_request *request, const struct agreed *agreed)
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
        .metadata_bytes = agreed->metadata_bytes,
        .is_polled = agreed->is_polled,
    };
    memcpy(memory->mac, request->mac, sizeof memory->mac);
    memset(memory->notes, UN_AFXDP_OURS, request->frame_count);
    munmap(memory, bytes);
    return 0;
}

/* The kernel leaves the driver to us only where interrupts are put off as well (napi_defer_hard_irqs and
 * gro_flush_timeout of the interface). */
static bool poll_driver_ourselves(int fd)
{
    return set_number(fd, PREFER_BUSY_POLL, 1) && set_number(fd, SO_BUSY_POLL, POLLED_US) &&
           set_number(fd, BUSY_POLL_BUDGET, POLLED_PACKETS);
}

static int set_up(int fd, const struct un_afxdp_request *request, const char **why)
{
    const int budget = TX_PACKETS_A_CALL;
    struct agreed agreed = {0};
    int error = register_frames(fd, request, &agreed.metadata_bytes, why);
    if (error)
        return error;
    agreed.is_polled = request->is_polled && poll_driver_ourselves(fd);
    error = make_rings(fd);
    if (!error)
        error = make_memory(request, &agreed);
    if (error) {
        *why = un_why("no rings for queue %u of %s: %s", request->queue, request->interface, strerror(-error));
        return error;
    }
    /* Neither is needed: they save system calls. */
    (void)set(fd, TX_BUDGET, &budget, sizeof budget);
    (void)set_number(fd, SO_SNDBUFFORCE, SEND_BUFFER_BYTES);
    return bind_as_asked(fd, request, why);
}

int un_afxdp_socket(const struct un_afxdp_request *request, const char **why)
{
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

/* The kernel notes with the first packet whose work brought it, unless the driver does not tell. */
static bool knows_whom_to_poll(int fd)
{
    int number = 0;
    socklen_t bytes = sizeof number;
    return getsockopt(fd, SOL_SOCKET, SO_INCOMING_NAPI_ID, &number, &bytes) == 0 && number > 0;
}

int un_afxdp_is_zero_copy(int fd)
{
    struct xdp_options options;
    socklen_t bytes = sizeof options;
    if (getsockopt(fd, SOL_XDP, XDP_OPTIONS, &options, &bytes) < 0)
        return -errno;
    return (options.flags & XDP_OPTIONS_ZEROCOPY) != 0;
}

int un_afxdp_modes(int fd, int memory_fd, struct un_afxdp_modes *modes)
{
    struct un_afxdp_memory memory;
    int zero_copy = un_afxdp_is_zero_copy(fd);
    if (zero_copy < 0)
        return zero_copy;
    if (pread(memory_fd, &memory, sizeof memory, 0) != (ssize_t)sizeof memory)
        return -EINVAL;
    *modes = (struct un_afxdp_modes){
        .zero_copy = zero_copy,
        .tx_checksum = memory.metadata_bytes > 0,
        .is_polled = memory.is_polled && knows_whom_to_poll(fd),
    };
    return 0;
}
