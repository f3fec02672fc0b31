/* Options: what is set is read, before and after there is a connection; what a listener has, its connections have. */
#include "api/context.h"
#include "world.h"

static int get(int side, int fd, int level, int name)
{
    int value = -1;
    uint32_t length = sizeof value;
    CHECK_EQ(usnet_getsockopt(world.sides[side], fd, level, name, &value, &length), 0);
    CHECK_EQ(length, sizeof value);
    return value;
}

static int set(int side, int fd, int level, int name, int value)
{
    return usnet_setsockopt(world.sides[side], fd, level, name, &value, sizeof value);
}

static const struct {
    int level, name, value;
} settings[] = {
    {SOL_SOCKET, SO_KEEPALIVE, 1},        {SOL_SOCKET, SO_RCVBUF, 30000},     {SOL_SOCKET, SO_SNDBUF, 40000},
    {IPPROTO_TCP, TCP_NODELAY, 1},        {IPPROTO_TCP, TCP_KEEPIDLE, 11},    {IPPROTO_TCP, TCP_KEEPINTVL, 12},
    {IPPROTO_TCP, TCP_KEEPCNT, 3},        {IPPROTO_TCP, TCP_USER_TIMEOUT, 5000}, {IPPROTO_TCP, TCP_QUICKACK, 1},
    {IPPROTO_TCP, TCP_CORK, 0},           {IPPROTO_IP, IP_TOS, 0x28},         {IPPROTO_IPV6, IPV6_TCLASS, 0x28},
};
#define SETTINGS (sizeof settings / sizeof *settings)

static void set_all(int side, int fd)
{
    for (size_t i = 0; i < SETTINGS; i++)
        CHECK_EQ(set(side, fd, settings[i].level, settings[i].name, settings[i].value), 0);
    CHECK_EQ(usnet_setsockopt(world.sides[side], fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4), 0);
}

static void check_all(int side, int fd)
{
    char name[16] = "";
    uint32_t length = sizeof name;
    for (size_t i = 0; i < SETTINGS; i++)
        CHECK_EQ(get(side, fd, settings[i].level, settings[i].name), settings[i].value);
    CHECK_EQ(usnet_getsockopt(world.sides[side], fd, IPPROTO_TCP, TCP_CONGESTION, name, &length), 0);
    CHECK(strcmp(name, "reno") == 0);
    CHECK_EQ(length, 5);
}

static void they_outlast_what_the_socket_becomes(void)
{
    struct sockaddr_in to = ipv4(SERVER, PORT);
    world_open();
    int listener = world_listen(PORT, 4), client = usnet_socket(world.sides[CLIENT], AF_INET, SOCK_STREAM, 0);
    set_all(SERVER, listener);
    set_all(CLIENT, client);
    check_all(SERVER, listener);
    check_all(CLIENT, client);
    CHECK_EQ(usnet_connect(world.sides[CLIENT], client, ADDRESS(to)), -EINPROGRESS);
    check_all(CLIENT, client);
    world_settle();
    int server = world_accept(listener);
    check_all(CLIENT, client);
    check_all(SERVER, server);
    world_close();
}

/* ip(7): an int, or one byte; where there is no room for an int, one byte is told. ipv6(7): an int. */
static void a_type_of_service_may_be_one_byte(void)
{
    uint8_t bytes[4] = {0x28, 0xff, 0xff, 0xff};
    world_open();
    int fd = usnet_socket(world.sides[CLIENT], AF_INET, SOCK_STREAM, 0);
    for (uint32_t length = 1; length < sizeof(int); length++) {
        CHECK_EQ(set(CLIENT, fd, IPPROTO_IP, IP_TOS, 0), 0);
        CHECK_EQ(usnet_setsockopt(world.sides[CLIENT], fd, IPPROTO_IP, IP_TOS, bytes, length), 0);
        CHECK_EQ(get(CLIENT, fd, IPPROTO_IP, IP_TOS), 0x28);
        CHECK_EQ(usnet_setsockopt(world.sides[CLIENT], fd, IPPROTO_IPV6, IPV6_TCLASS, bytes, length), -EINVAL);
        CHECK_EQ(usnet_setsockopt(world.sides[CLIENT], fd, IPPROTO_TCP, TCP_NODELAY, bytes, length), -EINVAL);
    }
    CHECK_EQ(usnet_setsockopt(world.sides[CLIENT], fd, IPPROTO_IP, IP_TOS, bytes, 0), -EINVAL);
    uint8_t told[4] = {0};
    uint32_t length = 3;
    CHECK_EQ(usnet_getsockopt(world.sides[CLIENT], fd, IPPROTO_IP, IP_TOS, told, &length), 0);
    CHECK_EQ(length, 1);
    CHECK_EQ(told[0], 0x28);
    world_close();
}

static struct usnet_tcp_info info_of(int side, int fd)
{
    struct usnet_tcp_info info;
    uint32_t length = sizeof info;
    CHECK_EQ(usnet_getsockopt(world.sides[side], fd, IPPROTO_TCP, TCP_INFO, &info, &length), 0);
    CHECK_EQ(length, sizeof info);
    return info;
}

