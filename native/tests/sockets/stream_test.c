/* Stream sockets from the first call to the last: names, ports, backlogs, failures, and much data. */
#include "api/context.h"
#include "world.h"

static void bytes_over(int domain)
{
    struct sockaddr_in6 to6 = ipv6(SERVER, PORT), any6 = {.sin6_family = AF_INET6, .sin6_port = htons(PORT)}, name;
    struct sockaddr_in to4 = ipv4(SERVER, PORT);
    uint32_t length = sizeof name;
    world_open();
    struct usnet *client = world.sides[CLIENT], *server = world.sides[SERVER];
    int listener = usnet_socket(server, AF_INET6, SOCK_STREAM, 0), fd = usnet_socket(client, domain, SOCK_STREAM, 0);
    CHECK_EQ(usnet_bind(server, listener, ADDRESS(any6)), 0);
    CHECK_EQ(usnet_listen(server, listener, 4), 0);
    if (domain == AF_INET6)
        CHECK_EQ(usnet_connect(client, fd, ADDRESS(to6)), -EINPROGRESS);
    else
        CHECK_EQ(usnet_connect(client, fd, ADDRESS(to4)), -EINPROGRESS);
    CHECK_EQ(usnet_getpeername(client, fd, (struct sockaddr *)&name, &length), -ENOTCONN);
    world_settle();
    int accepted = usnet_accept(server, listener, (struct sockaddr *)&name, &length);
    CHECK(accepted >= 0);
    CHECK_EQ(length, sizeof name);
    CHECK_EQ(name.sin6_family, AF_INET6);
    CHECK_EQ(IN6_IS_ADDR_V4MAPPED(&name.sin6_addr), domain == AF_INET);
    CHECK_EQ(name.sin6_addr.s6_addr[15], 1);
    uint16_t port = name.sin6_port;
    CHECK_EQ(usnet_getsockname(server, accepted, (struct sockaddr *)&name, &length), 0);
    CHECK_EQ(ntohs(name.sin6_port), PORT);
    CHECK_EQ(name.sin6_addr.s6_addr[15], 2);
    CHECK_EQ(usnet_getsockname(client, fd, (struct sockaddr *)&name, &length), 0);
    CHECK_EQ(name.sin6_port, port); /* where sockaddr_in has it, too */
    CHECK_EQ(world_write(CLIENT, fd, "hello"), 5);
    world_settle();
    world_expect(SERVER, accepted, "hello");
    world_close();
}

static void bytes_over_ipv4(void)
{
    bytes_over(AF_INET);
}

static void bytes_over_ipv6(void)
{
    bytes_over(AF_INET6);
}

static void a_short_room_for_a_name(void)
{
    uint8_t name[sizeof(struct sockaddr_in)];
    uint32_t length = 3;
    world_open();
    struct ends ends = world_connect(world_listen(PORT, 4), PORT);
    memset(name, 0xee, sizeof name);
    CHECK_EQ(usnet_getpeername(world.sides[CLIENT], ends.client, (struct sockaddr *)name, &length), 0);
    CHECK_EQ(length, sizeof name);
    CHECK_EQ(name[3], 0xee);
    world_close();
}

static void a_port_that_is_free(void)
{
    struct sockaddr_in name;
    uint32_t length = sizeof name;
    world_open();
    struct usnet *server = world.sides[SERVER];
    uint16_t ports[3];
    for (int i = 0; i < 3; i++) {
        int fd = usnet_socket(server, AF_INET, SOCK_STREAM, 0);
        struct sockaddr_in any = ipv4(SERVER, 0);
        if (i > 0)
            CHECK_EQ(usnet_bind(server, fd, ADDRESS(any)), 0);
        CHECK_EQ(usnet_listen(server, fd, 1), 0);
        CHECK_EQ(usnet_getsockname(server, fd, (struct sockaddr *)&name, &length), 0);
        ports[i] = ntohs(name.sin_port);
        CHECK(ports[i] >= 49152);
    }
    CHECK(ports[0] != ports[1] && ports[1] != ports[2]);
    world_close();
}

