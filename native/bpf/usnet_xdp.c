/* Which frames of an interface leave the kernel for the AF_XDP socket of the queue that they came on:
 *
 *   to our own station                                                 all of them
 *   ARP, neighbour solicitations and advertisements                    about an address that is ours alone
 *   TCP and UDP to a served (address, protocol, port)                  not fragments
 *   TCP to an outgoing port of an address that we share                nor here
 *   ICMP errors that quote a packet from one                           on any queue: they are hashed in another way
 *
 * Everything else goes on to the kernel. What is for us and comes on a queue that has no socket at the moment is
 * dropped: the kernel would answer it with a reset. So are fragments of TCP to an address that we share: only the first
 * has ports, and the kernel would put them together and answer with a reset, too. Frames with VLAN tags are the
 * kernel's.
 *
 * Every step compares with the end of what is looked at; a frame that ends too early goes on to the kernel. That is the
 * whole frame or, of one in several buffers, the first. Some drivers (mlx5) leave that one empty: where it is short,
 * the beginning of the frame is copied, and looked at in its place. Nobody has headers beyond HEADERS_MAX. */
#include "usnet_xdp.h"

#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define ETHER_IPV4 0x0800
#define ETHER_ARP 0x0806
#define ETHER_IPV6 0x86dd

enum { HOP_BY_HOP = 0, ICMP = 1, TCP = 6, UDP = 17, ROUTING = 43, FRAGMENT = 44, ICMPV6 = 58, DESTINATION = 60 };
enum { EXTENSIONS_MAX = 6, HEADERS_MAX = 512 };
enum { NEIGHBOUR_SOLICITATION = 135, NEIGHBOUR_ADVERTISEMENT = 136 };

struct ethernet {
    __u8 destination[6];
    __u8 source[6];
    __be16 type;
} __attribute__((packed));

struct arp {
    __be16 hardware;
    __be16 protocol;
    __u8 lengths[2];
    __be16 operation;
    __u8 sender_mac[6];
    __u8 sender[4];
    __u8 target_mac[6];
    __u8 target[4];
} __attribute__((packed));

struct ipv4 {
    __u8 version_and_words;
    __u8 service;
    __be16 length;
    __be16 identification;
    __be16 fragment;
    __u8 hops;
    __u8 protocol;
    __be16 checksum;
    __u8 source[4];
    __u8 destination[4];
} __attribute__((packed));

struct ipv6 {
    __be32 version_and_flow;
    __be16 length;
    __u8 next;
    __u8 hops;
    struct usnet_xdp_address source;
    struct usnet_xdp_address destination;
} __attribute__((packed));

struct extension {
    __u8 next;
    __u8 words; /* of 8 bytes, behind the first */
    __be16 fragment;
    __u8 rest[4];
} __attribute__((packed));

struct ports {
    __be16 source;
    __be16 destination;
} __attribute__((packed));

struct icmp {
    __u8 type;
    __u8 code;
    __be16 checksum;
    __u8 rest[4];
} __attribute__((packed));

struct {
    __uint(type, BPF_MAP_TYPE_XSKMAP);
    __uint(max_entries, USNET_XDP_QUEUES_MAX);
    __type(key, __u32);
    __type(value, __u32);
} queues SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct usnet_xdp_station);
} station SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, USNET_XDP_ADDRESSES_MAX);
    __type(key, struct usnet_xdp_address);
    __type(value, __u32);
} addresses SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, USNET_XDP_SERVED_MAX);
    __type(key, struct usnet_xdp_served);
    __type(value, __u32);
} served SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, USNET_XDP_COUNTERS);
    __type(key, __u32);
    __type(value, __u64);
} counters SEC(".maps");

/* The beginning of a frame whose first buffer is short. */
struct copy {
    __u8 bytes[HEADERS_MAX];
};

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct copy);
} copies SEC(".maps");

/* Frames may come in several buffers. Written before the program is loaded, and a constant then: older kernels refuse
 * what such frames take, but not where it is never reached. */
const volatile __u8 usnet_xdp_large = 0;

/* Where the parser is: `at` bytes behind the beginning. */
struct cursor {
    struct xdp_md *frame;
    void *begin;
    void *end;
    __u32 at;
};

/* Points `variable` to the next bytes, or returns `otherwise` where there are too few. The first comparison shows the
 * kernel that a copy is not left, the second that the frame is not. */
#define TAKE(cursor, variable, otherwise)                                                                              \
    do {                                                                                                               \
        if ((cursor)->at > HEADERS_MAX - sizeof *(variable))                                                           \
            return otherwise;                                                                                          \
        (variable) = (cursor)->begin + (cursor)->at;                                                                   \
        if ((void *)((variable) + 1) > (cursor)->end)                                                                  \
            return otherwise;                                                                                          \
        (cursor)->at += sizeof *(variable);                                                                            \
    } while (0)

