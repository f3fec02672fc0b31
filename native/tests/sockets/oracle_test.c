/* The kernel as the oracle: each script runs on our sockets and on the kernel's, level-triggered and edge-triggered, and
 * both say the same after every step: results, errors, and what epoll tells. */
#include "oracle.h"

#include <stdarg.h>
#include <time.h>

#define LINES_MAX 96
#define LINE_BYTES 96
#define WAIT_S 5 /* the kernel works in the background: as long as this it may take to come to what ours said */

static struct {
    const struct calls *calls;
    const char *script;
    uint32_t trigger; /* ET or 0 */
    bool compares;
    int lines;
    char log[LINES_MAX][LINE_BYTES];
    int listener, client, server;
    uint16_t port;
} run;

/* ---- what is compared ---- */

__attribute__((format(printf, 2, 3))) static bool matches(bool is_last_try, const char *format, ...)
{
    char line[LINE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    CHECK(run.lines < LINES_MAX);
    if (!run.compares)
        memcpy(run.log[run.lines], line, sizeof line);
    bool is_same = strcmp(run.log[run.lines], line) == 0;
    if (!is_same && is_last_try) {
        fprintf(stderr, "%s, %s-triggered, step %d: ours: %s\n%s: %s\n", run.script, run.trigger ? "edge" : "level",
                run.lines + 1, run.log[run.lines], run.calls->name, line);
        check_failed(__FILE__, __LINE__, "the same as the kernel's sockets");
    }
    run.lines += is_same;
    return is_same;
}

static uint64_t now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec;
}

static void result_of(const char *what, int64_t result)
{
    if (result < 0)
        matches(true, "%s: %s", what, strerrorname_np((int)-result));
    else
        matches(true, "%s: %lld", what, (long long)result);
}

/* What epoll says of a descriptor: in the background of the kernel more may follow what it says at first. */
static void look(const char *who, int side, int fd)
{
    uint64_t end_s = now_s() + WAIT_S;
    run.calls->settle();
    for (;;) {
        uint32_t ready = run.calls->ready(side, fd);
        if (matches(now_s() >= end_s, "%s:%s%s%s%s%s", who, ready & IN ? " in" : "", ready & OUT ? " out" : "",
                    ready & RDHUP ? " rdhup" : "", ready & HUP ? " hup" : "", ready & ERR ? " err" : ""))
            return;
    }
}

#define CALL(name, ...) result_of(#name, run.calls->name(__VA_ARGS__))

/* ---- words of the scripts ---- */

static void look_client(void)
{
    look("client", CLIENT, run.client);
}

static void look_server(void)
{
    look("server", SERVER, run.server);
}

static void watch(int side, int fd, uint32_t events)
{
    CHECK_EQ(run.calls->control(side, USN_EPOLL_CTL_ADD, fd, events | run.trigger), 0);
}

static void set_up_listener(void)
{
    run.listener = run.calls->socket(SERVER, SOCK_STREAM);
    CHECK(run.listener >= 0);
    CHECK_EQ(run.calls->bind_any(SERVER, run.listener), 0);
    CHECK_EQ(run.calls->listen(SERVER, run.listener), 0);
    run.port = run.calls->port(SERVER, run.listener);
    CHECK(run.port > 0);
}

/* Without delay: when acknowledgments come is not what is compared. */
static void send_at_once(int side, int fd)
{
    int one = 1;
    CHECK_EQ(run.calls->set(side, fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one), 0);
}

static void set_up_client(void)
{
    run.client = run.calls->socket(CLIENT, SOCK_STREAM);
    CHECK(run.client >= 0);
    send_at_once(CLIENT, run.client);
}

/* Both ends, not watched yet. */
static void set_up_pair(void)
{
    set_up_listener();
    set_up_client();
    CHECK_EQ(run.calls->connect(CLIENT, run.client, run.port), -EINPROGRESS);
    run.calls->settle();
    run.server = run.calls->accept(SERVER, run.listener);
    CHECK(run.server >= 0);
    send_at_once(SERVER, run.server);
    CHECK_EQ(run.calls->close(SERVER, run.listener), 0);
}

/* Both ends, watched, and what they are ready for at the beginning has been told. */
static void set_up_watched(void)
{
    set_up_pair();
    watch(CLIENT, run.client, IN | OUT | RDHUP);
    watch(SERVER, run.server, IN | OUT | RDHUP);
    look_client();
    look_server();
}

static void write_to(int side, int fd, const char *text)
{
    CALL(write, side, fd, text, strlen(text));
    run.calls->settle();
}

