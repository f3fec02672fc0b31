/* Capture of packets: a device around that of the stack. */
#ifndef UN_CAPTURE_PACKETS_H
#define UN_CAPTURE_PACKETS_H

#include "device/device.h"
#include "engine/capture_ring.h"

struct un_capture;
struct un_engine;

struct un_capture_packets {
    struct un_device device; /* first; what the stack has instead of: */
    struct un_device *inner;
    struct un_engine *engine;
    struct un_capture *capture;
    bool is_arriving; /* the record of a packet that is being looked at is not published */
};

void un_capture_packets_begin(struct un_engine *engine, struct un_capture *capture);
void un_capture_packets_end(struct un_engine *engine, struct un_capture *capture);

/* What a turn of the stack transport does otherwise: take in what other shards and the device have, and run what is
 * due. */
uint32_t un_capture_take_in(struct un_engine *engine);

#endif