#define INLINE static __always_inline

INLINE void count(__u32 which)
{
    __u64 *counter = bpf_map_lookup_elem(&counters, &which);
    if (counter)
        __sync_fetch_and_add(counter, 1);
}

INLINE int to_stack(struct xdp_md *frame)
{
    int action = (int)bpf_redirect_map(&queues, frame->rx_queue_index, XDP_DROP);
    if (action == XDP_DROP)
        count(USNET_XDP_NOT_SERVED);
    return action;
}

INLINE struct usnet_xdp_address from_v4(const __u8 *address)
{
    struct usnet_xdp_address mapped = {};
    mapped.bytes[10] = mapped.bytes[11] = 0xff;
    __builtin_memcpy(mapped.bytes + 12, address, 4);
    return mapped;
}

INLINE __u32 owner_of(const struct usnet_xdp_address *address)
{
    struct usnet_xdp_address key = *address;
    __u32 *owner = bpf_map_lookup_elem(&addresses, &key);
    return owner ? *owner : 0;
}

INLINE const struct usnet_xdp_station *our_station(void)
{
    __u32 only = 0;
    return bpf_map_lookup_elem(&station, &only);
}

INLINE int is_outgoing(const struct usnet_xdp_address *address, __u8 protocol, __u16 port)
{
    const struct usnet_xdp_station *ours = our_station();
    if (!ours || protocol != TCP || port == 0 || port < ours->outgoing_first || port > ours->outgoing_last)
        return 0;
    return owner_of(address) == USNET_XDP_SHARED;
}

/* One end of a flow: is it ours? */
INLINE int is_served(const struct usnet_xdp_address *address, __u8 protocol, __be16 port)
{
    struct usnet_xdp_served key = {.address = *address, .port = port, .protocol = protocol};
    return bpf_map_lookup_elem(&served, &key) != NULL || is_outgoing(address, protocol, bpf_ntohs(port));
}

INLINE int is_to_our_station(const struct ethernet *ethernet)
{
    const struct usnet_xdp_station *ours = our_station();
    if (!ours)
        return 0;
    __u8 differs = 0, any = 0;
    for (int i = 0; i < 6; i++) {
        differs |= ours->mac[i] ^ ethernet->destination[i];
        any |= ours->mac[i];
    }
    return any && !differs;
}

INLINE int arp(struct cursor *cursor)
{
    const struct arp *arp;
    TAKE(cursor, arp, XDP_PASS);
    struct usnet_xdp_address sender = from_v4(arp->sender), target = from_v4(arp->target);
    if (owner_of(&target) == USNET_XDP_OWN || owner_of(&sender) == USNET_XDP_OWN)
        return to_stack(cursor->frame);
    return XDP_PASS;
}

/* TCP or UDP to an address that we share. */
INLINE int transport(struct cursor *cursor, const struct usnet_xdp_address *destination, __u8 protocol)
{
    const struct ports *ports;
    TAKE(cursor, ports, XDP_PASS);
    return is_served(destination, protocol, ports->destination) ? to_stack(cursor->frame) : XDP_PASS;
}

INLINE int fragment(const struct usnet_xdp_address *destination, __u8 protocol)
{
    if (protocol != TCP || owner_of(destination) != USNET_XDP_SHARED)
        return XDP_PASS;
    count(USNET_XDP_FRAGMENTS);
    return XDP_DROP;
}

/* Behind the ICMP header: the beginning of a packet that we may have sent. */
INLINE int quoted_v4(struct cursor *cursor)
{
    const struct ipv4 *ip;
    TAKE(cursor, ip, XDP_PASS);
    if (ip->fragment & bpf_htons(0x1fff))
        return XDP_PASS;
    struct usnet_xdp_address source = from_v4(ip->source);
    __u8 protocol = ip->protocol;
    cursor->at += ((ip->version_and_words & 0xf) - 5) * 4 & 0x3f;
    const struct ports *ports;
    TAKE(cursor, ports, XDP_PASS);
    return is_served(&source, protocol, ports->source) ? to_stack(cursor->frame) : XDP_PASS;
}

INLINE int quoted_v6(struct cursor *cursor)
{
    const struct ipv6 *ip;
    TAKE(cursor, ip, XDP_PASS);
    struct usnet_xdp_address source = ip->source;
    __u8 protocol = ip->next;
    const struct ports *ports;
    TAKE(cursor, ports, XDP_PASS);
    return is_served(&source, protocol, ports->source) ? to_stack(cursor->frame) : XDP_PASS;
}

INLINE int icmp_v4(struct cursor *cursor)
{
    const struct icmp *icmp;
    TAKE(cursor, icmp, XDP_PASS);
    __u8 type = icmp->type; /* unreachable, time exceeded, parameter problem */
    return type == 3 || type == 11 || type == 12 ? quoted_v4(cursor) : XDP_PASS;
}