static void read_some(int side, int fd, size_t most)
{
    char bytes[64];
    CALL(read, side, fd, bytes, most);
}

static void reset(int side, int fd)
{
    struct linger linger = {.l_onoff = 1};
    CHECK_EQ(run.calls->set(side, fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    CALL(close, side, fd);
    run.calls->settle();
}

/* A port where nobody listens. */
static uint16_t closed_port(void)
{
    set_up_listener();
    CHECK_EQ(run.calls->close(SERVER, run.listener), 0);
    return run.port;
}

/* ---- scripts ---- */

static void sockets_that_are_not_connected(void)
{
    char byte;
    set_up_client();
    watch(CLIENT, run.client, IN | OUT | RDHUP);
    look_client();
    look_client();
    CALL(read, CLIENT, run.client, &byte, 1);
    CALL(write, CLIENT, run.client, "x", 1);
    CALL(shutdown, CLIENT, run.client, SHUT_WR);
    CALL(accept, CLIENT, run.client);
    CALL(error, CLIENT, run.client);
    CALL(shutdown, CLIENT, run.client, 7);
}

static void a_listener(void)
{
    char byte;
    set_up_listener();
    watch(SERVER, run.listener, IN | OUT | RDHUP);
    look("listener", SERVER, run.listener);
    CALL(accept, SERVER, run.listener);
    CALL(read, SERVER, run.listener, &byte, 1);
    CALL(write, SERVER, run.listener, "x", 1);
    CALL(listen, SERVER, run.listener);
    CALL(connect, SERVER, run.listener, run.port);
    CALL(bind_any, SERVER, run.listener);
}

static void connections_to_accept(void)
{
    set_up_listener();
    watch(SERVER, run.listener, IN);
    for (int i = 0; i < 3; i++) {
        set_up_client();
        CALL(connect, CLIENT, run.client, run.port);
        look("listener", SERVER, run.listener);
    }
    for (int i = 0; i < 3; i++) {
        CHECK(run.calls->accept(SERVER, run.listener) >= 0);
        look("listener", SERVER, run.listener);
    }
    CALL(accept, SERVER, run.listener);
}

static void connecting(void)
{
    char byte;
    set_up_listener();
    set_up_client();
    watch(CLIENT, run.client, IN | OUT | RDHUP);
    look_client();
    CALL(connect, CLIENT, run.client, run.port);
    look_client();
    CALL(error, CLIENT, run.client);
    CALL(read, CLIENT, run.client, &byte, 1);
}

static void refused(void)
{
    set_up_client();
    CALL(connect, CLIENT, run.client, closed_port());
    watch(CLIENT, run.client, IN | OUT | RDHUP);
    look_client();
    CALL(error, CLIENT, run.client);
    look_client();
    read_some(CLIENT, run.client, 1);
    write_to(CLIENT, run.client, "x");
    CALL(connect, CLIENT, run.client, run.port);
    look_client();
}

static void refused_and_tried_again(void)
{
    set_up_client();
    CALL(connect, CLIENT, run.client, closed_port());
    run.calls->settle();
    write_to(CLIENT, run.client, "x");
    read_some(CLIENT, run.client, 1);
    CALL(connect, CLIENT, run.client, run.port);
    CALL(connect, CLIENT, run.client, run.port);
    run.calls->settle();
    CALL(connect, CLIENT, run.client, run.port);
    set_up_listener();
    CALL(connect, CLIENT, run.client, run.port);
    watch(CLIENT, run.client, IN | OUT);
    look_client();
}

static void bytes_come(void)
{
    set_up_watched();
    write_to(CLIENT, run.client, "hello");
    look_server();
    look_server();
    read_some(SERVER, run.server, 2);
    look_server();
    write_to(CLIENT, run.client, "again");
    look_server();
    read_some(SERVER, run.server, 64);
    look_server();
    read_some(SERVER, run.server, 64);
    look_client();
}

/* An edge for what comes, not for what somebody else waits for. */
static void each_waits_for_his_own(void)
{
    set_up_pair();
    watch(CLIENT, run.client, OUT);
    watch(SERVER, run.server, IN);
    look_client();
    look_server();
    write_to(CLIENT, run.client, "to server");
    write_to(SERVER, run.server, "to client");
    look_client();
    look_server();
    CALL(shutdown, SERVER, run.server, SHUT_WR);
    look_client();
    look_server();
}

static void fill(int side, int fd)
{
    static char bytes[16384];
    int64_t status;
    do {
        status = run.calls->write(side, fd, bytes, sizeof bytes);
        run.calls->settle();
    } while (status > 0);
    result_of("filled", status);
}

/* The kernel's buffers move in the background: as long as bytes come. */
static void drain(int side, int fd)
{
    static char bytes[16384];
    uint64_t end_s = now_s() + WAIT_S;
    int64_t total = 0;
    while (now_s() < end_s) {
        int64_t status = run.calls->read(side, fd, bytes, sizeof bytes);
        if (status == -EAGAIN && total > 0 && run.calls->ready(CLIENT, run.client))
            break;
        total += status > 0 ? status : 0;
        run.calls->settle();
    }
    result_of("drained", total > 0);
}

static void room_comes_back(void)
{
    set_up_pair();
    watch(CLIENT, run.client, OUT);
    look_client();
    fill(CLIENT, run.client);
    look_client();
    drain(SERVER, run.server);
    write_to(CLIENT, run.client, "more");
}

static void half_closed_by_the_peer(void)
{
    set_up_watched();
    write_to(SERVER, run.server, "last");
    CALL(shutdown, SERVER, run.server, SHUT_WR);
    look_server();
    look_client();
    look_client();
    read_some(CLIENT, run.client, 64);
    read_some(CLIENT, run.client, 64);
    look_client();
    write_to(SERVER, run.server, "x");
    write_to(CLIENT, run.client, "goes on");
    look_server();
    read_some(SERVER, run.server, 64);
    CALL(shutdown, CLIENT, run.client, SHUT_WR);
    look_client();
    look_server();
    read_some(SERVER, run.server, 64);
    write_to(CLIENT, run.client, "x");
    CALL(shutdown, CLIENT, run.client, SHUT_WR);
}

static void input_shut_down(void)
{
    set_up_watched();
    write_to(SERVER, run.server, "abc");
    CALL(shutdown, CLIENT, run.client, SHUT_RD);
    look_client();
    read_some(CLIENT, run.client, 1);
    read_some(CLIENT, run.client, 64);
    read_some(CLIENT, run.client, 64);
    look_client();
    write_to(SERVER, run.server, "more");
    look_client();
    read_some(CLIENT, run.client, 64);
    CALL(shutdown, CLIENT, run.client, SHUT_WR);
    look_client();
}

static void both_shut_down_at_once(void)
{
    set_up_watched();
    CALL(shutdown, CLIENT, run.client, SHUT_RDWR);
    look_client();
    look_server();
    CALL(shutdown, SERVER, run.server, SHUT_RDWR);
    look_server();
    look_client();
    read_some(SERVER, run.server, 64);
    write_to(SERVER, run.server, "x");
}

static void closed_by_the_peer(void)
{
    set_up_watched();
    write_to(SERVER, run.server, "bye");
    CALL(close, SERVER, run.server);
    look_client();
    read_some(CLIENT, run.client, 64);
    read_some(CLIENT, run.client, 64);
    look_client();
    write_to(CLIENT, run.client, "too late"); /* a reset comes back */
    look_client();
    write_to(CLIENT, run.client, "x");
    write_to(CLIENT, run.client, "x");
    read_some(CLIENT, run.client, 64);
}

static void closed_by_the_peer_with_unread_input(void)
{
    set_up_watched();
    write_to(CLIENT, run.client, "unread");
    CALL(close, SERVER, run.server);
    look_client();
    read_some(CLIENT, run.client, 64);
    write_to(CLIENT, run.client, "x");
}

static void reset_by_the_peer(void)
{
    set_up_watched();
    reset(SERVER, run.server);
    look_client();
    read_some(CLIENT, run.client, 64);
    look_client();
    read_some(CLIENT, run.client, 64);
    write_to(CLIENT, run.client, "x");
    CALL(shutdown, CLIENT, run.client, SHUT_WR);
}

static void a_write_tells_the_reset(void)
{
    set_up_watched();
    reset(SERVER, run.server);
    write_to(CLIENT, run.client, "x");
    write_to(CLIENT, run.client, "x");
    read_some(CLIENT, run.client, 64);
    look_client();
    CALL(error, CLIENT, run.client);
}

static void reset_after_bytes(void)
{
    set_up_watched();
    write_to(SERVER, run.server, "unread");
    reset(SERVER, run.server);
    look_client();
    read_some(CLIENT, run.client, 2);
    look_client();
    read_some(CLIENT, run.client, 64);
    look_client();
    read_some(CLIENT, run.client, 64);
    read_some(CLIENT, run.client, 64);
    look_client();
}

static void reset_after_the_end_of_input(void)
{
    set_up_watched();
    CALL(shutdown, SERVER, run.server, SHUT_WR);
    run.calls->settle();
    reset(SERVER, run.server);
    look_client();
    read_some(CLIENT, run.client, 64);
    CALL(error, CLIENT, run.client);
    write_to(CLIENT, run.client, "x");
    look_client();
}

static void reset_before_it_was_accepted(void)
{
    set_up_listener();
    watch(SERVER, run.listener, IN);
    set_up_client();
    CALL(connect, CLIENT, run.client, run.port);
    run.calls->settle();
    write_to(CLIENT, run.client, "hi");
    reset(CLIENT, run.client);
    look("listener", SERVER, run.listener);
    run.server = run.calls->accept(SERVER, run.listener);
    CHECK(run.server >= 0);
    CALL(close, SERVER, run.listener);
    watch(SERVER, run.server, IN | OUT | RDHUP);
    look_server();
    read_some(SERVER, run.server, 64);
    read_some(SERVER, run.server, 64);
    read_some(SERVER, run.server, 64);
}

static void closed_before_it_was_accepted(void)
{
    set_up_listener();
    set_up_client();
    CALL(connect, CLIENT, run.client, run.port);
    run.calls->settle();
    write_to(CLIENT, run.client, "hi");
    CALL(close, CLIENT, run.client);
    run.calls->settle();
    run.server = run.calls->accept(SERVER, run.listener);
    CHECK(run.server >= 0);
    watch(SERVER, run.server, IN | OUT | RDHUP);
    look_server();
    read_some(SERVER, run.server, 64);
    read_some(SERVER, run.server, 64);
}

static void a_closed_listener_resets_who_waits(void)
{
    set_up_listener();
    set_up_client();
    CALL(connect, CLIENT, run.client, run.port);
    watch(CLIENT, run.client, IN | OUT | RDHUP);
    look_client();
    CALL(close, SERVER, run.listener);
    look_client();
    read_some(CLIENT, run.client, 64);
}

static void one_shot(void)
{
    set_up_pair();
    watch(SERVER, run.server, IN | ONESHOT);
    look_server();
    write_to(CLIENT, run.client, "one");
    look_server();
    look_server();
    write_to(CLIENT, run.client, "two");
    look_server();
    CALL(control, SERVER, USN_EPOLL_CTL_MOD, run.server, IN | OUT | ONESHOT | run.trigger);
    look_server();
    look_server();
    CALL(close, CLIENT, run.client);
    look_server(); /* not even this: it is disarmed */
    CALL(control, SERVER, USN_EPOLL_CTL_MOD, run.server, RDHUP | ONESHOT | run.trigger);
    look_server();
    look_server();
}

static void watched_anew(void)
{
    set_up_pair();
    CALL(control, SERVER, USN_EPOLL_CTL_MOD, run.server, IN);
    CALL(control, SERVER, USN_EPOLL_CTL_DEL, run.server, 0);
    write_to(CLIENT, run.client, "here");
    run.calls->settle();
    watch(SERVER, run.server, IN);
    CALL(control, SERVER, USN_EPOLL_CTL_ADD, run.server, IN);
    look_server();
    CALL(control, SERVER, USN_EPOLL_CTL_MOD, run.server, OUT | run.trigger);
    look_server();
    CALL(control, SERVER, USN_EPOLL_CTL_MOD, run.server, IN | run.trigger);
    look_server();
    CALL(control, SERVER, USN_EPOLL_CTL_MOD, run.server, 0);
    look_server();
    CALL(close, CLIENT, run.client);
    look_server(); /* the peer's end is no HUP */
    CALL(shutdown, SERVER, run.server, SHUT_WR);
    look_server(); /* both are: HUP is told though nobody asked for it */
    CALL(control, SERVER, USN_EPOLL_CTL_DEL, run.server, 0);
    look_server();
    CALL(control, SERVER, 9, run.server, 0);
}

static void options(void)
{
    static const struct {
        int level, name, value;
    } set[] = {
        {SOL_SOCKET, SO_KEEPALIVE, -1},        {SOL_SOCKET, SO_RCVBUF, 0},          {SOL_SOCKET, SO_SNDBUF, -5},
        {SOL_SOCKET, SO_REUSEADDR, 1},         {IPPROTO_TCP, TCP_NODELAY, 7},       {IPPROTO_TCP, TCP_CORK, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, 0},        {IPPROTO_TCP, TCP_KEEPIDLE, 32767},  {IPPROTO_TCP, TCP_KEEPIDLE, 32768},
        {IPPROTO_TCP, TCP_KEEPINTVL, -1},      {IPPROTO_TCP, TCP_KEEPCNT, 127},     {IPPROTO_TCP, TCP_KEEPCNT, 128},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, -1},   {IPPROTO_TCP, TCP_USER_TIMEOUT, 0},  {IPPROTO_TCP, TCP_MAXSEG, 10},
        {IPPROTO_TCP, TCP_MAXSEG, 1000},       {IPPROTO_TCP, 12345, 1},
    };
    set_up_client();
    for (size_t i = 0; i < sizeof set / sizeof *set; i++)
        CALL(set, CLIENT, run.client, set[i].level, set[i].name, &set[i].value, sizeof set[i].value);
    CALL(set, CLIENT, run.client, IPPROTO_TCP, TCP_NODELAY, &set[0].value, 3);
    CALL(set, CLIENT, run.client, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
    CALL(set, CLIENT, run.client, IPPROTO_TCP, TCP_CONGESTION, "nothing", 7);
    CALL(set, CLIENT, run.client, SOL_SOCKET, SO_LINGER, &set[0].value, sizeof set[0].value);
}

static void datagram_sockets(void)
{
    char byte;
    run.client = run.calls->socket(CLIENT, SOCK_DGRAM);
    run.server = run.calls->socket(SERVER, SOCK_DGRAM);
    CHECK_EQ(run.calls->bind_any(SERVER, run.server), 0);
    watch(CLIENT, run.client, IN | OUT | RDHUP);
    watch(SERVER, run.server, IN);
    look_client();
    look_client();
    look_server();
    CALL(read, CLIENT, run.client, &byte, 1);
    CALL(write, CLIENT, run.client, "x", 1);
    CALL(listen, CLIENT, run.client);
    CALL(accept, CLIENT, run.client);
    CALL(connect, CLIENT, run.client, run.calls->port(SERVER, run.server));
    write_to(CLIENT, run.client, "one");
    look_server();
    write_to(CLIENT, run.client, "");
    look_server();
    write_to(CLIENT, run.client, "three");
    for (int i = 0; i < 4; i++) {
        read_some(SERVER, run.server, 2);
        look_server();
    }
    CALL(error, CLIENT, run.client);
}

/* ---- */

static const struct {
    const char *name;
    void (*play)(void);
} scripts[] = {
#define SCRIPT(name) {#name, name}
    SCRIPT(sockets_that_are_not_connected),
    SCRIPT(a_listener),
    SCRIPT(connections_to_accept),
    SCRIPT(connecting),
    SCRIPT(refused),
    SCRIPT(refused_and_tried_again),
    SCRIPT(bytes_come),
    SCRIPT(each_waits_for_his_own),
    SCRIPT(room_comes_back),
    SCRIPT(half_closed_by_the_peer),
    SCRIPT(input_shut_down),
    SCRIPT(both_shut_down_at_once),
    SCRIPT(closed_by_the_peer),
    SCRIPT(closed_by_the_peer_with_unread_input),
    SCRIPT(reset_by_the_peer),
    SCRIPT(a_write_tells_the_reset),
    SCRIPT(reset_after_bytes),
    SCRIPT(reset_after_the_end_of_input),
    SCRIPT(reset_before_it_was_accepted),
    SCRIPT(closed_before_it_was_accepted),
    SCRIPT(a_closed_listener_resets_who_waits),
    SCRIPT(one_shot),
    SCRIPT(watched_anew),
    SCRIPT(options),
    SCRIPT(datagram_sockets),
#undef SCRIPT
};

static void play(const struct calls *calls, bool compares, void (*script)(void))
{
    run.calls = calls;
    run.compares = compares;
    run.lines = 0;
    calls->open();
    script();
    calls->close_all();
}

static void compare(const char *name, void (*script)(void), uint32_t trigger)
{
    run.script = name;
    run.trigger = trigger;
    play(&our_calls, false, script);
    int lines = run.lines;
    play(&kernel_calls, true, script);
    CHECK_EQ(run.lines, lines);
    CHECK(lines > 0);
}

int main(void)
{
    check_test = "oracle";
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++) {
        compare(scripts[i].name, scripts[i].play, 0);
        compare(scripts[i].name, scripts[i].play, ET);
        printf("ok %s\n", scripts[i].name);
    }
    return 0;
}
