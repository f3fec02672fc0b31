/* Offloads of a TAP queue, with the kernel as peer: super-segments and checksums left undone, both ways.
 *
 * First with packet sockets that show the virtio-net header as the kernel has it; then the kernel's own TCP: a
 * connection that is opened and acknowledged by hand carries bytes over, which only arrive when every header says the
 * truth. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "../check.h"
#include "tap_link.h"
#include "wire/checksum.h"
#include "wire/packet.h"
#include "wire/seg.h"

#define PACKET_MAX 70000u
#define HEADER_BYTES sizeof(struct virtio_net_hdr)
#define SEGMENT 1400u
#define PORT 7000
#define OUR_PORT 40000

/* The two ends of the wire: theirs is the kernel's. */
struct family {
    bool is_v6;
    const char *commands[3];
    const char *ours, *theirs;
};

static const struct family ipv4 = {
    false,
    {"addr add 10.9.0.1/24 dev " TAP_NAME, "neigh replace 10.9.0.2 lladdr %s dev " TAP_NAME},
    "10.9.0.2",
    "10.9.0.1",
};
static const struct family ipv6 = {
    true,
    /* The kernel adds the route to an address of its own at its time: packets that come sooner are dropped. */
    {"addr add fd09::1/64 dev " TAP_NAME " nodad", "neigh replace fd09::2 lladdr %s dev " TAP_NAME,
     "-6 route replace local fd09::1 dev " TAP_NAME " table local"},
    "fd09::2",
    "fd09::1",
};

static const struct family *family;
static struct fixture_link link_now;
static struct un_pool pool;
static uint8_t kernel_mac[6];
static uint8_t bytes[PACKET_MAX], got[PACKET_MAX + HEADER_BYTES];

static struct un_ip address(const char *text)
{
    uint8_t raw[16];
    CHECK_EQ(inet_pton(family->is_v6 ? AF_INET6 : AF_INET, text, raw), 1);
    return family->is_v6 ? un_ip_from_v6(raw) : un_ip_from_v4(raw);
}

/* The kernel has no address there, and says nothing by itself. */
static void open_device(uint32_t frames)
{
    pool = fixture_pool(frames, 2048);
    link_now = (struct fixture_link){.device = tap_open(false), .pool = &pool};
    un_device_attach(link_now.device, &pool);
    tap_kernel_mac(kernel_mac);
}

static void give_the_kernel_an_address(void)
{
    char mac[32], command[128];
    if (family->is_v6)
        tap_enable_ipv6();
    const uint8_t *own = link_now.device->capabilities.mac;
    snprintf(mac, sizeof mac, "%02x:%02x:%02x:%02x:%02x:%02x", own[0], own[1], own[2], own[3], own[4], own[5]);
    tap_ip(family->commands[0]);
    snprintf(command, sizeof command, family->commands[1], mac);
    tap_ip(command);
    if (family->commands[2])
        tap_ip(family->commands[2]);
}

static void close_device(void)
{
    link_now.device->operations->close(link_now.device);
    CHECK_EQ(if_nametoindex(TAP_NAME), 0);
    CHECK_EQ(pool.own->free_count, pool.own->count);
    fixture_pool_free(&pool);
}

static uint32_t ip_bytes(void)
{
    return family->is_v6 ? UN_IPV6_BYTES : UN_IPV4_BYTES;
}

/* Headers of a TCP segment with `length` bytes of payload into `bytes`, the checksum left undone; the offset behind
 * them. */
static uint32_t emit_headers(const struct un_seg *seg, bool from_us)
{
    struct un_ip_header ip = {
        .source = address(from_us ? family->ours : family->theirs),
        .destination = address(from_us ? family->theirs : family->ours),
        .protocol = UN_PROTOCOL_TCP,
        .hop_limit = 64,
        .dont_fragment = true,
        .payload_length = un_seg_header_length(seg) + seg->length,
    };
    const uint8_t *own = link_now.device->capabilities.mac;
    uint32_t at = un_eth_emit(bytes, from_us ? kernel_mac : own, from_us ? own : kernel_mac,
                              family->is_v6 ? UN_ETHER_IPV6 : UN_ETHER_IPV4);
    at += un_ip_emit(bytes + at, &ip);
    un_seg_emit(seg, bytes + at);
    uint16_t pseudo = un_sum_fold(un_sum_pseudo(&ip.source, &ip.destination, UN_PROTOCOL_TCP, ip.payload_length));
    memcpy(bytes + at + 16, &pseudo, 2);
    return at + un_seg_header_length(seg);
}

