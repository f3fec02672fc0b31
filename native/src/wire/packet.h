/* A frame, parsed once: Ethernet, IPv4 or IPv6 with everything between them and the transport protocol.
 *
 * Nothing above wire/ indexes a packet before this has checked it. Offsets count from the first byte of the frame.
 * Ethernet with at most one VLAN tag (802.1Q, tolerated: priority tags and tagged access ports); IPv4 with options
 * skipped (RFC 791) unless they choose the route, IPv6 with extension headers walked (RFC 8200): hop-by-hop,
 * destination options, routing with no segments left, fragment. Fragments are reported, not put together; a fragment
 * header on a whole packet is none (RFC 6946).
 *
 * What the parser leaves to the stack: whether a MAC or IP address is ours, and whether it can be a source. What it
 * does promise: an IPv6 packet never has a mapped IPv4 address, and ICMP comes with IPv4 only, ICMPv6 with
 * IPv6 only. */
#ifndef UN_PACKET_H
#define UN_PACKET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/drop.h"
#include "wire/ip.h"

#define UN_ETH_BYTES 14u
#define UN_VLAN_BYTES 4u
#define UN_IPV4_BYTES 20u
#define UN_IPV6_BYTES 40u
#define UN_IPV6_MTU_MIN 1280u /* RFC 8200 section 5 */

enum un_ether_type { UN_ETHER_IPV4 = 0x0800, UN_ETHER_ARP = 0x0806, UN_ETHER_VLAN = 0x8100, UN_ETHER_IPV6 = 0x86dd };
enum un_ip_protocol { UN_PROTOCOL_ICMP = 1, UN_PROTOCOL_TCP = 6, UN_PROTOCOL_UDP = 17, UN_PROTOCOL_ICMPV6 = 58 };
enum un_ecn { UN_ECN_NONE = 0, UN_ECN_ECT1 = 1, UN_ECN_ECT0 = 2, UN_ECN_CE = 3 };

/* What the device knows about the checksum of the transport protocol. */
enum un_checksum_state {
    UN_CHECKSUM_UNKNOWN, /* verify it */
    UN_CHECKSUM_GOOD,    /* verified by hardware, or the frame never left this machine */
    UN_CHECKSUM_PARTIAL, /* verify it; a field that holds only the folded pseudo-header sum is right as well */
};

/* Why an IPv6 packet is refused, when its sender gets an error (RFC 8200 section 4, RFC 4443 section 3.4). */
enum un_problem {
    UN_PROBLEM_NONE,
    UN_PROBLEM_FIELD,         /* code 0: a field has an impossible value */
    UN_PROBLEM_HEADER,        /* code 1: a header that is not known, or not there */
    UN_PROBLEM_OPTION,        /* code 2, unless it went to a group */
    UN_PROBLEM_OPTION_ALWAYS, /* code 2 */
};

struct un_packet {
    uint16_t ether_type;  /* enum un_ether_type, of what is inside a tag */
    uint16_t network;     /* offset of the ARP or IP header */
    uint8_t destination_mac[UN_MAC_BYTES];
    uint8_t source_mac[UN_MAC_BYTES];
    bool is_fragment;
    /* IPv6: of a fragment, of what was put together from some, of a whole packet (RFC 6946) */
    bool has_fragment_header;
    bool more_fragments;
    uint16_t fragment_offset; /* bytes; with the fragment and an IP header never beyond 65,535 */
    uint32_t fragment_id;
    uint8_t problem;      /* enum un_problem; NONE unless the packet is refused */
    /* IPv6: offset from its header of the field that is wrong, or of the one that names `protocol` */
    uint16_t pointer;
    uint8_t protocol;     /* of the transport; of an IPv6 fragment what its header says, be it an extension; ARP: 0 */
    uint8_t hop_limit;
    uint8_t ecn;          /* enum un_ecn */
    uint16_t transport;        /* offset of the transport header, within the first piece; of a fragment: of its part */
    /* header and payload; what the IP header says, never beyond the frame. ARP: all there is */
    uint32_t transport_length;
    struct un_ip source;
    struct un_ip destination;
};

/* Parse the packet whose bytes are `pieces` in a row; the headers must lie in the first one. Bytes beyond the IP length
 * (Ethernet padding) are ignored. UN_DROP_NONE, or why not. */
enum un_drop un_packet_parse(struct un_packet *packet, const struct iovec *pieces, int count);

/* Whether the transport checksum (TCP, UDP, ICMPv6 with pseudo-header; ICMP without) of a packet that is no fragment is
 * right. A UDP checksum of zero is right over IPv4 only. Of other protocols nothing is known: false. */
bool un_packet_checksum_good(const struct un_packet *packet, const struct iovec *pieces, int count,
                             enum un_checksum_state state);

/* What goes in front of a transport packet. */
struct un_ip_header {
    struct un_ip source;
    struct un_ip destination;
    uint8_t protocol;
    uint8_t hop_limit;
    uint8_t ecn;
    uint8_t dscp;
    bool dont_fragment;      /* IPv4 */
    uint16_t identification; /* IPv4 */
    uint32_t payload_length; /* of everything behind the IP header */
};

/* Write the headers; return their length. The IPv4 header checksum is computed. */
uint32_t un_eth_emit(uint8_t *at, const uint8_t *destination, const uint8_t *source, uint16_t ether_type);
uint32_t un_ip_emit(uint8_t *at, const struct un_ip_header *header);
uint32_t un_ip_header_length(const struct un_ip *destination); /* 20 or 40 */

#endif
