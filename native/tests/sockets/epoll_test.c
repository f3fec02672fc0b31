/* What epoll promises beyond single sockets (oracle_test.c has those): turns, instances, data, lists. */
#include "api/context.h"
#include "world.h"

enum { CONNS = 5 };

static struct ends conns[CONNS];

static void open_conns(void)
{
    world_open();
    int listener = world_listen(PORT, 16);
    for (int i = 0; i < CONNS; i++)
        conns[i] = world_connect(listener, PORT);
}

static int wait_server(struct usnet_epoll_event *events, int most)
{
    return usnet_epoll_wait(world.sides[SERVER], world.epolls[SERVER], events, most, 0);
}

static void all_have_their_turn(void)
{
    struct usnet_epoll_event events[2];
    int seen[CONNS] = {0};
    open_conns();
    for (int i = 0; i < CONNS; i++) {
        struct usnet_epoll_event event = {.events = IN, .data.u32 = (uint32_t)i};
        CHECK_EQ(usnet_epoll_ctl(world.sides[SERVER], world.epolls[SERVER], USN_EPOLL_CTL_ADD, conns[i].server, &event),
                 0);
        world_write(CLIENT, conns[i].client, "x");
    }
    world_settle();
    for (int round = 0; round < 2 * CONNS; round++) {
        CHECK_EQ(wait_server(events, 2), 2);
        seen[events[0].data.u32]++;
        seen[events[1].data.u32]++;
    }
    for (int i = 0; i < CONNS; i++)
        CHECK_EQ(seen[i], 4);
    world_close();
}

static void an_edge_is_told_once_whatever_its_place_in_the_list(void)
{
    struct usnet_epoll_event events[CONNS];
    open_conns();
    for (int i = 0; i < CONNS; i++)
        world_watch(SERVER, conns[i].server, i % 2 ? IN : IN | ET);
    for (int i = 0; i < CONNS; i++)
        world_write(CLIENT, conns[i].client, "x");
    world_settle();
    CHECK_EQ(wait_server(events, CONNS), CONNS);
    CHECK_EQ(wait_server(events, CONNS), CONNS / 2);
    for (int i = 0; i < CONNS; i++)
        world_expect(SERVER, conns[i].server, "x");
    CHECK_EQ(wait_server(events, CONNS), 0);
    world_close();
}

static void data_come_back_as_they_were_given(void)
{
    struct usnet_epoll_event event = {.events = OUT, .data.ptr = &world}, events[2];
    open_conns();
    CHECK_EQ(usnet_epoll_ctl(world.sides[SERVER], world.epolls[SERVER], USN_EPOLL_CTL_ADD, conns[0].server, &event), 0);
    CHECK_EQ(wait_server(events, 2), 1);
    CHECK(events[0].data.ptr == &world);
    event.data.u64 = UINT64_MAX;
    CHECK_EQ(usnet_epoll_ctl(world.sides[SERVER], world.epolls[SERVER], USN_EPOLL_CTL_MOD, conns[0].server, &event), 0);
    CHECK_EQ(wait_server(events, 2), 1);
    CHECK_EQ(events[0].data.u64, UINT64_MAX);
    world_close();
}

static void a_socket_stands_in_one_instance(void)
{
    struct usnet_epoll_event event = {.events = IN}, events[2];
    open_conns();
    struct usnet *server = world.sides[SERVER];
    int other = usnet_epoll_create(server), fd = conns[0].server;
    world_watch(SERVER, fd, IN);
    world_write(CLIENT, conns[0].client, "x");
    world_settle();
    CHECK_EQ(usnet_epoll_ctl(server, other, USN_EPOLL_CTL_ADD, fd, &event), -EEXIST);
    CHECK_EQ(usnet_epoll_ctl(server, other, USN_EPOLL_CTL_MOD, fd, &event), -ENOENT);
    CHECK_EQ(usnet_epoll_ctl(server, other, USN_EPOLL_CTL_DEL, fd, NULL), -ENOENT);
    CHECK_EQ(usnet_epoll_wait(server, other, events, 2, 0), 0);
    CHECK_EQ(usnet_close(server, world.epolls[SERVER]), 0); /* while it is listed there */
    CHECK_EQ(usnet_epoll_ctl(server, other, USN_EPOLL_CTL_ADD, fd, &event), 0);
    CHECK_EQ(usnet_epoll_wait(server, other, events, 2, 0), 1);
    CHECK_EQ(usnet_epoll_ctl(server, other, USN_EPOLL_CTL_DEL, fd, NULL), 0);
    CHECK_EQ(usnet_epoll_wait(server, other, events, 2, 0), 0);
    world_close();
}

