/* What the application calls about connections. Nothing leaves here: a connection that has something to send is listed,
 * and takes its turn. */
#include "stack/conn.h"

#include <errno.h>

#include "stack/handover.h"
#include "stack/lists.h"
#include "stack/local.h"
#include "stack/rebuild.h"
#include "stack/route.h"
#include "stack/secrets.h"
#include "stack/udp_endpoints.h"
#include "tcp/application_fast.h"

struct un_tcb *un_stack_conn_find(struct un_stack *stack, uint64_t conn)
{
    uint32_t slot = (uint32_t)conn;
    if (slot >= stack->own->conn_fresh)
        return NULL;
    struct un_tcb *tcb = &stack->tcp.tcbs[slot];
    bool is_it = tcb->generation == conn >> 32 && tcb->state != UN_TCP_CLOSED && !(tcb->flags & UN_TCB_DETACHED);
    return is_it ? tcb : NULL;
}

uint64_t un_stack_handle(const struct un_stack *stack, const struct un_tcb *tcb)
{
    return (uint64_t)tcb->generation << 32 | un_stack_slot(stack, tcb);
}

uint32_t un_stack_slots(const struct un_stack *stack)
{
    return stack->own->conn_fresh;
}

int un_stack_names(struct un_stack *stack, uint64_t conn, struct un_stack_peer *local, struct un_stack_peer *remote)
{
    const struct un_tcb *tcb = un_stack_conn_find(stack, conn);
    if (!tcb)
        return -EBADF;
    *local = (struct un_stack_peer){stack->own->addresses[tcb->local].ip, tcb->local_port};
    *remote = (struct un_stack_peer){tcb->peer, tcb->peer_port};
    return 0;
}

bool un_stack_next_event(struct un_stack *stack, struct un_stack_event *event)
{
    struct un_tcb *tcb = un_stack_conn_next_event(stack);
    if (!tcb)
        return un_udp_next_event(stack, event);
    *event = (struct un_stack_event){
        .conn = un_stack_handle(stack, tcb),
        .user = tcb->user,
        .events = tcb->events,
        .listener = tcb->listener,
        .reason = (uint8_t)(tcb->events & UN_TCP_EVENT_CLOSED ? un_tcp_reason(tcb) : UN_TCP_REASON_NONE),
    };
    tcb->events = 0;
    return true;
}

/* ---- open ---- */

/* Free, and such that the peer's answers come to this shard. */
static bool is_port_free(struct un_stack *stack, const struct un_stack_peer *remote, uint16_t local, uint16_t port)
{
    const struct un_ip *ip = &stack->own->addresses[local].ip;
    if (un_flow_find(stack, &remote->ip, remote->port, port, local) != UN_NONE)
        return false;
    return stack->shards.shards == 1 ||
           un_flow_owner(stack, &remote->ip, remote->port, ip, port) == stack->shards.shard;
}

/* Double-hash port selection, RFC 6056 section 3.3.4. 0: none is free. */
static uint16_t choose_port(struct un_stack *stack, const struct un_stack_peer *remote, uint16_t local)
{
    const struct un_ip *ip = &stack->own->addresses[local].ip;
    uint32_t low = stack->config->port_low;
    uint32_t range = stack->config->port_high - low + 1;
    uint32_t offset = un_port_offset(stack, ip, &remote->ip, remote->port);
    uint32_t *counter = &stack->own->port_counters[un_port_counter(stack, ip, &remote->ip, remote->port)];
    for (uint32_t i = 0; i < range; i++) {
        uint16_t port = (uint16_t)(low + (offset + (*counter)++) % range);
        if (is_port_free(stack, remote, local, port))
            return port;
    }
    return 0;
}

static int choose_local(struct un_stack *stack, const struct un_stack_peer *remote, const struct un_stack_peer *local)
{
    struct un_ip next_hop;
    if (un_route_find(stack, &remote->ip, &next_hop))
        return -EHOSTUNREACH;
    if (!local || un_ip_is_any(&local->ip))
        return un_route_source(stack, &remote->ip);
    if (un_ip_is_v4(&local->ip) != un_ip_is_v4(&remote->ip))
        return -EAFNOSUPPORT;
    int index = un_address_find(stack, &local->ip);
    return index < 0 ? -EADDRNOTAVAIL : index;
}

