/* What a kernel knows of an interface whose addresses it shares with stacks of ours: its addresses, ways that leave by
 * it, and who is at which Ethernet address. The kernel keeps ARP, neighbour discovery and routing; the stacks read.
 *
 * The table is memory that is written by one process, the supervisor, and read by the network processes of a server,
 * which map it for reading alone. Zeros are an empty table. It holds two copies: the writer fills the one that nobody
 * reads, and says with one store that it is the newer one. So a writer that is slow, or dies in the middle, leaves the
 * last table as it was, and a reader never waits.
 *
 * How the two sides hear of each other, for shards of a server:
 *
 *   a new table   The supervisor writes the exchange's eventfd of each shard after it (the descriptors of
 *                 --exchange-wakes). An engine looks whether there is a newer table before and after each sleep, and
 *                 at least once a second.
 *   a question    An engine that needs the Ethernet address of an IP address that is not in the table says so over its
 *                 control socket: UN_CONTROL_ASKS of engine/control.h, with the IP address. It asks three times, a
 *                 second apart; then what waited for it ends as with a neighbour that does not answer. The supervisor
 *                 has the kernel ask the link (NTF_USE), and writes a table when there is an answer.
 *
 * The descriptor of the table is a further one of --device-fds, the last, opened for reading; the engine's option
 * `shared` says that it is there.
 *
 * The part between the two `cffi` marks is read twice, as in usnet.h. */
#ifndef USNET_KERNEL_H
#define USNET_KERNEL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* cffi: begin */

/* IPv4 addresses stand in their mapped form ::ffff:a.b.c.d everywhere, prefixes count the bits of the family (0 to 32,
 * 0 to 128). */

/* One of the interface's own, that packets may come to. */
struct usnet_kernel_address {
    uint8_t ip[16];
    uint32_t prefix;
};

struct usnet_kernel_route {
    uint8_t network[16];
    uint8_t gateway[16]; /* of the same family; all zeros: the network is on the link */
    uint32_t prefix;
    uint32_t elsewhere;  /* not 0: packets leave by another interface, or nowhere: there is no way for a stack */
};

struct usnet_kernel_neighbour {
    uint8_t ip[16];
    uint8_t mac[6];
};

enum usnet_kernel_room {
    USNET_KERNEL_ADDRESSES_MAX = 16,
    USNET_KERNEL_ROUTES_MAX = 256,
    USNET_KERNEL_NEIGHBOURS_MAX = 4096,
};

/* Bytes of a table. */
uint64_t usnet_kernel_table_bytes(void);

/* Write all of it anew. Addresses in any order; of routes the first that a destination lies in is taken, so that they
 * come longest prefix first, and then by metric; neighbours whose Ethernet address is known, in any order, each once.
 * Returns how many had no room: the last of each kind. -EINVAL: a prefix that is too long; -ENOMEM: nothing was changed
 * then. One thread at a time. */
int usnet_kernel_table_write(void *memory, const struct usnet_kernel_address *addresses, uint32_t address_count,
                             const struct usnet_kernel_route *routes, uint32_t route_count,
                             const struct usnet_kernel_neighbour *neighbours, uint32_t neighbour_count);

/* Of a stack whose addresses are `shared` (usnet.h): the kernel has the interface with its MAC and IP addresses, and
 * keeps ARP, neighbour discovery, pings and routes; the stack gets served ports alone. Answers go to the Ethernet
 * address that the last segment of a flow came from. The table has to stay where it is as long as the stack. Such a
 * stack is given no address and no route (-EOPNOTSUPP); it connects from port_low to port_high (any other is -EACCES)
 * or, when both are 0, not at all (-EOPNOTSUPP). -EINVAL: its addresses are not shared. */
struct usnet_stack;
int usnet_stack_share(struct usnet_stack *stack, const void *table);

/* There may be a newer table: take its addresses, and let go on what waited for it. */
int usnet_stack_follow(struct usnet_stack *stack);

/* 1 and an IP address whose Ethernet address the kernel is to find out, for the table; 0: there is none (any more).
 * Asked for again after a second, three times in all. */
struct usnet_endpoint;
int usnet_stack_question(struct usnet_stack *stack, struct usnet_endpoint *wanted);

/* cffi: end */

#ifdef __cplusplus
}
#endif

#endif
