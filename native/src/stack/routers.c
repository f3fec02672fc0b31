/* Routers are asked for when a stack begins, and the routes that they advertise expire (RFC 4861 sections 6.3.4 and
 * 6.3.7). */
#include "stack/routers.h"

#include "stack/neighbour_table.h"
#include "stack/solicit.h"

#define UN_ROUTER_SOLICITATIONS 3u              /* RFC 4861 section 10: MAX_RTR_SOLICITATIONS */
#define UN_SOLICITATION_INTERVAL_NS (4 * UN_SECOND_NS) /* RTR_SOLICITATION_INTERVAL */

static uint64_t expire_routes(struct un_stack *stack)
{
    uint64_t next = UINT64_MAX;
    for (uint32_t i = 0; i < UN_STACK_ROUTES_MAX; i++) {
        struct un_route *route = &stack->own->routes[i];
        if (!route->is_used || !route->expires_ns)
            continue;
        if (route->expires_ns > stack->own->now_ns) {
            next = un_min64(next, route->expires_ns);
            continue;
        }
        route->is_used = false;
        un_neighbours_restamp(stack);
    }
    return next;
}

static uint64_t solicit(struct un_stack *stack)
{
    struct un_router_solicitation *solicitation = &stack->own->solicitation;
    if (stack->shards.shard != 0 || solicitation->left == 0)
        return UINT64_MAX;
    if (solicitation->next_ns <= stack->own->now_ns) {
        un_router_solicit(stack);
        solicitation->left--;
        solicitation->next_ns = stack->own->now_ns + UN_SOLICITATION_INTERVAL_NS;
    }
    return solicitation->left ? solicitation->next_ns : UINT64_MAX;
}

void un_routers_attach(struct un_stack *stack)
{
    if (stack->own->config.accept_router_advertisements)
        stack->own->solicitation = (struct un_router_solicitation){stack->own->now_ns, UN_ROUTER_SOLICITATIONS};
}

uint64_t un_routers_due(struct un_stack *stack)
{
    return un_min64(expire_routes(stack), solicit(stack));
}
