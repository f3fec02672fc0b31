/* usnet-load: load for an echo server, from one thread and one epoll instance.
 *
 *   open      all connections, at most CONNECTING_MAX at once        (skipped by mode connect, which is all opening)
 *   warm up   traffic that is not measured
 *   measure
 *   drain     nothing new is begun; what is due is waited for
 *   report    exit 0; 1 when --verify found anything wrong; 2 wrong usage; 3 when no connection could be opened
 *
 * SIGTERM and SIGINT end the phase that is running; the report
 * still comes. */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>

#include "base/assert.h"
#include "base/inherited.h"
#include "check.h"
#include "client.h"
#include "exchange.h"
#include "message.h"
#include "process.h"
#include "report.h"

#define CONNECTING_MAX 256        /* an ordinary backlog holds more */
#define CONNECT_STALL_NS 10000000000u /* opening is given up when no connection comes up or fails for so long */
#define SETTLE_NS 50000000u       /* with --verify: how long to listen for answers that nobody is waiting for */
#define SEND_BYTES 65536
#define EVENTS_MAX 256
#define NEVER UINT64_MAX

enum { EXIT_WRONG = 1, EXIT_UNREACHABLE = 3 };

static volatile sig_atomic_t stopped;
static sigset_t signals_while_waiting;

static void on_signal(int number)
{
    (void)number;
    stopped = 1;
}

/* The signals are let in only while epoll waits, so none can come between looking at `stopped` and sleeping. */
static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t ours;
    sigemptyset(&ours);
    sigaddset(&ours, SIGTERM);
    sigaddset(&ours, SIGINT);
    sigprocmask(SIG_BLOCK, &ours, &signals_while_waiting);
    sigdelset(&signals_while_waiting, SIGTERM);
    sigdelset(&signals_while_waiting, SIGINT);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
}

/* One look at all connections; waits until one is ready or `wake_ns`. */
static void turn(struct run *run, uint64_t wake_ns)
{
    struct epoll_event events[EVENTS_MAX];
    uint64_t now_ns = clock_ns();
    uint64_t wait_ns = wake_ns > now_ns ? wake_ns - now_ns : 0;
    struct timespec timeout = {(time_t)(wait_ns / 1000000000u), (long)(wait_ns % 1000000000u)};
    int count = epoll_pwait2(run->epoll_fd, events, EVENTS_MAX, wake_ns == NEVER ? NULL : &timeout,
                             &signals_while_waiting);
    un_assert(count >= 0 || errno == EINTR);
    for (int i = 0; i < count; i++)
        client_ready(run, events[i].data.ptr, events[i].events);
}

/* Opening. */

static uint64_t settled(const struct run *run)
{
    return run->counters.opened + run->counters.failed;
}

/* When the next connection may be started: by --connect-rate, or at once. */
static uint64_t next_start_ns(const struct run *run, uint32_t number)
{
    if (run->options.connect_rate == 0)
        return 0;
    return run->start_ns + (uint64_t)(number * 1e9 / run->options.connect_rate);
}

static void start_more(struct run *run, uint32_t *cursor)
{
    uint64_t now_ns = clock_ns();
    while (*cursor < run->options.connections && run->connecting < CONNECTING_MAX &&
           next_start_ns(run, *cursor) <= now_ns)
        client_start(run, &run->clients[(*cursor)++]);
}

static void retry_refused(struct run *run)
{
    run->refused = 0;
    for (uint32_t i = 0; i < run->options.connections; i++)
        if (run->clients[i].state == CLIENT_NEW)
            client_start(run, &run->clients[i]);
}

