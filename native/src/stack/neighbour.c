/* The neighbour cache: Ethernet addresses of the IP addresses on our links (RFC 4861 section 7.3; ARP the same way).
 *
 *   INCOMPLETE  asked, not answered: packets and connections wait   → REACHABLE or STALE; FAILED after three questions
 *   REACHABLE   has proved that it hears us   → DELAY, when it is used thirty seconds after the last proof or later
 *   STALE       its address is known but not proved, or in doubt   → DELAY, as soon as it is used
 *   DELAY       used for five seconds, in which traffic may prove it   → REACHABLE or PROBE
 *   PROBE       used, and asked directly, up to three times   → REACHABLE or FAILED
 *   FAILED      did not answer: packets are dropped   → INCOMPLETE, when it is used again: after three seconds; at once
 *               where its address had been known, since it may have moved
 *
 * When a peer stops acknowledging, its next hop is probed as well (un_neighbour_suspect).
 *
 * Of shared addresses (share.c) the kernel asks, answers and probes. A neighbour is then INCOMPLETE, FAILED or
 *
 *   TOLD        its address stands in the kernel's table, or packets came from it: used until the table says otherwise
 *
 * A question goes to the kernel by way of its supervisor (un_stack_next_question), as often as it would go to the link.
 * Flows that come in do not ask: their packets go back to the station that the last segment came from. Such a station
 * is a neighbour without an IP address, known by its Ethernet address, and there is one for all flows that a router
 * brings. When its place is needed for another one, or the peer does not answer and the kernel knows another way, they
 * go by the kernel's table until their next segment.
 *
 * The table has sets of eight places, chosen by a keyed hash. So a station that invents addresses cannot choose whom
 * they push out. An entry that nobody asked for is made only for a station that asks us, and never takes the place of
 * one that is REACHABLE, in DELAY or PROBE, or awaited by connections.
 *
 * Connections remember a neighbour by its stamp: its place in the low bits, a count of changes above them. The stamp
 * changes when the place goes to another neighbour and when routes change. Until good_until_ns the fast path may use
 * the address without calling in here; it is the deadline of the state, or 0 when every packet has to call. */
#include "stack/neighbour.h"

#include <errno.h>

#include "stack/kernel_table.h"
#include "stack/lists.h"
#include "stack/neighbour_table.h"
#include "stack/route.h"
#include "stack/solicit.h"
#include "stack/waiting.h"

#define UN_SOLICITATIONS 3u                        /* RFC 4861 section 10: MAX_MULTICAST_SOLICIT, MAX_UNICAST_SOLICIT */
#define UN_RETRANSMIT_NS UN_SECOND_NS              /* RETRANS_TIMER */
#define UN_REACHABLE_NS (30 * UN_SECOND_NS)        /* REACHABLE_TIME */
#define UN_DELAY_NS (5 * UN_SECOND_NS)             /* DELAY_FIRST_PROBE_TIME */
#define UN_FAILED_NS (3 * UN_SECOND_NS)            /* as long as asking took */
#define UN_RUN_INTERVAL_NS (50 * UN_MS_NS)         /* at most one scan of the table in this time */

static void arm(struct un_stack *stack, struct un_neighbour *neighbour, uint64_t delay_ns)
{
    neighbour->deadline_ns = stack->tcp.now_ns + delay_ns;
    stack->own->neighbours_next_ns = un_min64(stack->own->neighbours_next_ns, neighbour->deadline_ns);
}

static void set_state(struct un_neighbour *neighbour, enum un_neighbour_state state)
{
    neighbour->state = (uint8_t)state;
    neighbour->probes = 0;
    neighbour->deadline_ns = 0;
    neighbour->good_until_ns = 0;
}

/* ---- places ---- */

/* Connections wait for its answer. It is never pushed out: they would ask again at once, and push out another one. */
static bool is_awaited(const struct un_neighbour *neighbour)
{
    return neighbour->waiting.head != UN_NONE;
}

