/* What the XDP program and whoever loads it write into its maps. */
#ifndef USNET_XDP_PROGRAM_H
#define USNET_XDP_PROGRAM_H

#include <linux/types.h>

#define USNET_XDP_QUEUES_MAX 256
#define USNET_XDP_ADDRESSES_MAX 64
#define USNET_XDP_SERVED_MAX 4096

/* IPv6, or IPv4 as ::ffff:a.b.c.d. */
struct usnet_xdp_address {
    __u8 bytes[16];
};

/* Of an address, in the map `addresses`. */
enum usnet_xdp_owner {
    USNET_XDP_OWN = 1,    /* ours alone: ARP and neighbour discovery about it are ours, too */
    USNET_XDP_SHARED = 2, /* the kernel's, of which we serve ports */
};

/* The key in the map `served`; the value is not looked at. */
struct usnet_xdp_served {
    struct usnet_xdp_address address;
    __be16 port;
    __u8 protocol;
    __u8 zero;
};

/* The only entry of the map `station`. */
struct usnet_xdp_station {
    __u8 mac[6];          /* ours; all zero: we have none of our own */
    __u16 outgoing_first; /* ports of shared addresses that we open connections from; 0: none */
    __u16 outgoing_last;
};

/* Indices in the map `counters`. */
enum usnet_xdp_counter {
    USNET_XDP_NOT_SERVED, /* dropped: for us, and nobody has this queue at the moment */
    USNET_XDP_FRAGMENTS,  /* dropped: TCP in fragments, to an address that we share */
    USNET_XDP_COUNTERS,
};

#endif