static void open_all(struct run *run)
{
    uint32_t cursor = 0;
    uint64_t progress_ns = clock_ns(), settled_before = 0;
    while (settled(run) < run->options.connections && !stopped) {
        start_more(run, &cursor);
        bool paced = cursor < run->options.connections && run->connecting < CONNECTING_MAX;
        uint64_t wake_ns = clock_ns() + RETRY_NS;
        turn(run, paced && next_start_ns(run, cursor) < wake_ns ? next_start_ns(run, cursor) : wake_ns);

        uint64_t now_ns = clock_ns();
        if (cursor == run->options.connections && run->refused && now_ns >= wake_ns)
            retry_refused(run);
        if (settled(run) != settled_before || paced || run->refused) {
            settled_before = settled(run);
            progress_ns = now_ns;
        }
        if (now_ns - progress_ns > CONNECT_STALL_NS)
            return;
    }
}

/* Traffic. */

static uint64_t next_due_ns(const struct run *run, uint64_t scheduled)
{
    return run->options.mode == MODE_RATE && run->sending ? run_intended_ns(run, scheduled) : NEVER;
}

/* MODE_RATE: the messages of the timetable before `end_ns`, in turn over the connections. Who comes late sends all of
 * them, and none that belong behind the end. */
static void release_due(struct run *run, uint64_t *scheduled, uint64_t end_ns)
{
    uint64_t now_ns = clock_ns();
    uint64_t until_ns = now_ns < end_ns ? now_ns + 1 : end_ns;
    while (next_due_ns(run, *scheduled) < until_ns) {
        struct client *client = &run->clients[(*scheduled)++ % run->options.connections];
        client->due++;
        client_pump(run, client);
    }
}

static void start_traffic(struct run *run)
{
    const struct options *options = &run->options;
    run->traffic_ns = clock_ns();
    run->measure_ns = run->traffic_ns + (uint64_t)(options->warmup_s * 1e9);
    run->measure_end_ns = run->measure_ns + (uint64_t)(options->duration_s * 1e9);
    run->gap_ns = options->mode == MODE_RATE ? 1e9 / options->rate : 0;
    run->sending = options->mode != MODE_IDLE;
    for (uint32_t i = 0; i < options->connections; i++) {
        struct client *client = &run->clients[i];
        if (options->mode == MODE_CLOSED)
            client->due = UINT64_MAX;
        if (options->mode == MODE_CONNECT) {
            client->due = 1;
            client_start(run, client);
        }
        client_pump(run, client);
    }
}

static void send_until(struct run *run, uint64_t end_ns)
{
    uint64_t scheduled = 0;
    while (!stopped && clock_ns() < end_ns) {
        uint64_t due_ns = next_due_ns(run, scheduled), retry_ns = run->refused ? run->retry_ns : NEVER;
        uint64_t wake_ns = due_ns < retry_ns ? due_ns : retry_ns;
        turn(run, wake_ns < end_ns ? wake_ns : end_ns);
        release_due(run, &scheduled, end_ns);
        if (run->refused && clock_ns() >= run->retry_ns)
            retry_refused(run);
    }
    release_due(run, &scheduled, end_ns);
}

static bool anything_due(const struct run *run)
{
    for (uint32_t i = 0; i < run->options.connections; i++) {
        const struct client *client = &run->clients[i];
        uint64_t end = run->options.mode == MODE_CLOSED ? client->begun : client->due;
        if (client->state == CLIENT_OPEN && client->answered < end)
            return true;
    }
    return false;
}

static void listen_until(struct run *run, uint64_t end_ns)
{
    while (clock_ns() < end_ns)
        turn(run, end_ns);
}

static void drain(struct run *run)
{
    uint64_t end_ns = clock_ns() + (uint64_t)(run->options.drain_s * 1e9);
    run->sending = false;
    while (anything_due(run) && clock_ns() < end_ns)
        turn(run, end_ns);
    if (run->options.verify)
        listen_until(run, clock_ns() + SETTLE_NS);
}

/* The phases. */

static void hold(struct run *run)
{
    if (!run->options.json) /* a line to wait for: now all are open */
        printf("holding      %llu connections\n", run->counters.opened);
    fflush(stdout);
    uint64_t end_ns = run->options.duration_s > 0 ? run->measure_end_ns : NEVER;
    while (!stopped && clock_ns() < end_ns)
        turn(run, end_ns);
}