/* The least goes first when a set is full: free places, then those without an answer, the unproved, routers last. */
static uint32_t worth(const struct un_neighbour *neighbour)
{
    static const uint8_t by_state[] = {
        [UN_NEIGHBOUR_FREE] = 0,  [UN_NEIGHBOUR_FAILED] = 1, [UN_NEIGHBOUR_INCOMPLETE] = 2, [UN_NEIGHBOUR_STALE] = 3,
        [UN_NEIGHBOUR_PROBE] = 4, [UN_NEIGHBOUR_DELAY] = 5,  [UN_NEIGHBOUR_REACHABLE] = 6,
        [UN_NEIGHBOUR_TOLD] = 6,
    };
    return by_state[neighbour->state] + (neighbour->is_router ? 8u : 0u) + (is_awaited(neighbour) ? 16u : 0u);
}

static struct un_neighbour *least(struct un_neighbour *set)
{
    struct un_neighbour *best = set;
    for (uint32_t way = 1; way < UN_NEIGHBOUR_WAYS; way++) {
        struct un_neighbour *other = &set[way];
        if (worth(other) < worth(best) || (worth(other) == worth(best) && other->used_ns < best->used_ns))
            best = other;
    }
    return best;
}

/* Give the place to another address. */
static void take_place(struct un_stack *stack, struct un_neighbour *neighbour, const struct un_ip *ip)
{
    un_waiting_drop(stack, neighbour);
    set_state(neighbour, UN_NEIGHBOUR_FREE);
    un_compiler_fence();
    neighbour->ip = *ip;
    neighbour->is_router = neighbour->is_asked = false;
    neighbour->confirmed_ns = 0;
    neighbour->used_ns = stack->tcp.now_ns;
    un_neighbour_restamp(stack, neighbour);
}

/* ---- what the kernel knows, of shared addresses ---- */

static void tell(struct un_stack *stack, struct un_neighbour *neighbour, const uint8_t *mac, bool is_v4)
{
    set_state(neighbour, UN_NEIGHBOUR_INCOMPLETE); /* half an address must never be used */
    un_compiler_fence();
    un_eth_emit(neighbour->ethernet, mac, stack->device->capabilities.mac, is_v4 ? UN_ETHER_IPV4 : UN_ETHER_IPV6);
    un_compiler_fence();
    set_state(neighbour, UN_NEIGHBOUR_TOLD);
    neighbour->good_until_ns = stack->tcp.now_ns + UN_REACHABLE_NS;
}

static bool look_up(struct un_stack *stack, struct un_neighbour *neighbour)
{
    uint8_t mac[UN_MAC_BYTES];
    if (!stack->kernel || !un_kernel_neighbour(stack->kernel, &neighbour->ip, mac))
        return false;
    tell(stack, neighbour, mac, un_ip_is_v4(&neighbour->ip));
    return true;
}

/* No packet goes to such an address: it is a group's of a scope that is reserved (RFC 7346). */
static struct un_ip station_ip(const uint8_t *mac, bool is_v4)
{
    return (struct un_ip){
        {0xff, [9] = is_v4 ? 4 : 6, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]}};
}

bool un_neighbour_is_station(const struct un_neighbour *neighbour)
{
    return neighbour->ip.bytes[0] == 0xff;
}

/* ---- questions ---- */

static void question(struct un_stack *stack, struct un_neighbour *neighbour)
{
    if (un_is_shared(stack))
        neighbour->is_asked = stack->own->has_questions = true;
    else
        un_neighbour_solicit(stack, neighbour);
}

/* 0: the kernel knew it; -EAGAIN. */
static int ask(struct un_stack *stack, struct un_neighbour *neighbour)
{
    un_compiler_fence();
    if (look_up(stack, neighbour))
        return 0;
    set_state(neighbour, UN_NEIGHBOUR_INCOMPLETE);
    neighbour->probes = 1;
    arm(stack, neighbour, UN_RETRANSMIT_NS);
    question(stack, neighbour);
    return -EAGAIN;
}

struct un_neighbour *un_neighbour_make(struct un_stack *stack, const struct un_ip *ip)
{
    struct un_neighbour *neighbour = un_neighbour_find(stack, ip);
    if (neighbour)
        return neighbour;
    neighbour = least(un_neighbour_set(stack, ip));
    if (is_awaited(neighbour))
        return NULL;
    take_place(stack, neighbour, ip);
    ask(stack, neighbour);
    return neighbour;
}

