/* See sockets.h. Every byte of the script decides something: which call, on which side, with which descriptor, address,
 * option, length. Half of what is drawn makes sense, so that connections come about; the rest is anything.
 *
 * What streams carry is the low byte of its position, so that both ends know what is right. Beside each wait for events
 * stands a look at every socket. */
#include "sockets.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#include "api/context.h"
#include "bare.h"
#include "draw.h"
#include "stack/arena.h"
#include "tests/check.h"

enum { SOCKETS = 10, BYTES_MAX = 9000, TURNS_MAX = 100000, ERRNO_MAX = 4095 };

struct side {
    struct usnet *context;
    uint32_t written[SOCKETS]; /* positions in the stream of each descriptor */
    uint32_t read[SOCKETS];
};

static struct {
    uint64_t now_ns;
    struct side sides[2];
    struct side *frozen; /* its process stands still */
} play;

static int draw_fd(void)
{
    uint8_t byte = draw();
    return byte == 255 ? draw_int() : byte % (SOCKETS + 2) - 1;
}

/* An address of either host, or of nobody, or none at all; returns its length, which may be wrong. */
static uint32_t draw_address(struct sockaddr_storage *address)
{
    uint8_t kind = draw();
    struct sockaddr_in ipv4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)(7000 + draw() % 4))};
    struct sockaddr_in6 ipv6 = {.sin6_family = AF_INET6, .sin6_port = ipv4.sin_port};
    uint8_t host = kind & 32 ? draw() : 1 + (kind >> 4 & 1);
    ipv4.sin_addr.s_addr = htonl(0x0a000000u | host);
    ipv6.sin6_addr.s6_addr[0] = 0xfd;
    ipv6.sin6_addr.s6_addr[15] = host;
    memset(address, 0, sizeof *address);
    switch (kind & 15) {
    case 0:
        for (size_t i = 0; i < 28; i++)
            ((uint8_t *)address)[i] = draw();
        return draw() % 40;
    case 1:
        ipv4.sin_addr.s_addr = htonl((uint32_t)draw_int());
        ipv4.sin_port = (uint16_t)draw_int();
        break;
    case 2:
        ipv4.sin_addr.s_addr = 0;
        break;
    case 3:
        memset(&ipv6.sin6_addr, 0, 16);
        break;
    case 4: /* mapped */
        memset(&ipv6.sin6_addr, 0, 10);
        memset(ipv6.sin6_addr.s6_addr + 10, 0xff, 2);
        memcpy(ipv6.sin6_addr.s6_addr + 12, &ipv4.sin_addr, 4);
        break;
    default:
        break;
    }
    bool is_ipv6 = (kind & 15) == 3 || (kind & 15) == 4 || (kind & 15) > 12;
    memcpy(address, is_ipv6 ? (const void *)&ipv6 : &ipv4, is_ipv6 ? sizeof ipv6 : sizeof ipv4);
    return is_ipv6 ? sizeof ipv6 : sizeof ipv4;
}

/* ---- time ---- */

static uint64_t play_clock(void *argument)
{
    (void)argument;
    return play.now_ns;
}

static void check_stack(struct side *side)
{
    const char *wrong = usnet_stack_check(usnet_stack_of(side->context));
    if (wrong)
        fprintf(stderr, "%s\n", wrong);
    CHECK(wrong == NULL);
}

static uint32_t poll_side(struct side *side)
{
    return side == play.frozen ? 0 : usnet_poll(side->context);
}

static void settle(void)
{
    int turns = 0;
    while (poll_side(&play.sides[0]) + poll_side(&play.sides[1]) > 0)
        CHECK(turns++ < TURNS_MAX);
    check_stack(&play.sides[0]);
    check_stack(&play.sides[1]);
}

/* To the next deadline, if that comes before end_ns. */
static void step_until(uint64_t end_ns)
{
    uint64_t next = end_ns;
    for (struct side *side = play.sides; side < play.sides + 2; side++) {
        uint64_t deadline = side == play.frozen ? UINT64_MAX : usnet_deadline_ns(side->context);
        next = deadline < next ? deadline : next;
    }
    play.now_ns = next > play.now_ns ? next : play.now_ns + 1;
    settle();
}