static void fill(uint8_t *at, uint32_t length, uint32_t from)
{
    for (uint32_t i = 0; i < length; i++)
        at[i] = (uint8_t)((from + i) * 31 + (from + i) / 251);
}

static bool is_filled(const uint8_t *at, uint32_t length, uint32_t from)
{
    for (uint32_t i = 0; i < length; i++)
        if (at[i] != (uint8_t)((from + i) * 31 + (from + i) / 251))
            return false;
    return true;
}

/* The packet that stands in `bytes`, with payload in pieces as it would lie in frames. */
static void submit(uint32_t header, uint32_t length, uint16_t flags)
{
    struct un_piece pieces[UN_TX_PIECES_MAX] = {{bytes, header, UN_NONE}};
    struct un_device *device = link_now.device;
    uint16_t count = 1;
    for (uint32_t at = header; at < length; count++) {
        uint32_t step = length - at < 2000 ? length - at : 2000;
        pieces[count] = (struct un_piece){bytes + at, step, UN_NONE};
        at += step;
    }
    struct un_tx packet = {
        .pieces = pieces,
        .count = count,
        .flags = flags | (family->is_v6 ? UN_TX_IPV6 : 0),
        .segment_bytes = SEGMENT,
        .header_length = (uint16_t)header,
        .checksum_start = (uint16_t)(UN_ETH_BYTES + ip_bytes()),
        .checksum_offset = 16,
        .length = length,
    };
    CHECK_EQ(device->operations->reserve(device, 1), 1);
    device->operations->submit(device, &packet, 1);
    device->operations->flush(device);
    CHECK_EQ(device->counters->tx_errors, 0);
}

static struct un_seg data(uint32_t length)
{
    return (struct un_seg){.seq = 5000, .ack = 9000, .length = length, .wnd = 500, .flags = UN_TCP_ACK | UN_TCP_PSH,
                           .source_port = OUR_PORT, .destination_port = PORT};
}

/* Packet sockets with headers. */

static uint16_t ether_type(void)
{
    return family->is_v6 ? UN_ETHER_IPV6 : UN_ETHER_IPV4;
}

