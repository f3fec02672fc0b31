/* Packet I/O under the stack: one table of functions, one file a device.
 *
 * A device is one queue of an interface, used by one thread. What it receives lies in frames of the pool it was opened
 * with: the device takes free frames, fills them and hands them up; it never touches them again. What is sent is a
 * gather list; a device that reads it later than submit (DMA) keeps references to the frames named there until then,
 * and bytes that are only lent (frame UN_NONE: headers) are copied in submit. Nobody rewrites the bytes of a frame that
 * has been submitted; a device that needs room in front of payload uses a frame of its own while the last submission of
 * that frame is not complete.
 *
 *   send      reserve  how many packets may be submitted now     submit   that many, at most what was reserved
 *             flush    put on the wire what was submitted (once per turn)
 *   receive   peek     packets that have come, oldest first       release  that many belong to the caller now
 *
 * The rings of a device may outlive the process that uses it, as somebody else holds their descriptor too. Such a
 * device has the verb held. The next process hears by it which frames stand in the rings, before it makes its list of
 * free frames, and goes on with the rings as they are.
 *
 * Sleep and wake: `fd` becomes readable when a packet may be there (-1: the device has none, and is looked at by its
 * owner); before a caller sleeps on it, it calls sleep, which says false when there is something to do at once.
 * When reserve gave less than was asked for, fd may not tell about room; the caller looks again after a millisecond,
 * or when packets come. So it does while the device lacks frames to receive into. Of what waits then, fd may tell all
 * the time, or not at all, so the caller does not wait for it (un_device_wait_fd). */
#ifndef UN_DEVICE_H
#define UN_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/pool.h"

#define UN_DEVICE_NAME_MAX 64
#define UN_ETHERNET_BYTES 14u
#define UN_ETHERNET_TAGGED_BYTES 18u /* with one VLAN tag */
#define UN_TX_PIECES_MAX 64u /* headers, and 64 KiB of payload in frames of 2 KiB that begin anywhere */

/* What is in force, not what was asked for (P8). */
struct un_device_capabilities {
    uint8_t mac[6];
    uint16_t mtu;               /* bytes of an IP packet */
    uint32_t tx_segment_bytes;  /* the device cuts TCP super-segments of up to so many payload bytes; 0: it does not */
    bool tx_checksum;           /* the device completes a partial checksum */
    bool rx_checksum;           /* received packets say UN_RX_CHECKSUM_GOOD where the device knows */
    bool rx_coalesce;           /* received TCP packets may be larger than the MTU */
    bool tx_alone;              /* a packet reaches its receiver before the next one leaves, however many are flushed */
    uint16_t queues;
    uint16_t queue;             /* this one, from 0 */
};

enum un_rx_flag {
    UN_RX_CHECKSUM_GOOD = 1 << 0,
    /* the sender's kernel left it to a device that is not there: enum un_checksum_state */
    UN_RX_CHECKSUM_PARTIAL = 1 << 1,
};

/* A packet that came: a chain of frames, `offset` and `length` of each set. */
struct un_rx {
    uint32_t frame;
    uint32_t length; /* of all frames */
    uint16_t flags;  /* enum un_rx_flag */
    uint16_t segment_bytes; /* of a coalesced packet: the payload size its parts had; else 0 */
};

enum un_tx_flag {
    UN_TX_CHECKSUM = 1 << 0, /* complete the transport checksum: the field holds the folded pseudo-header sum */
    UN_TX_SEGMENT = 1 << 1,  /* cut into segments of segment_bytes of payload; implies UN_TX_CHECKSUM */
    UN_TX_IPV6 = 1 << 2,
};

/* A packet to send. pieces[0] holds all headers. */
struct un_tx {
    const struct un_piece *pieces;
    uint16_t count;
    uint16_t flags;           /* enum un_tx_flag */
    uint16_t segment_bytes;
    uint16_t header_length;   /* Ethernet, IP and transport */
    uint16_t checksum_start;  /* offset of the transport header */
    uint16_t checksum_offset; /* of the field within it */
    uint32_t length;          /* of all pieces */
};