static void let_pass(uint64_t duration_ns)
{
    uint64_t end_ns = play.now_ns + duration_ns;
    settle();
    while (play.now_ns < end_ns)
        step_until(end_ns);
}

static void draw_time(void)
{
    static const uint64_t durations[] = {1000, 1000000, 50000000, 1000000000, 10000000000, 200000000000};
    let_pass(durations[draw() % (sizeof durations / sizeof *durations)]);
}

/* ---- calls ---- */

static int64_t plausible(int64_t status)
{
    CHECK(status >= -ERRNO_MAX);
    return status;
}

static void begin_stream(struct side *side, int64_t fd)
{
    CHECK(fd < SOCKETS);
    if (fd >= 0)
        side->written[fd] = side->read[fd] = 0;
}

static void call_socket(struct side *side)
{
    uint8_t byte = draw();
    int domain = byte & 1 ? AF_INET : AF_INET6, type = byte & 6 ? SOCK_STREAM : SOCK_DGRAM;
    if ((byte & 0xf8) == 0xf8)
        begin_stream(side, plausible(usnet_socket(side->context, draw_int(), draw_int(), draw_int())));
    else
        begin_stream(side, plausible(usnet_socket(side->context, domain, type, 0)));
}

static void call_bind(struct side *side)
{
    struct sockaddr_storage address;
    uint32_t length = draw_address(&address);
    plausible(usnet_bind(side->context, draw_fd(), (struct sockaddr *)&address, length));
}

static void call_listen(struct side *side)
{
    int fd = draw_fd();
    plausible(usnet_listen(side->context, fd, draw() & 1 ? draw() % 4 : draw_int()));
}

static void call_accept(struct side *side)
{
    uint8_t name[40];
    uint32_t length = draw() % sizeof name;
    bool wants_name = draw() & 1;
    begin_stream(side, plausible(usnet_accept(side->context, draw_fd(), wants_name ? (struct sockaddr *)name : NULL,
                                              draw() & 7 ? &length : NULL)));
}

static void call_connect(struct side *side)
{
    struct sockaddr_storage address;
    uint32_t length = draw_address(&address);
    plausible(usnet_connect(side->context, draw_fd(), (struct sockaddr *)&address, length));
}

static bool is_stream(const struct side *side, int fd)
{
    const struct un_socket *socket = un_socket_at(side->context, fd);
    return socket && socket->kind == UN_SOCKET_CONN;
}

static void check_bytes(struct side *side, int fd, const uint8_t *bytes, int64_t count)
{
    for (int64_t i = 0; i < count && is_stream(side, fd); i++)
        CHECK_EQ(bytes[i], (uint8_t)side->read[fd]++);
}

static void call_read(struct side *side)
{
    static uint8_t bytes[BYTES_MAX];
    uint8_t name[40];
    uint32_t length = draw() % sizeof name, most = draw_below(BYTES_MAX);
    bool wants_name = draw() & 1;
    int fd = draw_fd();
    int64_t got = plausible(usnet_recvfrom(side->context, fd, draw() ? bytes : NULL, most,
                                           wants_name ? (struct sockaddr *)name : NULL, draw() ? &length : NULL));
    CHECK(got <= (int64_t)most);
    check_bytes(side, fd, bytes, got);
}

static void call_peek(struct side *side)
{
    struct usnet_piece pieces[3];
    int fd = draw_fd();
    struct usnet_stack *stack = usnet_stack_of(side->context);
    uint64_t conn = usnet_conn_of(side->context, fd);
    int count = (int)plausible(usnet_stack_peek(stack, conn, pieces, 3));
    uint32_t total = 0;
    for (int i = 0; i < count; i++) {
        check_bytes(side, fd, pieces[i].bytes, pieces[i].length);
        total += pieces[i].length;
    }
    if (count > 0)
        CHECK_EQ(usnet_stack_consume(stack, conn, total), 0);
    CHECK(usnet_stack_consume(stack, conn, UINT32_MAX) < 0);
}