/* Of shared addresses: every port but those that were set aside for it is the kernel's. */
static int may_leave_from(const struct un_stack *stack, uint16_t port)
{
    const struct un_stack_config *config = stack->config;
    if (un_is_shared(stack) && config->port_low == 0)
        return -EOPNOTSUPP;
    bool is_ours = !un_is_shared(stack) || port == 0 || (port >= config->port_low && port <= config->port_high);
    return is_ours ? 0 : -EACCES;
}

int un_stack_connect(struct un_stack *stack, const struct un_stack_peer *remote, const struct un_stack_peer *local,
                     uint64_t user, uint64_t *conn)
{
    bool is_this_host = un_ip_is_loopback(&remote->ip) || un_stack_has_address(stack, &remote->ip);
    if (is_this_host) /* every packet goes to the link */
        return -EHOSTUNREACH;
    if (remote->port == 0 || !un_can_be_source(stack, &remote->ip))
        return -EINVAL;
    int status = may_leave_from(stack, local ? local->port : 0);
    if (status < 0)
        return status;
    int address = choose_local(stack, remote, local);
    if (address < 0)
        return address;
    struct un_opening opening = {.peer = remote->ip,
                                 .peer_port = remote->port,
                                 .local = (uint16_t)address,
                                 .local_port = local ? local->port : 0,
                                 .listener = UINT16_MAX,
                                 .user = user};
    if (opening.local_port == 0)
        opening.local_port = choose_port(stack, remote, opening.local);
    else if (!is_port_free(stack, remote, opening.local, opening.local_port))
        return -EADDRINUSE;
    if (opening.local_port == 0)
        return -EADDRNOTAVAIL;
    opening.iss = un_initial_sequence(stack, &stack->own->addresses[address].ip, opening.local_port, &remote->ip,
                                      remote->port);
    struct un_tcb *tcb = un_stack_conn_begin(stack, &opening);
    if (!tcb)
        return -ENOBUFS;
    un_tcp_connect(&stack->tcp, tcb);
    un_stack_idle(stack);
    *conn = un_stack_handle(stack, tcb);
    return 0;
}

int un_stack_accept(struct un_stack *stack, uint64_t conn, uint64_t user)
{
    struct un_tcb *tcb = un_stack_conn_find(stack, conn);
    if (!tcb)
        return -EBADF;
    un_stack_busy_part(stack, (uint32_t)conn, UN_KEEP_SEND);
    un_stack_conn_accepted(stack, tcb);
    tcb->flags |= UN_TCB_ACCEPTED;
    tcb->user = user;
    un_stack_idle(stack);
    return 0;
}

int un_stack_unaccept(struct un_stack *stack, uint64_t conn)
{
    struct un_tcb *tcb = un_stack_conn_find(stack, conn);
    if (!tcb)
        return -EBADF;
    if (!(tcb->flags & UN_TCB_ACCEPTED))
        return -EINVAL;
    const struct un_listener *listener = &stack->own->listeners[tcb->listener];
    if (!listener->is_open || listener->port != tcb->local_port)
        return -ENOENT;
    un_stack_busy_part(stack, (uint32_t)conn, UN_KEEP_SEND);
    tcb->flags &= ~(uint32_t)UN_TCB_ACCEPTED;
    tcb->user = listener->user;
    un_stack_conn_ready(stack, tcb);
    un_stack_tell_again(stack, tcb);
    un_stack_idle(stack);
    return 0;
}

int un_stack_set_user(struct un_stack *stack, uint64_t conn, uint64_t user)
{
    struct un_tcb *tcb = un_stack_conn_find(stack, conn);
    if (!tcb)
        return -EBADF;
    tcb->user = user;
    return 0;
}

/* ---- payload ---- */

