/* What a stack of our own knows of a connection and of its link: see look.h. */
#include <errno.h>
#include <string.h>

#include "engine/link.h"
#include "engine/look.h"
#include "stack/arena.h"
#include "stack/kernel_table.h"
#include "stack/neighbour.h"

#define SLOTS_AT_ONCE 4096u /* of the table of neighbours, of which most may be free */

static uint64_t mac_word(const uint8_t *mac)
{
    uint64_t word = 0;
    memcpy(&word, mac, UN_MAC_BYTES);
    return word;
}

/* Connections. */

static enum un_look_phase phase_of(const struct un_tcb *tcb)
{
    if (tcb->flags & UN_TCB_LOSS)
        return UN_LOOK_LOSS;
    if (tcb->flags & UN_TCB_RECOVERY)
        return UN_LOOK_RECOVERY;
    if (tcb->flags & UN_TCB_CWR)
        return UN_LOOK_CWR;
    return tcb->sacked_bytes > 0 || tcb->dup_acks > 0 ? UN_LOOK_DISORDER : UN_LOOK_OPEN;
}

static void set_congestion(const struct un_tcb *tcb, struct un_look_conn *entry)
{
    uint64_t name[2] = {0};
    const char *text = un_congestions[tcb->congestion]->name;
    memcpy(name, text, strnlen(text, sizeof name));
    entry->congestion_first = name[0];
    entry->congestion_second = name[1];
}

void un_stack_look(struct un_engine *engine, int handle, struct un_look_conn *entry)
{
    const struct un_tcp *tcp = &engine->link->stack.tcp;
    const struct un_tcb *tcb = &tcp->tcbs[handle];
    entry->tcp_state = tcb->state;
    entry->agreed = tcb->flags & (UN_TCB_WSCALE | UN_TCB_TIMESTAMP | UN_TCB_SACK | UN_TCB_ECN);
    entry->phase = phase_of(tcb);
    entry->srtt_us = tcb->srtt_us;
    entry->rttvar_us = tcb->rttvar_us;
    entry->min_rtt_us = tcb->srtt_us ? tcb->min_rtt_us : UN_LOOK_UNKNOWN;
    entry->rto_us = un_recovery_rto_ns(tcp, tcb) / UN_US_NS;
    entry->cwnd = tcb->cwnd;
    entry->ssthresh = tcb->ssthresh == UINT32_MAX ? UN_LOOK_UNKNOWN : tcb->ssthresh;
    entry->snd_mss = tcb->snd_mss;
    entry->path_mtu = tcb->path_mtu;
    entry->snd_wnd = tcb->snd_wnd;
    entry->rcv_wnd = tcb->rcv_edge - tcb->rcv_nxt;
    entry->snd_wscale = tcb->snd_wscale;
    entry->rcv_wscale = tcb->rcv_wscale;
    entry->unread = tcb->rcv_bytes;
    entry->out_of_order = tcb->rcv_ooo_bytes;
    entry->unacknowledged = tcb->snd_bytes;
    entry->in_flight = tcb->in_flight;
    entry->sacked = tcb->sacked_bytes;
    entry->lost = tcb->lost_bytes;
    entry->retransmitted = tcb->retransmitted;
    entry->backoff = tcb->backoff;
    entry->probes = tcb->probes;
    set_congestion(tcb, entry);
}

/* Neighbours. */

static void describe_neighbour(const struct un_neighbour *neighbour, struct un_look_neighbour *entry)
{
    const struct un_ip nothing = {{0}};
    const struct un_ip_words ip = un_ip_words(un_neighbour_is_station(neighbour) ? &nothing : &neighbour->ip);
    bool is_known = un_neighbour_is_known(neighbour) || neighbour->state == UN_NEIGHBOUR_TOLD;
    *entry = (struct un_look_neighbour){
        .ip_first = ip.first,
        .ip_second = ip.second,
        .mac = is_known ? mac_word(neighbour->ethernet) : UN_LOOK_UNKNOWN, /* the destination comes first */
        .state = neighbour->state,
        .is_router = neighbour->is_router,
        .probes = neighbour->probes,
        .queued = neighbour->queued,
        .confirmed_ns = neighbour->confirmed_ns,
        .used_ns = neighbour->used_ns,
    };
}

static int look_at_neighbours(const struct un_stack *stack, struct un_look_slice *slice)
{
    const uint64_t all = stack->config->neighbours;
    uint64_t at = slice->position, until = at < all && all - at > SLOTS_AT_ONCE ? at + SLOTS_AT_ONCE : all;
    for (; at < until && slice->count < UN_LOOK_ENTRIES; at++)
        if (stack->neighbours[at].state != UN_NEIGHBOUR_FREE)
            describe_neighbour(&stack->neighbours[at], &slice->neighbours[slice->count++]);
    slice->position = at < all ? at : UN_LOOK_END;
    return 0;
}