static void call_write(struct side *side)
{
    static uint8_t bytes[BYTES_MAX];
    struct sockaddr_storage address;
    uint32_t length = draw_below(BYTES_MAX), address_length = draw() & 1 ? draw_address(&address) : 0;
    int fd = draw_fd();
    for (uint32_t i = 0; i < length && is_stream(side, fd); i++)
        bytes[i] = (uint8_t)(side->written[fd] + i);
    int64_t taken = plausible(usnet_sendto(side->context, fd, draw() ? bytes : NULL, length,
                                           address_length ? (struct sockaddr *)&address : NULL, address_length));
    CHECK(taken <= (int64_t)length);
    if (taken > 0)
        side->written[fd] += (uint32_t)taken;
}

static void call_shutdown(struct side *side)
{
    int how = draw() % 4;
    plausible(usnet_shutdown(side->context, draw_fd(), how));
}

static void call_close(struct side *side)
{
    plausible(usnet_close(side->context, draw_fd()));
}

static void call_names(struct side *side)
{
    uint8_t name[40];
    uint32_t length = draw() % sizeof name;
    plausible(usnet_getsockname(side->context, draw_fd(), (struct sockaddr *)name, &length));
    length = draw() % sizeof name;
    plausible(usnet_getpeername(side->context, draw_fd(), (struct sockaddr *)name, &length));
}

static void draw_option(int *level, int *name)
{
    static const int names[2][11] = {
        {SO_ERROR, SO_TYPE, SO_RCVBUF, SO_SNDBUF, SO_KEEPALIVE, SO_LINGER, SO_LINGER, SO_REUSEADDR, SO_RCVBUF,
         SO_SNDBUF, 999},
        {TCP_NODELAY, TCP_CORK, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_QUICKACK, TCP_MAXSEG, TCP_CONGESTION,
         TCP_USER_TIMEOUT, TCP_INFO, 999},
    };
    uint8_t byte = draw();
    *level = byte == 255 ? draw_int() : byte & 1 ? IPPROTO_TCP : SOL_SOCKET;
    *name = names[byte & 1][draw() % 11];
    if (*name == 999 && byte & 2) {
        *level = byte & 1 ? IPPROTO_IP : IPPROTO_IPV6;
        *name = byte & 1 ? IP_TOS : IPV6_TCLASS;
    }
}

static void call_setsockopt(struct side *side)
{
    int level, name;
    int value[2] = {draw() & 1 ? draw() % 8 : draw_int(), draw() % 2};
    draw_option(&level, &name);
    plausible(usnet_setsockopt(side->context, draw_fd(), level, name, draw() ? value : NULL, draw() % 9));
}

static void call_getsockopt(struct side *side)
{
    int level, name;
    uint8_t value[300];
    uint32_t length = draw_below(sizeof value);
    draw_option(&level, &name);
    plausible(usnet_getsockopt(side->context, draw_fd(), level, name, draw() ? value : NULL, draw() ? &length : NULL));
}

/* ---- the stack underneath ---- */

/* Of a descriptor, or any number. */
static uint64_t draw_conn(struct side *side)
{
    if (draw() & 3)
        return usnet_conn_of(side->context, draw_fd());
    return (uint64_t)(uint32_t)draw_int() << 32 | (uint32_t)draw_int();
}

/* All connections are listed, each once: also those that no descriptor stands for. */
static void check_list(struct usnet_stack *stack, uint32_t count)
{
    struct usnet_tcp_info info;
    uint32_t position = 0, listed = 0;
    uint64_t conn;
    while (plausible(usnet_stack_next_connection(stack, &position, &conn, &info)) == 1) {
        CHECK(usnet_tcp_state_name(info.state) && info.state != USNET_TCP_CLOSED);
        CHECK(conn == 0 || usnet_stack_info(stack, conn, &info) == 0);
        CHECK(++listed <= count);
    }
    CHECK(listed <= count); /* which has those that are over and leave a list yet */
}

