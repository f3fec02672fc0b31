/* A stack of our own as transport: TCP over one queue of a packet device.
 *
 * A handle is the stack's slot of the connection. The stack keeps the slot until the engine closes it, also when the
 * connection is over, so it never belongs to another connection meanwhile. The connection's `user` is the engine's id.
 * It shows, after a takeover, whether engine and stack mean the same connection.
 *
 * poll looks at descriptors only before it sleeps, and now and then: while packets come, reading the device is the only
 * system call that is needed. Connections that the engine cannot take yet wait in the accept queues of the stack's
 * listeners. Whatever the stack has to remember outlives this process in its arena. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "engine/capture_packets.h"
#include "engine/change.h"
#include "engine/conns.h"
#include "engine/control.h"
#include "engine/link.h"
#include "engine/look.h"
#include "engine/receive.h"
#include "engine/sendqueue.h"
#include "engine/transmit.h"
#include "engine/transport.h"
#include "engine/watch.h"

#define LOOK_EVERY 16u /* polls that may not sleep, for one look at descriptors: a delay far below a millisecond */
#define DRAIN_NS UINT64_C(100000000) /* with a device that is full: it has sent thousands of packets by then */

/* Start and stop. */

static struct un_ip ip_of(const struct un_option_address *address)
{
    return un_ip_from_v6(address->ip);
}

static int add_default_route(struct un_stack *stack, const struct un_ip *gateway)
{
    static const uint8_t nothing[16];
    struct un_ip all = un_ip_is_v4(gateway) ? un_ip_from_v4(nothing) : un_ip_from_v6(nothing);
    return un_stack_add_route(stack, &all, 0, gateway);
}

static int add_addresses(struct un_engine *engine)
{
    const struct un_engine_options *options = engine->options;
    struct un_stack *stack = &engine->link->stack;
    int status = 0;
    for (uint32_t i = 0; status >= 0 && i < options->addresses.count; i++) {
        struct un_ip ip = ip_of(&options->addresses.at[i]);
        status = un_stack_add_address(stack, &ip, (uint8_t)options->addresses.at[i].number);
    }
    for (uint32_t i = 0; status >= 0 && i < options->gateways.count; i++) {
        struct un_ip gateway = ip_of(&options->gateways.at[i]);
        status = add_default_route(stack, &gateway);
    }
    return status;
}

static int create_stack(struct un_engine *engine, const struct un_stack_place *place)
{
    struct un_link *link = engine->link;
    struct un_stack_config config = engine->setup.stack->config;
    memcpy(config.secret, un_exchange_secret(&link->exchange), sizeof config.secret);
    config.seed = engine->options->seed;
    if (!config.seed && getrandom(&config.seed, sizeof config.seed, 0) != sizeof config.seed)
        return -errno;
    int status = un_stack_create(&link->stack, place, &config);
    if (status >= 0) {
        un_link_share(link);
        status = add_addresses(engine);
    }
    if (status >= 0)
        status = un_link_listen_first(engine);
    return status < 0 ? status : 0;
}

/* Go on with the stack that lies in the memory, or make one there. One that was not complete when its process died had
 * no connections; those of one that was abandoned are reset. */
static int open_stack(struct un_engine *engine)
{
    const struct un_stack_setup *setup = engine->setup.stack;
    struct un_link *link = engine->link;
    uint64_t bytes = un_stack_setup_arena_bytes(setup);
    struct un_stack_place place = {.arena = (uint8_t *)setup->arena + UN_STACK_HEAD_BYTES,
                                   .arena_bytes = bytes - UN_STACK_HEAD_BYTES,
                                   .frames = setup->frames,
                                   .counters = un_published_counters(engine->setup.public),
                                   .device = link->device};
    if (link->head->abandoned)
        un_link_reset_abandoned(engine, &place);
    else if (link->head->ready)
        return un_link_adopt(link, &place);
    if (link->head->begun && madvise(link->head, bytes, MADV_REMOVE) < 0)
        return -errno;
    link->head->begun = 1;
    un_compiler_fence();
    int status = create_stack(engine, &place);
    un_compiler_fence();
    link->head->ready = status == 0;
    return status;
}