static bool is_empty(const struct un_piece *pieces, int count)
{
    for (int i = 0; i < count; i++)
        if (pieces[i].length > 0)
            return false;
    return true;
}

/* false: nothing was done. */
static inline bool write_fast(struct un_stack *stack, uint32_t slot, const struct un_piece *piece)
{
    struct un_tcb *tcb = &stack->tcp.tcbs[slot];
    if (!un_tcp_write_is_fast(&stack->tcp, tcb, piece))
        return false;
    un_stack_busy_part(stack, slot, UN_KEEP_SEND);
    un_tcp_write_fast(&stack->tcp, tcb, piece);
    un_stack_conn_list_output(stack, tcb);
    un_stack_idle(stack);
    return true;
}

int64_t un_stack_write(struct un_stack *stack, uint64_t conn, const struct un_piece *pieces, int count)
{
    struct un_tcb *tcb = un_stack_conn_find(stack, conn);
    if (!tcb)
        return -EBADF;
    if (__builtin_expect(count == 1 && write_fast(stack, (uint32_t)conn, pieces), 1))
        return pieces->length;
    un_stack_busy_part(stack, (uint32_t)conn, UN_KEEP_SEND);
    int64_t taken = un_tcp_write(&stack->tcp, tcb, pieces, count);
    un_stack_idle(stack);
    return taken != 0 || is_empty(pieces, count) ? taken : -EAGAIN;
}

int64_t un_stack_lend(struct un_stack *stack, uint64_t conn, uint16_t lender, struct un_piece *pieces, int count)
{
    struct un_tcb *tcb = un_stack_conn_find(stack, conn);
    if (!tcb)
        return -EBADF;
    un_stack_busy_part(stack, (uint32_t)conn, UN_KEEP_SEND);
    int64_t taken = un_tcp_lend(&stack->tcp, tcb, lender, pieces, count);
    un_stack_idle(stack);
    return taken != 0 ? taken : -EAGAIN;
}

/* Why nothing can be read: 0 at the end of input, -EAGAIN before it. */
static int nothing(const struct un_tcb *tcb)
{
    if (un_tcp_is_eof(tcb))
        return 0;
    if (tcb->state != UN_TCP_DEAD)
        return -EAGAIN;
    switch (un_tcp_reason(tcb)) {
    case UN_TCP_REASON_CLOSED:
        return 0;
    case UN_TCP_REASON_REFUSED:
        return -ECONNREFUSED;
    case UN_TCP_REASON_TIMEOUT:
    case UN_TCP_REASON_KEEPALIVE:
        return -ETIMEDOUT;
    case UN_TCP_REASON_UNREACHABLE:
        return -EHOSTUNREACH;
    default:
        return -ECONNRESET;
    }
}

int un_stack_peek(struct un_stack *stack, uint64_t conn, struct un_piece *pieces, int most)
{
    struct un_tcb *tcb = un_stack_conn_find(stack, conn);
    if (!tcb)
        return -EBADF;
    int count = un_tcp_peek(&stack->tcp, tcb, pieces, most);
    return count > 0 ? count : nothing(tcb);
}

int un_stack_consume(struct un_stack *stack, uint64_t conn, uint32_t bytes)
{
    struct un_tcb *tcb = un_stack_conn_find(stack, conn);
    if (!tcb)
        return -EBADF;
    if (bytes > tcb->rcv_bytes)
        return -EINVAL;
    un_stack_busy_part(stack, (uint32_t)conn, UN_KEEP_RECEIVE);
    if (__builtin_expect(un_tcp_consume_is_fast(&stack->tcp, tcb, bytes), 1))
        un_tcp_consume_fast(&stack->tcp, tcb);
    else
        un_tcp_consume(&stack->tcp, tcb, bytes);
    un_stack_idle(stack);
    return 0;
}

