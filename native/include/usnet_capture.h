/* Packets as a server's engines see them: the memory that an engine copies them into, and reading it.
 *
 * The supervisor makes one such memory for each shard (a memfd, sealed against any change of its size), says in it what
 * is wanted, and hands it to the engine (UN_CONTROL_CAPTURE of engine/control.h) and to the one process that reads.
 * Nobody waits for anybody: what finds no room is lost and counted, and the reader looks now and then.
 *
 * The part between the two `cffi` marks is read twice, as in usnet.h. */
#ifndef USNET_CAPTURE_H
#define USNET_CAPTURE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* cffi: begin */

enum usnet_capture_limit {
    USNET_CAPTURE_SNAPLEN_MAX = 262144,
    USNET_CAPTURE_PROGRAM_MAX = 4096,
};

/* Bytes of a memory with so many for packets: a power of two, 1 MiB at least. */
uint64_t usnet_capture_bytes(uint64_t data_bytes);

/* Make fresh, zeroed memory one. At most `snaplen` bytes of each packet are copied; `drops_only`: only of those that
 * were dropped. `program`: struct bpf_insn, as libpcap compiles them, of packets that begin with Ethernet (a stack of
 * our own) or IP (the kernel's sockets); 0 instructions: every packet. -EINVAL: it is no such program, or a size is out
 * of bounds. */
int usnet_capture_format(void *memory, uint64_t bytes, uint32_t snaplen, uint32_t drops_only, const void *program,
                         uint32_t program_count);

/* In front of the bytes of a packet, and of what pads them to a multiple of eight. */
struct usnet_captured {
    uint32_t bytes; /* of all three */
    uint16_t kind;  /* 1 */
    uint16_t flags; /* bit 0: it came, else it was sent; bit 1: through the queue of another shard */
    uint64_t time_ns; /* CLOCK_MONOTONIC */
    uint64_t conn;    /* id of its connection; 0: none, or none yet */
    uint64_t drops;   /* bit i + 1: it was dropped for the reason with the i-th counter drop_... (usnet_segment.h) */
    uint32_t captured; /* bytes of it that are here */
    uint32_t original; /* bytes that it had */
};

/* Take whole records out, oldest first: into `into`, which has room for `most` bytes (a snaplen and a record's head at
 * least). How many bytes of records; -EINVAL: what is there makes no sense. */
int64_t usnet_capture_read(void *memory, uint64_t bytes, void *into, uint64_t most);

/* Since it began. */
struct usnet_capture_counts {
    uint64_t seen;    /* packets */
    uint64_t matched; /* packets that were wanted */
    uint64_t lost;    /* of these: there was no room */
};

void usnet_capture_count(const void *memory, struct usnet_capture_counts *counts);

/* cffi: end */

#ifdef __cplusplus
}
#endif

#endif