/* What waits to be acknowledged may lie in send frames. */
static void join_lenders(struct un_engine *engine)
{
    struct un_link *link = engine->link;
    for (uint32_t port = 0; port < un_port_count(engine->config); port++)
        if (engine->setup.ports[port])
            link->lenders[port] = un_send_frames(engine->setup.public, engine->setup.ports[port]);
    link->stack.tcp.pool.lenders = link->lenders;
}

static int open_device(struct un_engine *engine)
{
    const struct un_stack_setup *setup = engine->setup.stack;
    struct un_link *link = engine->link;
    struct un_device_parts parts = setup->parts;
    const char *why = "";
    parts.queue = (uint16_t)engine->options->queue;
    parts.queues = (uint16_t)engine->options->queues;
    parts.frames = setup->frames;
    parts.frames_bytes = un_stack_setup_frames_bytes(setup);
    parts.frame_bytes = setup->config.frame_bytes;
    link->device = setup->device ? setup->device : setup->kind->open(&parts, &why);
    if (!link->device) {
        int status = errno ? -errno : -EIO;
        un_control_say(engine->setup.control_fd, "queue %u of the interface: %s", parts.queue, why);
        return status;
    }
    return 0;
}

static void hand_over(void *context, uint32_t shard, const struct un_rx *packet)
{
    struct un_link *link = context;
    link->stack.tcp.drops[UN_DROP_hand_over_full] +=
        un_exchange_give(&link->exchange, &link->stack.tcp.pool, shard, packet);
}

static void join_shards(struct un_engine *engine)
{
    struct un_link *link = engine->link;
    struct un_stack_shards shards = {(uint32_t)engine->options->queue, (uint32_t)engine->options->queues, hand_over,
                                     link};
    un_stack_set_shards(&link->stack, &shards);
}

/* Where an engine died that had no frames, the device's descriptor is in the epoll set, and says nothing. */
static int watch_device(struct un_engine *engine, int fd)
{
    const uint64_t what = UN_WATCHED(UN_WATCHED_DEVICE, 0);
    int status = un_watch(engine, fd, EPOLLIN, what);
    return status == 0 ? un_watch_for(engine, fd, EPOLLIN, what) : status;
}

static int watch_all(struct un_engine *engine)
{
    const int *wake_fds = engine->setup.stack->exchange_wake_fds;
    int status = un_watch_start(engine);
    if (status == 0 && engine->link->device->fd >= 0)
        status = watch_device(engine, engine->link->device->fd);
    if (status == 0)
        status = un_watch(engine, wake_fds[engine->options->queue], EPOLLIN | EPOLLET,
                          UN_WATCHED(UN_WATCHED_EXCHANGE, 0));
    return status;
}

static void stack_stop(struct un_engine *engine)
{
    struct un_link *link = engine->link;
    if (link->device)
        link->device->operations->close(link->device);
    un_link_close_table(engine);
    un_exchange_close(&link->exchange);
    free(link);
    engine->link = NULL;
}

static int open_all(struct un_engine *engine)
{
    const struct un_stack_setup *setup = engine->setup.stack;
    struct un_link *link = engine->link;
    int status = un_exchange_open(&link->exchange, setup->exchange_fd, (uint32_t)engine->options->queue,
                                  (uint32_t)engine->options->queues, setup->exchange_wake_fds);
    if (status == 0)
        status = open_device(engine);
    if (status == 0)
        status = un_link_open_table(engine);
    if (status == 0)
        status = open_stack(engine);
    if (status == 0) {
        join_lenders(engine);
        un_stack_set_device(&link->stack, link->device);
        join_shards(engine);
        un_link_forget_unknown(engine);
        status = watch_all(engine);
    }
    return status;
}

static int stack_start(struct un_engine *engine)
{
    engine->link = calloc(1, sizeof *engine->link);
    if (!engine->link)
        return -ENOMEM;
    engine->link->head = engine->setup.stack->arena;
    int status = open_all(engine);
    if (status < 0)
        stack_stop(engine);
    return status;
}

/* A turn. */

static uint64_t handle_of(const struct un_link *link, int slot)
{
    return un_stack_handle(&link->stack, &link->stack.tcp.tcbs[slot]);
}

static enum un_reason reason_of(uint8_t reason)
{
    switch (reason) {
    case UN_TCP_REASON_CLOSED: return UN_REASON_PEER;
    case UN_TCP_REASON_RESET: return UN_REASON_RESET;
    default: return UN_REASON_SYSTEM;
    }
}

