/* Datagram sockets: names, connected ones, what is cut and what does not fit, and a wire that is full. */
#include "api/context.h"
#include "world.h"

static int datagram_socket(int side, uint16_t port)
{
    struct sockaddr_in address = ipv4(side, port);
    int fd = usnet_socket(world.sides[side], AF_INET, SOCK_DGRAM, 0);
    CHECK(fd >= 0);
    CHECK_EQ(usnet_bind(world.sides[side], fd, ADDRESS(address)), 0);
    return fd;
}

static uint16_t port_of(int side, int fd)
{
    struct sockaddr_in address;
    uint32_t length = sizeof address;
    CHECK_EQ(usnet_getsockname(world.sides[side], fd, (struct sockaddr *)&address, &length), 0);
    return ntohs(address.sin_port);
}

static void a_datagram_says_where_it_came_from(void)
{
    char bytes[16];
    world_open();
    int server = datagram_socket(SERVER, 53), client = usnet_socket(world.sides[CLIENT], AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in to = ipv4(SERVER, 53), from;
    uint32_t length = sizeof from;
    CHECK_EQ(port_of(CLIENT, client), 0);
    CHECK_EQ(usnet_read(world.sides[CLIENT], client, bytes, 1), -EAGAIN);
    CHECK_EQ(usnet_sendto(world.sides[CLIENT], client, "ask", 3, ADDRESS(to)), 3);
    CHECK(port_of(CLIENT, client) >= 49152);
    world_settle();
    CHECK_EQ(usnet_recvfrom(world.sides[SERVER], server, bytes, sizeof bytes, (struct sockaddr *)&from, &length), 3);
    CHECK_EQ(length, sizeof from);
    CHECK_EQ(ntohs(from.sin_port), port_of(CLIENT, client));
    CHECK_EQ(from.sin_addr.s_addr, ipv4(CLIENT, 0).sin_addr.s_addr);
    CHECK_EQ(usnet_sendto(world.sides[SERVER], server, "answer", 6, ADDRESS(from)), 6);
    world_settle();
    world_expect(CLIENT, client, "answer");
    world_close();
}

static void ipv6_and_mapped_addresses(void)
{
    char bytes[16];
    world_open();
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(53)}, to = ipv6(SERVER, 53), from;
    struct sockaddr_in to_ipv4 = ipv4(SERVER, 53);
    int server = usnet_socket(world.sides[SERVER], AF_INET6, SOCK_DGRAM, 0);
    int client6 = usnet_socket(world.sides[CLIENT], AF_INET6, SOCK_DGRAM, 0);
    int client4 = usnet_socket(world.sides[CLIENT], AF_INET, SOCK_DGRAM, 0);
    uint32_t length = sizeof from;
    CHECK_EQ(usnet_bind(world.sides[SERVER], server, ADDRESS(any)), 0);
    CHECK_EQ(usnet_sendto(world.sides[CLIENT], client6, "six", 3, ADDRESS(to)), 3);
    world_settle();
    CHECK_EQ(usnet_recvfrom(world.sides[SERVER], server, bytes, sizeof bytes, (struct sockaddr *)&from, &length), 3);
    CHECK_EQ(length, sizeof from);
    CHECK(memcmp(&from.sin6_addr, &(struct in6_addr){{{0xfd, [15] = 1}}}, 16) == 0);
    CHECK_EQ(usnet_sendto(world.sides[CLIENT], client4, "four", 4, ADDRESS(to_ipv4)), 4);
    world_settle();
    CHECK_EQ(usnet_recvfrom(world.sides[SERVER], server, bytes, sizeof bytes, (struct sockaddr *)&from, &length), 4);
    CHECK(IN6_IS_ADDR_V4MAPPED(&from.sin6_addr));
    CHECK_EQ(usnet_sendto(world.sides[CLIENT], client4, "x", 1, ADDRESS(to)), -EAFNOSUPPORT);
    world_close();
}