INLINE int icmp_v6(struct cursor *cursor)
{
    const struct icmp *icmp;
    TAKE(cursor, icmp, XDP_PASS);
    __u8 type = icmp->type;
    if (type >= 1 && type <= 4)
        return quoted_v6(cursor);
    if (type != NEIGHBOUR_SOLICITATION && type != NEIGHBOUR_ADVERTISEMENT)
        return XDP_PASS;
    const struct usnet_xdp_address *target;
    TAKE(cursor, target, XDP_PASS);
    return owner_of(target) == USNET_XDP_OWN ? to_stack(cursor->frame) : XDP_PASS;
}

INLINE int ipv4(struct cursor *cursor)
{
    const struct ipv4 *ip;
    TAKE(cursor, ip, XDP_PASS);
    if (ip->version_and_words < 0x45 || ip->version_and_words > 0x4f)
        return XDP_PASS;
    struct usnet_xdp_address destination = from_v4(ip->destination);
    __u8 protocol = ip->protocol;
    __be16 fragmented = ip->fragment & bpf_htons(0x3fff);
    cursor->at += ((ip->version_and_words & 0xf) - 5) * 4 & 0x3f;
    if (fragmented)
        return fragment(&destination, protocol);
    if (protocol == TCP || protocol == UDP)
        return transport(cursor, &destination, protocol);
    return protocol == ICMP ? icmp_v4(cursor) : XDP_PASS;
}

/* Behind the extension headers; *fragmented: one says that there are other parts. The protocol of the payload, or a
 * number that is none of ours where the headers end too early or are too many. */
INLINE __u8 skip_extensions(struct cursor *cursor, __u8 next, int *fragmented)
{
    for (int i = 0; i < EXTENSIONS_MAX; i++) {
        if (next != HOP_BY_HOP && next != ROUTING && next != DESTINATION && next != FRAGMENT)
            return next;
        const struct extension *extension;
        TAKE(cursor, extension, FRAGMENT);
        if (next == FRAGMENT)
            *fragmented |= (extension->fragment & bpf_htons(0xfff9)) != 0;
        else
            cursor->at += extension->words * 8;
        next = extension->next;
        if (*fragmented)
            return next; /* what follows is in the first part only */
    }
    return FRAGMENT;
}

INLINE int ipv6(struct cursor *cursor)
{
    const struct ipv6 *ip;
    TAKE(cursor, ip, XDP_PASS);
    struct usnet_xdp_address destination = ip->destination;
    int fragmented = 0;
    __u8 protocol = skip_extensions(cursor, ip->next, &fragmented);
    if (fragmented)
        return fragment(&destination, protocol);
    if (protocol == TCP || protocol == UDP)
        return transport(cursor, &destination, protocol);
    return protocol == ICMPV6 ? icmp_v6(cursor) : XDP_PASS;
}

/* The same number, 1 to HEADERS_MAX, by constants: verifiers before Linux 6.8 learn nothing where two numbers are
 * compared that they do not know, and compilers would leave out what changes nothing. */
INLINE __u64 within_copy(__u64 length)
{
    _Static_assert((HEADERS_MAX & (HEADERS_MAX - 1)) == 0, "the bits below it are a mask");
    asm volatile("" : "+r"(length));
    return ((length - 1) & (HEADERS_MAX - 1)) + 1;
}

/* The first buffer; a copy, where it holds less of the headers than there may be. */
INLINE void begin(struct cursor *cursor, struct xdp_md *frame)
{
    *cursor = (struct cursor){frame, (void *)(long)frame->data, (void *)(long)frame->data_end, 0};
    __u64 first = cursor->end - cursor->begin;
    __u32 only = 0;
    if (!usnet_xdp_large || first >= HEADERS_MAX)
        return;
    __u64 length = bpf_xdp_get_buff_len(frame);
    struct copy *copy = bpf_map_lookup_elem(&copies, &only);
    if (length <= first || !copy)
        return;
    length = length < HEADERS_MAX ? length : HEADERS_MAX;
    length = within_copy(length);
    if (bpf_xdp_load_bytes(frame, 0, copy->bytes, length) < 0)
        return;
    cursor->begin = copy->bytes;
    cursor->end = copy->bytes + length;
}

SEC("xdp")
int usnet_xdp(struct xdp_md *frame)
{
    struct cursor cursor;
    begin(&cursor, frame);
    const struct ethernet *ethernet;
    TAKE(&cursor, ethernet, XDP_PASS);
    if (is_to_our_station(ethernet))
        return to_stack(frame);
    switch (ethernet->type) {
    case bpf_htons(ETHER_ARP):
        return arp(&cursor);
    case bpf_htons(ETHER_IPV4):
        return ipv4(&cursor);
    case bpf_htons(ETHER_IPV6):
        return ipv6(&cursor);
    default:
        return XDP_PASS;
    }
}

char terms[] SEC("license") = "Dual BSD/GPL";
