/* See client.h. */
#include "client.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "check.h"
#include "message.h"

uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t run_intended_ns(const struct run *run, uint64_t index)
{
    return run->traffic_ns + (uint64_t)((double)index * run->gap_ns);
}

static void watch(struct run *run, struct client *client, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = client};
    int failed = epoll_ctl(run->epoll_fd, operation, client->fd, &event);
    un_assert(failed == 0);
}

static void want_write(struct run *run, struct client *client, bool wanted)
{
    if (client->wants_write == wanted)
        return;
    client->wants_write = wanted;
    watch(run, client, EPOLL_CTL_MOD, wanted ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

/* --reconnect: what was begun is lost, and what is due next goes over another connection. */
static void renew(struct run *run, struct client *client)
{
    memset(client->window, 0, (run->window_mask + 1) * sizeof *client->window);
    client->answered = client->sent = client->begun;
    client->send_offset = client->receive_fill = 0;
    client_start(run, client);
}

/* The connection ends; the client never wants that, so every reason counts as something that went wrong. */
static void fail(struct run *run, struct client *client, unsigned long long *counter, const char *why)
{
    uint64_t unanswered = check_unanswered(run, client);
    bool again = run->options.reconnect && run->sending && client->state == CLIENT_OPEN;
    char text[INCIDENT_TEXT_MAX];
    snprintf(text, sizeof text, "%s (%" PRIu64 " answered, %" PRIu64 " unanswered)", why, client->answered, unanswered);
    incident_add(run, client, text);
    run->counters.unanswered += unanswered;
    (*counter)++;
    if (client->state == CLIENT_CONNECTING)
        run->connecting--;
    if (client->fd >= 0)
        close(client->fd);
    client->fd = -1;
    client->state = CLIENT_CLOSED;
    if (again)
        renew(run, client);
}

/* Connecting. */

static void connect_failed(struct run *run, struct client *client, int error)
{
    bool again = error == EAGAIN; /* a unix socket whose backlog is full */
    if (run->options.reconnect && run->sending)
        again = true;
    else if (error == ECONNREFUSED || error == ENOENT)
        again = clock_ns() < run->start_ns + (uint64_t)(run->options.wait_s * 1e9);
    if (!again) {
        fail(run, client, &run->counters.failed, strerror(error));
        return;
    }
    if (client->state == CLIENT_CONNECTING)
        run->connecting--;
    close(client->fd);
    client->fd = -1;
    client->state = CLIENT_NEW;
    if (run->refused++ == 0)
        run->retry_ns = clock_ns() + RETRY_NS;
}

static void opened(struct run *run, struct client *client)
{
    client->state = CLIENT_OPEN;
    run->connecting--;
    run->counters.opened++;
    want_write(run, client, false);
    client_pump(run, client);
}

void client_start(struct run *run, struct client *client)
{
    const struct options *options = &run->options;
    client->connect_ns = clock_ns();
    client->fd = socket_open(&options->target, &options->sources, client->number);
    if (client->fd < 0) {
        fail(run, client, &run->counters.failed, strerror(-client->fd));
        return;
    }
    int code = connect(client->fd, (const struct sockaddr *)&options->target.socket, options->target.length);
    if (code < 0 && errno != EINPROGRESS) {
        connect_failed(run, client, errno);
        return;
    }
    client->state = CLIENT_CONNECTING;
    client->wants_write = true;
    run->connecting++;
    watch(run, client, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
}

static void finish_connect(struct run *run, struct client *client)
{
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error)
        connect_failed(run, client, error);
    else
        opened(run, client);
}

/* MODE_CONNECT: this connection has done its echo. */
static void start_again(struct run *run, struct client *client)
{
    close(client->fd);
    client->fd = -1;
    client->state = CLIENT_CLOSED;
    if (!run->sending)
        return;
    client->due++;
    client_start(run, client);
}

/* Sending. */

static uint64_t send_limit(const struct run *run, const struct client *client)
{
    uint64_t window_end = client->answered + run->options.pipeline;
    if (!run->sending && run->options.mode == MODE_CLOSED)
        return client->begun;
    return client->due < window_end ? client->due : window_end;
}

static uint64_t started_ns(const struct run *run, const struct client *client, uint64_t sequence, uint64_t now_ns)
{
    if (run->options.mode == MODE_RATE)
        return run_intended_ns(run, sequence * run->options.connections + client->number);
    return run->options.mode == MODE_CONNECT ? client->connect_ns : now_ns;
}

static void begin(struct run *run, struct client *client, uint64_t end)
{
    uint64_t now_ns = clock_ns();
    for (; client->begun < end; client->begun++)
        client->window[client->begun & run->window_mask] = started_ns(run, client, client->begun, now_ns);
}

/* Puts as many messages as there is room for into the send buffer; the number of bytes from `send_offset` on. */
static size_t prepare(struct run *run, struct client *client, uint64_t limit)
{
    uint32_t size = run->options.size;
    uint64_t room = run->send_buffer_bytes / size;
    uint64_t count = limit - client->sent < room ? limit - client->sent : room;
    if (run->options.verify)
        for (uint64_t i = 0; i < count; i++)
            message_write(run->send_buffer + i * size, size, client->number, client->sent + i);
    begin(run, client, client->sent + count);
    return count * size - client->send_offset;
}

static void left(struct run *run, struct client *client, size_t bytes)
{
    uint64_t position = client->send_offset + bytes;
    uint64_t messages = position / run->options.size;
    client->sent += messages;
    client->send_offset = (uint32_t)(position % run->options.size);
    run->counters.sent += messages;
    run->counters.bytes_sent += bytes;
}

void client_pump(struct run *run, struct client *client)
{
    while (client->state == CLIENT_OPEN) {
        uint64_t limit = send_limit(run, client);
        if (client->sent >= limit) {
            want_write(run, client, false);
            return;
        }
        size_t bytes = prepare(run, client, limit);
        ssize_t taken = send(client->fd, run->send_buffer + client->send_offset, bytes, MSG_NOSIGNAL);
        if (taken < 0 && errno != EAGAIN) {
            fail(run, client, &run->counters.resets, strerror(errno));
            return;
        }
        if (taken > 0)
            left(run, client, (size_t)taken);
        if (taken < (ssize_t)bytes) {
            want_write(run, client, true);
            return;
        }
    }
}

/* Receiving. */

static void record(struct run *run, uint64_t start_ns, uint64_t now_ns)
{
    bool completed_inside = now_ns >= run->measure_ns && now_ns < run->measure_end_ns;
    run->counters.answered++;
    run->counters.answered_measured += completed_inside;
    if (completed_inside && run->timeline.stretch_ns)
        timeline_add(&run->timeline, now_ns - run->measure_ns);
    /* By its intended start: an answer that came late, even after the end, belongs to when it was wanted. */
    uint64_t belongs_ns = run->options.mode == MODE_RATE ? start_ns : now_ns;
    if (belongs_ns >= run->measure_ns && belongs_ns < run->measure_end_ns)
        histogram_add(&run->latency, now_ns - start_ns);
}

static void answer(struct run *run, struct client *client, uint64_t sequence, uint64_t now_ns)
{
    uint64_t *start_ns = &client->window[sequence & run->window_mask];
    record(run, *start_ns, now_ns);
    *start_ns = 0;
    while (client->answered < client->begun && client->window[client->answered & run->window_mask] == 0)
        client->answered++;
}

static void take_counted(struct run *run, struct client *client, size_t bytes, uint64_t now_ns)
{
    uint32_t size = run->options.answer ? run->options.answer : run->options.size;
    uint64_t position = client->receive_fill + bytes;
    client->receive_fill = (uint32_t)(position % size);
    for (uint64_t i = position / size; i > 0; i--) {
        if (client->answered < client->begun)
            answer(run, client, client->answered, now_ns);
        else
            run->counters.surplus++;
    }
}

static void take_message(struct run *run, struct client *client, const unsigned char *bytes, uint64_t now_ns)
{
    uint64_t sequence;
    enum verdict verdict = check_message(run, client, bytes, &sequence);
    if (verdict == VERDICT_ANSWER)
        answer(run, client, sequence, now_ns);
    else if (verdict == VERDICT_BROKEN) /* where the next message begins is not known any more */
        fail(run, client, &run->counters.corrupted, "closed, because what follows cannot be read");
}

static void take_verified(struct run *run, struct client *client, const unsigned char *bytes, size_t count,
                          uint64_t now_ns)
{
    size_t size = run->options.size;
    while (count > 0 && client->state == CLIENT_OPEN) {
        if (client->receive_fill == 0 && count >= size) {
            take_message(run, client, bytes, now_ns);
            bytes += size;
            count -= size;
            continue;
        }
        size_t part = size - client->receive_fill < count ? size - client->receive_fill : count;
        if (!client->partial)
            client->partial = malloc(size);
        un_assert(client->partial);
        memcpy(client->partial + client->receive_fill, bytes, part);
        client->receive_fill = (uint32_t)((client->receive_fill + part) % size);
        bytes += part;
        count -= part;
        if (client->receive_fill == 0)
            take_message(run, client, client->partial, now_ns);
    }
}

static void receive(struct run *run, struct client *client)
{
    ssize_t count = recv(client->fd, run->receive_buffer, RECEIVE_BYTES, 0);
    if (count < 0) {
        if (errno != EAGAIN)
            fail(run, client, &run->counters.resets, strerror(errno));
        return;
    }
    if (count == 0) {
        fail(run, client, &run->counters.closed_by_peer, "closed by the peer");
        return;
    }
    uint64_t now_ns = clock_ns();
    run->counters.bytes_received += (uint64_t)count;
    if (run->options.verify)
        take_verified(run, client, run->receive_buffer, (size_t)count, now_ns);
    else
        take_counted(run, client, (size_t)count, now_ns);
    if (client->state != CLIENT_OPEN)
        return;
    if (run->options.mode == MODE_CONNECT && client->answered == client->due)
        start_again(run, client);
    else
        client_pump(run, client);
}

void client_ready(struct run *run, struct client *client, uint32_t events)
{
    if (client->state == CLIENT_CONNECTING) {
        finish_connect(run, client);
        return;
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        receive(run, client);
    if (events & EPOLLOUT)
        client_pump(run, client);
}

void client_finish(struct run *run, struct client *client)
{
    if (client->state == CLIENT_OPEN) {
        run->counters.unanswered += check_unanswered(run, client);
        if (run->options.mode == MODE_RATE) /* the timetable wanted these too, and there was no room for them */
            run->counters.unanswered += client->due - client->begun;
        if (run->options.verify)
            check_lost(run, client);
    }
    if (client->fd >= 0)
        close(client->fd);
    free(client->partial);
}
