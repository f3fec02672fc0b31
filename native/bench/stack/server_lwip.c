/* lwIP as the server (server.h). Its timers do not run: in what is measured nothing is lost and no ACK is waited for,
 * and without them it is spared the clock and, four times a second, a walk through all connections. */
#include "server.h"

#include <lwip/tcp.h>
#include <string.h>

#include "base/assert.h"
#include "client.h"
#include "lwip_echo.h"
#include "lwip_wire.h"

enum { ADDRESS = 10 << 24 | 1, PREFIX = 16, CHUNK = 32768, FRAMES_MAX = 16384 };

static struct {
    struct lwip_wire *wire;
    struct tcp_pcb *listener;
    enum server_work work;
    uint64_t received;
    struct tcp_pcb *pcb; /* that data came on last */
    struct pbuf *held;
    struct tcp_pcb *source;
} server;

static err_t take(void *argument, struct tcp_pcb *pcb, struct pbuf *pbuf, err_t error)
{
    (void)argument, (void)error;
    if (!pbuf)
        return tcp_close(pcb);
    server.pcb = pcb;
    if (server.work == SERVER_HOLD) {
        un_assert(server.held == NULL);
        server.held = pbuf;
        return ERR_OK;
    }
    server.received += pbuf->tot_len;
    tcp_recved(pcb, pbuf->tot_len);
    pbuf_free(pbuf);
    return ERR_OK;
}

static err_t accept_one(void *argument, struct tcp_pcb *pcb, err_t error)
{
    (void)argument;
    un_assert(error == ERR_OK);
    tcp_nagle_disable(pcb);
    tcp_recv(pcb, take);
    if (server.work == SERVER_SOURCE)
        server.source = pcb;
    return ERR_OK;
}

static struct tcp_pcb *listen_here(void)
{
    struct tcp_pcb *pcb = tcp_new();
    un_assert(pcb && tcp_bind(pcb, IP4_ADDR_ANY, SERVER_PORT) == ERR_OK);
    struct tcp_pcb *listener = tcp_listen(pcb);
    if (listener)
        tcp_accept(listener, accept_one);
    return listener;
}

static void start(struct un_device *device, struct host_size size, enum server_work work)
{
    memset(&server, 0, sizeof server);
    server.work = work;
    server.wire = lwip_wire_open(device, size.frames < FRAMES_MAX ? size.frames : FRAMES_MAX, ADDRESS, PREFIX);
    un_assert(server.wire != NULL);
    server.listener = work == SERVER_ECHO ? lwip_echo_open(SERVER_PORT) : listen_here();
    un_assert(server.listener != NULL);
}

static void pour(void)
{
    static const uint8_t chunk[CHUNK];
    u32_t room = tcp_sndbuf(server.source);
    if (room > 0)
        tcp_write(server.source, chunk, (u16_t)(room < CHUNK ? room : CHUNK), TCP_WRITE_FLAG_COPY);
    tcp_output(server.source);
}

static void serve(void)
{
    lwip_wire_poll(server.wire);
    if (server.source)
        pour();
}

static __attribute__((noinline)) void measured_turn_lwip(void)
{
    serve();
}

static __attribute__((noinline)) void measured_segment_lwip(void)
{
    lwip_wire_poll(server.wire);
}

static void segment(void)
{
    measured_segment_lwip();
    un_assert(server.held != NULL);
}

static void let_go(void)
{
    tcp_recved(server.pcb, server.held->tot_len);
    pbuf_free(server.held);
    server.held = NULL;
    lwip_wire_poll(server.wire);
}

static uint64_t received(void)
{
    return server.received;
}

static void stop(void)
{
    lwip_wire_close(server.wire);
    tcp_close(server.listener);
}

const struct server server_lwip = {
    .name = "lwip",
    .connections_max = 10000, /* each packet is looked up in a list of all connections */
    .start = start,
    .serve = serve,
    .turn = measured_turn_lwip,
    .segment = segment,
    .let_go = let_go,
    .received = received,
    .stop = stop,
};