/* RFC 7323 section 2.2: the scale is said in the SYN, or never. */
static void a_large_buffer_has_a_window_as_large(void)
{
    struct sockaddr_in to = ipv4(SERVER, PORT);
    world_open();
    int listener = world_listen(PORT, 4), client = usnet_socket(world.sides[CLIENT], AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(set(SERVER, listener, SOL_SOCKET, SO_RCVBUF, 1 << 20), 0);
    CHECK_EQ(set(CLIENT, client, SOL_SOCKET, SO_RCVBUF, 1 << 18), 0);
    CHECK_EQ(usnet_connect(world.sides[CLIENT], client, ADDRESS(to)), -EINPROGRESS);
    world_settle();
    int server = world_accept(listener);
    CHECK_EQ(info_of(SERVER, server).rcv_wscale, 5);
    CHECK_EQ(info_of(SERVER, server).snd_wscale, 3);
    CHECK_EQ(info_of(CLIENT, client).rcv_wscale, 3);
    CHECK_EQ(info_of(CLIENT, client).snd_wscale, 5);
    CHECK_EQ(set(CLIENT, client, SOL_SOCKET, SO_RCVBUF, 1 << 20), 0); /* too late */
    CHECK_EQ(info_of(CLIENT, client).rcv_wscale, 3);
    world_close();
}

static void a_buffer_set_before_listening_counts_too(void)
{
    struct sockaddr_in at = ipv4(SERVER, PORT);
    world_open();
    int listener = usnet_socket(world.sides[SERVER], AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(set(SERVER, listener, SOL_SOCKET, SO_RCVBUF, 1 << 22), 0);
    CHECK_EQ(usnet_bind(world.sides[SERVER], listener, ADDRESS(at)), 0);
    CHECK_EQ(usnet_listen(world.sides[SERVER], listener, 4), 0);
    struct ends ends = world_connect(listener, PORT);
    CHECK_EQ(info_of(SERVER, ends.server).rcv_wscale, 7);
    CHECK_EQ(get(SERVER, ends.server, SOL_SOCKET, SO_RCVBUF), 1 << 22);
    world_close();
}

static void a_failed_attempt_keeps_them(void)
{
    struct sockaddr_in to = ipv4(SERVER, 9);
    world_open();
    int client = usnet_socket(world.sides[CLIENT], AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(usnet_connect(world.sides[CLIENT], client, ADDRESS(to)), -EINPROGRESS);
    set_all(CLIENT, client);
    world_settle();
    CHECK_EQ(usnet_connect(world.sides[CLIENT], client, ADDRESS(to)), -ECONNREFUSED);
    check_all(CLIENT, client);
    world_close();
}

static void defaults_are_those_of_the_stack(void)
{
    world_open();
    int fd = usnet_socket(world.sides[CLIENT], AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(get(CLIENT, fd, SOL_SOCKET, SO_RCVBUF), 65536);
    CHECK_EQ(get(CLIENT, fd, SOL_SOCKET, SO_TYPE), SOCK_STREAM);
    CHECK_EQ(get(CLIENT, fd, IPPROTO_TCP, TCP_KEEPIDLE), 7200);
    CHECK_EQ(get(CLIENT, fd, IPPROTO_TCP, TCP_MAXSEG), 536); /* as the kernel says before there is a connection */
    CHECK_EQ(get(CLIENT, usnet_socket(world.sides[CLIENT], AF_INET, SOCK_DGRAM, 0), SOL_SOCKET, SO_TYPE), SOCK_DGRAM);
    struct ends ends = world_connect(world_listen(PORT, 4), PORT);
    CHECK_EQ(get(CLIENT, ends.client, IPPROTO_TCP, TCP_MAXSEG), 1448); /* beside a timestamp */
    CHECK_EQ(get(CLIENT, ends.client, IPPROTO_TCP, TCP_NODELAY), 0);
    world_close();
}

static void segments_can_be_made_small(void)
{
    struct sockaddr_in to = ipv4(SERVER, PORT);
    world_open();
    int listener = world_listen(PORT, 4), client = usnet_socket(world.sides[CLIENT], AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(set(CLIENT, client, IPPROTO_TCP, TCP_MAXSEG, 500), 0);
    CHECK_EQ(usnet_connect(world.sides[CLIENT], client, ADDRESS(to)), -EINPROGRESS);
    world_settle();
    int server = world_accept(listener);
    CHECK_EQ(get(SERVER, server, IPPROTO_TCP, TCP_MAXSEG), 488);
    CHECK_EQ(set(SERVER, server, IPPROTO_TCP, TCP_MAXSEG, 400), -EISCONN);
    world_close();
}

/* What a listener has is said in its SYN-ACKs. */
static void a_listener_makes_segments_small(void)
{
    struct sockaddr_in at = ipv4(SERVER, PORT);
    world_open();
    int listener = usnet_socket(world.sides[SERVER], AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(set(SERVER, listener, IPPROTO_TCP, TCP_MAXSEG, 700), 0);
    CHECK_EQ(usnet_bind(world.sides[SERVER], listener, ADDRESS(at)), 0);
    CHECK_EQ(usnet_listen(world.sides[SERVER], listener, 4), 0);
    struct ends ends = world_connect(listener, PORT);
    CHECK_EQ(info_of(CLIENT, ends.client).snd_mss, 700);
    CHECK_EQ(info_of(SERVER, ends.server).snd_mss, 700);
    CHECK_EQ(set(SERVER, listener, IPPROTO_TCP, TCP_MAXSEG, 600), 0);
    ends = world_connect(listener, PORT);
    CHECK_EQ(info_of(CLIENT, ends.client).snd_mss, 600);
    world_close();
}

static void what_is_known_of_a_connection(void)
{
    struct usnet_tcp_info info, again;
    uint32_t length = sizeof info;
    world_open();
    int fd = usnet_socket(world.sides[CLIENT], AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(usnet_getsockopt(world.sides[CLIENT], fd, IPPROTO_TCP, TCP_INFO, &info, &length), -ENOTCONN);
    struct ends ends = world_connect(world_listen(PORT, 4), PORT);
    CHECK_EQ(usnet_getsockopt(world.sides[CLIENT], ends.client, IPPROTO_TCP, TCP_INFO, &info, &length), 0);
    CHECK_EQ(length, sizeof info);
    CHECK_EQ(info.state, USNET_TCP_ESTABLISHED);
    CHECK_EQ(info.remote.port, PORT);
    uint64_t conn = usnet_conn_of(world.sides[CLIENT], ends.client);
    CHECK_EQ(usnet_stack_info(usnet_stack_of(world.sides[CLIENT]), conn, &again), 0);
    CHECK_EQ(again.local.port, info.local.port);
    length = 8;
    CHECK_EQ(usnet_getsockopt(world.sides[CLIENT], ends.client, IPPROTO_TCP, TCP_INFO, &info, &length), 0);
    CHECK_EQ(length, 8);
    world_close();
}

static void linger_is_remembered(void)
{
    struct linger linger = {.l_onoff = 1};
    uint32_t length = sizeof linger;
    world_open();
    int fd = usnet_socket(world.sides[CLIENT], AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(usnet_setsockopt(world.sides[CLIENT], fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    memset(&linger, 7, sizeof linger);
    CHECK_EQ(usnet_getsockopt(world.sides[CLIENT], fd, SOL_SOCKET, SO_LINGER, &linger, &length), 0);
    CHECK_EQ(linger.l_onoff, 1);
    CHECK_EQ(linger.l_linger, 0);
    linger.l_linger = 5; /* a time: close goes on in the background, as always */
    CHECK_EQ(usnet_setsockopt(world.sides[CLIENT], fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    memset(&linger, 7, sizeof linger);
    CHECK_EQ(usnet_getsockopt(world.sides[CLIENT], fd, SOL_SOCKET, SO_LINGER, &linger, &length), 0);
    CHECK_EQ(linger.l_onoff, 1);
    CHECK_EQ(linger.l_linger, 5);
    world_close();
}

/* The peer has gone without a word: keepalive finds out, in the time that the options say. A user timeout counts
 * instead of a number of probes: it has passed when the second probe is due. */
static void keepalive_ends_a_connection(void)
{
    world_open();
    int listener = world_listen(PORT, 4);
    set_all(SERVER, listener);
    struct ends ends = world_connect(listener, PORT);
    world_watch(SERVER, ends.server, IN);
    struct usnet *gone = world.sides[CLIENT];
    struct usnet_setup_options options = world_options(4);
    struct usnet_link link = world_link();
    world.sides[CLIENT] = usnet_setup(&options, usnet_device_hand(&link), NULL); /* somebody on another wire */
    usnet_teardown(gone);
    world_run(22 * WORLD_SECOND);
    CHECK_EQ(world_ready(SERVER, ends.server), 0);
    world_run(2 * WORLD_SECOND);
    CHECK_EQ(world_ready(SERVER, ends.server), IN | ERR | HUP);
    CHECK_EQ(world_error(SERVER, ends.server), ETIMEDOUT);
    world_close();
}

int main(void)
{
    RUN(they_outlast_what_the_socket_becomes);
    RUN(a_type_of_service_may_be_one_byte);
    RUN(a_large_buffer_has_a_window_as_large);
    RUN(a_buffer_set_before_listening_counts_too);
    RUN(a_failed_attempt_keeps_them);
    RUN(defaults_are_those_of_the_stack);
    RUN(segments_can_be_made_small);
    RUN(a_listener_makes_segments_small);
    RUN(what_is_known_of_a_connection);
    RUN(linger_is_remembered);
    RUN(keepalive_ends_a_connection);
    return 0;
}
