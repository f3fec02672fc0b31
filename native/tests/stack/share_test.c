/* What a connection remembers of its way, when the kernel whose addresses it shares writes another table. */
#include <string.h>

#include "net.h"
#include "stack/arena.h"
#include "stack/kernel_table.h"
#include "stack/neighbour_table.h"

static struct host host;
static struct un_kernel_table kernel;
static struct un_kernel_route routes[2];
static uint64_t now_ns;

/* The kernel knows the first so many of 10.0.0.2, 10.0.0.3 … */
static void tell(uint32_t route_count, uint8_t neighbours, uint8_t mac)
{
    const struct un_kernel_address address = {.ip = ip4(10, 0, 0, 1), .prefix = 24};
    struct un_kernel_neighbour known[8] = {0};
    for (uint8_t i = 0; i < neighbours; i++) {
        uint8_t number = (uint8_t)(2 + i);
        known[i] = (struct un_kernel_neighbour){.ip = ip4(10, 0, 0, number), .mac = {2, 0, 0, 0, mac, number}};
    }
    un_kernel_write(&kernel, &(struct un_kernel_news){&address, routes, known, 1, route_count, neighbours});
    un_stack_follow(&host.stack);
    un_stack_poll(&host.stack, ++now_ns);
    CHECK(un_stack_check(&host.stack) == NULL);
}

/* A connection to 10.0.0.2. */
static const struct un_tcb *begin(uint8_t neighbours)
{
    struct un_stack_config config = net_config();
    struct un_device_capabilities capabilities = net_capabilities(1);
    struct un_stack_peer peer = {ip4(10, 0, 0, 2), 80};
    uint64_t conn;
    config.shared = true;
    config.port_low = config.port_high = 50000;
    now_ns = NET_SECOND;
    memset(&kernel, 0, sizeof kernel);
    routes[0] = (struct un_kernel_route){.network = ip4(10, 0, 0, 0), .prefix = 24};
    routes[1] = (struct un_kernel_route){.network = ip4(0, 0, 0, 0), .gateway = ip4(10, 0, 0, 3)};
    host_make(&host, &config, un_hand_open(&capabilities, 64));
    un_stack_share(&host.stack, &kernel);
    tell(1, neighbours, 0);
    CHECK_EQ(un_stack_connect(&host.stack, &peer, NULL, 0, &conn), 0);
    un_stack_poll(&host.stack, ++now_ns);
    return un_stack_conn_find(&host.stack, conn);
}

static void end(const struct un_tcb *tcb)
{
    CHECK_EQ(un_stack_abort(&host.stack, un_stack_handle(&host.stack, tcb)), 0);
    un_stack_poll(&host.stack, ++now_ns);
    host_close(&host);
}

static const struct un_neighbour *next_hop(const struct un_tcb *tcb)
{
    const struct un_neighbour *neighbour = &host.stack.neighbours[tcb->next_hop & (host.stack.config->neighbours - 1)];
    return neighbour->stamp == tcb->next_hop ? neighbour : NULL;
}

static void news_of_other_neighbours_changes_nothing(void)
{
    const struct un_tcb *tcb = begin(1);
    const struct un_neighbour before = *next_hop(tcb);
    CHECK_EQ(before.state, UN_NEIGHBOUR_TOLD);
    tell(1, 4, 0);
    CHECK(next_hop(tcb) != NULL);
    CHECK(memcmp(next_hop(tcb), &before, sizeof before) == 0);
    end(tcb);
}

static void a_neighbour_that_moved_is_the_same(void)
{
    const struct un_tcb *tcb = begin(1);
    tell(1, 1, 7);
    CHECK(next_hop(tcb) != NULL);
    CHECK_EQ(next_hop(tcb)->ethernet[4], 7);
    end(tcb);
}

static void other_routes_are_looked_at(void)
{
    const struct un_tcb *tcb = begin(1);
    tell(2, 1, 0);
    CHECK(next_hop(tcb) == NULL);
    end(tcb);
}

static void who_waits_goes_on_waiting_when_others_are_found(void)
{
    const struct un_tcb *tcb = begin(0);
    CHECK_EQ(next_hop(tcb)->state, UN_NEIGHBOUR_INCOMPLETE);
    const struct un_neighbour before = *next_hop(tcb);
    CHECK(before.waiting.head != UN_NONE);
    tell(1, 0, 0);
    CHECK(memcmp(next_hop(tcb), &before, sizeof before) == 0);
    tell(1, 1, 0);
    CHECK_EQ(next_hop(tcb)->state, UN_NEIGHBOUR_TOLD);
    CHECK(next_hop(tcb)->waiting.head == UN_NONE);
    end(tcb);
}

int main(void)
{
    RUN(news_of_other_neighbours_changes_nothing);
    RUN(a_neighbour_that_moved_is_the_same);
    RUN(other_routes_are_looked_at);
    RUN(who_waits_goes_on_waiting_when_others_are_found);
    return 0;
}
