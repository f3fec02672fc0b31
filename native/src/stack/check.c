/* Everything that must hold between two calls, over the whole arena. A naive count beside each clever structure: slow,
 * and for tests and simulation only. Each check returns what is wrong, or NULL. */
#include "stack/arena.h"
#include "stack/scan.h"
#include "tcp/seq.h"

static bool is_live(const struct un_tcb *tcb)
{
    return tcb->state != UN_TCP_CLOSED;
}

/* ---- frames and records ---- */

static const char *check_neighbours(struct un_stack *stack)
{
    for (uint32_t i = 0; i < stack->config->neighbours; i++) {
        const struct un_neighbour *neighbour = &stack->neighbours[i];
        uint32_t count, bytes, tail;
        if (!un_scan_frames(stack, neighbour->queue.head, &count, &bytes, &tail))
            return "a neighbour's queue is damaged";
        if ((count == 0) != (neighbour->queued == 0) || (count > 0 && tail != neighbour->queue.tail))
            return "a neighbour's queue is not what its count says";
        if (neighbour->queued > 0 && neighbour->state != UN_NEIGHBOUR_INCOMPLETE)
            return "packets wait for a neighbour that is not being asked";
    }
    return NULL;
}

/* Those that are open stand in the bucket of their port, once; no others do. */
static const char *check_ports(struct un_stack *stack)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < stack->config->udp_max; i++)
        left += stack->endpoints[i].is_open;
    for (uint32_t bucket = 0; bucket < UN_UDP_BUCKETS; bucket++) {
        for (uint32_t at = stack->own->udp_buckets[bucket]; at != UN_NONE; at = stack->endpoints[at].bucket_next) {
            const struct un_udp_socket *endpoint = &stack->endpoints[at];
            if (at >= stack->config->udp_max || !endpoint->is_open || endpoint->port % UN_UDP_BUCKETS != bucket)
                return "an endpoint stands in a bucket that is not its own";
            if (left-- == 0)
                return "a bucket of endpoints has no end";
        }
    }
    return left == 0 ? NULL : "an open endpoint stands in no bucket";
}

static const char *check_endpoint_events(struct un_stack *stack)
{
    uint32_t left = 0, tail = UN_NONE, refused = 0;
    for (uint32_t i = 0; i < stack->config->udp_max; i++) {
        left += stack->endpoints[i].is_listed;
        refused += stack->endpoints[i].is_open && stack->endpoints[i].wants_room;
    }
    for (uint32_t at = stack->own->udp_events.head; at != UN_NONE; at = stack->endpoints[at].event_next) {
        if (at >= stack->config->udp_max || !stack->endpoints[at].is_listed || left-- == 0)
            return "the list of endpoints with events is damaged";
        tail = at;
    }
    if (left > 0 || (tail != UN_NONE && tail != stack->own->udp_events.tail))
        return "an endpoint with events is in no list, or the list has a wrong end";
    return refused > 0 && stack->own->udp_refused == 0 ? "an endpoint waits for room, and nobody looks" : NULL;
}

static const char *check_endpoints(struct un_stack *stack)
{
    for (uint32_t i = 0; i < stack->config->udp_max; i++) {
        const struct un_udp_socket *endpoint = &stack->endpoints[i];
        uint32_t count, bytes, tail;
        if (!endpoint->is_open)
            continue;
        if (!un_scan_frames(stack, endpoint->queue.head, &count, &bytes, &tail) || count != endpoint->frames)
            return "an endpoint's queue is damaged";
        if (count > 0 && (tail != endpoint->queue.tail || !(stack->tcp.pool.frames[tail].flags & UN_FRAME_LAST)))
            return "an endpoint's queue has no end";
    }
    return NULL;
}

static const char *check_fragments(struct un_stack *stack)
{
    for (uint32_t i = 0; i < UN_FRAGMENTS_MAX; i++) {
        const struct un_fragments *datagram = &stack->own->fragments[i];
        uint32_t count, bytes, tail;
        if (!datagram->is_used)
            continue;
        if (!un_scan_frames(stack, datagram->head, &count, &bytes, &tail))
            return "fragments are damaged";
        if (count != datagram->frames || bytes != datagram->received)
            return "fragments are not what their counts say";
    }
    return NULL;
}

static const char *check_blocks(struct un_stack *stack)
{
    for (uint32_t slot = 0; slot < stack->own->conn_fresh; slot++) {
        const struct un_tcb *tcb = &stack->tcp.tcbs[slot];
        if (is_live(tcb) && !un_scan_conn(stack, tcb))
            return "a connection's queues are not what its counts say";
        const char *wrong = un_tcp_check(&stack->tcp, tcb);
        if (wrong)
            return wrong;
    }
    return NULL;
}