static void addresses_that_cannot_be_had(void)
{
    struct sockaddr_in own = ipv4(SERVER, PORT), foreign = ipv4(CLIENT, PORT);
    struct sockaddr_in6 other_family = ipv6(SERVER, PORT);
    world_open();
    world_listen(PORT, 4);
    struct usnet *server = world.sides[SERVER];
    int fd = usnet_socket(server, AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(usnet_bind(server, fd, ADDRESS(foreign)), -EADDRNOTAVAIL);
    CHECK_EQ(usnet_bind(server, fd, ADDRESS(other_family)), -EAFNOSUPPORT);
    CHECK_EQ(usnet_bind(server, fd, (struct sockaddr *)&own, 3), -EINVAL);
    CHECK_EQ(usnet_bind(server, fd, ADDRESS(own)), 0);
    CHECK_EQ(usnet_bind(server, fd, ADDRESS(own)), -EINVAL);
    CHECK_EQ(usnet_listen(server, fd, 4), -EADDRINUSE);
    world_close();
}

static void a_port_of_our_own_choice(void)
{
    struct sockaddr_in from = ipv4(CLIENT, 1234), to = ipv4(SERVER, PORT), name;
    uint32_t length = sizeof name;
    world_open();
    int listener = world_listen(PORT, 4);
    int fds[2];
    for (int i = 0; i < 2; i++) {
        fds[i] = usnet_socket(world.sides[CLIENT], AF_INET, SOCK_STREAM, 0);
        CHECK_EQ(usnet_bind(world.sides[CLIENT], fds[i], ADDRESS(from)), 0);
    }
    CHECK_EQ(usnet_connect(world.sides[CLIENT], fds[0], ADDRESS(to)), -EINPROGRESS);
    CHECK_EQ(usnet_connect(world.sides[CLIENT], fds[1], ADDRESS(to)), -EADDRINUSE);
    world_settle();
    int accepted = usnet_accept(world.sides[SERVER], listener, (struct sockaddr *)&name, &length);
    CHECK(accepted >= 0);
    CHECK_EQ(ntohs(name.sin_port), 1234);
    CHECK_EQ(usnet_connect(world.sides[CLIENT], fds[0], ADDRESS(to)), 0);
    CHECK_EQ(usnet_connect(world.sides[CLIENT], fds[0], ADDRESS(to)), -EISCONN);
    world_close();
}

static void no_way_there(void)
{
    struct sockaddr_in away = ipv4(SERVER, PORT), silent = ipv4(SERVER, PORT);
    away.sin_addr.s_addr = htonl(0xc0a80001);
    silent.sin_addr.s_addr = htonl(0x0a000063);
    world_open();
    int fd = usnet_socket(world.sides[CLIENT], AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(usnet_connect(world.sides[CLIENT], fd, ADDRESS(away)), -EHOSTUNREACH);
    CHECK_EQ(usnet_connect(world.sides[CLIENT], fd, ADDRESS(silent)), -EINPROGRESS);
    CHECK_EQ(usnet_connect(world.sides[CLIENT], fd, ADDRESS(silent)), -EALREADY);
    world_watch(CLIENT, fd, OUT);
    CHECK_EQ(world_ready(CLIENT, fd), 0);
    world_run(5 * WORLD_SECOND);
    CHECK_EQ(world_ready(CLIENT, fd), OUT | ERR | HUP);
    CHECK_EQ(world_error(CLIENT, fd), EHOSTUNREACH);
    CHECK_EQ(world_ready(CLIENT, fd), OUT | HUP);
    world_close();
}

static void nobody_answers(void)
{
    struct sockaddr_in to = ipv4(SERVER, PORT);
    struct usnet_setup_options options = world_options(8);
    struct usnet_faults faults = {.seed = 1, .loss = 1000000};
    world_open_with(&options, &faults);
    int fd = usnet_socket(world.sides[CLIENT], AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(usnet_connect(world.sides[CLIENT], fd, ADDRESS(to)), -EINPROGRESS);
    world_run(200 * WORLD_SECOND);
    int error = world_error(CLIENT, fd);
    CHECK(error == ETIMEDOUT || error == EHOSTUNREACH);
    world_close();
}

/* More come than the backlog holds: cookies let in as many again; everybody else waits, and is let in later. */
static void a_backlog_that_is_full(void)
{
    enum { BACKLOG = 3, CLIENTS = 12 };
    struct sockaddr_in to = ipv4(SERVER, PORT);
    world_open();
    int listener = world_listen(PORT, BACKLOG), fds[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = usnet_socket(world.sides[CLIENT], AF_INET, SOCK_STREAM, 0);
        CHECK_EQ(usnet_connect(world.sides[CLIENT], fds[i], ADDRESS(to)), -EINPROGRESS);
    }
    world_settle();
    int accepted = 0, fd;
    while ((fd = usnet_accept(world.sides[SERVER], listener, NULL, NULL)) >= 0)
        accepted++;
    CHECK_EQ(fd, -EAGAIN);
    CHECK(accepted >= BACKLOG && accepted <= 2 * BACKLOG);
    for (int i = 0; i < CLIENTS; i++)
        world_write(CLIENT, fds[i], "knock"); /* what has no connection there yet is sent again, and becomes one */
    for (int round = 0; round < 100 && accepted < CLIENTS; round++) {
        world_run(WORLD_SECOND);
        while (usnet_accept(world.sides[SERVER], listener, NULL, NULL) >= 0)
            accepted++;
    }
    CHECK_EQ(accepted, CLIENTS);
    world_close();
}

static void listening_again_changes_nothing(void)
{
    world_open();
    int listener = world_listen(PORT, 4);
    struct sockaddr_in to = ipv4(SERVER, PORT);
    int fd = usnet_socket(world.sides[CLIENT], AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(usnet_connect(world.sides[CLIENT], fd, ADDRESS(to)), -EINPROGRESS);
    world_settle();
    CHECK_EQ(usnet_listen(world.sides[SERVER], listener, 1), 0);
    world_accept(listener);
    CHECK_EQ(usnet_listen(world.sides[CLIENT], fd, 1), -EINVAL);
    world_close();
}

/* A server holds connections that were reset; their ends are free for new ones at once. */
static void who_was_reset_may_come_again(void)
{
    struct linger linger = {.l_onoff = 1};
    struct sockaddr_in from = ipv4(CLIENT, 1234), to = ipv4(SERVER, PORT);
    world_open();
    int listener = world_listen(PORT, 4);
    for (int i = 0; i < 3; i++) {
        int fd = usnet_socket(world.sides[CLIENT], AF_INET, SOCK_STREAM, 0);
        CHECK_EQ(usnet_bind(world.sides[CLIENT], fd, ADDRESS(from)), 0);
        CHECK_EQ(usnet_connect(world.sides[CLIENT], fd, ADDRESS(to)), -EINPROGRESS);
        world_settle();
        int accepted = world_accept(listener);
        CHECK_EQ(world_write(CLIENT, fd, "x"), 1);
        world_settle();
        CHECK_EQ(usnet_setsockopt(world.sides[CLIENT], fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
        CHECK_EQ(usnet_close(world.sides[CLIENT], fd), 0);
        world_settle();
        world_expect(SERVER, accepted, "x");
        CHECK_EQ(world_error(SERVER, accepted), ECONNRESET);
    }
    world_close();
}

static void input_can_be_read_where_it_lies(void)
{
    struct usnet_piece pieces[4];
    world_open();
    struct ends ends = world_connect(world_listen(PORT, 4), PORT);
    struct usnet_stack *stack = usnet_stack_of(world.sides[SERVER]);
    uint64_t conn = usnet_conn_of(world.sides[SERVER], ends.server);
    world_watch(SERVER, ends.server, IN);
    world_write(CLIENT, ends.client, "in place");
    CHECK_EQ(world_ready(SERVER, ends.server), IN);
    CHECK_EQ(usnet_stack_peek(stack, conn, pieces, 4), 1);
    CHECK_EQ(pieces[0].length, 8);
    CHECK(memcmp(pieces[0].bytes, "in place", 8) == 0);
    CHECK_EQ(usnet_stack_consume(stack, conn, 3), 0);
    CHECK_EQ(world_ready(SERVER, ends.server), IN);
    world_expect(SERVER, ends.server, "place");
    CHECK_EQ(world_ready(SERVER, ends.server), 0);
    world_close();
}

/* ---- much data, through an edge-triggered loop on both sides ---- */

enum { TOTAL = 1 << 20 };

static uint8_t byte_at(uint32_t position)
{
    return (uint8_t)(position * 2654435761u >> 24);
}

struct flow {
    uint32_t written;
    uint32_t read;
    bool is_shut;
    bool is_over;
};

/* As much as goes now, in pieces of any size; the end of output at the end. */
static void feed(int side, int fd, struct flow *flow, uint64_t *random)
{
    static uint8_t bytes[40000];
    while (flow->written < TOTAL) {
        uint32_t length = 1 + random_below(random, sizeof bytes);
        length = TOTAL - flow->written < length ? TOTAL - flow->written : length;
        for (uint32_t i = 0; i < length; i++)
            bytes[i] = byte_at(flow->written + i);
        int64_t taken = usnet_write(world.sides[side], fd, bytes, length);
        CHECK(taken > 0 || taken == -EAGAIN);
        if (taken < 0)
            return;
        flow->written += (uint32_t)taken;
    }
    if (!flow->is_shut)
        CHECK_EQ(usnet_shutdown(world.sides[side], fd, SHUT_WR), 0);
    flow->is_shut = true;
}

static void swallow(int side, int fd, struct flow *flow, uint64_t *random)
{
    static uint8_t bytes[40000];
    for (;;) {
        int64_t got = usnet_read(world.sides[side], fd, bytes, 1 + random_below(random, sizeof bytes));
        CHECK(got >= 0 || got == -EAGAIN);
        for (int64_t i = 0; i < got; i++)
            CHECK_EQ(bytes[i], byte_at(flow->read + (uint32_t)i));
        flow->read += got > 0 ? (uint32_t)got : 0;
        flow->is_over |= got == 0;
        if (got <= 0)
            return;
    }
}

static void on_event(int side, int fd, struct flow flows[2], uint64_t *random)
{
    struct usnet_epoll_event event;
    while (usnet_epoll_wait(world.sides[side], world.epolls[side], &event, 1, 0) == 1) {
        CHECK_EQ(event.events & ERR, 0);
        if (event.events & OUT)
            feed(side, fd, &flows[side], random);
        if (event.events & IN)
            swallow(side, fd, &flows[!side], random);
    }
}

static void bulk(uint64_t seed, const struct usnet_faults *faults)
{
    struct usnet_setup_options options = world_options(8);
    struct flow flows[2] = {0};
    uint64_t random = seed;
    world_open_with(&options, faults);
    int listener = world_listen(PORT, 4);
    struct sockaddr_in to = ipv4(SERVER, PORT);
    int client = usnet_socket(world.sides[CLIENT], AF_INET, SOCK_STREAM, 0), server;
    CHECK_EQ(usnet_connect(world.sides[CLIENT], client, ADDRESS(to)), -EINPROGRESS);
    world_watch(CLIENT, client, IN | OUT | ET);
    while ((server = usnet_accept(world.sides[SERVER], listener, NULL, NULL)) == -EAGAIN)
        world_run(WORLD_SECOND / 10);
    world_watch(SERVER, server, IN | OUT | ET);
    for (int round = 0; !flows[0].is_over || !flows[1].is_over; round++) {
        CHECK(round < 100000);
        on_event(CLIENT, client, flows, &random);
        on_event(SERVER, server, flows, &random);
        world_run(1000000);
    }
    CHECK_EQ(flows[0].read, TOTAL);
    CHECK_EQ(flows[1].read, TOTAL);
    world_close();
}

static void bulk_on_a_clean_wire(void)
{
    for (uint64_t seed = 1; seed <= 3; seed++)
        bulk(seed, NULL);
}

static void bulk_over_faults(uint64_t seed)
{
    struct usnet_faults faults = {
        .seed = seed, .loss = 10000, .duplicate = 10000, .corrupt = 2000, .reorder = 20000};
    bulk(seed, &faults);
}

static void bulk_on_a_bad_wire(void)
{
    for_each_seed(3, bulk_over_faults);
}

int main(void)
{
    RUN(bytes_over_ipv4);
    RUN(bytes_over_ipv6);
    RUN(a_short_room_for_a_name);
    RUN(a_port_that_is_free);
    RUN(addresses_that_cannot_be_had);
    RUN(a_port_of_our_own_choice);
    RUN(no_way_there);
    RUN(nobody_answers);
    RUN(a_backlog_that_is_full);
    RUN(listening_again_changes_nothing);
    RUN(who_was_reset_may_come_again);
    RUN(input_can_be_read_where_it_lies);
    RUN(bulk_on_a_clean_wire);
    RUN(bulk_on_a_bad_wire);
    return 0;
}
