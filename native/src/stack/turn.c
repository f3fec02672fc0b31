/* A turn of a stack: take what the device received, run what is due, send what may be sent. */
#include "stack/address.h"
#include "stack/arena.h"
#include "stack/fragment.h"
#include "stack/groups.h"
#include "stack/input.h"
#include "stack/lists.h"
#include "stack/neighbour.h"
#include "stack/output.h"
#include "stack/packets.h"
#include "stack/prefetch.h"
#include "stack/routers.h"
#include "stack/stack.h"
#include "stack/udp_endpoints.h"

#define UN_TURN_TIMERS 1024u /* connections whose deadline has come */
#define UN_SUSPECT_TIMEOUTS 3u /* in a row; Linux asks its routing again after as many: tcp_retries1 */

static uint32_t take_packets(struct un_stack *stack)
{
    struct un_rx packets[UN_TURN_PACKETS];
    uint32_t count = un_stack_take(stack, stack->device, packets);
    if (count > 1 && stack->own->conn_count >= UN_PREFETCH_FROM)
        un_stack_prefetch(stack, packets, count);
    if (count > 0)
        un_stack_rx(stack, packets, count, false);
    return count;
}

static __attribute__((noinline)) uint32_t run_timers(struct un_stack *stack)
{
    struct un_wheel_memory *wheel = &stack->own->wheel;
    struct un_tcb *tcbs = stack->tcp.tcbs;
    uint32_t done = 0;
    while (done < UN_TURN_TIMERS) {
        uint32_t slot = un_wheel_expired(wheel, tcbs, stack->tcp.now_ns);
        if (slot == UN_NONE)
            break;
        done++;
        struct un_tcb *tcb = &tcbs[slot];
        uint64_t deadline = un_tcp_deadline_ns(tcb);
        if (deadline && deadline <= stack->tcp.now_ns) {
            un_stack_busy(stack, tcb);
            un_tcp_expire(&stack->tcp, tcb);
            un_stack_idle(stack);
            if (tcb->backoff >= UN_SUSPECT_TIMEOUTS && !(tcb->flags & UN_TCB_PERSIST))
                un_neighbour_suspect(stack, tcb);
            deadline = un_tcp_deadline_ns(tcb);
        }
        if (deadline)
            un_wheel_arm(wheel, tcbs, slot, deadline);
    }
    stack->own->timers_next_ns = un_wheel_next_ns(wheel);
    return done;
}

/* Groups first: RFC 4862 section 5.4.2 wants neighbours to reach us before they are asked. */
static void run_addresses(struct un_stack *stack)
{
    uint64_t next = un_groups_due(stack);
    next = un_min64(next, un_addresses_due(stack));
    stack->own->addresses_next_ns = un_min64(next, un_routers_due(stack));
}

/* What is rarely due: neighbours, fragments, announcements. Not inlined: their arrays would enlarge the frame of every
 * turn. */
static __attribute__((noinline)) void run_slow(struct un_stack *stack, uint64_t now_ns)
{
    struct un_stack_memory *own = stack->own;
    if (own->neighbours_next_ns <= now_ns)
        un_neighbours_run(stack);
    if (own->fragments_next_ns <= now_ns)
        un_fragments_run(stack);
    if (own->addresses_next_ns <= now_ns)
        run_addresses(stack);
}

void un_stack_set_now(struct un_stack *stack, uint64_t now_ns)
{
    if (now_ns <= stack->own->now_ns)
        return;
    stack->own->now_ns = now_ns;
    un_tcp_set_now(&stack->tcp, now_ns);
}

static inline bool is_slow_due(const struct un_stack_memory *own, uint64_t now_ns)
{
    return own->neighbours_next_ns <= now_ns || own->fragments_next_ns <= now_ns || own->addresses_next_ns <= now_ns;
}

uint32_t un_stack_poll_input(struct un_stack *stack, uint64_t now_ns)
{
    struct un_stack_memory *own = stack->own;
    un_assert(own->busy == 0);
    own->now_ns = now_ns;
    un_tcp_set_now(&stack->tcp, now_ns);
    own->retry_ns = 0;
    uint32_t done = take_packets(stack);
    if (own->timers_next_ns <= now_ns)
        done += run_timers(stack);
    if (is_slow_due(own, now_ns))
        run_slow(stack, now_ns);
    return done;
}

/* What was submitted in the meantime counts too. */
static inline uint32_t send_and_flush(struct un_stack *stack)
{
    uint32_t done = stack->own->outputs.head != UN_NONE ? un_stack_run_outputs(stack) : 0;
    if (stack->own->farewells.put != stack->own->farewells.taken)
        un_stack_send_farewells(stack);
    if (stack->own->udp_refused > 0)
        un_udp_room(stack);
    un_stack_flush(stack);
    return done;
}

uint32_t un_stack_poll(struct un_stack *stack, uint64_t now_ns)
{
    uint32_t done = un_stack_poll_input(stack, now_ns);
    return done + send_and_flush(stack);
}

uint32_t un_stack_poll_output(struct un_stack *stack, uint64_t now_ns)
{
    un_assert(stack->own->busy == 0);
    stack->own->now_ns = now_ns;
    un_tcp_set_now(&stack->tcp, now_ns);
    return send_and_flush(stack);
}

bool un_stack_has_output(const struct un_stack *stack)
{
    const struct un_stack_memory *own = stack->own;
    return own->outputs.head != UN_NONE || own->farewells.put != own->farewells.taken;
}

uint64_t un_stack_deadline_ns(const struct un_stack *stack)
{
    const struct un_stack_memory *own = stack->own;
    if (!own->retry_ns && (own->outputs.head != UN_NONE || stack->has_submitted))
        return own->now_ns;
    uint64_t next = own->retry_ns ? own->retry_ns : UINT64_MAX;
    if (stack->device->lacks_frames)
        next = un_min64(next, own->now_ns + UN_MS_NS);
    next = un_min64(next, own->timers_next_ns);
    next = un_min64(next, own->neighbours_next_ns);
    next = un_min64(next, own->fragments_next_ns);
    return un_min64(next, own->addresses_next_ns);
}

void un_stack_input(struct un_stack *stack, const struct un_rx *packet)
{
    stack->counters->taken_over++;
    un_stack_rx(stack, packet, 1, true);
}
