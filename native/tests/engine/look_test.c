/* What an engine says when it is looked at (look.h): it is what the stack or the socket knows, of no more entries than
 * fit into a slice, and nothing of what is gone. */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "engine/look.h"
#include "server.h"
#include "stack/neighbour_table.h"

enum { ROUTES = 200 };

static int file;

static void open_file(const uint64_t *ids, size_t count)
{
    CHECK((file = memfd_create("look", MFD_CLOEXEC)) >= 0);
    CHECK_EQ(write(file, ids, count * sizeof *ids), count * sizeof *ids);
    CHECK_EQ(lseek(file, 0, SEEK_SET), 0);
}

/* What was written behind the first `skip` words. */
static void read_entries(size_t skip, void *entries, size_t bytes)
{
    CHECK_EQ(pread(file, entries, bytes, (off_t)(skip * sizeof(uint64_t))), bytes);
    close(file);
}

static const struct un_tcb *tcb_of(uint64_t conn)
{
    return &server.engine->link->stack.tcp.tcbs[server.engine->works[UN_ID_SLOT(conn)].handle];
}

static void a_connection_is_as_the_stack_has_it(void)
{
    struct un_look_conn entry;
    uint64_t position = 0;
    server_open();
    client_send(server.clients[1], 300);
    server_turn();
    open_file(&server.conns[1], 1);
    CHECK_EQ(un_look(server.engine, UN_LOOK_CONNS, file, &position), 1);
    CHECK_EQ(position, UN_LOOK_END);
    read_entries(1, &entry, sizeof entry);
    CHECK_EQ(entry.id, server.conns[1]);
    CHECK_EQ(entry.tcp_state, UN_TCP_ESTABLISHED);
    CHECK_EQ(entry.unconsumed, 300);
    CHECK_EQ(entry.snd_mss, tcb_of(server.conns[1])->snd_mss);
    CHECK_EQ(entry.cwnd, tcb_of(server.conns[1])->cwnd);
    CHECK_EQ(entry.ssthresh, UN_LOOK_UNKNOWN);
    CHECK_EQ(strcmp((const char *)&entry.congestion_first, "cubic"), 0);
    server_close();
}

/* Ids that never were, and one of a connection that is over. */
static void of_what_is_gone_nothing_is_said(void)
{
    struct un_look_conn entry;
    uint64_t position = 0;
    server_open();
    CHECK(un_port_command(&server.worker, UN_COMMAND_ABORT, server.conns[0], UN_REASON_ABORTED));
    un_port_commit(&server.worker);
    server_turn();
    const uint64_t ids[] = {server.conns[0], 0, UINT64_MAX, server.conns[1] + 1, server.conns[1]};
    open_file(ids, 5);
    CHECK_EQ(un_look(server.engine, UN_LOOK_CONNS, file, &position), 1);
    read_entries(5, &entry, sizeof entry);
    CHECK_EQ(entry.id, server.conns[1]);
    server_close();
}

static void no_more_ids_are_read_than_fit(void)
{
    static struct un_look_conn entries[UN_LOOK_ENTRIES];
    uint64_t ids[UN_LOOK_ENTRIES + 1], position = 0;
    server_open();
    for (uint32_t i = 0; i < UN_LOOK_ENTRIES; i++)
        ids[i] = server.conns[0];
    ids[UN_LOOK_ENTRIES] = server.conns[1];
    open_file(ids, UN_LOOK_ENTRIES + 1);
    CHECK_EQ(un_look(server.engine, UN_LOOK_CONNS, file, &position), UN_LOOK_ENTRIES);
    read_entries(UN_LOOK_ENTRIES, entries, sizeof entries); /* behind what was read: the last id is overwritten */
    CHECK_EQ(entries[UN_LOOK_ENTRIES - 1].id, server.conns[0]);
    server_close();
}

static void a_neighbour_has_its_address(void)
{
    struct un_look_neighbour entry;
    uint64_t position = 0;
    server_open();
    open_file(NULL, 0);
    CHECK_EQ(un_look(server.engine, UN_LOOK_NEIGHBOURS, file, &position), 1);
    CHECK_EQ(position, UN_LOOK_END);
    read_entries(0, &entry, sizeof entry);
    CHECK_EQ(memcmp(&entry.mac, server.wire[1]->capabilities.mac, UN_MAC_BYTES), 0);
    CHECK_EQ(memcmp((uint8_t *)&entry.ip_first + 12, (uint8_t[]){10, 0, 0, 2}, 4), 0);
    const struct un_ip ip = un_ip_from_v4((uint8_t[]){10, 0, 0, 2});
    CHECK_EQ(entry.state, un_neighbour_find(&server.engine->link->stack, &ip)->state);
    server_close();
}

static void routes_begin_with_the_prefix_of_each_address(void)
{
    struct un_look_route routes[3]; /* of IPv6 there is the link-local address */
    struct un_look_address addresses[2];
    const uint8_t any[4] = {0}, router[4] = {10, 0, 0, 254};
    const struct un_ip all = un_ip_from_v4(any), gateway = un_ip_from_v4(router);
    uint64_t position = 0;
    server_open();
    CHECK_EQ(un_stack_add_route(&server.engine->link->stack, &all, 0, &gateway), 0);
    open_file(NULL, 0);
    CHECK_EQ(un_look(server.engine, UN_LOOK_ROUTES, file, &position), 3);
    read_entries(0, routes, sizeof routes);
    CHECK_EQ(routes[0].origin, UN_LOOK_LINK);
    CHECK_EQ(routes[0].prefix, 24);
    CHECK_EQ(routes[2].origin, UN_LOOK_CONFIGURED);
    CHECK_EQ(memcmp((uint8_t *)&routes[2].gateway_first + 12, router, 4), 0);
    open_file(NULL, 0);
    position = 0;
    CHECK_EQ(un_look(server.engine, UN_LOOK_ADDRESSES, file, &position), 2);
    read_entries(0, addresses, sizeof addresses);
    CHECK_EQ(addresses[0].state, server.engine->link->stack.own->addresses[0].state);
    CHECK_EQ(addresses[0].claimed_by, UN_LOOK_UNKNOWN);
    server_close();
}