/* Counters, one writer. */
#define UN_DEVICE_COUNTERS(X)                                                                                          \
    X(rx_packets, "packets received")                                                                                  \
    X(rx_bytes, "bytes received, with Ethernet headers")                                                               \
    X(rx_no_frame, "times no frame was free to receive into")                                                          \
    X(rx_errors, "receives that failed")                                                                               \
    X(rx_dropped, "packets that came and were dropped by the device")                                                  \
    X(rx_passed, "packets that came and were passed to the kernel")                                                    \
    X(tx_packets, "packets sent")                                                                                      \
    X(tx_bytes, "bytes sent, with Ethernet headers")                                                                   \
    X(tx_full, "times the device took no more")                                                                        \
    X(tx_errors, "sends that failed")                                                                                  \
    X(tx_passed, "packets that the kernel sent")

struct un_device_counters {
#define UN_FIELD(name, text) uint64_t name;
    UN_DEVICE_COUNTERS(UN_FIELD)
#undef UN_FIELD
};

/* Frames that are a device's own, one behind the other from a page's start. `held` says which of them are not free. */
struct un_device_frames {
    uint8_t *bytes;
    uint32_t frame_bytes;
    uint32_t count;
    uint32_t free_count; /* of them, before the first packet */
};

struct un_device;

struct un_device_operations {
    const char *name;
    void (*attach)(struct un_device *device, struct un_pool *pool); /* see un_device_attach */
    /* see un_device_hold; NULL: its rings end with the process */
    void (*held)(const struct un_device *device, struct un_pool *pool);
    uint32_t (*reserve)(struct un_device *device, uint32_t count);
    void (*submit)(struct un_device *device, const struct un_tx *packets, uint32_t count);
    void (*flush)(struct un_device *device);
    uint32_t (*peek)(struct un_device *device, struct un_rx *packets, uint32_t most);
    void (*release)(struct un_device *device, uint32_t count);
    bool (*sleep)(struct un_device *device);
    /* Drops the frames it holds, but for those in rings that outlive it, and frees itself. */
    void (*close)(struct un_device *device);
};

/* The start of every device. */
struct un_device {
    const struct un_device_operations *operations;
    struct un_pool *pool; /* receives into it; set by un_device_attach before the first call of any verb */
    int fd;
    bool gone; /* its interface was removed: no packet comes or goes any more. Any verb may notice */
    bool lacks_frames; /* none is free to receive into, so packets wait: as of the last peek */
    /* Where it receives without a copy: a pool over all of these; NULL: nowhere. They go with the device. */
    struct un_device_frames own_frames;
    struct un_device_capabilities capabilities;
    struct un_device_counters *counters; /* where it counts, set before the first call of any verb */
    struct un_device_counters early;     /* where, unless un_device_count_into says another place */
};

/* Each constructor returns NULL with errno, and *why (static or thread-local text) a sentence for the user. */

/* Two ends of a wire in this process; ends[0] and ends[1] receive what the other one sends, at most `slots` packets on
 * their way in each direction (a power of two). Both report `capabilities` as they are given: with tx_segment_bytes the
 * wire carries super-segments whole, with tx_checksum it marks them UN_RX_CHECKSUM_GOOD. -EINVAL when the other end
 * does not take that (rx_coalesce, rx_checksum). A packet larger than the MTU of the sender is its error, one larger
 * than the MTU of the receiver is dropped there. No descriptor. Both ends are used by one thread; either may be closed
 * first. */
int un_memory_pair(struct un_device *ends[2], const struct un_device_capabilities capabilities[2], uint32_t slots);