struct un_neighbour *un_neighbour_offered(struct un_stack *stack, const struct un_ip *ip)
{
    struct un_neighbour *neighbour = un_neighbour_find(stack, ip);
    if (neighbour)
        return neighbour;
    neighbour = least(un_neighbour_set(stack, ip));
    bool is_used = neighbour->state == UN_NEIGHBOUR_REACHABLE || neighbour->state == UN_NEIGHBOUR_DELAY ||
                   neighbour->state == UN_NEIGHBOUR_PROBE;
    if (is_used || is_awaited(neighbour))
        return NULL;
    take_place(stack, neighbour, ip);
    return neighbour;
}

/* ---- what is learnt ---- */

static void set_reachable(struct un_stack *stack, struct un_neighbour *neighbour)
{
    set_state(neighbour, UN_NEIGHBOUR_REACHABLE);
    neighbour->confirmed_ns = stack->tcp.now_ns;
    neighbour->good_until_ns = stack->tcp.now_ns + UN_REACHABLE_NS;
}

bool un_neighbour_has_mac(const struct un_neighbour *neighbour, const uint8_t *mac)
{
    return memcmp(neighbour->ethernet, mac, UN_MAC_BYTES) == 0;
}

bool un_neighbour_is_known(const struct un_neighbour *neighbour)
{
    return neighbour->state >= UN_NEIGHBOUR_REACHABLE && neighbour->state <= UN_NEIGHBOUR_PROBE;
}

void un_neighbour_learn(struct un_stack *stack, struct un_neighbour *neighbour, const uint8_t *mac, bool is_reachable)
{
    bool is_new = !un_neighbour_is_known(neighbour) || !un_neighbour_has_mac(neighbour, mac);
    if (is_new) {
        uint16_t type = un_ip_is_v4(&neighbour->ip) ? UN_ETHER_IPV4 : UN_ETHER_IPV6;
        set_state(neighbour, UN_NEIGHBOUR_INCOMPLETE); /* half an address must never be used */
        un_compiler_fence();
        un_eth_emit(neighbour->ethernet, mac, stack->device->capabilities.mac, type);
        neighbour->confirmed_ns = 0; /* the proof was of the old address */
        un_compiler_fence();
    }
    if (is_reachable)
        set_reachable(stack, neighbour);
    else if (is_new)
        set_state(neighbour, UN_NEIGHBOUR_STALE);
    if (neighbour->queued > 0)
        un_neighbour_use(stack, neighbour); /* what waited for it is sent now */
    un_waiting_release(stack, neighbour);
}

void un_neighbour_doubt(struct un_neighbour *neighbour)
{
    neighbour->confirmed_ns = 0;
    set_state(neighbour, UN_NEIGHBOUR_STALE);
}

/* ---- what is used ---- */

static bool is_confirmed(const struct un_stack *stack, const struct un_neighbour *neighbour)
{
    return neighbour->confirmed_ns && neighbour->confirmed_ns + UN_REACHABLE_NS > stack->tcp.now_ns;
}

static void start_delay(struct un_stack *stack, struct un_neighbour *neighbour)
{
    set_state(neighbour, UN_NEIGHBOUR_DELAY);
    arm(stack, neighbour, UN_DELAY_NS);
    neighbour->good_until_ns = neighbour->deadline_ns;
}

int un_neighbour_use(struct un_stack *stack, struct un_neighbour *neighbour)
{
    neighbour->used_ns = stack->tcp.now_ns;
    switch ((enum un_neighbour_state)neighbour->state) {
    case UN_NEIGHBOUR_REACHABLE:
        if (is_confirmed(stack, neighbour))
            neighbour->good_until_ns = neighbour->confirmed_ns + UN_REACHABLE_NS;
        else
            start_delay(stack, neighbour);
        return 0;
    case UN_NEIGHBOUR_STALE:
        start_delay(stack, neighbour);
        return 0;
    case UN_NEIGHBOUR_DELAY:
    case UN_NEIGHBOUR_PROBE:
        return 0;
    case UN_NEIGHBOUR_TOLD:
        neighbour->good_until_ns = stack->tcp.now_ns + UN_REACHABLE_NS;
        return 0;
    case UN_NEIGHBOUR_FAILED:
        if (stack->tcp.now_ns < neighbour->deadline_ns)
            return -EHOSTUNREACH;
        return ask(stack, neighbour);
    case UN_NEIGHBOUR_FREE:
        return ask(stack, neighbour);
    case UN_NEIGHBOUR_INCOMPLETE:
        break;
    }
    return -EAGAIN;
}

