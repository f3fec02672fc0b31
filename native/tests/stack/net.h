/* Hosts on wires of this process, in virtual time. After every turn the whole arena is checked. */
#ifndef UN_TEST_NET_H
#define UN_TEST_NET_H

#include "check.h"
#include "stack/stack.h"

#define NET_SECOND UN_SECOND_NS

struct host {
    struct un_stack stack;
    void *arena;
    uint64_t bytes;
    struct un_device *device;
    const struct un_kernel_table *kernel; /* of shared addresses; else NULL */
};

struct net {
    uint64_t now_ns;
    struct host *hosts[4];
    int count;
};

/* A small configuration: 64 connections, 512 frames. */
struct un_stack_config net_config(void);
struct un_device_capabilities net_capabilities(uint8_t number);

void host_make(struct host *host, const struct un_stack_config *config, struct un_device *device);
/* 10.0.0.number/24 and fd00::number/64. */
void host_address(struct host *host, uint8_t number);
/* Go on at another address, as another process would. */
void host_move(struct host *host);
void host_close(struct host *host); /* nothing may be left: frames, records, connections (but TIME-WAIT) */

void net_pair(struct net *net, struct host *left, struct host *right); /* over a wire, addresses 1 and 2 */
/* The same over devices that complete checksums and cut super-segments, with so many frames each. */
void net_pair_offloads(struct net *net, struct host *left, struct host *right, uint32_t frames);
/* Turns until nothing is to be done; then to the next deadline, until so much time has passed. */
void net_run(struct net *net, uint64_t duration_ns);
void net_settle(struct net *net); /* without time passing */

struct un_ip ip4(uint8_t a, uint8_t b, uint8_t c, uint8_t d);
struct un_ip ip6(uint8_t number); /* fd00::number */

/* The next event, which has to be for this connection (0: any) and to have these bits. */
struct un_stack_event expect_event(struct host *host, uint32_t events);
void expect_no_event(struct host *host);

/* A connection from left to right, both ends established; the listener's number in *listener. */
struct pair {
    uint64_t client;
    uint64_t server;
};
struct pair connect_pair(struct net *net, struct host *client, struct host *server, const struct un_ip *to,
                         uint16_t port);

int64_t write_bytes(struct host *host, uint64_t conn, const void *bytes, uint32_t length);

#endif