/* How many of these records have no reference; UN_NONE: one that was scanned has none. */
static uint32_t count_free(const struct un_stack *stack, uint32_t from, uint32_t end)
{
    uint32_t count = 0;
    for (uint32_t frame = from; frame < end; frame++) {
        bool is_free = stack->tcp.pool.frames[frame].references == 0;
        if (stack->frame_scratch[frame] && is_free)
            return UN_NONE;
        count += is_free;
    }
    return count;
}

/* How many records stand in a list; UN_NONE: one that does not belong there, or more than `most`. */
static uint32_t count_listed(const struct un_pool *pool, uint32_t head, uint32_t from, uint32_t end, uint32_t most)
{
    uint32_t listed = 0;
    for (uint32_t at = head; at != UN_NONE; at = pool->frames[at].next)
        if (at < from || at >= end || pool->frames[at].references > 0 || ++listed > most)
            return UN_NONE;
    return listed;
}

/* References of what was scanned, and the free lists. */
static const char *check_pool(struct un_stack *stack)
{
    const struct un_pool *pool = &stack->tcp.pool;
    uint32_t count = pool->own->count, end = count + pool->own->lent_count;
    uint32_t free_count = count_free(stack, 0, count), lent_free = count_free(stack, count, end);
    if (free_count == UN_NONE || lent_free == UN_NONE)
        return "a frame that is in use has no reference";
    uint32_t listed = count_listed(pool, pool->own->free_head, 0, count, free_count);
    uint32_t lent_listed = count_listed(pool, pool->own->lent_free, count, end, lent_free);
    uint32_t lent_back = count_listed(pool, pool->own->lent_back, count, end, lent_free);
    if (listed == UN_NONE || lent_listed == UN_NONE || lent_back == UN_NONE)
        return "a free list of frames is damaged";
    bool is_all = listed == free_count && free_count == pool->own->free_count && lent_listed + lent_back == lent_free;
    return is_all ? NULL : "frames are lost";
}

static const char *check_sents(struct un_stack *stack)
{
    const struct un_sent_pool *pool = stack->tcp.sent_pool;
    uint32_t used = 0, listed = 0;
    for (uint32_t at = 0; at < pool->count; at++)
        used += stack->sent_scratch[at];
    for (uint32_t at = pool->free_head; at != UN_NONE; at = stack->tcp.sents[at].next)
        if (at >= pool->count || stack->sent_scratch[at] || ++listed > pool->count)
            return "the free list of records is damaged";
    return listed != pool->free_count || listed + used != pool->count ? "records are lost" : NULL;
}

/* ---- connections and the tables they stand in ---- */

static const char *check_flow(struct un_stack *stack, uint32_t slot, uint32_t *entries)
{
    const struct un_tcb *tcb = &stack->tcp.tcbs[slot];
    bool is_entered = tcb->listed & UN_LISTED_FLOWS;
    *entries += is_entered;
    if (!is_live(tcb) && is_entered)
        return "a closed connection stands in the look-up table";
    if (is_live(tcb) && tcb->state != UN_TCP_DEAD && !is_entered)
        return "a connection is missing in the look-up table";
    uint32_t found = is_entered ? un_flows_find(&stack->flows, stack->tcp.tcbs, tcb->hash, &tcb->peer,
                                                     un_flows_ends_of(tcb))
                                : slot;
    return found == slot ? NULL : "a connection is not found";
}

/* One slot of the wheel: its list is linked both ways, and its bit says whether it is empty. */
static const char *check_wheel_slot(const struct un_stack *stack, uint32_t slot, uint32_t *left)
{
    const struct un_wheel_memory *wheel = &stack->own->wheel;
    bool is_marked = wheel->occupied[slot / UN_WHEEL_SLOTS] >> slot % UN_WHEEL_SLOTS & 1;
    uint32_t previous = UN_NONE;
    if (is_marked != (wheel->heads[slot] != UN_NONE))
        return "a slot of the wheel is not what its bit says";
    for (uint32_t at = wheel->heads[slot]; at != UN_NONE; at = stack->tcp.tcbs[at].wheel_next) {
        const struct un_tcb *tcb = &stack->tcp.tcbs[at];
        if (at >= stack->own->conn_fresh || tcb->wheel_at != slot || tcb->wheel_prev != previous || (*left)-- == 0)
            return "a slot of the wheel is damaged";
        previous = at;
    }
    return NULL;
}

