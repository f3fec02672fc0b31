/* What a packet costs a device alone: no stack, and for netmap no kernel. */
#ifndef DEVICES_H
#define DEVICES_H

#include <stdint.h>

/* Packets of so many bytes, in batches, each way; ns of one. */
struct device_cost {
    double sent;
    double received;
};

struct device_cost devices_memory(uint32_t bytes);
struct device_cost devices_netmap(uint32_t bytes);
struct device_cost devices_netmap_exchange(uint32_t bytes);

#endif