static void a_sent_super_segment_is_one_to_the_kernel(void)
{
    struct virtio_net_hdr header;
    open_device(64);
    int far = tap_far_open(ether_type(), true);
    struct un_seg seg = data(60000);
    uint32_t at = emit_headers(&seg, true);
    fill(bytes + at, 60000, 0);
    submit(at, at + 60000, UN_TX_SEGMENT);
    CHECK_EQ(recv(far, got, sizeof got, 0), HEADER_BYTES + at + 60000);
    memcpy(&header, got, HEADER_BYTES);
    CHECK_EQ(header.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
    CHECK_EQ(header.gso_type, family->is_v6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4);
    CHECK_EQ(header.gso_size, SEGMENT);
    CHECK_EQ(header.csum_start, UN_ETH_BYTES + ip_bytes());
    CHECK_EQ(header.csum_offset, 16);
    CHECK_EQ(memcmp(got + HEADER_BYTES, bytes, at + 60000), 0);
    close(far);
    close_device();
}

static void one_segment_is_not_cut_and_a_whole_checksum_is_left_alone(void)
{
    struct virtio_net_hdr header;
    open_device(64);
    int far = tap_far_open(ether_type(), true);
    struct un_seg seg = data(SEGMENT);
    uint32_t at = emit_headers(&seg, true);
    fill(bytes + at, SEGMENT, 0);
    submit(at, at + SEGMENT, UN_TX_SEGMENT);
    submit(at, at + SEGMENT, 0);
    for (uint32_t i = 0; i < 2; i++) {
        CHECK_EQ(recv(far, got, sizeof got, 0), HEADER_BYTES + at + SEGMENT);
        memcpy(&header, got, HEADER_BYTES);
        CHECK_EQ(header.flags, i == 0 ? VIRTIO_NET_HDR_F_NEEDS_CSUM : 0);
        CHECK_EQ(header.gso_type, VIRTIO_NET_HDR_GSO_NONE);
    }
    close(far);
    close_device();
}

/* From the kernel's end, with the header that its TCP would make. */
static void far_sends(int far, const struct virtio_net_hdr *header, uint32_t length)
{
    memcpy(got, header, HEADER_BYTES);
    memcpy(got + HEADER_BYTES, bytes, length);
    CHECK_EQ(send(far, got, HEADER_BYTES + length, 0), HEADER_BYTES + length);
}

static struct virtio_net_hdr coalesced(uint32_t headers)
{
    return (struct virtio_net_hdr){
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .gso_type = family->is_v6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4,
        .hdr_len = (uint16_t)headers,
        .gso_size = SEGMENT,
        .csum_start = (uint16_t)(UN_ETH_BYTES + ip_bytes()),
        .csum_offset = 16,
    };
}

static void a_coalesced_packet_is_a_chain_and_says_its_parts(void)
{
    struct un_rx packet;
    open_device(64);
    int far = tap_far_open(0, true);
    struct un_seg seg = data(65000);
    uint32_t at = emit_headers(&seg, false);
    fill(bytes + at, 65000, 0);
    struct virtio_net_hdr whole = {0}, super = coalesced(at);
    for (uint32_t i = 0; i < 3; i++) { /* a small packet between large ones takes one frame */
        far_sends(far, &super, at + 65000);
        far_sends(far, &whole, 100);
        CHECK_EQ(fixture_receive(&link_now, got, &packet), at + 65000);
        CHECK_EQ(packet.segment_bytes, SEGMENT);
        CHECK_EQ(packet.flags, UN_RX_CHECKSUM_GOOD);
        CHECK_EQ(memcmp(got, bytes, at + 65000), 0);
        CHECK_EQ(link_now.device->operations->peek(link_now.device, &packet, 1), 1);
        CHECK_EQ(pool.frames[packet.frame].next, UN_NONE);
        CHECK_EQ(fixture_receive(&link_now, got, &packet), 100);
        CHECK_EQ(packet.segment_bytes, 0);
        CHECK_EQ(packet.flags, 0);
    }
    close(far);
    close_device();
}

static void with_few_frames_small_packets_pass_and_large_ones_are_counted(void)
{
    uint32_t held[64], count = 0;
    struct un_rx packet;
    open_device(64);
    int far = tap_far_open(0, true);
    struct un_seg seg = data(65000);
    uint32_t at = emit_headers(&seg, false);
    struct virtio_net_hdr whole = {0}, super = coalesced(at);
    while (pool.own->free_count > 5)
        held[count++] = un_pool_take(&pool);
    far_sends(far, &super, at + 65000);
    far_sends(far, &whole, 100);
    CHECK_EQ(fixture_receive(&link_now, got, &packet), 100);
    CHECK_EQ(link_now.device->counters->rx_dropped, 1);
    CHECK(link_now.device->counters->rx_no_frame > 0);
    while (count > 0)
        un_pool_drop(&pool, held[--count]);
    far_sends(far, &super, at + 65000);
    CHECK_EQ(fixture_receive(&link_now, got, &packet), at + 65000);
    CHECK_EQ(link_now.device->counters->rx_dropped, 1);
    close(far);
    close_device();
}

/* The kernel's TCP. */

struct connection {
    int listener;
    int kernel; /* its socket */
    uint32_t seq;
    uint32_t ack;
    uint8_t scale;   /* of its windows */
    uint32_t allows; /* the sequence number behind its window */
};

#define DEADLINE_MS 10000 /* only a failure waits so long */

static int listen_in_kernel(void)
{
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(PORT)};
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    int one = 1, fd = socket(family->is_v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one), 0);
    CHECK_EQ(family->is_v6 ? bind(fd, (struct sockaddr *)&v6, sizeof v6) : bind(fd, (struct sockaddr *)&v4, sizeof v4),
             0);
    CHECK_EQ(listen(fd, 1), 0);
    return fd;
}