static const char *check_wheel(struct un_stack *stack)
{
    uint32_t left = 0;
    const char *wrong = NULL;
    for (uint32_t slot = 0; slot < stack->own->conn_fresh; slot++)
        left += stack->tcp.tcbs[slot].wheel_at != UN_NONE;
    for (uint32_t slot = 0; !wrong && slot < UN_WHEEL_LEVELS * UN_WHEEL_SLOTS; slot++)
        wrong = check_wheel_slot(stack, slot, &left);
    if (wrong)
        return wrong;
    return left > 0 ? "a connection with a timer is not in the wheel" : NULL;
}

static const char *check_timer(const struct un_stack *stack, const struct un_tcb *tcb)
{
    const uint64_t tick_ns = UINT64_C(1) << UN_WHEEL_TICK_BITS;
    uint64_t deadline = is_live(tcb) ? un_tcp_deadline_ns(tcb) : 0;
    if (!is_live(tcb) && tcb->wheel_at != UN_NONE)
        return "a closed connection stands in the wheel";
    if (deadline && (tcb->wheel_at == UN_NONE || tcb->wheel_ns > deadline))
        return "a connection stands too late in the wheel";
    uint64_t next_ns = stack->own->timers_next_ns, wheel_now_ns = stack->own->wheel.tick << UN_WHEEL_TICK_BITS;
    if (tcb->wheel_at != UN_NONE && next_ns > tcb->wheel_ns + tick_ns && next_ns > wheel_now_ns + tick_ns)
        return "the wheel is looked at too late";
    return NULL;
}

static const char *check_conns(struct un_stack *stack)
{
    uint32_t entries = 0, used = 0, time_waits = 0;
    for (uint32_t slot = 0; slot < stack->own->conn_fresh; slot++) {
        const struct un_tcb *tcb = &stack->tcp.tcbs[slot];
        const char *wrong = check_flow(stack, slot, &entries);
        if (!wrong)
            wrong = check_timer(stack, tcb);
        if (wrong)
            return wrong;
        if (tcb->events && !(tcb->listed & UN_LISTED_EVENTS))
            return "a connection has events and is not listed";
        if (tcb->state == UN_TCP_TIME_WAIT && !(tcb->listed & UN_LISTED_TIME_WAIT))
            return "a connection in TIME-WAIT is not in its ring";
        time_waits += tcb->state == UN_TCP_TIME_WAIT;
        used += is_live(tcb) || (tcb->listed & UN_LISTED_LINKED);
    }
    for (uint32_t bucket = 0; bucket < stack->flows.count; bucket++)
        entries -= stack->flows.buckets[bucket].used;
    if (entries != 0)
        return "the look-up table holds what is not there";
    if (stack->own->time_wait_head >= stack->config->time_wait_max ||
        stack->own->time_wait_count > stack->config->time_wait_max)
        return "the ring of TIME-WAIT stands beyond its end";
    if (time_waits > stack->own->time_wait_count)
        return "more connections are in TIME-WAIT than their ring holds";
    return used == stack->own->conn_count ? NULL : "the count of connections is wrong";
}

/* How many connections each of our addresses has. */
static const char *check_places(struct un_stack *stack)
{
    uint32_t conns[UN_STACK_ADDRESSES_MAX] = {0};
    for (uint32_t slot = 0; slot < stack->own->conn_fresh; slot++) {
        const struct un_tcb *tcb = &stack->tcp.tcbs[slot];
        if (is_live(tcb) || (tcb->listed & UN_LISTED_LINKED))
            conns[tcb->local]++;
    }
    for (uint32_t place = 0; place < UN_STACK_ADDRESSES_MAX; place++)
        if (conns[place] != stack->own->claims[place].conns)
            return "the count of an address's connections is wrong";
    return NULL;
}

static const char *check_free_slots(struct un_stack *stack)
{
    const struct un_stack_memory *own = stack->own;
    uint32_t count = 0;
    for (uint32_t at = own->conn_free; at != UN_NONE; at = stack->tcp.tcbs[at].next_free) {
        if (at >= own->conn_fresh || is_live(&stack->tcp.tcbs[at]) || ++count > own->conn_fresh)
            return "the free list of connections is damaged";
        if (stack->tcp.tcbs[at].listed)
            return "a free connection stands in a list";
    }
    return count + own->conn_count == own->conn_fresh ? NULL : "connections are lost";
}

/* ---- lists ---- */

/* Members of a list by output_next. */
static const char *count_outputs(struct un_stack *stack, const struct un_list *list, uint32_t *count)
{
    uint32_t tail = list->tail;
    for (uint32_t at = list->head; at != UN_NONE; at = stack->tcp.tcbs[at].output_next) {
        if (at >= stack->own->conn_fresh || !(stack->tcp.tcbs[at].listed & UN_LISTED_OUTPUT))
            return "a list of connections with output is damaged";
        if (++*count > stack->own->conn_fresh)
            return "a list of connections with output has no end";
        tail = at;
    }
    return list->head == UN_NONE || tail == list->tail ? NULL : "a list of connections with output has a wrong end";
}

