/* An engine over a stack of our own, at an address that a kernel has as well: it reads the kernel's table, asks for
 * what is not there, and goes on with another table, also when it is killed at any instruction of that. Sanitized,
 * every 16th state is judged. */
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "check.h"
#include "engine/control.h"
#include "server.h"
#include "stack/arena.h"
#include "stack/neighbour_table.h"
#include "step.h"

#define LOOKS 32 /* polls, in which descriptors are looked at */

static const uint8_t client_mac[UN_MAC_BYTES] = {2, 0, 0, 0, 0, 2};
static const struct un_ip client_ip = {{[10] = 0xff, 0xff, 10, 0, 0, 2}};
static uint32_t states;

static struct un_tcb *conn_of(struct un_engine *engine, uint32_t number)
{
    return &engine->link->stack.tcp.tcbs[engine->works[UN_ID_SLOT(server.conns[number])].handle];
}

/* The station of the first connection was pushed out, and its worker has something to send. */
static void start_asking(void)
{
    server_open_shared();
    step_forget();
    conn_of(server.engine, 0)->next_hop = 0;
    worker_send(server.conns[0], 100);
    for (int i = 0; i < LOOKS; i++)
        server_turn();
    clients_turn();
}

static uint32_t received(void)
{
    return un_stack_conn_find(&server.far, server.clients[0])->rcv_bytes;
}

static void the_kernel_is_asked_once(void)
{
    struct un_control message;
    start_asking();
    CHECK_EQ(received(), 0);
    CHECK_EQ(recv(server.control_fd, &message, sizeof message, MSG_DONTWAIT), (ssize_t)sizeof message);
    CHECK_EQ(message.type, UN_CONTROL_ASKS);
    CHECK(memcmp(message.arg, client_ip.bytes, sizeof message.arg) == 0);
    CHECK(recv(server.control_fd, &message, sizeof message, MSG_DONTWAIT) < 0);
    server_close();
}

/* The supervisor does not read, and its socket is full. */
static void a_question_that_finds_no_room_is_asked_later(void)
{
    struct un_control message = {.type = UN_CONTROL_SAYS};
    server_open_shared();
    step_forget();
    conn_of(server.engine, 0)->next_hop = 0;
    while (send(server.setup.control_fd, &message, sizeof message, MSG_DONTWAIT) > 0)
        continue;
    worker_send(server.conns[0], 100);
    for (int i = 0; i < LOOKS; i++)
        server_turn();
    while (recv(server.control_fd, &message, sizeof message, MSG_DONTWAIT) > 0)
        CHECK_EQ(message.type, UN_CONTROL_SAYS);
    for (int i = 0; i < LOOKS; i++)
        server_turn();
    CHECK_EQ(recv(server.control_fd, &message, sizeof message, MSG_DONTWAIT), (ssize_t)sizeof message);
    CHECK_EQ(message.type, UN_CONTROL_ASKS);
    server_close();
}

static void what_waited_leaves_when_there_is_an_answer(void)
{
    start_asking();
    server_tell(client_mac);
    for (int i = 0; i < LOOKS; i++)
        server_turn();
    clients_turn();
    CHECK_EQ(received(), 100);
    server_close();
}

static void connections_go_on_with_the_next_engine(void)
{
    server_open_shared();
    struct un_engine *dead = server.engine;
    server.engine = un_engine_start(&server.setup);
    CHECK(server.engine != NULL);
    worker_send(server.conns[0], 100);
    server_turn();
    clients_turn();
    CHECK_EQ(received(), 100);
    un_exchange_close(&dead->link->exchange);
    munmap((void *)(uintptr_t)dead->link->kernel, sizeof *dead->link->kernel);
    free(dead->link);
    free(dead);
    server_close();
}

/* ---- killed at any instruction ---- */

static void follow(void)
{
    un_stack_follow(&server.engine->link->stack);
    server_turn();
}

static void check_takeover(void)
{
    struct un_engine *engine = un_engine_start(&server.setup);
    CHECK(engine != NULL);
    struct un_stack *stack = &engine->link->stack;
    CHECK(un_stack_check(stack) == NULL);
    CHECK_EQ(stack->own->address_count, 1);
    CHECK_EQ(stack->own->addresses[0].state, UN_ADDRESS_OURS);
    for (int i = 0; i < LOOKS; i++)
        un_engine_turn(engine, 0);
    CHECK(un_stack_check(stack) == NULL);
    /* whatever stamp the connection has seen: it looks again with its next segment */
    const struct un_neighbour *neighbour = un_neighbour_find(stack, &client_ip);
    CHECK(neighbour != NULL);
    CHECK_EQ(neighbour->state, UN_NEIGHBOUR_TOLD);
    CHECK(memcmp(neighbour->ethernet, client_mac, UN_MAC_BYTES) == 0);
    CHECK_EQ(conn_of(engine, 0)->snd_nxt - conn_of(engine, 0)->snd_una, 100); /* it is on its way */
}

static void judge(void)
{
    if (!UN_TEST_SANITIZED || states++ % 16 == 0)
        step_judge(check_takeover);
}

static void killed_while_it_follows_another_table(void)
{
    start_asking();
    server_tell(client_mac);
    server_step(follow, judge);
}

/* The request may be lost with the engine; its sender repeats it. What is left of the station is whole, or nothing. */
static void check_station(void)
{
    struct un_engine *engine = un_engine_start(&server.setup);
    CHECK(engine != NULL);
    struct un_stack *stack = &engine->link->stack;
    for (uint32_t i = 0; i < stack->config->neighbours; i++) {
        const struct un_neighbour *neighbour = &stack->neighbours[i];
        bool is_whole = memcmp(neighbour->ethernet, client_mac, UN_MAC_BYTES) == 0;
        CHECK(neighbour->state == UN_NEIGHBOUR_FREE || (neighbour->state == UN_NEIGHBOUR_TOLD && is_whole));
    }
    for (int i = 0; i < LOOKS; i++)
        un_engine_turn(engine, 0);
    CHECK(un_stack_check(stack) == NULL);
}

static void judge_station(void)
{
    if (!UN_TEST_SANITIZED || states++ % 16 == 0)
        step_judge(check_station);
}

static void killed_while_a_station_is_heard(void)
{
    server_open_shared();
    step_forget();
    struct un_stack *stack = &server.engine->link->stack;
    for (uint32_t i = 0; i < stack->config->neighbours; i++)
        stack->neighbours[i].state = UN_NEIGHBOUR_FREE; /* as if others had pushed it out */
    conn_of(server.engine, 0)->next_hop = 0;
    client_send(server.clients[0], 300);
    server_step(server_turn, judge_station);
}

int main(void)
{
    RUN(the_kernel_is_asked_once);
    RUN(a_question_that_finds_no_room_is_asked_later);
    RUN(what_waited_leaves_when_there_is_an_answer);
    RUN(connections_go_on_with_the_next_engine);
    RUN(killed_while_it_follows_another_table);
    RUN(killed_while_a_station_is_heard);
    return 0;
}