static void traffic(struct run *run)
{
    send_until(run, run->measure_end_ns);
    uint64_t now_ns = clock_ns();
    if (now_ns < run->measure_end_ns) /* a signal: measured is what there was */
        run->measure_end_ns = now_ns > run->measure_ns ? now_ns : run->measure_ns;
    drain(run);
}

static void run_phases(struct run *run)
{
    start_traffic(run);
    if (run->options.mode == MODE_IDLE)
        hold(run);
    else
        traffic(run);
}

static uint32_t power_of_two_from(uint32_t least)
{
    uint32_t size = 1;
    while (size < least)
        size *= 2;
    return size;
}

/* What all messages are like, unless they are numbered. */
static void fill_send_buffer(struct run *run)
{
    const struct options *options = &run->options;
    struct exchange header = {options->size, options->answer};
    memset(run->send_buffer, 'x', run->send_buffer_bytes);
    for (uint32_t at = 0; options->answer && at + options->size <= run->send_buffer_bytes; at += options->size)
        memcpy(run->send_buffer + at, &header, sizeof header);
}

static void setup(struct run *run)
{
    const struct options *options = &run->options;
    uint32_t window = power_of_two_from(options->pipeline);
    uint64_t *windows = calloc((size_t)options->connections * window, sizeof *windows);
    run->window_mask = window - 1;
    run->send_buffer_bytes = options->size > SEND_BYTES ? options->size : SEND_BYTES;
    run->send_buffer = malloc(run->send_buffer_bytes);
    run->receive_buffer = malloc(RECEIVE_BYTES);
    run->clients = calloc(options->connections, sizeof *run->clients);
    run->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    un_assert(windows && run->send_buffer && run->receive_buffer && run->clients && run->epoll_fd >= 0);
    fill_send_buffer(run);
    if (options->every_ms)
        timeline_setup(&run->timeline, options->every_ms * (uint64_t)1000000, (uint64_t)(options->duration_s * 1e9));
    for (uint32_t i = 0; i < options->connections; i++) {
        run->clients[i].fd = -1;
        run->clients[i].number = i;
        run->clients[i].window = windows + (size_t)i * window;
    }
}

static int finish(struct run *run)
{
    for (uint32_t i = 0; i < run->options.connections; i++)
        client_finish(run, &run->clients[i]);
    bool reached = run->counters.opened > 0;
    if (reached)
        report_print(run);
    else
        fprintf(stderr, "usnet-load: %s: no connection could be opened: %s\n", run->options.target_text,
                run->incident_count ? run->incidents[0].text : "no answer");
    free(run->clients[0].window);
    free(run->clients);
    free(run->send_buffer);
    free(run->receive_buffer);
    timeline_free(&run->timeline);
    if (!reached)
        return EXIT_UNREACHABLE;
    return run->options.verify && check_failed(run) ? EXIT_WRONG : 0;
}

int main(int argc, char **argv)
{
    static struct run run; /* the histogram is large for a stack */
    un_inherited_reset();
    options_parse(&run.options, argc, argv);
    int error = run.options.core >= 0 ? process_pin(run.options.core) : 0;
    if (error < 0) {
        fprintf(stderr, "usnet-load: --core: asked for core %d: %s\n", run.options.core, strerror(-error));
        return 2;
    }
    process_raise_descriptor_limit();
    catch_signals();
    prctl(PR_SET_TIMERSLACK, 1); /* ns; the timetable of MODE_RATE is finer than the default 50 us */
    message_setup();
    setup(&run);

    run.start_ns = clock_ns();
    if (run.options.mode != MODE_CONNECT)
        open_all(&run);
    if (run.options.mode == MODE_CONNECT || run.counters.opened > 0)
        run_phases(&run);
    return finish(&run);
}
