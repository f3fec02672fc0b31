/* Calls on a stack without sockets: nothing where something is needed, and the list of connections. */
#include "world.h"

static struct usnet_stack *stack_of(int side)
{
    return usnet_stack_of(world.sides[side]);
}

static void nothing_where_an_address_is_needed_is_refused(void)
{
    struct usnet_endpoint here = {.ip = {10, 0, 0, 9}, .family = 4, .port = 9};
    uint64_t conn;
    world_open();
    struct usnet_stack *stack = stack_of(CLIENT);
    CHECK_EQ(usnet_stack_add_address(stack, NULL, 24), -EFAULT);
    CHECK_EQ(usnet_stack_add_route(stack, NULL, 24, &here), -EFAULT);
    CHECK_EQ(usnet_stack_add_route(stack, &here, 24, NULL), -EFAULT);
    CHECK_EQ(usnet_stack_listen(stack, NULL, 1, 0), -EFAULT);
    CHECK_EQ(usnet_stack_connect(stack, NULL, NULL, 0, &conn), -EFAULT);
    CHECK_EQ(usnet_stack_connect(stack, &here, NULL, 0, NULL), -EFAULT);
    CHECK_EQ(usnet_stack_udp_open(stack, NULL, 0), -EFAULT);
    CHECK_EQ(usnet_stack_udp_send(stack, 0, NULL, "", 0), -EFAULT);
    CHECK_EQ(usnet_stack_owner(NULL, NULL, 1), 0);
    CHECK_EQ(usnet_stack_owner(&here, &here, 0), 0);
    world_close();
}

static void nothing_where_bytes_are_needed_is_refused(void)
{
    struct usnet_tcp_info info;
    uint64_t conn = 0;
    uint32_t position = 0;
    world_open();
    struct usnet_stack *stack = stack_of(CLIENT);
    CHECK_EQ(usnet_stack_input(stack, NULL, 60, 0, 0), -EFAULT);
    CHECK_EQ(usnet_stack_output(stack, NULL, 60, NULL), -EFAULT);
    CHECK_EQ(usnet_stack_event(stack, NULL), -EFAULT);
    CHECK_EQ(usnet_stack_write(stack, conn, NULL, 1), -EFAULT);
    CHECK_EQ(usnet_stack_read(stack, conn, NULL, 1), -EFAULT);
    CHECK_EQ(usnet_stack_peek(stack, conn, NULL, 1), -EFAULT);
    CHECK_EQ(usnet_stack_get_option(stack, conn, USNET_OPTION_TOS, NULL), -EFAULT);
    CHECK_EQ(usnet_stack_udp_receive(stack, 0, NULL, NULL, 1), -EFAULT);
    CHECK_EQ(usnet_stack_info(stack, conn, NULL), -EFAULT);
    CHECK_EQ(usnet_stack_counters(stack, USNET_STACK_TCP, NULL, 1), -EFAULT);
    CHECK_EQ(usnet_stack_next_connection(stack, NULL, &conn, &info), -EFAULT);
    CHECK_EQ(usnet_stack_next_connection(stack, &position, NULL, &info), -EFAULT);
    CHECK_EQ(usnet_stack_next_connection(stack, &position, &conn, NULL), -EFAULT);
    usnet_stack_usage(stack, NULL);
    CHECK_EQ(usnet_stack_write(stack, conn, NULL, 0), -EBADF);
    world_close();
}

