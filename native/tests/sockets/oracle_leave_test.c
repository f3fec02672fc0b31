/* The kernel as the oracle: what is left of sockets that were shut down, left their peer, or were left. */
#include "script.h"

static void names_of_the_peer(void)
{
    set_up_pair();
    CALL(peer, CLIENT, run.client);
    CALL(close, SERVER, run.server);
    run.calls->settle();
    CALL(peer, CLIENT, run.client);
    CALL(shutdown, CLIENT, run.client, SHUT_WR);
    run.calls->settle();
    read_some(CLIENT, run.client, 1);
    CALL(peer, CLIENT, run.client);
    CALL(shutdown, CLIENT, run.client, SHUT_WR);
}

static void the_name_of_a_peer_that_reset(void)
{
    set_up_pair();
    reset(SERVER, run.server);
    CALL(peer, CLIENT, run.client);
    read_some(CLIENT, run.client, 1);
    CALL(peer, CLIENT, run.client);
}

static void a_listener_shut_down(void)
{
    set_up_listener();
    watch(SERVER, run.listener, IN | OUT);
    CALL(shutdown, SERVER, run.listener, SHUT_WR);
    look("listener", SERVER, run.listener);
    set_up_client();
    CALL(connect, CLIENT, run.client, run.port);
    look("listener", SERVER, run.listener);
    watch(CLIENT, run.client, IN | OUT | RDHUP);
    look_client();
    CALL(shutdown, SERVER, run.listener, SHUT_RD);
    look("listener", SERVER, run.listener);
    look_client(); /* nobody had accepted it */
    CALL(accept, SERVER, run.listener);
    CALL(get, SERVER, run.listener, SOL_SOCKET, SO_ACCEPTCONN);
    CALL(listen, SERVER, run.listener);
    CALL(get, SERVER, run.listener, SOL_SOCKET, SO_ACCEPTCONN);
}

static void a_listener_that_leaves(void)
{
    set_up_listener();
    CALL(leave, SERVER, run.listener);
    CALL(get, SERVER, run.listener, SOL_SOCKET, SO_ACCEPTCONN);
    CALL(accept, SERVER, run.listener);
    look("listener", SERVER, run.listener);
}

static void an_attempt_shut_down(void)
{
    char byte;
    set_up_client();
    watch(CLIENT, run.client, IN | OUT | RDHUP);
    CALL(attempt, CLIENT, run.client);
    CALL(peer, CLIENT, run.client);
    CALL(shutdown, CLIENT, run.client, SHUT_WR);
    look_client();
    CALL(read, CLIENT, run.client, &byte, 1);
    CALL(read, CLIENT, run.client, &byte, 1);
    CALL(write, CLIENT, run.client, "x", 1);
    CALL(error, CLIENT, run.client);
    CALL(shutdown, CLIENT, run.client, SHUT_RD);
    CALL(attempt, CLIENT, run.client);
}

static void input_that_comes_when_both_are_shut_down(void)
{
    set_up_watched();
    CALL(shutdown, CLIENT, run.client, SHUT_RDWR);
    look_client();
    look_server();
    write_to(SERVER, run.server, "nobody reads this");
    look_client();
    look_server();
    read_some(CLIENT, run.client, 64);
    read_some(CLIENT, run.client, 64);
    write_to(SERVER, run.server, "x");
    read_some(SERVER, run.server, 64);
    look_server();
}

static void input_that_came_before_both_were_shut_down(void)
{
    set_up_watched();
    write_to(SERVER, run.server, "before");
    CALL(shutdown, CLIENT, run.client, SHUT_RD);
    write_to(SERVER, run.server, " and between");
    CALL(shutdown, CLIENT, run.client, SHUT_WR);
    read_some(CLIENT, run.client, 64);
    CALL(shutdown, SERVER, run.server, SHUT_WR);
    look_client();
    look_server();
}

static void the_outcome_is_told_once(void)
{
    set_up_pair();
    CALL(connect, CLIENT, run.client, run.port);
    CALL(connect, CLIENT, run.client, run.port);
    CALL(connect, SERVER, run.server, run.port);
}

static void a_reset_before_the_outcome_was_told(void)
{
    set_up_pair();
    reset(SERVER, run.server);
    CALL(connect, CLIENT, run.client, run.port);
    CALL(error, CLIENT, run.client);
    CALL(peer, CLIENT, run.client);
    CALL(connect, CLIENT, run.client, run.port);
}

static void a_connection_left(void)
{
    set_up_pair();
    watch(SERVER, run.server, IN | OUT | RDHUP);
    CALL(leave, CLIENT, run.client);
    look_server();
    read_some(SERVER, run.server, 1);
    CALL(peer, CLIENT, run.client);
    CALL(leave, CLIENT, run.client);
    set_up_listener();
    CALL(connect, CLIENT, run.client, run.port);
}

static void a_datagram_peer_left(void)
{
    run.client = run.calls->socket(CLIENT, SOCK_DGRAM);
    run.server = run.calls->socket(SERVER, SOCK_DGRAM);
    CHECK_EQ(run.calls->bind_any(SERVER, run.server), 0);
    CALL(leave, CLIENT, run.client);
    CALL(connect, CLIENT, run.client, run.calls->port(SERVER, run.server));
    CALL(peer, CLIENT, run.client);
    CALL(leave, CLIENT, run.client);
    CALL(peer, CLIENT, run.client);
    write_to(CLIENT, run.client, "x");
}

static void a_datagram_socket_shut_down(void)
{
    run.client = run.calls->socket(CLIENT, SOCK_DGRAM);
    run.server = run.calls->socket(SERVER, SOCK_DGRAM);
    CHECK_EQ(run.calls->bind_any(SERVER, run.server), 0);
    CALL(connect, CLIENT, run.client, run.calls->port(SERVER, run.server));
    watch(CLIENT, run.client, IN | OUT | RDHUP);
    look_client();
    CALL(shutdown, CLIENT, run.client, SHUT_WR);
    write_to(CLIENT, run.client, "x");
    look_client();
    CALL(shutdown, CLIENT, run.client, SHUT_RD);
    look_client();
}

static void what_a_socket_is(void)
{
    static const int names[] = {SO_TYPE, SO_DOMAIN, SO_PROTOCOL, SO_ACCEPTCONN};
    set_up_client();
    run.server = run.calls->socket(SERVER, SOCK_DGRAM);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        CALL(get, CLIENT, run.client, SOL_SOCKET, names[i]);
        CALL(get, SERVER, run.server, SOL_SOCKET, names[i]);
    }
    CALL(set, SERVER, run.server, IPPROTO_TCP, TCP_NODELAY, names, sizeof *names);
    CALL(set, SERVER, run.server, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
}

int main(void)
{
    static const struct script scripts[] = {
        SCRIPT(names_of_the_peer),
        SCRIPT(the_name_of_a_peer_that_reset),
        SCRIPT(a_listener_shut_down),
        SCRIPT(a_listener_that_leaves),
        SCRIPT(an_attempt_shut_down),
        SCRIPT(input_that_comes_when_both_are_shut_down),
        SCRIPT(input_that_came_before_both_were_shut_down),
        SCRIPT(the_outcome_is_told_once),
        SCRIPT(a_reset_before_the_outcome_was_told),
        SCRIPT(a_connection_left),
        SCRIPT(a_datagram_peer_left),
        SCRIPT(a_datagram_socket_shut_down),
        SCRIPT(what_a_socket_is),
    };
    scripts_compare(scripts, sizeof scripts / sizeof *scripts);
    return 0;
}