/* Packets in and out by hand: the far end of un_memory_pair without a device around it. un_hand_input queues a packet
 * for the owner of the device (0, -ENOBUFS; -EMSGSIZE: no packet is as long); un_hand_output takes the oldest packet it
 * sent: its length, 0 when there is none, -EMSGSIZE when it does not fit. *out (may be NULL) receives flags,
 * segment_bytes and offsets, pieces NULL. un_hand_is: the device is one of these. */
struct un_device *un_hand_open(const struct un_device_capabilities *capabilities, uint32_t slots);
int un_hand_input(struct un_device *device, const void *bytes, uint32_t length, uint16_t rx_flags,
                  uint16_t segment_bytes);
int un_hand_output(struct un_device *device, void *bytes, uint32_t most, struct un_tx *out);
bool un_hand_is(const struct un_device *device);

/* One queue of a TAP interface, created when there is none of that name (needs CAP_NET_ADMIN), joined otherwise. The
 * descriptor may be made elsewhere and inherited: un_tap_queue makes it, un_tap_open takes it over. */
int un_tap_queue(const char *name, bool multi_queue, const char **why); /* descriptor or -errno */
int un_tap_steer(int fd, uint16_t queues, const char **why); /* frames by the hash of their 4-tuple (steering.h) */
struct un_device *un_tap_open(int fd, uint16_t queue, uint16_t queues, const char **why);

/* One queue of a network card through an AF_XDP socket. Whoever has the right makes the socket: un_afxdp_socket binds
 * it to the queue, registers frames with it, and begins in memory_fd, an empty file, the notes that outlive the device.
 * un_afxdp_open takes both over; the pool that it is attached to has these frames. */
enum un_afxdp_mode {
    UN_AFXDP_ANY,
    UN_AFXDP_COPY,
    UN_AFXDP_ZERO_COPY,
};

struct un_afxdp_request {
    const char *interface;
    uint16_t queue;
    uint16_t mode;        /* enum un_afxdp_mode */
    uint16_t mtu;         /* bytes of an IP packet; what is larger than a frame comes and goes in several (Linux 6.6) */
    uint8_t mac[6];       /* ours */
    void *frames;         /* at a page's start */
    uint64_t frame_count; /* the pool's at least */
    uint32_t frame_bytes; /* 2048 or 4096: a chunk of the kernel's */
    int memory_fd;
    bool tx_checksum;     /* leave checksums to what is behind the queue, if the kernel can be told to (Linux 6.11) */
    bool is_polled;       /* whoever looks for packets does the driver's work, if the caller may ask for that */
};

/* What is in force. */
struct un_afxdp_modes {
    bool zero_copy; /* the driver reads and writes the frames itself */
    bool tx_checksum;
    bool is_polled; /* not before the first packet, and never where the driver does not tell whom to poll */
};

int un_afxdp_socket(const struct un_afxdp_request *request, const char **why); /* descriptor or -errno */
int un_afxdp_modes(int fd, int memory_fd, struct un_afxdp_modes *modes); /* 0 or -errno */
int un_afxdp_is_zero_copy(int fd); /* 0, 1, or -errno */
struct un_device *un_afxdp_open(int fd, int memory_fd, uint16_t queue, uint16_t queues, const char **why);

/* One ring pair of a netmap port. Whoever may open /dev/netmap makes the descriptor (un_netmap_file). un_netmap_port
 * registers the port with it, and writes into memory_fd, an empty file, what the device has to know. un_netmap_open
 * takes both over. */
struct un_netmap_request {
    const char *port; /* eth1; vale0:us, a port of a VALE switch */
    bool is_card;     /* it has as many pairs as it has queues; else there is one, of a switch or a pipe (x{1, x}1) */
    uint16_t ring;    /* number of the pair */
    uint16_t mtu;     /* bytes of an IP packet */
    uint8_t mac[6];   /* ours */
    bool ignores_groups; /* another port of ours on the same switch takes what is for all stations, or for a group */
    bool shares;      /* the card with the kernel: what is not for our station is its */
    bool is_host;     /* the pair of the kernel's stack, of a card */
    uint32_t extra_buffers; /* that stand in no ring: for un_netmap_exchanges */
    int memory_fd;
};

