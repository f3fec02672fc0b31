/* Why a packet, or a part of it, was not taken: one name and one counter for each reason. */
#ifndef UN_DROP_H
#define UN_DROP_H

#include <stdint.h>

#define UN_DROPS(X)                                                                                                    \
    X(short_frame, "frames that end within a header")                                                                  \
    X(ether_type, "frames of a protocol that is not served")                                                           \
    X(foreign_mac, "frames for another station")                                                                       \
    X(arp_malformed, "ARP packets that make no sense")                                                                 \
    X(ip_malformed, "IP packets with a wrong version, header length or total length")                                  \
    X(ip_checksum, "IPv4 headers with a wrong checksum")                                                               \
    X(ip_source, "packets from an address that cannot be a source")                                                    \
    X(ip_destination, "packets for an address that is not ours")                                                       \
    X(ip_protocol, "packets of a transport protocol that is not served")                                               \
    X(left_to_kernel, "packets that the kernel is to answer, as it has the address, too")                              \
    X(ip_options, "packets with options or extension headers that forbid taking them")                                 \
    X(fragment_malformed, "fragments that overlap, or reach beyond 65,535 bytes")                                      \
    X(fragment_budget, "fragments dropped because too many datagrams were incomplete")                                 \
    X(fragment_timeout, "datagrams that stayed incomplete for too long")                                               \
    X(icmp_malformed, "ICMP messages that make no sense")                                                              \
    X(icmp_checksum, "ICMP messages with a wrong checksum")                                                            \
    X(icmp_unmatched, "ICMP errors about packets that are not on their way")                                           \
    X(icmp_rate, "ICMP answers not sent because of the rate limit")                                                    \
    X(icmp_too_big, "echo requests that lie in too many pieces to be answered")                                        \
    X(nd_malformed, "neighbour discovery messages that make no sense")                                                 \
    X(udp_malformed, "UDP datagrams with a wrong length")                                                              \
    X(udp_checksum, "UDP datagrams with a wrong checksum")                                                             \
    X(udp_no_port, "UDP datagrams for a port that is not open")                                                        \
    X(udp_full, "UDP datagrams dropped because the endpoint's queue was full")                                         \
    X(tcp_malformed, "TCP segments with a wrong header length")                                                        \
    X(tcp_checksum, "TCP segments with a wrong checksum")                                                              \
    X(tcp_flags, "TCP segments with flags that make no sense here")                                                    \
    X(tcp_no_ack, "TCP segments of a connection without ACK")                                                          \
    X(tcp_no_connection, "TCP segments of no connection")                                                              \
    X(tcp_window, "TCP segments outside the window")                                                                   \
    X(tcp_bad_ack, "TCP segments that acknowledge what was never sent, or too long ago")                               \
    X(tcp_old_timestamp, "TCP segments with a timestamp from the past (PAWS)")                                         \
    X(tcp_duplicate, "TCP payload that was there already")                                                             \
    X(tcp_out_of_order, "out-of-order TCP payload dropped because the queue was full")                                 \
    X(tcp_after_close, "TCP payload that came after the application closed")                                           \
    X(tcp_time_wait, "TCP segments in TIME-WAIT")                                                                      \
    X(tcp_backlog, "TCP connection requests dropped because the listener's queue was full")                            \
    X(tcp_bad_cookie, "TCP segments that should carry a SYN cookie and did not")                                       \
    X(tcp_rst_rate, "resets not sent because of the rate limit")                                                       \
    X(tcp_challenge_rate, "challenge ACKs not sent because of the rate limit")                                         \
    X(no_connection_free, "connections refused because the table was full")                                            \
    X(no_frame, "packets dropped because no frame was free")                                                           \
    X(no_neighbour, "packets dropped because the next hop did not answer")                                             \
    X(no_route, "packets dropped because there is no way to their destination")                                        \
    X(device_full, "packets dropped because the device took no more")                                                  \
    X(hand_over_full, "packets of another shard's connections dropped because its queue was full")

enum un_drop {
    UN_DROP_NONE,
#define UN_NAME(name, text) UN_DROP_##name,
    UN_DROPS(UN_NAME)
#undef UN_NAME
    UN_DROP_COUNT,
};

#endif
