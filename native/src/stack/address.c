/* Addresses of our own: whether they are really ours.
 *
 * An address is used as soon as it is added. Meanwhile the link is asked whether another station has it (RFC 5227 for
 * IPv4, RFC 4862 section 5.4 for IPv6), so that a server that starts need not wait; RFC 4429 has that for IPv6. Until
 * the time for answers has passed, we change nobody's cache: we do not announce, and our advertisements do not
 * override.
 *
 *   PROBED  used, and asked for during a second   → OURS; TAKEN, when a station claims it
 *   OURS    announced twice, and defended: a claim is contradicted, at most once in ten seconds (RFC 5227 section 2.4)
 *   TAKEN   another station has it: not used, its connections are ended, asked for each minute   → OURS
 *
 * One shard sends. All shards hear the answers, and decide the same at the same time. */
#include "stack/address.h"

#include <errno.h>

#include "stack/groups.h"
#include "stack/lists.h"
#include "stack/local.h"
#include "stack/neighbour_table.h"
#include "stack/routers.h"
#include "stack/share.h"
#include "stack/solicit.h"

/* RFC 5227 section 2.3 asks three times in three to seven seconds, for links where stations sleep; on those that
 * servers have a station answers within milliseconds, so the second of RFC 4862 is enough for both. */
#define UN_PROBES_IPV4 3u
#define UN_PROBES_IPV6 1u                       /* RFC 4862 section 5.1: DupAddrDetectTransmits */
#define UN_PROBING_NS UN_SECOND_NS              /* RFC 4861 section 10: RETRANS_TIMER */
#define UN_ANNOUNCEMENTS 2u                     /* RFC 5227 section 1.1: ANNOUNCE_NUM */
#define UN_ANNOUNCE_INTERVAL_NS (2 * UN_SECOND_NS) /* ANNOUNCE_INTERVAL */
#define UN_DEFEND_INTERVAL_NS (10 * UN_SECOND_NS)  /* DEFEND_INTERVAL */
#define UN_TAKEN_NS (60 * UN_SECOND_NS)            /* RATE_LIMIT_INTERVAL */
#define UN_IPV6_LINK_PREFIX 64u

/* ---- added ---- */

static void look_now(struct un_stack *stack)
{
    stack->own->addresses_next_ns = stack->own->now_ns;
}

static uint8_t probes_for(const struct un_ip *ip)
{
    return un_ip_is_v4(ip) ? UN_PROBES_IPV4 : UN_PROBES_IPV6;
}

int un_stack_add_address(struct un_stack *stack, const struct un_ip *ip, uint8_t prefix)
{
    struct un_stack_memory *own = stack->own;
    if (un_is_shared(stack))
        return -EOPNOTSUPP;
    if (un_ip_is_any(ip) || un_ip_is_multicast(ip) || prefix > (un_ip_is_v4(ip) ? 32 : 128))
        return -EINVAL;
    if (un_address_claimed(stack, ip) >= 0)
        return -EEXIST;
    if (own->address_count == UN_STACK_ADDRESSES_MAX)
        return -ENOSPC;
    own->addresses[own->address_count] = (struct un_address){
        .ip = *ip,
        .prefix = prefix,
        .state = own->config.detect_duplicates ? UN_ADDRESS_PROBED : UN_ADDRESS_OURS,
        .probes = probes_for(ip),
        .announcements = UN_ANNOUNCEMENTS,
    };
    own->claims[own->address_count] = (struct un_claim){.next_ns = 0};
    un_compiler_fence();
    own->address_count++;
    if (!un_ip_is_v4(ip))
        un_groups_changed(stack);
    look_now(stack);
    un_neighbours_restamp(stack);
    return 0;
}

/* RFC 4291 appendix A: the link-local address that the MAC address gives. */
static void add_link_local(struct un_stack *stack)
{
    const uint8_t *mac = stack->device->capabilities.mac;
    struct un_ip ip = {{0xfe, 0x80, [8] = mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]}};
    un_stack_add_address(stack, &ip, UN_IPV6_LINK_PREFIX);
}

void un_addresses_attach(struct un_stack *stack)
{
    if (un_is_shared(stack)) {
        un_share_attach(stack);
        return;
    }
    add_link_local(stack);
    look_now(stack);
    un_routers_attach(stack);
}

/* ---- claimed by another ---- */

static void note(struct un_stack *stack, uint32_t index, enum un_address_news news, const uint8_t *mac)
{
    struct un_claim *claim = &stack->own->claims[index];
    memcpy(claim->mac, mac, UN_MAC_BYTES);
    claim->news = (uint8_t)news;
    stack->own->has_address_news = true;
}