static void no_stack_is_refused(void)
{
    struct usnet_stack *stacks[1] = {NULL}, *made;
    struct usnet_stack_options options;
    struct usnet_link link = world_link();
    struct usnet_event event;
    const char *why;
    usnet_stack_defaults(NULL, 1);
    usnet_stack_defaults(&options, 1);
    CHECK(usnet_stack_bytes(&options, NULL) > 0);
    CHECK_EQ(usnet_stack_bytes(NULL, &why), -EFAULT);
    CHECK_EQ(usnet_stack_create(NULL, &options, &link, NULL, 0), -EFAULT);
    CHECK_EQ(usnet_stack_create(&made, NULL, &link, NULL, 0), -EFAULT);
    CHECK_EQ(usnet_stack_create(&made, &options, NULL, NULL, 0), -EFAULT);
    CHECK_EQ(usnet_stack_adopt(&made, &link, NULL, 1 << 20), -EFAULT);
    CHECK_EQ(usnet_stack_join(NULL, 1), -EFAULT);
    CHECK_EQ(usnet_stack_join(stacks, 1), -EFAULT);
    CHECK_EQ(usnet_stack_poll(NULL, 1), 0);
    CHECK_EQ(usnet_stack_deadline_ns(NULL), UINT64_MAX);
    CHECK_EQ(usnet_stack_event(NULL, &event), -EFAULT);
    CHECK_EQ(usnet_stack_accept(NULL, 1, 0), -EFAULT);
    CHECK_EQ(usnet_stack_close(NULL, 1), -EFAULT);
    CHECK_EQ(usnet_stack_set_fast_paths(NULL, true), -EFAULT);
    CHECK(usnet_stack_check(NULL) != NULL);
    CHECK(usnet_device_hand(NULL) == NULL);
    CHECK(usnet_device_tap(NULL, &why) == NULL);
    CHECK(usnet_device_pcap(NULL, "x", NULL, NULL, &why) == NULL);
    CHECK(usnet_device_fault(NULL, NULL) == NULL);
    CHECK_EQ(usnet_device_memory(NULL, &link), -EFAULT);
    usnet_stack_destroy(NULL);
}

/* How many connections are in each state. */
struct count {
    int all;
    int nameless; /* without a handle */
    int established;
    int time_wait;
};

static struct count count(int side)
{
    struct count found = {0};
    struct usnet_tcp_info info;
    uint32_t position = 0;
    uint64_t conn;
    while (usnet_stack_next_connection(stack_of(side), &position, &conn, &info) == 1) {
        found.all++;
        found.nameless += conn == 0;
        found.established += info.state == USNET_TCP_ESTABLISHED;
        found.time_wait += info.state == USNET_TCP_TIME_WAIT;
        CHECK_EQ(side == SERVER ? info.local.port : info.remote.port, PORT);
        CHECK_EQ(info.local.ip[3], side + 1);
    }
    return found;
}

static void connections_are_listed_with_those_that_have_no_descriptor(void)
{
    struct sockaddr_in to = ipv4(SERVER, PORT);
    world_open();
    CHECK_EQ(count(SERVER).all, 0);
    int listener = world_listen(PORT, 4), client = usnet_socket(world.sides[CLIENT], AF_INET, SOCK_STREAM, 0);
    CHECK_EQ(usnet_connect(world.sides[CLIENT], client, ADDRESS(to)), -EINPROGRESS);
    world_settle();
    struct count waiting = count(SERVER); /* to be accepted */
    CHECK(waiting.all == 1 && waiting.established == 1 && waiting.nameless == 0);
    int server = world_accept(listener);
    CHECK_EQ(count(SERVER).established, 1);
    CHECK_EQ(usnet_close(world.sides[CLIENT], client), 0);
    CHECK_EQ(usnet_close(world.sides[SERVER], server), 0);
    world_settle();
    struct count closed = count(CLIENT);
    CHECK(closed.all == 1 && closed.nameless == 1);
    world_run(WORLD_SECOND);
    CHECK_EQ(count(CLIENT).time_wait + count(SERVER).time_wait, count(CLIENT).all + count(SERVER).all);
    world_run(200 * WORLD_SECOND);
    CHECK_EQ(count(CLIENT).all + count(SERVER).all, 0);
    world_close();
}

int main(void)
{
    RUN(nothing_where_an_address_is_needed_is_refused);
    RUN(nothing_where_bytes_are_needed_is_refused);
    RUN(no_stack_is_refused);
    RUN(connections_are_listed_with_those_that_have_no_descriptor);
    return 0;
}
