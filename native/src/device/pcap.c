/* Around any device: every packet, both ways, into a file that wireshark and tcpdump read (pcapng: a section, one
 * Ethernet interface with timestamps in nanoseconds, a block a packet with its direction).
 *
 * Sent packets are as they were submitted, received ones as they were first peeked: with offloads a super-segment is
 * one packet, and a checksum left to the device is not complete. Blocks gather in a buffer that is written when it is
 * full, before the owner sleeps, and at the end; when the file cannot be written, the capture ends and traffic
 * goes on. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "device/device.h"
#include "device/why.h"

#define BUFFER_BYTES (512u * 1024)
#define RECORD_BYTES_MAX (128u * 1024) /* a packet of 64 KiB and what stands around it */

enum pcap_direction { INBOUND = 1, OUTBOUND = 2 };

struct pcap {
    struct un_device device; /* first */
    struct un_device *inner;
    uint64_t (*clock_ns)(void *);
    void *context;
    int file;      /* -1: the capture ended */
    uint32_t seen; /* packets peeked and not released: they are in the file */
    uint32_t used; /* bytes of the buffer */
    uint8_t buffer[BUFFER_BYTES];
};

static struct pcap *pcap_of(struct un_device *device)
{
    return (struct pcap *)device;
}

static void write_out(struct pcap *pcap)
{
    uint32_t done = 0;
    while (pcap->file >= 0 && done < pcap->used) {
        ssize_t wrote = write(pcap->file, pcap->buffer + done, pcap->used - done);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0) {
            close(pcap->file);
            pcap->file = -1;
            break;
        }
        done += (uint32_t)wrote;
    }
    pcap->used = 0;
}

static void append(struct pcap *pcap, const void *bytes, uint32_t length)
{
    un_assert(length <= BUFFER_BYTES - pcap->used);
    memcpy(pcap->buffer + pcap->used, bytes, length);
    pcap->used += length;
}

/* What stands in front of and behind the bytes of a packet: an Enhanced Packet Block. */
struct packet_head {
    uint32_t type;
    uint32_t block_bytes;
    uint32_t interface;
    uint32_t time_high;
    uint32_t time_low;
    uint32_t captured;
    uint32_t original;
};

struct packet_tail {
    uint16_t flags_code;
    uint16_t flags_bytes;
    uint32_t flags; /* enum pcap_direction */
    uint32_t end_of_options;
    uint32_t block_bytes;
};

static uint32_t padded(uint32_t length)
{
    return (length + 3) & ~3u;
}

static void begin_packet(struct pcap *pcap, uint32_t length)
{
    if (BUFFER_BYTES - pcap->used < RECORD_BYTES_MAX)
        write_out(pcap);
    uint64_t now_ns = pcap->clock_ns(pcap->context);
    struct packet_head head = {
        .type = 6,
        .block_bytes = (uint32_t)(sizeof head + sizeof(struct packet_tail)) + padded(length),
        .time_high = (uint32_t)(now_ns >> 32),
        .time_low = (uint32_t)now_ns,
        .captured = length,
        .original = length,
    };
    append(pcap, &head, sizeof head);
}

static void end_packet(struct pcap *pcap, uint32_t length, enum pcap_direction direction)
{
    struct packet_tail tail = {
        .flags_code = 2,
        .flags_bytes = 4,
        .flags = direction,
        .block_bytes = (uint32_t)(sizeof(struct packet_head) + sizeof tail) + padded(length),
    };
    append(pcap, &(uint32_t){0}, padded(length) - length);
    append(pcap, &tail, sizeof tail);
}

static void write_sent(struct pcap *pcap, const struct un_tx *packet)
{
    begin_packet(pcap, packet->length);
    for (uint32_t i = 0; i < packet->count; i++)
        append(pcap, packet->pieces[i].bytes, packet->pieces[i].length);
    end_packet(pcap, packet->length, OUTBOUND);
}

static void write_received(struct pcap *pcap, const struct un_rx *packet)
{
    const struct un_pool *pool = pcap->device.pool;
    begin_packet(pcap, packet->length);
    for (uint32_t at = packet->frame; at != UN_NONE; at = pool->frames[at].next)
        append(pcap, un_pool_bytes(pool, at) + pool->frames[at].offset, pool->frames[at].length);
    end_packet(pcap, packet->length, INBOUND);
}