/* ---- what is heard and told, of shared addresses ---- */

/* Found, or made where no neighbour that is awaited has to go. */
static struct un_neighbour *find_station(struct un_stack *stack, const uint8_t *mac, bool is_v4)
{
    const struct un_ip ip = station_ip(mac, is_v4);
    struct un_neighbour *neighbour = un_neighbour_find(stack, &ip);
    if (neighbour)
        return neighbour;
    neighbour = least(un_neighbour_set(stack, &ip));
    if (is_awaited(neighbour))
        return NULL;
    take_place(stack, neighbour, &ip);
    tell(stack, neighbour, mac, is_v4);
    return neighbour;
}

/* Whoever waits with this connection for another next hop looks once more. */
static void stop_waiting(struct un_stack *stack, const struct un_tcb *tcb)
{
    struct un_neighbour *awaited = &stack->neighbours[tcb->next_hop & (stack->config->neighbours - 1)];
    if ((tcb->flags & UN_TCB_NO_NEIGHBOUR) && awaited->stamp == tcb->next_hop)
        un_stack_conn_wake(stack, awaited);
}

void un_neighbour_heard(struct un_stack *stack, struct un_tcb *tcb, const uint8_t *mac)
{
    struct un_neighbour *neighbour = mac[0] & 1 ? NULL : find_station(stack, mac, un_ip_is_v4(&tcb->peer));
    if (!neighbour)
        return;
    stop_waiting(stack, tcb);
    tcb->next_hop = neighbour->stamp;
}

/* What the table says of it, if that is news. */
static void follow(struct un_stack *stack, struct un_neighbour *neighbour)
{
    uint8_t mac[UN_MAC_BYTES];
    bool is_told = neighbour->state == UN_NEIGHBOUR_TOLD;
    bool is_known = un_kernel_neighbour(stack->kernel, &neighbour->ip, mac);
    if (is_known && !(is_told && un_neighbour_has_mac(neighbour, mac))) {
        tell(stack, neighbour, mac, un_ip_is_v4(&neighbour->ip));
        un_waiting_release(stack, neighbour);
    }
    if (is_told && !is_known)
        set_state(neighbour, UN_NEIGHBOUR_FREE);
}

/* Other routes: those who wait may have another next hop by now; and those who have one, too. */
static void look_again(struct un_stack *stack, struct un_neighbour *neighbour)
{
    un_neighbour_restamp(stack, neighbour);
    un_stack_conn_wake(stack, neighbour);
}

void un_neighbours_follow(struct un_stack *stack, bool has_other_routes)
{
    for (uint32_t i = 0; i < stack->config->neighbours; i++) {
        struct un_neighbour *neighbour = &stack->neighbours[i];
        if (neighbour->state == UN_NEIGHBOUR_FREE)
            continue;
        if (un_neighbour_is_station(neighbour)) {
            if (neighbour->state != UN_NEIGHBOUR_TOLD) /* its process died while it was told */
                set_state(neighbour, UN_NEIGHBOUR_FREE);
            continue;
        }
        if (has_other_routes)
            look_again(stack, neighbour);
        follow(stack, neighbour);
    }
}

bool un_stack_next_question(struct un_stack *stack, struct un_ip *ip)
{
    for (uint32_t i = 0; stack->own->has_questions && i < stack->config->neighbours; i++) {
        struct un_neighbour *neighbour = &stack->neighbours[i];
        if (!neighbour->is_asked)
            continue;
        neighbour->is_asked = false;
        *ip = neighbour->ip;
        return true;
    }
    stack->own->has_questions = false;
    return false;
}

void un_stack_ask_again(struct un_stack *stack, const struct un_ip *ip)
{
    struct un_neighbour *neighbour = un_neighbour_find(stack, ip);
    if (neighbour)
        question(stack, neighbour);
}

/* ---- what is due ---- */