static void handle_event(struct un_engine *engine, const struct un_stack_event *event)
{
    if (event->user == 0)
        return; /* the engine does not know it yet, and tries everything when it does */
    if (event->events & UN_TCP_EVENT_CLOSED && event->reason != UN_TCP_REASON_CLOSED) {
        un_engine_conn_ended(engine, event->user, reason_of(event->reason));
        return;
    }
    if (engine->moderates && event->events & UN_TCP_EVENT_READABLE)
        un_moderation_heard(&engine->moderation, UN_ID_SLOT(event->user));
    if (event->events & (UN_TCP_EVENT_READABLE | UN_TCP_EVENT_EOF | UN_TCP_EVENT_CLOSED))
        un_engine_conn_can_receive(engine, event->user, event->events & (UN_TCP_EVENT_EOF | UN_TCP_EVENT_CLOSED));
    if (event->events & UN_TCP_EVENT_WRITABLE)
        un_engine_conn_can_send(engine, event->user);
}

/* How long to sleep at most, in whole milliseconds, late rather than early: deadlines of TCP can be a bit late. */
static int sleep_ms(const struct un_engine *engine, int timeout_ms)
{
    struct un_link *link = engine->link;
    uint64_t deadline_ns = un_stack_deadline_ns(&link->stack), now_ns = un_engine_now_ns(engine);
    if (!link->device->operations->sleep(link->device) || !un_exchange_sleep(&link->exchange) || deadline_ns <= now_ns)
        return 0;
    uint64_t wait_ms = (deadline_ns - now_ns) / UN_MS_NS + 1;
    return timeout_ms >= 0 && (uint64_t)timeout_ms < wait_ms ? timeout_ms : wait_ms < INT32_MAX ? (int)wait_ms : -1;
}

/* Every shard hears the same news; one of them tells the supervisor. */
static void tell_address_news(struct un_engine *engine)
{
    struct un_stack_address_news news;
    while (un_stack_next_address_news(&engine->link->stack, &news)) {
        uint64_t address[2];
        uint32_t mac[2] = {0};
        memcpy(address, news.ip.bytes, sizeof address);
        memcpy(mac, news.mac, sizeof news.mac);
        if (engine->options->queue == 0)
            un_control_tell(engine, UN_CONTROL_ADDRESS, news.what, mac[0], mac[1], address[0], address[1]);
    }
}

static void device_is_gone(struct un_engine *engine)
{
    un_control_say(engine->setup.control_fd, "queue %u: the interface was removed", (unsigned)engine->options->queue);
    engine->failed = engine->exit = true;
}

/* What cannot be taken for want of frames must not keep us awake. That the device is gone is told all the same. */
static void wait_for_device(struct un_engine *engine)
{
    struct un_link *link = engine->link;
    bool is_deaf = un_device_wait_fd(link->device) < 0;
    if (is_deaf == link->is_deaf || link->device->fd < 0)
        return;
    uint32_t events = is_deaf ? 0 : EPOLLIN;
    if (un_watch_for(engine, link->device->fd, events, UN_WATCHED(UN_WATCHED_DEVICE, 0)) == 0)
        link->is_deaf = is_deaf;
}

static uint32_t look_at_descriptors(struct un_engine *engine, int timeout_ms)
{
    struct epoll_event events[UN_EPOLL_BATCH];
    if (timeout_ms != 0)
        timeout_ms = sleep_ms(engine, timeout_ms);
    tell_address_news(engine);
    un_link_tell_questions(engine);
    wait_for_device(engine);
    int count = epoll_wait(engine->setup.epoll_fd, events, UN_EPOLL_BATCH, timeout_ms);
    un_exchange_awake(&engine->link->exchange);
    un_stack_follow(&engine->link->stack);
    for (int i = 0; i < count; i++) {
        un_watch_handle(engine, events[i].data.u64);
        if (UN_WATCHED_KIND(events[i].data.u64) == UN_WATCHED_DEVICE && events[i].events & EPOLLERR)
            device_is_gone(engine);
    }
    if (engine->link->device->gone)
        device_is_gone(engine);
    return count > 0 ? (uint32_t)count : 0;
}

