/* The kernel as the oracle: how connections end. */
#include "script.h"

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

int main(void)
{
    static const struct script scripts[] = {
        SCRIPT(closed_by_the_peer),
        SCRIPT(closed_by_the_peer_with_unread_input),
        SCRIPT(reset_by_the_peer),
        SCRIPT(a_write_tells_the_reset),
        SCRIPT(reset_after_bytes),
        SCRIPT(reset_after_the_end_of_input),
        SCRIPT(reset_before_it_was_accepted),
        SCRIPT(closed_before_it_was_accepted),
        SCRIPT(a_closed_listener_resets_who_waits),
    };
    scripts_compare(scripts, sizeof scripts / sizeof *scripts);
    return 0;
}