static void call_look(struct side *side)
{
    struct usnet_stack *stack = usnet_stack_of(side->context);
    struct usnet_stack_usage usage;
    struct usnet_tcp_info info;
    uint64_t values[200];
    enum usnet_stack_counter_kind kind = draw() % 6;
    uint32_t most = draw_below(200), count = usnet_stack_counter_count(kind);
    usnet_stack_usage(stack, &usage);
    CHECK(usage.frames_free <= 96 && usage.sents_free <= 48);
    int64_t got = plausible(usnet_stack_counters(stack, kind, values, most));
    CHECK(got < 0 || got == (int64_t)(most < count ? most : count));
    CHECK((usnet_stack_counter_name(kind, most) == NULL) == (most >= count));
    if (plausible(usnet_stack_info(stack, draw_conn(side), &info)) == 0)
        CHECK(usnet_tcp_state_name(info.state) && usnet_congestion_name(info.congestion));
    check_list(stack, usage.conns);
    CHECK_EQ(usnet_stack_set_fast_paths(stack, most & 1), 0);
}

/* What applies to a connection without taking it from its socket. */
static void call_stack_option(struct side *side)
{
    struct usnet_stack *stack = usnet_stack_of(side->context);
    uint64_t conn = draw_conn(side);
    uint32_t option = draw() % 16, value = draw() & 1 ? draw() : (uint32_t)draw_int(), now;
    if (plausible(usnet_stack_set_option(stack, conn, option, value)) == 0)
        CHECK_EQ(usnet_stack_get_option(stack, conn, option, &now), 0);
}

static void call_add_route(struct side *side)
{
    static const char *const texts[] = {"0.0.0.0/0", "::/0",        "10.0.0.7", "fd00::7", "10.0.1.0/24",
                                        "fd01::/16", "10.0.0.0/33", "1.2.3.4/", "x",       "",
                                        "::1/129",   "10.0.0.1/24", "fe80::9"};
    const uint32_t count = sizeof texts / sizeof *texts;
    const char *network = texts[draw() % count], *gateway = texts[draw() % count];
    plausible(usnet_add_route(side->context, network, gateway));
}

/* ---- a peer that stands still ---- */

static void set_number(struct side *side, int fd, int level, int name, int value)
{
    CHECK_EQ(usnet_setsockopt(side->context, fd, level, name, &value, sizeof value), 0);
}

/* Established, with nothing to send or to be acknowledged: only its keepalive can find out. */
static bool is_idle(struct side *side, int fd)
{
    struct usnet_tcp_info info;
    uint64_t conn = usnet_conn_of(side->context, fd);
    return usnet_stack_info(usnet_stack_of(side->context), conn, &info) == 0 && info.state == UN_TCP_ESTABLISHED &&
           info.queued == 0;
}

/* Whoever asks a peer that stands still gives up after as many questions as he was told; and whoever does not ask
 * stays. */
