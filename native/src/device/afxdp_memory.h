/* What an AF_XDP queue has to remember beyond the process that uses it: memory of the supervisor, handed down beside
 * the socket.
 *
 * The kernel says nothing about frames that it has: between the ring `fill`, from which it takes them, and the ring of
 * received packets a frame stands nowhere, and so does one that is being sent. So each frame has a note. A note is
 * written before the ring goes on to its frame, and cleared before the frame is taken from a ring. A frame is the
 * kernel's if it has a note, or if it stands in one of the rings that come back.
 *
 * A batch says which places of a ring are being filled. Whoever finds one where a process died compares: if the ring
 * stands where the batch begins, the kernel has not seen these frames, and their notes mean nothing. */
#ifndef UN_AFXDP_MEMORY_H
#define UN_AFXDP_MEMORY_H

#include <stdint.h>

#include "base/assert.h"

#define UN_AFXDP_MAGIC 0x70647855u /* "Uxdp" */
#define UN_AFXDP_BATCH_MAX 64u     /* places of a ring that are filled at once */
#define UN_AFXDP_HEADROOM 256u     /* of a frame, the kernel's: XDP_PACKET_HEADROOM */
#define UN_AFXDP_STATISTICS 6u     /* numbers of struct xdp_statistics */
#define UN_AFXDP_METADATA_CHECKSUM (1u << 1) /* XDP_TXMD_FLAGS_CHECKSUM */

enum un_afxdp_note { UN_AFXDP_OURS, UN_AFXDP_TO_FILL, UN_AFXDP_TO_SEND };

struct un_afxdp_batch {
    uint32_t at;    /* where the ring stands */
    uint32_t count; /* 0: nothing is being put there */
};

struct un_afxdp_memory {
    uint32_t magic;
    uint32_t frame_count;
    uint32_t frame_bytes;
    uint32_t fill_slots;
    uint32_t completion_slots;
    uint32_t rx_slots;
    uint32_t tx_slots;
    uint16_t mtu;   /* bytes of an IP packet */
    uint8_t mac[6]; /* ours */
    struct un_afxdp_batch filling;
    struct un_afxdp_batch sending;
    uint16_t metadata_bytes; /* in front of a packet to send, for struct un_afxdp_metadata; 0: none is possible */
    uint16_t is_polled;      /* the work of the driver is done by whoever looks for packets */
    uint64_t counted[UN_AFXDP_STATISTICS]; /* of the socket's statistics: what stands in the device's counters */
    uint8_t notes[]; /* enum un_afxdp_note, one for each frame */
};
UN_STATIC_ASSERT(sizeof(struct un_afxdp_memory) == 104, "the same in every version of this device");

/* What the kernel reads in front of a packet whose descriptor says UN_AFXDP_PACKET_HAS_METADATA: struct xsk_tx_metadata
 * of Linux 6.8, which has 24 bytes since 6.14. */
struct un_afxdp_metadata {
    uint64_t flags;
    uint16_t checksum_start; /* from the packet's first byte */
    uint16_t checksum_offset;
    uint32_t zero;
    uint64_t launch_time_ns;
};
UN_STATIC_ASSERT(sizeof(struct un_afxdp_metadata) == 24, "as the kernel has it");

static inline uint64_t un_afxdp_memory_bytes(uint64_t frame_count)
{
    return sizeof(struct un_afxdp_memory) + frame_count;
}

#endif
