/* netmap's binary interface, API version 14: the same on Linux and FreeBSD, on machines with 64-bit pointers, but for
 * the numbers of requests, which each system makes of the same parts.
 *
 * It is written down here, with what netmap's public header has where, so that no header of netmap is needed
 * to build. Where a struct says "from", the distance is in bytes and may be negative.
 *
 * A ring has slot_count slots, and three places that go round:
 *
 *   head   the first slot that is the user's          written by the user
 *   cur    where the user wants to be woken            written by the user; head, for us
 *   tail   the first slot that is the kernel's again   written by the kernel, in a call that synchronises
 *
 * The slots from head up to tail are the user's, all others the kernel's: packets that came, or room for packets to
 * send. The user hands slots back by moving head and cur on. The kernel looks at the ring, and moves tail, within three
 * calls: the two ioctls below, and poll. */
#ifndef UN_NETMAP_ABI_H
#define UN_NETMAP_ABI_H

#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>

#include "base/assert.h"
#include "base/barrier.h"

#define UN_NETMAP_PATH "/dev/netmap"
#define UN_NETMAP_VERSION 14u
#define UN_NETMAP_NAME_BYTES 64u

/* Requests of ioctl. */
#define UN_NETMAP_CONTROL _IOWR('i', 151, struct un_netmap_header) /* NIOCCTRL */
#define UN_NETMAP_SYNC_TX _IO('i', 148)                            /* NIOCTXSYNC */
#define UN_NETMAP_SYNC_RX _IO('i', 149)                            /* NIOCRXSYNC */

enum un_netmap_request_type { UN_NETMAP_REGISTER = 1 };

enum un_netmap_register_mode {
    UN_NETMAP_ALL_RINGS = 1,
    UN_NETMAP_HOST_RINGS = 2, /* those to and from the kernel's stack */
    UN_NETMAP_ONE_RING = 4, /* the pair ring_number */
};

enum un_netmap_register_flag {
    UN_NETMAP_EXCLUSIVE = 0x800,
    UN_NETMAP_NO_TX_POLL = 0x20000, /* poll for packets to receive sends nothing */
};

enum un_netmap_slot_flag {
    UN_NETMAP_BUFFER_CHANGED = 0x1, /* the user has put another buffer there */
    UN_NETMAP_REPORT = 0x2,      /* tell as soon as this one was sent */
    UN_NETMAP_FORWARD = 0x4,     /* received, and the kernel's when the slot is handed back */
    UN_NETMAP_MORE_PARTS = 0x20, /* the packet goes on in the next slot */
};

enum un_netmap_ring_flag {
    UN_NETMAP_RING_FORWARDS = 0x4, /* some slot says UN_NETMAP_FORWARD */
};

struct un_netmap_slot {
    union {
        struct {
            uint32_t buffer; /* its number */
            uint16_t length;
            uint16_t flags; /* enum un_netmap_slot_flag */
        };
        un_shared64 word; /* these three */
    };
    uint64_t pointer;
};
UN_STATIC_ASSERT(sizeof(struct un_netmap_slot) == 16 && offsetof(struct un_netmap_slot, flags) == 6,
                 "struct netmap_slot");

struct un_netmap_ring {
    int64_t buffers; /* from the ring to buffer 0 */
    uint32_t slot_count;
    uint32_t buffer_bytes;
    uint16_t number;
    uint16_t is_tx;
    un_shared32 head;
    un_shared32 cur;
    un_shared32 tail;
    uint32_t flags; /* enum un_netmap_ring_flag */
    int64_t time[2];
    uint64_t offset_mask;
    uint64_t alignment;
    uint8_t unused[56];
    uint8_t semaphore[128];
    struct un_netmap_slot slots[];
};
UN_STATIC_ASSERT(sizeof(struct un_netmap_ring) == 256 && offsetof(struct un_netmap_ring, slots) == 256 &&
                     offsetof(struct un_netmap_ring, slot_count) == 8 &&
                     offsetof(struct un_netmap_ring, number) == 16 && offsetof(struct un_netmap_ring, head) == 20 &&
                     offsetof(struct un_netmap_ring, tail) == 28 && offsetof(struct un_netmap_ring, time) == 40 &&
                     offsetof(struct un_netmap_ring, semaphore) == 128,
                 "struct netmap_ring");

struct un_netmap_if {
    char name[16];
    uint32_t version;
    uint32_t flags;
    uint32_t tx_rings;
    uint32_t rx_rings;
    uint32_t extra_buffers; /* the first of a list */
    uint32_t host_tx_rings;
    uint32_t host_rx_rings;
    uint32_t unused[3];
    int64_t rings[]; /* from here to each: to send, to send to the host, to receive, to receive from the host */
};
UN_STATIC_ASSERT(sizeof(struct un_netmap_if) == 56 && offsetof(struct un_netmap_if, rings) == 56 &&
                     offsetof(struct un_netmap_if, tx_rings) == 24 &&
                     offsetof(struct un_netmap_if, host_rx_rings) == 40,
                 "struct netmap_if");

struct un_netmap_header {
    uint16_t version;
    uint16_t type; /* enum un_netmap_request_type */
    uint32_t zero;
    char name[UN_NETMAP_NAME_BYTES]; /* of the port: eth1, vale0:us */
    uint64_t options; /* addresses */
    uint64_t body;
};
UN_STATIC_ASSERT(sizeof(struct un_netmap_header) == 88 && offsetof(struct un_netmap_header, name) == 8 &&
                     offsetof(struct un_netmap_header, body) == 80,
                 "struct nmreq_header");
#if defined(__linux__) && (defined(__x86_64__) || defined(__aarch64__))
UN_STATIC_ASSERT(UN_NETMAP_CONTROL == 0xc0586997 && UN_NETMAP_SYNC_TX == 0x6994 && UN_NETMAP_SYNC_RX == 0x6995,
                 "requests, as Linux numbers them");
#elif defined(__FreeBSD__)
UN_STATIC_ASSERT(UN_NETMAP_CONTROL == 0xc0586997 && UN_NETMAP_SYNC_TX == 0x20006994 &&
                     UN_NETMAP_SYNC_RX == 0x20006995,
                 "requests, as FreeBSD numbers them");
#endif

struct un_netmap_register {
    uint64_t if_at;        /* of struct un_netmap_if in the memory that is mapped … */
    uint64_t memory_bytes; /* … which is so large */
    uint32_t tx_slots;
    uint32_t rx_slots;
    uint16_t tx_rings;
    uint16_t rx_rings;
    uint16_t host_tx_rings;
    uint16_t host_rx_rings;
    uint16_t memory_number;
    uint16_t ring_number;
    uint32_t mode; /* enum un_netmap_register_mode */
    uint32_t extra_buffers;
    uint32_t zero;
    uint64_t flags; /* enum un_netmap_register_flag */
};
UN_STATIC_ASSERT(sizeof(struct un_netmap_register) == 56 && offsetof(struct un_netmap_register, tx_rings) == 24 &&
                     offsetof(struct un_netmap_register, ring_number) == 34 &&
                     offsetof(struct un_netmap_register, extra_buffers) == 40 &&
                     offsetof(struct un_netmap_register, flags) == 48,
                 "struct nmreq_register");

#endif