static void a_connected_socket_hears_one_peer(void)
{
    char bytes[16];
    world_open();
    int server = datagram_socket(SERVER, 53), stranger = datagram_socket(SERVER, 54);
    int client = datagram_socket(CLIENT, 55);
    struct sockaddr_in to = ipv4(SERVER, 53), back = ipv4(CLIENT, 55), peer;
    uint32_t length = sizeof peer;
    CHECK_EQ(usnet_getpeername(world.sides[CLIENT], client, (struct sockaddr *)&peer, &length), -ENOTCONN);
    CHECK_EQ(usnet_connect(world.sides[CLIENT], client, ADDRESS(to)), 0);
    CHECK_EQ(usnet_getpeername(world.sides[CLIENT], client, (struct sockaddr *)&peer, &length), 0);
    CHECK_EQ(ntohs(peer.sin_port), 53);
    CHECK_EQ(usnet_sendto(world.sides[SERVER], stranger, "boo", 3, ADDRESS(back)), 3);
    CHECK_EQ(usnet_sendto(world.sides[SERVER], server, "welcome", 7, ADDRESS(back)), 7);
    CHECK_EQ(usnet_sendto(world.sides[SERVER], stranger, "boo", 3, ADDRESS(back)), 3);
    world_settle();
    world_expect(CLIENT, client, "welcome");
    CHECK_EQ(usnet_read(world.sides[CLIENT], client, bytes, sizeof bytes), -EAGAIN);
    CHECK_EQ(world_write(CLIENT, client, "hello"), 5);
    world_settle();
    world_expect(SERVER, server, "hello");
    world_watch(CLIENT, client, IN); /* nobody is woken for a stranger, who hears that nobody is there */
    CHECK_EQ(usnet_connect(world.sides[SERVER], stranger, ADDRESS(back)), 0);
    CHECK_EQ(world_write(SERVER, stranger, "boo"), 3);
    world_settle();
    CHECK_EQ(world_ready(CLIENT, client), 0);
    CHECK_EQ(world_error(SERVER, stranger), ECONNREFUSED);
    world_close();
}

