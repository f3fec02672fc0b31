/* A stack that shares its addresses with the kernel of its host.
 *
 * Both have the interface's MAC address and its IP addresses. Of what comes, the stack gets TCP and UDP to served ports
 * and ICMP errors about packets from them; the kernel gets all else. So the kernel alone does ARP and neighbour
 * discovery, answers pings and knows the routes, and the stack announces nothing, asks nobody on the link, and leaves
 * unanswered what it should not have got. What the kernel knows it reads in a table (kernel_table.h):
 *
 *   addresses    Those of the table are ours. One that went is not used: nothing comes to it any more. Its connections
 *                are not ended; as with the kernel's, they go on when it comes back in time, or time out.
 *   routes       of connections that we open, and of those whose station was pushed out (neighbour.c)
 *   neighbours   the same
 *
 * Connections know their address by its place, so an address that went keeps its place while there are any. When all
 * places are taken, a new one has to wait for a table that comes later. */
#include "stack/share.h"

#include "stack/kernel_table.h"
#include "stack/local.h"
#include "stack/neighbour.h"

UN_STATIC_ASSERT(UN_KERNEL_ADDRESSES_MAX <= UN_STACK_ADDRESSES_MAX, "the stack takes all addresses of a table");

/* ---- addresses ---- */

/* Some connection, or a reset that is kept, comes from the address at this place. */
static bool is_referenced(const struct un_stack *stack, uint32_t place)
{
    const struct un_farewells *farewells = &stack->own->farewells;
    for (uint32_t at = farewells->taken; at != farewells->put; at++)
        if (farewells->ring[at % UN_FAREWELLS_MAX].local == place)
            return true;
    return stack->own->claims[place].conns > 0;
}

/* UN_NONE: all are taken. */
static uint32_t free_place(const struct un_stack *stack)
{
    const struct un_stack_memory *own = stack->own;
    if (own->address_count < UN_STACK_ADDRESSES_MAX)
        return own->address_count;
    for (uint32_t place = 0; place < own->address_count; place++)
        if (own->addresses[place].state == UN_ADDRESS_TAKEN && !is_referenced(stack, place))
            return place;
    return UN_NONE;
}

/* It is used with the last store. */
static void add(struct un_stack *stack, const struct un_kernel_address *told)
{
    struct un_stack_memory *own = stack->own;
    uint32_t place = free_place(stack);
    if (place == UN_NONE)
        return;
    own->addresses[place] = (struct un_address){.ip = told->ip, .prefix = told->prefix, .state = UN_ADDRESS_TAKEN};
    own->claims[place] = (struct un_claim){.next_ns = UINT64_MAX};
    un_compiler_fence();
    if (place == own->address_count)
        own->address_count++;
    own->addresses[place].state = UN_ADDRESS_OURS;
}

static const struct un_kernel_address *find(const struct un_kernel_address *told, uint32_t count,
                                            const struct un_ip *ip)
{
    for (uint32_t i = 0; i < count; i++)
        if (un_ip_equal(&told[i].ip, ip))
            return &told[i];
    return NULL;
}

/* The address that the next packet is compared with first must not be one that is not used. A place that never was has
 * no connections. */
static void choose_local_last(struct un_stack *stack)
{
    const struct un_stack_memory *own = stack->own;
    for (uint32_t place = 0; place < UN_STACK_ADDRESSES_MAX; place++) {
        if (place < own->address_count && own->addresses[place].state != UN_ADDRESS_OURS)
            continue;
        stack->local_last = (uint16_t)place;
        return;
    }
}

/* false: it cannot be read now. */
static bool follow_addresses(struct un_stack *stack)
{
    struct un_stack_memory *own = stack->own;
    struct un_kernel_address told[UN_KERNEL_ADDRESSES_MAX];
    uint32_t count = un_kernel_addresses(stack->kernel, told);
    if (count == UN_NONE)
        return false;
    for (uint32_t i = 0; i < own->address_count; i++) {
        const struct un_kernel_address *same = find(told, count, &own->addresses[i].ip);
        own->addresses[i].state = same ? UN_ADDRESS_OURS : UN_ADDRESS_TAKEN;
        if (same)
            own->addresses[i].prefix = same->prefix;
    }
    for (uint32_t i = 0; i < count; i++)
        if (un_address_claimed(stack, &told[i].ip) < 0)
            add(stack, &told[i]);
    choose_local_last(stack);
    return true;
}

/* ---- tables ---- */

static bool has_other_routes(struct un_stack *stack)
{
    uint64_t last = stack->kernel_routes;
    stack->kernel_routes = un_kernel_route_changes(stack->kernel);
    return stack->kernel_routes == UN_KERNEL_NOT_NOW || stack->kernel_routes != last;
}

void un_stack_follow(struct un_stack *stack)
{
    if (!stack->kernel)
        return;
    uint64_t changes = un_kernel_changes(stack->kernel);
    if (changes == stack->kernel_changes || !follow_addresses(stack))
        return;
    stack->kernel_changes = changes;
    if (stack->device)
        un_neighbours_follow(stack, has_other_routes(stack));
}

/* As if there were another table. */
static void follow_anew(struct un_stack *stack)
{
    if (!stack->kernel)
        return;
    stack->kernel_changes = un_kernel_changes(stack->kernel) - 1;
    stack->kernel_routes = UN_KERNEL_NOT_NOW;
    un_stack_follow(stack);
}

void un_stack_share(struct un_stack *stack, const struct un_kernel_table *table)
{
    un_assert(un_is_shared(stack));
    stack->kernel = table;
    follow_anew(stack);
}

void un_share_attach(struct un_stack *stack)
{
    follow_anew(stack);
}