/* Of a port that was opened. */
struct un_netmap_about {
    uint16_t tx_rings; /* of the whole port */
    uint16_t rx_rings;
    uint32_t tx_slots; /* of each of them */
    uint32_t rx_slots;
    uint32_t buffer_bytes; /* of each slot */
    uint32_t extra_buffers; /* there may be fewer than were asked for */
};

int un_netmap_file(const char **why); /* descriptor or -errno */
int un_netmap_port(int fd, const struct un_netmap_request *request, struct un_netmap_about *about,
                   const char **why); /* 0 or -errno */
struct un_device *un_netmap_open(int fd, int memory_fd, uint16_t queue, uint16_t queues, const char **why);

/* From now on it has frames of its own: the port's extra buffers, so many, and those of its ring to receive. A packet
 * that came stays where it is, and a free frame stands in its slot. False: it goes on copying, as there are none, or
 * they lie apart. Once, before attach. Whoever has the card open can write into these frames. */
bool un_netmap_exchanges(struct un_device *device, uint32_t extra_buffers);

/* What the kernel sends to a card that is shared, one of its devices carries: it takes over the host's pair, and
 * wait_fd, an epoll instance over both descriptors, which is its `fd` from then on. 0 or -errno; the descriptors are
 * still the caller's then. */
int un_netmap_carries(struct un_device *device, int host_fd, int host_memory_fd, int wait_fd, const char **why);

/* Wrappers; both own what they wrap. */
struct un_device *un_pcap_wrap(struct un_device *inner, const char *path, uint64_t (*clock_ns)(void *), void *context,
                               const char **why);

/* Probabilities are out of 1,000,000. */
struct un_fault_profile {
    uint64_t seed;
    uint32_t loss;
    uint32_t duplicate;
    uint32_t corrupt;  /* one bit flipped anywhere behind the Ethernet header */
    uint32_t reorder;  /* held back until 1 to 8 later packets have passed */
};
struct un_device *un_fault_wrap(struct un_device *inner, const struct un_fault_profile *profile);

/* Count there from now on, in memory that outlives the device; what was counted early is added. Before attach. */
static inline void un_device_count_into(struct un_device *device, struct un_device_counters *counters)
{
    if (device->counters == &device->early && counters != &device->early) {
        const uint64_t *from = (const uint64_t *)&device->early;
        uint64_t *to = (uint64_t *)counters;
        for (uint32_t i = 0; i < sizeof *counters / sizeof *to; i++)
            to[i] += from[i];
    }
    device->counters = counters;
}

/* What a caller that sleeps waits for; -1: for nothing, but its deadline. */
static inline int un_device_wait_fd(const struct un_device *device)
{
    return device->lacks_frames ? -1 : device->fd;
}

/* Rings that outlived a process: one more reference (un_pool_hold) for each place in them where a frame stands. All
 * other owners of the pool's frames have theirs already, and the list of free frames is made next. Nothing in the rings
 * changes, so it may be asked again when the asker dies. */
static inline void un_device_hold(const struct un_device *device, struct un_pool *pool)
{
    if (device && device->operations->held)
        device->operations->held(device, pool);
}

/* Receive into this pool from now on. When the device had another one (its owner was adopted elsewhere), packets that
 * came and were not released are lost, and their frames are forgotten, not dropped: the scan that made the new pool's
 * free list has counted them as free. What stands in rings that outlive a process is neither lost nor free:
 * un_device_hold came first. The view has to stay where it is until the device is closed or attached anew. */
static inline void un_device_attach(struct un_device *device, struct un_pool *pool)
{
    device->pool = pool;
    if (!device->counters)
        device->counters = &device->early;
    device->operations->attach(device, pool);
}

#endif