static void end_conns(struct un_stack *stack, uint32_t index)
{
    for (uint32_t slot = 0; slot < stack->own->conn_fresh; slot++) {
        struct un_tcb *tcb = &stack->tcp.tcbs[slot];
        if (tcb->local == index && !(tcb->state & (UN_TCP_CLOSED | UN_TCP_DEAD)) && tcb->state != 0)
            un_stack_conn_end(stack, tcb, UN_TCP_REASON_UNREACHABLE);
    }
}

static void give_up(struct un_stack *stack, uint32_t index, const uint8_t *mac)
{
    struct un_stack_memory *own = stack->own;
    struct un_address *address = &own->addresses[index];
    bool was_used = address->state != UN_ADDRESS_TAKEN;
    if (was_used)
        end_conns(stack, index);
    own->claims[index].next_ns = own->now_ns + UN_TAKEN_NS;
    address->probes = probes_for(&address->ip);
    address->announcements = UN_ANNOUNCEMENTS;
    un_compiler_fence();
    address->state = UN_ADDRESS_TAKEN;
    if (!was_used)
        return;
    un_neighbours_restamp(stack);
    note(stack, index, UN_ADDRESS_IS_TAKEN, mac);
}

static void defend(struct un_stack *stack, uint32_t index, const uint8_t *mac)
{
    struct un_claim *claim = &stack->own->claims[index];
    uint64_t now_ns = stack->own->now_ns;
    if (claim->defended_ns && now_ns - claim->defended_ns < UN_DEFEND_INTERVAL_NS)
        return;
    claim->defended_ns = now_ns;
    if (stack->shards.shard == 0)
        un_address_announce(stack, index);
    note(stack, index, UN_ADDRESS_IS_DEFENDED, mac);
}

void un_address_conflict(struct un_stack *stack, uint32_t index, const uint8_t *mac)
{
    struct un_address *address = &stack->own->addresses[index];
    stack->counters->address_conflicts++;
    if (address->state == UN_ADDRESS_OURS)
        defend(stack, index, mac);
    else
        give_up(stack, index, mac);
    stack->own->addresses_next_ns = un_min64(stack->own->addresses_next_ns, stack->own->claims[index].next_ns);
}

bool un_stack_next_address_news(struct un_stack *stack, struct un_stack_address_news *news)
{
    struct un_stack_memory *own = stack->own;
    for (uint32_t i = 0; own->has_address_news && i < own->address_count; i++) {
        struct un_claim *claim = &own->claims[i];
        if (claim->news == UN_ADDRESS_NO_NEWS)
            continue;
        *news = (struct un_stack_address_news){.ip = own->addresses[i].ip, .what = claim->news};
        memcpy(news->mac, claim->mac, UN_MAC_BYTES);
        claim->news = UN_ADDRESS_NO_NEWS;
        return true;
    }
    own->has_address_news = false;
    return false;
}

/* ---- what is due ---- */

/* Nobody has claimed it. */
static void win(struct un_stack *stack, uint32_t index)
{
    struct un_address *address = &stack->own->addresses[index];
    if (address->state == UN_ADDRESS_TAKEN) {
        un_neighbours_restamp(stack);
        note(stack, index, UN_ADDRESS_IS_FREE, stack->own->claims[index].mac);
    }
    address->state = UN_ADDRESS_OURS;
}

static void wait(struct un_stack *stack, uint32_t index, uint64_t wait_ns)
{
    stack->own->claims[index].next_ns = stack->own->now_ns + wait_ns;
    un_compiler_fence(); /* who goes on after a sudden death waits as well */
}

static void probe(struct un_stack *stack, uint32_t index)
{
    struct un_address *address = &stack->own->addresses[index];
    wait(stack, index, UN_PROBING_NS / probes_for(&address->ip));
    address->probes--;
    if (stack->shards.shard == 0)
        un_address_probe(stack, index);
}

static void announce(struct un_stack *stack, uint32_t index)
{
    struct un_address *address = &stack->own->addresses[index];
    wait(stack, index, UN_ANNOUNCE_INTERVAL_NS);
    address->announcements--;
    if (stack->shards.shard == 0)
        un_address_announce(stack, index);
    if (address->announcements == 0)
        stack->own->claims[index].next_ns = UINT64_MAX;
}

static void run_one(struct un_stack *stack, uint32_t index)
{
    struct un_address *address = &stack->own->addresses[index];
    if (address->state != UN_ADDRESS_OURS && address->probes == 0)
        win(stack, index);
    if (address->state != UN_ADDRESS_OURS)
        probe(stack, index);
    else if (address->announcements > 0)
        announce(stack, index);
    else
        stack->own->claims[index].next_ns = UINT64_MAX;
}

uint64_t un_addresses_due(struct un_stack *stack)
{
    struct un_stack_memory *own = stack->own;
    uint64_t next = UINT64_MAX;
    for (uint32_t i = 0; i < own->address_count; i++) {
        if (own->claims[i].next_ns <= own->now_ns)
            run_one(stack, i);
        next = un_min64(next, own->claims[i].next_ns);
    }
    return next;
}