static void send_seg(const struct connection *connection, uint8_t flags, uint32_t length, uint16_t tx_flags)
{
    struct un_seg seg = {.seq = connection->seq, .ack = connection->ack, .length = length, .wnd = 65535, .flags = flags,
                         .source_port = OUR_PORT, .destination_port = PORT};
    if (flags & UN_TCP_SYN) {
        seg.options = UN_SEG_MSS | UN_SEG_WSCALE;
        seg.mss = SEGMENT;
        seg.wscale = 7;
    }
    uint32_t at = emit_headers(&seg, true);
    fill(bytes + at, length, connection->seq);
    submit(at, at + length, tx_flags);
}

/* The next TCP segment for us; what else the kernel says (neighbours, multicast) is skipped. Its payload's offset. */
static uint32_t next_seg(struct un_seg *seg, struct un_rx *told)
{
    struct un_packet packet;
    for (;;) {
        uint32_t length = fixture_receive(&link_now, got, told);
        CHECK(length > 0);
        struct iovec piece = {got, length};
        if (un_packet_parse(&packet, &piece, 1) != UN_DROP_NONE || packet.protocol != UN_PROTOCOL_TCP)
            continue;
        CHECK_EQ(un_seg_parse(seg, got + packet.transport, packet.transport_length, packet.transport_length),
                 UN_DROP_NONE);
        CHECK_EQ(told->flags, UN_RX_CHECKSUM_GOOD);
        return packet.transport + seg->header_length;
    }
}

static void connect_to_kernel(struct connection *connection)
{
    struct un_seg seg;
    struct un_rx told;
    open_device(512);
    give_the_kernel_an_address();
    connection->listener = listen_in_kernel();
    connection->seq = 1000;
    connection->ack = 0;
    send_seg(connection, UN_TCP_SYN, 0, UN_TX_CHECKSUM);
    next_seg(&seg, &told);
    CHECK_EQ(seg.flags, UN_TCP_SYN | UN_TCP_ACK);
    connection->seq = 1001;
    CHECK_EQ(seg.ack, connection->seq);
    connection->ack = seg.seq + 1;
    connection->scale = seg.options & UN_SEG_WSCALE ? seg.wscale : 0;
    connection->allows = seg.ack + seg.wnd;
    send_seg(connection, UN_TCP_ACK, 0, UN_TX_CHECKSUM);
    connection->kernel = accept(connection->listener, NULL, NULL);
    CHECK(connection->kernel >= 0);
}

static void end_connection(struct connection *connection)
{
    send_seg(connection, UN_TCP_RST | UN_TCP_ACK, 0, UN_TX_CHECKSUM);
    close(connection->kernel);
    close(connection->listener);
    close_device();
}

/* How much the kernel takes now, at least two segments of `length`: how fast its window opens is its own affair. */
static uint32_t room_for(struct connection *connection, uint32_t length)
{
    uint32_t least = length < 2 * SEGMENT ? length : 2 * SEGMENT;
    while ((int32_t)(connection->allows - connection->seq - least) < 0) {
        struct un_seg seg;
        struct un_rx told;
        next_seg(&seg, &told);
        uint32_t allows = seg.ack + (seg.wnd << connection->scale);
        connection->allows = (int32_t)(allows - connection->allows) > 0 ? allows : connection->allows;
    }
    uint32_t room = connection->allows - connection->seq;
    return room < length ? room : length;
}

