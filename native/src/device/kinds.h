/* Kinds of packet devices that a server opens from descriptors: one line of the table for each.
 *
 * The supervisor opens what needs privileges and hands descriptors down, in the order that the kind defines. What a
 * device has to remember beyond its process lies in memory that one of them maps. The frames are those of the shard's
 * pool: a device whose hardware writes into them has had them registered by the supervisor. */
#ifndef UN_DEVICE_KINDS_H
#define UN_DEVICE_KINDS_H

#include <sys/ioctl.h>

#include "device/device.h"

#define UN_DEVICE_FDS_MAX 8u

/* What one queue is opened from. Descriptors are the device's when that succeeds: it closes them. */
struct un_device_parts {
    int fds[UN_DEVICE_FDS_MAX];
    uint32_t fd_count;
    uint16_t queue;
    uint16_t queues;
    uint8_t *frames;
    uint64_t frames_bytes;
    uint32_t frame_bytes; /* of each */
};

/* Requests of ioctl with which the kernel is asked to look at rings. */
#define UN_RINGS_SEND _IO('i', 148)
#define UN_RINGS_RECEIVE _IO('i', 149)

struct un_device_kind {
    const char *name;
    uint32_t fd_count;
    uint32_t more_fds; /* that some of its devices have besides, all of them */
    bool can_share; /* the interface's addresses: with one more descriptor, of the table of usnet_kernel.h */
    bool has_calls; /* the two below, in its turns: the engine may make them after its start too */
    struct un_device *(*open)(const struct un_device_parts *parts, const char **why); /* as the constructors */
};

const struct un_device_kind *un_device_kind(const char *name); /* NULL: there is none of that name */
/* Whether these are all descriptors that it is opened from, with the table or without. */
bool un_device_kind_takes(const struct un_device_kind *kind, uint32_t fd_count, bool with_table);

#endif