static void what_cannot_be_watched(void)
{
    struct usnet_epoll_event event = {.events = IN};
    open_conns();
    struct usnet *server = world.sides[SERVER];
    int epoll = world.epolls[SERVER], fd = conns[0].server;
    CHECK_EQ(usnet_epoll_ctl(server, epoll, USN_EPOLL_CTL_ADD, epoll, &event), -EINVAL);
    CHECK_EQ(usnet_epoll_ctl(server, fd, USN_EPOLL_CTL_ADD, fd, &event), -EINVAL);
    CHECK_EQ(usnet_epoll_wait(server, fd, &event, 1, 0), -EINVAL);
    CHECK_EQ(usnet_epoll_wait(server, epoll, &event, 0, 0), -EINVAL);
    CHECK_EQ(usnet_epoll_wait(server, epoll, &event, -5, 0), -EINVAL);
    event.events = IN | 0x2; /* EPOLLPRI: there is no urgent data */
    CHECK_EQ(usnet_epoll_ctl(server, epoll, USN_EPOLL_CTL_ADD, fd, &event), -EINVAL);
    world_close();
}

/* Other instances hear what a wait on one of them brings in. */
static void instances_do_not_lose_what_another_fetched(void)
{
    struct usnet_epoll_event event = {.events = IN | ET}, events[2];
    open_conns();
    struct usnet *server = world.sides[SERVER];
    int other = usnet_epoll_create(server);
    world_watch(SERVER, conns[0].server, IN | ET);
    CHECK_EQ(usnet_epoll_ctl(server, other, USN_EPOLL_CTL_ADD, conns[1].server, &event), 0);
    world_write(CLIENT, conns[0].client, "x");
    world_write(CLIENT, conns[1].client, "x");
    usnet_poll(world.sides[CLIENT]);
    CHECK_EQ(usnet_epoll_wait(server, other, events, 2, 0), 1);
    CHECK_EQ(wait_server(events, 2), 1);
    CHECK_EQ(wait_server(events, 2), 0);
    world_close();
}

/* A random program of arrivals, reads, and watches; beside it, what each socket has, counted naively. */
static void level_triggered_is_what_is_true(uint64_t seed)
{
    uint64_t random = seed;
    uint32_t unread[CONNS] = {0}, watched[CONNS] = {0};
    open_conns();
    for (int step = 0; step < 200; step++) {
        uint32_t i = random_below(&random, CONNS);
        char bytes[8];
        switch (random_below(&random, 4)) {
        case 0:
            CHECK_EQ(world_write(CLIENT, conns[i].client, "abc"), 3);
            unread[i] += 3;
            world_run(WORLD_SECOND);
            break;
        case 1: {
            int64_t got = usnet_read(world.sides[SERVER], conns[i].server, bytes, 1 + random_below(&random, 8));
            CHECK_EQ(got < 0, unread[i] == 0);
            unread[i] -= got > 0 ? (uint32_t)got : 0;
            break;
        }
        case 2: {
            struct usnet_epoll_event event = {.events = IN, .data.u32 = i};
            int operation = watched[i] ? USN_EPOLL_CTL_DEL : USN_EPOLL_CTL_ADD;
            CHECK_EQ(usnet_epoll_ctl(world.sides[SERVER], world.epolls[SERVER], operation, conns[i].server, &event), 0);
            watched[i] = !watched[i];
            break;
        }
        default: {
            struct usnet_epoll_event events[CONNS];
            int expected = 0, found = wait_server(events, CONNS);
            for (uint32_t k = 0; k < CONNS; k++)
                expected += watched[k] && unread[k] > 0;
            CHECK_EQ(found, expected);
            for (int k = 0; k < found; k++)
                CHECK(unread[events[k].data.u32] > 0 && watched[events[k].data.u32]);
        }
        }
    }
    world_close();
}

static void level_triggered_at_random(void)
{
    for_each_seed(20, level_triggered_is_what_is_true);
}

int main(void)
{
    RUN(all_have_their_turn);
    RUN(an_edge_is_told_once_whatever_its_place_in_the_list);
    RUN(data_come_back_as_they_were_given);
    RUN(a_socket_stands_in_one_instance);
    RUN(what_cannot_be_watched);
    RUN(instances_do_not_lose_what_another_fetched);
    RUN(level_triggered_at_random);
    return 0;
}