/* What the kernel's socket reads is what stands at connection->seq, which moves behind it. */
static void kernel_reads(struct connection *connection, uint32_t length)
{
    static uint8_t read_bytes[60000];
    for (uint32_t end = connection->seq + length; connection->seq != end;) {
        struct pollfd events = {.fd = connection->kernel, .events = POLLIN};
        CHECK(poll(&events, 1, DEADLINE_MS) == 1);
        ssize_t now = recv(connection->kernel, read_bytes, end - connection->seq, 0);
        CHECK(now > 0);
        CHECK(is_filled(read_bytes, (uint32_t)now, connection->seq));
        connection->seq += (uint32_t)now;
    }
}

static void the_kernel_takes_super_segments(void)
{
    struct connection connection;
    connect_to_kernel(&connection);
    for (uint32_t left = 250000; left > 0;) {
        uint32_t length = room_for(&connection, left < 60000 ? left : 60000);
        send_seg(&connection, UN_TCP_ACK | UN_TCP_PSH, length, UN_TX_SEGMENT);
        kernel_reads(&connection, length);
        left -= length;
    }
    end_connection(&connection);
}

static void a_checksum_left_undone_without_saying_so_is_refused_by_the_kernel(void)
{
    struct connection connection;
    connect_to_kernel(&connection);
    send_seg(&connection, UN_TCP_ACK | UN_TCP_PSH, 500, 0);
    CHECK_EQ(recv(connection.kernel, got, sizeof got, MSG_DONTWAIT), (uint64_t)-1);
    CHECK_EQ(errno, EAGAIN);
    send_seg(&connection, UN_TCP_ACK | UN_TCP_PSH, 500, UN_TX_CHECKSUM);
    kernel_reads(&connection, 500);
    end_connection(&connection);
}

static void the_kernel_sends_super_segments(void)
{
    enum { TOTAL = 1 << 20 };
    static uint8_t written[TOTAL];
    struct connection connection;
    int buffer = 2 * TOTAL; /* takes all at once: room that an acknowledgement makes is there at the kernel's time */
    uint32_t largest = 0, came = 0;
    connect_to_kernel(&connection);
    uint32_t start = connection.ack;
    fill(written, TOTAL, start);
    CHECK_EQ(setsockopt(connection.kernel, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer), 0);
    CHECK_EQ(send(connection.kernel, written, TOTAL, MSG_DONTWAIT), TOTAL);
    while (came < TOTAL) {
        struct un_seg seg;
        struct un_rx told;
        uint32_t at = next_seg(&seg, &told);
        if (seg.length == 0)
            continue;
        if (seg.seq != start + came) { /* sent again because we were slow; a receiver says so at once */
            send_seg(&connection, UN_TCP_ACK, 0, UN_TX_CHECKSUM);
            continue;
        }
        CHECK(is_filled(got + at, seg.length, seg.seq));
        CHECK(seg.length <= SEGMENT || told.segment_bytes == SEGMENT);
        largest = seg.length > largest ? seg.length : largest;
        came += seg.length;
        connection.ack = start + came;
        send_seg(&connection, UN_TCP_ACK, 0, UN_TX_CHECKSUM);
    }
    CHECK(largest >= 2 * SEGMENT); /* how much larger is up to its pacing, and that to the machine's speed */
    end_connection(&connection);
}

static void run_all(const struct family *which)
{
    family = which;
    printf("# %s\n", family->is_v6 ? "IPv6" : "IPv4");
    RUN(a_sent_super_segment_is_one_to_the_kernel);
    RUN(one_segment_is_not_cut_and_a_whole_checksum_is_left_alone);
    RUN(a_coalesced_packet_is_a_chain_and_says_its_parts);
    RUN(with_few_frames_small_packets_pass_and_large_ones_are_counted);
    RUN(the_kernel_takes_super_segments);
    RUN(a_checksum_left_undone_without_saying_so_is_refused_by_the_kernel);
    RUN(the_kernel_sends_super_segments);
}

int main(void)
{
    tap_enter_namespace();
    run_all(&ipv4);
    if (access("/proc/sys/net/ipv6", F_OK) == 0)
        run_all(&ipv6);
    return 0;
}