static void call_freeze(struct side *side)
{
    int fd = draw_fd(), idle_s = 1 + draw() % 20, interval_s = 1 + draw() % 8, count = 1 + draw() % 4;
    bool asks = draw() & 3;
    settle();
    bool is_watched = asks && is_stream(side, fd) && is_idle(side, fd);
    if (is_watched) {
        set_number(side, fd, IPPROTO_TCP, TCP_KEEPIDLE, idle_s);
        set_number(side, fd, IPPROTO_TCP, TCP_KEEPINTVL, interval_s);
        set_number(side, fd, IPPROTO_TCP, TCP_KEEPCNT, count);
        set_number(side, fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 0); /* it would count instead of the questions */
        set_number(side, fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    }
    play.frozen = &play.sides[side == play.sides];
    let_pass((uint64_t)(2 * (idle_s + (count + 1) * interval_s)) * UN_SECOND_NS);
    play.frozen = NULL;
    if (is_watched)
        CHECK(!is_idle(side, fd));
    settle();
}

static void call_bare(struct side *side)
{
    (void)side;
    for (uint32_t left = 1 + draw() % 8; left > 0; left--)
        bare_call(play.now_ns);
}

/* ---- epoll ---- */

static void call_epoll_create(struct side *side)
{
    plausible(usnet_epoll_create(side->context));
}

static int draw_epoll(struct side *side)
{
    int fd = draw_fd();
    for (int i = 0; i < SOCKETS && draw(); i++) {
        const struct un_socket *socket = un_socket_at(side->context, i);
        if (socket && socket->kind == UN_SOCKET_EPOLL)
            return i;
    }
    return fd;
}

static void call_epoll_ctl(struct side *side)
{
    uint8_t bits = draw();
    int fd = draw_fd();
    struct usnet_epoll_event event = {.events = (bits & 0x1du) | (bits & 0x20u ? USN_EPOLLRDHUP : 0u), .data.fd = fd};
    event.events |= (bits & 0x40u ? (uint32_t)USN_EPOLLET : 0u) | (bits & 0x80u ? USN_EPOLLONESHOT : 0u);
    if (draw() == 255)
        event.events = (uint32_t)draw_int();
    int operation = draw() % 5;
    plausible(usnet_epoll_ctl(side->context, draw_epoll(side), operation, fd, draw() ? &event : NULL));
}

static uint32_t bits_told(const struct usnet_epoll_event *events, int found, int fd)
{
    uint32_t told = 0;
    for (int i = 0; i < found; i++) {
        if (events[i].data.fd != fd)
            continue;
        CHECK_EQ(told, 0);
        told = events[i].events;
    }
    return told;
}

/* Whoever is watched by level and armed is told of exactly when it is true, and nobody hears what he did not
 * ask for. */
static void check_events(struct side *side, int epoll, const bool *disarmed, const struct usnet_epoll_event *events,
                         int found)
{
    for (int fd = 0; fd < SOCKETS; fd++) {
        const struct un_socket *socket = un_socket_at(side->context, fd);
        if (!socket || socket->kind == UN_SOCKET_EPOLL || socket->epoll != (uint32_t)epoll)
            continue;
        uint32_t told = bits_told(events, found, fd);
        uint32_t ready =
            un_socket_ready(side->context, socket) & (socket->interest | USN_EPOLLERR | USN_EPOLLHUP) & 0x201fu;
        if (disarmed[fd])
            CHECK_EQ(told, 0);
        else if (told || !(socket->interest & (uint32_t)USN_EPOLLET))
            CHECK_EQ(told, ready);
    }
}

static void call_epoll_wait(struct side *side)
{
    struct usnet_epoll_event events[SOCKETS];
    bool disarmed[SOCKETS] = {false};
    int epoll = draw_epoll(side), most = draw() & 1 ? SOCKETS : (int8_t)draw() % SOCKETS;
    for (int fd = 0; fd < SOCKETS; fd++)
        disarmed[fd] = side->context->sockets[fd].disarmed;
    int found = (int)plausible(usnet_epoll_wait(side->context, epoll, draw() ? events : NULL, most, draw_int()));
    CHECK(found <= most || found <= 0);
    if (found >= 0 && most == SOCKETS)
        check_events(side, epoll, disarmed, events, found);
}

/* ---- a play ---- */

static void (*const calls[])(struct side *side) = {
    call_socket,     call_socket,     call_bind,  call_listen,       call_accept,    call_accept,     call_connect,
    call_connect,    call_read,       call_read,  call_peek,         call_write,     call_write,      call_write,
    call_shutdown,   call_close,      call_names, call_setsockopt,   call_getsockopt, call_epoll_create, call_epoll_ctl,
    call_epoll_ctl,  call_epoll_wait, call_epoll_wait, call_look,    call_stack_option, call_add_route,
    call_freeze,     call_bare,       call_bare,  call_bare,
};

static struct usnet *open_side(int number, struct usnet_device *wire)
{
    static const char *const addresses[2][2] = {{"10.0.0.1/24", "fd00::1/64"}, {"10.0.0.2/24", "fd00::2/64"}};
    static const uint32_t limits[] = {1, 700, 5000, 65536};
    struct usnet_faults faults = {.seed = draw(), .loss = draw() * 400u, .duplicate = draw() * 400u,
                                  .corrupt = draw() * 100u, .reorder = draw() * 400u};
    struct usnet_setup_options options;
    usnet_setup_defaults(&options, SOCKETS);
    options.clock_ns = play_clock;
    options.stack.seed = 1 + (uint64_t)number;
    memset(options.stack.secret, 7, sizeof options.stack.secret);
    options.stack.conn_max = 12;
    options.stack.frames = 96;
    options.stack.sents = 48;
    options.stack.udp_max = 3;
    options.stack.neighbours = 8;
    options.stack.time_wait_max = 4;
    options.stack.rcv_limit = limits[draw() % 4];
    options.stack.snd_limit = limits[draw() % 4];
    struct usnet *context = usnet_setup(&options, usnet_device_fault(wire, &faults), NULL);
    CHECK(context != NULL);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(usnet_add_address(context, addresses[number][i]), 0);
    return context;
}

static void check_nothing_is_left(struct side *side)
{
    struct un_stack *stack = un_context_stack(side->context);
    check_stack(side);
    CHECK_EQ(stack->own->conn_count, 0);
    CHECK_EQ(stack->tcp.pool.own->free_count + un_stack_frames_elsewhere(stack), stack->tcp.pool.own->count);
    CHECK_EQ(stack->own->sent_pool.free_count, stack->own->sent_pool.count);
}

static int open_at(int side, int type, uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = usnet_socket(play.sides[side].context, AF_INET, type, 0);
    CHECK_EQ(usnet_bind(play.sides[side].context, fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void connect_at(int side, int fd, uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(side ? 0x0a000001 : 0x0a000002)};
    plausible(usnet_connect(play.sides[side].context, fd, (struct sockaddr *)&address, sizeof address));
}

/* Descriptors 0 to 3 on both sides: an instance of epoll, two connections (of one side: a listener and what it
 * accepted), datagram sockets that are connected to each other. Few scripts would come so far by themselves. */
static void begin_connected(void)
{
    struct usnet *client = play.sides[0].context, *server = play.sides[1].context;
    usnet_epoll_create(client);
    usnet_epoll_create(server);
    int listener = open_at(1, SOCK_STREAM, 7000);
    CHECK_EQ(usnet_listen(server, listener, 2), 0);
    for (uint16_t port = 6999; port > 6997; port--)
        connect_at(0, open_at(0, SOCK_STREAM, port), 7000);
    for (int side = 0; side < 2; side++)
        connect_at(side, open_at(side, SOCK_DGRAM, 7001), 7001);
    let_pass(10000000);
    usnet_accept(server, listener, NULL, NULL);
}

/* A connection that nobody holds ends at the latest when its peer has been silent for so long. */
static void end(void)
{
    for (int side = 0; side < 2; side++)
        for (int fd = 0; fd < SOCKETS; fd++)
            usnet_close(play.sides[side].context, fd);
    let_pass(UINT64_C(3000000000000));
    check_nothing_is_left(&play.sides[0]);
    check_nothing_is_left(&play.sides[1]);
    usnet_teardown(play.sides[0].context);
    usnet_teardown(play.sides[1].context);
    bare_end();
}

void sockets_run(const uint8_t *script, size_t length)
{
    struct usnet_link link = {.mac = {2, 0, 0, 0, 0, 1}, .mtu = 1500, .slots = 64};
    struct usnet_device *ends[2];
    memset(&play, 0, sizeof play);
    draws = (struct draws){script, length < SOCKETS_SCRIPT_MAX ? length : SOCKETS_SCRIPT_MAX};
    play.now_ns = UINT64_C(1000000000000);
    CHECK_EQ(usnet_device_memory(ends, &link), 0);
    for (int side = 0; side < 2; side++)
        play.sides[side].context = open_side(side, ends[side]);
    bare_begin();
    if (draw() % 8 > 0)
        begin_connected();
    while (draws.left > 0) {
        uint8_t byte = draw();
        struct side *side = &play.sides[byte & 1];
        byte >>= 1;
        if (byte % 4 == 0)
            settle();
        else if (byte % 16 == 1)
            draw_time();
        else
            calls[draw() % (sizeof calls / sizeof *calls)](side);
    }
    end();
}
