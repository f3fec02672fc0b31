/* Packets and time by hand, and sockets beside them: how a harness plays a peer to this stack (packetdrill does so).
 *
 * A client's SYN is written byte by byte, the answer is taken apart; the connection is accepted as from any listener;
 * what the server writes is never acknowledged, so that it comes again once the clock of this program has moved on.
 * Nothing here waits, and nothing needs a privilege. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "usnet.h"

enum { SYN = 2, ACK = 16, PORT = 80, ETHERNET = 14, IPV4 = 20, TCP = 20 };

static const uint8_t our_mac[6] = {2, 0, 0, 0, 0, 1}, peer_mac[6] = {2, 0, 0, 0, 0, 2};
static const uint8_t our_ip[4] = {10, 0, 0, 1}, peer_ip[4] = {10, 0, 0, 2};

static uint64_t now_ns;

static uint64_t clock_ns(void *argument)
{
    (void)argument;
    return now_ns;
}

static void check(int64_t status, const char *what)
{
    if (status >= 0)
        return;
    fprintf(stderr, "packets: %s: %s\n", what, strerror((int)-status));
    exit(1);
}

static void put(uint8_t *at, uint32_t value, int bytes)
{
    while (bytes-- > 0)
        *at++ = (uint8_t)(value >> 8 * bytes);
}

static uint32_t get(const uint8_t *at, int bytes)
{
    uint32_t value = 0;
    while (bytes-- > 0)
        value = value << 8 | *at++;
    return value;
}

static uint16_t sum(const uint8_t *bytes, int length, uint32_t start)
{
    for (int i = 0; i < length; i += 2)
        start += get(bytes + i, 2);
    while (start >> 16)
        start = (start & 0xffff) + (start >> 16);
    return (uint16_t)start;
}

/* The peer asks for our MAC address, and so tells us its own: it need not answer ARP later. */
static void introduce(struct usnet_device *device)
{
    uint8_t frame[42] = {255, 255, 255, 255, 255, 255, [12] = 8, 6, 0, 1, 8, 0, 6, 4, 0, 1};
    memcpy(frame + 6, peer_mac, 6);
    memcpy(frame + 22, peer_mac, 6);
    memcpy(frame + 28, peer_ip, 4);
    memcpy(frame + 38, our_ip, 4);
    check(usnet_device_input(device, frame, sizeof frame, 0, 0), "ARP");
}

/* A segment without options and payload from the peer's port 40000. */
static void send_segment(struct usnet_device *device, int flags, uint32_t seq, uint32_t ack)
{
    uint8_t frame[ETHERNET + IPV4 + TCP] = {[12] = 8, 0, 0x45, [22] = 64, IPPROTO_TCP}, *ip = frame + ETHERNET,
                                    *tcp = ip + IPV4;
    memcpy(frame, our_mac, 6);
    memcpy(frame + 6, peer_mac, 6);
    put(ip + 2, IPV4 + TCP, 2);
    memcpy(ip + 12, peer_ip, 4);
    memcpy(ip + 16, our_ip, 4);
    put(ip + 10, 0xffffu - sum(ip, IPV4, 0), 2);
    put(tcp, 40000, 2);
    put(tcp + 2, PORT, 2);
    put(tcp + 4, seq, 4);
    put(tcp + 8, ack, 4);
    put(tcp + 12, 5u << 12 | (uint32_t)flags, 2);
    put(tcp + 14, 65535, 2);
    put(tcp + 16, 0xffffu - sum(tcp, TCP, IPPROTO_TCP + TCP + sum(ip + 12, 8, 0)), 2);
    check(usnet_device_input(device, frame, sizeof frame, 0, 0), "input");
}

/* Turns until a TCP segment comes out: its TCP header in `frame`. Everything else is what any host says on a link. */
static const uint8_t *next_segment(struct usnet *context, struct usnet_device *device, uint8_t frame[2048])
{
    while (usnet_poll(context) > 0)
        continue;
    while (usnet_device_output(device, frame, 2048, NULL) > 0)
        if (get(frame + 12, 2) == 0x0800 && frame[ETHERNET + 9] == IPPROTO_TCP)
            return frame + ETHERNET + IPV4;
    return NULL;
}

/* The next one, however long it takes: time goes on to whenever the stack wants to be polled next. */
static const uint8_t *expect(struct usnet *context, struct usnet_device *device, int flags)
{
    static uint8_t frame[2048];
    const uint8_t *tcp;
    while (!(tcp = next_segment(context, device, frame)) && usnet_deadline_ns(context) != UINT64_MAX)
        now_ns = usnet_deadline_ns(context);
    if (!tcp || (tcp[13] & (SYN | ACK)) != flags)
        check(-EPROTO, "another segment was expected");
    printf("%9.3f ms  seq %10u  %u bytes\n", (double)now_ns / 1e6, get(tcp + 4, 4),
           get(frame + ETHERNET + 2, 2) - IPV4 - 4u * (tcp[12] >> 4));
    return tcp;
}

int main(void)
{
    const struct usnet_link link = {.mac = {2, 0, 0, 0, 0, 1}, .mtu = 1500, .slots = 64};
    const struct sockaddr_in local = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    struct usnet_device *device = usnet_device_hand(&link);
    struct usnet_setup_options options;
    usnet_setup_defaults(&options, 16);
    options.clock_ns = clock_ns;
    options.stack.accept_router_advertisements = false; /* no packets about routers */
    struct usnet *context = usnet_setup(&options, device, NULL);
    if (!context)
        check(-errno, "setup");
    check(usnet_add_address(context, "10.0.0.1/24"), "address");
    int listener = usnet_socket(context, AF_INET, SOCK_STREAM, 0);
    check(usnet_bind(context, listener, (const struct sockaddr *)&local, sizeof local), "bind");
    check(usnet_listen(context, listener, 8), "listen");

    introduce(device);
    send_segment(device, SYN, 1000, 0);
    uint32_t iss = get(expect(context, device, SYN | ACK) + 4, 4);
    send_segment(device, ACK, 1001, iss + 1);
    usnet_poll(context);
    int fd = usnet_accept(context, listener, NULL, NULL);
    check(fd, "accept");
    check(usnet_write(context, fd, "hello", 5), "write");
    for (int i = 0; i < 4; i++)
        expect(context, device, ACK); /* the first transmission and three more, each after twice the time */
    usnet_teardown(context);
    return 0;
}