static uint32_t take_over_packets(struct un_link *link)
{
    struct un_rx packet;
    uint32_t taken = 0;
    while (taken < UN_EPOLL_BATCH && un_exchange_take(&link->exchange, &link->stack.tcp.pool, &packet)) {
        if (packet.frame == UN_NONE)
            link->stack.tcp.drops[UN_DROP_no_frame]++;
        else
            un_stack_input(&link->stack, &packet);
        taken++;
    }
    return taken;
}

static inline uint32_t take_in(struct un_engine *engine)
{
    if (__builtin_expect(engine->capture != NULL, 0))
        return un_capture_take_in(engine);
    un_tcp_set_now(&engine->link->stack.tcp, engine->now_ns);
    uint32_t taken = take_over_packets(engine->link);
    return taken + un_stack_poll_input(&engine->link->stack, engine->now_ns);
}

/* Pieces that were acknowledged, or belonged to connections that are over. */
static void take_back(struct un_engine *engine)
{
    uint16_t port;
    uint32_t offset;
    while (un_pool_given_back(&engine->link->stack.tcp.pool, &port, &offset))
        un_sendqueue_done(engine, port, offset / engine->config->tx_frame_bytes);
}

static uint32_t stack_poll(struct un_engine *engine, int timeout_ms)
{
    struct un_link *link = engine->link;
    struct un_stack_event event;
    uint32_t work = 0;
    if (timeout_ms != 0 || ++link->polls % LOOK_EVERY == 0)
        work += look_at_descriptors(engine, timeout_ms);
    engine->now_ns = un_engine_now_ns(engine);
    work += take_in(engine);
    while (un_stack_next_event(&link->stack, &event)) {
        handle_event(engine, &event);
        work++;
    }
    un_link_accept(engine);
    take_back(engine);
    return work;
}

static void stack_flush(struct un_engine *engine)
{
    un_stack_poll_output(&engine->link->stack, un_engine_now_ns(engine));
    take_back(engine);
}

static void stack_drain(struct un_engine *engine)
{
    struct un_stack *stack = &engine->link->stack;
    uint64_t until = un_clock_ns() + DRAIN_NS;
    do {
        engine->now_ns = un_engine_now_ns(engine);
        take_in(engine);
        un_stack_poll_output(stack, engine->now_ns);
    } while (un_stack_has_output(stack) && un_clock_ns() < until);
    take_back(engine);
}

static uint64_t stack_deadline_ns(const struct un_engine *engine)
{
    return un_stack_deadline_ns(&engine->link->stack);
}

/* Connections. */

static ssize_t stack_receive(struct un_engine *engine, int handle, void *bytes, size_t length)
{
    return (ssize_t)un_stack_read(&engine->link->stack, handle_of(engine->link, handle), bytes, (uint32_t)length);
}

static ssize_t stack_send(struct un_engine *engine, uint32_t port, int handle, const struct iovec *iov, int count,
                          uint64_t *lent)
{
    struct un_link *link = engine->link;
    struct un_piece pieces[UN_IOV_MAX];
    for (int i = 0; i < count; i++)
        pieces[i] = (struct un_piece){iov[i].iov_base, (uint32_t)iov[i].iov_len, UN_NONE};
    ssize_t taken = (ssize_t)un_stack_lend(&link->stack, handle_of(link, handle), (uint16_t)port, pieces, count);
    *lent = 0;
    for (int i = 0; i < count; i++)
        *lent |= (uint64_t)(pieces[i].frame != UN_NONE) << i;
    return taken;
}

/* The accounts are made anew from this: what came back before is in none of them. */
static void stack_count_lent(struct un_engine *engine, uint32_t port, uint32_t *waiting)
{
    struct un_pool *pool = &engine->link->stack.tcp.pool;
    uint16_t lender;
    uint32_t offset;
    while (un_pool_given_back(pool, &lender, &offset))
        ;
    un_pool_count_lent(pool, (uint16_t)port, engine->config->tx_frame_bytes, waiting);
}

static uint32_t stack_undelivered(struct un_engine *engine, int handle)
{
    return engine->link->stack.tcp.tcbs[handle].snd_bytes;
}

/* Nobody sends once more what is lost. */
static bool stack_is_idle(struct un_engine *engine, int handle)
{
    const struct un_tcb *tcb = &engine->link->stack.tcp.tcbs[handle];
    return tcb->snd_bytes == 0 && tcb->rcv_bytes == 0 && tcb->rcv_ooo_bytes == 0;
}