/* More than a slice has room for, and in their order. */
static void routes_of_a_shared_interface_are_the_kernels(void)
{
    static struct un_kernel_route routes[ROUTES];
    static struct un_look_route entries[ROUTES];
    const struct un_kernel_news news = {.routes = routes, .route_count = ROUTES};
    uint64_t position = 0;
    for (uint32_t i = 0; i < ROUTES; i++)
        routes[i] = (struct un_kernel_route){
            .network = un_ip_from_v4((uint8_t[]){10, 1, (uint8_t)i, 0}), .prefix = 24, .is_elsewhere = i % 2};
    server_open_shared();
    un_kernel_write(server.kernel, &news);
    open_file(NULL, 0);
    CHECK_EQ(un_look(server.engine, UN_LOOK_ROUTES, file, &position), UN_LOOK_ENTRIES);
    CHECK_EQ(position, UN_LOOK_ENTRIES);
    CHECK_EQ(un_look(server.engine, UN_LOOK_ROUTES, file, &position), ROUTES - UN_LOOK_ENTRIES);
    CHECK_EQ(position, UN_LOOK_END);
    read_entries(0, entries, sizeof entries);
    for (uint32_t i = 0; i < ROUTES; i++) {
        CHECK_EQ(((uint8_t *)&entries[i].network_first)[14], i);
        CHECK_EQ(entries[i].origin, UN_LOOK_KERNEL);
        CHECK_EQ(entries[i].is_elsewhere, i % 2);
    }
    server_close();
}

static void nonsense_is_refused(void)
{
    uint64_t position = UINT64_MAX;
    server_open();
    open_file(NULL, 0);
    CHECK_EQ(un_look(server.engine, UN_LOOK_KINDS, file, &position), -EINVAL);
    CHECK_EQ(un_look(server.engine, UN_LOOK_CONNS, -1, &position), -EBADF);
    position = UINT64_MAX;
    CHECK_EQ(un_look(server.engine, UN_LOOK_NEIGHBOURS, file, &position), 0);
    CHECK_EQ(position, UN_LOOK_END);
    close(file);
    server_close();
}

/* Sockets of the kernel's. */

static void connect_pair(int *ends)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQ(bind(listener, (struct sockaddr *)&address, length), 0);
    CHECK_EQ(listen(listener, 1), 0);
    CHECK_EQ(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    ends[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK_EQ(connect(ends[1], (struct sockaddr *)&address, length), 0);
    CHECK((ends[0] = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0);
    close(listener);
}

static void a_socket_is_as_the_kernel_has_it(void)
{
    static const uint8_t bytes[1000];
    struct un_look_conn entry = {0};
    int ends[2];
    connect_pair(ends);
    CHECK_EQ(send(ends[1], bytes, sizeof bytes, 0), sizeof bytes);
    un_kernel_look(NULL, ends[0], &entry);
    CHECK_EQ(entry.tcp_state, UN_TCP_ESTABLISHED);
    CHECK_EQ(entry.unread, sizeof bytes);
    CHECK_EQ(entry.unacknowledged, 0);
    CHECK(entry.snd_mss > 1000 && entry.snd_mss < entry.path_mtu);
    CHECK_EQ(entry.cwnd % entry.snd_mss, 0);
    CHECK_EQ(entry.ssthresh, UN_LOOK_UNKNOWN);
    CHECK(entry.rto_us >= entry.srtt_us);
    CHECK(entry.snd_wnd > sizeof bytes); /* the kernel says so since 5.4, or it is not known */
    CHECK(entry.congestion_first != 0);
    CHECK_EQ(shutdown(ends[1], SHUT_WR), 0);
    un_kernel_look(NULL, ends[0], &entry);
    CHECK_EQ(entry.tcp_state, UN_TCP_CLOSE_WAIT);
    close(ends[0]);
    close(ends[1]);
}

static void a_unix_socket_has_queues_alone(void)
{
    struct un_look_conn entry = {0};
    int ends[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    CHECK_EQ(send(ends[1], "hello", 5, 0), 5);
    un_kernel_look(NULL, ends[0], &entry);
    CHECK_EQ(entry.tcp_state, 0);
    CHECK_EQ(entry.unread, 5);
    CHECK_EQ(entry.unacknowledged, UN_LOOK_UNKNOWN);
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    RUN(a_connection_is_as_the_stack_has_it);
    RUN(of_what_is_gone_nothing_is_said);
    RUN(no_more_ids_are_read_than_fit);
    RUN(a_neighbour_has_its_address);
    RUN(routes_begin_with_the_prefix_of_each_address);
    RUN(routes_of_a_shared_interface_are_the_kernels);
    RUN(nonsense_is_refused);
    RUN(a_socket_is_as_the_kernel_has_it);
    RUN(a_unix_socket_has_queues_alone);
    return 0;
}
