/* Our stack as the server (server.h). */
#include "server.h"

#include <string.h>

#include "base/assert.h"
#include "client.h"

enum { CHUNK = 65536, PIECES = 64 };

static struct {
    struct host host;
    enum server_work work;
    uint64_t received;
    struct un_stack_event held;
    uint64_t source; /* the connection that is poured into; 0: none yet */
} server;

static void start(struct un_device *device, struct host_size size, enum server_work work)
{
    struct un_ip ip = host_address(0, 1), any = {{0}};
    memset(&server, 0, sizeof server);
    server.work = work;
    host_start(&server.host, device, size, 2);
    un_assert(un_stack_add_address(&server.host.stack, &ip, 16) >= 0);
    for (uint16_t port = SERVER_PORT; port < SERVER_PORT + SERVER_PORTS; port++)
        un_assert(un_stack_listen(&server.host.stack, &any, port, size.connections, 0) >= 0);
}

static void accept_one(uint64_t conn)
{
    un_stack_accept(&server.host.stack, conn, 0);
    un_stack_set_option(&server.host.stack, conn, UN_OPTION_NODELAY, 1);
    if (server.work == SERVER_SOURCE)
        server.source = conn;
}

static void sink(uint64_t conn)
{
    struct un_piece pieces[PIECES];
    for (int count; (count = un_stack_peek(&server.host.stack, conn, pieces, PIECES)) > 0;) {
        uint32_t bytes = 0;
        for (int i = 0; i < count; i++)
            bytes += pieces[i].length;
        un_assert(un_stack_consume(&server.host.stack, conn, bytes) == 0);
        server.received += bytes;
    }
}

static void pour(void)
{
    static const uint8_t chunk[CHUNK];
    struct un_piece piece = {chunk, CHUNK, UN_NONE};
    un_stack_write(&server.host.stack, server.source, &piece, 1);
}

static void serve_events(void)
{
    struct un_stack_event event;
    while (un_stack_next_event(&server.host.stack, &event)) {
        if (event.events & UN_TCP_EVENT_ACCEPTED)
            accept_one(event.conn);
        if (!(event.events & UN_TCP_EVENT_READABLE))
            continue;
        if (server.work == SERVER_ECHO)
            host_echo(&server.host, event.conn);
        else
            sink(event.conn);
    }
    if (server.source)
        pour();
}

static void serve(void)
{
    host_turn(&server.host);
    serve_events();
    host_flush(&server.host);
}

static __attribute__((noinline)) void measured_turn_usnet(void)
{
    serve();
}

static __attribute__((noinline)) bool measured_segment_usnet(void)
{
    host_turn(&server.host);
    return un_stack_next_event(&server.host.stack, &server.held);
}

static void segment(void)
{
    un_assert(measured_segment_usnet());
}

static void let_go(void)
{
    un_assert(un_stack_consume(&server.host.stack, server.held.conn, MESSAGE_BYTES) == 0);
    host_turn(&server.host);
}

static uint64_t received(void)
{
    return server.received;
}

static void stop(void)
{
    host_stop(&server.host);
}

const struct server server_usnet = {
    .name = "usnet",
    .connections_max = 1000000,
    .start = start,
    .serve = serve,
    .turn = measured_turn_usnet,
    .segment = segment,
    .let_go = let_go,
    .received = received,
    .stop = stop,
};
