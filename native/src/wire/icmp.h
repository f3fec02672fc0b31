/* ICMP (RFC 792), ICMPv6 (RFC 4443) and neighbour discovery (RFC 4861), as one kind of message.
 *
 * Both families are parsed into the same struct, with one meaning for each kind, so the layers above have no two cases.
 * No IPv6 address in a message is an IPv4-mapped one: an ICMPv6 message says nothing about IPv4.
 *
 * The caller makes those checks of RFC 4861 that need the addresses of the packet: a router advertisement comes from a
 * link-local address (section 6.1.2); a solicitation from :: goes to a solicited-node address and has no link-layer
 * address option (7.1.1); an advertisement to a group is not solicited (7.1.2). */
#ifndef UN_ICMP_H
#define UN_ICMP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/drop.h"
#include "wire/ip.h"

enum un_icmp_kind {
    UN_ICMP_OTHER,
    UN_ICMP_ECHO_REQUEST,
    UN_ICMP_ECHO_REPLY,
    UN_ICMP_UNREACHABLE_HOST,     /* network, host, source route failed …: may be transient */
    UN_ICMP_UNREACHABLE_FOR_GOOD, /* administratively prohibited, unknown, isolated */
    UN_ICMP_UNREACHABLE_PORT,
    UN_ICMP_UNREACHABLE_PROTOCOL,
    UN_ICMP_PACKET_TOO_BIG,       /* IPv4: fragmentation needed */
    UN_ICMP_TIME_EXCEEDED,
    UN_ICMP_PARAMETER_PROBLEM,
    UN_ICMP_NEIGHBOUR_SOLICITATION,
    UN_ICMP_NEIGHBOUR_ADVERTISEMENT,
    UN_ICMP_ROUTER_SOLICITATION,
    UN_ICMP_ROUTER_ADVERTISEMENT,
    UN_ICMP_GROUP_QUERY, /* multicast listener discovery: mld.h; in only */
};

/* The packet that an error is about, as far as it was quoted. */
struct un_icmp_quote {
    struct un_ip source; /* ours, if the error is about a packet of ours */
    struct un_ip destination;
    uint8_t protocol;
    uint16_t source_port;
    uint16_t destination_port;
    uint32_t seq; /* of TCP */
};

struct un_icmp {
    enum un_icmp_kind kind;
    uint8_t type;
    uint8_t code;
    uint16_t id;          /* echo */
    uint16_t sequence;    /* echo */
    /* parameter problem, ICMPv6 unreachable protocol: offset of what is wrong, within the quote */
    uint32_t pointer;
    uint32_t mtu;         /* packet too big; router advertisement with an MTU option, else 0 */
    bool has_quote;       /* an error whose quoted packet could be read */
    struct un_icmp_quote quote;
    /* neighbour discovery */
    struct un_ip target;  /* of a group query: the group, or :: for all */
    bool has_mac;         /* source or target link-layer address option */
    uint8_t mac[UN_MAC_BYTES];
    bool is_router;
    bool is_solicited;
    bool overrides;
    uint16_t router_lifetime_s;
    uint32_t max_response_ms; /* group query */
    bool is_old;              /* group query: of version 1 */
    uint16_t payload;        /* offset of the echo data from the start of the message */
    uint32_t payload_length;
};

/* `length` bytes of a message are contiguous at `at`, `total` bytes are there in all. hop_limit: neighbour discovery
 * counts only with 255 (RFC 4861 section 7.1). Fields that a kind does not have are 0. The caller verifies the
 * checksum. */
enum un_drop un_icmp_parse(struct un_icmp *icmp, bool is_v6, uint8_t hop_limit, const uint8_t *at, uint32_t length,
                           uint32_t total);

/* Write the header of a message (checksum zero) and return its length; an echo's data or an error's quoted packet
 * follows behind it. `type` follows from the kind, and so does `code` where only one has its meaning. Neighbour and
 * router discovery carry their link-layer address option when has_mac. */
uint32_t un_icmp_emit(const struct un_icmp *icmp, bool is_v6, uint8_t *at);

#define UN_ICMP_EMIT_MAX 40u

#endif
