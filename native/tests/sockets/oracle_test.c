/* The kernel as the oracle: how connections begin, what comes and goes on them, and how they are watched. */
#include "script.h"

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

int main(void)
{
    static const struct script scripts[] = {
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
        SCRIPT(one_shot),
        SCRIPT(watched_anew),
        SCRIPT(options),
        SCRIPT(datagram_sockets),
    };
    scripts_compare(scripts, sizeof scripts / sizeof *scripts);
    return 0;
}