/* Routes: of our own, the prefix of each address comes first. */

static struct un_look_route route_of(const struct un_ip *network, uint8_t prefix, const struct un_ip *gateway,
                                     enum un_look_origin origin)
{
    const struct un_ip_words to = un_ip_words(network), by = un_ip_words(gateway);
    return (struct un_look_route){.network_first = to.first, .network_second = to.second, .prefix = prefix,
                                  .gateway_first = by.first, .gateway_second = by.second, .origin = origin};
}

static void look_at_own_routes(const struct un_stack *stack, struct un_look_slice *slice)
{
    UN_STATIC_ASSERT(UN_STACK_ADDRESSES_MAX + UN_STACK_ROUTES_MAX <= UN_LOOK_ENTRIES, "one slice has room for all");
    static const struct un_ip nobody;
    const struct un_stack_memory *own = stack->own;
    for (uint32_t i = 0; i < own->address_count; i++)
        if (own->addresses[i].state != UN_ADDRESS_TAKEN)
            slice->routes[slice->count++] =
                route_of(&own->addresses[i].ip, own->addresses[i].prefix, &nobody, UN_LOOK_LINK);
    for (uint32_t i = 0; i < UN_STACK_ROUTES_MAX; i++) {
        const struct un_route *route = &own->routes[i];
        if (!route->is_used)
            continue;
        struct un_look_route *entry = &slice->routes[slice->count++];
        *entry = route_of(&route->network, route->prefix, &route->gateway,
                          route->expires_ns ? UN_LOOK_ADVERTISED : UN_LOOK_CONFIGURED);
        entry->expires_ns = route->expires_ns;
    }
    slice->position = UN_LOOK_END;
}

static int look_at_kernel_routes(const struct un_kernel_table *table, struct un_look_slice *slice)
{
    struct un_kernel_route routes[UN_KERNEL_ROUTES_MAX];
    uint32_t count = table ? un_kernel_routes(table, routes) : 0;
    if (count == UN_NONE)
        return -EAGAIN;
    uint64_t at = slice->position;
    for (; at < count && slice->count < UN_LOOK_ENTRIES; at++) {
        struct un_look_route *entry = &slice->routes[slice->count++];
        *entry = route_of(&routes[at].network, routes[at].prefix, &routes[at].gateway, UN_LOOK_KERNEL);
        entry->is_elsewhere = routes[at].is_elsewhere;
    }
    slice->position = at < count ? at : UN_LOOK_END;
    return 0;
}

static int look_at_routes(const struct un_stack *stack, struct un_look_slice *slice)
{
    if (un_is_shared(stack))
        return look_at_kernel_routes(stack->kernel, slice);
    look_at_own_routes(stack, slice);
    return 0;
}

/* Addresses. */

static int look_at_addresses(const struct un_stack *stack, struct un_look_slice *slice)
{
    UN_STATIC_ASSERT(UN_STACK_ADDRESSES_MAX <= UN_LOOK_ENTRIES, "one slice has room for all");
    static const uint8_t nobody[UN_MAC_BYTES];
    const struct un_stack_memory *own = stack->own;
    for (uint32_t i = 0; i < own->address_count; i++) {
        const struct un_address *address = &own->addresses[i];
        const struct un_ip_words ip = un_ip_words(&address->ip);
        const uint8_t *mac = own->claims[i].mac;
        slice->addresses[slice->count++] = (struct un_look_address){
            .ip_first = ip.first,
            .ip_second = ip.second,
            .prefix = address->prefix,
            .state = address->state,
            .probes = address->probes,
            .announcements = address->announcements,
            .claimed_by = memcmp(mac, nobody, sizeof nobody) == 0 ? UN_LOOK_UNKNOWN : mac_word(mac),
        };
    }
    slice->position = UN_LOOK_END;
    return 0;
}

int un_stack_look_table(struct un_engine *engine, uint32_t what, struct un_look_slice *slice)
{
    const struct un_stack *stack = &engine->link->stack;
    switch (what) {
    case UN_LOOK_NEIGHBOURS: return look_at_neighbours(stack, slice);
    case UN_LOOK_ROUTES: return look_at_routes(stack, slice);
    case UN_LOOK_ADDRESSES: return look_at_addresses(stack, slice);
    default: return -EINVAL;
    }
}