/* Though the other one's address fits better: it takes what nobody else is connected for. */
static void a_connected_socket_comes_first(void)
{
    world_open();
    int server = datagram_socket(SERVER, 53), client = usnet_socket(world.sides[CLIENT], AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in to = ipv4(SERVER, 53), at = ipv4(CLIENT, 55), any = at;
    any.sin_addr.s_addr = INADDR_ANY;
    datagram_socket(CLIENT, 55);
    CHECK_EQ(usnet_bind(world.sides[CLIENT], client, ADDRESS(any)), 0);
    CHECK_EQ(usnet_connect(world.sides[CLIENT], client, ADDRESS(to)), 0);
    CHECK_EQ(usnet_sendto(world.sides[SERVER], server, "welcome", 7, ADDRESS(at)), 7);
    world_settle();
    world_expect(CLIENT, client, "welcome");
    world_close();
}

/* The kernel's way: an error of a connected socket, told once; nothing to one that is not. */
static void a_closed_port_refuses_who_is_connected(void)
{
    char bytes[16];
    world_open();
    struct usnet *context = world.sides[CLIENT];
    int client = datagram_socket(CLIENT, 55), loose = datagram_socket(CLIENT, 56);
    struct sockaddr_in to = ipv4(SERVER, 53);
    world_watch(CLIENT, client, IN);
    CHECK_EQ(usnet_connect(context, client, ADDRESS(to)), 0);
    for (int how = 0; how < 3; how++) {
        CHECK_EQ(world_write(CLIENT, client, "hello"), 5);
        world_settle();
        CHECK_EQ(world_ready(CLIENT, client), ERR);
        if (how == 0)
            CHECK_EQ(usnet_read(context, client, bytes, sizeof bytes), -ECONNREFUSED);
        else if (how == 1)
            CHECK_EQ(world_write(CLIENT, client, "again"), -ECONNREFUSED);
        else
            CHECK_EQ(world_error(CLIENT, client), ECONNREFUSED);
        CHECK_EQ(world_ready(CLIENT, client), 0);
        CHECK_EQ(usnet_read(context, client, bytes, sizeof bytes), -EAGAIN);
        CHECK_EQ(world_error(CLIENT, client), 0);
    }
    CHECK_EQ(usnet_sendto(context, loose, "hello", 5, ADDRESS(to)), 5);
    world_settle();
    CHECK_EQ(usnet_read(context, loose, bytes, sizeof bytes), -EAGAIN);
    CHECK_EQ(world_error(CLIENT, loose), 0);
    world_close();
}

static void there_is_no_way_to_ourselves(void)
{
    world_open();
    struct usnet *context = world.sides[CLIENT];
    struct sockaddr_in own = ipv4(CLIENT, 55), loopback = {.sin_family = AF_INET, .sin_port = htons(55)};
    loopback.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int datagram = datagram_socket(CLIENT, 0), stream = usnet_socket(context, AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(usnet_sendto(context, datagram, "me", 2, ADDRESS(own)), -EHOSTUNREACH);
    CHECK_EQ(usnet_sendto(context, datagram, "me", 2, ADDRESS(loopback)), -EHOSTUNREACH);
    CHECK_EQ(usnet_connect(context, stream, ADDRESS(own)), -EHOSTUNREACH);
    CHECK_EQ(usnet_connect(context, stream, ADDRESS(loopback)), -EHOSTUNREACH);
    world_close();
}

static void what_is_too_long(void)
{
    static char bytes[70000];
    world_open();
    int server = datagram_socket(SERVER, 53), client = datagram_socket(CLIENT, 0);
    struct sockaddr_in to = ipv4(SERVER, 53);
    CHECK_EQ(usnet_sendto(world.sides[CLIENT], client, bytes, 1472, ADDRESS(to)), 1472);
    CHECK_EQ(usnet_sendto(world.sides[CLIENT], client, bytes, 1473, ADDRESS(to)), -EMSGSIZE);
    CHECK_EQ(usnet_sendto(world.sides[CLIENT], client, bytes, sizeof bytes, ADDRESS(to)), -EMSGSIZE);
    CHECK_EQ(usnet_sendto(world.sides[CLIENT], client, bytes, UINT64_MAX, ADDRESS(to)), -EMSGSIZE);
    world_settle();
    CHECK_EQ(usnet_read(world.sides[SERVER], server, bytes, 100), 100); /* the rest of it is gone */
    CHECK_EQ(usnet_read(world.sides[SERVER], server, bytes, 100), -EAGAIN);
    CHECK_EQ(usnet_sendto(world.sides[CLIENT], client, NULL, 0, ADDRESS(to)), 0);
    world_settle();
    CHECK_EQ(usnet_read(world.sides[SERVER], server, NULL, 0), 0);
    CHECK_EQ(usnet_read(world.sides[SERVER], server, bytes, 100), -EAGAIN);
    world_close();
}

static void ports_are_taken_once(void)
{
    world_open();
    int first = datagram_socket(SERVER, 53), second = usnet_socket(world.sides[SERVER], AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in address = ipv4(SERVER, 53), foreign = ipv4(CLIENT, 53);
    CHECK_EQ(usnet_bind(world.sides[SERVER], second, ADDRESS(address)), -EADDRINUSE);
    CHECK_EQ(usnet_bind(world.sides[SERVER], second, ADDRESS(foreign)), -EADDRNOTAVAIL);
    CHECK_EQ(usnet_bind(world.sides[SERVER], second, (struct sockaddr *)&address, 4), -EINVAL);
    CHECK_EQ(usnet_close(world.sides[SERVER], first), 0);
    CHECK_EQ(usnet_bind(world.sides[SERVER], second, ADDRESS(address)), 0);
    CHECK_EQ(usnet_bind(world.sides[SERVER], second, ADDRESS(address)), -EINVAL);
    world_close();
}

/* The wire takes no more: no room until the stack says so, and then it is said. */
static void a_full_wire_is_waited_for(void)
{
    world_open();
    int server = datagram_socket(SERVER, 53), client = datagram_socket(CLIENT, 0);
    struct sockaddr_in to = ipv4(SERVER, 53);
    CHECK_EQ(usnet_sendto(world.sides[CLIENT], client, "first", 5, ADDRESS(to)), 5);
    world_settle(); /* the neighbour is known now */
    world_expect(SERVER, server, "first");
    world_watch(CLIENT, client, OUT);
    CHECK_EQ(world_ready(CLIENT, client), OUT);
    int64_t status = 0;
    for (int i = 0; i < 10000 && status >= 0; i++)
        status = usnet_sendto(world.sides[CLIENT], client, "more", 4, ADDRESS(to));
    CHECK_EQ(status, -EAGAIN);
    struct usnet_epoll_event event;
    CHECK_EQ(usnet_epoll_wait(world.sides[CLIENT], world.epolls[CLIENT], &event, 1, 0), 0);
    CHECK_EQ(usnet_epoll_wait(world.sides[CLIENT], world.epolls[CLIENT], &event, 1, 0), 0);
    CHECK_EQ(world_ready(CLIENT, client), OUT);
    CHECK_EQ(usnet_sendto(world.sides[CLIENT], client, "more", 4, ADDRESS(to)), 4);
    world_close();
}

int main(void)
{
    RUN(a_datagram_says_where_it_came_from);
    RUN(ipv6_and_mapped_addresses);
    RUN(a_connected_socket_hears_one_peer);
    RUN(a_connected_socket_comes_first);
    RUN(a_closed_port_refuses_who_is_connected);
    RUN(there_is_no_way_to_ourselves);
    RUN(what_is_too_long);
    RUN(ports_are_taken_once);
    RUN(a_full_wire_is_waited_for);
    return 0;
}