static const char *check_outputs(struct un_stack *stack)
{
    uint32_t count = 0;
    const char *wrong = count_outputs(stack, &stack->own->outputs, &count);
    for (uint32_t i = 0; !wrong && i < stack->config->neighbours; i++)
        wrong = count_outputs(stack, &stack->neighbours[i].waiting, &count);
    for (uint32_t slot = 0; slot < stack->own->conn_fresh; slot++)
        count -= (stack->tcp.tcbs[slot].listed & UN_LISTED_OUTPUT) != 0;
    return wrong || count == 0 ? wrong : "a connection with output is in no list";
}

static const char *check_events(struct un_stack *stack)
{
    uint32_t count = 0, tail = UN_NONE;
    for (uint32_t at = stack->own->events.head; at != UN_NONE; at = stack->tcp.tcbs[at].event_next) {
        if (at >= stack->own->conn_fresh || !(stack->tcp.tcbs[at].listed & UN_LISTED_EVENTS))
            return "the list of events is damaged";
        if (++count > stack->own->conn_fresh)
            return "the list of events has no end";
        tail = at;
    }
    if (tail != UN_NONE && tail != stack->own->events.tail)
        return "the list of events has a wrong end";
    for (uint32_t slot = 0; slot < stack->own->conn_fresh; slot++)
        count -= (stack->tcp.tcbs[slot].listed & UN_LISTED_EVENTS) != 0;
    return count == 0 ? NULL : "a connection with events is in no list";
}

/* As many as are counted: of those that wait, each once. */
static const char *check_accept_queue(const struct un_stack *stack, uint32_t number)
{
    const struct un_listener *listener = &stack->own->listeners[number];
    uint32_t count = 0, previous = UN_NONE;
    for (uint32_t at = listener->accept_queue.head; at != UN_NONE; at = stack->tcp.tcbs[at].accept_next) {
        const struct un_tcb *tcb = &stack->tcp.tcbs[at];
        if (at >= stack->own->conn_fresh || !(tcb->listed & UN_LISTED_READY) || tcb->listener != number ||
            tcb->accept_previous != previous)
            return "an accept queue is damaged";
        if (++count > listener->ready)
            return "an accept queue is longer than what its listener counts";
        previous = at;
    }
    if (count > 0 && listener->accept_queue.tail != previous)
        return "an accept queue has a wrong end";
    return count == listener->ready ? NULL : "an accept queue is shorter than what its listener counts";
}

static const char *check_backlogs(struct un_stack *stack)
{
    for (uint32_t i = 0; i < UN_STACK_LISTENERS_MAX; i++) {
        const struct un_listener *listener = &stack->own->listeners[i];
        uint32_t half_open = 0, ready = 0;
        if (!listener->is_open && listener->half_open + listener->ready == 0)
            continue;
        for (uint32_t slot = 0; slot < stack->own->conn_fresh; slot++) {
            const struct un_tcb *tcb = &stack->tcp.tcbs[slot];
            half_open += tcb->listener == i && (tcb->listed & UN_LISTED_HALF_OPEN);
            ready += tcb->listener == i && (tcb->listed & UN_LISTED_READY);
        }
        if (half_open != listener->half_open || ready != listener->ready)
            return "a listener counts its backlog wrong";
        const char *wrong = check_accept_queue(stack, i);
        if (wrong)
            return wrong;
    }
    return NULL;
}

const char *un_stack_check(struct un_stack *stack)
{
    static const char *(*const checks[])(struct un_stack *) = {
        check_blocks, check_endpoints,  check_fragments, check_neighbours, check_pool,   check_sents,
        check_conns,  check_free_slots, check_places,    check_outputs,    check_events, check_wheel,
        check_backlogs, check_ports,    check_endpoint_events,
    };
    if (stack->own->busy)
        return "a change was not finished";
    un_scan_begin(stack);
    for (uint32_t i = 0; i < sizeof checks / sizeof checks[0]; i++) {
        const char *wrong = checks[i](stack);
        if (wrong)
            return wrong;
    }
    return NULL;
}

uint32_t un_stack_frames_elsewhere(struct un_stack *stack)
{
    const struct un_pool *pool = &stack->tcp.pool;
    uint32_t count = 0;
    un_scan_begin(stack);
    check_blocks(stack);
    check_endpoints(stack);
    check_fragments(stack);
    check_neighbours(stack);
    for (uint32_t frame = 0; frame < pool->own->count; frame++)
        count += pool->frames[frame].references > (uint32_t)stack->frame_scratch[frame];
    return count;
}