static int stack_send_eof(struct un_engine *engine, int handle)
{
    return un_stack_shutdown(&engine->link->stack, handle_of(engine->link, handle));
}

static void stack_close(struct un_engine *engine, int handle, bool reset, bool fin_sent)
{
    (void)fin_sent;
    struct un_link *link = engine->link;
    if (handle < 0)
        return;
    if (reset)
        un_stack_abort(&link->stack, handle_of(link, handle));
    else
        un_stack_close(&link->stack, handle_of(link, handle));
}

/* Paused, connections wait in the backlog; when the server drains, they are refused. */
static void stack_admit(struct un_engine *engine, bool on)
{
    if (on)
        un_link_accept(engine);
    else if (!engine->own->accepting)
        un_link_unlisten_all(engine);
}

/* After a takeover: both sides know the same connections. Of what came and of ends that were not acted upon the stack
 * tells again, of connections that wait to be accepted, too. */

static bool is_owned(struct un_engine *engine, uint32_t slot)
{
    uint64_t id = engine->link->stack.tcp.tcbs[slot].user;
    uint32_t ours = UN_ID_SLOT(id);
    return ours < engine->own->conn_high && un_is_alive(un_slot(engine, ours)) &&
           un_load(&un_slot(engine, ours)->id) == id && engine->works[ours].handle == (int32_t)slot;
}

static void settle_ours(struct un_engine *engine, uint32_t slot)
{
    struct un_work *work = &engine->works[slot];
    const struct un_tcb *tcb = &engine->link->stack.tcp.tcbs[work->handle];
    if (tcb->state != UN_TCP_CLOSED && tcb->user == un_load(&un_slot(engine, slot)->id))
        return;
    un_enter(engine, slot);
    work->handle = -1; /* the slot may belong to another connection by now */
    un_engine_conn_finish(engine, slot, UN_REASON_NETWORK_LOST, true);
    un_leave(engine);
}

static int stack_counts(struct un_engine *engine, uint32_t slot, struct un_counts *counts)
{
    struct un_link *link = engine->link;
    int handle = engine->works[slot].handle;
    if (link->stack.tcp.tcbs[handle].user != un_load(&un_slot(engine, slot)->id))
        return -ENOENT;
    return un_stack_conn_counts(&link->stack, handle_of(link, handle), &counts->taken, &counts->given);
}

/* It is that of the change in progress: closed as this wanted it, or accepted and not noted. */
static void settle_orphan(struct un_engine *engine, uint64_t conn)
{
    struct un_stack *stack = &engine->link->stack;
    uint32_t ends = engine->own->busy.ends;
    if (ends & UN_ENDS && !(ends & UN_ENDS_RESET))
        un_stack_close(stack, conn);
    else if (ends & UN_ENDS || un_stack_unaccept(stack, conn) < 0)
        un_stack_abort(stack, conn);
}

static void stack_settle_orphans(struct un_engine *engine)
{
    struct un_link *link = engine->link;
    for (uint32_t slot = 0; slot < engine->own->conn_high; slot++)
        if (un_is_alive(un_slot(engine, slot)))
            settle_ours(engine, slot);
    for (uint32_t slot = 0; slot < un_stack_slots(&link->stack); slot++) {
        const struct un_tcb *tcb = &link->stack.tcp.tcbs[slot];
        bool was_ours = tcb->flags & UN_TCB_ACCEPTED && !(tcb->flags & UN_TCB_DETACHED);
        if (was_ours && tcb->state != UN_TCP_CLOSED && !is_owned(engine, slot))
            settle_orphan(engine, handle_of(link, (int)slot));
    }
    take_back(engine);
}

const struct un_transport un_stack_transport = {
    .start = stack_start,
    .stop = stack_stop,
    .poll = stack_poll,
    .receive = stack_receive,
    .send = stack_send,
    .count_lent = stack_count_lent,
    .undelivered = stack_undelivered,
    .send_eof = stack_send_eof,
    .close = stack_close,
    .is_idle = stack_is_idle,
    .flush = stack_flush,
    .drain = stack_drain,
    .deadline_ns = stack_deadline_ns,
    .admit = stack_admit,
    .listen = un_link_listen,
    .unlisten = un_link_unlisten,
    .counts = stack_counts,
    .settle_orphans = stack_settle_orphans,
    .look = un_stack_look,
    .look_table = un_stack_look_table,
};