static void write_start(struct pcap *pcap)
{
    const uint32_t section[] = {0x0a0d0d0a, 28, 0x1a2b3c4d, 1 /* version 1.0 */, UINT32_MAX, UINT32_MAX, 28};
    const uint32_t interface[] = {1, 32, 1 /* Ethernet */, 0 /* no limit */, 9 | 1 << 16 /* if_tsresol */, 9, 0, 32};
    append(pcap, section, sizeof section);
    append(pcap, interface, sizeof interface);
}

static void pcap_attach(struct un_device *device, struct un_pool *pool)
{
    pcap_of(device)->seen = 0;
    un_device_count_into(pcap_of(device)->inner, device->counters);
    un_device_attach(pcap_of(device)->inner, pool);
}

static void pcap_held(const struct un_device *device, struct un_pool *pool)
{
    un_device_hold(((const struct pcap *)device)->inner, pool);
}

static uint32_t pcap_reserve(struct un_device *device, uint32_t count)
{
    struct un_device *inner = pcap_of(device)->inner;
    return inner->operations->reserve(inner, count);
}

static void pcap_submit(struct un_device *device, const struct un_tx *packets, uint32_t count)
{
    struct pcap *pcap = pcap_of(device);
    for (uint32_t i = 0; i < count && pcap->file >= 0; i++)
        write_sent(pcap, &packets[i]);
    pcap->inner->operations->submit(pcap->inner, packets, count);
}

static void pcap_flush(struct un_device *device)
{
    struct un_device *inner = pcap_of(device)->inner;
    inner->operations->flush(inner);
}

static uint32_t pcap_peek(struct un_device *device, struct un_rx *packets, uint32_t most)
{
    struct pcap *pcap = pcap_of(device);
    uint32_t count = pcap->inner->operations->peek(pcap->inner, packets, most);
    for (; pcap->seen < count; pcap->seen++)
        if (pcap->file >= 0)
            write_received(pcap, &packets[pcap->seen]);
    return count;
}

static void pcap_release(struct un_device *device, uint32_t count)
{
    struct pcap *pcap = pcap_of(device);
    un_assert(count <= pcap->seen);
    pcap->seen -= count;
    pcap->inner->operations->release(pcap->inner, count);
}

static bool pcap_sleep(struct un_device *device)
{
    struct pcap *pcap = pcap_of(device);
    write_out(pcap);
    bool may_sleep = pcap->inner->operations->sleep(pcap->inner);
    device->lacks_frames = pcap->inner->lacks_frames;
    return may_sleep;
}

static void pcap_close(struct un_device *device)
{
    struct pcap *pcap = pcap_of(device);
    pcap->inner->operations->close(pcap->inner);
    write_out(pcap);
    if (pcap->file >= 0)
        close(pcap->file);
    free(pcap);
}

static const struct un_device_operations pcap_operations = {
    .name = "pcap",
    .attach = pcap_attach,
    .held = pcap_held,
    .reserve = pcap_reserve,
    .submit = pcap_submit,
    .flush = pcap_flush,
    .peek = pcap_peek,
    .release = pcap_release,
    .sleep = pcap_sleep,
    .close = pcap_close,
};

struct un_device *un_pcap_wrap(struct un_device *inner, const char *path, uint64_t (*clock_ns)(void *), void *context,
                               const char **why)
{
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600); /* it holds what users said to each other */
    if (file < 0) {
        *why = un_why("packets cannot be captured to %s: %s", path, strerror(errno));
        return NULL;
    }
    struct pcap *pcap = malloc(sizeof *pcap);
    if (!pcap) {
        close(file);
        *why = strerror(ENOMEM);
        return NULL;
    }
    pcap->device = *inner;
    pcap->device.operations = &pcap_operations;
    pcap->inner = inner;
    pcap->clock_ns = clock_ns;
    pcap->context = context;
    pcap->file = file;
    pcap->seen = 0;
    pcap->used = 0;
    write_start(pcap);
    return &pcap->device;
}