static void fail(struct un_stack *stack, struct un_neighbour *neighbour)
{
    bool was_known = neighbour->state == UN_NEIGHBOUR_PROBE; /* RFC 4861 section 7.3.3: traffic resolves it anew */
    set_state(neighbour, UN_NEIGHBOUR_FAILED);
    neighbour->deadline_ns = stack->tcp.now_ns + (was_known ? 0 : UN_FAILED_NS); /* for un_neighbour_use: no timer */
    stack->counters->neighbours_failed++;
    un_waiting_drop(stack, neighbour);
    un_stack_conn_wake(stack, neighbour);
}

static void probe(struct un_stack *stack, struct un_neighbour *neighbour)
{
    if (neighbour->probes == UN_SOLICITATIONS) {
        fail(stack, neighbour);
        return;
    }
    neighbour->probes++;
    arm(stack, neighbour, UN_RETRANSMIT_NS);
    if (neighbour->state == UN_NEIGHBOUR_PROBE)
        neighbour->good_until_ns = neighbour->deadline_ns;
    question(stack, neighbour);
}

/* It is the kernel that probes. A station cannot be asked for; if the kernel knows another way to the peer, the
 * connection goes that way until it hears more. */
static void suspect_told(struct un_stack *stack, struct un_neighbour *neighbour, struct un_tcb *tcb)
{
    struct un_ip next_hop;
    uint8_t mac[UN_MAC_BYTES];
    if (!un_neighbour_is_station(neighbour))
        question(stack, neighbour);
    else if (un_route_find(stack, &tcb->peer, &next_hop) == 0 && un_kernel_neighbour(stack->kernel, &next_hop, mac) &&
             !un_neighbour_has_mac(neighbour, mac))
        tcb->next_hop = 0;
}

void un_neighbour_suspect(struct un_stack *stack, struct un_tcb *tcb)
{
    struct un_neighbour *neighbour = &stack->neighbours[tcb->next_hop & (stack->config->neighbours - 1)];
    bool is_usable = un_neighbour_is_known(neighbour) && neighbour->state != UN_NEIGHBOUR_PROBE;
    bool is_proved = neighbour->confirmed_ns && neighbour->confirmed_ns + UN_RETRANSMIT_NS > stack->tcp.now_ns;
    if (neighbour->stamp == tcb->next_hop && neighbour->state == UN_NEIGHBOUR_TOLD)
        suspect_told(stack, neighbour, tcb);
    if (neighbour->stamp != tcb->next_hop || !is_usable || is_proved)
        return;
    set_state(neighbour, UN_NEIGHBOUR_PROBE);
    probe(stack, neighbour);
}

static void run_one(struct un_stack *stack, struct un_neighbour *neighbour)
{
    if (neighbour->state == UN_NEIGHBOUR_DELAY) {
        if (is_confirmed(stack, neighbour)) {
            set_state(neighbour, UN_NEIGHBOUR_REACHABLE);
            return;
        }
        set_state(neighbour, UN_NEIGHBOUR_PROBE);
    }
    probe(stack, neighbour);
}

static bool has_timer(const struct un_neighbour *neighbour)
{
    return neighbour->state == UN_NEIGHBOUR_INCOMPLETE || neighbour->state == UN_NEIGHBOUR_DELAY ||
           neighbour->state == UN_NEIGHBOUR_PROBE;
}

void un_neighbours_run(struct un_stack *stack)
{
    struct un_stack_memory *own = stack->own;
    uint64_t next = UINT64_MAX;
    for (uint32_t i = 0; i < own->config.neighbours; i++) {
        struct un_neighbour *neighbour = &stack->neighbours[i];
        if (has_timer(neighbour) && neighbour->deadline_ns <= own->now_ns)
            run_one(stack, neighbour);
        if (has_timer(neighbour))
            next = un_min64(next, neighbour->deadline_ns);
    }
    if (next != UINT64_MAX && next < own->now_ns + UN_RUN_INTERVAL_NS)
        next = own->now_ns + UN_RUN_INTERVAL_NS;
    own->neighbours_next_ns = next;
}

void un_neighbours_forget_waiting(struct un_stack *stack)
{
    stack->own->neighbours_next_ns = stack->own->now_ns;
    for (uint32_t i = 0; i < stack->config->neighbours; i++) {
        struct un_neighbour *neighbour = &stack->neighbours[i];
        neighbour->waiting = neighbour->queue = UN_LIST_EMPTY;
        neighbour->queued = 0;
    }
}
