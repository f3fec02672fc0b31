/* The kernel's own sockets as transport: epoll, edge-triggered, one registration in the life of a connection.
 *
 * Edges are safe with one read per edge because a read that brings less than it asked for has emptied the socket, and
 * what comes later raises a new edge (epoll(7)). There are three exceptions, after which reads go on until there is
 * nothing more: a FIN was signalled; urgent data was signalled, at whose mark a read stops (it is read in line, like
 * everything else); a descriptor came with the bytes of a unix socket, behind which a read stops as well. Listeners
 * are level-triggered, and exclusive: where other shards accept from the same one, one of them is woken, not all.
 *
 * When a process dies, the kernel closes its sockets; with a FIN, that would tell the peer that it has everything. So
 * sockets are set to reset the connection on close, and set otherwise once all output was handed over. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "engine/accept.h"
#include "engine/change.h"
#include "engine/conns.h"
#include "engine/kernel_counts.h"
#include "engine/kernel_unix.h"
#include "engine/listeners.h"
#include "engine/look.h"
#include "engine/receive.h"
#include "engine/transmit.h"
#include "engine/transport.h"
#include "engine/watch.h"

static void watch_listener(struct un_engine *engine, uint32_t number, bool on)
{
    int fd = engine->own->listeners[number].fd;
    if (fd == UN_NO_LISTENER)
        return;
    if (on)
        un_watch(engine, fd, EPOLLIN | EPOLLEXCLUSIVE, UN_WATCHED(UN_WATCHED_LISTENER, number));
    else
        epoll_ctl(engine->setup.epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

static void kernel_admit(struct un_engine *engine, bool on)
{
    for (uint32_t number = 0; number < UN_LISTENERS_MAX; number++)
        watch_listener(engine, number, on);
}

static int kernel_start(struct un_engine *engine)
{
    return un_watch_start(engine);
}

static void kernel_stop(struct un_engine *engine)
{
    (void)engine;
}

static void set_ipv6(struct un_endpoint *endpoint, const struct sockaddr_in6 *address)
{
    endpoint->port = ntohs(address->sin6_port);
    if (IN6_IS_ADDR_V4MAPPED(&address->sin6_addr)) {
        endpoint->family = UN_FAMILY_IPV4;
        memcpy(endpoint->ip, address->sin6_addr.s6_addr + 12, 4);
        return;
    }
    endpoint->family = UN_FAMILY_IPV6;
    endpoint->scope = address->sin6_scope_id;
    memcpy(endpoint->ip, &address->sin6_addr, 16);
}

static void set_endpoint(struct un_endpoint *endpoint, const struct sockaddr_storage *address)
{
    memset(endpoint, 0, sizeof *endpoint);
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *ipv4 = (const void *)address;
        endpoint->family = UN_FAMILY_IPV4;
        endpoint->port = ntohs(ipv4->sin_port);
        memcpy(endpoint->ip, &ipv4->sin_addr, 4);
    } else if (address->ss_family == AF_INET6) {
        set_ipv6(endpoint, (const void *)address);
    } else {
        endpoint->family = UN_FAMILY_UNIX;
    }
}

/* A socket resets its connection when its last process is gone, unless all of the output was handed over. */
static void set_reset_on_close(int fd, bool on)
{
    struct linger at_once = {.l_onoff = on, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

/* A close resets until our FIN was sent; a call is needed where it has to do otherwise. */
static void kernel_close(struct un_engine *engine, int handle, bool reset, bool fin_sent)
{
    (void)engine;
    if (handle < 0)
        return;
    if (reset == fin_sent)
        set_reset_on_close(handle, reset);
    close(handle);
}

static void set_keepalive(int fd, const struct un_engine_options *options)
{
    int on = 1, idle_s = (int)options->keep_idle_s, interval_s = (int)options->keep_interval_s;
    int count = (int)options->keep_count;
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

/* What a connection did not inherit from its listener. */
static void give_options(const struct un_engine *engine, int fd, uint32_t lacks)
{
    int on = 1;
    if (lacks & UN_LACKS_KEEPALIVE)
        set_keepalive(fd, engine->options);
    if (lacks & UN_LACKS_RESET_ON_CLOSE)
        set_reset_on_close(fd, true);
    if (lacks & UN_LACKS_URGENT_INLINE)
        setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on);
}

static bool is_lack_of_resources(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

/* Whether another try makes sense now. */
static bool accept_failed(struct un_engine *engine, int error)
{
    if (error == EAGAIN)
        return false;
    if (is_lack_of_resources(error))
        un_accept_pause(engine, error);
    else if (error != EINTR)
        un_count(&engine->counters->accept_errors, 1);
    return error == ECONNABORTED || error == EINTR || error == EPROTO;
}

static void watch_conn(struct un_engine *engine, uint32_t slot, int fd)
{
    const uint32_t events = EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    struct epoll_event event = {.events = events, .data.u64 = un_load(&un_slot(engine, slot)->id)};
    int watched = epoll_ctl(engine->setup.epoll_fd, EPOLL_CTL_ADD, fd, &event);
    if (watched < 0 && errno == EEXIST) /* by an engine that died over it */
        watched = epoll_ctl(engine->setup.epoll_fd, EPOLL_CTL_MOD, fd, &event);
    if (watched < 0)
        un_engine_conn_finish(engine, slot, UN_REASON_SYSTEM, true);
}

static void open_conn(struct un_engine *engine, uint32_t slot, uint32_t listener, int fd,
                      const struct sockaddr_storage *peer)
{
    struct sockaddr_storage local = {0};
    socklen_t length = sizeof local;
    struct un_accepted accepted = {.handle = fd, .listener = listener, .port = un_engine_port_choose(engine)};
    give_options(engine, fd, engine->own->listeners[listener].lacks);
    set_endpoint(&accepted.peer, peer);
    if (un_accept_refuses(engine, &accepted.peer)) {
        kernel_close(engine, fd, true, false);
        un_engine_conn_free_slot(engine, slot);
        return;
    }
    if (getsockname(fd, (struct sockaddr *)&local, &length) < 0)
        memset(&local, 0, sizeof local);
    set_endpoint(&accepted.local, &local);
    accepted.parted = accepted.local.family == UN_FAMILY_UNIX;
    un_enter_at(engine, slot, accepted.port);
    un_engine_conn_opened(engine, slot, &accepted);
    watch_conn(engine, slot, fd);
    un_leave(engine);
}

/* One connection into a slot; false when there is none, or accepting was paused. */
static bool accept_into(struct un_engine *engine, uint32_t slot, uint32_t listener)
{
    struct sockaddr_storage peer = {0};
    socklen_t length = sizeof peer;
    engine->own->busy.accepting = listener + 1;
    un_compiler_fence();
    int fd = accept4(engine->own->listeners[listener].fd, (struct sockaddr *)&peer, &length,
                     SOCK_NONBLOCK | SOCK_CLOEXEC);
    int error = fd < 0 ? errno : 0;
    if (fd >= 0)
        open_conn(engine, slot, listener, fd, &peer);
    un_compiler_fence();
    engine->own->busy.accepting = 0;
    if (fd >= 0)
        return true;
    un_engine_conn_free_slot(engine, slot);
    return accept_failed(engine, error);
}

static bool accept_one(struct un_engine *engine, uint32_t listener)
{
    if (!un_accept_is_allowed(engine))
        return false;
    uint32_t slot = un_engine_conn_take_slot(engine);
    if (slot == UN_NONE) {
        un_accept_pause(engine, ENOMEM);
        return false;
    }
    return accept_into(engine, slot, listener);
}

static void accept_all(struct un_engine *engine, uint32_t listener)
{
    for (int i = 0; i < UN_ACCEPT_BATCH; i++)
        if (!accept_one(engine, listener))
            return;
}

/* A descriptor that an engine did not come to note is closed by the next one, as nobody's. */
static int kernel_listen(struct un_engine *engine, uint32_t number, const struct un_listening *what)
{
    if (what->fd < 0)
        return -EBADF;
    int status = un_listeners_add(engine, number, what->fd);
    if (status == 0 && engine->own->accepting && !engine->own->paused)
        watch_listener(engine, number, true);
    return status;
}

/* Others may have the socket open, so closing it would not take it out of the epoll set. */
static void kernel_unlisten(struct un_engine *engine, uint32_t number)
{
    if (engine->own->listeners[number].fd == UN_NO_LISTENER)
        return;
    accept_all(engine, number);
    watch_listener(engine, number, false);
    close(un_listeners_remove(engine, number));
}

static void handle_watched(struct un_engine *engine, uint64_t what)
{
    if (UN_WATCHED_KIND(what) == UN_WATCHED_LISTENER)
        accept_all(engine, UN_WATCHED_NUMBER(what));
    else
        un_watch_handle(engine, what);
}

/* A unix socket tells a reset once, to whoever reads next, and an end of file from then on. That may be told to an
 * engine that dies over it, so it is noted before anything is read. Of a TCP socket kernel_counts.c finds it out. */
static void note_failure(struct un_engine *engine, uint64_t id)
{
    struct un_work *work = &engine->works[UN_ID_SLOT(id)];
    if (work->generation == UN_ID_GENERATION(id) && work->flags & UN_WORK_PARTED)
        work->flags |= UN_WORK_FAILED;
    un_compiler_fence();
}

static void handle_conn(struct un_engine *engine, uint64_t id, uint32_t events)
{
    const uint32_t read_on = EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR;
    if (events & EPOLLERR)
        note_failure(engine, id);
    if (events & (EPOLLIN | read_on))
        un_engine_conn_can_receive(engine, id, events & read_on);
    if (events & EPOLLOUT)
        un_engine_conn_can_send(engine, id);
    if (events & EPOLLERR)
        un_engine_conn_failed(engine, id);
}

static uint32_t kernel_poll(struct un_engine *engine, int timeout_ms)
{
    struct epoll_event events[UN_EPOLL_BATCH];
    int count = epoll_wait(engine->setup.epoll_fd, events, UN_EPOLL_BATCH, timeout_ms);
    engine->now_ns = un_engine_now_ns(engine); /* although nothing came: inline, a timer of the handler may send */
    if (count <= 0)
        return 0;
    for (int i = 0; i < count; i++) {
        if (UN_IS_WATCHED(events[i].data.u64))
            handle_watched(engine, events[i].data.u64);
        else
            handle_conn(engine, events[i].data.u64, events[i].events);
    }
    return (uint32_t)count;
}

/* Whatever becomes of the change. */
static void note_failure_in_change(struct un_engine *engine)
{
    struct un_busy *busy = &engine->own->busy;
    busy->work.flags |= UN_WORK_FAILED;
    engine->works[busy->slot - 1].flags |= UN_WORK_FAILED;
}

static ssize_t kernel_receive_parted(struct un_engine *engine, int handle, void *bytes, size_t length, bool *parted)
{
    struct mmsghdr *told = &engine->own->busy.told;
    ssize_t received = un_unix_receive(handle, told, bytes, length, parted);
    if (received != -ECONNRESET)
        return received;
    note_failure_in_change(engine);
    return un_unix_receive(handle, told, bytes, length, parted);
}

static ssize_t kernel_send_parted(struct un_engine *engine, int handle, const struct iovec *pieces, int count)
{
    return un_unix_send(handle, &engine->own->busy.told, pieces, count);
}

static ssize_t kernel_receive(struct un_engine *engine, int handle, void *bytes, size_t length)
{
    (void)engine;
    ssize_t received = recv(handle, bytes, length, MSG_DONTWAIT);
    return received < 0 ? -errno : received;
}

static ssize_t kernel_send(struct un_engine *engine, uint32_t port, int handle, const struct iovec *pieces, int count,
                           uint64_t *lent)
{
    ssize_t sent;
    (void)engine;
    (void)port;
    *lent = 0; /* a socket copies */
    if (count == 1) {
        sent = send(handle, pieces->iov_base, pieces->iov_len, MSG_DONTWAIT | MSG_NOSIGNAL);
    } else {
        struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)pieces, .msg_iovlen = (size_t)count};
        sent = sendmsg(handle, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    return sent < 0 ? -errno : sent;
}

static void kernel_count_lent(struct un_engine *engine, uint32_t port, uint32_t *waiting)
{
    (void)engine;
    (void)port;
    (void)waiting;
}

static uint32_t kernel_undelivered(struct un_engine *engine, int handle)
{
    int bytes = 0;
    (void)engine;
    return ioctl(handle, SIOCOUTQ, &bytes) < 0 ? 0 : (uint32_t)bytes;
}

static int kernel_send_eof(struct un_engine *engine, int handle)
{
    (void)engine;
    set_reset_on_close(handle, false);
    return shutdown(handle, SHUT_WR) < 0 ? -errno : 0;
}

/* What was sent the kernel goes on to deliver. */
static bool kernel_is_idle(struct un_engine *engine, int handle)
{
    int unread = 0;
    (void)engine;
    return ioctl(handle, SIOCINQ, &unread) == 0 && unread == 0;
}

/* A socket has sent what it took. */
static uint64_t kernel_deadline_ns(const struct un_engine *engine)
{
    (void)engine;
    return UINT64_MAX;
}

static void kernel_flush(struct un_engine *engine)
{
    (void)engine;
}

/* After a takeover. */

static int kernel_counts(struct un_engine *engine, uint32_t slot, struct un_counts *counts)
{
    struct un_conn *conn = un_slot(engine, slot);
    const struct un_busy *busy = &engine->own->busy;
    struct un_counts known = {.taken = un_load(&conn->bytes_in), .given = un_load(&conn->bytes_out)};
    if (engine->works[slot].flags & UN_WORK_PARTED) {
        *counts = known;
        *(busy->transfer == UN_TRANSFER_IN ? &counts->taken : &counts->given) += busy->told.msg_len;
        return 0;
    }
    return un_kernel_counts(engine->works[slot].handle, &known, counts);
}

static bool is_ours(const struct un_engine *engine, int fd, const bool *owned, int owned_max)
{
    if (fd == engine->setup.control_fd || (fd <= owned_max && owned[fd]))
        return true;
    for (uint32_t number = 0; number < UN_LISTENERS_MAX; number++)
        if (fd == engine->own->listeners[number].fd)
            return true;
    return false;
}

/* It was accepted, and its engine died before that was noted. */
static void adopt(struct un_engine *engine, int fd)
{
    struct sockaddr_storage peer = {0};
    socklen_t length = sizeof peer;
    uint32_t slot = un_engine_conn_take_slot(engine);
    if (getpeername(fd, (struct sockaddr *)&peer, &length) < 0)
        memset(&peer, 0, sizeof peer); /* it is over already, as reading will tell */
    if (slot == UN_NONE)
        kernel_close(engine, fd, true, true);
    else
        open_conn(engine, slot, engine->own->busy.accepting - 1, fd, &peer);
}

static bool is_listener(int fd)
{
    int listens = 0;
    socklen_t length = sizeof listens;
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) == 0 && listens;
}

/* There is one at most: that of the change in progress. Nothing was sent through one that was accepted. One that
 * listens is the supervisor's too, and stays as it is. */
static void settle_orphan(struct un_engine *engine, int fd)
{
    uint32_t ends = engine->own->busy.ends;
    if (is_listener(fd)) {
        close(fd);
        return;
    }
    if (engine->own->busy.accepting) {
        adopt(engine, fd);
        return;
    }
    set_reset_on_close(fd, !(ends & UN_ENDS) || ends & UN_ENDS_RESET);
    close(fd);
}

/* Edges that the dead engine had fetched are raised once more. */
static void watch_all_again(struct un_engine *engine)
{
    for (uint32_t slot = 0; slot < engine->own->conn_high; slot++) {
        if (!un_is_alive(un_slot(engine, slot)))
            continue;
        un_enter(engine, slot);
        watch_conn(engine, slot, engine->works[slot].handle);
        un_leave(engine);
    }
}

static void kernel_settle_orphans(struct un_engine *engine)
{
    int owned_max = 0, orphan = -1;
    for (uint32_t slot = 0; slot < engine->own->conn_high; slot++)
        if (un_is_alive(un_slot(engine, slot)) && engine->works[slot].handle > owned_max)
            owned_max = engine->works[slot].handle;
    bool *owned = calloc((size_t)owned_max + 1, sizeof *owned);
    DIR *directory = opendir("/proc/self/fd");
    un_assert(owned != NULL);
    for (uint32_t slot = 0; slot < engine->own->conn_high; slot++)
        if (un_is_alive(un_slot(engine, slot)))
            owned[engine->works[slot].handle] = true;
    for (struct dirent *entry; directory && (entry = readdir(directory)) != NULL;) {
        int fd = atoi(entry->d_name);
        struct stat status;
        if (fd > STDERR_FILENO && fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode) &&
            !is_ours(engine, fd, owned, owned_max))
            orphan = fd;
    }
    if (directory)
        closedir(directory);
    free(owned);
    if (orphan >= 0)
        settle_orphan(engine, orphan);
    engine->own->busy.accepting = 0;
    watch_all_again(engine);
}

const struct un_transport un_kernel_transport = {
    .start = kernel_start,
    .stop = kernel_stop,
    .poll = kernel_poll,
    .receive = kernel_receive,
    .receive_parted = kernel_receive_parted,
    .send = kernel_send,
    .send_parted = kernel_send_parted,
    .count_lent = kernel_count_lent,
    .undelivered = kernel_undelivered,
    .send_eof = kernel_send_eof,
    .close = kernel_close,
    .is_idle = kernel_is_idle,
    .flush = kernel_flush,
    .drain = kernel_flush,
    .deadline_ns = kernel_deadline_ns,
    .admit = kernel_admit,
    .listen = kernel_listen,
    .unlisten = kernel_unlisten,
    .counts = kernel_counts,
    .settle_orphans = kernel_settle_orphans,
    .look = un_kernel_look,
};