/* All there is, in one frame, of which the connection lets go. false: nothing was done. */
static inline bool read_fast(struct un_stack *stack, uint32_t slot, void *bytes, uint32_t length)
{
    struct un_tcb *tcb = &stack->tcp.tcbs[slot];
    if (!un_tcp_consume_is_fast(&stack->tcp, tcb, length))
        return false;
    un_stack_busy_part(stack, slot, UN_KEEP_RECEIVE);
    const struct un_pool *pool = &stack->tcp.pool;
    memcpy(bytes, un_pool_bytes(pool, tcb->rcv.head) + pool->frames[tcb->rcv.head].offset, length);
    un_tcp_consume_fast(&stack->tcp, tcb);
    un_stack_idle(stack);
    return true;
}

int64_t un_stack_read(struct un_stack *stack, uint64_t conn, void *bytes, uint32_t most)
{
    struct un_tcb *tcb = un_stack_conn_find(stack, conn);
    if (!tcb)
        return -EBADF;
    uint32_t all = tcb->rcv_bytes;
    if (__builtin_expect(all <= most && read_fast(stack, (uint32_t)conn, bytes, all), 1))
        return all;
    un_stack_busy_part(stack, (uint32_t)conn, UN_KEEP_RECEIVE);
    uint32_t done = un_tcp_read(&stack->tcp, tcb, bytes, most);
    un_stack_idle(stack);
    return done > 0 || most == 0 ? (int64_t)done : nothing(tcb);
}

int un_stack_conn_counts(struct un_stack *stack, uint64_t conn, uint64_t *taken, uint64_t *given)
{
    const struct un_tcb *tcb = un_stack_conn_find(stack, conn);
    if (!tcb)
        return -EBADF;
    *taken = tcb->bytes_in - tcb->rcv_bytes;
    *given = tcb->bytes_out + (tcb->unsent_frame == UN_NONE ? tcb->unsent_offset : un_tx_unsent(tcb));
    return 0;
}

/* ---- end ---- */

int un_stack_shutdown(struct un_stack *stack, uint64_t conn)
{
    struct un_tcb *tcb = un_stack_conn_find(stack, conn);
    if (!tcb)
        return -EBADF;
    un_stack_busy(stack, tcb);
    un_tcp_shutdown(&stack->tcp, tcb);
    un_stack_idle(stack);
    return 0;
}

int un_stack_shutdown_input(struct un_stack *stack, uint64_t conn)
{
    struct un_tcb *tcb = un_stack_conn_find(stack, conn);
    if (!tcb)
        return -EBADF;
    un_tcp_shutdown_input(tcb);
    return 0;
}

static void let_go(struct un_stack *stack, struct un_tcb *tcb, bool orderly)
{
    un_stack_busy(stack, tcb);
    un_stack_conn_accepted(stack, tcb);
    tcb->events = 0;
    if (orderly)
        un_tcp_close(&stack->tcp, tcb);
    else
        un_tcp_abort(&stack->tcp, tcb, UN_TCP_REASON_ABORTED);
    un_stack_idle(stack);
}

void un_stack_conn_abort(struct un_stack *stack, struct un_tcb *tcb)
{
    let_go(stack, tcb, false);
}

int un_stack_close(struct un_stack *stack, uint64_t conn)
{
    struct un_tcb *tcb = un_stack_conn_find(stack, conn);
    if (!tcb)
        return -EBADF;
    let_go(stack, tcb, true);
    return 0;
}

int un_stack_abort(struct un_stack *stack, uint64_t conn)
{
    struct un_tcb *tcb = un_stack_conn_find(stack, conn);
    if (!tcb)
        return -EBADF;
    let_go(stack, tcb, false);
    return 0;
}

uint32_t un_stack_abort_some(struct un_stack *stack, uint32_t from, uint32_t count)
{
    uint32_t end = stack->own->conn_fresh;
    for (; count > 0 && from < end; from++) {
        struct un_tcb *tcb = &stack->tcp.tcbs[from];
        if (tcb->state == UN_TCP_CLOSED || tcb->state == UN_TCP_TIME_WAIT)
            continue;
        let_go(stack, tcb, false);
        count--;
    }
    return from < end ? from : UN_NONE;
}
