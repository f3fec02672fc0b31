/* What is known of paths: their MTU (RFC 1191, RFC 8201), so that what one connection found out the hard way serves the
 * next one to the same place.
 *
 * Only what a connection believed is kept: a report that quoted what it had in flight (tcp/path.c). Nobody who cannot
 * see a connection shrinks its path, and nobody shrinks one to which there is no connection. An entry is forgotten ten
 * minutes after the last report (RFC 1191 section 6.3), when a larger size is tried again. The table has sets of four
 * places, chosen by a keyed hash; when a set is full the entry that would be forgotten first gives way. */
#include "stack/paths.h"

#define UN_PATH_LIFE_NS (600 * UN_SECOND_NS) /* RFC 1191 section 6.3, RFC 8201 section 4 */

static struct un_path *set_of(const struct un_stack *stack, const struct un_ip *ip)
{
    uint32_t hash = un_flows_hash(&stack->flows_key, ip, 0);
    return &stack->own->paths[(hash % (UN_PATHS / UN_PATH_WAYS)) * UN_PATH_WAYS];
}

static bool is_known(const struct un_stack *stack, const struct un_path *path)
{
    return path->mtu != 0 && path->expires_ns > stack->tcp.now_ns;
}

static struct un_path *find(const struct un_stack *stack, const struct un_ip *ip)
{
    struct un_path *set = set_of(stack, ip);
    for (uint32_t way = 0; way < UN_PATH_WAYS; way++)
        if (is_known(stack, &set[way]) && un_ip_equal(&set[way].ip, ip))
            return &set[way];
    return NULL;
}

static struct un_path *oldest(struct un_path *set)
{
    struct un_path *best = set;
    for (uint32_t way = 1; way < UN_PATH_WAYS; way++)
        if (set[way].expires_ns < best->expires_ns)
            best = &set[way];
    return best;
}

void un_path_learn(struct un_stack *stack, const struct un_ip *ip, uint16_t mtu)
{
    struct un_path *path = find(stack, ip);
    if (path && path->mtu <= mtu)
        return;
    if (!path)
        path = oldest(set_of(stack, ip));
    path->mtu = 0; /* it is valid with its last store */
    un_compiler_fence();
    path->ip = *ip;
    path->expires_ns = stack->tcp.now_ns + UN_PATH_LIFE_NS;
    un_compiler_fence();
    path->mtu = mtu;
    stack->counters->paths_learnt++;
}

uint16_t un_link_mtu(const struct un_stack *stack, const struct un_ip *destination)
{
    uint16_t mtu = stack->device ? stack->device->capabilities.mtu : 1500;
    uint16_t link = stack->own->link_mtu;
    return link && link < mtu && !un_ip_is_v4(destination) ? link : mtu;
}

uint16_t un_path_mtu(const struct un_stack *stack, const struct un_ip *destination)
{
    uint16_t mtu = un_link_mtu(stack, destination);
    const struct un_path *path = find(stack, destination);
    return path && path->mtu < mtu ? path->mtu : mtu;
}
