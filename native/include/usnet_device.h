/* A device as its owner sees it, frame by frame. The owner is a stack as a rule; this is for tests of devices, which
 * `usnet_framework.testing.conformance` makes of it. What the verbs promise each other stands in device/device.h, which
 * is installed beside this file: a device of one's own is a `struct un_device` that is handed on as a `struct
 * usnet_device *`.
 *
 * The part between the two `cffi` marks is read twice, as in usnet.h. */
#ifndef USNET_DEVICE_H
#define USNET_DEVICE_H

#include "usnet.h"

#ifdef __cplusplus
extern "C" {
#endif

/* cffi: begin */

/* ---- Frames: pieces of memory of one size, counted by reference, linked to chains by number. ---- */

struct usnet_pool;

enum usnet_frame_number { USNET_NO_FRAME = -1 }; /* as a uint32_t: the end of a chain, or no frame at all */

struct usnet_frame {
    uint8_t *bytes;  /* of the frame, from its start */
    uint32_t offset; /* where those begin that count */
    uint32_t length; /* how many count */
    uint32_t next;
    uint32_t references;
};

/* NULL, with errno: frame_bytes is no multiple of 64 up to 32768, there are no frames, or no memory. */
struct usnet_pool *usnet_pool_create(uint32_t frames, uint32_t frame_bytes);
void usnet_pool_destroy(struct usnet_pool *pool); /* after the devices that are attached to it are closed */
uint32_t usnet_pool_free(const struct usnet_pool *pool); /* how many frames are */
uint32_t usnet_pool_take(struct usnet_pool *pool); /* a frame, with one reference; USNET_NO_FRAME: none is free */
/* one reference of each frame of a chain; -EINVAL: nobody's */
int usnet_pool_drop(struct usnet_pool *pool, uint32_t frame);
/* -EINVAL: no such frame */
int usnet_pool_look(const struct usnet_pool *pool, uint32_t frame, struct usnet_frame *found);

/* All frames are free, whoever had them: what remains of a pool when its owner is adopted elsewhere. Only those are not
 * that stand in rings of this device (NULL: there is none), which is open and outlives its owner. Attach devices
 * anew. */
void usnet_pool_forget(struct usnet_pool *pool, const struct usnet_device *device);

/* ---- What a device is and can: what is in force, not what was asked for. ---- */

struct usnet_device_about {
    struct usnet_link link; /* slots: 0 */
    const char *name;       /* of its kind; static text */
    int fd;                 /* readable when a packet may be there; -1: it is looked at by its owner */
    uint16_t queues;        /* of the interface */
    uint16_t queue;         /* this one, from 0 */
};

void usnet_device_describe(const struct usnet_device *device, struct usnet_device_about *about);

/* Read the first `max` counters, in the order of USNET_STACK_DEVICE; returns how many were read. */
int usnet_device_counters(const struct usnet_device *device, uint64_t *values, uint32_t max);

/* ---- The verbs. ---- */

/* A packet that came: a chain of frames. flags: enum usnet_input_flag; segment_bytes: as of usnet_stack_input. */
struct usnet_received {
    uint32_t frame;
    uint32_t length;
    uint16_t flags;
    uint16_t segment_bytes;
};

/* A packet to send, in up to 64 pieces of which the first one holds all headers. A piece lies in a frame, or is lent
 * until submit returns: USNET_NO_FRAME. */
struct usnet_send_piece {
    const uint8_t *bytes;
    uint32_t length;
    uint32_t frame;
};

struct usnet_send {
    const struct usnet_send_piece *pieces;
    uint32_t count;
    struct usnet_output output; /* what the device is to do with it */
};

/* first of all; or anew, after forget */
void usnet_device_attach(struct usnet_device *device, struct usnet_pool *pool);
uint32_t usnet_device_reserve(struct usnet_device *device, uint32_t count); /* how many packets may be submitted now */
/* at most 64: -EINVAL */
int usnet_device_submit(struct usnet_device *device, const struct usnet_send *packets, uint32_t count);
void usnet_device_flush(struct usnet_device *device);
/* at most 64 at a time */
uint32_t usnet_device_peek(struct usnet_device *device, struct usnet_received *packets, uint32_t most);
void usnet_device_release(struct usnet_device *device, uint32_t count); /* the oldest of them are the caller's now */
bool usnet_device_sleep(struct usnet_device *device); /* false: there is something to do at once */

/* cffi: end */

#ifdef __cplusplus
}
#endif

#endif
