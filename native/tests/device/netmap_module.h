/* netmap's module for tests of one process: a port with one ring pair and that of the kernel's stack, in memory of the
 * test, and the system call that synchronises them, under the C library's name.
 *
 * It is a stern one. Whatever a user of netmap may not do ends the test: a place in a ring that goes back, or beyond
 * what is the user's; a slot of the module's that was changed; a buffer that stands in two slots; a slot to send that
 * is empty or too long; what the module alone writes. */
#ifndef UN_TEST_NETMAP_MODULE_H
#define UN_TEST_NETMAP_MODULE_H

#include "device/netmap_rings.h"

enum { MODULE_SLOTS = 16, MODULE_BUFFER_BYTES = 256, MODULE_EXTRA = 64,
       MODULE_BUFFERS = 4 * MODULE_SLOTS + 2 + MODULE_EXTRA,
       MODULE_FD = 1000, MODULE_HOST_FD = 1001, MODULE_SENT_BYTES = 64 << 10 };

struct module_ring {
    struct un_netmap_ring ring;
    struct un_netmap_slot slots[MODULE_SLOTS];
};

struct module {
    struct un_netmap_if port;
    int64_t rings[4]; /* to send, host, to receive, host */
    struct module_ring tx, host_tx, rx, host_rx; /* nothing is sent to the kernel in host_tx */
    _Alignas(4096) uint8_t buffers[MODULE_BUFFERS][MODULE_BUFFER_BYTES];
    /* The module's own view. */
    struct module_ring tx_seen, rx_seen, host_rx_seen;
    uint32_t rx_filled; /* behind the last packet that came; the user sees it with the next call */
    uint32_t host_filled; /* and behind the last one that the kernel sent */
    uint32_t tx_sent;   /* behind the last packet that was sent */
    bool keeps;         /* what is sent: slots do not come back until it is not set any more */
    uint32_t forwarded; /* slots that were handed back as packets for the kernel */
    bool gone;          /* the interface was removed */
    bool is_scribbled;  /* rings may say anything: calls do nothing */
    uint32_t tx_calls, rx_calls;
    bool is_busy;       /* within a call: no process dies then */
    /* Packets that were sent: length and bytes, one behind the other. */
    uint8_t sent[MODULE_SENT_BYTES];
    uint32_t sent_begin, sent_end;
    uint32_t packet; /* where the last of them begins */
    bool is_open;    /* and goes on in the next slot */
};

extern struct module *module; /* in memory that is shared with children */

void module_begin(void);
struct un_device *module_open(uint16_t mtu, uint16_t flags); /* over the pair; one after the other */
void module_carries(struct un_device *device); /* what the kernel sends */
/* Buffers that stand in no ring, in a list of the port's; and whether each of them stands in that again, or in a slot,
 * after a user who may have exchanged them. */
void module_give_extra(void);
void module_has_extra_again(void);
void module_no_buffer_twice(void);

/* A slot more for the user, with the next call: 0, or -1: there is no room. */
int module_receive(const void *bytes, uint16_t length, uint16_t flags);
int module_kernel_sends(const void *bytes, uint16_t length); /* as above */
/* The next packet that was sent, all its slots: its length, 0 when there is none. */
uint32_t module_sent(uint8_t *bytes, uint32_t most);

#endif
